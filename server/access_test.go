package server

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/recordio"
	"clusterd/internal/authn"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
)

// hidden marks what is of the user ursula, hidden roles, and what only one call shows.
const hidden = "HIDDEN"

// accessRealms authenticate those who are named, by passwords that are like their names, in
// some realms.
func accessRealms(t testing.TB, names []string, in ...authn.Realm) authn.Realms {
	t.Helper()
	var list []string
	for _, p := range names {
		list = append(list, fmt.Sprintf(`{"principal":%q,"secret":%q}`, p, p))
	}
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte(`{"credentials":[`+strings.Join(list, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	realms := map[authn.Realm][]string{}
	for _, r := range in {
		realms[r] = []string{"basic"}
	}
	set, err := authn.New(authn.Config{Realms: realms, CredentialsFile: file})
	if err != nil {
		t.Fatal(err)
	}
	return set.Realms
}

// basicHeader is the header of somebody; nobody has none.
func basicHeader(who string) http.Header {
	h := http.Header{}
	if who != "" {
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(who+":"+who)))
	}
	return h
}

// guardedMaster asks everybody who reads or operates who they are. It has an agent with
// tasks of two users, quotas, weights, a maintenance schedule and a log.
type guardedMaster struct {
	t     *testing.T
	s     *Server
	agent *agent
}

func newGuardedMaster(t *testing.T) *guardedMaster {
	t.Helper()
	s := startMaster(t, func(o *Options) {
		o.Realms = accessRealms(t, []string{"carol", "dave"}, authn.MasterReadonly, authn.MasterReadwrite)
		o.Flags = append(o.Flags, o.Flags[0])
		o.Flags[len(o.Flags)-1].Name = "FLAG"
	})
	log := filepath.Join(t.TempDir(), "master.log")
	if err := os.WriteFile(log, []byte("a line"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.SetLogFile(log); err != nil {
		t.Fatal(err)
	}
	info := agentInfo()
	info.Resources = resources.MustParse("cpus:8;mem:4096;disk:10000;cpus(role-" + hidden + "):1").Proto()
	g := &guardedMaster{t: t, s: s, agent: startAgent(t, s, info)}
	for user, name := range map[string]string{"ursula": hidden, "oscar": "open"} {
		fi := goldenInfo()
		fi.User, fi.Name, fi.Principal = &user, new("N-"+name), new("P-"+name)
		f := subscribe(t, s, fi)
		f.accepted(&scheduler.Call{Type: scheduler.Call_ACCEPT.Enum(), Accept: &scheduler.Call_Accept{
			OfferIds: []*mesos.OfferID{f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0].Id},
			Operations: []*mesos.Offer_Operation{{
				Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{{
					Name: new("T-" + name), TaskId: &mesos.TaskID{Value: new("T-" + name)}, AgentId: g.agent.id,
					Resources: resources.MustParse("cpus:0.1;mem:32").Allocate("golden").Proto(),
					Executor: &mesos.ExecutorInfo{
						ExecutorId: &mesos.ExecutorID{Value: new("E-" + name)}, Command: &mesos.CommandInfo{Value: new("true")},
						Resources: resources.MustParse("cpus:0.1;mem:32").Allocate("golden").Proto(),
					},
				}}},
			}},
			Filters: &mesos.Filters{RefuseSeconds: new(0.0)},
		}})
	}
	g.must("PUT", "/weights", `[{"role":"weight-`+hidden+`","weight":2}]`)
	g.must("POST", "/quota", `{"role":"quota-`+hidden+`","guarantee":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]}`)
	g.must("POST", "/maintenance/schedule", schedule)
	eventually(t, "the tasks are there", func() bool { return strings.Contains(g.do("carol", "GET", "/state", "", "").body, "T-"+hidden) })
	return g
}

const (
	machine  = `{"hostname":"host-` + hidden + `"}`
	schedule = `{"windows":[{"machine_ids":[` + machine + `],"unavailability":{"start":{"nanoseconds":9000000000000000000}}}]}`
)

// do sends a request in somebody's name.
func (g *guardedMaster) do(who, method, path, body, accept string) reply {
	g.t.Helper()
	h := basicHeader(who)
	if body != "" {
		h.Set("Content-Type", "application/json")
	}
	if accept != "" {
		h.Set("Accept", accept)
	}
	return do(g.t, method, endpoint(g.s, path), h, []byte(body))
}

