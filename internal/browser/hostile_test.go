package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"testing"

	"clusterd/api/client/executor"
	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

const (
	// markup does something where it is taken for a part of a page. The rest turns writing
	// around, colours terminals, and is what templates work out.
	markup = `<img src=x onerror=window.pwned=1>` + "\u202e\x1b[31m" + `"'&amp;${7*7}{{7*7}}`
	// idMarkup may be an id.
	idMarkup = `<img src=x onerror=window.pwned=1>"'%2e`
	// roleMarkup may be a role.
	roleMarkup = `"><b>pwned`
	// noTime is no time that a calendar knows.
	noTime = 1e300

	hostileExecutor = "CLUSTERD_TEST_HOSTILE_EXECUTOR"
)

// The executor of TestHostile is this program.
func init() {
	if os.Getenv(hostileExecutor) == "" {
		return
	}
	if err := beHostile(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// beHostile is an executor that says of its tasks what nobody expects.
func beHostile() error {
	fmt.Println(markup)
	fmt.Print("\x1b]8;;javascript:window.pwned=1\x07link\x1b]8;;\x07\x1b[2J\x1b]0;title\x07\n")
	if err := os.WriteFile(idMarkup, []byte(markup), 0o600); err != nil {
		return err
	}
	config, err := executor.FromEnvironment()
	if err != nil {
		return err
	}
	c, err := executor.New(config, executor.Options{})
	if err != nil {
		return err
	}
	for e, err := range c.Subscribe(context.Background()) {
		if err != nil {
			return err
		}
		if e.GetType() != executor.LAUNCH {
			continue
		}
		if err := c.Update(context.Background(), &mesos.TaskStatus{
			TaskId: e.GetLaunch().GetTask().GetTaskId(), State: mesos.TaskState_TASK_RUNNING.Enum(),
			Timestamp: new(noTime), Message: new(markup),
			Labels: &mesos.Labels{Labels: []*mesos.Label{{Key: new(markup), Value: new(markup)}}},
		}); err != nil {
			return err
		}
	}
	return nil
}

// hostile runs a framework whose names, roles, labels and times are not what pages expect,
// with a task like that.
func hostile(t *testing.T, c *testcluster.Cluster) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	labels := &mesos.Labels{Labels: []*mesos.Label{
		{Key: new(markup), Value: new(markup)},
		{Key: new("long"), Value: new(strings.Repeat("long ", 20<<10))},
		{Key: new("__proto__"), Value: new("constructor")},
	}}
	s, err := scheduler.New(scheduler.Options{
		Masters: []string{c.Masters[0].Addr},
		Framework: &mesos.FrameworkInfo{
			Name: new(markup), User: &who.Username, Roles: []string{roleMarkup}, Labels: labels,
			WebuiUrl: new("javascript:window.pwned=1"), Hostname: new(markup),
			Capabilities: []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	task := func(o *mesos.Offer) *mesos.TaskInfo {
		scalar := func(name string, v float64) *mesos.Resource {
			return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &v}}
		}
		return &mesos.TaskInfo{
			Name: new(markup), TaskId: &mesos.TaskID{Value: new(idMarkup)}, AgentId: o.GetAgentId(),
			Resources: []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32)}, Labels: labels,
			Executor: &mesos.ExecutorInfo{
				Type: mesos.ExecutorInfo_CUSTOM.Enum(), ExecutorId: &mesos.ExecutorID{Value: new(idMarkup)},
				Name: new(markup), Source: new(markup), FrameworkId: s.FrameworkID(),
				Resources: []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 64)},
				Command: &mesos.CommandInfo{
					Shell: new(false), Value: &self, Arguments: []string{"hostile"},
					Environment: &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new(hostileExecutor), Value: new("1")}}},
				},
			},
			Discovery: &mesos.DiscoveryInfo{Visibility: mesos.DiscoveryInfo_EXTERNAL.Enum(), Name: new(markup)},
		}
	}
	running, ended := make(chan *mesos.TaskStatus, 1), make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the hostile framework: %v", err)
		}
	})
	go func() {
		launched := false
		ended <- s.Run(ctx, func(e *scheduler.Event) error {
			switch e.GetType() {
			case scheduler.OFFERS:
				for _, o := range e.GetOffers().GetOffers() {
					if launched {
						continue // it keeps what it is offered: offers are shown too
					}
					launched = true
					if err := s.Launch(ctx, o, task(o)); err != nil {
						return err
					}
				}
			case scheduler.UPDATE:
				st := e.GetUpdate().GetStatus()
				select {
				case running <- st:
				default:
				}
				return s.Acknowledge(ctx, st)
			default:
			}
			return nil
		})
	}()
	select {
	case st := <-running:
		if st.GetState() != mesos.TaskState_TASK_RUNNING || st.GetTimestamp() != noTime {
			t.Fatalf("got %v", st)
		}
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
}

