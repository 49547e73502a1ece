package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// visitorConn is a visitor of the tests.
type visitorConn struct {
	t    *testing.T
	conn net.Conn
	out  bytes.Buffer // output so far
	rest []byte
	end  bool
}

func visit(t *testing.T, path string, kind byte) *visitorConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	v := &visitorConn{t: t, conn: conn}
	v.send(kind)
	return v
}

func (v *visitorConn) send(kind byte, payload ...byte) {
	v.t.Helper()
	if _, err := v.conn.Write(AppendFrame(nil, kind, payload...)); err != nil {
		v.t.Fatal(err)
	}
}

func (v *visitorConn) resize(rows, columns byte) { v.send(FrameSize, 0, 0, 0, rows, 0, 0, 0, columns) }

// next reads a frame.
func (v *visitorConn) next() (kind byte, payload []byte, err error) {
	for {
		kind, payload, rest, ok := CutFrame(v.rest)
		if ok {
			v.rest = rest
			return kind, payload, nil
		}
		b := make([]byte, 4096)
		_ = v.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := v.conn.Read(b)
		if err != nil {
			return 0, nil, err
		}
		v.rest = append(v.rest, b[:n]...)
	}
}

// until reads output until there is a text in it.
func (v *visitorConn) until(text string) {
	v.t.Helper()
	for !strings.Contains(v.out.String(), text) {
		kind, payload, err := v.next()
		if err != nil {
			v.t.Fatalf("%q is not in what was read: %q: %v", text, v.out.String(), err)
		}
		switch kind {
		case FrameStdout, FrameStderr:
			v.out.Write(payload)
		case FrameEnd:
			v.end = true
		}
	}
}

// rest reads all that comes.
func (v *visitorConn) toEnd() {
	v.t.Helper()
	for {
		kind, payload, err := v.next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			v.t.Fatal(err)
		}
		switch kind {
		case FrameStdout, FrameStderr:
			v.out.Write(payload)
		case FrameEnd:
			v.end = true
		}
	}
}

type doorTest struct {
	dir, sandbox, door string
	cmd                *exec.Cmd
}

func openDoor(t *testing.T, spec *Spec, script string) *doorTest {
	t.Helper()
	d := &doorTest{dir: t.TempDir(), sandbox: t.TempDir()}
	d.door = d.dir + "/door"
	spec.RuntimeDir, spec.Dir, spec.Door = d.dir, d.sandbox, d.door
	spec.Stdout, spec.Stderr = d.sandbox+"/stdout", d.sandbox+"/stderr"
	spec.Path, spec.Argv = "/bin/bash", []string{"bash", "--norc", "--noprofile", "-c", script}
	if script == "" {
		spec.Argv = []string{"bash", "--norc", "--noprofile", "-i"}
	}
	spec.Env = []string{"PATH=/usr/bin:/bin", "PS1=> ", "TERM=dumb"}
	d.cmd = run(t, spec)
	return d
}

func (d *doorTest) wait(t *testing.T, want int) {
	t.Helper()
	if err := d.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, ok := ReadStatus(d.dir); !ok || got != want {
		t.Errorf("status: got %d, %v, want %d", got, ok, want)
	}
}

