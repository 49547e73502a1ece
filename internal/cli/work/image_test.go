package work_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"clusterd/internal/testcluster"
)

// program is all that there is in the test's image.
const program = `package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	fmt.Println("args", os.Args)
	switch os.Args[1] {
	case "cat":
		b, err := os.ReadFile(os.Args[2])
		fmt.Print(string(b), err)
	case "echo":
		io.Copy(os.Stdout, os.Stdin)
	case "sleep":
		time.Sleep(time.Hour)
	case "exit":
		os.Exit(6)
	}
}
`

// makeImage writes an archive as docker save makes it, whose entry point is the program.
func makeImage(t *testing.T, name string) (registry string) {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "program"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	bin, err := os.ReadFile(filepath.Join(dir, "program"))
	if err != nil {
		t.Fatal(err)
	}
	pack := func(files map[string][]byte, dirs ...string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, d := range dirs {
			if err := w.WriteHeader(&tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
				t.Fatal(err)
			}
		}
		for name, data := range files {
			if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(data))}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	sum := func(b []byte) string {
		s := sha256.Sum256(b)
		return hex.EncodeToString(s[:])
	}
	layer := pack(map[string][]byte{"program": bin}, "tmp", "etc", "proc", "sys", "dev", "mnt", "mnt/mesos", "mnt/mesos/sandbox")
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Entrypoint": []string{"/program"}, "Cmd": []string{"exit"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum(layer)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": sum(config) + ".json", "RepoTags": []string{name + ":latest"}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	whole := pack(map[string][]byte{sum(config) + ".json": config, "manifest.json": manifest, "layer.tar": layer})
	registry = t.TempDir()
	if err := os.WriteFile(filepath.Join(registry, name+".tar"), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	return registry
}

// TestImage runs tasks of an image, and reaches into them.
func TestImage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("containers with a root file system of their own need root")
	}
	registry := makeImage(t, "tiny")
	root := testcluster.CgroupsRoot("clusterd-work")
	t.Cleanup(func() {
		if err := testcluster.RemoveCgroups(root); err != nil {
			t.Error(err)
		}
	})
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{
		"--resources=cpus:4;mem:4096", "--image_providers=docker", "--docker_registry=" + registry, "--docker_store_dir=" + t.TempDir(),
		"--isolation=filesystem/linux,docker/runtime", "--launcher=linux", "--cgroups_root=" + root,
	}})
	t.Cleanup(func() {
		c.Stop()
		_ = unix.Unmount(c.Agents[0].WorkDir, unix.MNT_DETACH) // the agent has mounted it on itself
	})
	master := c.Master.Addr
	fails := func(code int, want string, args ...string) {
		t.Helper()
		cmd := command(t.Context(), t, master, args...)
		out, err := cmd.Output()
		if cmd.ProcessState.ExitCode() != code || !strings.Contains(string(out), want) {
			t.Errorf("clusterd %v: %v, %q, want %d and %q", args, err, out, code, want)
		}
	}
	fails(6, "args [/program exit]", "run", "--image", "tiny")
	fails(0, "args [/program version]", "run", "--image", "tiny", "--entrypoint", "--", "version")
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	fails(0, string(hosts), "run", "--image", "tiny", "-v", "/etc/hosts:/tmp/mounted:ro", "--", "/program", "cat", "/tmp/mounted")

	run(t, master, "run", "-q", "-d", "--name", "box", "--image", "tiny", "--", "/program", "sleep")
	cmd := command(t.Context(), t, master, "exec", "-i", "box", "--", "/program", "echo")
	cmd.Stdin = strings.NewReader("typed")
	if out, err := cmd.Output(); err != nil || string(out) != "args [/program echo]\ntyped" {
		t.Errorf("exec: %q, %v", out, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("copied"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, master, "cp", file, "box:/tmp/there")
	fails(0, "copied", "exec", "box", "/program", "cat", "/tmp/there")
	if got := run(t, master, "cp", "box:/tmp/there", "-"); got != "copied" {
		t.Errorf("cp: %q", got)
	}
	// So that nothing stays mounted.
	run(t, master, "framework", "teardown", "--yes", "clusterd run box")
	if err := testcluster.Poll(func() error {
		if strings.Contains(run(t, master, "ps"), "box.") {
			return errors.New("the task goes on")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
