package work_test

import (
	"testing"

	"clusterd/internal/testcluster"
)

// TestOneMaster reaches everything through one master, which does not lead, and goes on when
// the leader dies.
func TestOneMaster(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Masters: 3, AgentFlags: agentFlags})
	leader, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	follower := c.Masters[0]
	if follower == leader {
		follower = c.Masters[1]
	}
	x := atTerminal(t, follower.Addr, "run", "--name", "long", "--", "sh", "-c", "echo up; until [ -e go ]; do sleep 0.1; done; echo went; exit 4")
	x.sees("up")
	y := atTerminal(t, follower.Addr, "logs", "-f", "long")
	y.sees("up")
	if got := run(t, follower.Addr, "exec", "long", "--", "echo", "inside"); got != "inside\n" {
		t.Errorf("exec: %q", got)
	}
	leader.Kill()
	// Until there is another leader, and the agent has registered there.
	if err := testcluster.Poll(func() error {
		return command(t.Context(), t, follower.Addr, "exec", "long", "--", "touch", "go").Run()
	}); err != nil {
		t.Fatal(err)
	}
	x.sees("went")
	x.ends(4)
	y.sees("went")
	y.ends(0)
}