// must makes a request that is not refused, by no rules.
func (g *guardedMaster) must(method, path, body string) {
	g.t.Helper()
	if r := g.do("carol", method, path, body, ""); r.status/100 != 2 {
		g.t.Fatalf("%s %s %s: %d %s", method, path, body, r.status, r.body)
	}
}

// masterProbe is a request that an action is asked for. @WHO in the body is who sends it,
// @AGENT and @FRAMEWORK are ids.
type masterProbe struct {
	method, path, body string // or
	call               string // of the operator API, in JSON and protobuf
	// shows is in the answer of who is permitted the action, and not in that of who is not.
	// Empty: who is not gets a 403, who is gets the status.
	shows  string
	status int
	// prepare are requests before, by no rules; what comes of them does not matter.
	prepare []masterProbe
	// victim has a framework subscribe before, to be torn down.
	victim bool
}

func (p masterProbe) String() string { return p.method + " " + p.path + p.call }

// send returns whether the action was permitted under some rules.
func (p masterProbe) send(g *guardedMaster, acls *authz.ACLs, who string) bool {
	g.t.Helper()
	accepts := []string{""}
	if p.call != "" {
		p.method, p.path, p.body = http.MethodPost, "/api/v1", p.call
		accepts = []string{"application/json", "application/x-protobuf"}
	}
	var got []bool
	for _, accept := range accepts {
		g.s.SetPolicy(nil)
		for _, q := range p.prepare {
			if q.call != "" {
				q.method, q.path, q.body = http.MethodPost, "/api/v1", q.call
			}
			g.do(who, q.method, q.path, g.fill(q.body, who, ""), "")
		}
		framework := ""
		if p.victim {
			info := goldenInfo()
			info.Principal = new("victim")
			framework = subscribe(g.t, g.s, info).id.GetValue()
		}
		g.s.SetPolicy(acls)
		got = append(got, p.read(g, g.do(who, p.method, p.path, g.fill(p.body, who, framework), accept)))
	}
	if got[0] != got[len(got)-1] {
		g.t.Errorf("%s by %s: permitted %v in JSON and protobuf", p, who, got)
	}
	return got[0]
}

func (g *guardedMaster) fill(body, who, framework string) string {
	return strings.NewReplacer("@WHO", who, "@AGENT", g.agent.id.GetValue(), "@FRAMEWORK", framework).Replace(body)
}

func (p masterProbe) read(g *guardedMaster, r reply) bool {
	g.t.Helper()
	if p.shows != "" {
		if r.status != http.StatusOK {
			g.t.Errorf("%s: got %d %s", p, r.status, r.body)
		}
		return strings.Contains(r.body, p.shows)
	}
	if r.status == http.StatusForbidden {
		if r.body != "403 Forbidden." && r.body != "" {
			g.t.Errorf("%s: got 403 with %q", p, r.body)
		}
		return false
	}
	if r.status != p.status {
		g.t.Errorf("%s: got %d %s, want %d", p, r.status, r.body, p.status)
	}
	return true
}

// masterPermission is one action and all that asks for it. With also, other actions are
// permitted that the same requests ask for.
type masterPermission struct {
	action  authz.Action
	objects string
	also    []string
	probes  []masterProbe
}

func callText(typ, content string) string {
	return fmt.Sprintf(`{"type":%q,%q:%s}`, typ, strings.ToLower(typ), content)
}

// reads are what shows something.
func reads(shows string, paths ...string) (out []masterProbe) {
	for _, p := range paths {
		if strings.HasPrefix(p, "/") {
			out = append(out, masterProbe{method: "GET", path: p, shows: shows}, masterProbe{method: "GET", path: "/master" + p + ".json", shows: shows})
		} else {
			out = append(out, masterProbe{call: fmt.Sprintf(`{"type":%q}`, p), shows: shows})
		}
	}
	return out
}

// form is a request with a form of an agent and a list of resources.
func form(path, name, list string, status int, prepare ...masterProbe) masterProbe {
	body := "slaveId=@AGENT&" + name + "=" + strings.ReplaceAll(url.QueryEscape("["+list+"]"), "%40", "@")
	return masterProbe{method: "POST", path: path, body: body, status: status, prepare: prepare}
}

