package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"clusterd/internal/units"
)

// The things that a [Failure] can befall.
const (
	FailAgents = "agents" // some agents
	FailRack   = "rack"   // the agents of one rack
	FailMaster = "master" // the leader
)

// DefaultMasterOutage is how long there is no leader after a failure of the master
// that names no duration.
const DefaultMasterOutage = 2 * time.Second

// Failure is something that goes wrong.
type Failure struct {
	// Text is the failure as it was asked for.
	Text string
	Kind string
	// Of FailAgents: how many, or which part of all.
	Agents Share
	// Of FailRack: its name.
	Rack string
	// At is when it happens, For how long it lasts. Agents with For 0 do not return.
	At, For time.Duration
}

// ParseFailure reads WHAT@TIME[+DURATION], where WHAT is agents:N, agents:P%,
// rack:NAME or master.
func ParseFailure(text string) (Failure, error) {
	f := Failure{Text: text}
	what, when, ok := strings.Cut(text, "@")
	if !ok {
		return f, fmt.Errorf("%q does not say when: WHAT@TIME[+DURATION], such as agents:10%%@2h+30m", text)
	}
	at, during, lasts := strings.Cut(when, "+")
	var err error
	if f.At, err = ParseDuration(at); err != nil {
		return f, err
	}
	if lasts {
		if f.For, err = ParseDuration(during); err == nil && f.For == 0 {
			err = fmt.Errorf("%q lasts no time", text)
		}
		if err != nil {
			return f, err
		}
	}
	kind, which, _ := strings.Cut(what, ":")
	f.Kind = kind
	switch kind {
	case FailAgents:
		f.Agents, err = parseAgents(which)
	case FailRack:
		if f.Rack = which; which == "" {
			err = errors.New("which rack? rack:r1@1h")
		}
	case FailMaster:
		if which != "" {
			err = fmt.Errorf("master takes no %q", which)
		}
		if f.For == 0 {
			f.For = DefaultMasterOutage
		}
	default:
		err = fmt.Errorf("%q is not agents:N, agents:P%%, rack:NAME or master", what)
	}
	return f, err
}

func parseAgents(which string) (Share, error) {
	if strings.HasSuffix(which, "%") {
		p, err := units.ParsePercent(which)
		return Share{p, true}, err
	}
	n, err := strconv.Atoi(which)
	if err != nil || n < 1 {
		return Share{}, fmt.Errorf("%q is neither a number of agents nor a percentage", which)
	}
	return Share{Amount: float64(n)}, nil
}
