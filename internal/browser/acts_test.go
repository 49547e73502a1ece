package browser

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

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
			b.t = t
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
	act("tear down", func(t *testing.T) { teardown(t, b, c) })
	act("maintenance", func(t *testing.T) { maintenance(t, b, c) })
	act("mark gone", func(t *testing.T) { gone(t, b, c) })
	act("transfer", func(t *testing.T) { transfer(t, b, c) })
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
	b.press("Acts on prod")
	b.press("Edit the quota…")
	b.fill("Memory (MB): limit", "1024")
	b.press("Set the quota")
	b.seesNot("Quota of prod")
	says(t, c, "/roles", `"mem":1024.0`)
	b.press("Acts on prod")
	b.press("Remove the quota…")
	b.sees("Remove the quota of prod", "guaranteed 1 CPU")
	b.press("Remove the quota")
	b.sees("prod has no quota any more")
	says(t, c, "/quota", "{}")
}

func weight(t *testing.T, b *tab, c *testcluster.Cluster) {
	work(t, c, "weighty", "sleep 1000", "--role=batch")
	b.goTo("#/roles")
	b.press("Acts on batch")
	b.press("Change the weight…")
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
	b.press("Actions on 512 MiB disk of prod")
	b.press("Create volume…")
	b.fill("Id", "pgdata")
	b.fill("Size (MB)", "256")
	b.press("Create the volume")
	b.sees("The volume pgdata was created")
	says(t, c, "/slaves", `"id":"pgdata"`)
	b.press("Actions on volume pgdata")
	b.press("Destroy…")
	b.sees("All data in it is deleted")
	b.fill("Type", "pgdata")
	b.press("Destroy the volume and its data")
	b.sees("No persistent volumes")
	for _, what := range []string{"512 MiB disk", "1 cpus"} {
		b.press("Actions on " + what + " of prod")
		b.press("Unreserve…")
		b.press("Unreserve")
		b.wait("the dialog is closed", "document.querySelector('dialog[open]') === null")
	}
	b.sees("Nothing is reserved here")
}

func deactivate(b *tab, agent string) {
	b.goTo("#/agents/" + agent)
	b.press("Actions")
	b.press("Deactivate…")
	b.sees("offers of this agent are taken back")
	b.press("Deactivate")
	b.sees("Deactivated. Its tasks go on")
	b.press("Actions")
	b.press("Reactivate…")
	b.press("Reactivate")
	b.sees("is active again")
	b.seesNot("Deactivated. Its tasks go on")
}

func drain(t *testing.T, b *tab, c *testcluster.Cluster) {
	w := work(t, c, "drained", "sleep 1000")
	b.goTo("#/agents/" + w.agent)
	b.press("Actions")
	b.press("Drain…")
	b.sees("1 task of 1 framework runs there")
	b.fill("Limit the grace period", "")
	b.fill("At most", "1")
	b.fill("Unit", "1")
	b.press("Drain, kill 1 task")
	b.sees("Drained. No task runs here any more")
	says(t, c, "/slaves", `"state":"DRAINED"`)
	b.press("Actions")
	b.press("Reactivate…")
	b.press("Reactivate")
	b.seesNot("Drained. No task")
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
	<-c.Agents[2].Done()
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
	b.press("Actions")
	b.press("Mark gone…")
	b.sees("This cannot be undone")
	b.fill("Type", "node3")
	b.press("Mark gone for ever")
	b.sees("node3 is marked gone", "No such agent is registered")
	says(t, c, "/api/clusterd/v1/registry", `"gone_agents":1`)
}

func transfer(t *testing.T, b *tab, c *testcluster.Cluster) {
	before, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	b.goTo("#/registry")
	b.allow("net::ERR", "status of 502", "status of 503")
	menu := `[...document.querySelectorAll('main tbody tr')].find((r) => !r.innerText.includes('leader') && r.querySelector('.menu-button'))?.querySelector('.menu-button')`
	b.wait("there is a master that may lead", menu)
	b.clickOn(menu)
	b.press("Let it lead…")
	b.sees("stops leading")
	b.press("Hand over")
	b.sees("takes over")
	if err := testcluster.Poll(func() error {
		after, err := c.Leader()
		if err == nil && after == before {
			return fmt.Errorf("%s still leads", before.Addr)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b.wait("the page is live again", `document.querySelector('.light').classList.contains('light-live')`)
}
