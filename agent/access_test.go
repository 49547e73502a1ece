package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/recordio"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/flags"
	"clusterd/internal/httpapi"
)

// guarded is an agent that asks everybody who they are: carol, dave and others, each with
// the name for a password. On it run tasks of two users, and it has resources of two roles.
type guarded struct {
	t *testing.T
	a *Agent
	m *scriptedMaster
	// container is that of the hidden user's executor.
	container string
}

// hidden marks whatever is of the user ursula or of the role secret-role.
const hidden = "HIDDEN"

func newGuarded(t *testing.T) *guarded {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start(func(o *Options) {
		o.Realms = realms(t, "carol", "dave")
		o.Resources = "cpus(secret-role):2;mem(secret-role):512;" + o.Resources
		o.Flags = []flags.Pair{{Name: "work_dir", Value: h.work}, {Name: "log_dir", Value: "/FLAG"}}
	})
	logged := filepath.Join(h.work, "agent.log")
	if err := errors.Join(os.WriteFile(logged, []byte("a line of the LOG"), 0o600), a.SetLogFile(logged)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.leave(a) })
	m.waitRegistered(1)
	g := &guarded{t: t, a: a, m: m}
	for user, name := range map[string]string{"ursula": hidden, "oscar": "open"} {
		fw := framework("F-" + name)
		fw.User, fw.Principal = &user, strp("P-"+name)
		run := commandTask("T-"+name, "echo O-"+name+"; exec sleep 1000")
		run.Name = strp("N-" + name)
		run.Labels = &mesos.Labels{Labels: []*mesos.Label{{Key: strp("L-" + name)}}}
		m.send(runTasks(fw, run))
		m.send(runTasks(fw, commandTask("done-"+name, "exit 3")))
		m.waitState("T-"+name, "RUNNING")
		m.waitState("done-"+name, "FAILED")
		eventually(t, "one executor has ended", func() bool {
			v, err := a.View(t.Context())
			if err != nil {
				return false
			}
			for _, f := range v.Frameworks {
				if f.Info.GetUser() == user && len(f.CompletedExecutors) == 1 {
					if user == "ursula" {
						g.container = f.Executors[0].ContainerID.GetValue()
					}
					return true
				}
			}
			return false
		})
	}
	eventually(t, "output is there", func() bool {
		return strings.Contains(g.do("carol", "GET", "/files/read?offset=0&path="+sandboxOf(hidden)+"/stdout", "", "").body, "O-"+hidden)
	})
	return g
}

func sandboxOf(name string) string {
	return "/frameworks/F-" + name + "/executors/T-" + name + "/runs/latest"
}

