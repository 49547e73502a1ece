package httpapi

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/flags"
	"clusterd/internal/metrics"
	"clusterd/internal/units"
)

// Common is what the endpoints need that master and agent serve alike.
type Common struct {
	// Flags are shown by `/flags`.
	Flags []flags.Pair
	// Described are shown by `/api/clusterd/v1/flags`.
	Described []flags.Described
	// Version is shown by `/version`.
	Version *mesos.VersionInfo
	// Metrics are shown by `/metrics/snapshot`, and to Prometheus by `/metrics` (or
	// `/metrics/prometheus`, as it was called before).
	Metrics *metrics.Registry
	// Health says how the process is, for `/health`. It must not wait. Nil: always well.
	Health func() []Check
	// Verbosity is switched by `/logging/toggle`.
	Verbosity *Verbosity
	// Readonly is the realm of what only reads, Readwrite that of the rest.
	Readonly, Readwrite authn.Realm
}

// Register adds `/health`, `/flags`, `/api/clusterd/v1/flags`, `/api/clusterd/v1/metrics`, `/version`, `/metrics/snapshot`, `/metrics`,
// `/system/stats.json`, `/logging/toggle` and `/help`.
func (c Common) Register(rt *Router) {
	rt.Handle("/health", Open("probes have no credentials"), c.health)
	rt.Handle("/flags", In(c.Readonly), func(w http.ResponseWriter, r *http.Request) error {
		if err := RequireMethod(r, http.MethodGet); err != nil {
			return err
		}
		if !rt.ACLs().Approver(PrincipalOf(r), authz.ViewFlags).Allows("") {
			return StatusError(http.StatusForbidden)
		}
		return c.flags(w, r)
	})
	c.describe(rt)
	rt.Handle("/version", Open("says nothing but the version"), c.version)
	rt.Handle("/system/stats.json", In(c.Readonly), systemStats)
	rt.Handle("/metrics/snapshot", Access{Realm: c.Readonly, Endpoint: true}, c.snapshot)
	prometheus := c.Metrics.Handler()
	for _, path := range []string{"/metrics", "/metrics/prometheus"} {
		rt.Handle(path, In(c.Readonly), func(w http.ResponseWriter, r *http.Request) error {
			if rest := Rest(r); rest != "" {
				return StatusError(http.StatusNotFound) // not below /metrics
			}
			// The same values as those of /metrics/snapshot, hence the same permission.
			if !rt.ACLs().Approver(PrincipalOf(r), authz.GetEndpoints).Allows("/metrics/snapshot") {
				return StatusError(http.StatusForbidden)
			}
			prometheus.ServeHTTP(w, r)
			return nil
		})
	}
	rt.Handle("/logging/toggle", Access{Realm: c.Readwrite, Endpoint: true}, c.Verbosity.toggle)
	rt.Handle("/help", Open("lists endpoints, no data"), rt.help)
}

func (c Common) flags(w http.ResponseWriter, r *http.Request) error {
	return WriteJSON(w, r, append(AppendFlags([]byte(`{"flags":`), c.Flags), '}'))
}

// AppendFlags appends flags as a JSON object of strings, as `/flags` and
// `/state` hold them.
func AppendFlags(dst []byte, pairs []flags.Pair) []byte {
	dst = append(dst, '{')
	for i, p := range pairs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, p.Name), ':')
		dst = AppendString(dst, p.Value)
	}
	return append(dst, '}')
}

func (c Common) version(w http.ResponseWriter, r *http.Request) error {
	v := c.Version
	b := AppendString([]byte(`{"build_date":`), v.GetBuildDate())
	b = AppendDouble(append(b, `,"build_time":`...), v.GetBuildTime())
	b = AppendString(append(b, `,"build_user":`...), v.GetBuildUser())
	for _, f := range []struct {
		name  string
		value *string
	}{{"git_branch", v.GitBranch}, {"git_sha", v.GitSha}, {"git_tag", v.GitTag}} {
		if f.value != nil {
			b = append(AppendString(append(b, ','), f.name), ':')
			b = AppendString(b, *f.value)
		}
	}
	b = AppendString(append(b, `,"version":`...), v.GetVersion())
	return WriteJSON(w, r, append(b, '}'))
}

