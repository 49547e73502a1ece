package work

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

// healthFlags describe the health check of a task.
func healthFlags() []cliv2.Flag {
	return []cliv2.Flag{
		&cliv2.StringFlag{Name: "health_cmd", Aliases: []string{"health-cmd"}, Usage: "the task is healthy while this `COMMAND` exits with 0"},
		&cliv2.StringFlag{Name: "health_http", Aliases: []string{"health-http"}, Usage: "the task is healthy while it answers `[https://]PORT[/PATH]`; PORT may be PORT0"},
		&cliv2.StringFlag{Name: "health_tcp", Aliases: []string{"health-tcp"}, Usage: "the task is healthy while it takes connections on `PORT`, which may be PORT0"},
		&cliv2.DurationFlag{Name: "health_interval", Aliases: []string{"health-interval"}, Usage: "`DURATION` between two checks", Value: 10 * time.Second},
		&cliv2.DurationFlag{Name: "health_timeout", Aliases: []string{"health-timeout"}, Usage: "`DURATION` after which a check has failed", Value: 20 * time.Second},
		&cliv2.DurationFlag{Name: "health_delay", Aliases: []string{"health-delay"}, Usage: "`DURATION` before the first check"},
		&cliv2.DurationFlag{Name: "health_grace", Aliases: []string{"health-grace"}, Usage: "`DURATION` from the start in which failures do not count", Value: 10 * time.Second},
		&cliv2.IntFlag{Name: "health_failures", Aliases: []string{"health-failures"}, Usage: "kill the task after this `NUMBER` of failures in a row", Value: 3},
	}
}

// healthCheck is a check whose port may be known only with the offer.
type healthCheck struct {
	check *mesos.HealthCheck
	port  string // a number, or PORT0, PORT1, ...
}

// healthOf reads the flags; nil: no check.
func healthOf(c *cliv2.Context) (*healthCheck, error) {
	var given []string
	for _, name := range []string{"health_cmd", "health_http", "health_tcp"} {
		if c.String(name) != "" {
			given = append(given, "--"+name)
		}
	}
	if len(given) == 0 {
		return nil, nil //nolint:nilnil // nil is no check
	}
	if len(given) > 1 {
		return nil, fmt.Errorf("%w: a task has one health check, not %s", console.ErrUsage, strings.Join(given, " and "))
	}
	h := &healthCheck{check: &mesos.HealthCheck{
		IntervalSeconds:     new(c.Duration("health_interval").Seconds()),
		TimeoutSeconds:      new(c.Duration("health_timeout").Seconds()),
		DelaySeconds:        new(c.Duration("health_delay").Seconds()),
		GracePeriodSeconds:  new(c.Duration("health_grace").Seconds()),
		ConsecutiveFailures: new(uint32(max(c.Int("health_failures"), 1))),
	}}
	switch {
	case c.String("health_cmd") != "":
		h.check.Type = mesos.HealthCheck_COMMAND.Enum()
		h.check.Command = &mesos.CommandInfo{Shell: new(true), Value: new(c.String("health_cmd"))}
	case c.String("health_http") != "":
		text := c.String("health_http")
		scheme, rest, ok := strings.Cut(text, "://")
		if !ok {
			scheme, rest = "http", text
		}
		if scheme != "http" && scheme != "https" {
			return nil, fmt.Errorf("%w: --health_http %q: http or https", console.ErrUsage, text)
		}
		port, path, _ := strings.Cut(strings.TrimPrefix(rest, ":"), "/")
		h.port = port
		h.check.Type = mesos.HealthCheck_HTTP.Enum()
		h.check.Http = &mesos.HealthCheck_HTTPCheckInfo{Scheme: &scheme, Path: new("/" + path)}
	default:
		h.port = c.String("health_tcp")
		h.check.Type = mesos.HealthCheck_TCP.Enum()
		h.check.Tcp = &mesos.HealthCheck_TCPCheckInfo{}
	}
	if h.port != "" {
		if _, err := portNumber(h.port, nil); err != nil {
			return nil, fmt.Errorf("%w: health check: %w", console.ErrUsage, err)
		}
	}
	return h, nil
}

// portNumber reads a port: a number, or PORT0 for the first of those that the task got.
// Without any, 0 stands for those.
func portNumber(text string, ports []uint64) (uint32, error) {
	if index, ok := strings.CutPrefix(strings.TrimPrefix(text, "$"), "PORT"); ok {
		i := 0
		if index != "" {
			var err error
			if i, err = strconv.Atoi(index); err != nil {
				return 0, fmt.Errorf("%q is no port", text)
			}
		}
		if ports == nil {
			return 0, nil
		}
		if i < 0 || i >= len(ports) {
			return 0, fmt.Errorf("there is no %s: the task has %d ports (--port)", text, len(ports))
		}
		return uint32(ports[i]), nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port", text)
	}
	return uint32(n), nil
}

// proto is the check with its port.
func (h *healthCheck) proto(ports []uint64) (*mesos.HealthCheck, error) {
	if h == nil {
		return nil, nil //nolint:nilnil // nil is no check
	}
	if h.port == "" {
		return h.check, nil
	}
	port, err := portNumber(h.port, ports)
	if err != nil {
		return nil, fmt.Errorf("%w: health check: %w", console.ErrUsage, err)
	}
	out := &mesos.HealthCheck{
		Type: h.check.Type, IntervalSeconds: h.check.IntervalSeconds, TimeoutSeconds: h.check.TimeoutSeconds,
		DelaySeconds: h.check.DelaySeconds, GracePeriodSeconds: h.check.GracePeriodSeconds, ConsecutiveFailures: h.check.ConsecutiveFailures,
	}
	if h.check.Http != nil {
		out.Http = &mesos.HealthCheck_HTTPCheckInfo{Scheme: h.check.Http.Scheme, Path: h.check.Http.Path, Port: &port}
	} else {
		out.Tcp = &mesos.HealthCheck_TCPCheckInfo{Port: &port}
	}
	return out, nil
}
