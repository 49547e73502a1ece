package cli

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestSimScripts runs the scripts of testdata/sim, which need no cluster.
func TestSimScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/sim"})
}
