package commandexecutor

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"clusterd/agent/executorlink/wire"
)

func TestEnvironmentOrder(t *testing.T) {
	got := environment([]string{"A=1", "B=2", "A=3"}, &wire.Command{Env: []wire.Variable{{Name: "B", Value: "x=y"}, {Name: "C", Value: ""}}}, wire.Variable{Name: "C", Value: "last"})
	if diff := cmp.Diff([]string{"A=1", "B=x=y", "A=3", "C=last"}, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}
