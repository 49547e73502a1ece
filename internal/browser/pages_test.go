package browser

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// place is a page and what it must say.
type place struct {
	path  string
	texts []string
	lands string // how the path begins to which this one leads, if that is another's
}

// places are all pages of a cluster in which a task runs.
func places(w ids) []place {
	executor := "#/agents/" + w.agent + "/frameworks/" + w.framework + "/executors/" + w.executor
	return []place{
		{"#/", []string{"CPUs", "Tasks by state", "Allocation by role", "leads"}, ""},
		{"#/agents", []string{"node1", "node2", "node3", "active"}, ""},
		{"#/agents/" + w.agent, []string{w.agent, "Reservations and volumes", "Allocated to frameworks"}, ""},
		{"#/agents/" + w.agent + "/containers", []string{"web"}, "#/agents/" + w.agent + "?tab=containers"},
		{"#/agents/" + w.agent + "/frameworks/" + w.framework, []string{"web"}, ""},
		{executor, []string{"web"}, ""},
		{executor + "/browse", []string{"stdout", "stderr"}, "#/agents/" + w.agent + "/browse?path=/"},
		{"#/frameworks", []string{"clusterd run"}, ""},
		{"#/frameworks/" + w.framework, []string{"clusterd run", "web"}, ""},
		{"#/tasks", []string{"web", "running"}, ""},
		{"#/tasks/" + w.framework + "/" + w.task, []string{"web", "running"}, ""},
		{"#/roles", []string{"Roles", "allocation and quota"}, ""},
		{"#/offers", []string{"Offers"}, ""},
		{"#/maintenance", []string{"Maintenance"}, ""},
		{"#/registry", []string{"leads", "localhost"}, ""},
		{"#/flags", []string{"allocation_interval"}, ""},
		{"#/metrics", []string{"master/"}, ""},
		{"#/browse", []string{"log", "INF"}, ""},
		{"#/nowhere", []string{"There is no such page"}, ""},
	}
}

// TestPages opens every page of a cluster in which something runs, on a master that does
// not lead: twice, by its address and by a link from another page.
func TestPages(t *testing.T) {
	c := shared(t)
	w := work(t, c, "web", "for i in $(seq 100000); do echo line $i; sleep 0.2; done")
	b := open(t, "http://"+follower(t, c).Addr, "#/")
	for _, p := range places(w) {
		t.Run(p.path, func(t *testing.T) {
			b.in(t)
			b.do(chromedp.Navigate("about:blank"))
			b.goTo(p.path)
			b.sees(p.texts...)
			b.quiet()
		})
	}
	b.t = t
	b.goTo("#/")
	for _, p := range places(w) {
		b.follow(p)
	}
}
