package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"clusterd/internal/httpapi"
	"clusterd/internal/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o Options) *Logs {
	t.Helper()
	if o.Program == "" {
		o.Program = "mesos-master"
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// messages are those of a log, which must be whole lines of JSON.
func messages(t *testing.T, text string) (out []string) {
	t.Helper()
	if text != "" && !strings.HasSuffix(text, "\n") {
		t.Errorf("the log ends in the midst of a line: %q", text[max(0, len(text)-80):])
	}
	for line := range strings.Lines(text) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("line %q: %v", line, err)
			continue
		}
		if _, err := time.Parse(TimeFormat, m["time"].(string)); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		out = append(out, m["message"].(string))
	}
	return out
}

func TestSeverities(t *testing.T) {
	dir, stderr := filepath.Join(t.TempDir(), "new", "dir"), new(bytes.Buffer)
	v := httpapi.NewVerbosity(0)
	l := open(t, Options{Dir: dir, Stderr: stderr, Verbosity: v})
	log := l.Logger()
	log.Debug().Msg("hidden")
	if err := v.Set(1, time.Hour); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Set(0, 0) }()
	log.Debug().Msg("debug")
	log.Info().Msg("info")
	log.Warn().Msg("warn")
	log.Error().Msg("error")
	for name, want := range map[string][]string{
		"INFO": {"debug", "info", "warn", "error"}, "WARNING": {"warn", "error"}, "ERROR": {"error"},
	} {
		link := filepath.Join(dir, "mesos-master."+name)
		if got := messages(t, read(t, link)); !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", name, got, want)
		}
		to, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(to, "mesos-master.") || !strings.Contains(to, ".log."+name+".") || !strings.HasSuffix(to, fmt.Sprintf(".%d", os.Getpid())) {
			t.Errorf("%s leads to %q, %v", link, to, err)
		}
	}
	if got := messages(t, stderr.String()); !slices.Equal(got, []string{"debug", "info", "warn", "error"}) {
		t.Errorf("stderr has %v", got)
	}
	if got, want := l.LogFile(), filepath.Join(dir, "mesos-master.INFO"); got != want {
		t.Errorf("log file is %s, want %s", got, want)
	}
}

func TestLevels(t *testing.T) {
	for level, want := range map[string][]string{"": {"info", "warn", "error"}, "WARNING": {"warn", "error"}, "ERROR": {"error"}} {
		var stderr bytes.Buffer
		log := open(t, Options{Stderr: &stderr, Level: level, Verbosity: httpapi.NewVerbosity(0)}).Logger()
		log.Info().Msg("info")
		log.Warn().Msg("warn")
		log.Error().Msg("error")
		if got := messages(t, stderr.String()); !slices.Equal(got, want) {
			t.Errorf("level %q: %v", level, got)
		}
	}
	if _, err := Open(Options{Level: "FATAL"}); err == nil {
		t.Error("an unknown level is taken")
	}
	if _, err := Open(Options{Dir: "/dev/null/x"}); err == nil {
		t.Error("a directory that cannot be is taken")
	}
}

func TestLogFile(t *testing.T) {
	if got := open(t, Options{}).LogFile(); got != "" {
		t.Errorf("without files: %q", got)
	}
	l := open(t, Options{Dir: t.TempDir(), External: "/var/log/ours"})
	if got := l.LogFile(); got != "/var/log/ours" {
		t.Errorf("external: %q", got)
	}
	var told []string
	l.OnRotate(func(path string) { told = append(told, path) })
	if !slices.Equal(told, []string{"/var/log/ours"}) {
		t.Errorf("told %v", told)
	}
}

