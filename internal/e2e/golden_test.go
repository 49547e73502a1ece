package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"clusterd/internal/testcluster"
)

// goldenDir holds the answers that were recorded from a real Mesos.
const goldenDir = "../../../shared/golden"

// The ids of the recorded run.
const (
	goldenMaster    = "87b62806-7648-48b9-adfb-e17ef857b670"
	goldenFramework = goldenMaster + "-0000"
	goldenAgent     = goldenMaster + "-S0"
	goldenStream    = "4a4cfc32-1b64-418b-884a-1d071593e55c"
)

// object is a JSON object.
type object = map[string]any

// goldenAnswer is one recorded request with its answer.
type goldenAnswer struct {
	name    string // folder/.../file, without .json
	Request struct {
		To, Method, Path string
		Headers          []string
		BasicAuth        string `json:"basic_auth"`
		JSON             json.RawMessage
		Body             string
	}
	Response struct {
		Status  int
		Headers []string
		JSON    json.RawMessage
		Body    string
	}
}

// goldenDiffers is a difference from a real Mesos that is meant.
type goldenDiffers struct {
	// answers and what are regular expressions, of the whole: the names of the
	// answers, and status, header NAME, body, or the path of a JSON member.
	answers, what string
	why           string
	maybe         bool // it depends on how clusterd was built
}

// goldenDifferences are all of them. One that is no longer needed fails the test.
var goldenDifferences = []goldenDiffers{
	{answers: `.*/agent/files_debug`, what: `\./.*`, why: "the paths of sandboxes are members there"},
	{answers: `.*/agent/files_download_stdout`, what: `header (Accept-Ranges|Last-Modified)`, why: "a download can be taken up again"},
	{answers: `.*/(agent|master)/(flags|state|slave1_state|master_state)`, what: `\.flags\..*`, why: "which flags exist is compared where they are defined, internal/flags"},
	{answers: `.*/(agent|master)/help`, what: `body`, why: "the help lists clusterd's endpoints"},
	{
		answers: `.*(version|GET_VERSION|state)`, what: `(\.get_version\.version_info)?\.git_(branch|sha)`,
		why: "a build that does not know its commit does not say one", maybe: true,
	},
	{answers: `.*/GET_CONTAINERS`, what: `.*\.container_id\.parent(\.value)?`, why: "Mesos loses the parents of nested containers there"},
	{answers: `.*/master/index`, what: `.*`, why: "there is no web interface yet"},
	{answers: `.*/master/processes`, what: `.*`, why: "/__processes__ shows libprocess's queues, which do not exist here"},
	{answers: `.*/master/state_json`, what: `.*`, why: "Mesos gave /state.json up; clients that still ask for it are answered"},
	{answers: `mutations/0[57].*`, what: `.* length`, why: "a quota that was set to nothing is forgotten; Mesos keeps an empty one"},
	{answers: `.*/master/tasks_limit1`, what: `\.tasks\[\]\.(discovery|labels).*`, why: "which task is the oldest is chance", maybe: true},
	{answers: `.*`, what: `.*\.agent_info\.checkpoint`, why: "a member of the v0 message that has no place in the v1 schema"},
	{answers: `errors/http_gzip_state`, what: `header Vary`, why: "a cache may then keep both forms"},
}

// goldenReplay compares the answers of a cluster with the recorded ones.
type goldenReplay struct {
	t     *testing.T
	c     *testcluster.Cluster
	ids   *strings.Replacer // recorded ones to ours
	f     *goldenScheduler
	used  []bool
	count int
	next  string // the number of the next mutation
}

// TestGolden replays every request that was recorded against a real Mesos, at a real
// master and agent in the same states, and compares status, headers, members, their
// types and nesting, and the text of errors.
func TestGolden(t *testing.T) {
	if _, err := os.Stat(goldenDir); err != nil {
		t.Skipf("the recorded answers of a real Mesos are not here (%s)", goldenDir)
	}
	g := &goldenReplay{t: t, used: make([]bool, len(goldenDifferences))}
	g.open()
	g.authenticated()
	if want := goldenCount(t); g.count != want {
		t.Errorf("%d of %d answers were compared", g.count, want)
	}
	for i, d := range goldenDifferences {
		if !g.used[i] && !d.maybe {
			t.Errorf("no longer different: %+v", d)
		}
	}
}

