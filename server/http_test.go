package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
	"clusterd/registry"
)

// The order of checks of the scheduler API, each request wrong in the one thing
// and in nothing that is checked before it.
func TestSchedulerChecks(t *testing.T) {
	s := startMaster(t)
	f := subscribe(t, s, goldenInfo())
	const jsonType, protoType = "application/json", "application/x-protobuf"
	id := f.id.GetValue()
	decline := `{"type":"DECLINE","framework_id":{"value":"` + id + `"},"decline":{"offer_ids":[{"value":"x"}]}}`
	sub := `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"x"}}}`
	for _, c := range []struct {
		name, method, contentType, accept, stream, body string
		status                                          int
		want                                            string
	}{
		{"method", "GET", jsonType, "", "", "", 405, "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."},
		{"no content type", "POST", "", "", "", decline, 400, "Expecting 'Content-Type' to be present"},
		{"charset", "POST", jsonType + "; charset=utf-8", "", "", decline, 415, "Expecting 'Content-Type' of application/json or application/x-protobuf"},
		{"text", "POST", "text/plain", "", "", "{", 415, "Expecting 'Content-Type' of application/json or application/x-protobuf"},
		{"malformed JSON", "POST", jsonType, "", "", "{", 400, "Failed to parse body into JSON: syntax error at line 1 near: "},
		{"malformed protobuf", "POST", protoType, "", "", "\x01\x02garbage", 400, "Failed to parse body into Call protobuf"},
		{"missing field", "POST", jsonType, "", "", `{"type":"SUBSCRIBE","subscribe":{}}`, 400, "Failed to convert JSON into Call protobuf: Missing required fields: subscribe.framework_info"},
		{"no type", "POST", jsonType, "", "", `{}`, 400, "Failed to validate scheduler::Call: Expecting 'type' to be present"},
		{"no member", "POST", jsonType, "text/html", "", `{"type":"KILL","framework_id":{"value":"` + id + `"}}`, 400, "Failed to validate scheduler::Call: Expecting 'kill' to be present"},
		{"no framework id", "POST", jsonType, "", "", `{"type":"REVIVE"}`, 400, "Failed to validate scheduler::Call: Expecting 'framework_id' to be present"},
		{"ids differ", "POST", jsonType, "", "", `{"type":"SUBSCRIBE","framework_id":{"value":"a"},"subscribe":{"framework_info":{"user":"root","name":"x","id":{"value":"b"}}}}`, 400, "Failed to validate scheduler::Call: 'framework_id' differs from 'subscribe.framework_info.id'"},
		{"not acceptable", "POST", jsonType, "text/html", f.streamID, sub, 406, "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"},
		{"subscribe with stream", "POST", jsonType, "", f.streamID, sub, 400, "Subscribe calls should not include the 'Mesos-Stream-Id' header"},
		{"unknown framework", "POST", jsonType, "", "", strings.ReplaceAll(decline, id, "nosuch"), 400, "Framework cannot be found"},
		{"no stream", "POST", jsonType, "text/html", "", decline, 400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header"},
		{"wrong stream", "POST", jsonType, "", "00000000", decline, 400, "The stream ID '00000000' included in this request didn't match the stream ID currently associated with framework ID " + id},
		{"unknown call", "POST", jsonType, "", f.streamID, `{"type":"UNKNOWN","framework_id":{"value":"` + id + `"}}`, 501, "501 Not Implemented."},
		{"ok", "POST", jsonType, "text/html", f.streamID, decline, 202, ""},
	} {
		for _, path := range []string{"/api/v1/scheduler", "/master/api/v1/scheduler/"} {
			t.Run(c.name+path, func(t *testing.T) {
				h := http.Header{}
				for k, v := range map[string]string{"Content-Type": c.contentType, "Accept": c.accept, streamIDHeader: c.stream} {
					if v != "" {
						h.Set(k, v)
					}
				}
				r := do(t, c.method, endpoint(s, path), h, []byte(c.body))
				if r.status != c.status || r.body != c.want {
					t.Errorf("got %d %q, want %d %q", r.status, r.body, c.status, c.want)
				}
				wantType := "text/plain; charset=utf-8"
				if c.status == 202 {
					wantType = ""
				}
				if got := r.header.Get("Content-Type"); got != wantType {
					t.Errorf("got Content-Type %q", got)
				}
			})
		}
	}
}

// What is found wrong after parsing opens a stream with one ERROR event, and
// ends it.
func TestSubscriptionErrorIsAnEvent(t *testing.T) {
	s := startMaster(t)
	info := goldenInfo()
	info.Roles = []string{"a//b"}
	f := subscribeRaw(t, s, info)
	rest, err := f.records.Next()
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, string(rest), `"type":"ERROR"`, "a//b")
	if _, err := f.records.Next(); err == nil {
		t.Error("the stream goes on")
	}
	if n := len(getJSON(t, s, "/frameworks")["frameworks"].([]any)); n != 0 {
		t.Errorf("%d frameworks", n)
	}
}

