package work

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clusterd/api/client"
	"clusterd/api/client/operator"
	mesos "clusterd/api/mesos/v1"
)

// box is files of an agent.
type box map[string]string

var _ operator.Files = box{}

// ReadFile implements operator.Files; it returns little at a time.
func (b box) ReadFile(_ context.Context, path string, offset, length uint64) ([]byte, uint64, error) {
	text, ok := b[path]
	if !ok {
		return nil, 0, fmt.Errorf("read: %w", &client.StatusError{Code: http.StatusNotFound})
	}
	n := uint64(len(text))
	if offset >= n {
		return nil, n, nil
	}
	return []byte(text[offset:min(n, offset+min(length, 7))]), n, nil
}

// ListFiles implements operator.Files.
func (b box) ListFiles(context.Context, string) ([]*mesos.FileInfo, error) {
	return nil, errors.ErrUnsupported
}

func TestTail(t *testing.T) {
	const text = "one\ntwo\n\nfour\nfive"
	for n, want := range map[int]string{0: "", 1: "five", 2: "four\nfive", 3: "\nfour\nfive", 5: text, 9: text} {
		for _, end := range []string{"", "\n"} {
			if n == 0 && end == "" {
				continue
			}
			b := box{"f": text + end}
			var out bytes.Buffer
			one := &tail{files: whole{b}, path: "f", to: unchanged{&out}}
			if err := one.last(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if _, err := one.drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				want := want + end
				if out.String() != want {
					t.Errorf("last %d of %q: got %q, want %q", n, b["f"], out.String(), want)
				}
			} else if out.Len() > 0 {
				t.Errorf("last 0: got %q", out.String())
			}
		}
	}
	// A large file is not read from its beginning.
	long := strings.Repeat("x", 300<<10) + "\n" + strings.Repeat("y", 100<<10) + "\nend\n"
	one := &tail{files: whole{box{"f": long}}, path: "f"}
	if err := one.last(t.Context(), 2); err != nil || one.offset != 300<<10+1 {
		t.Errorf("offset %d, %v", one.offset, err)
	}
}

// whole reads as much as is asked for.
type whole struct{ box }

func (w whole) ReadFile(_ context.Context, path string, offset, length uint64) ([]byte, uint64, error) {
	text := w.box[path]
	n := uint64(len(text))
	return []byte(text[min(offset, n):min(n, offset+length)]), n, nil
}

