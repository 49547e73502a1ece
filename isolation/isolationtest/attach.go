package isolationtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// Attachments is the conformance suite of Containerizer.Attach.
func Attachments(t *testing.T, newContainerizer NewContainerizer) {
	run := func(name string, f func(t *testing.T, ct *containerizerTest)) {
		t.Run(name, func(t *testing.T) {
			ct := &containerizerTest{new: newContainerizer, workDir: t.TempDir(), stateDir: t.TempDir()}
			ct.Containerizer = ct.new(t, ct.workDir, ct.stateDir)
			t.Cleanup(func() { _ = ct.Close() })
			if _, err := ct.Recover(testContext(t), nil); err != nil {
				t.Fatal(err)
			}
			f(t, ct)
		})
	}
	run("Plain", testAttachPlain)
	run("PlainRotated", testAttachRotated)
	run("PlainManyAtOnce", testAttachMany)
	run("Input", testAttachInput)
	run("Terminal", testAttachTerminal)
	run("TerminalOfUser", testAttachTerminalOfUser)
	run("SlowReader", testAttachSlowReader)
	run("Recover", testAttachRecover)
	run("RecoverRotated", testAttachRecoverRotated)
	run("Close", testAttachClose)
	run("Ended", testAttachEnded)
	run("ReplacedLog", testAttachReplacedLog)
}

// attached reads an attachment in a goroutine of its own.
type attached struct {
	isolation.Attachment
	t    *testing.T
	done chan struct{} // closed after the last Read

	mu sync.Mutex
	// out and err are guarded by mu.
	out [3]bytes.Buffer
	err error // what the last Read returned
}

func (ct *containerizerTest) attach(t *testing.T, config *isolation.ContainerConfig) *attached {
	t.Helper()
	a, err := ct.Attach(testContext(t), config.ID)
	if err != nil {
		t.Fatal(err)
	}
	at := &attached{Attachment: a, t: t, done: make(chan struct{})}
	go func() {
		defer close(at.done)
		for {
			stream, b, err := a.Read()
			at.mu.Lock()
			at.out[stream].Write(b)
			at.err = err
			at.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		<-at.done
	})
	return at
}

func (a *attached) read(stream isolation.Stream) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.out[stream].String()
}

func (a *attached) until(stream isolation.Stream, text string) {
	a.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(a.read(stream), text); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			got := a.read(stream)
			a.t.Fatalf("%q was not read: %q", text, got[max(0, len(got)-2000):])
		}
	}
}

func (a *attached) write(text string) {
	a.t.Helper()
	if n, err := a.Write([]byte(text)); err != nil || n != len(text) {
		a.t.Fatalf("write: got %d, %v", n, err)
	}
}

// end waits for the end of the output.
func (a *attached) end() {
	a.t.Helper()
	select {
	case <-a.done:
	case <-time.After(patience):
		a.t.Fatal("the output does not end")
	}
	if !errors.Is(a.err, io.EOF) {
		a.t.Fatalf("end: got %v, want EOF", a.err)
	}
}

func (ct *containerizerTest) succeeds(t *testing.T, config *isolation.ContainerConfig, status int) {
	t.Helper()
	if got := ct.wait(t, config); !got.StatusKnown || got.Status != status {
		t.Errorf("termination: got %+v, want status %d", got, status)
	}
}

// testAttachPlain: any container can be read, from now on and until its end.
func testAttachPlain(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, "echo before; "+waitForGo+"echo out; echo err >&2; while [ ! -e on ]; do sleep 0.02; done; echo last; echo lasterr >&2")
	ct.launch(t, config)
	readFile(t, filepath.Join(config.Sandbox, "stdout"))
	a := ct.attach(t, config)
	for what, err := range map[string]error{"close input": a.CloseWrite(), "resize": a.Resize(1, 2)} {
		if !errors.Is(err, isolation.ErrNotAttachable) {
			t.Errorf("%s: got %v, want %v", what, err, isolation.ErrNotAttachable)
		}
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, isolation.ErrNotAttachable) {
		t.Errorf("write: got %v, want %v", err, isolation.ErrNotAttachable)
	}
	release(t, config.Sandbox)
	a.until(isolation.Stdout, "out\n")
	a.until(isolation.Stderr, "err\n")
	touch(t, config, "on")
	a.end()
	ct.succeeds(t, config, 0)
	if out, err := a.read(isolation.Stdout), a.read(isolation.Stderr); out != "out\nlast\n" || err != "err\nlasterr\n" {
		t.Errorf("got %q and %q", out, err)
	}
}