// TestBounded writes more than may be kept: the newest lines are there, the directory
// never holds more than it may, and what is not ours stays.
func TestBounded(t *testing.T) {
	dir := t.TempDir()
	const size, total = 4 << 10, 64 << 10
	for _, other := range []string{"mesos-master.notes", "mesos-master.h.u.log.INFO.keep", "other.log"} {
		if err := os.WriteFile(filepath.Join(dir, other), []byte("keep"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := open(t, Options{Dir: dir, MaxSize: size, MaxTotal: total})
	var told []string
	l.OnRotate(func(path string) { told = append(told, path) })
	log := l.Logger()
	for i := range 3000 {
		log.Error().Int("n", i).Msg("some line of the log")
		if i%100 != 0 {
			continue
		}
		var sum int64
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
				sum += info.Size()
				if info.Size() > size {
					t.Fatalf("%s has %d bytes", e.Name(), info.Size())
				}
			}
		}
		if sum > total {
			t.Fatalf("after %d lines the directory holds %d bytes", i, sum)
		}
	}
	if text := read(t, l.LogFile()); !strings.Contains(text, `"n":2999`) {
		t.Errorf("the last line is not there: %s", text)
	}
	if len(told) < 10 || told[len(told)-1] != l.files[0].current() {
		t.Errorf("%d rotations were told", len(told))
	}
	for _, other := range []string{"mesos-master.notes", "mesos-master.h.u.log.INFO.keep", "other.log"} {
		if read(t, filepath.Join(dir, other)) != "keep" {
			t.Errorf("%s is gone", other)
		}
	}
	if l.Dropped() != 0 {
		t.Errorf("%d lines were dropped", l.Dropped())
	}
}

// TestFullDisk writes to a disk that is full, and is not any more.
func TestFullDisk(t *testing.T) {
	dir, stderr := t.TempDir(), new(bytes.Buffer)
	l := open(t, Options{Dir: dir, Stderr: stderr})
	m := metrics.NewRegistry()
	l.Publish(m)
	l.Publish(m) // a second time is no harm
	f := l.files[0]
	full := true
	now := time.Now()
	f.now = func() time.Time { return now }
	f.open = func(name string, flag int, perm os.FileMode) (*os.File, error) {
		if full {
			return os.OpenFile("/dev/full", os.O_WRONLY, 0)
		}
		return os.OpenFile(name, flag, perm)
	}
	log := l.Logger()
	log.Info().Msg("before")
	before := f.current()
	if err := os.Rename(before, before+".moved"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	for range 3 {
		log.Info().Msg("during")
	}
	full = false
	now = now.Add(2 * time.Second)
	log.Info().Msg("after")
	if got := messages(t, read(t, l.LogFile())); !slices.Equal(got, []string{"lines of the log were lost", "after"}) {
		t.Errorf("the new file has %v", got)
	}
	mustContain(t, read(t, l.LogFile()), `"lines":3`, "no space left on device")
	if got := messages(t, stderr.String()); !slices.Equal(got, []string{"before", "during", "during", "during", "after"}) {
		t.Errorf("stderr has %v", got)
	}
	if l.Dropped() != 3 {
		t.Errorf("%d lines were dropped", l.Dropped())
	}
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, fam := range families {
		if fam.GetName() == "clusterd_log_lines_dropped_total" {
			found = fam.GetMetric()[0].GetCounter().GetValue() == 3
		}
	}
	if !found {
		t.Error("the metric does not say so")
	}
}

// TestNoNewFile has no room for a new file: the old one goes on, but not for ever.
func TestNoNewFile(t *testing.T) {
	l := open(t, Options{Dir: t.TempDir(), MaxSize: 1 << 10})
	f := l.files[0]
	tries := 0
	f.open = func(string, int, os.FileMode) (*os.File, error) {
		tries++
		return nil, os.ErrPermission
	}
	log := l.Logger()
	for range 100 {
		log.Info().Msg("some line of the log")
	}
	if text := read(t, f.current()); len(text) < 1<<10 || len(text) > 3<<10 {
		t.Errorf("the file has %d bytes", len(text))
	}
	if tries != 1 || l.Dropped() == 0 {
		t.Errorf("%d tries, %d dropped", tries, l.Dropped())
	}
}

func TestReopen(t *testing.T) {
	l := open(t, Options{Dir: t.TempDir()})
	log := l.Logger()
	log.Info().Msg("one")
	first := l.files[0].current()
	if err := l.Reopen(); err != nil || l.files[0].current() != first {
		t.Errorf("nothing was moved, but: %v, %s", err, l.files[0].current())
	}
	if err := os.Rename(first, first+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	log.Info().Msg("two")
	if got := messages(t, read(t, first+".1")); !slices.Equal(got, []string{"one"}) {
		t.Errorf("the moved file has %v", got)
	}
	if got := messages(t, read(t, l.LogFile())); !slices.Equal(got, []string{"two"}) {
		t.Errorf("the new file has %v", got)
	}
}

func TestBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Options{Dir: t.TempDir(), Buffer: 5 * time.Second})
		log := l.Logger()
		log.Info().Msg("one")
		if got := read(t, l.LogFile()); got != "" {
			t.Errorf("written at once: %s", got)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := messages(t, read(t, l.LogFile())); !slices.Equal(got, []string{"one"}) {
			t.Errorf("after five seconds: %v", got)
		}
		log.Info().Msg("two")
		log.Error().Msg("three")
		if got := messages(t, read(t, l.LogFile())); !slices.Equal(got, []string{"one", "two", "three"}) {
			t.Errorf("after an error: %v", got)
		}
		for range 2000 {
			log.Info().Msg("many lines fill the buffer")
		}
		if got := len(messages(t, read(t, l.LogFile()))); got < 1000 {
			t.Errorf("%d lines are written of 2000", got)
		}
		log.Info().Msg("last")
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := messages(t, read(t, l.LogFile())); got[len(got)-1] != "last" || len(got) != 2004 {
			t.Errorf("after the end: %d lines, %s", len(got), got[len(got)-1])
		}
		log.Info().Msg("nobody hears it") // must not panic
	})
}

// TestConcurrent writes from many goroutines while files rotate and are reopened.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir, MaxSize: 8 << 10, MaxTotal: 64 << 20})
	log := l.Logger()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				log.Info().Int("i", i).Int("j", j).Msg("line")
				if j%50 == 0 {
					_ = l.Reopen()
				}
			}
		})
	}
	wg.Wait()
	entries, err := filepath.Glob(filepath.Join(dir, "*.log.INFO.*"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		n += len(messages(t, read(t, e)))
	}
	if n != 1600 || len(entries) < 5 {
		t.Errorf("%d lines in %d files", n, len(entries))
	}
}

func mustContain(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in %s", p, text)
		}
	}
}