// toPermit permits carol everything of a list, toForbid nothing.
func toPermit(a authz.Action, objects string) string {
	return fmt.Sprintf(`%q:[{"principals":{"values":["carol"]},%q:{"type":"ANY"}}]`, a, objects)
}

func toForbid(a authz.Action, objects string) string {
	return fmt.Sprintf(`%q:[{"principals":{"values":["carol"]},%q:{"type":"NONE"}}]`, a, objects)
}

func aclsOf(t testing.TB, permissive bool, lists ...string) *authz.ACLs {
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

func masterPermissions(s *Server) []masterPermission {
	frameworks := toPermit(authz.ViewFrameworks, "users")
	var endpoints []masterProbe
	for path, access := range s.router.Routes() {
		p := masterProbe{method: "GET", path: path, status: 200}
		if !access.Endpoint || strings.HasPrefix(path, "/debug/") {
			continue // those have tests of their own
		}
		switch path[strings.LastIndexByte(path, '/'):] {
		case "/add", "/remove":
			p.method, p.body, p.status = "POST", "{}", 400
		case "/transfer":
			p.method, p.body, p.status = "POST", "{}", 409 // there is nobody else
		}
		endpoints = append(endpoints, p)
	}
	return append(resourcePermissions(), []masterPermission{
		{authz.GetEndpoints, "paths", nil, append(endpoints, masterProbe{method: "GET", path: "/metrics", status: 200})},
		{authz.ViewFrameworks, "users", nil, reads("N-"+hidden, "/state", "/frameworks", "/state-summary", "GET_STATE", "GET_FRAMEWORKS")},
		{authz.ViewTasks, "users", []string{frameworks}, reads("T-"+hidden, "/state", "/tasks", "/frameworks", "GET_STATE", "GET_TASKS")},
		{authz.ViewExecutors, "users", []string{frameworks}, reads(`E-`+hidden, "GET_EXECUTORS")},
		{authz.ViewRoles, "roles", nil, slices.Concat(
			reads("role-"+hidden, "/slaves", "/state", "GET_AGENTS", "GET_STATE"),
			reads("weight-"+hidden, "/roles", "/weights", "GET_ROLES", "GET_WEIGHTS"),
		)},
		{authz.GetQuotas, "roles", nil, reads("quota-"+hidden, "/quota", "GET_QUOTA")},
		{authz.ViewFlags, "flags", nil, append(reads("FLAG", "/state"),
			masterProbe{method: "GET", path: "/flags", status: 200}, masterProbe{call: `{"type":"GET_FLAGS"}`, status: 200})},
		{authz.AccessMesosLogs, "logs", nil, []masterProbe{
			{method: "GET", path: "/files/read?path=/master/log&offset=0", status: 200},
			{method: "GET", path: "/files/download?path=/master/log", status: 200},
			{call: callText("READ_FILE", `{"path":"/master/log","offset":0}`), status: 200},
		}},
		{authz.SetLogLevel, "level", nil, []masterProbe{{call: callText("SET_LOGGING_LEVEL", `{"level":0,"duration":{"nanoseconds":1}}`), status: 200}}},
		{authz.GetMaintenanceSchedules, "machines", nil, reads("host-"+hidden, "/maintenance/schedule", "GET_MAINTENANCE_SCHEDULE")},
		{authz.GetMaintenanceStatuses, "machines", nil, reads("host-"+hidden, "/maintenance/status", "GET_MAINTENANCE_STATUS")},
		{authz.UpdateWeights, "roles", nil, []masterProbe{
			{method: "PUT", path: "/weights", body: `[{"role":"weight-HIDDEN","weight":3}]`, status: 200},
			{call: callText("UPDATE_WEIGHTS", `{"weight_infos":[{"role":"weight-HIDDEN","weight":3}]}`), status: 200},
		}},
		{authz.UpdateQuotas, "roles", nil, []masterProbe{
			{method: "POST", path: "/quota", body: tooLargeQuota, status: 409},
			{call: callText("SET_QUOTA", `{"quota_request":`+tooLargeQuota+`}`), status: 409},
			{call: callText("UPDATE_QUOTA", `{"quota_configs":[{"role":"q","limits":{"cpus":{"value":7}}}]}`), status: 200},
			{method: "DELETE", path: "/quota/gone", status: 200, prepare: []masterProbe{{method: "POST", path: "/quota", body: smallQuota}}},
			{call: callText("REMOVE_QUOTA", `{"role":"gone"}`), status: 200, prepare: []masterProbe{{method: "POST", path: "/quota", body: smallQuota}}},
		}},
		{authz.UpdateMaintenanceSchedules, "machines", nil, []masterProbe{
			{method: "POST", path: "/maintenance/schedule", body: schedule, status: 200},
			{call: callText("UPDATE_MAINTENANCE_SCHEDULE", `{"schedule":`+schedule+`}`), status: 200},
		}},
		{authz.StartMaintenances, "machines", nil, []masterProbe{
			{method: "POST", path: "/machine/down", body: "[" + machine + "]", status: 200, prepare: asScheduled},
			{call: callText("START_MAINTENANCE", `{"machines":[`+machine+`]}`), status: 200, prepare: asScheduled},
		}},
		{authz.StopMaintenances, "machines", nil, []masterProbe{
			{method: "POST", path: "/machine/up", body: "[" + machine + "]", status: 200, prepare: asDown},
			{call: callText("STOP_MAINTENANCE", `{"machines":[`+machine+`]}`), status: 200, prepare: asDown},
		}},
		{authz.DrainAgents, "agents", nil, []masterProbe{{call: callText("DRAIN_AGENT", `{"agent_id":{"value":"nosuch"}}`), status: 400}}},
		{authz.DeactivateAgents, "agents", nil, []masterProbe{{call: callText("DEACTIVATE_AGENT", `{"agent_id":{"value":"nosuch"}}`), status: 400}}},
		{authz.ReactivateAgents, "agents", nil, []masterProbe{
			{call: callText("REACTIVATE_AGENT", `{"agent_id":{"value":"nosuch"}}`), status: 400},
			{method: "POST", path: "/api/clusterd/v1/agents/cancel_drain", body: `{"agent_id":{"value":"nosuch"}}`, status: 400},
		}},
		{authz.MarkAgentsGone, "agents", []string{toPermit(authz.DrainAgents, "agents")}, []masterProbe{
			{call: callText("MARK_AGENT_GONE", `{"agent_id":{"value":"nosuch"}}`), status: 404},
			{call: callText("DRAIN_AGENT", `{"agent_id":{"value":"nosuch"},"mark_gone":true}`), status: 400},
		}},
		{authz.TeardownFrameworks, "framework_principals", nil, []masterProbe{
			{method: "POST", path: "/teardown", body: "frameworkId=@FRAMEWORK", status: 200, victim: true},
			{call: callText("TEARDOWN", `{"framework_id":{"value":"@FRAMEWORK"}}`), status: 200, victim: true},
		}},
	}...)
}

const (
	tooLargeQuota = `{"role":"large","guarantee":[{"name":"cpus","type":"SCALAR","scalar":{"value":1000}}]}`
	smallQuota    = `{"role":"gone","guarantee":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]}`
)

var (
	asScheduled = []masterProbe{
		{method: "POST", path: "/machine/up", body: "[" + machine + "]"},
		{method: "POST", path: "/maintenance/schedule", body: schedule},
	}
	asDown = append(asScheduled[:2:2], masterProbe{method: "POST", path: "/machine/down", body: "[" + machine + "]"})
)

// resourcePermissions are about resources of the agent: more than it has, so that who is
// permitted gets a 409, but for what must be there before anybody is asked.
func resourcePermissions() []masterPermission {
	stack := `"reservations":[{"type":"DYNAMIC","role":"golden","principal":"@WHO"}]`
	cpus := `{"name":"cpus","type":"SCALAR","scalar":{"value":100},` + stack + `}`
	disk := func(size, more string) string {
		return `{"name":"disk","type":"SCALAR","scalar":{"value":` + size + `},` + stack + more + `}`
	}
	persistence := func(id string) string {
		return `,"disk":{"persistence":{"id":"` + id + `","principal":"@WHO"},"volume":{"mode":"RW","container_path":"d"}}`
	}
	on := `{"agent_id":{"value":"@AGENT"},`
	mine := disk("10", persistence("v-@WHO"))
	made := []masterProbe{
		{call: callText("RESERVE_RESOURCES", on+`"resources":[`+disk("10", "")+`]}`)},
		{call: callText("CREATE_VOLUMES", on+`"volumes":[`+mine+`]}`)},
	}
	volume := disk("100000", persistence("v"))
	return []masterPermission{
		{authz.ReserveResources, "roles", nil, []masterProbe{
			form("/reserve", "resources", cpus, 409),
			{call: callText("RESERVE_RESOURCES", on+`"resources":[`+cpus+`]}`), status: 409},
		}},
		{authz.UnreserveResources, "reserver_principals", nil, []masterProbe{
			form("/unreserve", "resources", cpus, 409),
			{call: callText("UNRESERVE_RESOURCES", on+`"resources":[`+cpus+`]}`), status: 409},
		}},
		{authz.CreateVolumes, "roles", nil, []masterProbe{
			form("/create-volumes", "volumes", volume, 409),
			{call: callText("CREATE_VOLUMES", on+`"volumes":[`+volume+`]}`), status: 409},
		}},
		{authz.DestroyVolumes, "creator_principals", nil, []masterProbe{
			form("/destroy-volumes", "volumes", mine, 202, made...),
			{call: callText("DESTROY_VOLUMES", on+`"volumes":[`+mine+`]}`), status: 202, prepare: made},
		}},
		{authz.ResizeVolumes, "roles", nil, []masterProbe{
			{call: callText("GROW_VOLUME", on+`"volume":`+volume+`,"addition":`+disk("5", "")+`}`), status: 409},
			{call: callText("SHRINK_VOLUME", on+`"volume":`+volume+`,"subtract":{"value":5}}`), status: 409},
		}},
	}
}

// notOfMastersHTTP are the actions that only agents are asked for, and, in the first line,
// those that have tests of their own: below, and in server/core for what is in an ACCEPT.
var notOfMastersHTTP = []authz.Action{
	authz.RegisterFrameworks, authz.RegisterAgents, authz.RunTasks, authz.CreateBlockDisks, authz.DestroyBlockDisks,
	authz.CreateMountDisks, authz.DestroyMountDisks, authz.DestroyRawDisks,
	authz.AccessSandboxes, authz.ViewContainers, authz.LaunchNestedContainersAsUser, authz.LaunchNestedContainersUnderParentWithUser,
	authz.KillNestedContainers, authz.WaitNestedContainers, authz.RemoveNestedContainers, authz.LaunchNestedContainerSessionsAsUser,
	authz.LaunchNestedContainerSessionsUnderParentWithUser, authz.AttachContainersInput, authz.AttachContainersOutput,
	authz.LaunchStandaloneContainers, authz.KillStandaloneContainers, authz.WaitStandaloneContainers, authz.RemoveStandaloneContainers,
	authz.ViewStandaloneContainers, authz.ModifyResourceProviderConfigs, authz.MarkResourceProvidersGone, authz.ViewResourceProviders,
	authz.PruneImages,
}

// TestEveryRuleOfTheMaster: each action that a master is asked for over HTTP is permitted to
// whom the rules permit it, and to nobody else, in the old and the new API, JSON and
// protobuf. Rules change while the master runs.
func TestEveryRuleOfTheMaster(t *testing.T) {
	g := newGuardedMaster(t)
	table := masterPermissions(g.s)
	for _, action := range authz.Actions() {
		tested := slices.ContainsFunc(table, func(p masterPermission) bool { return p.action == action })
		if tested == slices.Contains(notOfMastersHTTP, action) {
			t.Errorf("%s: tested is %v", action, tested)
		}
	}
	for _, p := range table {
		t.Run(p.action.String(), func(t *testing.T) {
			g := &guardedMaster{t: t, s: g.s, agent: g.agent}
			expect := func(acls *authz.ACLs, who string, want bool, why string) {
				t.Helper()
				for _, probe := range p.probes {
					if got := probe.send(g, acls, who); got != want {
						t.Errorf("%s: %s: permitted is %v, want %v", probe, why, got, want)
					}
				}
			}
			deny := aclsOf(t, true, toForbid(p.action, p.objects))
			expect(deny, "carol", false, "a rule forbids it")
			expect(deny, "dave", true, "a rule forbids it to somebody else")
			expect(aclsOf(t, false, p.also...), "carol", false, "no rule permits it")
			expect(aclsOf(t, false, append(p.also, toPermit(p.action, p.objects))...), "carol", true, "a rule permits it")
			expect(nil, "carol", true, "there are no rules")
		})
	}
}

// TestFrameworkAndAgentRules are of those who come over streams of their own: who they are is
// what they authenticated as.
func TestFrameworkAndAgentRules(t *testing.T) {
	s := startMaster(t, func(o *Options) {
		o.Realms = accessRealms(t, []string{"carol", "dave"}, authn.MasterScheduler, authn.MasterAgent)
	})
	s.SetPolicy(aclsOf(t, false, toPermit(authz.RegisterFrameworks, "roles"), toPermit(authz.RegisterAgents, "agents")))

	subscribed := func(who string) (int, string) {
		t.Helper()
		h := basicHeader(who)
		h.Set("Content-Type", "application/json")
		body := `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n","role":"eng"}}}`
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint(s, "/api/v1/scheduler"), bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = h
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return resp.StatusCode, ""
		}
		record, err := recordio.NewReader(resp.Body, 1<<20).Next()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(record, []byte("ERROR")) {
			b, err := io.ReadAll(resp.Body) // the stream ends
			if err != nil || len(b) > 0 {
				t.Errorf("after the error came %q, %v", b, err)
			}
		}
		return resp.StatusCode, string(record)
	}
	if status, event := subscribed("carol"); status != 200 || !strings.Contains(event, "SUBSCRIBED") {
		t.Errorf("carol: got %d %s", status, event)
	}
	if status, event := subscribed("dave"); status != 200 || !strings.Contains(event, `{"message":"Not authorized to register framework  with roles { eng }"}`) {
		t.Errorf("dave: got %d %s", status, event)
	}
	if status, _ := subscribed(""); status != http.StatusUnauthorized {
		t.Errorf("nobody: got %d", status)
	}

	registered := func(who string) (*clusterdv1.MasterMessage, error) {
		t.Helper()
		conn, err := link.Dial(t.Context(), []string{s.Addr().String()}, link.DialOptions{Header: basicHeader(who)})
		if err != nil {
			return nil, err
		}
		defer func() { conn.CloseNow(); <-conn.Done() }()
		if err := conn.Send(&clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Register{Register: &clusterdv1.RegisterAgent{
			LinkVersion: proto.Uint32(link.Version), AgentInfo: agentInfo(), BuildVersion: new("1"), Ip: new("127.0.0.1"),
		}}}); err != nil {
			return nil, err
		}
		return conn.Receive()
	}
	if m, err := registered("carol"); err != nil || m.GetRegistered() == nil {
		t.Errorf("carol: got %v, %v", m, err)
	}
	if m, err := registered("dave"); err != nil || !strings.Contains(m.GetRefused().GetMessage(), "Not authorized to register agent providing resources") ||
		!strings.HasSuffix(m.GetRefused().GetMessage(), "with principal 'dave'") || m.GetRefused().GetShutdown() {
		t.Errorf("dave: got %v, %v", m, err)
	}
	if _, err := registered(""); err == nil || !strings.Contains(err.Error(), "401") {
		if r, ok := errors.AsType[*link.RefusedError](err); !ok || r.Status != http.StatusUnauthorized {
			t.Errorf("nobody: got %v", err)
		}
	}
}