// TestRotation loses nothing when a file is rotated between two looks, and begins again when
// it was cut.
func TestRotation(t *testing.T) {
	b := box{"f": "first line\n"}
	var out bytes.Buffer
	one := &tail{files: b, path: "f", to: unchanged{&out}}
	look := func(want string) {
		t.Helper()
		out.Reset()
		if _, err := one.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
	look("first line\n")
	b["f.1"], b["f"] = "first line\nsecond line\n", "third\n"
	look("second line\nthird\n")
	b["f"] = "new\n" // cut, and the older file is another one's
	b["f.1"] = "old"
	look("new\n")
	delete(b, "f.1")
	b["f"] = "a\n"
	look("a\n")
}

func TestPrefixes(t *testing.T) {
	var out bytes.Buffer
	l := &lines{}
	a, b := l.prefixed(&out, 0, "a"), l.prefixed(&out, 1, "b")
	for _, s := range []struct {
		w    io.Writer
		text string
	}{{a, "one\ntw"}, {b, "x\n\ny"}, {a, "o\n"}, {b, "z"}} {
		if n, err := io.WriteString(s.w, s.text); err != nil || n != len(s.text) {
			t.Fatal(n, err)
		}
	}

	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if want := "[a] one\n[b] x\n[b] \n[a] two\n[b] yz\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	// A line without an end is not kept for ever.
	out.Reset()
	_, _ = io.WriteString(a, strings.Repeat("x", 2*maxLine))
	if out.Len() < 2*maxLine {
		t.Errorf("%d bytes came out", out.Len())
	}
}

func TestJoint(t *testing.T) {
	for _, c := range []struct{ first, held, want string }{
		{"", "$ ", "$ "},
		{"$ ", "", "$ "},
		{"$ ls\n", "ls\nfile\n", "$ ls\nfile\n"},
		{"abc", "abc", "abc"},
		{"abc", "xyz", "abcxyz"},
		{"ab", "abab", "abab"},
	} {
		var out bytes.Buffer
		j := &joint{to: &out}
		_, _ = j.Write([]byte(c.held))
		j.begin([]byte(c.first))
		_, _ = j.Write([]byte("!"))
		j.begin([]byte("twice"))
		if out.String() != c.want+"!" {
			t.Errorf("%q and %q: got %q", c.first, c.held, out.String())
		}
	}
}

func TestDetachKeys(t *testing.T) {
	for in, want := range map[string]string{
		"ls\n": "ls\n", "a\x10b": "a\x10b", "\x10\x10x": "\x10\x10x", "a\x10\x11b": "a<", "\x10\x10\x11": "\x10<",
	} {
		for _, step := range []int{1, 100} { // a key at a time, and all at once
			d := detacher{on: true}
			var got strings.Builder
			for rest := in; rest != ""; {
				n := min(step, len(rest))
				typed, left := d.filter([]byte(rest[:n]))
				got.Write(typed)
				if left {
					got.WriteString("<")
					break
				}
				rest = rest[n:]
			}
			if got.String() != want {
				t.Errorf("%q by %d: got %q, want %q", in, step, got.String(), want)
			}
		}
	}
}

func TestExitCodes(t *testing.T) {
	for message, want := range map[string]int{
		"Command exited with status 3": 3, "Command exited with status 0": 0, "Command exited with status 4: why": 4,
		"Command terminated with signal Killed": 137, "Command terminated with signal Terminated (core dumped)": 143,
		"Container exited with status 9": 9, "no such image": 1,
	} {
		if got, _ := codeOf(&mesos.TaskStatus{State: mesos.TaskState_TASK_FAILED.Enum(), Message: &message}); got != want {
			t.Errorf("%s: got %d, want %d", message, got, want)
		}
	}
	status := func(s mesos.TaskState, message string) *mesos.TaskStatus {
		return &mesos.TaskStatus{State: s.Enum(), Message: &message}
	}
	killed := status(mesos.TaskState_TASK_KILLED, "Command terminated with signal Terminated")
	failed := status(mesos.TaskState_TASK_FAILED, "Command exited with status 3")
	good := status(mesos.TaskState_TASK_FINISHED, "")
	for want, ends := range map[int][]*mesos.TaskStatus{0: {good, good}, 3: {good, failed, killed}, 143: {killed, good}} {
		if got := worst(ends); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	if ofStatus(5<<8) != 5 || ofStatus(9) != 137 {
		t.Errorf("wait statuses: %d, %d", ofStatus(5<<8), ofStatus(9))
	}
}

// TestExtract writes nothing outside of the target, whatever is in an archive.
func TestExtract(t *testing.T) {
	for name, c := range map[string]struct {
		entries []tar.Header
		refused bool
	}{
		"up":            {[]tar.Header{{Name: "d/../../evil", Typeflag: tar.TypeReg}}, true},
		"absolute":      {[]tar.Header{{Name: "/evil", Typeflag: tar.TypeReg}}, true},
		"another":       {[]tar.Header{{Name: "other", Typeflag: tar.TypeReg}}, true},
		"link out":      {[]tar.Header{{Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "../.."}, {Name: "d/l/evil", Typeflag: tar.TypeReg}}, true},
		"link replaced": {[]tar.Header{{Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "../../evil"}, {Name: "d/l", Typeflag: tar.TypeReg}}, false},
		"device":        {[]tar.Header{{Name: "d/dev", Typeflag: tar.TypeChar}}, false},
		"read only":     {[]tar.Header{{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o500}, {Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o400}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			target := filepath.Join(dir, "target")
			if err := os.Mkdir(target, 0o755); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range c.entries {
				if h.Mode == 0 {
					h.Mode = 0o644
				}
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(target)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			err = extract(tar.NewReader(&b), root, "d", "copy")
			if (err != nil) != c.refused {
				t.Errorf("got %v", err)
			}
			_ = os.Chmod(filepath.Join(target, "copy"), 0o700)
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("outside of the target: %v, %v", entries, err)
			}
		})
	}
	// What is cut off is no archive.
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: "d", Typeflag: tar.TypeReg, Size: 1000, Mode: 0o644})
	_, _ = w.Write(make([]byte, 10))
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := extract(tar.NewReader(&b), root, "d", "copy"); err == nil {
		t.Error("half an archive is taken for a whole")
	}
}

func TestPlaces(t *testing.T) {
	for text, want := range map[string]place{
		"t:a/b": {"t", "a/b"}, "t:": {"t", "."}, "./a:b": {"", "./a:b"}, "/a:b": {"", "/a:b"}, "-": {"", "-"}, "file": {"", "file"}, "t:/etc": {"t", "/etc"},
	} {
		if got := placeOf(text); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
}
