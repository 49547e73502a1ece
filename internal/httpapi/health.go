package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// HealthStatus is what a check has found.
type HealthStatus int

// What a check may find. Degraded is told to who asks for it, but is no reason to
// take the process out of service, or to restart it: it does what it can.
const (
	Healthy HealthStatus = iota
	Degraded
	Unhealthy
)

// String returns the status in small letters.
func (s HealthStatus) String() string {
	switch s {
	case Healthy:
		return "healthy"
	case Degraded:
		return "degraded"
	default:
		return "unhealthy"
	}
}

// Check is one thing that `/health` looks at.
type Check struct {
	// Name of the check: "core", "registry", "disk".
	Name   string
	Status HealthStatus
	// Reason says in a sentence why it is not healthy, or what it is doing.
	Reason string
	// Since is when it became so; zero when that is not known.
	Since time.Time
}

// AllHealthy says that no check is unhealthy.
func AllHealthy(checks []Check) bool {
	for _, c := range checks {
		if c.Status == Unhealthy {
			return false
		}
	}
	return true
}

// health answers 200 with an empty body, as Mesos does, or 503 with a line for each
// reason. With `verbose` in the query the body is JSON with all checks.
func (c Common) health(w http.ResponseWriter, r *http.Request) error {
	var checks []Check
	if c.Health != nil {
		checks = c.Health()
	}
	worst := Healthy
	var reasons strings.Builder
	for _, check := range checks {
		worst = max(worst, check.Status)
		if check.Status == Unhealthy {
			reasons.WriteString(check.Name + ": " + check.Reason + "\n")
		}
	}
	status := http.StatusOK
	if worst == Unhealthy {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	if verbose := r.URL.Query(); verbose.Has("verbose") && verbose.Get("verbose") != "false" {
		return writeHealth(w, r, status, worst, checks)
	}
	if status == http.StatusOK {
		w.Header().Del("Cache-Control") // just as Mesos's
		WriteStatus(w, status)
		return nil
	}
	return &Error{Status: status, Body: reasons.String()}
}

func writeHealth(w http.ResponseWriter, r *http.Request, status int, worst HealthStatus, checks []Check) error {
	type check struct {
		Name   string     `json:"name"`
		Status string     `json:"status"`
		Reason string     `json:"reason,omitempty"`
		Since  *time.Time `json:"since,omitempty"`
	}
	all := make([]check, 0, len(checks))
	for _, c := range checks {
		out := check{Name: c.Name, Status: c.Status.String(), Reason: c.Reason}
		if !c.Since.IsZero() {
			out.Since = &c.Since
		}
		all = append(all, out)
	}
	body, err := json.Marshal(map[string]any{"status": worst.String(), "checks": all})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", JSON.String())
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		writeBody(w, body)
	}
	return nil
}