// openToAll are the routes that ask nobody.
var openToAll = []string{"/health", "/version", "/help", "/redirect", sessionPath, oidcBegin, oidcCallback, leaderPath, httpapi.LivePath, httpapi.StreamsPath, "/", "/app", "/assets", "/icon.svg", "/theme.js"}

// TestNobodyEntersTheMasterUnasked walks all routes, in every spelling that leads to them:
// without credentials and with wrong ones each asks for some, but those that are open.
func TestNobodyEntersTheMasterUnasked(t *testing.T) {
	s := startMaster(t, func(o *Options) {
		o.Realms = accessRealms(t, []string{"carol"}, authn.MasterReadonly, authn.MasterReadwrite, authn.MasterScheduler, authn.MasterAgent)
	})
	g := &guardedMaster{t: t, s: s}
	routes := s.router.Routes()
	if len(routes) < 30 {
		t.Errorf("there are only %d routes", len(routes))
	}
	for path, access := range routes {
		if slices.Contains(openToAll, path) != (access.Open != "") {
			t.Errorf("%s: open is %q", path, access.Open)
		}
		if access.Endpoint {
			file := fmt.Sprintf(`{"get_endpoints":[{"principals":{"type":"ANY"},"paths":{"values":[%q]}}]}`, path)
			if _, err := authz.Parse([]byte(file)); err != nil {
				t.Errorf("%s is guarded by get_endpoints, which cannot name it: %v", path, err)
			}
		}
		if access.Open != "" {
			continue
		}
		for _, spelling := range []string{path, path + "/", "/master" + path, "//master/" + path, path + ".json", "/master" + path + "/below"} {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodHead} {
				got := g.do("", method, spelling, "{}", "")
				realm := access.Realm
				if access.Reading != "" && (method == http.MethodGet || method == http.MethodHead) {
					realm = access.Reading
				}
				if got.status != http.StatusUnauthorized || !strings.Contains(got.header.Get("WWW-Authenticate"), string(realm)) {
					t.Errorf("%s %s: got %d %v, want a challenge of %s", method, spelling, got.status, got.header["Www-Authenticate"], realm)
				}
			}
		}
		if got := g.do("mallory", http.MethodPost, path, "{}", ""); got.status != http.StatusUnauthorized {
			t.Errorf("%s by a stranger: got %d", path, got.status)
		}
		h := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("carol:mallory"))}}
		if got := do(t, http.MethodPost, endpoint(s, path), h, []byte("{}")); got.status != http.StatusUnauthorized {
			t.Errorf("%s with a wrong password: got %d", path, got.status)
		}
	}
	if got := g.do("carol", http.MethodGet, "/state", "", ""); got.status != http.StatusOK {
		t.Errorf("carol: got %d %s", got.status, got.body)
	}
}

