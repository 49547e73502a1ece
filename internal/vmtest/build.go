package vmtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"clusterd/internal/vmtest/plan"
)

// goPackage is what go list says of a package.
type goPackage struct {
	ImportPath, Dir string
}

// build makes the disks and the initial RAM disk in m.Dir.
func (m *Machine) build(ctx context.Context) (*plan.Plan, error) {
	t := &tree{dir: filepath.Join(m.Dir, "root")}
	if err := t.base(ctx, m.file("busybox")); err != nil {
		return nil, err
	}
	if err := t.hostPrograms(ctx); err != nil {
		return nil, err
	}
	if err := m.goBuild(ctx, t.path("/vm/init"), "clusterd/internal/vmtest/vminit"); err != nil {
		return nil, err
	}
	if err := m.goBuild(ctx, t.path("/vm/programs")+"/", "clusterd/internal/bin/..."); err != nil {
		return nil, err
	}
	if err := os.Symlink("/vm/init", t.path("/usr/sbin/modprobe")); err != nil {
		return nil, err
	}
	p, err := m.buildTests(ctx, t)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(t.path(plan.Path), body, 0o644); err != nil {
		return nil, err
	}
	if err := m.buildModules(t); err != nil {
		return nil, err
	}
	return p, m.disks(ctx, t.dir)
}