func touch(t *testing.T, config *isolation.ContainerConfig, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(config.Sandbox, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// testAttachRotated: nothing is lost or doubled while the log is rotated.
func testAttachRotated(t *testing.T, ct *containerizerTest) {
	const lines = 300_000
	config := ct.config(t, waitForGo+fmt.Sprintf("seq %d", lines))
	config.StdoutRotation = isolation.Rotation{MaxSize: 128 << 10, MaxFiles: 200}
	ct.launch(t, config)
	a := ct.attach(t, config)
	release(t, config.Sandbox)
	a.end()
	ct.succeeds(t, config, 0)
	var want []byte
	for i := range lines {
		want = fmt.Appendf(want, "%d\n", i+1)
	}
	if got := a.read(isolation.Stdout); got != string(want) {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
	if _, err := os.Stat(filepath.Join(config.Sandbox, "stdout.5")); err != nil {
		t.Error(err)
	}
}

func testAttachMany(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, waitForGo+"seq 1000; seq 1000 >&2")
	ct.launch(t, config)
	var all []*attached
	for range 20 {
		all = append(all, ct.attach(t, config))
	}
	release(t, config.Sandbox)
	for i, a := range all {
		a.end()
		if n, m := strings.Count(a.read(isolation.Stdout), "\n"), strings.Count(a.read(isolation.Stderr), "\n"); n != 1000 || m != 1000 {
			t.Errorf("attachment %d: got %d and %d lines, want 1000", i, n, m)
		}
	}
}

// testAttachInput: what one types several read.
func testAttachInput(t *testing.T, ct *containerizerTest) {
	config := ct.config(t, "cat; echo over >&2; exit 3")
	config.Stdin = true
	ct.launch(t, config)
	a, b := ct.attach(t, config), ct.attach(t, config)
	a.write("hello\n")
	for _, x := range []*attached{a, b} {
		x.until(isolation.Stdout, "hello\n")
	}
	if err := a.Resize(1, 2); !errors.Is(err, isolation.ErrNotAttachable) {
		t.Errorf("resize without a terminal: got %v, want %v", err, isolation.ErrNotAttachable)
	}
	long := strings.Repeat("0123456789abcde\n", 100_000)
	b.write(long)
	if err := b.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*attached{a, b} {
		x.end()
		if got := x.read(isolation.Stdout); got != "hello\n"+long {
			t.Errorf("got %d bytes, want %d", len(got), 6+len(long))
		}
		if got := x.read(isolation.Stderr); got != "over\n" {
			t.Errorf("standard error: got %q", got)
		}
	}
	ct.succeeds(t, config, 3<<8)
	b2, err := os.ReadFile(filepath.Join(config.Sandbox, "stdout"))
	if err != nil || string(b2) != "hello\n"+long {
		t.Errorf("log: got %d bytes, %v", len(b2), err)
	}
}

func withTerminal(config *isolation.ContainerConfig) *isolation.ContainerConfig {
	config.ContainerInfo = &mesos.ContainerInfo{
		Type:    mesos.ContainerInfo_MESOS.Enum(),
		TtyInfo: &mesos.TTYInfo{WindowSize: &mesos.TTYInfo_WindowSize{Rows: new(uint32(30)), Columns: new(uint32(100))}},
	}
	return config
}

// testAttachTerminal: a shell, its size, ^C and its end.
func testAttachTerminal(t *testing.T, ct *containerizerTest) {
	config := withTerminal(ct.config(t, "PS1= exec sh -i"))
	ct.launch(t, config)
	a, watcher := ct.attach(t, config), ct.attach(t, config)
	a.write("tty; stty size; echo a=$((40+2))\n")
	a.until(isolation.Stdout, "a=42")
	if got := a.read(isolation.Stdout); !strings.Contains(got, "/dev/pts/") || !strings.Contains(got, "30 100") {
		t.Errorf("terminal: got %q", got)
	}
	if err := a.Resize(50, 132); err != nil {
		t.Fatal(err)
	}
	a.write("stty size; echo b=$((40+2))\n")
	a.until(isolation.Stdout, "50 132")
	a.write("sh -c 'echo c=$((40+2)); exec sleep 1000'\n")
	a.until(isolation.Stdout, "c=42")
	a.write("\x03")
	a.write("echo d=$((40+2))\n")
	a.until(isolation.Stdout, "d=42")
	a.write("exit 5\n")
	a.end()
	watcher.end()
	ct.succeeds(t, config, 5<<8)
	if !strings.Contains(watcher.read(isolation.Stdout), "d=42") || a.read(isolation.Stderr) != "" {
		t.Errorf("got %q and %q", watcher.read(isolation.Stdout), a.read(isolation.Stderr))
	}
	log, err := os.ReadFile(filepath.Join(config.Sandbox, "stdout"))
	if err != nil || !strings.HasSuffix(string(log), a.read(isolation.Stdout)) {
		t.Errorf("log: got %q, %v, want it to end with %q", log, err, a.read(isolation.Stdout))
	}
}

// testAttachTerminalOfUser: the terminal belongs to whom the command runs as.
func testAttachTerminalOfUser(t *testing.T, ct *containerizerTest) {
	if os.Geteuid() != 0 {
		t.Skip("only root can switch users")
	}
	config := withTerminal(ct.config(t, "stat -c %U $(tty); echo x >/dev/tty; echo y >/dev/stdout"))
	config.User = "nobody"
	for d := config.Sandbox; d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	ct.launch(t, config)
	ct.succeeds(t, config, 0)
	log, err := os.ReadFile(filepath.Join(config.Sandbox, "stdout"))
	if err != nil || string(log) != "nobody\r\nx\r\ny\r\n" {
		t.Errorf("log: got %q, %v", log, err)
	}
}

// testAttachSlowReader: a reader that stops reading holds nobody up, and gets
// everything nevertheless.
func testAttachSlowReader(t *testing.T, ct *containerizerTest) {
	const size = 50 << 20
	for name, config := range map[string]*isolation.ContainerConfig{
		"terminal": withTerminal(ct.config(t, "")),
		"input":    ct.config(t, ""),
		"rotated":  ct.config(t, ""),
	} {
		config.Command.Value = new(fmt.Sprintf("stty -opost 2>/dev/null; %s yes 0123456789abcdef | head -c %d; echo done >&2", waitForGo, size))
		config.Stdin = name == "input" || name == "rotated"
		if name == "rotated" {
			config.StdoutRotation = isolation.Rotation{MaxSize: 20 << 20, MaxFiles: 10}
		}
		ct.launch(t, config)
		a, err := ct.Attach(testContext(t), config.ID)
		if err != nil {
			t.Fatal(err)
		}
		release(t, config.Sandbox)
		ct.succeeds(t, config, 0)
		var out [3]bytes.Buffer
		for {
			stream, b, err := a.Read()
			out[stream].Write(b)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		want := size
		if name == "terminal" {
			want += len("done\n")
		}
		if got := out[isolation.Stdout].Bytes(); len(got) != want || !bytes.Equal(got[:size], bytes.Repeat([]byte("0123456789abcdef\n"), size/17+1)[:size]) {
			t.Errorf("%s: got %d bytes, want %d", name, len(got), want)
		}
		if name != "terminal" && out[isolation.Stderr].String() != "done\n" {
			t.Errorf("%s: standard error: got %q", name, out[isolation.Stderr].String())
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// testAttachRecover: who was attached when the agent went is let go; whoever comes
// after the next one has started goes on.
func testAttachRecover(t *testing.T, ct *containerizerTest) {
	typed, plain := withTerminal(ct.config(t, "read x; echo got=$x; read y; echo and=$y; exit 4")), ct.config(t, "echo a; "+waitForGo+"echo b")
	ct.launch(t, typed)
	ct.launch(t, plain)
	before, beforePlain := ct.attach(t, typed), ct.attach(t, plain)
	before.write("one\n")
	before.until(isolation.Stdout, "got=one")
	if err := ct.Close(); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*attached{before, beforePlain} {
		<-a.done
		if !errors.Is(a.err, isolation.ErrClosed) {
			t.Errorf("attachment to a containerizer that was closed: got %v, want %v", a.err, isolation.ErrClosed)
		}
	}
	ct.restart(t, typed, plain)
	after, afterPlain := ct.attach(t, typed), ct.attach(t, plain)
	release(t, plain.Sandbox)
	afterPlain.end()
	if got := afterPlain.read(isolation.Stdout); got != "b\n" {
		t.Errorf("plain container: got %q", got)
	}
	after.write("two\n")
	after.end()
	if got := after.read(isolation.Stdout); got != "two\r\nand=two\r\n" {
		t.Errorf("terminal: got %q", got)
	}
	ct.succeeds(t, typed, 4<<8)
	log, err := os.ReadFile(filepath.Join(typed.Sandbox, "stdout"))
	if err != nil || string(log) != "one\r\ngot=one\r\ntwo\r\nand=two\r\n" {
		t.Errorf("log: got %q, %v", log, err)
	}
}

// testAttachRecoverRotated: the next run of the agent knows how the log is rotated,
// although nobody tells it.
func testAttachRecoverRotated(t *testing.T, ct *containerizerTest) {
	const lines = 100_000
	config := ct.config(t, waitForGo+fmt.Sprintf("seq %d", lines))
	config.StdoutRotation = isolation.Rotation{MaxSize: 64 << 10, MaxFiles: 100}
	ct.launch(t, config)
	known := *config
	known.StdoutRotation = isolation.Rotation{}
	ct.restart(t, &known)
	a := ct.attach(t, config)
	release(t, config.Sandbox)
	a.end()
	ct.succeeds(t, config, 0)
	if got := a.read(isolation.Stdout); strings.Count(got, "\n") != lines || !strings.HasSuffix(got, fmt.Sprintf("\n%d\n", lines)) {
		t.Errorf("got %d lines, want %d", strings.Count(got, "\n"), lines)
	}
}

// testAttachClose: Close ends a Read, and the container goes on.
func testAttachClose(t *testing.T, ct *containerizerTest) {
	for _, config := range []*isolation.ContainerConfig{ct.config(t, waitForGo), withTerminal(ct.config(t, waitForGo))} {
		ct.launch(t, config)
		files := openFiles(t)
		for range 3 {
			a := ct.attach(t, config)
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			<-a.done
			if a.err == nil || errors.Is(a.err, io.EOF) {
				t.Errorf("read of a closed attachment: got %v", a.err)
			}
			if _, err := a.Write([]byte("x")); err == nil {
				t.Error("write to a closed attachment: got no error")
			}
		}
		if now := openFiles(t); now != files {
			t.Errorf("%d files are open, before there were %d", now, files)
		}
		release(t, config.Sandbox)
		ct.succeeds(t, config, 0)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func testAttachEnded(t *testing.T, ct *containerizerTest) {
	if _, err := ct.Attach(testContext(t), newID()); !errors.Is(err, isolation.ErrUnknownContainer) {
		t.Errorf("unknown container: got %v, want %v", err, isolation.ErrUnknownContainer)
	}
	config := withTerminal(ct.config(t, "exit 0"))
	ct.launch(t, config)
	ct.wait(t, config)
	if _, err := ct.Attach(testContext(t), config.ID); !errors.Is(err, isolation.ErrNotAttachable) {
		t.Errorf("ended container: got %v, want %v", err, isolation.ErrNotAttachable)
	}
	destroyed := withTerminal(ct.config(t, "trap '' HUP TERM INT; echo on; while :; do sleep 1000; done"))
	ct.launch(t, destroyed)
	a := ct.attach(t, destroyed)
	if err := ct.Destroy(testContext(t), destroyed.ID); err != nil {
		t.Error(err)
	}
	a.end()
}

// testAttachReplacedLog: a container that puts something else in the place of its log
// shows nobody what that is.
func testAttachReplacedLog(t *testing.T, ct *containerizerTest) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, with := range []string{"ln -s " + secret + " stdout", "ln " + secret + " stdout", "mkfifo stdout", "mkdir stdout", "true"} {
		for _, rotation := range []isolation.Rotation{{}, {MaxSize: 4096, MaxFiles: 3}} {
			config := ct.config(t, "rm stdout; "+with+"; while [ ! -e end ]; do sleep 0.02; done; seq 5000; "+waitForGo)
			config.StdoutRotation = rotation
			ct.launch(t, config)
			a := ct.attach(t, config)
			touch(t, config, "end")
			release(t, config.Sandbox)
			a.end()
			ct.succeeds(t, config, 0)
			if got := a.read(isolation.Stdout); strings.Contains(got, "secret") || !regexp.MustCompile(`^(\d+\n)*$`).MatchString(got) {
				t.Errorf("%s: got %.200q", with, got)
			}
		}
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret\n" {
		t.Errorf("secret: got %q, %v", b, err)
	}
}