// claimant is an authenticator by which all are executors.
type claimant struct{}

func (claimant) Authenticate(*http.Request, authn.Realm) (*authz.Principal, error) {
	return &authz.Principal{Claims: map[string]string{"cid": "c", "fid": "f", "eid": "e"}}, nil
}

// TestClaimsDoNotSuffice: a principal without a value reads and changes nothing of a master,
// with rules and without.
func TestClaimsDoNotSuffice(t *testing.T) {
	realms := authn.Realms{}
	for _, r := range []authn.Realm{authn.MasterReadonly, authn.MasterReadwrite, authn.MasterScheduler, authn.MasterAgent} {
		realms[r] = claimant{}
	}
	s := startMaster(t, func(o *Options) { o.Realms = realms })
	g := &guardedMaster{t: t, s: s}
	const want = "The request's authenticated principal contains claims, but no value string. The master currently requires that principals have a value"
	for _, acls := range []*authz.ACLs{nil, aclsOf(t, true)} {
		s.SetPolicy(acls)
		for _, path := range []string{
			"/state", "/state-summary", "/slaves", "/frameworks", "/tasks", "/roles", "/weights", "/quota",
			"/maintenance/schedule", "/maintenance/status", "/api/clusterd/v1/events",
		} {
			if got := g.do("", http.MethodGet, path, "", ""); got.status != http.StatusForbidden || got.body != want {
				t.Errorf("GET %s: got %d %s", path, got.status, got.body)
			}
		}
		for _, path := range []string{
			"/api/v1", "/api/v1/scheduler", "/weights", "/quota", "/machine/down", "/machine/up", "/teardown", "/reserve", "/unreserve",
			"/create-volumes", "/destroy-volumes", "/maintenance/schedule", "/api/clusterd/v1/agents/cancel_drain",
		} {
			if got := g.do("", http.MethodPost, path, `{"type":"GET_HEALTH"}`, ""); got.status != http.StatusForbidden || got.body != want {
				t.Errorf("POST %s: got %d %s", path, got.status, got.body)
			}
		}
	}
}