func (d *doorTest) file(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(d.sandbox, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTerminal: a shell on a terminal, as somebody uses it.
func TestTerminal(t *testing.T) {
	d := openDoor(t, &Spec{TTY: true, Rows: 24, Columns: 80}, "")
	out, in := visit(t, d.door, FrameReader), visit(t, d.door, FrameWriter)
	kind, payload, err := in.next()
	if err != nil || kind != FrameInputs || payload[0] != HasStdin|HasTerminal {
		t.Fatalf("what there is: got %q, %v, %v", kind, payload, err)
	}
	in.send(FrameInput, []byte("tty; stty size; echo a=$((40+2))\n")...)
	out.until("a=42")
	if got := out.out.String(); !strings.Contains(got, "/dev/pts/") || !strings.Contains(got, "24 80") {
		t.Errorf("terminal: got %q", got)
	}
	in.resize(50, 132)
	in.send(FrameInput, []byte("stty size; echo b=$((40+2))\n")...)
	out.until("b=42")
	if got := out.out.String(); !strings.Contains(got, "50 132") {
		t.Errorf("after a new size: got %q", got)
	}
	// The window's change reaches who asks for it.
	in.send(FrameInput, []byte("bash -c 'trap \"echo size=\\$(stty size | tr \\  x)\" WINCH; echo wait=$((40+2)); while :; do sleep 0.02; done'\n")...)
	out.until("wait=42")
	in.resize(10, 20)
	out.until("size=10x20")
	// ^C ends what is in the foreground, and the shell goes on.
	in.send(FrameInput, 3)
	in.send(FrameInput, []byte("echo c=$((40+2))\n")...)
	out.until("c=42")
	// Job control: ^Z stops it, fg goes on with it.
	in.send(FrameInput, []byte("bash -c 'echo started=$((40+2)); sleep 1000'\n")...)
	out.until("started=42")
	in.send(FrameInput, 26)
	out.until("Stopped")
	in.send(FrameInput, []byte("jobs; kill %1; fg; echo d=$((40+2))\n")...)
	out.until("d=42")
	// The end of the input of a terminal is no end of file, ^D is.
	in.send(FrameInputEnd)
	in.send(FrameInput, []byte("echo e=$((40+2))\n")...)
	out.until("e=42")
	in.send(FrameInput, []byte("exec sh -c 'echo ready=$((40+2)); exec cat'\n")...)
	out.until("ready=42")
	in.send(FrameInput, []byte("f=g\n")...)
	out.until("f=g\r\nf=g\r\n") // typed, and copied
	in.send(FrameInput, 4)
	out.toEnd()
	if !out.end {
		t.Error("the end was not told")
	}
	d.wait(t, 0)
	// The reader may have come after the first prompt.
	if got := d.file(t, "stdout"); !strings.HasSuffix(got, out.out.String()) {
		t.Errorf("stdout: got %q, want what was seen: %q", got, out.out.String())
	}
	if got := d.file(t, "stderr"); got != "" {
		t.Errorf("stderr: got %q", got)
	}
}

// TestTerminalAlone: nobody is at the door; the log has everything, and what the
// terminal's user is is right.
func TestTerminalAlone(t *testing.T) {
	spec := &Spec{TTY: true}
	want := "root"
	if os.Geteuid() == 0 {
		spec.SwitchUser, spec.UID, spec.GID = true, 65534, 65534
		want = "nobody"
	}
	dir := t.TempDir()
	for d := dir; d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	spec.RuntimeDir, spec.Dir, spec.Stdout, spec.Stderr = t.TempDir(), "/", dir+"/o", dir+"/e"
	spec.Path, spec.Argv = "/bin/sh", []string{"sh", "-c", `exec <&- >/dev/null 2>&1; stat -c %U "$(readlink /dev/pts/$(ps -o tty= $$ | tr -dc 0-9) || ps -o tty= $$ | sed s,^,/dev/,)" >/dev/tty; seq 20000 >/dev/tty; exit 5`}
	spec.Env = []string{"PATH=/usr/bin:/bin"}
	cmd := run(t, spec)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dir + "/o")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(b), "\r\n", "\n")), "\n")
	if len(lines) != 20001 || lines[20000] != "20000" || lines[0] != want && os.Geteuid() == 0 {
		t.Errorf("got %d lines, from %q to %q", len(lines), lines[0], lines[len(lines)-1])
	}
}

// TestStdin: a command that reads what is typed, until its end.
func TestStdin(t *testing.T) {
	d := openDoor(t, &Spec{Stdin: true}, "cat; echo over >&2; exit 7")
	out, in := visit(t, d.door, FrameReader), visit(t, d.door, FrameWriter)
	kind, payload, err := in.next()
	if err != nil || kind != FrameInputs || payload[0] != HasStdin {
		t.Fatalf("what there is: got %q, %v, %v", kind, payload, err)
	}
	in.send(FrameInput, []byte("hello\n")...)
	out.until("hello\n")
	in.resize(1, 1) // without a terminal that is nothing
	// Much more than a pipe holds, while nobody reads out what cat prints.
	text := bytes.Repeat([]byte("0123456789abcde\n"), FrameMax/16)
	for range 5 {
		in.send(FrameInput, text...)
	}
	in.send(FrameInputEnd)
	in.conn.Close()
	out.toEnd()
	d.wait(t, 7<<8)
	want := "hello\n" + strings.Repeat(string(text), 5)
	if got := d.file(t, "stdout"); got != want {
		t.Errorf("stdout: got %d bytes, want %d", len(got), len(want))
	}
	if got := d.file(t, "stderr"); got != "over\n" {
		t.Errorf("stderr: got %q", got)
	}
	if !out.end || len(out.out.String()) != len(want)+5 {
		t.Errorf("reader: got %d bytes, want %d; end %v", out.out.Len(), len(want)+5, out.end)
	}
}

