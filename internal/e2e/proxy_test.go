package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"clusterd/internal/testcluster"
)

const proxyPath = "/api/clusterd/v1/proxy"

// at is a request to one of the masters.
func (s *secure) at(ctx context.Context, m *testcluster.Process, who, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+m.Addr+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	if who != "" {
		r.SetBasicAuth(who, who+"-secret")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	return tr.RoundTrip(r) // no redirect is followed
}

// read is the answer of one of the masters.
func (s *secure) read(m *testcluster.Process, who, path string) (status int, answer string, err error) {
	resp, err := s.at(s.t.Context(), m, who, path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// terminal opens one in a container, through a master.
func (s *secure) terminal(m *testcluster.Process, who, agent, container string, cmd ...string) (*websocket.Conn, error) {
	h := http.Header{}
	r := &http.Request{Header: h}
	r.SetBasicAuth(who, who+"-secret")
	q := url.Values{"container_id": {container}, "cmd": {cmd[0]}, "arg": cmd[1:], "tty": {"1"}}
	ws, resp, err := websocket.Dial(s.t.Context(), "wss://"+m.Addr+proxyPath+"/leader"+proxyPath+"/agent/"+agent+"/api/clusterd/v1/terminal?"+q.Encode(),
		&websocket.DialOptions{HTTPHeader: h, HTTPClient: &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: s.ca, MinVersion: tls.VersionTLS12},
		}}})
	if err != nil && resp != nil && resp.Body != nil {
		resp.Body.Close()
	}
	return ws, err
}

// says reads what a terminal prints until a text has come.
func says(ctx context.Context, ws *websocket.Conn, text string) error {
	var all strings.Builder
	for !strings.Contains(all.String(), text) {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return fmt.Errorf("%w after %q", err, all.String())
		}
		all.Write(b)
	}
	return nil
}

// One address of any master is the way to all that a cluster has: to the leader, to the agent,
// whose own port nobody needs, and into a container; with credentials and TLS, and after the
// leader was killed.
func TestOneAddress(t *testing.T) {
	s := startSecure(t)
	agent := s.agentID()
	ctx, stop := context.WithCancel(t.Context())
	bin, err := testcluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(ctx, bin, "run", "--name=t", "--", "sleep", "1000")
	run.Env = append(os.Environ(), s.as("ops")...)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stop(); _ = run.Wait() }()
	var container string
	s.await("the task", func() error {
		status, body, err := s.read(s.c.Masters[1], "ops", proxyPath+"/agent/"+agent+"/containers")
		var all []struct {
			ContainerID string `json:"container_id"`
			Status      struct {
				PID int `json:"executor_pid"`
			} `json:"status"`
		}
		if err != nil {
			return err
		}
		if status != http.StatusOK || json.Unmarshal([]byte(body), &all) != nil || len(all) != 1 || all[0].Status.PID == 0 {
			return fmt.Errorf("%d %s", status, body)
		}
		container = all[0].ContainerID
		return nil
	})
	for i, m := range s.c.Masters {
		for _, c := range []struct {
			who, path string
			want      int
		}{
			{"ops", "/leader/state", 200},
			{"", "/leader/state", 401},
			{"", "/agent/" + agent + "/state", 401},
			{"agent", "/agent/nobody/state", 404},
			{"guest", "/agent/" + agent + "/state", 200},
			{"guest", "/agent/" + agent + "/api/v1/executor", 403},
			{"ops", "/leader" + proxyPath + "/agent/" + agent + "/slave(1)/state", 200},
		} {
			if status, body, err := s.read(m, c.who, proxyPath+c.path); err != nil || status != c.want {
				t.Errorf("master %d, %s: got %d %.200s %v, want %d", i, c.path, status, body, err, c.want)
			}
		}
		ws, err := s.terminal(m, "ops", agent, container, "sh", "-c", "echo ready; read x; echo got $x")
		if err != nil {
			t.Fatalf("terminal at master %d: %v", i, err)
		}
		if err := says(ctx, ws, "ready"); err != nil {
			t.Error(err)
		}
		if err := ws.Write(ctx, websocket.MessageBinary, []byte("\x00it\n")); err != nil {
			t.Error(err)
		}
		if err := says(ctx, ws, `{"exit":{"status":0}}`); err != nil {
			t.Error(err)
		}
		_ = ws.CloseNow()
	}
	s.rulesOfTheAgent(agent, container)
	s.leaderDies(ctx, agent, container)
}

