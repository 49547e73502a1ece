package browser

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// guestRules let guests read, and do nothing.
const guestRules = `{
	"permissive": true,
	"get_endpoints": [{"principals": {"values": ["guest"]}, "paths": {"type": "NONE"}}],
	"teardown_frameworks": [{"principals": {"values": ["guest"]}, "framework_principals": {"type": "NONE"}}],
	"reserve_resources": [{"principals": {"values": ["guest"]}, "roles": {"type": "NONE"}}],
	"unreserve_resources": [{"principals": {"values": ["guest"]}, "reserver_principals": {"type": "NONE"}}],
	"destroy_volumes": [{"principals": {"values": ["guest"]}, "creator_principals": {"type": "NONE"}}],
	"resize_volumes": [{"principals": {"values": ["guest"]}, "roles": {"type": "NONE"}}],
	"create_volumes": [{"principals": {"values": ["guest"]}, "roles": {"type": "NONE"}}],
	"update_weights": [{"principals": {"values": ["guest"]}, "roles": {"type": "NONE"}}],
	"update_quotas": [{"principals": {"values": ["guest"]}, "roles": {"type": "NONE"}}],
	"update_maintenance_schedules": [{"principals": {"values": ["guest"]}, "machines": {"type": "NONE"}}],
	"start_maintenances": [{"principals": {"values": ["guest"]}, "machines": {"type": "NONE"}}],
	"stop_maintenances": [{"principals": {"values": ["guest"]}, "machines": {"type": "NONE"}}],
	"mark_agents_gone": [{"principals": {"values": ["guest"]}, "agents": {"type": "NONE"}}],
	"drain_agents": [{"principals": {"values": ["guest"]}, "agents": {"type": "NONE"}}],
	"deactivate_agents": [{"principals": {"values": ["guest"]}, "agents": {"type": "NONE"}}],
	"reactivate_agents": [{"principals": {"values": ["guest"]}, "agents": {"type": "NONE"}}],
	"launch_nested_container_sessions_as_user": [{"principals": {"values": ["guest"]}, "users": {"type": "NONE"}}],
	"launch_nested_container_sessions_under_parent_with_user": [{"principals": {"values": ["guest"]}, "users": {"type": "NONE"}}],
	"attach_containers_input": [{"principals": {"values": ["guest"]}, "users": {"type": "NONE"}}],
	"attach_containers_output": [{"principals": {"values": ["guest"]}, "users": {"type": "NONE"}}]
}`

// asOps sends a call, as JSON, to a master as somebody who may do everything.
func asOps(t *testing.T, base, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/v1", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("ops", "ops-secret")
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if said, err := io.ReadAll(res.Body); err != nil || res.StatusCode/100 != 2 {
		t.Fatalf("%s: %d %s %v", body, res.StatusCode, said, err)
	}
}

// act is something that the pages offer, as they ask for it.
type act struct{ path, body string }

// guestActs are all of them, on what is there: a task, a reservation, a volume, a window.
func guestActs(w ids) []act {
	agent := `"agent_id":{"value":"` + w.agent + `"}`
	reserved := `"type":"SCALAR","reservations":[{"type":"DYNAMIC","role":"prod","principal":"ops"}]`
	machine := func(name string) string { return `"machines":[{"hostname":"` + name + `","ip":"127.0.0.1"}]` }
	call := func(name, what string) act {
		field := strings.ToLower(name)
		return act{"/api/v1", `{"type":"` + name + `","` + field + `":{` + what + `}}`}
	}
	const own = "/api/clusterd/v1"
	return []act{
		{own + "/tasks/kill", `{"framework_id":{"value":"` + w.framework + `"},"task_id":{"value":"` + w.task + `"}}`},
		{own + "/agents/cancel_drain", "{" + agent + "}"},
		{own + "/registry/add", `{"id":"evil","address":"127.0.0.1:1"}`},
		{own + "/registry/remove", `{"id":"evil"}`},
		{own + "/registry/transfer", `{}`},
		call("TEARDOWN", `"framework_id":{"value":"`+w.framework+`"}`),
		call("DRAIN_AGENT", agent),
		call("DEACTIVATE_AGENT", agent),
		call("REACTIVATE_AGENT", agent),
		call("MARK_AGENT_GONE", agent),
		call("UPDATE_QUOTA", `"quota_configs":[{"role":"prod","limits":{"cpus":{"value":1}}}]`),
		call("UPDATE_WEIGHTS", `"weight_infos":[{"role":"prod","weight":2}]`),
		call("RESERVE_RESOURCES", agent+`,"resources":[{"name":"cpus","scalar":{"value":0.1},`+strings.ReplaceAll(reserved, "ops", "guest")+`}]`),
		call("UNRESERVE_RESOURCES", agent+`,"resources":[{"name":"disk","scalar":{"value":64},`+reserved+`}]`),
		call("CREATE_VOLUMES", agent+`,"volumes":[{"name":"disk","scalar":{"value":64},`+reserved+`,"disk":{"persistence":{"id":"evil","principal":"guest"},"volume":{"container_path":"data","mode":"RW"}}}]`),
		call("DESTROY_VOLUMES", agent+`,"volumes":[`+volumeOf("ops")+`]`),
		call("UPDATE_MAINTENANCE_SCHEDULE", `"schedule":{"windows":[{"machine_ids":[{"hostname":"spare","ip":"127.0.0.1"}],"unavailability":{"start":{"nanoseconds":1}}}]}`),
		call("START_MAINTENANCE", machine("localhost")),
		call("STOP_MAINTENANCE", machine("spare")),
	}
}

