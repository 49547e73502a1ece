package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tree is the root file system in the making.
type tree struct {
	dir string
}

func (t *tree) path(name string) string { return filepath.Join(t.dir, name) }

// base makes what every Linux has.
func (t *tree) base(ctx context.Context, busybox string) error {
	for dir, mode := range map[string]fs.FileMode{
		"dev": 0o755, "proc": 0o755, "sys": 0o755, "run": 0o755, "mnt": 0o755, "root": 0o700, "tmp": 0o777 | fs.ModeSticky,
		"etc": 0o755, "var/lib": 0o755, "var/tmp": 0o777 | fs.ModeSticky, "home": 0o755,
		"usr/bin": 0o755, "usr/sbin": 0o755, "usr/lib": 0o755, "usr/lib64": 0o755, "usr/libexec": 0o755,
		"vm/programs": 0o755, "vm/tests": 0o755,
	} {
		if err := os.MkdirAll(t.path(dir), 0o755); err != nil {
			return err
		}
		if err := os.Chmod(t.path(dir), mode); err != nil { // whatever the umask
			return err
		}
	}
	for link, to := range map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "/run", "etc/mtab": "/proc/self/mounts"} {
		if err := os.Symlink(to, t.path(link)); err != nil {
			return err
		}
	}
	for name, body := range map[string]string{
		"etc/passwd":      "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nguest:x:1000:1000:guest:/home:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"etc/group":       "root:x:0:\ndaemon:x:1:\nadm:x:4:guest\nguest:x:1000:\nnogroup:x:65534:\n",
		"etc/hosts":       "127.0.0.1 localhost vmtest\n",
		"etc/resolv.conf": "nameserver 127.0.0.1\n",
		"etc/os-release":  "ID=clusterd-vmtest\nPRETTY_NAME=\"clusterd vmtest\"\n",
	} {
		if err := os.WriteFile(t.path(name), []byte(body), 0o644); err != nil {
			return err
		}
	}
	if err := copyFile(busybox, t.path("usr/bin/busybox"), 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("busybox --list: %w", err)
	}
	for applet := range strings.FieldsSeq(string(out)) {
		if applet == "busybox" || applet == "modprobe" {
			continue
		}
		if err := os.Symlink("busybox", t.path("usr/bin/"+applet)); err != nil {
			return err
		}
	}
	return nil
}

// hostPrograms copies the shell, ps and ls of this machine, since tests know those better
// than busybox's.
func (t *tree) hostPrograms(ctx context.Context) error {
	for _, p := range []string{"/usr/bin/dash", "/usr/bin/ps", "/usr/bin/ls"} {
		if err := t.copyHost(ctx, p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !exists(t.path("/usr/bin/dash")) {
		return nil
	}
	if err := os.Remove(t.path("/usr/bin/sh")); err != nil {
		return err
	}
	return os.Symlink("dash", t.path("/usr/bin/sh"))
}

// copyHost copies a file or folder of this machine to the same place, and the shared
// libraries of programs.
func (t *tree) copyHost(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return t.copyHostFile(ctx, path, info.Mode().Perm())
	}
	return filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(p)
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		return t.copyHostFile(ctx, p, info.Mode().Perm())
	})
}

func (t *tree) copyHostFile(ctx context.Context, path string, mode fs.FileMode) error {
	to, err := t.place(path)
	if err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) { // what busybox has, may be
		return err
	}
	if err := copyFile(path, to, mode); err != nil {
		return err
	}
	for _, lib := range libraries(ctx, path) {
		to, err := t.place(lib)
		if err != nil {
			return err
		}
		if err := copyFile(lib, to, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// place is where a path of this machine is in the tree, whose /bin, /sbin and /lib
// are links.
func (t *tree) place(path string) (string, error) {
	dir, base := filepath.Split(path)
	for _, merged := range []string{"/bin", "/sbin", "/lib", "/lib64"} {
		if rest, ok := strings.CutPrefix(dir, merged+"/"); ok {
			dir = "/usr" + merged + "/" + rest
		}
	}
	if err := os.MkdirAll(t.path(dir), 0o755); err != nil {
		return "", err
	}
	return filepath.Join(t.path(dir), base), nil
}

// libraries lists the shared libraries of a program, the loader included; none when
// it is static or no program.
func libraries(ctx context.Context, path string) []string {
	head := make([]byte, 4)
	if f, err := os.Open(path); err == nil {
		_, err = io.ReadFull(f, head)
		f.Close()
		if err != nil || !bytes.Equal(head, []byte("\x7fELF")) {
			return nil
		}
	}
	out, err := exec.CommandContext(ctx, "ldd", path).Output()
	if err != nil {
		return nil
	}
	var libs []string
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			libs = append(libs, word)
		}
	}
	return libs
}

func copyFile(from, to string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