// realms authenticate those who are named, by passwords that are like their names.
func realms(t *testing.T, principals ...string) authn.Realms {
	t.Helper()
	var list []string
	for _, p := range principals {
		list = append(list, fmt.Sprintf(`{"principal":%q,"secret":%q}`, p, p))
	}
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte(`{"credentials":[`+strings.Join(list, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := authn.New(authn.Config{
		Realms: map[authn.Realm][]string{
			authn.AgentReadonly: {"basic"}, authn.AgentReadwrite: {"basic"}, authn.AgentResourceProvider: {"basic"},
		},
		CredentialsFile: file,
	})
	if err != nil {
		t.Fatal(err)
	}
	return set.Realms
}

type answered struct {
	status int
	header http.Header
	body   string
}

// do sends a request; who is empty for nobody.
func (g *guarded) do(who, method, path, body, accept string) answered {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, "http://"+g.a.Addr()+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if who != "" {
		req.SetBasicAuth(who, who)
	}
	if body != "" {
		req.Header.Set("Content-Type", jsonType)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	return answerTo(g.t, req)
}

// answerTo sends a request over a connection of its own.
func answerTo(t *testing.T, req *http.Request) answered {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{resp.StatusCode, resp.Header, string(b)}
}

// question is a request that an action is asked for.
type question struct {
	path, call string // one of both
	// shows is in the answer of who is permitted the action, and not in that of who is not.
	// Empty: who is not gets a 403, who is gets the status.
	shows  string
	status int
}

func (p question) String() string { return p.path + p.call }

// send returns whether the action was permitted, for JSON and, of calls, for protobuf.
func (p question) send(g *guarded, who string) bool {
	g.t.Helper()
	if p.path != "" {
		return p.read(g, g.do(who, "GET", p.path, "", ""))
	}
	j := p.read(g, g.do(who, "POST", "/api/v1", p.call, jsonType))
	if b := p.read(g, g.do(who, "POST", "/api/v1", p.call, "application/x-protobuf")); b != j {
		g.t.Errorf("%s by %s: permitted %v in JSON, %v in protobuf", p, who, j, b)
	}
	return j
}

func (p question) read(g *guarded, got answered) bool {
	g.t.Helper()
	if p.shows != "" {
		if got.status != http.StatusOK {
			g.t.Errorf("%s: got %d %s", p, got.status, got.body)
		}
		return strings.Contains(got.body, p.shows)
	}
	if got.status == http.StatusForbidden {
		return false
	}
	if got.status != p.status {
		g.t.Errorf("%s: got %d %s, want %d", p, got.status, got.body, p.status)
	}
	return true
}

// rules make a file of rules.
func rules(t *testing.T, permissive bool, lists ...string) *authz.ACLs {
	t.Helper()
	text := fmt.Sprintf(`{"permissive":%v`, permissive)
	for _, l := range lists {
		text += "," + l
	}
	acls, err := authz.Parse([]byte(text + "}"))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return acls
}

// all permits carol everything of a list, nothing forbids it to her.
func all(list, objects string) string {
	return fmt.Sprintf(`%q:[{"principals":{"values":["carol"]},%q:{"type":"ANY"}}]`, list, objects)
}

func nothing(list, objects string) string {
	return fmt.Sprintf(`%q:[{"principals":{"values":["carol"]},%q:{"type":"NONE"}}]`, list, objects)
}

func call(typ, content string) string {
	if content == "" {
		return fmt.Sprintf(`{"type":%q}`, typ)
	}
	return fmt.Sprintf(`{"type":%q,%q:%s}`, typ, strings.ToLower(typ), content)
}

// permission is one action and all that asks for it. With also, other actions are permitted
// that the same requests ask for.
type permission struct {
	action  authz.Action
	objects string
	also    []string
	probes  []question
}

func permissions(container string) []permission {
	nested := `{"container_id":{"value":"n","parent":{"value":"` + container + `"}}}`
	launch := `{"container_id":{"value":"n","parent":{"value":"` + container + `"}},"command":{"user":"uta"}}`
	standalone := `{"container_id":{"value":"s"}}`
	in := func(p string) string { return "?path=" + p }
	sandbox, log := sandboxOf(hidden), logPath
	readable := func(dir, file string) (out []question) {
		out = []question{
			{path: "/files/read" + in(file) + "&offset=0", status: 200},
			{path: "/files/download" + in(file), status: 200},
			{call: call("READ_FILE", `{"path":"`+file+`","offset":0}`), status: 200},
		}
		if dir != "" {
			out = append(out, question{path: "/files/browse" + in(dir), status: 200}, question{call: call("LIST_FILES", `{"path":"`+dir+`"}`), status: 200})
		}
		return out
	}
	reads := func(shows string, calls ...string) (out []question) {
		out = []question{{path: "/state", shows: shows}, {path: "/slave(1)/state.json", shows: shows}}
		for _, c := range calls {
			out = append(out, question{call: call(c, ""), shows: shows})
		}
		return out
	}
	endpoint := func(paths ...string) (out []question) {
		for _, p := range paths {
			out = append(out, question{path: p, status: 200}, question{path: "/slave(1)" + p, status: 200})
		}
		return out
	}
	framework := all("view_frameworks", "users")
	return []permission{
		{authz.GetEndpoints, "paths", nil, endpoint(
			"/containers", "/containerizer/debug", "/files/debug", "/logging/toggle", "/metrics/snapshot", "/monitor/statistics",
		)},
		{authz.ViewFrameworks, "users", nil, reads(`F-`+hidden, "GET_STATE", "GET_FRAMEWORKS")},
		{authz.ViewExecutors, "users", []string{framework}, reads(`Command Executor (Task: T-`+hidden, "GET_STATE", "GET_EXECUTORS")},
		{authz.ViewTasks, "users", []string{framework, all("view_executors", "users")}, []question{
			{call: call("GET_TASKS", ""), shows: "T-" + hidden},
			{call: call("GET_TASKS", ""), shows: "done-" + hidden},
			// The executor has the id of its task, and not its name.
			{path: "/state", shows: "N-" + hidden},
			{call: call("GET_STATE", ""), shows: "N-" + hidden},
		}},
		{authz.ViewContainers, "users", []string{all("get_endpoints", "paths")}, []question{
			{path: "/containers", shows: "F-" + hidden},
			{path: "/containers?framework_id=F-" + hidden, shows: "F-" + hidden},
			{path: "/monitor/statistics", shows: "F-" + hidden},
			{call: call("GET_CONTAINERS", "{}"), shows: "F-" + hidden},
		}},
		{authz.ViewRoles, "roles", nil, []question{
			{path: "/state", shows: "secret-role"}, {call: call("GET_AGENT", ""), shows: "secret-role"},
		}},
		{authz.ViewFlags, "flags", nil, []question{
			{path: "/flags", status: 200},
			{path: "/slave(1)/flags", status: 200},
			{call: call("GET_FLAGS", ""), status: 200},
			{path: "/state", shows: "/FLAG"},
			{path: "/state", shows: `"flags"`},
		}},
		{authz.AccessSandboxes, "users", []string{all("get_endpoints", "paths")}, append(readable(sandbox, sandbox+"/stdout"),
			question{path: "/files/debug", shows: sandbox})},
		{authz.AccessMesosLogs, "logs", nil, readable("", log)},
		{authz.SetLogLevel, "level", nil, []question{{call: call("SET_LOGGING_LEVEL", `{"level":0,"duration":{"nanoseconds":1}}`), status: 200}}},
		{authz.LaunchNestedContainersAsUser, "users", []string{all("launch_nested_containers_under_parent_with_user", "users")}, []question{
			{call: call("LAUNCH_NESTED_CONTAINER", launch), status: 400}, {call: call("LAUNCH_CONTAINER", launch), status: 400},
		}},
		{authz.LaunchNestedContainersUnderParentWithUser, "users", []string{all("launch_nested_containers_as_user", "users")}, []question{
			{call: call("LAUNCH_NESTED_CONTAINER", launch), status: 400},
			{call: call("LAUNCH_CONTAINER", launch), status: 400},
			{call: call("LAUNCH_CONTAINER", nested), status: 400},
		}},
		{authz.LaunchNestedContainerSessionsAsUser, "users", []string{all("launch_nested_container_sessions_under_parent_with_user", "users")}, []question{
			{call: call("LAUNCH_NESTED_CONTAINER_SESSION", launch), status: 400},
		}},
		{authz.LaunchNestedContainerSessionsUnderParentWithUser, "users", []string{all("launch_nested_container_sessions_as_user", "users")}, []question{
			{call: call("LAUNCH_NESTED_CONTAINER_SESSION", launch), status: 400},
		}},
		{authz.WaitNestedContainers, "users", nil, []question{
			{call: call("WAIT_NESTED_CONTAINER", nested), status: 404}, {call: call("WAIT_CONTAINER", nested), status: 404},
		}},
		{authz.KillNestedContainers, "users", nil, []question{
			{call: call("KILL_NESTED_CONTAINER", nested), status: 404}, {call: call("KILL_CONTAINER", nested), status: 404},
		}},
		{authz.RemoveNestedContainers, "users", nil, []question{
			{call: call("REMOVE_NESTED_CONTAINER", nested), status: 200}, {call: call("REMOVE_CONTAINER", nested), status: 200},
		}},
		{authz.AttachContainersOutput, "users", nil, []question{{call: call("ATTACH_CONTAINER_OUTPUT", nested), status: 404}}},
		{authz.LaunchStandaloneContainers, "users", nil, []question{{call: call("LAUNCH_CONTAINER", standalone), status: 400}}},
		{authz.WaitStandaloneContainers, "users", nil, []question{{call: call("WAIT_CONTAINER", standalone), status: 404}}},
		{authz.KillStandaloneContainers, "users", nil, []question{{call: call("KILL_CONTAINER", standalone), status: 404}}},
		{authz.RemoveStandaloneContainers, "users", nil, []question{{call: call("REMOVE_CONTAINER", standalone), status: 200}}},
		{authz.ModifyResourceProviderConfigs, "resource_providers", nil, []question{
			{call: call("ADD_RESOURCE_PROVIDER_CONFIG", `{"info":{"type":"t","name":"n"}}`), status: 501},
			{call: call("UPDATE_RESOURCE_PROVIDER_CONFIG", `{"info":{"type":"t","name":"n"}}`), status: 501},
			{call: call("REMOVE_RESOURCE_PROVIDER_CONFIG", `{"type":"t","name":"n"}`), status: 501},
		}},
		{authz.MarkResourceProvidersGone, "resource_providers", nil, []question{
			{call: call("MARK_RESOURCE_PROVIDER_GONE", `{"resource_provider_id":{"value":"x"}}`), status: 501},
		}},
		{authz.PruneImages, "images", nil, []question{{call: call("PRUNE_IMAGES", "{}"), status: 200}}},
	}
}

// notOfAgents are the actions that only masters are asked for, or, in the last lines, that
// this agent has nothing to show for; and ATTACH_CONTAINER_INPUT, whose body is a stream.
var notOfAgents = []authz.Action{
	authz.RegisterFrameworks, authz.RunTasks, authz.ReserveResources, authz.UnreserveResources, authz.CreateVolumes,
	authz.DestroyVolumes, authz.ResizeVolumes, authz.TeardownFrameworks, authz.UpdateWeights, authz.GetQuotas, authz.UpdateQuotas,
	authz.RegisterAgents, authz.UpdateMaintenanceSchedules, authz.GetMaintenanceSchedules, authz.StartMaintenances,
	authz.StopMaintenances, authz.GetMaintenanceStatuses, authz.MarkAgentsGone, authz.DrainAgents, authz.DeactivateAgents,
	authz.ReactivateAgents, authz.CreateBlockDisks, authz.DestroyBlockDisks, authz.CreateMountDisks, authz.DestroyMountDisks,
	authz.DestroyRawDisks,
	authz.ViewStandaloneContainers, authz.ViewResourceProviders, authz.AttachContainersInput,
}

// TestEveryRule: each action that an agent is asked for is permitted to whom the rules
// permit it, and to nobody else, wherever it is asked. Rules change while the agent runs.
func TestEveryRule(t *testing.T) {
	g := newGuarded(t)
	table := permissions(g.container)
	for _, action := range authz.Actions() {
		tested := slices.ContainsFunc(table, func(p permission) bool { return p.action == action })
		if tested == slices.Contains(notOfAgents, action) {
			t.Errorf("%s: tested is %v, not of agents %v", action, tested, !tested)
		}
	}
	for _, p := range table {
		t.Run(p.action.String(), func(t *testing.T) {
			g := *g
			g.t = t
			list := p.action.String()
			expect := func(acls *authz.ACLs, who string, want bool, why string) {
				t.Helper()
				g.a.SetPolicy(acls)
				g.a.measured.mu.Lock()
				g.a.measured.at = time.Time{}
				g.a.measured.mu.Unlock()
				for _, question := range p.probes {
					if got := question.send(&g, who); got != want {
						t.Errorf("%s: %s: permitted is %v, want %v", question, why, got, want)
					}
				}
			}
			deny := rules(t, true, nothing(list, p.objects))
			expect(deny, "carol", false, "a rule forbids it")
			expect(deny, "dave", true, "a rule forbids it to somebody else")
			expect(rules(t, false, p.also...), "carol", false, "no rule permits it")
			expect(rules(t, false, append(p.also, all(list, p.objects))...), "carol", true, "a rule permits it")
			expect(nil, "carol", true, "there are no rules")
		})
	}
}

// TestAttachInput is of the one call whose body is a stream.
func TestAttachInput(t *testing.T) {
	g := newGuarded(t)
	send := func(records ...string) answered {
		t.Helper()
		var body []byte
		for _, r := range records {
			body = recordio.Append(body, []byte(r))
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.a.Addr()+"/api/v1", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("carol", "carol")
		req.Header.Set("Content-Type", "application/recordio")
		req.Header.Set("Message-Content-Type", jsonType)
		return answerTo(t, req)
	}
	attach := func(id string) string {
		return call("ATTACH_CONTAINER_INPUT", `{"type":"CONTAINER_ID","container_id":{"value":"n","parent":{"value":"`+id+`"}}}`)
	}
	for _, c := range []struct {
		name, body string
		status     int
		acls       *authz.ACLs
	}{
		{"no rules", attach(g.container), 404, nil},
		{"forbidden", attach(g.container), 403, rules(t, true, nothing("attach_containers_input", "users"))},
		{"permitted", attach(g.container), 404, rules(t, false, all("attach_containers_input", "users"))},
		{"not permitted", attach(g.container), 403, rules(t, false)},
		{"no such container", attach("x"), 404, rules(t, false)},
		{"input before a container", call("ATTACH_CONTAINER_INPUT", `{"type":"PROCESS_IO"}`), 400, nil},
		{"no type", call("ATTACH_CONTAINER_INPUT", `{"container_id":{"value":"x"}}`), 400, nil},
		{"another call", call("GET_STATE", ""), 415, nil},
		{"no call", `{`, 400, nil},
	} {
		g.a.SetPolicy(c.acls)
		if got := send(c.body); got.status != c.status {
			t.Errorf("%s: got %d %s, want %d", c.name, got.status, got.body, c.status)
		}
	}
	if got := send(); got.status != 400 || got.body != "Received EOF while reading request body" {
		t.Errorf("an empty stream: got %d %s", got.status, got.body)
	}
	if got := g.do("carol", "POST", "/api/v1", attach("x"), ""); got.status != 415 {
		t.Errorf("not as a stream: got %d %s", got.status, got.body)
	}
	if got := g.do("carol", "POST", "/api/v1", call("GET_STATE", ""), "application/recordio"); got.status != 406 {
		t.Errorf("GET_STATE as a stream: got %d %s", got.status, got.body)
	}
}

// TestNothingHiddenLeaks looks for a user's traces in every answer to somebody who may not
// see them.
func TestNothingHiddenLeaks(t *testing.T) {
	g := newGuarded(t)
	not := func(list, objects, value string) string {
		return fmt.Sprintf(`%q:[{"principals":{"values":["carol"]},%q:{"values":[%q]}},{"principals":{"values":["carol"]},%q:{"type":"NONE"}}]`,
			list, objects, value, objects)
	}
	g.a.SetPolicy(rules(t, true, not("view_frameworks", "users", "oscar"), not("view_executors", "users", "oscar"),
		not("view_tasks", "users", "oscar"), not("view_containers", "users", "oscar"), not("access_sandboxes", "users", "oscar"),
		not("view_roles", "roles", "r")))
	var asked []question
	for _, path := range []string{
		"/state", "/slave(1)/state", "/state?jsonp=f", "/containers", "/monitor/statistics", "/containerizer/debug", "/files/debug",
		"/metrics/snapshot", "/flags", "/help", "/version", "/system/stats.json", "/health", "/logging/toggle",
		"/files/browse?path=" + sandboxOf("open"),
	} {
		asked = append(asked, question{path: path})
	}
	for _, c := range []string{
		"GET_STATE", "GET_TASKS", "GET_EXECUTORS", "GET_FRAMEWORKS", "GET_AGENT", "GET_OPERATIONS", "GET_RESOURCE_PROVIDERS", "GET_FLAGS",
	} {
		asked = append(asked, question{call: call(c, "")})
	}
	asked = append(asked, question{call: call("GET_CONTAINERS", "{}")}, question{call: call("GET_METRICS", "{}")})
	traces := []string{hidden, "ursula", "secret-role", g.container}
	for _, p := range asked {
		for _, accept := range []string{jsonType, "application/x-protobuf"} {
			var got answered
			if p.path != "" {
				got = g.do("carol", "GET", p.path, "", "")
			} else {
				got = g.do("carol", "POST", "/api/v1", p.call, accept)
			}
			if got.status != http.StatusOK {
				t.Errorf("%s: got %d %s", p, got.status, got.body)
			}
			for _, trace := range traces {
				if strings.Contains(got.body, trace) {
					t.Errorf("%s tells of %s:\n%s", p, trace, got.body)
				}
			}
		}
	}
	// The test would see it: others do.
	if got := g.do("dave", "GET", "/state", "", "").body; !strings.Contains(got, hidden) || !strings.Contains(got, "secret-role") {
		t.Errorf("who may see everything does not: %s", got)
	}
	if got := g.do("carol", "GET", "/state", "", "").body; !strings.Contains(got, "T-open") || !strings.Contains(got, "done-open") {
		t.Errorf("what may be seen is not: %s", got)
	}
}

// TestNobodyEntersUnasked: without a principal every route asks for one, but those that are
// open to all.
func TestNobodyEntersUnasked(t *testing.T) {
	g := newGuarded(t)
	open := []string{"/health", "/version", "/help", httpapi.LivePath}
	rt, ok := g.a.server.Handler.(*httpapi.Router)
	if !ok {
		t.Fatalf("the handler is a %T", g.a.server.Handler)
	}
	routes := rt.Routes()
	for path, access := range routes {
		got := g.do("", "POST", path, "{}", "")
		if slices.Contains(open, path) != (access.Open != "") {
			t.Errorf("%s: open is %q", path, access.Open)
		}
		if access.Open != "" || access.Realm == authn.AgentExecutor {
			continue
		}
		if got.status != http.StatusUnauthorized || !strings.Contains(got.header.Get("WWW-Authenticate"), string(access.Realm)) {
			t.Errorf("%s: got %d %v, want a challenge of %s", path, got.status, got.header["Www-Authenticate"], access.Realm)
		}
		if got := g.do("mallory", "POST", path, "{}", ""); got.status != http.StatusUnauthorized {
			t.Errorf("%s by a stranger: got %d", path, got.status)
		}
	}
	if len(routes) < 15 {
		t.Errorf("only %d routes", len(routes))
	}
}
