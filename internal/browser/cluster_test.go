package browser

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"clusterd/internal/testcluster"
)

// webuiFlags has masters serve $CLUSTERD_WEBUI_DIR instead of what the binary embeds, for
// those who work at the UI and do not want to build the binary anew each time.
func webuiFlags() []string {
	if dir := os.Getenv("CLUSTERD_WEBUI_DIR"); dir != "" {
		return []string{"--webui_dir=" + dir}
	}
	return nil
}

// start runs a cluster for one test alone.
func start(t *testing.T, opts testcluster.Options) *testcluster.Cluster {
	t.Helper()
	need(t)
	opts.MasterFlags = append(opts.MasterFlags, webuiFlags()...)
	return testcluster.Start(t, opts)
}

// common is the cluster of all tests that only look, or clean up what they do.
var common struct {
	once    sync.Once
	cluster *testcluster.Cluster
	dir     string
	err     error
}

// shared returns the cluster of all tests that only look: three masters and three agents.
func shared(t *testing.T) *testcluster.Cluster {
	t.Helper()
	need(t)
	common.once.Do(func() {
		if common.dir, common.err = os.MkdirTemp("", "cd"); common.err != nil { //nolint:usetesting // it outlives the test
			return
		}
		common.cluster, common.err = testcluster.New(testcluster.Options{
			Masters: 3, Agents: 3, Dir: common.dir,
			MasterFlags: append(webuiFlags(), "--cluster=browser"),
			EachAgent: func(i int) []string {
				return []string{
					fmt.Sprintf("--hostname=node%d", i+1), fmt.Sprintf("--attributes=rack:r%d", i),
					"--resources=cpus:4;mem:2048;disk:8192;ports:[31000-32000]",
				}
			},
		})
		if common.err != nil {
			return
		}
		for i, p := range slices.Concat(common.cluster.Masters, common.cluster.Agents) {
			p.SetFlags(fmt.Sprintf("--log_dir=%s/log%d", common.dir, i))
		}
		common.err = common.cluster.Up()
	})
	if common.err != nil {
		t.Fatalf("start the cluster: %v", common.err)
	}
	t.Cleanup(func() {
		if t.Failed() && testing.Verbose() {
			common.cluster.DumpLogs(t.Output())
		}
	})
	return common.cluster
}

func stopShared() {
	if common.cluster != nil {
		common.cluster.Stop()
	}
	if common.dir != "" {
		os.RemoveAll(common.dir)
	}
}

// ids name a running task.
type ids struct{ task, framework, agent, executor string }

// work runs a shell command as a task, until the test ends.
func work(t testing.TB, c *testcluster.Cluster, name, command string, flags ...string) ids {
	t.Helper()
	bin, err := testcluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	var masters []string
	for _, m := range c.Masters {
		masters = append(masters, m.Addr)
	}
	args := append([]string{"run", "--master=" + strings.Join(masters, ","), "--quiet", "--name=" + name, "--shell"}, flags...)
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var ended chan struct{}
	begin := func() {
		cmd := exec.CommandContext(t.Context(), bin, append(args, "--", command)...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.WaitDelay = testcluster.Patience
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = cmd.Wait()
		}()
		t.Cleanup(func() { <-done }) // its framework is torn down when its context ends
		ended = done
	}
	begin()
	var found ids
	if err := testcluster.Poll(func() error {
		body, err := c.State()
		if err == nil {
			found, err = running(body, name)
		}
		if err != nil {
			select {
			case <-ended: // nobody led just then: it does not wait for long
				begin()
			default:
			}
		}
		return err
	}); err != nil {
		said, _ := os.ReadFile(log.Name())
		t.Fatalf("%v; clusterd run said:\n%s", err, said)
	}
	return found
}

// running finds the running task with the name in what /state says.
func running(state, name string) (ids, error) {
	var s struct {
		Frameworks []struct {
			ID    string
			Tasks []struct {
				ID, Name, State string
				Agent           string `json:"slave_id"`
				Executor        string `json:"executor_id"`
			}
		}
	}
	if err := json.Unmarshal([]byte(state), &s); err != nil {
		return ids{}, err
	}
	for _, f := range s.Frameworks {
		for _, t := range f.Tasks {
			if t.Name != name || t.State != "TASK_RUNNING" {
				continue
			}
			found := ids{t.ID, f.ID, t.Agent, t.Executor}
			if found.executor == "" {
				found.executor = t.ID // that of a command
			}
			return found, nil
		}
	}
	return ids{}, fmt.Errorf("no task %s runs", name)
}

// follower is a master that does not lead.
func follower(t testing.TB, c *testcluster.Cluster) *testcluster.Process {
	t.Helper()
	leader, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.Masters {
		if m != leader && m.PID() != 0 {
			return m
		}
	}
	t.Fatal("there is no follower")
	return nil
}