// TestStdinNotRead: a command that does not read its input is not in the way of
// anything else, and the input of a command that has closed it is nothing.
func TestStdinNotRead(t *testing.T) {
	d := openDoor(t, &Spec{Stdin: true}, "while [ ! -e go ]; do sleep 0.02; done; exec <&-; echo closed; while [ ! -e end ]; do sleep 0.02; done")
	out, in := visit(t, d.door, FrameReader), visit(t, d.door, FrameWriter)
	_ = in.conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	frame := AppendFrame(nil, FrameInput, make([]byte, FrameMax)...)
	var err error
	n, written := 0, 0
	for err == nil && written < 64<<20 {
		n, err = in.conn.Write(frame)
		written += n
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("type without a reader: got %v after %d bytes, want it to wait", err, written)
	}
	touch(t, d.sandbox, "go")
	out.until("closed")
	other := visit(t, d.door, FrameWriter)
	for range 10 {
		other.send(FrameInput, make([]byte, FrameMax)...)
	}
	touch(t, d.sandbox, "end")
	d.wait(t, 0)
}

func touch(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestStuckReader: readers that do not read hold nobody up, lose no log, and are sent
// away with a place at which to go on.
func TestStuckReader(t *testing.T) {
	for name, spec := range map[string]*Spec{
		"pipes":    {Stdin: true},
		"terminal": {TTY: true},
		"rotated":  {Stdin: true, StdoutRotation: Rotation{MaxSize: 40 << 20, MaxFiles: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			const size = 100 << 20
			d := openDoor(t, spec, fmt.Sprintf("stty -opost 2>/dev/null; while [ ! -e go ]; do sleep 0.02; done; yes 0123456789abcdef | head -c %d", size))
			first, stuck := visit(t, d.door, FrameReader), visit(t, d.door, FrameReader)
			if kind, _, err := stuck.next(); err != nil || kind != FramePlace {
				t.Fatalf("first: got %q, %v", kind, err)
			}
			if kind, _, err := first.next(); err != nil || kind != FramePlace {
				t.Fatalf("first: got %q, %v", kind, err)
			}
			touch(t, d.sandbox, "go")
			d.wait(t, 0)
			log := collect(t, d.sandbox+"/stdout", 9)
			if len(log) != size || !bytes.HasPrefix(log, []byte("0123456789abcdef\n0123")) {
				t.Errorf("log: got %d bytes, want %d", len(log), size)
			}
			// What it got before is a beginning of the log.
			for {
				kind, payload, err := stuck.next()
				if err != nil {
					break
				}
				if kind == FrameEnd {
					t.Error("a reader that got not all was told that this is all")
				}
				if kind == FrameStdout {
					stuck.out.Write(payload)
				}
			}
			if got := stuck.out.Bytes(); len(got) == 0 || !bytes.HasPrefix(log, got) {
				t.Errorf("the stuck reader got %d bytes that are not the beginning of the log", len(got))
			}
		})
	}
}

// TestManyVisitors: all get everything, and there is a bound.
func TestManyVisitors(t *testing.T) {
	d := openDoor(t, &Spec{Stdin: true}, "cat")
	var readers []*visitorConn
	for range maxVisitors - 1 {
		v := visit(t, d.door, FrameReader)
		if kind, _, err := v.next(); err != nil || kind != FramePlace {
			t.Fatalf("got %q, %v", kind, err)
		}
		readers = append(readers, v)
	}
	in := visit(t, d.door, FrameWriter)
	if _, _, err := in.next(); err != nil {
		t.Fatal(err)
	}
	letIn := func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", d.door)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err = conn.Write(AppendFrame(nil, FrameReader)); err == nil {
			_, _, err = (&visitorConn{t: t, conn: conn}).next()
		}
		return err == nil
	}
	if letIn() {
		t.Error("one visitor too many was let in")
	}
	for i := range 100 {
		in.send(FrameInput, []byte("line "+strconv.Itoa(i)+"\n")...)
	}
	readers[3].conn.Close() // one that leaves
	for i, r := range readers {
		if i != 3 {
			r.until("line 99\n")
		}
	}
	// There is room again.
	eventually(t, "another is let in", letIn)
	in.send(FrameInputEnd)
	for i, r := range readers {
		if i != 3 {
			r.toEnd()
			if !r.end || strings.Count(r.out.String(), "\n") != 100 {
				t.Errorf("reader %d: got %q", i, r.out.String())
			}
		}
	}
	d.wait(t, 0)
}