// A protobuf stream carries the same events.
func TestProtobufStream(t *testing.T) {
	s := startMaster(t)
	call, err := proto.Marshal(&scheduler.Call{
		Type: scheduler.Call_SUBSCRIBE.Enum(), Subscribe: &scheduler.Call_Subscribe{FrameworkInfo: goldenInfo()},
	})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint(s, "/api/v1/scheduler"), bytes.NewReader(call))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/x-protobuf"}, "Accept": {"application/x-protobuf"}}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "application/x-protobuf" {
		t.Errorf("got %s", got)
	}
	r := bufio.NewReader(resp.Body)
	var n int
	if _, err := fmt.Fscanf(r, "%d\n", &n); err != nil {
		t.Fatal(err)
	}
	record := make([]byte, n)
	if _, err := io.ReadFull(r, record); err != nil {
		t.Fatal(err)
	}
	var ev scheduler.Event
	if err := proto.Unmarshal(record, &ev); err != nil || ev.GetType() != scheduler.Event_SUBSCRIBED || ev.GetSubscribed().GetHeartbeatIntervalSeconds() != 15 {
		t.Errorf("got %v, %v", &ev, err)
	}
}

func TestOversizedBodyIsRefused(t *testing.T) {
	s := startMaster(t)
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /api/v1/scheduler HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", httpapi.MaxBody+1)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestOperatorAPI(t *testing.T) {
	s := startMaster(t)
	startAgent(t, s, agentInfo())
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/x-protobuf"}}
	for _, name := range []string{"GET_STATE", "GET_AGENTS", "GET_FRAMEWORKS", "GET_TASKS", "GET_EXECUTORS", "GET_MASTER", "GET_HEALTH", "GET_VERSION", "GET_ROLES"} {
		r := do(t, http.MethodPost, endpoint(s, "/api/v1"), header, []byte(`{"type":"`+name+`"}`))
		var resp master.Response
		if err := proto.Unmarshal([]byte(r.body), &resp); err != nil || r.status != http.StatusOK || resp.GetType().String() != name {
			t.Errorf("%s: got %d %v: %v", name, r.status, resp.GetType(), err)
		}
		if name == "GET_AGENTS" && len(resp.GetGetAgents().GetAgents()) != 1 {
			t.Errorf("got %v", &resp)
		}
	}
	for body, want := range map[string]int{
		`{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":"x"}}}`:                                    400,
		`{"type":"LIST_FILES","list_files":{"path":"/x"}}`:                                                   404,
		`{"type":"SET_LOGGING_LEVEL"}`:                                                                       400,
		`{"type":"SET_LOGGING_LEVEL","set_logging_level":{"level":2,"duration":{"nanoseconds":1000000000}}}`: 200,
		`{"type":"GET_METRICS"}`:                                                                             400,
		`{"type":"GET_METRICS","get_metrics":{"timeout":{"nanoseconds":5000000000}}}`:                        200,
	} {
		r := do(t, http.MethodPost, endpoint(s, "/api/v1"), http.Header{"Content-Type": {"application/json"}}, []byte(body))
		if r.status != want {
			t.Errorf("%s: got %d %s, want %d", body, r.status, r.body, want)
		}
	}
	if s.opts.Verbosity.Level() != 2 {
		t.Error("the logging level was not set")
	}
	if err := s.opts.Verbosity.Set(0, 0); err != nil {
		t.Error(err)
	}
}

