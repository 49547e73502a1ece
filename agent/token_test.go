package agent

import (
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clusterd/internal/authn"
)

// executorTokens are those of a key, and the realms in which they are asked for.
func executorTokens(t *testing.T, dir string) (*authn.ExecutorTokens, authn.Realms) {
	t.Helper()
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, []byte(strings.Repeat("k", 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := authn.New(authn.Config{Realms: map[authn.Realm][]string{authn.AgentExecutor: {"jwt"}}, ExecutorKeyFile: file})
	if err != nil {
		t.Fatal(err)
	}
	return set.ExecutorTokens, set.Realms
}

// TestExecutorTokens: executors are asked for the token of their own container, which is
// found nowhere but in their environment, and stays good when the agent is started anew.
func TestExecutorTokens(t *testing.T) {
	keys := t.TempDir()
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	var tokens *authn.ExecutorTokens
	start := func() *Agent {
		return h.start(func(o *Options) {
			tokens, o.Realms = executorTokens(t, keys) // as a new process does
			o.ExecutorTokens = tokens
		})
	}
	a := start()
	m.waitRegistered(1)
	m.send(runTasks(framework("F"), commandTask("t", "env; sleep 1000")))
	m.waitState("t", "RUNNING")
	container := onlyContainer(t, a)

	update := `{"framework_id":{"value":"F"},"executor_id":{"value":"t"},"type":"MESSAGE","message":{"data":"aGk="}}`
	send := func(token string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.Addr()+"/slave(1)/api/v1/executor", strings.NewReader(update))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", jsonType)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b), resp.Header
	}
	signed := func(by *authn.ExecutorTokens, fw, id, container string) string {
		t.Helper()
		s, err := by.New(fw, id, container)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	stranger, err := authn.NewExecutorTokens([]byte(strings.Repeat("x", 40)), 0)
	if err != nil {
		t.Fatal(err)
	}
	brief, err := authn.NewExecutorTokens([]byte(strings.Repeat("k", 40)), time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		for _, c := range []struct {
			name, token string
			status      int
			text        string
		}{
			{"its own", signed(tokens, "F", "t", container), 202, ""},
			{"none", "", 401, "401 Unauthorized."},
			{"no token at all", "x", 401, ""},
			{"of another key", signed(stranger, "F", "t", container), 401, ""},
			{"expired", signed(brief, "F", "t", container), 401, ""},
			{"of another framework", signed(tokens, "G", "t", container), 403, "does not contain an 'fid' claim with the framework ID F"},
			{"of another executor", signed(tokens, "F", "u", container), 403, "does not contain an 'eid' claim with the executor ID t"},
			{"of an earlier run", signed(tokens, "F", "t", "c"), 403, "does not contain a 'cid' claim with the correct active ContainerID"},
		} {
			status, body, header := send(c.token)
			if status != c.status || !strings.Contains(body, c.text) {
				t.Errorf("token %s: got %d %q, want %d %q", c.name, status, body, c.status, c.text)
			}
			if status == 401 && !strings.HasPrefix(header.Get("WWW-Authenticate"), `Bearer realm="mesos-agent-executor"`) {
				t.Errorf("token %s: got the challenge %q", c.name, header.Get("WWW-Authenticate"))
			}
			if c.token != "" && c.token != "x" && strings.Contains(body, c.token) {
				t.Errorf("token %s: the answer holds it: %s", c.name, body)
			}
		}
	}
	check()

	h.stop(a)
	a = start()
	m.waitRegistered(2)
	if got := onlyContainer(t, a); got != container {
		t.Errorf("the container is %s, was %s", got, container)
	}
	check()

	// All tokens begin so.
	begin := signed(tokens, "", "", "")[:20]
	for _, dir := range []string{h.work, h.run} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if strings.Contains(string(b), begin) {
				t.Errorf("%s holds a token", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	_, _, state := request(t, a, "GET", "/state", "", "")
	if strings.Contains(state, begin) {
		t.Error("/state holds a token")
	}
	env, err := os.ReadFile(filepath.Join(h.work, "slaves", "M-S0", "frameworks", "F", "executors", "t", "runs", "latest", "stdout"))
	if err != nil || !strings.Contains(string(env), "MESOS_SLAVE_PID=") {
		t.Fatalf("the task's environment: %s, %v", env, err)
	}
	if strings.Contains(string(env), tokenVariable) {
		t.Error("the task inherits the token")
	}
	m.send(killTask("F", "t"))
	m.waitState("t", "KILLED")
	h.leave(a)
}

func onlyContainer(t *testing.T, a *Agent) string {
	t.Helper()
	v, err := a.View(t.Context())
	if err != nil || len(v.Frameworks) != 1 || len(v.Frameworks[0].Executors) != 1 {
		t.Fatalf("not one executor: %+v, %v", v, err)
	}
	return v.Frameworks[0].Executors[0].ContainerID.GetValue()
}
