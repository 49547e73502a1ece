package cli

import (
	"errors"
	"strings"
	"testing"

	"clusterd/internal/flags"
)

// TestSocketStatistics gives the flag that became two by its old name.
func TestSocketStatistics(t *testing.T) {
	for _, c := range []struct {
		flag             string
		summary, details bool
	}{
		{"--network_enable_socket_statistics", true, true},
		{"--no-network_enable_socket_statistics", false, false},
		{"--network_enable_socket_statistics_summary", true, false},
		{"--network_enable_socket_statistics_details", false, true},
	} {
		v, err := flags.Agent().Parse([]string{"--master=a:1", "--work_dir=/w", c.flag}, nil)
		if err != nil {
			t.Fatal(err)
		}
		o, err := networkOptions(v)
		if err != nil {
			t.Fatal(err)
		}
		if p := o.PortMapping; p.SocketSummary != c.summary || p.SocketDetails != c.details {
			t.Errorf("%s: got summary %v, details %v", c.flag, p.SocketSummary, p.SocketDetails)
		}
	}
}

// TestTooManyEphemeralPorts: the number that is refused is the one that was given.
func TestTooManyEphemeralPorts(t *testing.T) {
	v, err := flags.Agent().Parse([]string{"--master=a:1", "--work_dir=/w", "--ephemeral_ports_per_container=65536"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = networkOptions(v)
	if !errors.Is(err, flags.ErrInvalidValue) || !strings.Contains(err.Error(), "65536") {
		t.Errorf("got %v", err)
	}
}