// goldenCount is how many answers there are, streams apart.
func goldenCount(t *testing.T) int {
	n := 0
	for _, dir := range []string{"running/*", "after/*", "errors", "mutations", "auth"} {
		all, err := filepath.Glob(filepath.Join(goldenDir, dir, "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		n += len(all)
	}
	if n < 200 {
		t.Errorf("only %d recorded answers", n)
	}
	return n
}

// open replays what was recorded of daemons that ask nobody.
func (g *goldenReplay) open() {
	t := g.t
	dir := t.TempDir()
	g.c = testcluster.Start(t, testcluster.Options{
		MasterFlags: []string{"--log_dir=" + filepath.Join(dir, "master"), "--agent_ping_timeout=15secs"},
		AgentFlags: []string{
			"--log_dir=" + filepath.Join(dir, "agent"), "--resources=cpus:4;mem:2048;disk:10000;ports:[31000-32000]",
			"--attributes=rack:r1;level:3", "--isolation=posix/cpu,posix/mem", "--launcher=posix",
		},
	})
	g.f = newGoldenScheduler(t, g.c.Master.Addr)
	g.f.run("01_ACCEPT_LAUNCH.json", "t_kill TASK_RUNNING", "t1 TASK_RUNNING", "t_fail TASK_FAILED")
	g.f.waitOffer()
	g.f.run("09_ACCEPT_LAUNCH_GROUP.json", "g1 TASK_RUNNING", "g2 TASK_RUNNING")
	g.f.waitOffer()
	agent := g.f.offer["agent_id"].(object)["value"].(string)
	g.ids = strings.NewReplacer(
		goldenFramework, g.f.id, goldenAgent, agent, goldenStream, g.f.stream,
		"localhost:15050", "localhost:"+portOf(g.c.Master.Addr),
	)
	g.folder("running/*", "t_kill")
	g.endTasks(agent)
	g.folder("after/*", "t_fail")
	g.folder("errors", "t_fail", "after_teardown")
	g.mutations()
	g.f.call(object{"type": "TEARDOWN"})
	g.f.ended()
	g.only("errors", "t_fail", "after_teardown")
}

// endTasks ends all tasks and executors.
func (g *goldenReplay) endTasks(agent string) {
	g.t.Helper()
	for _, task := range []string{"t_kill", "g1", "g2"} {
		g.f.call(object{"type": "KILL", "kill": object{"task_id": object{"value": task}}})
		g.f.waitUpdates(task + " TASK_KILLED")
	}
	if err := os.WriteFile(g.f.stop, nil, 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.f.waitUpdates("t1 TASK_FINISHED")
	g.f.call(object{"type": "SHUTDOWN", "shutdown": object{"executor_id": object{"value": "default"}, "agent_id": object{"value": agent}}})
	g.settle()
}

// mutations replays the changes, and between them those that were not recorded.
func (g *goldenReplay) mutations() {
	g.f.call(object{"type": "SUPPRESS"})
	err := testcluster.Poll(func() error {
		g.f.decline()
		body, err := testcluster.Get("http://" + g.c.Master.Addr + "/slaves")
		if err == nil && !strings.Contains(body, `"offered_resources":{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":0.0`) {
			err = errors.New("something is offered")
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	between := map[string]func(){
		// 03 is missing. The recorded master had a quota of "*" that was set to nothing.
		"05": func() { g.operate("UPDATE_QUOTA", object{"force": true, "quota_configs": []any{object{"role": "*"}}}) },
		// 17 and 18 are missing: the end of what 15 begins.
		"19": func() {
			g.operate("STOP_MAINTENANCE", object{"machines": []any{object{"hostname": "m1", "ip": "127.0.0.9"}}})
		},
		// 27 is: the framework has something on the agent, and answers the inverse offer.
		"28": func() {
			g.f.call(object{"type": "REVIVE"})
			g.f.until("inverse offer", func() bool { return g.f.inverse })
			g.waitFor("ACCEPT", "/maintenance/status")
		},
	}
	for _, number := range slices.Sorted(maps.Keys(between)) {
		g.each("mutations", func(name string) bool { return name < number && name >= g.next }, "")
		between[number]()
		g.next = number
	}
	g.each("mutations", func(name string) bool { return name >= g.next }, "")
}

// operate makes a call of the operator API that was not recorded.
func (g *goldenReplay) operate(call string, arguments object) {
	g.t.Helper()
	body, err := json.Marshal(object{"type": call, strings.ToLower(call): arguments})
	if err != nil {
		g.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, "http://"+g.c.Master.Addr+"/api/v1", bytes.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		g.t.Fatalf("%s: %s", call, res.Status)
	}
}

// waitFor waits until the master's answer says something.
func (g *goldenReplay) waitFor(text, path string) {
	g.t.Helper()
	g.wait("http://"+g.c.Master.Addr+path, func(body string) bool { return strings.Contains(body, text) })
}

// waitForAgent waits until the agent's answer is the text.
func (g *goldenReplay) waitForAgent(text, path string) {
	g.t.Helper()
	g.wait("http://"+g.c.Agents[0].Addr+path, func(body string) bool { return strings.TrimSpace(body) == text })
}

func (g *goldenReplay) wait(url string, so func(body string) bool) {
	g.t.Helper()
	err := testcluster.Poll(func() error {
		body, err := testcluster.Get(url)
		if err == nil && !so(body) {
			err = fmt.Errorf("%s: still %s", url, body)
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// settle waits until the agent has no executor, and all is offered again.
func (g *goldenReplay) settle() {
	g.t.Helper()
	g.waitForAgent("[]", "/containers")
	g.waitForAgent("[]", "/monitor/statistics") // they are kept for a second
	// All that the agent has is offered, in as many offers as it came free.
	g.waitFor(`"offered_resources":{"disk":10000.0,"mem":2048.0,"gpus":0.0,"cpus":4.0`, "/slaves")
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// authenticated replays what was recorded of a master that asks everybody.
func (g *goldenReplay) authenticated() {
	t := g.t
	credentials := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(credentials, []byte(`{"credentials":[{"principal":"foo","secret":"bar"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := testcluster.New(testcluster.Options{
		Agents: -1, Dir: t.TempDir(),
		MasterFlags: []string{
			"--credentials=" + credentials, "--authenticate_http_readonly", "--authenticate_http_readwrite",
			"--authenticate_http_frameworks", "--authenticate_frameworks", "--http_framework_authenticators=basic",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	if err := c.Master.Start(); err != nil {
		t.Fatal(err)
	}
	g.c, g.ids = c, strings.NewReplacer()
	g.wait("http://foo:bar@"+c.Master.Addr+"/state", func(string) bool { return true }) // it leads
	g.folder("auth", "")
}

// folder replays all answers of a folder, in the order of their names, but those whose
// name contains one of without. Files are those of the sandbox of a task.
func (g *goldenReplay) folder(folder, task string, without ...string) {
	g.each(folder, func(name string) bool {
		return !slices.ContainsFunc(without, func(s string) bool { return strings.Contains(name, s) })
	}, task)
}

// only replays those whose name contains a text.
func (g *goldenReplay) only(folder, task, part string) {
	g.each(folder, func(name string) bool { return strings.Contains(name, part) }, task)
}

func (g *goldenReplay) each(folder string, want func(name string) bool, task string) {
	all, err := filepath.Glob(filepath.Join(goldenDir, folder, "*.json"))
	if err != nil || len(all) == 0 {
		g.t.Fatalf("%s: %d recorded answers, %v", folder, len(all), err)
	}
	for _, file := range all {
		if !want(filepath.Base(file)) {
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(file, goldenDir+"/"), ".json")
		g.count++
		g.t.Run(name, func(t *testing.T) { g.replay(t, g.read(t, file, name, task)) })
	}
}

var recordedSandbox = regexp.MustCompile(`/var/lib/mesos-agent/slaves/[^"]*/runs/[^/"]*`)

// read reads a recorded answer and puts our ids and paths in place of those recorded.
func (g *goldenReplay) read(t *testing.T, file, name, task string) *goldenAnswer {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if task != "" {
		b = recordedSandbox.ReplaceAll(b, []byte(sandbox(g.c, task)))
	}
	a := goldenAnswer{name: name}
	if err := json.Unmarshal([]byte(g.ids.Replace(string(b))), &a); err != nil {
		t.Fatal(err)
	}
	return &a
}

// request is the recorded one. What the recording program was told beside headers is
// among them, after a question mark.
func (g *goldenReplay) request(t *testing.T, a *goldenAnswer) *http.Request {
	t.Helper()
	address := g.c.Master.Addr
	if a.Request.To == "agent" {
		address = g.c.Agents[0].Addr
	}
	body := []byte(a.Request.Body)
	if a.Request.JSON != nil {
		body = a.Request.JSON
	}
	header, form := make(http.Header), make(url.Values)
	inURL := false
	for _, h := range a.Request.Headers {
		if arg, ok := strings.CutPrefix(h, "?"); ok {
			inURL = inURL || arg == "-G"
			if k, v, ok := strings.Cut(arg, "="); ok {
				form.Add(k, v)
			}
		} else if k, v, ok := strings.Cut(h, ": "); ok {
			header.Add(k, v)
		}
	}
	path := a.Request.Path
	switch {
	case len(form) > 0 && inURL:
		path += "?" + form.Encode()
	case len(form) > 0:
		body = []byte(form.Encode())
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req, err := http.NewRequestWithContext(t.Context(), a.Request.Method, "http://"+address+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	if user, password, ok := strings.Cut(a.Request.BasicAuth, ":"); ok {
		req.SetBasicAuth(user, password)
	}
	return req
}

// replay sends a request and compares the answer.
func (g *goldenReplay) replay(t *testing.T, a *goldenAnswer) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(g.request(t, a).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	g.same(t, a, "status", a.Response.Status, res.StatusCode)
	g.headers(t, a, res)
	if slices.Contains(res.TransferEncoding, "chunked") && res.Header.Get("Mesos-Stream-Id") != "" {
		g.stream(t, a, res.Body)
		return
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case a.Response.JSON != nil:
		got, err := decodeNumbers(body)
		if err != nil {
			g.same(t, a, "body", "JSON", string(body))
			return
		}
		want, err := decodeNumbers(a.Response.JSON)
		if err != nil {
			t.Fatal(err)
		}
		g.members(t, a, want, got)
	case a.Request.Method == http.MethodHead, res.Header.Get("Content-Encoding") != "":
	case strings.HasPrefix(a.Response.Body, "cb("): // JSONP of what is compared as JSON elsewhere
		g.same(t, a, "body", true, strings.HasPrefix(string(body), "cb({") && strings.HasSuffix(string(body), "})"))
	default:
		g.same(t, a, "body", a.Response.Body, string(body))
	}
}

// headers compares all headers; those that say how long a body is follow from it.
func (g *goldenReplay) headers(t *testing.T, a *goldenAnswer, res *http.Response) {
	want, got := make(http.Header), res.Header.Clone()
	for _, h := range a.Response.Headers {
		if k, v, ok := strings.Cut(h, ": "); ok {
			want.Add(k, v)
		}
	}
	if len(res.TransferEncoding) > 0 {
		got["Transfer-Encoding"] = res.TransferEncoding
	}
	got.Del("Date")
	for _, volatile := range []string{"Content-Length", "Mesos-Stream-Id"} {
		if want.Get(volatile) != "" && got.Get(volatile) != "" && (want.Get(volatile) == "0") == (got.Get(volatile) == "0") {
			want.Del(volatile)
			got.Del(volatile)
		}
	}
	names := maps.Clone(want)
	maps.Copy(names, got)
	for name := range names {
		g.same(t, a, "header "+name, strings.Join(want.Values(name), ", "), strings.Join(got.Values(name), ", "))
	}
}

// stream compares the first event of a subscription that stays open.
func (g *goldenReplay) stream(t *testing.T, a *goldenAnswer, body io.Reader) {
	_, text, _ := strings.Cut(a.Response.Body, "\n")
	want, err := decodeNumbers([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	event, err := readRecord(bufio.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeNumbers(event)
	if err != nil {
		t.Fatal(err)
	}
	g.members(t, a, want, got)
}

// decodeNumbers decodes the first JSON value and keeps numbers as they are written.
func decodeNumbers(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

func readRecord(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return nil, err
	}
	record := make([]byte, n)
	_, err = io.ReadFull(r, record)
	return record, err
}

// members compares which members are where, and of which types.
func (g *goldenReplay) members(t *testing.T, a *goldenAnswer, want, got any) {
	t.Helper()
	w, h := make(map[string][]string), make(map[string][]string)
	goldenShape(want, "", w)
	goldenShape(got, "", h)
	metrics := strings.HasSuffix(a.name, "/metrics_snapshot")
	paths := maps.Clone(w)
	maps.Copy(paths, h)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if w[path] == nil && metrics {
			continue // more metrics are welcome
		}
		foreign := slices.ContainsFunc(h[path], func(kind string) bool { return !slices.Contains(w[path], kind) })
		if foreign || h[path] == nil {
			g.same(t, a, path, strings.Join(w[path], " or "), strings.Join(h[path], " or "))
		}
	}
	if strings.HasPrefix(a.name, "mutations/") {
		g.values(t, a, "", want, got)
	}
}

// restless are members whose values no two runs share.
var restless = regexp.MustCompile(`.*(\.(nanoseconds|port|pid|version|id\.value|agent_id\.value|framework_id\.value|timestamp)|_resources.*)`)

// values compares what members hold after something was changed.
func (g *goldenReplay) values(t *testing.T, a *goldenAnswer, path string, want, got any) {
	t.Helper()
	switch w := want.(type) {
	case object:
		h, ok := got.(object)
		for k, v := range w {
			if ok && h[k] != nil {
				g.values(t, a, path+"."+k, v, h[k])
			}
		}
	case []any:
		h, _ := got.([]any)
		if len(h) != len(w) {
			g.same(t, a, path+" length", len(w), len(h))
			return
		}
		for i := range w {
			g.values(t, a, path+"[]", w[i], h[i])
		}
	default:
		if !restless.MatchString(path) {
			g.same(t, a, path+" value", want, got)
		}
	}
}

// goldenShape collects, for each path into a JSON value, the types found there.
func goldenShape(v any, path string, into map[string][]string) {
	kind := "null"
	switch v := v.(type) {
	case object:
		kind = "object"
		for k, e := range v {
			goldenShape(e, path+"."+k, into)
		}
	case []any:
		kind = "list"
		for _, e := range v {
			goldenShape(e, path+"[]", into)
		}
	case string:
		kind = "string"
	case json.Number:
		kind = "integer"
		if strings.ContainsAny(v.String(), ".eE") {
			kind = "double"
		}
	case bool:
		kind = "bool"
	}
	if !slices.Contains(into[path], kind) {
		into[path] = append(into[path], kind)
	}
}

// same compares one thing; a difference must be among those meant.
func (g *goldenReplay) same(t *testing.T, a *goldenAnswer, what string, want, got any) {
	t.Helper()
	if want == got {
		return
	}
	for i, d := range goldenDifferences {
		if wholeMatch(d.answers, a.name) && wholeMatch(d.what, what) {
			g.used[i] = true
			return
		}
	}
	t.Errorf("%s: Mesos: %q, here: %q", what, fmt.Sprint(want), fmt.Sprint(got))
}

func wholeMatch(pattern, text string) bool {
	return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(text)
}

// goldenScheduler plays the recorded framework with nothing but JSON and HTTP. It
// acknowledges every update and accepts every inverse offer.
type goldenScheduler struct {
	t                     *testing.T
	url, id, stream, stop string
	offer                 object // the latest that is more than what an ended task had
	offers                map[string]bool
	inverse               bool // an inverse offer was accepted
	updates               map[string]bool
	events                chan object
}

func newGoldenScheduler(t *testing.T, master string) *goldenScheduler {
	t.Helper()
	s := &goldenScheduler{
		t: t, url: "http://" + master + "/api/v1/scheduler", stop: filepath.Join(t.TempDir(), "stop"),
		updates: make(map[string]bool), offers: make(map[string]bool), events: make(chan object, 1000),
	}
	var recorded goldenAnswer
	b, err := os.ReadFile(filepath.Join(goldenDir, "errors", "sched_resubscribe_after_teardown.json"))
	if err != nil {
		t.Fatal(err)
	}
	var subscribe object
	if err := errors.Join(json.Unmarshal(b, &recorded), json.Unmarshal(recorded.Request.JSON, &subscribe)); err != nil {
		t.Fatal(err)
	}
	delete(subscribe, "framework_id")
	delete(subscribe["subscribe"].(object)["framework_info"].(object), "id")
	res := s.post(subscribe)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("SUBSCRIBE: %s", res.Status)
	}
	s.stream = res.Header.Get("Mesos-Stream-Id")
	t.Cleanup(func() { res.Body.Close() })
	go func() {
		defer close(s.events)
		for r := bufio.NewReader(res.Body); ; {
			var e object
			record, err := readRecord(r)
			if err != nil || json.Unmarshal(record, &e) != nil {
				return
			}
			s.events <- e
		}
	}()
	s.until("SUBSCRIBED", func() bool { return s.id != "" })
	s.waitOffer()
	return s
}

func (s *goldenScheduler) post(call object) *http.Response {
	s.t.Helper()
	b, err := json.Marshal(call)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url, bytes.NewReader(b))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if s.stream != "" {
		req.Header.Set("Mesos-Stream-Id", s.stream)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return res
}

func (s *goldenScheduler) call(call object) {
	s.t.Helper()
	call["framework_id"] = object{"value": s.id}
	res := s.post(call)
	defer res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		b, _ := io.ReadAll(res.Body)
		s.t.Fatalf("%s: %s %s", call["type"], res.Status, b)
	}
}

// until takes events until something is so.
func (s *goldenScheduler) until(what string, so func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testcluster.Patience)
	defer cancel()
	for !so() {
		select {
		case e, ok := <-s.events:
			if !ok {
				s.t.Fatalf("the stream ended before %s", what)
			}
			s.take(e)
		case <-ctx.Done():
			s.t.Fatalf("no %s", what)
		}
	}
}

// ended takes events until the stream ends.
func (s *goldenScheduler) ended() {
	s.t.Helper()
	timeout := time.After(testcluster.Patience)
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				return
			}
			s.take(e)
		case <-timeout:
			s.t.Fatal("the stream did not end")
		}
	}
}

func (s *goldenScheduler) take(e object) {
	switch e["type"] {
	case "SUBSCRIBED":
		s.id = e["subscribed"].(object)["framework_id"].(object)["value"].(string)
	case "OFFERS":
		for _, o := range e["offers"].(object)["offers"].([]any) {
			o := o.(object)
			s.offers[o["id"].(object)["value"].(string)] = true
			if offersPorts(o) {
				s.offer = o
			}
		}
	case "RESCIND":
		id := e["rescind"].(object)["offer_id"].(object)["value"].(string)
		delete(s.offers, id)
		if s.offer != nil && s.offer["id"].(object)["value"] == id {
			s.offer = nil
		}
	case "INVERSE_OFFERS":
		var ids []any
		for _, o := range e["inverse_offers"].(object)["inverse_offers"].([]any) {
			ids = append(ids, o.(object)["id"])
		}
		s.call(object{"type": "ACCEPT_INVERSE_OFFERS", "accept_inverse_offers": object{"inverse_offer_ids": ids}})
		s.inverse = true
	case "UPDATE":
		status := e["update"].(object)["status"].(object)
		if uuid, ok := status["uuid"]; ok {
			s.call(object{"type": "ACKNOWLEDGE", "acknowledge": object{"agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": uuid}})
		}
		s.updates[fmt.Sprint(status["task_id"].(object)["value"], " ", status["state"])] = true
	}
}

// offersPorts says whether an offer has ports: no task has any, so that what an ended one
// had, which may be an offer of its own, has none.
func offersPorts(offer object) bool {
	return slices.ContainsFunc(offer["resources"].([]any), func(r any) bool { return r.(object)["name"] == "ports" })
}

// decline gives back all that is offered, and wants no offers.
func (s *goldenScheduler) decline() {
	s.t.Helper()
	for len(s.events) > 0 {
		s.take(<-s.events)
	}
	for id := range s.offers {
		s.call(object{"type": "DECLINE", "decline": object{"offer_ids": []any{object{"value": id}}}})
	}
	clear(s.offers)
	s.offer = nil
}

func (s *goldenScheduler) waitOffer() {
	s.t.Helper()
	s.until("offer", func() bool { return s.offer != nil })
}

func (s *goldenScheduler) waitUpdates(want ...string) {
	s.t.Helper()
	for _, u := range want {
		s.until(u, func() bool { return s.updates[u] })
	}
}

// run sends a recorded call with the offer at hand, and waits for updates.
func (s *goldenScheduler) run(name string, updates ...string) {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenDir, "streams", "scheduler_calls", name))
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.NewReplacer(goldenAgent, s.offer["agent_id"].(object)["value"].(string), "/run/stop", s.stop, goldenFramework, s.id).Replace(string(b))
	var a goldenAnswer
	var call object
	if err := errors.Join(json.Unmarshal([]byte(text), &a), json.Unmarshal(a.Request.JSON, &call)); err != nil {
		s.t.Fatal(err)
	}
	call["accept"].(object)["offer_ids"] = []any{s.offer["id"]}
	delete(s.offers, s.offer["id"].(object)["value"].(string))
	s.offer = nil
	s.call(call)
	s.waitUpdates(updates...)
}
