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
		t.Skip("starts a dozen masters")
	}
	t.Cleanup(testcluster.RemoveBinary)
	var out bytes.Buffer
	args := []string{"-rounds=1", "-agents=20", "-registry=50", "-jitter=50ms"}
	if err := run(t.Context(), args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"leader killed -> SUBSCRIBED", "20 agents with 5 tasks each", "2 agents with 100 tasks each",
		"registry of 3: admit 50 agents", "memory of a follower",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no line with %q in\n%s", want, out.String())
		}
	}
}