// TestRudeVisitors: who does not keep to the rules is sent away and changes nothing.
func TestRudeVisitors(t *testing.T) {
	d := openDoor(t, &Spec{Stdin: true}, "cat")
	for name, sent := range map[string][]byte{
		"not a frame":      []byte("GET / HTTP/1.1\r\n\r\n"),
		"too long":         {FrameWriter, 0xff, 0xff, 0xff},
		"unknown":          AppendFrame(AppendFrame(nil, FrameWriter), '?'),
		"a typing reader":  AppendFrame(AppendFrame(nil, FrameReader), FrameInput, 'x'),
		"types at once":    AppendFrame(nil, FrameInput, 'x'),
		"bad size":         AppendFrame(AppendFrame(nil, FrameWriter), FrameSize, 1, 2, 3),
		"two at once":      AppendFrame(AppendFrame(nil, FrameReader), FrameWriter),
		"half a frame":     AppendFrame(AppendFrame(nil, FrameWriter), FrameInput, 'x')[:8],
		"nothing":          nil,
		"a writer's frame": AppendFrame(AppendFrame(nil, FrameWriter), FrameStdout, 'x'),
	} {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: d.door, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: got %v, want to be sent away", name, err)
		}
		conn.Close()
	}
	in := visit(t, d.door, FrameWriter)
	in.send(FrameInput, []byte("fine\n")...)
	in.send(FrameInputEnd)
	d.wait(t, 0)
	if got := d.file(t, "stdout"); got != "fine\n" {
		t.Errorf("stdout: got %q", got)
	}
}

// TestDoorIsClosedForContainer: whoever lives in the container does not come in.
func TestDoorIsClosedForContainer(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3, which opens Unix sockets")
	}
	d := openDoor(t, &Spec{Stdin: true}, `read door; python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
try: s.send(b"R\0\0\0"); print("got", s.recv(100))
except OSError as e: print("got", e)
' "$door"`)
	fi, err := os.Stat(d.door)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode: got %v, %v", fi.Mode(), err)
	}
	in := visit(t, d.door, FrameWriter)
	in.send(FrameInput, []byte(d.door+"\n")...)
	d.wait(t, 0)
	if got := d.file(t, "stdout"); !regexp.MustCompile(`got (b''|\[Errno (32|104)\].*)\n`).MatchString(got) {
		t.Errorf("got %q, want nothing", got)
	}
}

// TestLongDoorPath: the path of a nested container's runtime directory is longer than
// a socket's may be.
func TestLongDoorPath(t *testing.T) {
	sandbox := t.TempDir()
	dir := filepath.Join(t.TempDir(), strings.Repeat("containers/12345678-1234-1234-1234-123456789012/", 8))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := run(t, &Spec{
		RuntimeDir: dir, Path: "/bin/cat", Argv: []string{"cat"}, Dir: sandbox, Stdout: sandbox + "/o", Stderr: sandbox + "/e",
		Stdin: true, Door: dir + "/door",
	})
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := visit(t, fmt.Sprintf("/proc/self/fd/%d/door", f.Fd()), FrameWriter)
	in.send(FrameInput, []byte("x")...)
	in.send(FrameInputEnd)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(sandbox + "/o"); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestDoorOfDestroyed: an order to end is obeyed although somebody is at the door and
// does not read.
func TestDoorOfDestroyed(t *testing.T) {
	d := openDoor(t, &Spec{TTY: true}, "trap '' TERM HUP INT; yes")
	visit(t, d.door, FrameReader)
	eventually(t, "there is output", func() bool {
		fi, err := os.Stat(d.sandbox + "/stdout")
		return err == nil && fi.Size() > 2<<20
	})
	if err := d.cmd.Process.Signal(Terminate); err != nil {
		t.Fatal(err)
	}
	d.wait(t, int(syscall.SIGKILL))
}

// TestTerminalOnFullDisk: who wants to clear a full disk up has a terminal to do it.
func TestTerminalOnFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	dir := t.TempDir()
	cmd := run(t, &Spec{
		RuntimeDir: dir, Dir: disk, Door: dir + "/door", Stdout: disk + "/stdout", Stderr: disk + "/stderr", TTY: true,
		Path: "/bin/sh", Argv: []string{"sh", "-i"}, Env: []string{"PATH=/usr/bin:/bin", "PS1="},
	})
	out, in := visit(t, dir+"/door", FrameReader), visit(t, dir+"/door", FrameWriter)
	in.send(FrameInput, []byte("head -c 1000000 /dev/zero >hog; echo a=$((40+2))\n")...)
	out.until("a=42")
	in.send(FrameInput, []byte("seq 1000; echo b=$((40+2))\n")...)
	out.until("b=42")
	if got := out.out.String(); !strings.Contains(got, "\n500\r\n") {
		t.Errorf("got %q", got)
	}
	in.send(FrameInput, []byte("rm hog; echo c=$((40+2))\n")...)
	out.until("c=42")
	in.send(FrameInput, []byte("exit 6\n")...)
	out.toEnd()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, ok := ReadStatus(dir); !ok || got != 6<<8 {
		t.Errorf("status: got %d, %v", got, ok)
	}
	log, err := os.ReadFile(disk + "/stdout")
	if err != nil || !strings.Contains(string(log), "bytes of output were lost here: no space left on device\n") || !strings.Contains(string(log), "c=42") {
		t.Errorf("log: got %q, %v", log, err)
	}
}
