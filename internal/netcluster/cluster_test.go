package netcluster

import (
	"syscall"
	"testing"
	"time"
)

// TestSingle checks the harness itself with one master: what is killed, stopped and
// cut off comes back, and the workload sees no harm.
func TestSingle(t *testing.T) {
	c := Start(t, Options{Masters: 1, Agents: 2})
	w := c.Subscribe(t, WorkloadOptions{Long: 6, Short: 2})
	m := c.Masters[0]
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"kill the master", func() error {
			n := w.Subscriptions()
			m.Kill()
			if err := m.Start(); err != nil {
				return err
			}
			return w.AwaitSubscription(n)
		}},
		{"kill an agent", func() error { c.Agents[0].Kill(); return c.Agents[0].Start() }},
		{"stop the master", func() error { m.Signal(syscall.SIGSTOP); m.Signal(syscall.SIGCONT); return nil }},
		{"cut an agent off", func() error {
			c.Net.Partition(c.Agents[1].Host)
			pass(t, 2*time.Second)
			c.Net.Heal()
			return nil
		}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if err := c.WaitAgents(2); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if err := w.AwaitWork(3); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
	}
	if err := w.Check(c); err != nil {
		t.Fatal(err)
	}
	t.Log(w)
}