// Old names, prefixes, trailing slashes, JSONP: what readers in the wild lean on.
func TestReadersInTheWild(t *testing.T) {
	s := startMaster(t)
	for _, path := range []string{
		"/state", "/state.json", "/master/state", "/master/state.json", "/state/", "/slaves/some-id", "/tasks/?limit=-1", "/master/tasks.json",
		"/master/frameworks/", "/roles", "/roles.json", "/state-summary", "/master/state-summary", "/metrics/snapshot", "/version", "/flags",
		"/master/flags", "/system/stats.json",
	} {
		if r := get(t, s, path); r.status != http.StatusOK || !strings.HasPrefix(r.body, "{") {
			t.Errorf("%s: got %d %.80s", path, r.status, r.body)
		}
	}
	r := get(t, s, "/state-summary?jsonp=cb")
	if r.header.Get("Content-Type") != "text/javascript" || !strings.HasPrefix(r.body, `cb({"hostname":"localhost"`) || !strings.HasSuffix(r.body, ")") {
		t.Errorf("JSONP: got %v %s", r.header, r.body)
	}
	if r := get(t, s, "/nosuch"); r.status != http.StatusNotFound || r.body != "404 Not Found." {
		t.Errorf("got %d %s", r.status, r.body)
	}
	mustContain(t, get(t, s, "/metrics/prometheus").body, "clusterd_master_elected 1", `clusterd_master_agents{state="active"} 0`)
}

// Many readers at once are no burden of the core, and all are answered.
func TestManyReaders(t *testing.T) {
	s := startMaster(t)
	startAgent(t, s, agentInfo())
	f := subscribe(t, s, goldenInfo())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if r := get(t, s, "/state"); r.status != http.StatusOK {
					t.Errorf("got %d", r.status)
				}
			}
		})
	}
	for range 50 {
		f.accepted(&scheduler.Call{Type: scheduler.Call_REVIVE.Enum()})
	}
	wg.Wait()
}

// A view that is read after a call was answered shows what the call did.
func TestReadYourWrites(t *testing.T) {
	s := startMaster(t)
	for n := range 20 {
		f := subscribe(t, s, goldenInfo())
		if got := len(getJSON(t, s, "/frameworks")["frameworks"].([]any)); got != n+1 {
			t.Fatalf("after SUBSCRIBE %d there are %d frameworks", n, got)
		}
		_ = f
	}
}

// Stop does not wait for readers of streams or for agents.
func TestStopWithStreamsOpen(t *testing.T) {
	s := startMaster(t)
	subscribe(t, s, goldenInfo())
	subscribeRaw(t, s, goldenInfo()) // nobody reads this one
	a := startAgent(t, s, agentInfo())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			if _, err := a.conn.Receive(); err != nil {
				return
			}
		}
	}()
	start := time.Now()
	stopMaster(t, s)
	<-gone
	if took := time.Since(start); took > patience/2 {
		t.Errorf("it took %s", took)
	}
	stopMaster(t, s) // again: nothing happens
}