// TestHostile opens all pages of a cluster whose names, times and files are made to break
// pages, and addresses that nobody has: nothing of it becomes a part of a page, and none
// stays empty.
func TestHostile(t *testing.T) {
	c := start(t, testcluster.Options{
		Masters: 1, Agents: 2,
		EachAgent: func(int) []string { return []string{"--attributes=rack:" + strings.ReplaceAll(idMarkup, ";", "")} },
	})
	hostile(t, c)
	base := "http://" + c.Masters[0].Addr
	body, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	w, err := running(body, markup)
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, base, "#/")
	safe := func(path string) {
		t.Helper()
		b.wait("the page of "+path+" is drawn", drawn)
		if eval[bool](b, `window.pwned !== undefined || document.querySelector('img[src=x], main b, a[href^="javascript:" i]') !== null`) {
			t.Errorf("%s: what the cluster says has become a part of the page", path)
		}
		b.seesNot("This page cannot be shown", "${49}", "{{49}}")
	}
	link := func(name string, ids ...string) string {
		args := make([]string, len(ids))
		for i, id := range ids {
			args[i] = eval[string](b, "encodeURIComponent("+quote(id)+")")
		}
		return fmt.Sprintf(name, toAny(args)...)
	}
	executorPage := link("#/agents/%s/frameworks/%s/executors/%s", w.agent, w.framework, w.executor)
	for _, p := range []place{
		{"#/", []string{"Tasks by state"}, ""},
		{"#/agents", []string{"onerror"}, ""},
		{link("#/agents/%s", w.agent), []string{"onerror"}, ""},
		{link("#/agents/%s?tab=containers", w.agent), []string{"onerror"}, ""},
		{link("#/agents/%s/frameworks/%s", w.agent, w.framework), []string{"onerror"}, ""},
		{executorPage, []string{"onerror"}, ""},
		{executorPage + "/browse", []string{"onerror", "stdout"}, ""},
		{"#/frameworks", []string{"onerror"}, ""},
		{link("#/frameworks/%s", w.framework), []string{"onerror"}, ""},
		{"#/tasks", []string{"onerror", "running"}, ""},
		{link("#/tasks/%s/%s", w.framework, w.task), []string{"onerror", "running"}, ""},
		{link("#/tasks/%s/%s?tab=output", w.framework, w.task), []string{"onerror", "link"}, ""},
		{link("#/tasks/%s/%s?tab=json", w.framework, w.task), []string{"onerror"}, ""},
		{"#/roles", []string{"pwned"}, ""},
		{"#/offers", []string{"onerror"}, ""},
	} {
		b.goTo(p.path)
		b.sees(p.texts...)
		safe(p.path)
	}
	b.quiet()
	b.allow("404", "400", "WebSocket") // what is asked for is not there
	for _, path := range []string{
		link("#/agents/%s", markup), link("#/tasks/%s/%s", markup, idMarkup), "#/tasks/x/%E0%A4%A", "#/frameworks/__proto__",
		"#/tasks/__proto__/constructor", "#/agents/constructor", "#/agents/..%2f..%2fstate/browse?path=../../etc",
		"#/agents/x/frameworks/y/executors/z/browse", "#/agents/x/frameworks/y/executors/z/tasks/t/browse",
		link("#/agents/%s/browse?path=", w.agent), link("#/agents/%s/browse?file=%%00", w.agent),
		link("#/agents/%s/containers/%s/terminal", w.agent, markup), "#/tasks?sort=__proto__&q=%5B(&state=%00", "#/agents?sort=-zz",
		"#//////", "#/%00", "#?", "#/metrics?agent=..%2f..&q=%5B", "#/flags?q=%5B%28", "#/roles?q=" + strings.Repeat("x", 10_000),
	} {
		b.goTo(path)
		safe(path)
	}
	// The way back leads through all of them.
	for range 10 {
		eval[bool](b, "history.back(), true")
		b.settles("the page before", drawn)
	}
	safe("back")
}

func toAny(texts []string) []any {
	out := make([]any, len(texts))
	for i, s := range texts {
		out[i] = s
	}
	return out
}
