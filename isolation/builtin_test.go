package isolation_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"clusterd/isolation"
	"clusterd/isolation/supervisor"
)

// builtinPrograms are the supervisor, and a command executor that runs a script.
func builtinPrograms(t *testing.T) *isolation.Programs {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no Go to build a program with")
	}
	dir := t.TempDir()
	for name, path := range map[string]string{"supervisor": "clusterd/internal/bin/supervisor", "command-executor": "clusterd/isolation/isolationtest/builtin"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), path)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	programs, err := isolation.LoadProgramsFrom(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	return programs
}

// TestBuiltinInContainer: a program that supervises itself gets all that a command gets,
// and so does one that has a supervisor above it.
func TestBuiltinInContainer(t *testing.T) {
	programs := builtinPrograms(t)
	for name, users := range map[string]bool{"alone": false, "in a user namespace": true} {
		t.Run(name, func(t *testing.T) {
			lt := newLinux(t)
			if err := lt.Close(); err != nil {
				t.Fatal(err)
			}
			lt.programs = programs
			lt.open(t)
			chmodUp(t, lt.sandbox)
			root, mounts := rootFS(t)
			info := lt.info("")
			info.Builtin, info.Path, info.Argv = isolation.BuiltinCommandExecutor, "", nil
			info.Env = append(info.Env, `SCRIPT=pwd; cat /etc/own; id -u; id -g; ulimit -n; hostname; cat /proc/self/oom_score_adj; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp:)' /proc/self/status | tr '\t\n' '  '; echo; ls /proc | grep -c '^[0-9]*$'; exit 6`)
			info.CloneFlags, info.RootFS, info.Dir, info.Hostname = unix.CLONE_NEWPID|unix.CLONE_NEWNS|unix.CLONE_NEWUTS|unix.CLONE_NEWCGROUP, root, "/mnt", "inside"
			info.Mounts = slices.Concat(mounts, []isolation.Mount{procMount, {Source: lt.sandbox, Target: "/mnt", Flags: unix.MS_BIND, Make: supervisor.MakeDirectory}})
			info.Devices = []isolation.Device{{Path: "/dev/null", Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3}}
			info.User, info.NoNewPrivileges, info.Seccomp = "nobody", true, allowAll
			info.Rlimits = []isolation.Rlimit{{Resource: unix.RLIMIT_NOFILE, Soft: 100, Hard: 200}}
			info.Capabilities, info.OOMScoreAdj = &isolation.Capabilities{Bounding: 1 << unix.CAP_CHOWN}, new(44)
			if users {
				info.UserNamespace = userNamespace(t)
			}
			id := lt.start(t, nil, info)
			s, err := lt.Status(id)
			if err != nil {
				t.Fatal(err)
			}
			if (s.PID == s.Supervisor) == users {
				t.Errorf("processes: got %+v", s)
			}
			got, err := lt.Wait(testContext(t), id)
			if err != nil || got != (isolation.ExitStatus{Known: true, Status: 6 << 8}) {
				b, _ := os.ReadFile(info.Stderr)
				t.Errorf("status: got %+v, %v: %s", got, err, b)
			}
			out, err := os.ReadFile(info.Stdout)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			want := []string{"/mnt", "of the image", "65534", "65534", "100", "inside", "44", "CapEff: 0000000000000000 CapBnd: 0000000000000001 NoNewPrivs: 1 Seccomp: 2"}
			if len(lines) != len(want)+1 {
				t.Fatalf("output: got %q", lines)
			}
			for i, w := range want {
				if strings.Join(strings.Fields(lines[i]), " ") != w {
					t.Errorf("line %d: got %q, want %q", i, lines[i], w)
				}
			}
		})
	}
}

// userNamespace makes a user namespace whose ids are others outside, and returns its path.
func userNamespace(t *testing.T) string {
	t.Helper()
	maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 300000, Size: 65536}}
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: maps, GidMappings: maps, GidMappingsEnableSetgroups: true}
	if err := cmd.Start(); err != nil {
		t.Skipf("make a user namespace: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/"+itoa(cmd.Process.Pid)+"/ns/user", path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// TestUserNamespace: root inside is nobody outside, and can undo nothing.
func TestUserNamespace(t *testing.T) {
	lt := newLinux(t)
	root, mounts := rootFS(t)
	chmodUp(t, root)
	if err := os.WriteFile(filepath.Join(root, "hidden"), []byte("x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	info := lt.info(`id -u; cat /proc/self/uid_map; grep CapEff /proc/self/status; umount /hidden 2>/dev/null || echo kept; kill -KILL 1 2>/dev/null || echo refused; (echo x >/etc/own) 2>/dev/null || echo read-only; sleep 1000`)
	info.CloneFlags, info.RootFS, info.Dir, info.UserNamespace = unix.CLONE_NEWPID|unix.CLONE_NEWNS, root, "/", userNamespace(t)
	info.Mounts, info.MaskedPaths = slices.Concat(mounts, []isolation.Mount{procMount}), []string{"/hidden"}
	id := lt.start(t, nil, info)
	var out []string
	eventually(t, "all lines are there", func() bool {
		out = strings.Split(lt.read(t, "stdout"), "\n")
		return len(out) == 6
	})
	if out[0] != "0" || strings.Join(strings.Fields(out[1]), " ") != "0 300000 65536" || !strings.HasSuffix(out[2], "ffffffffff") || out[3] != "kept" || out[4] != "refused" || out[5] != "read-only" {
		t.Errorf("output: got %q", out)
	}
	s, err := lt.Status(id)
	if err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/"+itoa(s.PID), &st); err != nil || st.Uid != 300000 {
		t.Errorf("user outside: got %d, %v", st.Uid, err)
	}
	// A container that looks into it is the same user there.
	debug := lt.info("id -u; cat /proc/self/uid_map; cat /etc/own")
	debug.EnterFlags, debug.Dir, debug.Stdout = unix.CLONE_NEWPID|unix.CLONE_NEWNS|unix.CLONE_NEWUSER, "/", filepath.Join(lt.sandbox, "debug")
	child := lt.start(t, id, debug)
	if got, err := lt.Wait(testContext(t), child); err != nil || got != (isolation.ExitStatus{Known: true}) {
		t.Errorf("status: got %+v, %v", got, err)
	}
	if got := strings.Join(strings.Fields(lt.read(t, "debug")), " "); got != "0 0 300000 65536 of the image" {
		t.Errorf("output of the DEBUG container: got %q", got)
	}
}
