package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clusterd/internal/cli/console"
	"clusterd/internal/registryapi"
	"clusterd/internal/testcluster"
)

// command runs a command in this process and returns its exit code and what it
// wrote.
func command(args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = Main(append([]string{"clusterd"}, args...), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errOut := command(args...)
	if code != console.ExitOK {
		t.Fatalf("clusterd %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

func peersOf(t *testing.T, master string) registryapi.Status {
	t.Helper()
	var st registryapi.Status
	if err := json.Unmarshal([]byte(mustRun(t, "registry", "peers", "-o", "json", "--master", master)), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// await polls until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(testcluster.Patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestRegistryOfThree is an operator's day with three real masters: looking,
// moving the leadership, a backup, a dead master, the backup put back, a
// lost majority.
func TestRegistryOfThree(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Masters: 3})
	var all []string
	byHTTP := map[string]*testcluster.Process{}
	for _, m := range c.Masters {
		all = append(all, m.Addr)
		byHTTP["localhost"+m.Addr[strings.LastIndex(m.Addr, ":"):]] = m
	}
	masters := strings.Join(all, ",")
	var st registryapi.Status
	await(t, "three masters vote and live, and the agent is known", func() bool {
		st = peersOf(t, masters)
		n := 0
		for _, m := range st.Members {
			if m.Voter && m.Alive && byHTTP[m.HTTP] != nil {
				n++
			}
		}
		return n == 3 && st.Leader != "" && st.Counts.Agents == 1
	})
	members := map[bool][]registryapi.Member{} // by whether they lead
	for _, m := range st.Members {
		members[m.Leads] = append(members[m.Leads], m)
	}
	if len(members[true]) != 1 {
		t.Fatalf("%d members lead: %+v", len(members[true]), st.Members)
	}

	// The leadership moves, asked for at a follower.
	next := members[false][0]
	follower := byHTTP[members[false][1].HTTP]
	if code, _, errOut := command("registry", "transfer", "--master", follower.Addr, next.ID[:8]); code != console.ExitUsage || !strings.Contains(errOut, "have master "+next.ID+" lead in place of "+st.Leader) {
		t.Errorf("transfer does not ask: %d %s", code, errOut)
	}
	if out := mustRun(t, "registry", "transfer", "--yes", "--master", follower.Addr, next.ID[:8]); !strings.HasPrefix(out, next.ID+" at "+next.HTTP+" leads") {
		t.Errorf("transfer says %q", out)
	}
	await(t, "all masters know who leads", func() bool {
		for _, m := range all {
			if peersOf(t, m).Leader != next.ID {
				return false
			}
		}
		return true
	})

	// A backup through a follower is the leader's.
	backup := filepath.Join(t.TempDir(), "backup")
	if out := mustRun(t, "registry", "save", "--master", follower.Addr, backup); !strings.Contains(out, "1 agents") {
		t.Errorf("save says %q", out)
	}

	// Who is alive is not removed; who is dead is. Autopilot leaves it: it keeps three.
	gone := members[false][1]
	if code, _, errOut := command("registry", "remove", "--yes", "--master", masters, gone.ID); code == console.ExitOK || !strings.Contains(errOut, "stop it first") {
		t.Errorf("a live master is removed: %d %s", code, errOut)
	}
	byHTTP[gone.HTTP].Kill()
	await(t, "the master is seen to be dead", func() bool {
		for _, m := range peersOf(t, masters).Members {
			if m.ID == gone.ID {
				return !m.Alive
			}
		}
		return false
	})
	await(t, "it is shown as dead", func() bool {
		return strings.Contains(mustRun(t, "registry", "peers", "--master", masters), " dead ")
	})
	await(t, "the leader knows it too, and it is removed", func() bool {
		code, _, errOut := command("registry", "remove", "--yes", "--master", masters, gone.ID)
		if code != console.ExitOK && !strings.Contains(errOut, "stop it first") {
			t.Fatal(errOut)
		}
		return code == console.ExitOK
	})
	await(t, "two members remain", func() bool {
		st = peersOf(t, masters)
		return len(st.Members) == 2
	})

	testRestore(t, masters, backup, st.Epoch)

	// One of two is no majority: nobody leads, which is said, and a stale backup works.
	last := byHTTP[members[true][0].HTTP]
	byHTTP[next.HTTP].Kill()
	await(t, "nobody leads", func() bool { return peersOf(t, masters).Leader == "" })
	if code, _, errOut := command("registry", "save", "--master", last.Addr, backup+"2"); code != console.ExitUnreachable || !strings.Contains(errOut, "No leader elected") {
		t.Errorf("save without a leader: %d %s", code, errOut)
	}
	mustRun(t, "registry", "save", "--stale", "--master", masters, backup+"2")
	if out := mustRun(t, "registry", "inspect", "--master", masters); !strings.Contains(out, "agents") {
		t.Errorf("inspect without a leader says %q", out)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(backup), ".*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left behind: %v", left, err)
	}
}

// testRestore puts a backup back into the running cluster.
func testRestore(t *testing.T, masters, backup string, epoch uint64) {
	t.Helper()
	if code, _, errOut := command("registry", "restore", "--master", masters, backup); code != console.ExitUsage || !strings.Contains(errOut, "needs --yes") {
		t.Errorf("restore without --yes: %d %s", code, errOut)
	}
	out := mustRun(t, "registry", "restore", "--yes", "--master", masters, backup)
	if !strings.Contains(out, "1 agents") {
		t.Errorf("restore says %q", out)
	}
	await(t, "the restored registry has another epoch, and the agent", func() bool {
		st := peersOf(t, masters)
		return st.Epoch > epoch && st.Counts.Agents == 1
	})
	if _, err := os.Stat(backup); err != nil {
		t.Error(err)
	}
}

// TestRecoverAfterALostMajority: two of three masters are gone for good with their
// disks; the third begins anew, is joined by another, and nothing is forgotten.
func TestRecoverAfterALostMajority(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Masters: 3})
	leader, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	var before registryapi.Status
	await(t, "every master knows the agent", func() bool {
		before = peersOf(t, leader.Addr)
		n := 0
		for _, m := range c.Masters {
			if peersOf(t, m.Addr).Counts.Agents == 1 {
				n++
			}
		}
		return n == 3 && len(before.Members) == 3
	})
	survivor := c.Masters[0]
	for _, m := range c.Masters {
		m.Kill()
	}
	for _, m := range c.Masters[1:] {
		if err := os.RemoveAll(m.WorkDir); err != nil {
			t.Fatal(err)
		}
	}

	// Asked first, it says what would be given up, and changes nothing.
	dir := "--work_dir=" + survivor.WorkDir
	code, out, errOut := command("registry", "recover", dir)
	if code != console.ExitUsage || !strings.Contains(errOut, "needs --yes") || strings.Count(out, " at 127.0.0.1:") != 2 {
		t.Errorf("recover without --yes: %d\n%s%s", code, out, errOut)
	}
	if out := mustRun(t, "registry", "inspect", dir); strings.Count(out, "members ") != 3 {
		t.Errorf("before: inspect says\n%s", out)
	}
	if out := mustRun(t, "registry", "recover", "--yes", dir); !strings.Contains(out, "is the only member of cluster "+before.ClusterID) || !strings.Contains(out, "1 agents") {
		t.Errorf("recover says\n%s", out)
	}
	if out := mustRun(t, "registry", "inspect", dir); strings.Count(out, "members ") != 1 {
		t.Errorf("after: inspect says\n%s", out)
	}

	// The same cluster with the same agent, to which another master is added.
	for _, m := range []*testcluster.Process{survivor, c.Masters[1]} {
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the survivor leads and the agent is back", func() bool {
		st := peersOf(t, survivor.Addr)
		return st.Leads && st.ClusterID == before.ClusterID && st.Epoch > before.Epoch && st.Counts.Agents == 1
	})
	if err := c.WaitAgents(1); err != nil {
		t.Error(err)
	}
	await(t, "the new master is a member", func() bool {
		return len(peersOf(t, survivor.Addr).Members) == 2
	})
}

