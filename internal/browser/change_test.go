package browser

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"

	"clusterd/internal/testcluster"
)

// fromLeaderToLeader is what somebody has open while the leader changes.
type fromLeaderToLeader struct {
	tasks, quota, terminal, files, framework, palette *tab
}

func (f *fromLeaderToLeader) all() []*tab {
	return []*tab{f.tasks, f.quota, f.terminal, f.files, f.framework, f.palette}
}

// openAll opens pages, and leaves each in the midst of something.
func openAll(t *testing.T, base string, w ids) *fromLeaderToLeader {
	t.Helper()
	page := func(path string) *tab {
		b := blank(t, base, 1440, 480) // a low window: tables scroll
		b.allow(append([]string{"WebSocket"}, trouble...)...)
		b.goTo(path)
		eval[bool](b, `(window.notLoadedAnew = true)`)
		return b
	}
	f := &fromLeaderToLeader{
		tasks:     page("#/tasks?q=many&sort=-name"),
		quota:     page("#/roles"),
		terminal:  page("#/tasks/" + w.framework + "/" + w.task + "?tab=terminal"),
		files:     page("#/agents/" + w.agent + "/frameworks/" + w.framework + "/executors/" + w.executor + "/browse"),
		framework: page("#/frameworks/" + w.framework),
		palette:   page("#/"),
	}
	f.tasks.wait("all tasks are listed", rowCount+` === 13`)
	eval[bool](f.tasks, `(document.querySelector('.table-scroll').scrollTop = 1e6, true)`)
	f.tasks.wait("it has scrolled", scrollTop+` > 76`)

	f.quota.press("Set a quota")
	f.quota.fill("Role", "prod")
	f.quota.fill("CPUs: guarantee", "1")

	f.terminal.press("Open terminal")
	f.terminal.sees("Connected.")
	f.terminal.wait("the shell is ready", `document.querySelector('.xterm-rows')?.innerText.trim().length > 0`)
	f.terminal.keys("echo he$((1+1))llo\r")
	f.terminal.wait("the shell answers", `document.querySelector('.xterm-rows').innerText.includes('he2llo')`)

	f.files.sees("stdout", "stderr")
	f.framework.sees("many")

	f.palette.keys("k", chromedp.ModifierCtrl)
	f.palette.fill("Go to a page", "many")
	f.palette.wait("the palette finds it", `document.querySelectorAll('[role=option]').length > 3`)
	return f
}

const (
	rowCount  = `Number(document.querySelector('.table-scroll')?.ariaRowCount)`
	scrollTop = `document.querySelector('.table-scroll').scrollTop`
)

// TestWorkGoesOn kills the leader while people are in the midst of something, and an agent that
// does not come back for a while: nobody loses what they have typed, opened or scrolled to.
func TestWorkGoesOn(t *testing.T) {
	c := start(t, testcluster.Options{Masters: 3, Agents: 1, Join: true, EachAgent: func(int) []string {
		return []string{"--resources=cpus:16;mem:4096;disk:8192"}
	}})
	w := work(t, c, "many", "sleep 1000", "--count=12", "--cpus=0.1", "--mem=32")
	leader, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	f := openAll(t, "http://"+follower(t, c).Addr, w)
	place := eval[float64](f.tasks, scrollTop)

	agent := c.Agents[0]
	agent.Signal(syscall.SIGSTOP, false)
	t.Cleanup(func() { agent.Signal(syscall.SIGCONT, false) })
	leader.Kill()

	// The next leader knows the agent by name only, and none of its tasks.
	f.tasks.wait("the tasks are not known", rowCount+` === 1`)
	f.tasks.sees("1 agent has not come back since the leader changed")
	f.terminal.sees("The connection was lost", "Reconnect", "The leader does not know this task")
	f.terminal.wait("what the terminal showed stays", `document.querySelector('.xterm-rows').innerText.includes('he2llo')`)
	f.files.sees("stdout", "stderr")
	f.framework.sees("clusterd run")
	f.framework.seesNot("is not known")
	for _, b := range f.all() {
		b.wait("it knows the next leader", `document.querySelector('.light').classList.contains('light-live') || document.querySelector('.light').classList.contains('light-failover')`)
	}
	f.quota.wait("what was typed stays", `(`+field("Role")+`)?.value === 'prod' && (`+field("CPUs: guarantee")+`)?.value === '1'`)
	f.palette.wait("what was typed stays", `(`+field("Go to a page")+`)?.value === 'many'`)

	agent.Signal(syscall.SIGCONT, false)
	f.tasks.wait("the tasks are back", rowCount+` === 13`)
	f.tasks.wait("the reader is where they were", fmt.Sprintf(`Math.abs(%s - %v) < 2`, scrollTop, place))
	if got := eval[string](f.tasks, `location.hash`); got != "#/tasks?q=many&sort=-name" {
		t.Errorf("the table is another: %s", got)
	}
	f.quota.press("Set the quota")
	f.quota.sees("prod has a new quota")
	says(t, c, "/quota", `"role":"prod"`)
	f.framework.sees("12")
	f.files.seesNot("cannot be read")
	f.terminal.seesNot("The leader does not know this task")
	f.terminal.press("Reconnect")
	f.terminal.sees("Connected.")
	f.terminal.wait("the shell is ready", `document.querySelector('.xterm-rows')?.innerText.trim().length > 0`)
	f.terminal.keys("echo ag$((1+1))in; exit\r")
	f.terminal.sees("Run again")
	f.terminal.wait("the shell answered", `document.querySelector('.xterm-rows').innerText.includes('ag2in')`)
	for _, b := range f.all() {
		if !eval[bool](b, `window.notLoadedAnew === true`) {
			t.Error("a page was loaded anew")
		}
	}
}