func (s *secure) agentID() string {
	s.t.Helper()
	body, _ := s.get("ops", "/slaves")
	var all struct {
		Slaves []struct{ ID string } `json:"slaves"`
	}
	if err := json.Unmarshal([]byte(body), &all); err != nil || len(all.Slaves) != 1 {
		s.t.Fatalf("%v in %s", err, body)
	}
	return all.Slaves[0].ID
}

// rulesOfTheAgent hold for whom the master has authenticated.
func (s *secure) rulesOfTheAgent(agent, container string) {
	s.t.Helper()
	s.write("acls", `{"permissive":true,"launch_nested_container_sessions_under_parent_with_user":[{"principals":{"values":["guest"]},"users":{"type":"NONE"}}]}`)
	s.await("the rules hold", func() error {
		ws, err := s.terminal(s.c.Masters[0], "guest", agent, container, "true")
		if err == nil {
			_ = ws.CloseNow()
			return errors.New("guest has a terminal")
		}
		if !strings.Contains(err.Error(), "403") {
			return err
		}
		return nil
	})
	ws, err := s.terminal(s.c.Masters[0], "ops", agent, container, "true")
	if err != nil {
		s.t.Error(err)
		return
	}
	_ = ws.CloseNow()
}

// leaderDies by kill -9, while somebody watches and somebody has a terminal at a follower.
func (s *secure) leaderDies(ctx context.Context, agent, container string) {
	t := s.t
	t.Helper()
	leader, err := s.leader()
	if err != nil {
		t.Fatal(err)
	}
	var follower *testcluster.Process
	for _, m := range s.c.Masters {
		if m != leader {
			follower = m
		}
	}
	live, err := s.at(ctx, follower, "ops", proxyPath+"/leader/api/clusterd/v1/live?path=/version")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Body.Close()
	if line, err := bufio.NewReader(live.Body).ReadString('\n'); err != nil || line != "event: /version\n" {
		t.Errorf("got %q %v", line, err)
	}
	ws, err := s.terminal(follower, "ops", agent, container, "sh", "-c", "echo ready; sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	if err := says(ctx, ws, "ready"); err != nil {
		t.Fatal(err)
	}
	leader.Kill()
	if _, err := io.ReadAll(live.Body); err == nil {
		t.Error("what was watched ended as if it were whole")
	}
	if err := says(ctx, ws, "nothing that comes"); err == nil {
		t.Error("the terminal outlives its leader")
	}
	s.await("another leader, and the agent with it", func() error {
		for _, path := range []string{"/leader/state", "/agent/" + agent + "/state"} {
			status, body, err := s.read(follower, "ops", proxyPath+path)
			if status == http.StatusTemporaryRedirect {
				t.Errorf("%s: redirected", path)
			}
			if err != nil {
				return err
			}
			if status != http.StatusOK {
				return fmt.Errorf("%s: %d %.200s", path, status, body)
			}
		}
		return nil
	})
	again, err := s.terminal(follower, "ops", agent, container, "sh", "-c", "echo here again")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.CloseNow() }()
	if err := says(ctx, again, "here again"); err != nil {
		t.Error(err)
	}
}

// leader is the master that answers by itself what the others redirect.
func (s *secure) leader() (*testcluster.Process, error) {
	for _, m := range s.c.Masters {
		if status, _, err := s.read(m, "ops", "/slaves"); err == nil && status == http.StatusOK {
			return m, nil
		}
	}
	return nil, errors.New("nobody leads")
}