// TestFoundUnderTheOldID: the only master and its registry are lost, there is no
// backup. A new one under the old id gets the agent back, as the agent that it was.
func TestFoundUnderTheOldID(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{})
	before := peersOf(t, c.Master.Addr)
	agents := mustRun(t, "registry", "inspect", "-o", "wide", "--master", c.Master.Addr)
	c.Master.Kill()
	if err := os.RemoveAll(c.Master.WorkDir); err != nil {
		t.Fatal(err)
	}
	dir := "--work_dir=" + c.Master.WorkDir
	if code, _, errOut := command("registry", "found", dir, "--cluster_id=east"); code != console.ExitUsage || !strings.Contains(errOut, "is not the id of a cluster") {
		t.Errorf("found with a bad id: %d %s", code, errOut)
	}
	if out := mustRun(t, "registry", "found", dir, "--cluster_id="+before.ClusterID); !strings.Contains(out, "of cluster "+before.ClusterID) {
		t.Errorf("found says %q", out)
	}
	if err := c.Master.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitAgents(1); err != nil {
		t.Fatal(err)
	}
	after := peersOf(t, c.Master.Addr)
	if after.ClusterID != before.ClusterID || after.ID == before.ID {
		t.Errorf("got cluster %s and member %s, want %s and another than %s", after.ClusterID, after.ID, before.ClusterID, before.ID)
	}
	_, line, listed := strings.Cut(agents, "\nAGENT ")
	if now := mustRun(t, "registry", "inspect", "-o", "wide", "--master", c.Master.Addr); !listed || !strings.Contains(now, line) {
		t.Errorf("the registry has\n%swant\n%s", now, line)
	}
}
