package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli"
)

// login is who the tools are where daemons ask.
type login struct{ user, password string }

// option has mesos-go's client show the login.
func (l login) option() httpcli.ConfigOpt {
	if l.user == "" {
		return nil
	}
	return httpcli.BasicAuth(l.user, l.password)
}

// url of a daemon, with the login in it, as exporters are configured.
func (l login) url(address string) string {
	u := url.URL{Scheme: "http", Host: address}
	if l.user != "" {
		u.User = url.UserPassword(l.user, l.password)
	}
	return u.String()
}

// cluster is a master and an agent, processes of their own.
type cluster struct {
	login
	master, agent string // host:port
	sandboxes     string // the agent's --work_dir
}

// startDaemons runs a master and an agent. With a login, both ask everybody on
// every endpoint that can ask, and the agent authenticates with the master.
func startDaemons(t *testing.T, who login) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "cd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &cluster{
		login: who, master: "127.0.0.1:" + freePort(t), agent: "127.0.0.1:" + freePort(t),
		sandboxes: filepath.Join(dir, "agent"),
	}
	master := []string{
		"master", "--ip=127.0.0.1", "--port=" + port(c.master), "--raft_port=" + freePort(t), "--gossip_port=" + freePort(t),
		"--hostname=localhost", "--work_dir=" + filepath.Join(dir, "master"), "--allocation_interval=100ms",
	}
	agent := []string{
		"agent", "--master=" + c.master, "--ip=127.0.0.1", "--port=" + port(c.agent), "--gossip_port=" + freePort(t),
		"--hostname=localhost", "--work_dir=" + c.sandboxes, "--runtime_dir=" + filepath.Join(dir, "run"),
		"--resources=cpus:4;mem:4096;disk:10000;ports:[31000-32000]", "--attributes=rack:r1",
	}
	if who.user != "" {
		all := writeJSON(t, filepath.Join(dir, "credentials"), map[string]any{"credentials": []map[string]string{
			{"principal": who.user, "secret": who.password}, {"principal": "agent", "secret": "its own"},
		}})
		own := writeJSON(t, filepath.Join(dir, "credential"), map[string]string{"principal": "agent", "secret": "its own"})
		master = append(master, "--credentials="+all, "--authenticate_agents", "--authenticate_http_frameworks", "--http_framework_authenticators=basic",
			"--authenticate_frameworks", "--authenticate_http_readonly", "--authenticate_http_readwrite")
		agent = append(agent, "--credential="+own, "--http_credentials="+all, "--authenticate_http_readonly", "--authenticate_http_readwrite")
	}
	runDaemon(t, dir, "master", master)
	runDaemon(t, dir, "agent", agent)
	eventually(t, "the agent is registered", func() error {
		snapshot, err := c.snapshot(c.master)
		if err == nil && snapshot["master/slaves_active"] != 1 {
			err = fmt.Errorf("%v agents active", snapshot["master/slaves_active"])
		}
		return err
	})
	return c
}

func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

func writeJSON(t *testing.T, path string, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// runDaemon runs clusterd until the test ends, and shows its output if that failed.
func runDaemon(t *testing.T, dir, name string, args []string) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(clusterd(), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if b, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("the %s's output:\n%s", name, b)
		}
	})
}

// do sends a request with the login.
func (c *cluster) do(method, address, path string) (int, []byte, error) {
	req, err := http.NewRequest(method, "http://"+address+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, b, err
}

// snapshot is what a daemon says its metrics are.
func (c *cluster) snapshot(address string) (map[string]float64, error) {
	status, b, err := c.do(http.MethodGet, address, "/metrics/snapshot")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/metrics/snapshot: %d %s", status, b)
	}
	if err != nil {
		return nil, err
	}
	var out map[string]float64
	err = json.Unmarshal(b, &out)
	return out, err
}

// quiet waits until two snapshots of a daemon agree in all that only changes when
// something happens, and returns that part.
func (c *cluster) quiet(t *testing.T, address string) map[string]float64 {
	t.Helper()
	var last map[string]float64
	eventually(t, "the metrics of "+address+" stand still", func() error {
		now, err := c.snapshot(address)
		if err != nil {
			return err
		}
		maps.DeleteFunc(now, func(name string, _ float64) bool { return restless(name) })
		before := last
		last = now
		if !maps.Equal(before, now) {
			return fmt.Errorf("they change")
		}
		return nil
	})
	return last
}

// restless says whether a metric changes while nothing happens to the cluster.
func restless(name string) bool {
	return strings.HasPrefix(name, "system/") || strings.HasSuffix(name, "uptime_secs") ||
		slices.ContainsFunc([]string{"allocation_run", "_ms", "event_queue", "http_cache_hits", "filters", "log/", "max_allowed_age"}, func(part string) bool {
			return strings.Contains(name, part)
		})
}

// workload has a framework run one task for good, while one has finished and one
// failed. The framework declines what else it is offered.
func (c *cluster) workload(t *testing.T) *framework {
	t.Helper()
	f := subscribeAs(t, c.master, "protobuf", "", c.login)
	offer := f.offer()
	f.call(launch(offer, task("long", offer, "echo hello; exec sleep 1000")))
	f.update("long", mesos.TASK_STARTING)
	f.update("long", mesos.TASK_RUNNING)
	for _, end := range []struct {
		id, command string
		state       mesos.TaskState
	}{{"ok", "sleep 1", mesos.TASK_FINISHED}, {"bad", "sleep 1; exit 3", mesos.TASK_FAILED}} {
		offer = f.offer()
		f.call(launch(offer, task(end.id, offer, end.command)))
		f.update(end.id, mesos.TASK_STARTING)
		f.update(end.id, mesos.TASK_RUNNING)
		f.update(end.id, end.state)
	}
	return f
}

// eachLogin runs a test against daemons that ask nobody, and against such that ask
// everybody.
func eachLogin(t *testing.T, f func(t *testing.T, c *cluster)) {
	for name, who := range map[string]login{"open": {}, "authenticated": {user: "tools", password: "se:cret"}} {
		t.Run(name, func(t *testing.T) { f(t, startDaemons(t, who)) })
	}
}
