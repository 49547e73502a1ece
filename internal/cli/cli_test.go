package cli

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"clusterd/internal/cli/scripttest"
	"clusterd/internal/testcluster"
)

func TestMain(m *testing.M) {
	run := func() { os.Exit(Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
	programs := map[string]func(){"clusterd": run}
	for _, name := range linkNames() {
		programs[name] = run
	}
	testscript.Main(cleaning{m}, scripttest.With(programs))
}

// cleaning removes the binary that tests may have built.
type cleaning struct{ *testing.M }

// Run implements testscript.TestingM.
func (c cleaning) Run() int {
	defer testcluster.RemoveBinary()
	return c.M.Run()
}

// TestScripts runs the scripts of testdata/script against one real master and
// agent: what a person types, sees and gets as exit code.
func TestScripts(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{"--resources=cpus:4;mem:4096;disk:4096;ports:[31000-31100]"}})
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("CLUSTERD_MASTER", c.Master.Addr)
			e.Setenv("MASTER_WORK_DIR", c.Master.WorkDir)
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
	})
}