// Of two masters one leads; the other sends schedulers, readers and agents there.
func TestRedirectToLeader(t *testing.T) {
	pair := func() *Server {
		opts := DefaultOptions()
		opts.IP, opts.Port, opts.Hostname, opts.WorkDir = "127.0.0.1", 0, "localhost", t.TempDir()
		opts.BootstrapExpect = 0 // founded below
		s, err := New(opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	masters := []*Server{pair(), pair()}
	members := []registry.Member{masters[0].registry.Self(), masters[1].registry.Self()}
	for _, m := range masters {
		t.Cleanup(func() { stopMaster(t, m) })
	}
	if err := masters[0].registry.Bootstrap(members); err != nil {
		t.Fatal(err)
	}
	var leader, follower *Server
	eventually(t, "one of two masters leads and the other knows", func() bool {
		for i, m := range masters {
			if m.term.Load() != nil {
				leader, follower = m, masters[1-i]
				info, ok := follower.registry.Leader()
				return ok && info.GetPort() == leader.MasterInfo().GetPort()
			}
		}
		return false
	})
	base := fmt.Sprintf("//localhost:%d", leader.MasterInfo().GetPort())
	for path, want := range map[string]string{
		"/state?jsonp=x":      base + "/state?jsonp=x",
		"/master/state":       base + "/master/state",
		"/api/v1/scheduler":   base + "/api/v1/scheduler",
		"/api/v1":             base + "/api/v1",
		"/redirect":           base,
		"/master/redirect":    base,
		"/tasks/?limit=1&a=b": base + "/tasks/?limit=1&a=b",
	} {
		r := do(t, http.MethodPost, endpoint(follower, path), nil, nil)
		if r.status != http.StatusTemporaryRedirect || r.header.Get("Location") != want || r.body != "" {
			t.Errorf("%s: got %d, Location %q, want %q", path, r.status, r.header.Get("Location"), want)
		}
	}
	if getJSON(t, follower, "/metrics/snapshot")["master/elected"] != 0.0 || getJSON(t, leader, "/metrics/snapshot")["master/elected"] != 1.0 {
		t.Error("master/elected is wrong")
	}
	conn, err := link.Dial(t.Context(), []string{follower.Addr().String()}, link.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { conn.CloseNow(); <-conn.Done() }()
	if got := conn.RemoteAddr().(*net.TCPAddr).Port; got != int(leader.MasterInfo().GetPort()) {
		t.Errorf("the agent was sent to port %d", got)
	}
}

func TestMasterInfo(t *testing.T) {
	for _, c := range []struct {
		change        func(*Options)
		ip, host, pid string
		number        uint32
	}{
		{func(*Options) {}, "127.0.0.1", "localhost", "master@127.0.0.1:1234", 16777343},
		{func(o *Options) { o.AdvertiseIP, o.Hostname = "10.1.2.3", ""; o.HostnameLookup = false }, "10.1.2.3", "10.1.2.3", "master@10.1.2.3:1234", 50462986},
		{func(o *Options) { o.AdvertiseIP, o.Hostname = "::1", "six" }, "::1", "six", "master@[::1]:1234", 0},
	} {
		opts := DefaultOptions()
		opts.Hostname, opts.AdvertisePort = "localhost", 1234
		c.change(&opts)
		info, err := masterInfo(t.Context(), &opts, "id", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5})
		if err != nil {
			t.Fatal(err)
		}
		want := &mesos.MasterInfo{Ip: &c.number}
		if info.GetAddress().GetIp() != c.ip || info.GetHostname() != c.host || info.GetPid() != c.pid || info.GetIp() != want.GetIp() || info.GetPort() != 1234 {
			t.Errorf("got %v", info)
		}
	}
	opts := DefaultOptions()
	info, err := masterInfo(t.Context(), &opts, "id", &net.TCPAddr{IP: net.IPv4zero, Port: 5050})
	if err != nil || net.ParseIP(info.GetAddress().GetIp()).IsUnspecified() {
		t.Errorf("listening everywhere, it advertises %v, %v", info, err)
	}
}

// A scheduler whose machine is gone must not look connected for long.
func TestConnectionsNoticeDeadPeers(t *testing.T) {
	s := startMaster(t)
	raw, err := s.listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	var failed error
	if err := raw.Control(func(fd uintptr) {
		got, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	if got != int(deadPeerAfter.Milliseconds()) {
		t.Errorf("TCP_USER_TIMEOUT is %d ms", got)
	}
}
