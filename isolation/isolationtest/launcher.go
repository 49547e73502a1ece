package isolationtest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// NewLauncher makes a launcher on a runtime directory; the suite closes it.
// Called twice with one directory it stands for an agent that restarts.
type NewLauncher func(t *testing.T, runtimeDir string) isolation.Launcher

type launcherTest struct {
	new     NewLauncher
	dir     string
	sandbox string
	isolation.Launcher
}

func newLauncherTest(t *testing.T, newLauncher NewLauncher) *launcherTest {
	t.Helper()
	lt := &launcherTest{new: newLauncher, dir: t.TempDir(), sandbox: sandbox(t)}
	lt.open(t)
	t.Cleanup(func() { lt.clear(t) })
	return lt
}

// clear removes what the test has left.
func (lt *launcherTest) clear(t *testing.T) {
	t.Helper()
	_ = lt.Close()
	lt.open(t)
	defer func() { _ = lt.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ids, err := lt.Recover(ctx)
	for _, id := range slices.Backward(ids) {
		err = errors.Join(err, lt.Destroy(ctx, id), lt.Remove(id))
	}
	if err != nil {
		t.Error(err)
	}
}

func (lt *launcherTest) open(t *testing.T) {
	t.Helper()
	lt.Launcher = lt.new(t, lt.dir)
}

// restart is what happens to a launcher when the agent dies and comes back.
func (lt *launcherTest) restart(t *testing.T) []*mesos.ContainerID {
	t.Helper()
	if err := lt.Close(); err != nil {
		t.Fatal(err)
	}
	return lt.reopen(t)
}

func (lt *launcherTest) reopen(t *testing.T) []*mesos.ContainerID {
	t.Helper()
	lt.open(t)
	ids, err := lt.Recover(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func (lt *launcherTest) info(argv ...string) *isolation.LaunchInfo {
	return &isolation.LaunchInfo{
		Path: argv[0], Argv: argv, Dir: lt.sandbox,
		Env:    []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		Stdout: filepath.Join(lt.sandbox, "stdout"), Stderr: filepath.Join(lt.sandbox, "stderr"),
	}
}

func (lt *launcherTest) launch(t *testing.T, info *isolation.LaunchInfo) *mesos.ContainerID {
	t.Helper()
	id := newID()
	if err := lt.tryLaunch(t, id, info); err != nil {
		t.Fatal(err)
	}
	return id
}

func (lt *launcherTest) tryLaunch(t *testing.T, id *mesos.ContainerID, info *isolation.LaunchInfo) error {
	t.Helper()
	if _, err := lt.Fork(testContext(t), id, &isolation.ForkInfo{Builtin: isolation.BuiltinNone}); err != nil {
		t.Fatal(err)
	}
	return lt.Start(testContext(t), id, info)
}

func (lt *launcherTest) wait(t *testing.T, id *mesos.ContainerID) isolation.ExitStatus {
	t.Helper()
	status, err := lt.Wait(testContext(t), id)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func (lt *launcherTest) destroy(t *testing.T, id *mesos.ContainerID) {
	t.Helper()
	if err := lt.Destroy(testContext(t), id); err != nil {
		t.Fatal(err)
	}
}

func exited(code int) isolation.ExitStatus {
	return isolation.ExitStatus{Known: true, Status: code << 8}
}

func signaled(sig syscall.Signal) isolation.ExitStatus {
	return isolation.ExitStatus{Known: true, Status: int(sig)}
}

// Launcher is the conformance suite of isolation.Launcher.
func Launcher(t *testing.T, newLauncher NewLauncher) {
	run := func(name string, f func(t *testing.T, lt *launcherTest)) {
		t.Run(name, func(t *testing.T) { f(t, newLauncherTest(t, newLauncher)) })
	}
	run("ExitStatus", testExitStatus)
	run("Surroundings", testSurroundings)
	run("OutputIsAppended", testOutputIsAppended)
	run("OutputThroughSymlink", testOutputThroughSymlink)
	run("ScriptWithoutShebang", testScriptWithoutShebang)
	run("User", testUser)
	run("LaunchErrors", testLaunchErrors)
	run("DestroyKillsDaemons", testDestroyKillsDaemons)
	run("NothingOutlivesTheCommand", testNothingOutlivesTheCommand)
	run("DestroyBeforeStart", testDestroyBeforeStart)
	run("DestroyStoppedContainer", testDestroyStopped)
	run("Ids", testIDs)
	run("RestartWhileRunning", testRestartWhileRunning)
	run("RestartAfterEnd", testRestartAfterEnd)
	run("RestartBeforeStart", testRestartBeforeStart)
	run("SupervisorKilled", testSupervisorKilled)
	run("SupervisorKilledWhileAway", testSupervisorKilledWhileAway)
	run("ProcessIDReused", testProcessIDReused)
	run("Remove", testRemove)
}

func testExitStatus(t *testing.T, lt *launcherTest) {
	for _, c := range []struct {
		name   string
		script string
		want   isolation.ExitStatus
	}{
		{"zero", "exit 0", exited(0)},
		{"three", "exit 3", exited(3)},
		{"killed", "kill -KILL $$", signaled(syscall.SIGKILL)},
		{"terminated", "kill -TERM $$", signaled(syscall.SIGTERM)},
		{"hangup", "kill -HUP $$", signaled(syscall.SIGHUP)},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := lt.launch(t, lt.info("/bin/sh", "-c", c.script))
			for range 2 {
				if diff := cmp.Diff(c.want, lt.wait(t, id)); diff != "" {
					t.Errorf("status of %q (-want +got):\n%s", c.script, diff)
				}
			}
		})
	}
}

// testSurroundings looks at all that a command can see of how it was started.
func testSurroundings(t *testing.T, lt *launcherTest) {
	info := lt.info("sh", "-c", `pwd; cat; ls -l /proc/self/fd | tee fds | grep -c -- "->"; ps -o sid= -p $$ | tr -d ' '; echo $$; echo "$0" "$@" >&2; env | sort >environment`, "zero", "a b", "")
	info.Env = append(info.Env, "A=1", "B=two words", "C=")
	id := lt.launch(t, info)
	if got := lt.wait(t, id); got != exited(0) {
		t.Fatalf("status: got %+v", got)
	}
	out := strings.Split(readFile(t, info.Stdout), "\n")
	if len(out) != 4 {
		t.Fatalf("output: got %q", out)
	}
	if out[0] != lt.sandbox {
		t.Errorf("working directory: got %q, want %q", out[0], lt.sandbox)
	}
	if out[1] != "4" { // 0, 1, 2 and ls's own: none of the agent's, nor of its parents
		t.Errorf("open files of a child: got %s, want 4: %s", out[1], readFile(t, filepath.Join(lt.sandbox, "fds")))
	}
	if out[2] != out[3] {
		t.Errorf("session: got %s, want its own, %s", out[2], out[3])
	}
	if got, want := readFile(t, info.Stderr), "zero a b"; got != want {
		t.Errorf("arguments: got %q, want %q", got, want)
	}
	var env []string
	for line := range strings.SplitSeq(readFile(t, filepath.Join(lt.sandbox, "environment")), "\n") {
		switch name, _, _ := strings.Cut(line, "="); name {
		case "PWD", "OLDPWD", "SHLVL", "_": // the shell's own
		case "CLUSTERD_CONTAINER_ID":
			if want := name + "=" + isolation.Key(id); line != want {
				t.Errorf("mark: got %q, want %q", line, want)
			}
		default:
			env = append(env, line)
		}
	}
	if diff := cmp.Diff([]string{"A=1", "B=two words", "C=", info.Env[0]}, env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func testOutputIsAppended(t *testing.T, lt *launcherTest) {
	for _, word := range []string{"one", "two"} {
		lt.wait(t, lt.launch(t, lt.info("/bin/sh", "-c", "echo "+word+"; echo not "+word+" >&2")))
	}
	if got := readFile(t, filepath.Join(lt.sandbox, "stdout")); got != "one\ntwo" {
		t.Errorf("stdout: got %q", got)
	}
	if got := readFile(t, filepath.Join(lt.sandbox, "stderr")); got != "not one\nnot two" {
		t.Errorf("stderr: got %q", got)
	}
}

// testOutputThroughSymlink: a sandbox may hold what a stranger fetched.
func testOutputThroughSymlink(t *testing.T, lt *launcherTest) {
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	info := lt.info("/bin/sh", "-c", "echo overwritten")
	if err := os.Symlink(victim, info.Stdout); err != nil {
		t.Fatal(err)
	}
	err := lt.tryLaunch(t, newID(), info)
	if !errors.Is(err, syscall.ELOOP) {
		t.Errorf("launch: got %v, want %v", err, syscall.ELOOP)
	}
	if got := readFile(t, victim); got != "precious" {
		t.Errorf("file behind the link: got %q", got)
	}
}

func testScriptWithoutShebang(t *testing.T, lt *launcherTest) {
	if err := os.WriteFile(filepath.Join(lt.sandbox, "script"), []byte("echo script $1\nexit 4\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	info := lt.info("./script", "runs")
	if got := lt.wait(t, lt.launch(t, info)); got != exited(4) {
		t.Errorf("status: got %+v, want %+v", got, exited(4))
	}
	if got := readFile(t, info.Stdout); got != "script runs" {
		t.Errorf("output: got %q", got)
	}
}

func testUser(t *testing.T, lt *launcherTest) {
	if os.Geteuid() != 0 {
		t.Skip("only root can switch users")
	}
	chmodUp(t, lt.sandbox)
	if err := os.Chown(lt.sandbox, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	info := lt.info("/bin/sh", "-c", "id -un; id -G; echo x >file")
	info.User = "nobody"
	if got := lt.wait(t, lt.launch(t, info)); got != exited(0) {
		b, _ := os.ReadFile(info.Stderr)
		t.Fatalf("status: got %+v: %s", got, b)
	}
	name, groups, _ := strings.Cut(readFile(t, info.Stdout), "\n")
	if name != "nobody" {
		t.Errorf("user: got %q, want nobody", name)
	}
	if strings.Contains(" "+groups+" ", " 0 ") {
		t.Errorf("groups: got %q: root's are still there", groups)
	}
	for _, f := range []string{info.Stdout, info.Stderr, filepath.Join(lt.sandbox, "file")} {
		var st syscall.Stat_t
		if err := syscall.Stat(f, &st); err != nil || st.Uid != 65534 {
			t.Errorf("owner of %s: got %d, %v", f, st.Uid, err)
		}
	}
}

// chmodUp lets everybody reach a directory below the test's own ones.
func chmodUp(t *testing.T, dir string) {
	t.Helper()
	for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func testLaunchErrors(t *testing.T, lt *launcherTest) {
	if err := os.WriteFile(filepath.Join(lt.sandbox, "plain"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*isolation.LaunchInfo)
		want   error
		text   string
	}{
		{"no such file", func(i *isolation.LaunchInfo) { i.Path = "/no/such" }, fs.ErrNotExist, "execute /no/such"},
		{"not in PATH", func(i *isolation.LaunchInfo) { i.Path = "no-such-program" }, fs.ErrNotExist, "execute no-such-program"},
		{"not executable", func(i *isolation.LaunchInfo) { i.Path = "./plain" }, fs.ErrPermission, "execute ./plain"},
		{"no such directory", func(i *isolation.LaunchInfo) { i.Dir = "/no/such" }, fs.ErrNotExist, "working directory /no/such"},
		{"no such user", func(i *isolation.LaunchInfo) { i.User = "no-such-user" }, nil, `no user "no-such-user"`},
		{"NUL", func(i *isolation.LaunchInfo) { i.Argv = []string{"sh", "a\x00b"} }, syscall.EINVAL, "NUL byte"},
		{"output elsewhere", func(i *isolation.LaunchInfo) { i.Stdout = "/no/such/file" }, fs.ErrNotExist, "open /no/such/file"},
		{"no program", func(i *isolation.LaunchInfo) { i.Path = "" }, fs.ErrNotExist, "no program"},
		{"unknown builtin", func(i *isolation.LaunchInfo) { i.Builtin = "nonesuch" }, isolation.ErrNotSupported, "nonesuch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			info := lt.info("/bin/sh", "-c", "echo ran")
			c.change(info)
			id := newID()
			err := lt.tryLaunch(t, id, info)
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("launch: got %v, want it to say %q", err, c.text)
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("launch: got %v, want %v", err, c.want)
			}
			lt.destroy(t, id)
			if err := lt.Remove(id); err != nil {
				t.Error(err)
			}
		})
	}
}

func testDestroyKillsDaemons(t *testing.T, lt *launcherTest) {
	id := lt.launch(t, lt.info("/bin/sh", "-c", "trap '' TERM; "+daemon+"echo $$ >main.pid; sleep 1000"))
	main := readPID(t, filepath.Join(lt.sandbox, "main.pid"))
	stray := readPID(t, filepath.Join(lt.sandbox, "daemon.pid"))
	if s, err := lt.Status(id); err != nil || s.PID != main || s.Supervisor == 0 {
		t.Errorf("status: got %+v, %v, want the command at %d", s, err, main)
	}
	lt.destroy(t, id)
	if alive(main) || alive(stray) {
		t.Errorf("after destroy: command runs: %v, daemon runs: %v", alive(main), alive(stray))
	}
	if got := lt.wait(t, id); got != signaled(syscall.SIGKILL) {
		t.Errorf("status: got %+v", got)
	}
	lt.destroy(t, id)
	if s, err := lt.Status(id); err != nil || s.Supervisor != 0 {
		t.Errorf("status after the end: got %+v, %v", s, err)
	}
}

func testNothingOutlivesTheCommand(t *testing.T, lt *launcherTest) {
	id := lt.launch(t, lt.info("/bin/sh", "-c", daemon+"exit 7"))
	if got := lt.wait(t, id); got != exited(7) {
		t.Errorf("status: got %+v", got)
	}
	if stray := readPID(t, filepath.Join(lt.sandbox, "daemon.pid")); alive(stray) {
		t.Errorf("daemon %d runs", stray)
	}
}

func testDestroyBeforeStart(t *testing.T, lt *launcherTest) {
	id := newID()
	pid, err := lt.Fork(testContext(t), id, &isolation.ForkInfo{Builtin: isolation.BuiltinNone})
	if err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Errorf("process %d above the container does not run", pid)
	}
	lt.destroy(t, id)
	if alive(pid) {
		t.Errorf("process %d above the container runs", pid)
	}
	if got := lt.wait(t, id); got.Known {
		t.Errorf("status: got %+v of a command that never ran", got)
	}
	if err := lt.Start(testContext(t), id, lt.info("/bin/true")); err == nil {
		t.Error("start after destroy: got no error")
	}
}

func testDestroyStopped(t *testing.T, lt *launcherTest) {
	id := lt.launch(t, lt.info("/bin/sh", "-c", "echo $$ >main.pid; kill -STOP $$; sleep 1000"))
	main := readPID(t, filepath.Join(lt.sandbox, "main.pid"))
	lt.destroy(t, id)
	if alive(main) {
		t.Errorf("stopped command %d runs", main)
	}
}

func testIDs(t *testing.T, lt *launcherTest) {
	id := lt.launch(t, lt.info("/bin/true"))
	if _, err := lt.Fork(testContext(t), id, &isolation.ForkInfo{Builtin: isolation.BuiltinNone}); !errors.Is(err, isolation.ErrContainerExists) {
		t.Errorf("second fork: got %v, want %v", err, isolation.ErrContainerExists)
	}
	lt.wait(t, id)
	unknown := newID()
	_, waitErr := lt.Wait(testContext(t), unknown)
	_, statusErr := lt.Status(unknown)
	for what, err := range map[string]error{
		"start": lt.Start(testContext(t), unknown, lt.info("/bin/true")), "wait": waitErr, "status": statusErr,
		"destroy": lt.Destroy(testContext(t), unknown), "remove": lt.Remove(unknown),
	} {
		if !errors.Is(err, isolation.ErrUnknownContainer) {
			t.Errorf("%s of an unknown container: got %v, want %v", what, err, isolation.ErrUnknownContainer)
		}
	}
}

func testRestartWhileRunning(t *testing.T, lt *launcherTest) {
	id := lt.launch(t, lt.info("/bin/sh", "-c", "echo $$ >main.pid; "+waitForGo+"exit 5"))
	main := readPID(t, filepath.Join(lt.sandbox, "main.pid"))
	ids := lt.restart(t)
	if len(ids) != 1 || isolation.Key(ids[0]) != isolation.Key(id) {
		t.Fatalf("recovered: got %v, want %v", ids, id)
	}
	if s, err := lt.Status(id); err != nil || s.PID != main || s.Supervisor == 0 {
		t.Errorf("status: got %+v, %v, want the command at %d", s, err, main)
	}
	if !alive(main) {
		t.Error("the command did not survive the restart")
	}
	release(t, lt.sandbox)
	if got := lt.wait(t, id); got != exited(5) {
		t.Errorf("status: got %+v, want %+v", got, exited(5))
	}
	// And one that is destroyed by a launcher that did not start it.
	id = lt.launch(t, lt.info("/bin/sh", "-c", daemon+"sleep 1000"))
	stray := readPID(t, filepath.Join(lt.sandbox, "daemon.pid"))
	lt.restart(t)
	lt.destroy(t, id)
	if alive(stray) {
		t.Errorf("daemon %d runs", stray)
	}
}

func testRestartAfterEnd(t *testing.T, lt *launcherTest) {
	id := lt.launch(t, lt.info("/bin/sh", "-c", waitForGo+"exit 6"))
	s, err := lt.Status(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := lt.Close(); err != nil {
		t.Fatal(err)
	}
	release(t, lt.sandbox)
	eventually(t, "the supervisor has ended", func() bool { return !alive(s.Supervisor) })
	lt.reopen(t)
	if got := lt.wait(t, id); got != exited(6) {
		t.Errorf("status: got %+v, want %+v", got, exited(6))
	}
	lt.restart(t)
	if got := lt.wait(t, id); got != exited(6) {
		t.Errorf("status after another restart: got %+v, want %+v", got, exited(6))
	}
	lt.destroy(t, id)
}

// testRestartBeforeStart: the agent dies between Fork and Start. Closing the
// launcher does not close the socket, dying does; a second container shows that
// either way nothing runs.
func testRestartBeforeStart(t *testing.T, lt *launcherTest) {
	id := newID()
	if _, err := lt.Fork(testContext(t), id, &isolation.ForkInfo{Builtin: isolation.BuiltinNone}); err != nil {
		t.Fatal(err)
	}
	ids := lt.restart(t)
	if len(ids) != 1 {
		t.Fatalf("recovered: got %v", ids)
	}
	lt.destroy(t, id)
	if got := lt.wait(t, id); got.Known {
		t.Errorf("status: got %+v of a command that never ran", got)
	}
	if err := lt.Remove(id); err != nil {
		t.Error(err)
	}
}

func testSupervisorKilled(t *testing.T, lt *launcherTest) {
	id := lt.launch(t, lt.info("/bin/sh", "-c", daemon+"echo $$ >main.pid; sleep 1000"))
	main := readPID(t, filepath.Join(lt.sandbox, "main.pid"))
	stray := readPID(t, filepath.Join(lt.sandbox, "daemon.pid"))
	s, err := lt.Status(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.Supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := lt.wait(t, id); got.Known {
		t.Errorf("status: got %+v, want it unknown", got)
	}
	if alive(main) || alive(stray) {
		t.Errorf("after the end: command runs: %v, daemon runs: %v", alive(main), alive(stray))
	}
}

func testSupervisorKilledWhileAway(t *testing.T, lt *launcherTest) {
	id := lt.launch(t, lt.info("/bin/sh", "-c", daemon+"sleep 1000"))
	stray := readPID(t, filepath.Join(lt.sandbox, "daemon.pid"))
	s, err := lt.Status(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := lt.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.Supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the supervisor has ended", func() bool { return !alive(s.Supervisor) })
	lt.reopen(t)
	if got := lt.wait(t, id); got.Known {
		t.Errorf("status: got %+v, want it unknown", got)
	}
	eventually(t, "the daemon has ended", func() bool { return !alive(stray) })
}

// testProcessIDReused: the recorded supervisor has ended and another process
// has its number. It must neither be watched nor killed.
func testProcessIDReused(t *testing.T, lt *launcherTest) {
	id := lt.launch(t, lt.info("/bin/sh", "-c", "exit 8"))
	lt.wait(t, id)
	if err := lt.Close(); err != nil {
		t.Fatal(err)
	}
	// This very test plays the other process.
	file := filepath.Join(lt.dir, "containers", isolation.Key(id), "supervisor")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b))
	f[0] = strconv.Itoa(os.Getpid())
	if err := os.WriteFile(file, []byte(strings.Join(f, " ")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	lt.reopen(t)
	if got := lt.wait(t, id); got != exited(8) {
		t.Errorf("status: got %+v, want %+v", got, exited(8))
	}
	lt.destroy(t, id)
}

func testRemove(t *testing.T, lt *launcherTest) {
	id := lt.launch(t, lt.info("/bin/sh", "-c", waitForGo))
	if err := lt.Remove(id); err == nil {
		t.Error("remove of a running container: got no error")
	}
	release(t, lt.sandbox)
	lt.wait(t, id)
	if err := lt.Remove(id); err != nil {
		t.Fatal(err)
	}
	if ids := lt.restart(t); len(ids) != 0 {
		t.Errorf("after remove: recovered %v", ids)
	}
	entries, err := os.ReadDir(filepath.Join(lt.dir, "containers"))
	if err != nil || len(entries) != 0 {
		t.Errorf("runtime directory: got %v, %v, want nothing", entries, err)
	}
}