// volumeOf is the volume that is there.
func volumeOf(principal string) string {
	return `{"name":"disk","type":"SCALAR","scalar":{"value":64},"reservations":[{"type":"DYNAMIC","role":"prod","principal":"ops"}],
		"disk":{"persistence":{"id":"data","principal":"` + principal + `"},"volume":{"container_path":"data","mode":"RW"}}}`
}

// guest looks at the cluster as somebody who may do nothing: there are no buttons, neither on
// pages nor in the palette, and what the page asks for all the same is refused.
func guest(t *testing.T, base string, w ids) {
	agent := `"agent_id":{"value":"` + w.agent + `"}`
	asOps(t, base, `{"type":"RESERVE_RESOURCES","reserve_resources":{`+agent+`,"resources":[{"name":"disk","type":"SCALAR",
		"scalar":{"value":128},"reservations":[{"type":"DYNAMIC","role":"prod","principal":"ops"}]}]}}`)
	asOps(t, base, `{"type":"CREATE_VOLUMES","create_volumes":{`+agent+`,"volumes":[`+volumeOf("ops")+`]}}`)
	asOps(t, base, `{"type":"UPDATE_MAINTENANCE_SCHEDULE","update_maintenance_schedule":{"schedule":{"windows":[
		{"machine_ids":[{"hostname":"localhost","ip":"127.0.0.1"},{"hostname":"spare","ip":"127.0.0.1"}],"unavailability":{"start":{"nanoseconds":4102444800000000000}}}]}}}`)
	asOps(t, base, `{"type":"START_MAINTENANCE","start_maintenance":{"machines":[{"hostname":"spare","ip":"127.0.0.1"}]}}`)

	task := "#/tasks/" + w.framework + "/" + w.task
	b := open(t, base, task)
	b.fill("Name", "guest")
	b.fill("Password", "guest-secret")
	b.press("Log in")
	b.sees("secret-work", "running")
	for _, page := range []struct {
		path, says string
		buttons    []string
	}{
		{task, "secret-work", []string{"Kill", "Terminal"}},
		{"#/frameworks/" + w.framework, "secret-work", []string{"Tear down"}},
		{"#/agents/" + w.agent, "localhost", []string{"Actions"}},
		{"#/agents/" + w.agent + "?tab=reservations", "dynamic", []string{"Reserve", "Actions on 64 MiB disk of prod", "Actions on volume data"}},
		{"#/roles", "prod", []string{"Set a quota", "Acts on prod", "Acts on *"}},
		{"#/maintenance", "1 window", []string{"Schedule maintenance", "Edit", "Cancel", "Take it down", "Bring it up", "Acts on localhost", "Acts on spare"}},
		{"#/registry", "", []string{"Add a master"}},
	} {
		b.goTo(page.path)
		b.sees(page.says)
		for _, name := range page.buttons {
			if eval[bool](b, "Boolean("+control(name)+")") {
				t.Errorf("%s: there is %q for who may not", page.path, name)
			}
		}
	}
	b.keys("k", chromedp.ModifierCtrl)
	for _, words := range []string{"kill", "tear down", "drain", "deactivate", "mark gone", "reserve", "quota", "maintenance", "hand over", "add a master"} {
		b.fill("Go to a page", words)
		if got := eval[string](b, `[...document.querySelectorAll('.palette-group')].map((e) => e.innerText).join()`); strings.Contains(strings.ToLower(got), "acts") {
			t.Errorf("the palette offers acts for %q", words)
		}
	}
	b.keys(kb.Escape)

	// By hand, with the guest's cookie, from the page itself.
	b.allow("status of 403", "unexpected response code: 403", "Unexpected response code: 403")
	for _, a := range guestActs(w) {
		got := eval[struct {
			Status int
			Text   string
		}](b, fmt.Sprintf(`fetch('/api/clusterd/v1/proxy/leader' + %s, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: %s})
			.then(async (r) => ({Status: r.status, Text: await r.text()}))`, quote(a.path), quote(a.body)))
		if got.Status != http.StatusForbidden {
			t.Errorf("POST %s %s: got %d %s, want 403", a.path, a.body, got.Status, got.Text)
		}
	}
	terminal := "/api/clusterd/v1/proxy/leader/api/clusterd/v1/proxy/agent/" + w.agent + "/api/clusterd/v1/terminal?cmd=sh&container_id=" + guestContainer(b, w)
	if got := eval[string](b, `new Promise((done) => {
		const ws = new WebSocket(`+quote(terminal)+`)
		ws.onopen = () => done('opened')
		ws.onmessage = (e) => done('message ' + e.data)
		ws.onerror = () => done('refused')
	})`); got != "refused" {
		t.Errorf("a terminal by hand: %s, want it refused", got)
	}

	// Nothing has come of it.
	b.goTo(task)
	b.sees("running")
	b.goTo("#/agents/" + w.agent + "?tab=reservations")
	b.sees("dynamic", "data")
	b.goTo("#/maintenance")
	b.sees("1 window")
}

// guestContainer is the container of the task.
func guestContainer(b *tab, w ids) string {
	b.t.Helper()
	b.wait("the task's container is known", `fetch('/api/clusterd/v1/proxy/leader/tasks?task_id='+`+quote(w.task)+`).then((r) => r.json())
		.then((all) => window.container = all.tasks[0]?.statuses.map((s) => s.container_status?.container_id?.value).find(Boolean)) && window.container`)
	return eval[string](b, `window.container`)
}
