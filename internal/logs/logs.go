// Package logs is where the log of a master or an agent goes: to the standard error, and
// with `--log_dir` to files of the names that glog gives them, one for each severity,
// which are bounded in size and never stop the daemon. [Audit] is the log of who changed
// what.
//
// The main type is [Logs]; its writers may be used from several goroutines. Imported by
// internal/cli. docs/logging.md lists the keys that log lines carry.
package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"clusterd/internal/httpapi"
	"clusterd/internal/metrics"
)

// The bounds of log files when Options do not say.
const (
	DefaultMaxSize  int64 = 64 << 20
	DefaultMaxTotal int64 = 1 << 30
)

// ErrLevel says that a level is none of INFO, WARNING, ERROR.
var ErrLevel = errors.New("unknown logging level")

// Options say where the log goes. The zero value of a field is its default.
type Options struct {
	// Program begins the names of files: "mesos-master".
	Program string
	// Dir (--log_dir) holds the files; empty: there are none.
	Dir string
	// Stderr takes lines for people or for journald; nil (--quiet): nothing does.
	Stderr io.Writer
	// Level (--logging_level) is the lowest severity: INFO, WARNING, ERROR. Debug
	// output counts as INFO.
	Level string
	// Buffer (--logbufsecs) is how long lines may be kept back from the files; errors
	// are not.
	Buffer time.Duration
	// External (--external_log_file) is what somebody else writes our standard error
	// to; it is shown in place of our own file.
	External string
	// MaxSize of one file, MaxTotal of all, in bytes.
	MaxSize, MaxTotal int64
	// Verbosity lets debug output through; nil: none.
	Verbosity *httpapi.Verbosity
}

// severity is a level that has a file: it holds its own lines and those of worse ones.
type severity struct {
	name string
	from zerolog.Level
	// share of the total size: half, a quarter, a quarter.
	share int64
}

var severities = []severity{
	{"INFO", zerolog.TraceLevel, 2},
	{"WARNING", zerolog.WarnLevel, 4},
	{"ERROR", zerolog.ErrorLevel, 4},
}

// Logs is where the log goes.
type Logs struct {
	opts   Options
	log    zerolog.Logger
	files  []*file // one for each severity; none without Dir
	stderr atomic.Uint64

	stop chan struct{}
	wg   sync.WaitGroup

	mu sync.Mutex
	// mu guards what follows.
	rotated func(string)
	stopped bool
}

// Open begins to log.
func Open(o Options) (*Logs, error) {
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.MaxTotal <= 0 {
		o.MaxTotal = DefaultMaxTotal
	}
	level, err := parseLevel(o.Level)
	if err != nil {
		return nil, err
	}
	l := &Logs{opts: o, stop: make(chan struct{})}
	if o.Dir != "" {
		if err := l.openFiles(); err != nil {
			return nil, errors.Join(err, l.closeFiles())
		}
	}
	log := zerolog.New(l).Level(level).Hook(zerolog.HookFunc(timestamp))
	if o.Verbosity != nil {
		log = log.Sample(o.Verbosity)
	}
	l.log = log
	if len(l.files) > 0 && o.Buffer > 0 {
		l.wg.Go(l.flushNowAndThen)
	}
	return l, nil
}

func parseLevel(s string) (zerolog.Level, error) {
	switch s {
	case "", "INFO":
		return zerolog.TraceLevel, nil
	case "WARNING":
		return zerolog.WarnLevel, nil
	case "ERROR":
		return zerolog.ErrorLevel, nil
	default:
		return zerolog.NoLevel, fmt.Errorf("%w: %q", ErrLevel, s)
	}
}

// TimeFormat is how the key `time` is written, in UTC.
const TimeFormat = "2006-01-02T15:04:05.000000Z"

func timestamp(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().UTC().Format(TimeFormat))
}

