package main

import (
	"archive/tar"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"clusterd/internal/testcluster"
)

// isolators are those of a machine that takes containers seriously.
const isolators = "cgroups/cpu,cgroups/mem,cgroups/pids,filesystem/linux,namespaces/pid,namespaces/ipc,docker/runtime"

// start starts a master and an agent with resources for any number of containers.
func start(s *settings, name string) (*testcluster.Cluster, string, error) {
	dir := filepath.Join(s.dir, name)
	registry := filepath.Join(dir, "registry")
	if err := errors.Join(os.MkdirAll(registry, 0o755), os.MkdirAll(filepath.Join(s.runtimeDir, name), 0o755)); err != nil {
		return nil, "", err
	}
	root := testcluster.CgroupsRoot("clusterd-bench")
	c, err := testcluster.New(testcluster.Options{
		Dir: dir, RuntimeDir: filepath.Join(s.runtimeDir, name),
		AgentFlags: []string{
			"--launcher=linux", "--isolation=" + isolators, "--cgroups_root=" + root, "--image_providers=docker",
			"--docker_registry=" + registry, "--docker_store_dir=" + filepath.Join(dir, "store"),
			"--resources=cpus:100000;mem:100000000;disk:100000000", "--executor_registration_timeout=5mins",
		},
	})
	if err != nil {
		return nil, "", err
	}
	if err := c.Up(); err != nil {
		return nil, "", errors.Join(err, stop(c, root))
	}
	return c, root, writeImage(filepath.Join(registry, "sleep:latest.tar"))
}

// memoryDir makes a directory for what need not survive a reboot, in memory where that is
// possible: as /run is on most machines, where --runtime_dir lies by default.
func memoryDir(dir string) (string, error) {
	const shared = "/dev/shm"
	var st unix.Statfs_t
	if err := unix.Statfs(shared, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		shm := filepath.Join(dir, "run")
		return shm, os.Mkdir(shm, 0o755)
	}
	return os.MkdirTemp(shared, "ba")
}

// stop ends the cluster and removes its cgroups, for which its containers must be gone.
func stop(c *testcluster.Cluster, root string) error {
	c.Stop()
	for _, agent := range c.Agents {
		// With filesystem/linux its work directory is a mount, for the next one to find.
		_ = unix.Unmount(agent.WorkDir, unix.MNT_DETACH)
	}
	return testcluster.RemoveCgroups(root)
}

// writeImage makes an archive, as docker save does, of an image with the machine's sleep
// and the libraries that it needs.
func writeImage(path string) error {
	layer, err := os.CreateTemp("", "layer")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(layer.Name()) }()
	w := tar.NewWriter(layer)
	program, err := exec.LookPath("sleep")
	if err != nil {
		return err
	}
	files := map[string]string{"bin/sleep": program}
	if err := addLibraries(files, program); err != nil {
		return err
	}
	for name, from := range files {
		body, err := os.ReadFile(from)
		if err == nil {
			err = addFile(w, name, body)
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(w.Close(), layer.Close()); err != nil {
		return err
	}
	body, err := os.ReadFile(layer.Name())
	if err != nil {
		return err
	}
	config, digest, err := imageConfig(layer.Name())
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": digest + ".json", "RepoTags": []string{"sleep:latest"}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	image := tar.NewWriter(out)
	return errors.Join(addFile(image, digest+".json", config), addFile(image, "layer.tar", body), addFile(image, "manifest.json", manifest),
		image.Close(), out.Close())
}

func addFile(w *tar.Writer, name string, body []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

// addLibraries adds what a dynamic program loads.
func addLibraries(files map[string]string, program string) error {
	f, err := elf.Open(program)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		loader := make([]byte, p.Filesz)
		if _, err := p.ReadAt(loader, 0); err != nil {
			return err
		}
		path := strings.TrimRight(string(loader), "\x00")
		files[strings.TrimPrefix(path, "/")] = path
	}
	names, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, name := range names {
		found := false
		for _, dir := range []string{"/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"} {
			path := filepath.Join(dir, name)
			if _, err := os.Stat(path); err == nil {
				files[strings.TrimPrefix(path, "/")], found = path, true
				break
			}
		}
		if !found {
			return fmt.Errorf("the library %s of %s was not found", name, program)
		}
	}
	return nil
}

// privateMemory is what processes of ours have for themselves: those of a name, below a
// process.
func privateMemory(names ...string) (bytes uint64, processes int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, 0, err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join("/proc", e.Name(), "comm"))
		if err != nil || !slices.Contains(names, strings.TrimSpace(string(comm))) {
			continue
		}
		n, err := privateOf(filepath.Join("/proc", e.Name(), "smaps_rollup"))
		if err != nil {
			continue
		}
		bytes, processes = bytes+n, processes+1
	}
	return bytes, processes, nil
}

func privateOf(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var sum uint64
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "Private_Clean:" && f[0] != "Private_Dirty:" {
			continue
		}
		n, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n << 10
	}
	return sum, nil
}
