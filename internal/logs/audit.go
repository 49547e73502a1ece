package logs

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"clusterd/internal/httpapi"
	"clusterd/internal/metrics"
)

// syncEvery is how long an audit record may be written and not yet on the disk.
const syncEvery = time.Second

// AuditOptions say where audit records go.
type AuditOptions struct {
	// Path (--audit_log) of the file; empty: they go to Log.
	Path string
	// Log takes complaints, and the records without a Path.
	Log zerolog.Logger
	// MaxSize of one file, MaxTotal of all, in bytes; zero: as for logs.
	MaxSize, MaxTotal int64
}

// Audit is the log of who changed what, one JSON object a line, in the order in which
// the requests were answered. It is safe for concurrent use.
type Audit struct {
	log, out zerolog.Logger
	file     *file // nil: records go to the log
	failed   atomic.Uint64
	stop     chan struct{}
	wg       sync.WaitGroup
	once     sync.Once

	mu  sync.Mutex // mu guards bad, and orders records.
	bad bool       // the last record was lost
}

// OpenAudit begins to take records.
func OpenAudit(o AuditOptions) (*Audit, error) {
	a := &Audit{log: o.Log, stop: make(chan struct{})}
	if o.Path == "" {
		a.out = o.Log.With().Str("component", "audit").Logger()
		return a, nil
	}
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.MaxTotal <= 0 {
		o.MaxTotal = DefaultMaxTotal
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	a.file = &file{
		dir: filepath.Dir(path), stem: filepath.Base(path), perm: 0o640,
		maxSize: min(o.MaxSize, o.MaxTotal/2), maxTotal: o.MaxTotal,
		lost: lostLine, now: time.Now, open: os.OpenFile,
	}
	a.file.mu.Lock()
	err = a.file.beginLocked()
	a.file.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	a.out = zerolog.New(auditWriter{a.file}).Hook(zerolog.HookFunc(timestamp))
	a.wg.Go(a.syncNowAndThen)
	return a, nil
}

type auditWriter struct{ f *file }

// Write takes a record.
func (w auditWriter) Write(p []byte) (int, error) {
	w.f.write(p, true)
	return len(p), nil
}

// Record takes what came of a request; it is a [httpapi.Router]'s OnAudit.
func (a *Audit) Record(r *http.Request, x httpapi.Audited) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.out.Log().Str("action", x.Action) // no level: --logging_level keeps none back
	if x.Principal != nil {
		e = e.Stringer("principal", x.Principal)
	}
	e = e.Str("remote", r.RemoteAddr)
	if client := httpapi.ClientOf(r); client != "" {
		e = e.Str("client", client) // in the word of the node at remote
	}
	e = e.Str("method", r.Method).Str("path", r.URL.Path)
	for i := 0; i+1 < len(x.Fields); i += 2 {
		e = e.Str(x.Fields[i], x.Fields[i+1])
	}
	if x.Err == nil {
		e = e.Str("result", "ok")
	} else {
		status := httpapi.StatusOf(x.Err)
		result := "failed"
		if status < http.StatusInternalServerError {
			result = "refused"
		}
		e = e.Str("result", result).Int("status", status).Str("reason", x.Err.Error())
	}
	before := a.lost()
	e.Msg("audit")
	a.complain(before)
}

func (a *Audit) lost() uint64 {
	if a.file == nil {
		return 0
	}
	return a.file.dropped.Load()
}

// complain says loudly that records are lost, once until it is well again; the metric
// counts each.
func (a *Audit) complain(before uint64) {
	lost := a.lost() > before
	if lost {
		a.failed.Add(1)
	}
	if lost && !a.bad {
		a.file.mu.Lock()
		err := a.file.err
		a.file.mu.Unlock()
		a.log.Error().Str("component", "audit").Err(err).Str("file", a.file.dir+"/"+a.file.stem).
			Msg("records of the audit log are being lost")
	}
	if !lost && a.bad {
		a.log.Warn().Str("component", "audit").Msg("the audit log is written again")
	}
	a.bad = lost
}

func (a *Audit) syncNowAndThen() {
	t := time.NewTicker(syncEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if err := a.file.sync(); err != nil {
				a.failed.Add(1)
				a.log.Error().Str("component", "audit").Err(err).Msg("the audit log may not be on the disk")
			}
		case <-a.stop:
			return
		}
	}
}

// Reopen begins a new file where the old one was moved away (SIGHUP).
func (a *Audit) Reopen() error {
	if a.file == nil {
		return nil
	}
	return a.file.reopen()
}

// Publish shows Prometheus how many records were lost.
func (a *Audit) Publish(m *metrics.Registry) {
	m.CounterFunc("clusterd_audit_failures_total", "Records of the audit log that could not be written, and failures to bring them to the disk.",
		func() float64 { return float64(a.failed.Load()) })
}

// Close brings the records to the disk.
func (a *Audit) Close() error {
	a.once.Do(func() { close(a.stop) })
	a.wg.Wait()
	if a.file == nil {
		return nil
	}
	return errors.Join(a.file.sync(), a.file.close())
}
