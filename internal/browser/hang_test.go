package browser

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"clusterd/internal/testcluster"
)

// TestLeaderHangs freezes the leader while pages of a master that follows it are open. Its
// connections stay open, and say nothing any more: the pages go on with the next leader, and
// so does the command line, whose first master it may be.
func TestLeaderHangs(t *testing.T) {
	c := start(t, testcluster.Options{Masters: 3, Agents: 1, Join: true})
	w := work(t, c, "patient", "while :; do echo tick; sleep 0.3; done")
	leader, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + follower(t, c).Addr
	tasks := open(t, base, "#/tasks")
	log := open(t, base, "#/tasks/"+w.framework+"/"+w.task+"?tab=output")
	for _, b := range []*tab{tasks, log} {
		b.allow(trouble...)
		eval[bool](b, `(window.notLoadedAnew = true)`)
	}
	tasks.sees("patient", "running")
	log.sees("tick")

	bin, err := testcluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	masters := []string{leader.Addr}
	for _, m := range c.Masters {
		if m != leader {
			masters = append(masters, m.Addr)
		}
	}
	// A log that is read stays as it is, also while the next leader has not heard of the agent.
	eval[bool](log, `(window.read = document.querySelector('.log')) !== null`)
	agent := c.Agents[0]
	for _, p := range []*testcluster.Process{agent, leader} {
		p.Signal(syscall.SIGSTOP, false)
		t.Cleanup(func() { p.Signal(syscall.SIGCONT, false) })
	}
	log.sees("The leader does not know this task", "tick")
	agent.Signal(syscall.SIGCONT, false)
	log.seesNot("The leader does not know this task")
	// Nobody may lead for a moment.
	if err := testcluster.Poll(func() error {
		ctx, cancel := context.WithTimeout(t.Context(), testcluster.Patience)
		defer cancel()
		said, err := exec.CommandContext(ctx, bin, "run", "--master="+strings.Join(masters, ","), "--detach", "--name=second", "--", "sleep", "1000").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, said)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	tasks.sees("second")
	before := eval[string](log, lastLine)
	log.wait("the log goes on", lastLine+" !== "+quote(before))
	if !eval[bool](log, `document.querySelector('.log') === window.read`) {
		t.Error("the log was opened anew")
	}
	for _, b := range []*tab{tasks, log} {
		b.wait("it is live again", `document.querySelector('.light').classList.contains('light-live') || document.querySelector('.light').classList.contains('light-failover')`)
		if !eval[bool](b, `window.notLoadedAnew === true`) {
			t.Error("the page was loaded anew")
		}
	}
}
