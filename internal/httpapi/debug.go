package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strings"
	"sync"
	"time"

	"clusterd/internal/authn"
)

const (
	// maxProfile is how long one may measure.
	maxProfile = 60 * time.Second
	// defaultProfile is how long it is measured if nobody says, as net/http/pprof does.
	defaultProfile = 30 * time.Second
	// flightAge is how far back the flight recorder remembers, flightBytes how much it
	// keeps at most, and flightIdle how long it goes on when nobody asks.
	flightAge   = 15 * time.Second
	flightBytes = 16 << 20
	flightIdle  = 15 * time.Minute
)

// errBusy says that somebody measures already.
var errBusy = errors.New("another profile is being taken")

// Debug serves Go's own diagnostics: `/debug/pprof/...` in the format of `go tool
// pprof`, and `/debug/flight`, what the runtime did in the last seconds, for `go tool
// trace`. They show the arguments and the insides of the process and cost time while
// they run. So they belong to the realm of what changes something; where that asks
// nobody, only this machine is let in. One profile is taken at a time, none for more
// than a minute.
type Debug struct {
	// Realm of the routes.
	Realm authn.Realm

	measuring sync.Mutex // held while a profile is taken

	mu sync.Mutex
	// mu guards what follows: the flight recorder, nil while nobody wants it, and the
	// timer that ends it.
	recorder *trace.FlightRecorder
	idle     *time.Timer
}

// Register adds the routes.
func (d *Debug) Register(rt *Router) {
	guarded := func(h Handler) Handler {
		return func(w http.ResponseWriter, r *http.Request) error {
			if err := RequireMethod(r, http.MethodGet); err != nil {
				return err
			}
			if rt.Realms[d.Realm] == nil && !local(r) {
				return Forbidden("This master or agent asks nobody to authenticate, so its insides are shown only to its own machine.\n")
			}
			w.Header().Set("Cache-Control", "no-store")
			return h(w, r)
		}
	}
	rt.Handle("/debug/pprof", Access{Realm: d.Realm, Endpoint: true}, guarded(d.profile))
	rt.Handle("/debug/flight", Access{Realm: d.Realm, Endpoint: true}, guarded(d.flight))
}

// local says whether a request comes from this machine, by its own will: a browser that
// was sent here by a page of somebody else's carries that page's host or origin.
func local(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !net.ParseIP(host).IsLoopback() || r.Header.Get("Origin") != "" || proxied(r) {
		return false
	}
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	return name == "localhost" || net.ParseIP(name) != nil
}

// profile serves /debug/pprof and what is below it.
func (d *Debug) profile(w http.ResponseWriter, r *http.Request) error {
	switch name := Rest(r); name {
	case "":
		return profileIndex(w, r)
	case "profile":
		return d.measure(w, r, "application/octet-stream", func(b *bytes.Buffer) (func(), error) {
			return pprof.StopCPUProfile, pprof.StartCPUProfile(b)
		})
	case "trace":
		return d.measure(w, r, "application/octet-stream", func(b *bytes.Buffer) (func(), error) {
			return trace.Stop, trace.Start(b)
		})
	default:
		p := pprof.Lookup(name)
		if p == nil {
			return NotFound("There is no profile '%s'.\n", name)
		}
		format, contentType := 0, "application/octet-stream"
		if text := r.URL.Query().Get("debug"); text != "" && text != "0" {
			n, err := Numify(text)
			if err != nil || n < 0 || n > 2 {
				return BadRequest("Invalid 'debug': %s.\n", text)
			}
			format, contentType = int(n), textPlain
		}
		if !d.measuring.TryLock() {
			return Errorf(http.StatusTooManyRequests, "%v.\n", errBusy)
		}
		defer d.measuring.Unlock()
		if name == "heap" && r.URL.Query().Get("gc") != "" {
			runtime.GC()
		}
		var b bytes.Buffer
		if err := p.WriteTo(&b, format); err != nil {
			return fmt.Errorf("write profile: %w", err)
		}
		Write(w, r, contentType, b.Bytes())
		return nil
	}
}

func profileIndex(w http.ResponseWriter, r *http.Request) error {
	lines := []string{"profile?seconds=N (processor)", "trace?seconds=N"}
	for _, p := range pprof.Profiles() {
		lines = append(lines, fmt.Sprintf("%s (%d)", p.Name(), p.Count()))
	}
	slices.Sort(lines[2:])
	Write(w, r, textPlain, []byte(strings.Join(lines, "\n")+"\n"))
	return nil
}

// measure runs what start begins for as long as the query says, or until the client
// has gone.
func (d *Debug) measure(w http.ResponseWriter, r *http.Request, contentType string, start func(*bytes.Buffer) (stop func(), err error)) error {
	lasts := defaultProfile
	if text := r.URL.Query().Get("seconds"); text != "" {
		n, err := Numify(text)
		if err != nil || n < 1 || n > int64(maxProfile/time.Second) {
			return BadRequest("Invalid 'seconds': '%s' is not a number from 1 to %d.\n", text, maxProfile/time.Second)
		}
		lasts = time.Duration(n) * time.Second
	}
	if !d.measuring.TryLock() {
		return Errorf(http.StatusTooManyRequests, "%v.\n", errBusy)
	}
	defer d.measuring.Unlock()
	var b bytes.Buffer
	stop, err := start(&b)
	if err != nil {
		return Errorf(http.StatusTooManyRequests, "%v.\n", err) // some other in this process
	}
	ctx, cancel := context.WithTimeout(r.Context(), lasts)
	<-ctx.Done()
	cancel()
	stop()
	if err := r.Context().Err(); err != nil {
		return fmt.Errorf("the client has gone: %w", err)
	}
	Write(w, r, contentType, b.Bytes())
	return nil
}

// flight serves /debug/flight. The first to ask begins the recording, which costs about
// a hundredth of the process's time: it goes on as long as somebody asks now and then.
func (d *Debug) flight(w http.ResponseWriter, r *http.Request) error {
	if Rest(r) != "" {
		return StatusError(http.StatusNotFound)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.recorder == nil {
		if err := d.startLocked(); err != nil {
			return Errorf(http.StatusTooManyRequests, "The flight recorder cannot begin: %v.\n", err)
		}
		w.Header().Set("Content-Type", textPlain)
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprintf(w, "The recording has begun. Ask again after what is to be seen: the last %s are kept. "+
			"It ends when nobody asks for %s.\n", flightAge, flightIdle)
		return nil
	}
	d.idle.Reset(flightIdle)
	var b bytes.Buffer
	if _, err := d.recorder.WriteTo(&b); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	Write(w, r, "application/octet-stream", b.Bytes())
	return nil
}

func (d *Debug) startLocked() error {
	f := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: flightAge, MaxBytes: flightBytes})
	if err := f.Start(); err != nil {
		return err
	}
	d.recorder = f
	d.idle = time.AfterFunc(flightIdle, d.Close)
	return nil
}

// Record begins the flight recorder for good: who wants to see what led to a fault
// cannot begin after it.
func (d *Debug) Record() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.recorder == nil {
		if err := d.startLocked(); err != nil {
			return err
		}
	}
	d.idle.Stop()
	return nil
}

// Close ends the recording, if there is one.
func (d *Debug) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.recorder != nil {
		d.idle.Stop()
		d.recorder.Stop()
		d.recorder = nil
	}
}

// proxied says whether somebody hands the request on for a client who may be anywhere.
func proxied(r *http.Request) bool {
	if IsVouched(r) {
		return true
	}
	for _, name := range []string{"Forwarded", "Via", "X-Forwarded-For"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return false
}