func systemStats(w http.ResponseWriter, r *http.Request) error {
	s, err := metrics.ReadSystem()
	if err != nil {
		return err
	}
	b := AppendDouble([]byte(`{"avg_load_15min":`), s.Load15)
	b = AppendDouble(append(b, `,"avg_load_1min":`...), s.Load1)
	b = AppendDouble(append(b, `,"avg_load_5min":`...), s.Load5)
	b = strconv.AppendInt(append(b, `,"cpus_total":`...), int64(s.CPUs), 10)
	b = strconv.AppendUint(append(b, `,"mem_free_bytes":`...), s.MemFreeBytes, 10)
	b = strconv.AppendUint(append(b, `,"mem_total_bytes":`...), s.MemTotalBytes, 10)
	return WriteJSON(w, r, append(b, '}'))
}

func (c Common) snapshot(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	var timeout time.Duration
	if query.Has("timeout") {
		text := query.Get("timeout")
		var err error
		if timeout, err = units.ParseDuration(text); err != nil {
			return BadRequest("Invalid timeout '%s': %v.\n", text, err)
		}
		if timeout <= 0 {
			timeout = metrics.Immediately // as in Mesos, where none would be for ever
		}
	}
	return WriteJSON(w, r, metrics.AppendJSON(nil, c.Metrics.Snapshot(timeout)))
}

// help lists the routes, in the shape of libprocess's help: markdown, or JSON
// with `format=json`.
func (rt *Router) help(w http.ResponseWriter, r *http.Request) error {
	names, routes := rt.processes()
	if r.URL.Query().Get("format") == "json" {
		type endpoint struct {
			Name string `json:"name"`
			Text string `json:"text"`
		}
		type process struct {
			ID        string     `json:"id"`
			Endpoints []endpoint `json:"endpoints"`
		}
		list := make([]process, 0, len(names))
		for _, n := range names {
			p := process{ID: n}
			for _, route := range routes[n] {
				p.Endpoints = append(p.Endpoints, endpoint{Name: route, Text: "### USAGE ###\n>        /" + n + route + "\n"})
			}
			list = append(list, p)
		}
		body, err := json.Marshal(map[string]any{"processes": list})
		if err != nil {
			return err
		}
		return WriteJSON(w, r, body)
	}
	var b strings.Builder
	only, _, _ := strings.Cut(Rest(r), "/")
	switch {
	case only == "":
		b.WriteString("## HELP\n")
		for _, n := range names {
			fmt.Fprintf(&b, "> [/%s][%s]\n", n, n)
		}
		b.WriteString("\n")
		for _, n := range names {
			fmt.Fprintf(&b, "[%s]: help/%s\n", n, n)
		}
	case routes[only] == nil:
		return BadRequest("No help available for '/%s'.\n", only)
	default:
		fmt.Fprintf(&b, "# /%s #\n", only)
		for _, route := range routes[only] {
			fmt.Fprintf(&b, "> /%s%s\n", only, route)
		}
	}
	Write(w, r, "text/x-markdown", []byte(b.String()))
	return nil
}

// AppendString appends a JSON string; bytes that are not UTF-8 become U+FFFD,
// so that the JSON is valid whatever a file or a label holds.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// AppendDouble appends a double the way Mesos writes it: shortest, but always
// with a point or an exponent. What JSON has no number for becomes 0.0.
func AppendDouble(dst []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, v, format, -1, 64)
	for _, c := range dst[start:] {
		if c == '.' || c == 'e' {
			return dst
		}
	}
	return append(dst, '.', '0')
}