func (l *Logs) openFiles() error {
	o := &l.opts
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return fmt.Errorf("create the directory of logs: %w", err)
	}
	for _, s := range severities {
		total := o.MaxTotal / s.share
		f := &file{
			dir: o.Dir, perm: 0o644,
			stem: o.Program + "." + hostname() + "." + username() + ".log." + s.name, link: o.Program + "." + s.name,
			maxSize: min(o.MaxSize, total/2), maxTotal: total, buffered: o.Buffer > 0,
			lost: lostLine, now: time.Now, open: os.OpenFile,
		}
		if s.name == "INFO" {
			f.began = l.tellRotated
		}
		l.files = append(l.files, f)
		f.mu.Lock()
		err := f.beginLocked()
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// hostname and username are part of the names of files, as in glog.
func hostname() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "unknown"
	}
	return strings.ReplaceAll(name, "/", "_")
}

func username() string {
	u, err := user.Current()
	if err != nil || u.Username == "" {
		return "uid" + fmt.Sprint(os.Getuid())
	}
	return strings.ReplaceAll(u.Username, "/", "_")
}

// lostLine tells in the log what is not in it.
func lostLine(n uint64, err error) []byte {
	var b lineBuffer
	log := zerolog.New(&b).Hook(zerolog.HookFunc(timestamp))
	log.Error().Str("component", "logs").Uint64("lines", n).AnErr("error", err).Msg("lines of the log were lost")
	return b
}

type lineBuffer []byte

// Write appends.
func (b *lineBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// Logger writes to the log.
func (l *Logs) Logger() zerolog.Logger { return l.log }

// Write takes a line without a level.
func (l *Logs) Write(p []byte) (int, error) { return l.WriteLevel(zerolog.InfoLevel, p) }

// WriteLevel takes a line. It never fails: see [Logs.Dropped].
func (l *Logs) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	if level == zerolog.NoLevel {
		level = zerolog.InfoLevel
	}
	for i, f := range l.files {
		if level >= severities[i].from {
			f.write(p, level >= zerolog.ErrorLevel)
		}
	}
	if l.opts.Stderr != nil {
		if _, err := l.opts.Stderr.Write(p); err != nil {
			l.stderr.Add(1)
		}
	}
	return len(p), nil
}

func (l *Logs) flushNowAndThen() {
	t := time.NewTicker(l.opts.Buffer)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			l.Flush()
		case <-l.stop:
			return
		}
	}
}

// Flush writes what is buffered.
func (l *Logs) Flush() {
	for _, f := range l.files {
		f.flush()
	}
}

// Reopen begins new files where the old ones were moved away. Log rotation by others
// sends SIGHUP for it; without it that is noticed within a second.
func (l *Logs) Reopen() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.reopen())
	}
	return errors.Join(errs...)
}

// LogFile is the file that `/files` shows as the log: the external one, else the link to
// the present one of all severities; empty without either.
func (l *Logs) LogFile() string {
	switch {
	case l.opts.External != "":
		return l.opts.External
	case l.opts.Dir != "":
		return filepath.Join(l.opts.Dir, l.opts.Program+".INFO")
	default:
		return ""
	}
}

// OnRotate calls f with the path of the present file of all severities, now and whenever
// another begins; once with the external file if there is one. For who resolves links only
// once. f must not log.
func (l *Logs) OnRotate(f func(path string)) {
	if l.opts.External != "" {
		f(l.opts.External)
		return
	}
	if len(l.files) == 0 {
		return
	}
	l.mu.Lock()
	l.rotated = f
	l.mu.Unlock()
	f(l.files[0].current())
}

func (l *Logs) tellRotated(path string) {
	l.mu.Lock()
	f := l.rotated
	l.mu.Unlock()
	if f != nil {
		f(path)
	}
}

// Dropped counts the lines that could not be written, each once for each place.
func (l *Logs) Dropped() uint64 {
	n := l.stderr.Load()
	for _, f := range l.files {
		n += f.dropped.Load()
	}
	return n
}

// Publish shows Prometheus how many lines were lost.
func (l *Logs) Publish(m *metrics.Registry) {
	m.CounterFunc("clusterd_log_lines_dropped_total", "Lines of the log that could not be written, for instance to a full disk.",
		func() float64 { return float64(l.Dropped()) })
}

// Close writes what is buffered and closes the files. What is logged after it goes to
// the standard error only.
func (l *Logs) Close() error {
	l.mu.Lock()
	stopped := l.stopped
	l.stopped = true
	l.mu.Unlock()
	if !stopped {
		close(l.stop)
	}
	l.wg.Wait()
	return l.closeFiles()
}

func (l *Logs) closeFiles() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}