// goBuild builds programs without the C library.
func (m *Machine) goBuild(ctx context.Context, output string, packages ...string) error {
	return m.goCommand(ctx, append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", output}, packages...)...)
}

func (m *Machine) goCommand(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = m.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// list resolves the packages.
func (m *Machine) list(ctx context.Context) ([]goPackage, error) {
	listed := make([]goPackage, 0, len(m.Packages))
	for _, p := range m.Packages {
		cmd := exec.CommandContext(ctx, "go", "list", "-json=ImportPath,Dir", p.Path)
		cmd.Dir = m.Root
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list %s: %w", p.Path, err)
		}
		var g goPackage
		if err := json.Unmarshal(out, &g); err != nil {
			return nil, fmt.Errorf("go list %s: %w", p.Path, err)
		}
		listed = append(listed, g)
	}
	return listed, nil
}

// buildTests compiles the tests and writes what is to be done with them.
func (m *Machine) buildTests(ctx context.Context, t *tree) (*plan.Plan, error) {
	listed, err := m.list(ctx)
	if err != nil {
		return nil, err
	}
	var p plan.Plan
	for i, pkg := range m.Packages {
		listed := listed[i]
		program := "/vm/tests/" + strings.ReplaceAll(listed.ImportPath, "/", ".")
		if err := m.goCommand(ctx, "test", "-c", "-vet=off", "-trimpath", "-ldflags=-s -w", "-o", t.path(program), listed.ImportPath); err != nil {
			return nil, err
		}
		if _, err := os.Stat(t.path(program)); err != nil {
			return nil, fmt.Errorf("%s has no tests: %w", listed.ImportPath, err)
		}
		dir := filepath.Join("/vm/src", listed.ImportPath)
		if err := os.MkdirAll(t.path(dir), 0o755); err != nil {
			return nil, err
		}
		if data := filepath.Join(listed.Dir, "testdata"); exists(data) {
			if err := os.CopyFS(t.path(filepath.Join(dir, "testdata")), os.DirFS(data)); err != nil {
				return nil, err
			}
		}
		for _, f := range pkg.Files {
			if err := t.copyHost(ctx, f); err != nil {
				return nil, fmt.Errorf("%s wants %s: %w", listed.ImportPath, f, err)
			}
		}
		limit := pkg.Timeout
		if limit == 0 {
			limit = 10 * time.Minute
		}
		// The tests' own clock rings first, since it tells more.
		args := []string{program, "-test.v=test2json", "-test.paniconexit0", "-test.timeout=" + limit.String()}
		if pkg.Run != "" {
			args = append(args, "-test.run="+pkg.Run)
		}
		if pkg.Skip != "" {
			args = append(args, "-test.skip="+pkg.Skip)
		}
		p.Runs = append(p.Runs, plan.Run{Package: listed.ImportPath, Dir: dir, Args: args, Env: pkg.Env, Seconds: int(limit/time.Second) + 5})
	}
	return &p, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// buildModules copies the modules, and writes the initial RAM disk with those that
// the disks need.
func (m *Machine) buildModules(t *tree) error {
	const dir = "/lib/modules"
	modules, err := readModules(m.file("modules"))
	if err != nil {
		return err
	}
	for _, mod := range modules {
		if err := copyFile(filepath.Join(m.file("modules"), mod.file), t.path(filepath.Join("/usr", dir, mod.file)), 0o644); err != nil {
			return err
		}
	}
	table := t.path("/usr" + dir + "/table")
	if err := writeModulesTable(table, dir, modules, sortedNames(modules)); err != nil {
		return err
	}
	first := []string{"virtio_pci", "virtio_blk", "virtio_console", "ext4", "xfs"}
	small := filepath.Join(m.Dir, "initrd.table")
	if err := writeModulesTable(small, dir, modules, first); err != nil {
		return err
	}
	files := map[string]string{"init": t.path("/vm/init"), "lib/modules/table": small}
	for _, name := range first {
		for _, f := range loadOrder(modules, name, "") {
			files[filepath.Join(dir[1:], f)] = filepath.Join(m.file("modules"), f)
		}
	}
	return writeArchive(filepath.Join(m.Dir, "initrd"), []string{"dev", "root"}, files)
}

// disks writes the disks' images. They have holes where nothing is.
func (m *Machine) disks(ctx context.Context, root string) error {
	const mb = 1 << 20
	for _, d := range []struct {
		name string
		size int64
		make []string
	}{
		{"root.img", 3 << 30, []string{"mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,root_owner=0:0", "-d", root}},
		{"xfs.img", 1 << 30, []string{"mkfs.xfs", "-q", "-f"}},
		{"xfs-noquota.img", 320 * mb, []string{"mkfs.xfs", "-q", "-f"}},
		{"swap.img", 64 * mb, nil},
	} {
		path := filepath.Join(m.Dir, d.name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		if err := os.Truncate(path, d.size); err != nil {
			return err
		}
		if d.make == nil {
			if err := writeSwapHeader(path, d.size); err != nil {
				return err
			}
			continue
		}
		program, err := lookPath(d.make[0])
		if err != nil {
			return err
		}
		if out, err := exec.CommandContext(ctx, program, append(d.make[1:], path)...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", d.make[0], err, out)
		}
	}
	return nil
}

// writeSwapHeader does what mkswap does (union swap_header in the kernel's swap.h).
func writeSwapHeader(path string, size int64) error {
	const page = 4096
	header := make([]byte, page)
	binary.LittleEndian.PutUint32(header[1024:], 1)
	binary.LittleEndian.PutUint32(header[1028:], uint32(size/page-1))
	copy(header[page-10:], "SWAPSPACE2")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(header)
	return err
}

// writeArchive writes an archive for the kernel's initramfs (the format "newc" of
// cpio; Documentation/driver-api/early-userspace/buffer-format.rst).
func writeArchive(path string, dirs []string, files map[string]string) error {
	var b bytes.Buffer
	inode := 0
	entry := func(name string, mode int, body []byte) {
		inode++
		b.WriteString("070701")
		for _, v := range []int{inode, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name) + 1, 0} {
			fmt.Fprintf(&b, "%08x", v)
		}
		b.WriteString(name)
		b.WriteByte(0)
		pad(&b)
		b.Write(body)
		pad(&b)
	}
	made := make(map[string]bool)
	var dir func(name string)
	dir = func(name string) {
		if name == "." || made[name] {
			return
		}
		made[name] = true
		dir(filepath.Dir(name))
		entry(name, 0o040755, nil)
	}
	for _, d := range dirs {
		dir(d)
	}
	for name, from := range files {
		body, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		dir(filepath.Dir(name))
		entry(name, 0o100755, body)
	}
	entry("TRAILER!!!", 0, nil)
	return os.WriteFile(path, b.Bytes(), 0o600)
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}

// seconds writes a time as go test does.
func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 2, 64) + "s" }
