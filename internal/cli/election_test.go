package cli

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"clusterd/internal/cli/console"
	"clusterd/internal/testcluster"
)

// leads tells which master leads, of those that answer quickly.
func leads(t *testing.T, masters []*testcluster.Process) *testcluster.Process {
	t.Helper()
	var leader *testcluster.Process
	quick := &http.Client{Timeout: 2 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer quick.CloseIdleConnections()
	await(t, "a master leads", func() bool {
		for _, m := range masters {
			// The others answer with a redirect, or that nobody leads.
			if res, err := quick.Get("http://" + m.Addr + "/roles"); err == nil {
				_ = res.Body.Close()
				if res.StatusCode == http.StatusOK {
					leader = m
					return true
				}
			}
		}
		return false
	})
	return leader
}

// TestElection gives commands while the leader hangs, and when it has just died: they wait for
// the next one.
func TestElection(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Masters: 3, Agents: -1})
	leader := leads(t, c.Masters)
	// The leader is the first that is asked. It takes connections and answers nothing.
	order := []string{leader.Addr}
	var others []*testcluster.Process
	for _, m := range c.Masters {
		if m != leader {
			order, others = append(order, m.Addr), append(others, m)
		}
	}
	all, patient := "--master="+strings.Join(order, ","), "--leader_timeout=60s"
	leader.Signal(syscall.SIGSTOP, false)
	defer leader.Signal(syscall.SIGCONT, false)
	mustRun(t, "agent", "list", all, patient)
	mustRun(t, "weight", "set", "frozen=2", "--yes", all, patient)
	leader.Signal(syscall.SIGCONT, false)

	next := leads(t, others)
	follower := others[0]
	if follower == next {
		follower = others[1]
	}
	next.Kill()
	// Nothing was asked of the dead one: who changes something is not told that it may be done.
	one := "--master=" + follower.Addr
	mustRun(t, "agent", "list", one, patient)
	if out := mustRun(t, "weight", "list", one, patient); !strings.Contains(out, "frozen") {
		t.Errorf("the weight is lost:\n%s", out)
	}
	mustRun(t, "weight", "set", "dead=3", "--yes", one, patient)

	// Of three masters one is no majority.
	for _, m := range c.Masters {
		if m != follower {
			m.Kill()
		}
	}
	await(t, "nobody leads", func() bool {
		code, _, errOut := command("weight", "set", "none=3", "--yes", one, "--leader_timeout=0")
		return code == console.ExitUnreachable && strings.Contains(errOut, "No leader elected")
	})
	begin := time.Now()
	if code, _, errOut := command("weight", "list", one, "--leader_timeout=2s"); code != console.ExitUnreachable || time.Since(begin) < time.Second {
		t.Errorf("code %d after %s: %s", code, time.Since(begin), errOut)
	}
}

// lockedOutput is written by a command while the test looks at it.
type lockedOutput struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *lockedOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String is what was written so far.
func (o *lockedOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// TestKillOverFailover waits for the end of a task whose agent is away when the leader changes:
// the next leader does not know the task until the agent is back.
func TestKillOverFailover(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Masters: 3, Agents: 1})
	var all []string
	for _, m := range c.Masters {
		all = append(all, m.Addr)
	}
	to, patient := "--master="+strings.Join(all, ","), "--leader_timeout=60s"
	mustRun(t, "run", "--name=stays", "--detach", to, "--cpus=0.1", "--mem=32", "--", "sleep", "1000")
	await(t, "the task runs", func() bool {
		return strings.Contains(mustRun(t, "task", "list", "--filter", "state=running", to), "stays")
	})
	agent, leader := c.Agents[0], leads(t, c.Masters)
	agent.Signal(syscall.SIGSTOP, false)
	defer agent.Signal(syscall.SIGCONT, false)
	var out, errOut lockedOutput
	ended := make(chan int, 1)
	go func() {
		ended <- Main([]string{"clusterd", "task", "kill", "stays", "--wait", "--yes", to, patient}, strings.NewReader(""), &out, &errOut)
	}()
	await(t, "the leader was asked to kill it", func() bool { return strings.Contains(leader.Log(), "/tasks/kill") })
	leader.Kill()
	var left []*testcluster.Process
	for _, m := range c.Masters {
		if m != leader {
			left = append(left, m)
		}
	}
	leads(t, left)
	if code, _, text := command("task", "show", "stays", "--leader_timeout=1s", to); code != console.ExitNotFound || !strings.Contains(text, "1 agent not back since the leader changed") {
		t.Errorf("a task of an agent that is away: code %d, %s", code, text)
	}
	select {
	case code := <-ended:
		t.Fatalf("it did not wait: code %d, %s%s", code, &out, &errOut)
	default:
	}
	agent.Signal(syscall.SIGCONT, false)
	select {
	case code := <-ended:
		if code != console.ExitOK || !strings.Contains(out.String(), " KILLED") {
			t.Errorf("code %d, %s%s", code, &out, &errOut)
		}
	case <-time.After(2 * testcluster.Patience):
		t.Errorf("it waits on: %s%s", &out, &errOut)
	}
}
