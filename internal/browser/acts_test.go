package browser

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"clusterd/internal/registryapi"
	"clusterd/internal/testcluster"
)

// TestActs does everything that the pages offer to do, each by mouse, and sees in the page
// and at the master that it was done. It asks a master that does not lead.
func TestActs(t *testing.T) {
	c := start(t, testcluster.Options{Masters: 3, Agents: 3, EachAgent: func(i int) []string {
		return []string{fmt.Sprintf("--hostname=node%d", i+1), "--resources=cpus:4;mem:2048;disk:8192"}
	}})
	b := open(t, "http://"+follower(t, c).Addr, "#/")
	act := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			b.in(t)
			b.do(chromedp.Navigate("about:blank")) // whatever the last one left open
			f(t)
			b.quiet()
		})
		b.t = t
	}
	act("kill a task", func(t *testing.T) { kill(t, b, c) })
	act("quota", func(t *testing.T) { quota(t, b, c) })
	act("weight", func(t *testing.T) { weight(t, b, c) })
	act("reserve", func(t *testing.T) { reserve(t, b, c) })
	act("deactivate", func(*testing.T) { deactivate(b, agentNamed(t, c, "node2")) })
	act("drain", func(t *testing.T) { drain(t, b, c) })
	act("cancel a drain", func(t *testing.T) { cancelDrain(t, b, c) })
	act("from the palette", func(t *testing.T) { fromPalette(t, b, c) })
	act("tear down", func(t *testing.T) { teardown(t, b, c) })
	act("maintenance", func(t *testing.T) { maintenance(t, b, c) })
	act("mark gone", func(t *testing.T) { gone(t, b, c) })
	act("transfer", func(t *testing.T) { transfer(t, b, c) })
	act("hand over", func(t *testing.T) { handOver(t, b, c) })
	act("remove a master, add it", func(t *testing.T) { members(t, b, c) })
}

