package registry

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"clusterd/registry/state"
)

// childDir makes the test binary a master that admits agents until it is killed.
const childDir = "CLUSTERD_TEST_REGISTRY_DIR"

// child prints "admitted ID" after an admission was acknowledged, never before.
func child(dir string) {
	fail := func(err error) {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	opts := single(dir)
	opts.SnapshotThreshold = 16 // the kill meets snapshots too
	r, err := Open(context.Background(), opts)
	if err != nil {
		fail(err)
	}
	l, err := r.AwaitLeadership(context.Background())
	if err != nil {
		fail(err)
	}
	fmt.Println("cluster", l.State().ClusterID())
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("e%d-w%d-%06d", l.Epoch(), w, i)
				if err := l.Apply(context.Background(), state.AdmitAgent(agentInfo(id))); err != nil {
					fail(err)
				}
				fmt.Println("admitted", id)
				if w == 0 && i%20 == 19 {
					if err := r.Snapshot(); err != nil {
						fail(err)
					}
				}
			}
		}()
	}
	select {}
}

// TestKill9LosesNothingAcknowledged kills a master at random points, its first
// start included, and looks after each time for what it had acknowledged.
func TestKill9LosesNothingAcknowledged(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	acked := map[string]bool{}
	cluster := ""
	for round := range 6 {
		// In the first rounds the kill meets the start, then the work.
		delay := time.Duration(rnd.Int64N(int64(60 * time.Millisecond)))
		after := rnd.IntN(200)
		if round < 2 {
			after = 0
		}
		for _, line := range runAndKill(t, dir, delay, after) {
			kind, id, _ := strings.Cut(line, " ")
			switch kind {
			case "failed":
				t.Fatalf("round %d: child: %s", round, line)
			case "admitted":
				acked[id] = true
			case "cluster":
				if cluster != "" && cluster != id {
					t.Fatalf("round %d: cluster id was %s, is %s", round, cluster, id)
				}
				cluster = id
			}
		}
	}
	r := openT(t, single(dir))
	s := leadT(t, r).State()
	if cluster != "" && s.ClusterID() != cluster {
		t.Errorf("cluster id was %s, is %s", cluster, s.ClusterID())
	}
	for id := range acked {
		if s.Agent(id) == nil {
			t.Errorf("agent %s was acknowledged and is lost", id)
		}
	}
	t.Logf("%d acknowledged, %d found", len(acked), s.AgentCount())
	if len(acked) == 0 {
		t.Error("no round acknowledged anything")
	}
}

// runAndKill runs the child, waits for a number of lines and then some time, and
// kills it. It returns all that it printed.
func runAndKill(t *testing.T, dir string, delay time.Duration, after int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { _ = cmd.Process.Kill() } // already dead is fine
	var lines []string
	if after == 0 {
		timer := time.AfterFunc(delay, kill)
		defer timer.Stop()
	}
	for sc := bufio.NewScanner(out); sc.Scan(); {
		lines = append(lines, sc.Text())
		if after > 0 && len(lines) == after+1 {
			timer := time.AfterFunc(delay/10, kill)
			defer timer.Stop()
		}
	}
	_ = cmd.Wait() // killed
	return lines
}
