package browser

import (
	"os"
	"path/filepath"
	"testing"

	"clusterd/internal/testcluster"
)

// trouble is what the browser says of requests to a master that is dead, or leads no more.
var trouble = []string{"net::ERR", "status of 502", "status of 503", "status of 504"}

// TestFailover kills the leader while pages of a master that follows it are open: a banner
// says so, then they go on with the new leader, without being loaded anew.
func TestFailover(t *testing.T) {
	c := start(t, testcluster.Options{Masters: 3, Agents: 2})
	end := filepath.Join(t.TempDir(), "end")
	w := work(t, c, "patient", "while ! test -e "+end+"; do echo tick; sleep 0.3; done")
	leader, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + follower(t, c).Addr
	tasks := open(t, base, "#/tasks")
	tasks.allow(trouble...)
	tasks.sees("patient", "running")
	task := open(t, base, "#/tasks/"+w.framework+"/"+w.task)
	task.allow(trouble...)
	task.sees("running")
	log := open(t, base, "#/tasks/"+w.framework+"/"+w.task+"?tab=output")
	log.allow(trouble...)
	log.sees("tick")
	for _, b := range []*tab{tasks, task, log} {
		eval[bool](b, `(window.notLoadedAnew = true)`)
		// Banners come and go faster than anybody polls.
		eval[bool](b, `(window.banners = [], new MutationObserver(() => {
			const b = document.querySelector('.banner')
			if (b !== null) window.banners.push(b.innerText)
		}).observe(document.body, {subtree: true, childList: true, characterData: true}), true)`)
	}

	leader.Kill()
	for _, b := range []*tab{tasks, task, log} {
		b.wait("a banner says that nobody leads, or somebody else", `window.banners.length > 0`)
		b.wait("it is live again", `document.querySelector('.light').classList.contains('light-live') || document.querySelector('.light').classList.contains('light-failover')`)
	}
	tasks.wait("a banner names the new leader", `window.banners.some((b) => b.includes('leads now'))`)
	tasks.sees("patient", "running")

	// What happens after it is seen.
	work(t, c, "second", "sleep 1000")
	tasks.sees("second")
	before := eval[string](log, lastLine)
	log.wait("the log goes on", lastLine+" !== "+quote(before))
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	task.sees("finished")
	for _, b := range []*tab{tasks, task, log} {
		if !eval[bool](b, `window.notLoadedAnew === true`) {
			t.Error("the page was loaded anew")
		}
	}
}

// lastLine says in JavaScript how much of a log there is.
const lastLine = `document.querySelector('.log-foot').innerText`