// says waits until what the leader answers to a path contains the text, blanks left out.
func says(t *testing.T, c *testcluster.Cluster, path, text string) {
	t.Helper()
	if err := testcluster.Poll(func() error {
		leader, err := c.Leader()
		if err != nil {
			return err
		}
		body, err := testcluster.Get("http://" + leader.Addr + path)
		if err == nil && !strings.Contains(strings.ReplaceAll(body, " ", ""), text) {
			return fmt.Errorf("%s says nothing of %s: %s", path, text, body)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// agentNamed is the id of the active agent on a host.
func agentNamed(t *testing.T, c *testcluster.Cluster, host string) string {
	t.Helper()
	var s struct {
		Slaves []struct {
			ID, Hostname string
			Active       bool
		}
	}
	var id string
	if err := testcluster.Poll(func() error {
		body, err := c.State()
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			return err
		}
		for _, a := range s.Slaves {
			if a.Hostname == host && a.Active {
				id = a.ID
				return nil
			}
		}
		return fmt.Errorf("no active agent on %s", host)
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

func kill(t *testing.T, b *tab, c *testcluster.Cluster) {
	w := work(t, c, "victim", "sleep 1000")
	b.goTo("#/tasks/" + w.framework + "/" + w.task)
	b.sees("running")
	b.press("Kill")
	b.sees("Kill victim", w.task, "may start it again")
	b.press("Kill 1 task")
	b.sees("is asked to end", "killed")
	says(t, c, "/state", `"state":"TASK_KILLED"`)

	// One that would take its time is given none.
	w = work(t, c, "stubborn", "trap '' TERM; while :; do sleep 1; done", "--grace=1h")
	b.goTo("#/tasks/" + w.framework + "/" + w.task)
	b.press("Kill")
	b.fill("Give it another grace period", "")
	b.fill("Seconds", "0")
	b.press("Kill 1 task")
	b.sees("is asked to end", "killed")
}

func quota(t *testing.T, b *tab, c *testcluster.Cluster) {
	b.goTo("#/roles")
	b.press("Set a quota")
	b.fill("Role", "prod")
	b.fill("CPUs: guarantee", "1")
	b.fill("CPUs: limit", "2")
	b.press("Set the quota")
	b.sees("prod has a new quota", "prod")
	says(t, c, "/quota", `"role":"prod"`)
	b.choose("Acts on prod", "Edit the quota…")
	b.fill("Memory (MB): limit", "1024")
	b.press("Set the quota")
	b.seesNot("Quota of prod")
	says(t, c, "/roles", `"mem":1024.0`)
	b.choose("Acts on prod", "Remove the quota…")
	b.sees("Remove the quota of prod", "guaranteed 1 CPU")
	b.press("Remove the quota")
	b.sees("prod has no quota any more")
	says(t, c, "/quota", "{}")
}

func weight(t *testing.T, b *tab, c *testcluster.Cluster) {
	work(t, c, "weighty", "sleep 1000", "--role=batch")
	b.goTo("#/roles")
	b.choose("Acts on batch", "Change the weight…")
	b.fill("Weight", "3.5")
	b.press("Set the weight")
	b.sees("batch has the weight 3.5")
	says(t, c, "/weights", `"weight":3.5`)
}

func reserve(t *testing.T, b *tab, c *testcluster.Cluster) {
	id := agentNamed(t, c, "node1")
	b.goTo("#/agents/" + id + "?tab=reservations")
	b.press("Reserve")
	b.fill("Role", "prod")
	b.fill("CPUs", "1")
	b.fill("Disk (MB)", "512")
	b.press("Reserve")
	b.sees("are reserved for prod", "dynamic")
	b.choose("Actions on 512 MiB disk of prod", "Create volume…")
	b.fill("Id", "pgdata")
	b.fill("Size (MB)", "256")
	b.press("Create the volume")
	b.sees("The volume pgdata was created")
	says(t, c, "/slaves", `"id":"pgdata"`)
	b.choose("Actions on volume pgdata", "Destroy…")
	b.sees("All data in it is deleted")
	b.fill("Type", "pgdata")
	b.press("Destroy the volume and its data")
	b.sees("No persistent volumes")
	for _, what := range []string{"512 MiB disk", "1 cpus"} {
		b.choose("Actions on "+what+" of prod", "Unreserve…")
		b.press("Unreserve")
		b.wait("the dialog is closed", "document.querySelector('dialog[open]') === null")
	}
	b.sees("Nothing is reserved here")
}

func deactivate(b *tab, agent string) {
	b.goTo("#/agents/" + agent)
	b.choose("Actions", "Deactivate…")
	b.sees("offers of this agent are taken back")
	b.press("Deactivate")
	b.sees("Deactivated. Its tasks go on")
	b.choose("Actions", "Reactivate…")
	b.press("Reactivate")
	b.sees("is active again")
	b.seesNot("Deactivated. Its tasks go on")
}

func drain(t *testing.T, b *tab, c *testcluster.Cluster) {
	w := work(t, c, "drained", "sleep 1000")
	b.goTo("#/agents/" + w.agent)
	b.choose("Actions", "Drain…")
	b.sees("1 task of 1 framework runs there")
	b.fill("Limit the grace period", "")
	b.fill("At most", "1")
	b.fill("Unit", "1")
	b.press("Drain, kill 1 task")
	b.sees("Drained. No task runs here any more")
	says(t, c, "/slaves", `"state":"DRAINED"`)
	b.choose("Actions", "Reactivate…")
	b.press("Reactivate")
	b.seesNot("Drained. No task")
}

// cancelDrain takes back the drain of an agent whose task does not end when it is asked to.
func cancelDrain(t *testing.T, b *tab, c *testcluster.Cluster) {
	w := work(t, c, "slow", "trap '' TERM; while :; do sleep 1; done", "--grace=1h")
	b.goTo("#/agents/" + w.agent)
	b.choose("Actions", "Drain…")
	b.press("Drain, kill 1 task")
	b.sees("is draining")
	says(t, c, "/slaves", `"state":"DRAINING"`)
	b.choose("Actions", "Cancel draining…")
	b.sees("1 task of it still runs", "those that were asked to end already will end all the same")
	b.press("Cancel draining")
	b.sees("drains no longer")
	if err := testcluster.Poll(func() error {
		leader, err := c.Leader()
		if err != nil {
			return err
		}
		body, err := testcluster.Get("http://" + leader.Addr + "/slaves")
		if err == nil && (strings.Contains(body, "drain_info") || strings.Count(strings.ReplaceAll(body, " ", ""), `"deactivated":false`) != len(c.Agents)) {
			return fmt.Errorf("an agent drains or is deactivated: %s", body)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b.wait("the agent can be drained again", `Boolean(`+control("Actions")+`) && document.querySelector('dialog[open]') === null`)
	b.choose("Actions", "Drain…")
	b.press("Cancel")
	b.goTo("#/tasks/" + w.framework + "/" + w.task)
	b.press("Kill")
	b.sees("It was asked to end already", "0 kills it at once")
	b.press("Kill 1 task")
	b.sees("killed")
}

// fromPalette deactivates and reactivates an agent without going to its page.
func fromPalette(t *testing.T, b *tab, c *testcluster.Cluster) {
	id := agentNamed(t, c, "node1")
	b.goTo("#/agents")
	b.sees("node1")
	do := func(act, button string) {
		b.keys("k", chromedp.ModifierCtrl)
		b.fill("Go to a page", act)
		b.wait("the act is offered first", `document.querySelector('[role=option][aria-selected=true]')?.innerText.toLowerCase().includes(`+quote(act)+`)`)
		b.keys(kb.Enter)
		b.press(button)
		b.wait("the dialog is closed", `document.querySelector('dialog[open]') === null`)
	}
	do("deactivate node1", "Deactivate")
	b.sees("node1 is deactivated")
	says(t, c, "/slaves?slave_id="+id, `"deactivated":true`)
	do("reactivate node1", "Reactivate")
	b.sees("node1 is active again")
	says(t, c, "/slaves?slave_id="+id, `"deactivated":false`)
}

func teardown(t *testing.T, b *tab, c *testcluster.Cluster) {
	w := work(t, c, "doomed", "sleep 1000")
	b.goTo("#/frameworks/" + w.framework)
	name := eval[string](b, "document.querySelector('main h1').innerText")
	b.press("Tear down")
	b.sees("1 task on 1 agent will be killed", w.framework)
	b.fill("Type", name)
	b.press("Tear down, kill 1 task")
	b.sees("was torn down", "completed")
	says(t, c, "/frameworks", `"completed_frameworks":[{`)
}

func maintenance(t *testing.T, b *tab, c *testcluster.Cluster) {
	agentNamed(t, c, "node3")
	b.goTo("#/maintenance")
	schedule := func(host string) {
		b.press("Schedule maintenance")
		b.fill(host, "")
		b.fill("Lasts", "90m")
		b.sees("1 machine will be away")
		b.press("Schedule")
		b.sees("Maintenance of 1 machine is scheduled", "to be drained")
	}
	// One directly after the other: what the page has not heard of yet is not lost.
	schedule("node2")
	schedule("node3")
	says(t, c, "/maintenance/schedule", `"hostname":"node2"`)
	says(t, c, "/maintenance/schedule", `"hostname":"node3"`)
	b.sees("2 windows")
	// A window is changed, and becomes no second one.
	b.press("Edit")
	b.fill("Lasts", "4h")
	b.press("Change")
	b.wait("the dialog is closed", `document.querySelector('dialog[open]') === null`)
	says(t, c, "/maintenance/schedule", `"nanoseconds":14400000000000`)
	b.sees("2 windows")
	for _, left := range []string{"1 window", "No maintenance is scheduled"} {
		b.press("Cancel")
		b.press("Cancel the maintenance")
		b.sees(left)
		b.wait("the dialog is closed", `document.querySelector('dialog[open]') === null`)
	}
	schedule("node3")
	b.press("Take it down")
	b.sees("1 agent with 0 tasks", "is shut down")
	b.press("Take down")
	b.sees("node3 is down")
	says(t, c, "/maintenance/status", `"down_machines":[{"hostname":"node3"`)
	select {
	case <-c.Agents[2].Done():
	case <-time.After(testcluster.Patience):
		t.Fatal("the agent of a machine that is down goes on")
	}
	b.press("Bring it up")
	b.press("Bring up")
	b.sees("may be used again", "No maintenance is scheduled")
	c.Agents[2].Kill()
	if err := c.Agents[2].Start(); err != nil {
		t.Fatal(err)
	}
	agentNamed(t, c, "node3")
}

func gone(t *testing.T, b *tab, c *testcluster.Cluster) {
	id := agentNamed(t, c, "node3")
	b.goTo("#/agents/" + id)
	b.choose("Actions", "Mark gone…")
	b.sees("This cannot be undone")
	b.fill("Type", "node3")
	b.press("Mark gone for ever")
	b.sees("node3 is marked gone", "No such agent is registered")
	says(t, c, "/api/clusterd/v1/registry", `"gone_agents":1`)
}

// leadsAnother waits until another master leads than before.
func leadsAnother(t *testing.T, c *testcluster.Cluster, before *testcluster.Process) {
	t.Helper()
	if err := testcluster.Poll(func() error {
		leader, err := c.Leader()
		if err == nil && leader == before {
			return fmt.Errorf("%s still leads", before.Addr)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// live says in JavaScript that the page is connected.
const live = `document.querySelector('.light')?.classList.contains('light-live')`

func transfer(t *testing.T, b *tab, c *testcluster.Cluster) {
	before, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	b.goTo("#/registry")
	b.allow(trouble...)
	b.chooseFrom(`[...document.querySelectorAll('main tbody tr')].find((r) => !r.innerText.includes('leader') && r.querySelector('.menu-button'))?.querySelector('.menu-button')`, "Let it lead…")
	b.sees("stops leading")
	b.press("Hand over")
	b.sees("takes over")
	leadsAnother(t, c, before)
	b.wait("the page is live again", live)
}

// handOver hands the leadership to whoever has come furthest.
func handOver(t *testing.T, b *tab, c *testcluster.Cluster) {
	before, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	b.goTo("#/registry")
	b.chooseFrom(`[...document.querySelectorAll('main tbody tr')].find((r) => r.innerText.includes('leader') && r.querySelector('.menu-button'))?.querySelector('.menu-button')`, "Hand over the leadership…")
	b.sees("the master that has come furthest")
	b.press("Hand over")
	b.sees("takes over")
	leadsAnother(t, c, before)
	b.wait("the page is live again", live)
}

// registryOf is what the leader says of the masters, by the port at which they answer.
func registryOf(t *testing.T, c *testcluster.Cluster) (of map[string]registryapi.Member) {
	t.Helper()
	if err := testcluster.Poll(func() error {
		leader, err := c.Leader()
		if err != nil {
			return err
		}
		body, err := testcluster.Get("http://" + leader.Addr + registryapi.Path)
		if err != nil {
			return err
		}
		var st registryapi.Status
		if err := json.Unmarshal([]byte(body), &st); err != nil {
			return err
		}
		of = make(map[string]registryapi.Member)
		for _, m := range st.Members {
			of[m.HTTP[strings.LastIndex(m.HTTP, ":")+1:]] = m
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return of
}

// members removes a master that has died, and adds it before it comes back.
func members(t *testing.T, b *tab, c *testcluster.Cluster) {
	leader, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(c.Masters, func(m *testcluster.Process) bool { return m != leader && "http://"+m.Addr != b.base })
	if i < 0 {
		t.Fatal("there is no third master")
	}
	victim := c.Masters[i]
	port := victim.Addr[strings.LastIndex(victim.Addr, ":")+1:]
	var m registryapi.Member
	if err := testcluster.Poll(func() error {
		if m = registryOf(t, c)[port]; m.ID == "" || !m.Voter {
			return fmt.Errorf("no voter answers at port %s", port)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b.goTo("#/registry")

	// Who runs would come back by itself: the dialog says so, and the leader refuses.
	b.choose("Acts on "+m.ID, "Remove…")
	b.sees("2 voting masters", "It would be taken in again, so stop it first")
	b.allow("status of 409")
	b.press("Remove " + m.ID)
	b.sees("is alive and would join again")
	b.press("Cancel")

	victim.Kill()
	row := `[...document.querySelectorAll('main tbody tr')].find((r) => r.innerHTML.includes(` + quote(m.ID) + `))`
	b.wait("the page says that it is dead", `/dead|does not answer/.test(`+row+`?.innerText)`)
	if err := testcluster.Poll(func() error { // gossip takes longer to give it up
		if registryOf(t, c)[port].Alive {
			return fmt.Errorf("%s is still said to be alive", m.ID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b.choose("Acts on "+m.ID, "Remove…")
	b.press("Remove " + m.ID)
	b.sees("is no longer a member")
	b.wait("it has left the members", `![...document.querySelectorAll('[aria-label=Members] tbody tr')].some((r) => r.innerHTML.includes(`+quote(m.ID)+`))`)
	if got := registryOf(t, c); len(got) != 2 {
		t.Errorf("%d members remain, want 2: %v", len(got), got)
	}

	b.press("Add a master")
	b.fill("Id", m.ID)
	b.fill("Address of its Raft port", m.Address)
	b.press("Add the master")
	b.sees("does not answer at its Raft address")
	b.fill("Add it even if it does not answer", "")
	b.press("Add the master")
	b.sees("is a member. It votes once it has caught up")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	b.wait("it votes again", row+`?.innerText.includes('voter')`)
	if got := registryOf(t, c)[port]; got.ID != m.ID || !got.Voter {
		t.Errorf("the master is %+v, want a voter with the id %s", got, m.ID)
	}
}
