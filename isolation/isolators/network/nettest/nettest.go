// Package nettest gives the tests of network isolators a machine's network to play
// with: a network and a mount namespace that the whole test program lives in, so
// that nothing they do, or leave behind, is seen by the machine or by other tests.
//
// Main is called by each TestMain. Only tests import this package.
package nettest

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/network/netns"
)

// inside tells the program that it is in namespaces of its own.
const inside = "CLUSTERD_NETTEST_INSIDE"

// Main runs the tests in namespaces of their own, if it may.
func Main(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // Need skips
	}
	if os.Getenv(inside) == "" {
		cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
		cmd.Args[0] = os.Args[0]
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS,
			Pdeathsig: syscall.SIGKILL,
		}
		err := cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return exit.ExitCode()
		}
		if err != nil {
			_, _ = os.Stderr.WriteString("run the tests in namespaces of their own: " + err.Error() + "\n")
			return 1
		}
		return 0
	}
	// /sys shows the network devices of the namespace it was mounted in.
	_ = syscall.Mount("sysfs", "/sys", "sysfs", 0, "")
	if err := netns.SetLoopbackUp(); err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return m.Run()
}

// Need skips a test that cannot run here.
func Need(tb testing.TB, programs ...string) {
	tb.Helper()
	if os.Getenv(inside) == "" {
		tb.Skip("needs root, for network namespaces")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			tb.Skipf("needs %s", p)
		}
	}
}

// ID makes a container's id.
func ID() *mesos.ContainerID {
	return &mesos.ContainerID{Value: new("net-" + strings.ToLower(rand.Text()[:12]))}
}

// Process starts a process in new namespaces, which does nothing until the test ends.
func Process(tb testing.TB, flags uintptr) int {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// Netns is the network namespace of a process, for netns.Do.
func Netns(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/ns/net" }

// In runs f in a network namespace.
func In(tb testing.TB, path string, f func() error) {
	tb.Helper()
	if err := netns.Do(path, f); err != nil {
		tb.Fatal(err)
	}
}

// Command runs a program in a network namespace and returns its output.
func Command(tb testing.TB, path, name string, args ...string) string {
	tb.Helper()
	var out []byte
	err := netns.Do(path, func() error {
		var err error
		out, err = exec.CommandContext(tb.Context(), name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Eventually polls until done says yes.
func Eventually(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	tb.Fatalf("still not so: %s", what)
}

// Config is a container's, in a sandbox of its own.
func Config(tb testing.TB, networks ...*mesos.NetworkInfo) *isolation.ContainerConfig {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "sandbox")
	if err := os.Mkdir(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	config := &isolation.ContainerConfig{ID: ID(), Sandbox: dir, Command: &mesos.CommandInfo{}}
	if len(networks) > 0 {
		config.ContainerInfo = &mesos.ContainerInfo{
			Type: mesos.ContainerInfo_MESOS.Enum(), NetworkInfos: networks,
		}
	}
	return config
}
