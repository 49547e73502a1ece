package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"clusterd/internal/testcluster"
)

// TestSections runs the benchmark once with little, so that it works when it is wanted.
func TestSections(t *testing.T) {
	if testing.Short() {
		t.Skip("starts masters and agents")
	}
	if os.Geteuid() != 0 {
		t.Skip("the linux launcher needs root")
	}
	t.Cleanup(testcluster.RemoveBinary)
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-containers=4", "-read=2", "-samples=1"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"4 containers without an image: launch", "4 containers of an image: destroy", "/containers with 2", "4 tasks: KILL",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no line with %q in\n%s", want, out.String())
		}
	}
}
