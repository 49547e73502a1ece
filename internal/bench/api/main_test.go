package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"clusterd/internal/testcluster"
)

// TestSections runs every section once with little, so that the benchmark works when
// it is wanted.
func TestSections(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three masters")
	}
	t.Cleanup(testcluster.RemoveBinary)
	var out bytes.Buffer
	args := []string{
		"-agents=20", "-tasks=200", "-frameworks=4", "-clients=2", "-subscribers=3", "-rate=500", "-many=10", "-samples=2", "-length=200ms",
	}
	var progress strings.Builder
	if err := run(t.Context(), args, &out, io.MultiWriter(&progress, t.Output())); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"/state, 1 client", "GET_STATE protobuf, 1 client", "/state gzip", "- 2 clients",
		"/tasks?limit=100 ", "/tasks?limit=100&offset=200, 100 updates/s", "/metrics (Prometheus), 4 frameworks", "GET_METRICS JSON, 9 + 1 frameworks",
		"/health, alone", "free resources -> OFFERS, 2 clients poll /state", "inputs wait for the core, 2 clients", "the core makes a view for readers, alone",
		"memory of the master of 20 agents", "3 subscribers get the state of 20 tasks", "0 subscribers were cut off",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no line with %q in\n%s", want, out.String())
		}
	}
	if t.Failed() {
		t.Log(progress.String())
	}
}

func TestHistogram(t *testing.T) {
	read := func(text string) histogram {
		h, err := readHistogram([]byte(text), "x")
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	before := read("x_bucket{le=\"0.001\"} 5\nx_bucket{le=\"0.01\"} 6\nx_bucket{le=\"+Inf\"} 6\nx_sum 1\n")
	after := read("x_bucket{le=\"0.001\"} 104\nx_bucket{le=\"0.01\"} 106\nx_bucket{le=\"+Inf\"} 106\nx_sum 1\n")
	if got, want := after.since(before), "p50 <= 1.00 ms, p99 <= 1.00 ms, all <= 10.0 ms"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := after.since(after); got != "none" {
		t.Errorf("of nothing: got %q, want none", got)
	}
	beyond := read("x_bucket{le=\"0.001\"} 104\nx_bucket{le=\"0.01\"} 106\nx_bucket{le=\"+Inf\"} 107\n")
	if got, want := beyond.since(after), "p50 > 60 s, p99 > 60 s, all > 60 s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := readHistogram(nil, "x"); err == nil {
		t.Error("nothing is a histogram")
	}
}
