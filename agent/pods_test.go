package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/api/mesosjson"
	"clusterd/api/recordio"
	"clusterd/internal/authn"
)

func defaultExecutor(id string) *mesos.ExecutorInfo {
	return &mesos.ExecutorInfo{
		Type: mesos.ExecutorInfo_DEFAULT.Enum(), ExecutorId: &mesos.ExecutorID{Value: &id},
		Resources: []*mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32), scalar("disk", 16)},
	}
}

// runGroup launches tasks as a group, under an executor that is new or is not.
func runGroup(fw *mesos.FrameworkInfo, e *mesos.ExecutorInfo, launch bool, tasks ...*mesos.TaskInfo) *clusterdv1.MasterMessage {
	e = proto.CloneOf(e)
	e.FrameworkId = fw.GetId()
	return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_RunTasks{RunTasks: &clusterdv1.RunTasks{
		Framework: fw, Tasks: tasks, Executor: e, Group: new(true), LaunchExecutor: &launch,
	}}}
}

// pod is an agent on which task groups run.
type pod struct {
	t *testing.T
	m *scriptedMaster
	h *machine
	a *Agent
}

func newPod(t *testing.T, change ...func(*Options)) *pod {
	p := &pod{t: t, m: newScriptedMaster(t)}
	p.h = newMachine(t, p.m)
	p.a = p.h.start(change...)
	p.m.waitRegistered(1)
	t.Cleanup(func() { p.h.leave(p.a) })
	return p
}

// call makes a call of the agent's API and wants a status.
func (p *pod) call(want int, body string, args ...any) *agentv1.Response {
	p.t.Helper()
	status, _, out := request(p.t, p.a, "POST", "/api/v1", jsonType, fmt.Sprintf(body, args...))
	if status != want {
		p.t.Fatalf("%s: got %d %s, want %d", fmt.Sprintf(body, args...), status, out, want)
	}
	r := &agentv1.Response{}
	if status == 200 && out != "" {
		if err := mesosjson.Unmarshal([]byte(out), r); err != nil {
			p.t.Fatal(err)
		}
	}
	return r
}

// only is the one container of an executor, and its sandbox.
func (p *pod) only() (id, sandbox string) {
	p.t.Helper()
	v, err := p.a.View(p.t.Context())
	if err != nil || len(v.Frameworks) != 1 || len(v.Frameworks[0].Executors) != 1 {
		p.t.Fatalf("one executor: got %+v, %v", v, err)
	}
	e := v.Frameworks[0].Executors[0]
	return e.ContainerID.GetValue(), e.Directory
}

func (p *pod) completed() {
	p.t.Helper()
	eventually(p.t, "the executor has ended", func() bool {
		v, err := p.a.View(p.t.Context())
		if err != nil {
			return false
		}
		for _, fw := range v.Frameworks {
			if len(fw.Executors) > 0 {
				return false
			}
		}
		return true
	})
}

func readWhenThere(t *testing.T, path, want string) {
	t.Helper()
	eventually(t, path+" has "+want, func() bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(b), want)
	})
}

func wantStates(t *testing.T, m *scriptedMaster, task string, want ...string) {
	t.Helper()
	if got := strings.Join(m.states(task), " "); got != strings.Join(want, " ") {
		t.Errorf("%s: got %s, want %v", task, got, want)
	}
}

// TestPodFinishes: a pod's tasks run beside each other, each in a container nested in the
// executor's, and their end is told apart; the executor ends after them.
func TestPodFinishes(t *testing.T) {
	p := newPod(t)
	fw := framework("F")
	a := commandTask("a", "env >env; until [ -e ../../b.ran ]; do sleep 0.01; done; exit 0")
	b := commandTask("b", "echo over there; touch ../../b.ran; until [ -e go ]; do sleep 0.01; done")
	p.m.send(runGroup(fw, defaultExecutor("d"), true, a, b))
	running := p.m.waitState("b", "RUNNING")
	p.m.waitState("a", "FINISHED")
	container, sandbox := p.only()
	nested := running.GetContainerStatus().GetContainerId()
	if nested.GetParent().GetValue() != container || len(nested.GetValue()) != 36 || running.GetSource() != mesos.TaskStatus_SOURCE_EXECUTOR {
		t.Errorf("status of a task: got %v", running)
	}
	if len(running.GetContainerStatus().GetNetworkInfos()) != 1 || running.GetContainerStatus().GetExecutorPid() == 0 {
		t.Errorf("container of a task: got %v", running.GetContainerStatus())
	}
	// The links are where user interfaces look.
	link, err := filepath.EvalSymlinks(filepath.Join(sandbox, "tasks", "b"))
	if err != nil || link != filepath.Join(sandbox, "containers", nested.GetValue()) {
		t.Errorf("tasks/b: got %s, %v", link, err)
	}
	readWhenThere(t, filepath.Join(link, "stdout"), "over there")
	env, err := os.ReadFile(filepath.Join(sandbox, "tasks", "a", "env"))
	if err != nil {
		t.Fatal(err)
	}
	own, _ := filepath.EvalSymlinks(filepath.Join(sandbox, "tasks", "a"))
	for _, want := range []string{"MESOS_SANDBOX=" + own + "\n", "MESOS_CONTAINER_IP=127.0.0.1\n", "MESOS_ALLOCATION_ROLE=r\n", "PATH=/"} {
		if !strings.Contains(string(env), want) {
			t.Errorf("environment lacks %q:\n%s", want, env)
		}
	}
	if strings.Contains(string(env), "MESOS_EXECUTOR_ID=") {
		t.Errorf("a task has its executor's environment:\n%s", env)
	}
	// What is nested is listed when it is asked for.
	if got := len(p.call(200, `{"type":"GET_CONTAINERS","get_containers":{}}`).GetGetContainers().GetContainers()); got != 1 {
		t.Errorf("containers: got %d, want 1", got)
	}
	all := p.call(200, `{"type":"GET_CONTAINERS","get_containers":{"show_nested":true,"show_standalone":true}}`).GetGetContainers().GetContainers()
	if len(all) != 3 { // a has ended, and can be waited for until its executor has
		t.Errorf("with nested ones: got %v", all)
	}
	if err := os.WriteFile(filepath.Join(link, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.m.waitState("b", "FINISHED")
	wantStates(t, p.m, "a", "STARTING", "RUNNING", "FINISHED")
	wantStates(t, p.m, "b", "STARTING", "RUNNING", "FINISHED")
	p.completed()
	eventually(t, "no container is left", func() bool { return len(p.a.runner.Containers()) == 0 })
}

// TestPodFails: a task that fails takes those that were launched with it along, and no others.
func TestPodFails(t *testing.T) {
	p := newPod(t)
	fw := framework("F")
	p.m.send(runGroup(fw, defaultExecutor("d"), true, commandTask("a", "until [ -e go ]; do sleep 0.01; done; exit 3"), commandTask("b", "sleep 1000")))
	p.m.waitState("a", "RUNNING")
	p.m.waitState("b", "RUNNING")
	p.m.send(runGroup(fw, defaultExecutor("d"), false, commandTask("c", "sleep 1000")))
	p.m.waitState("c", "RUNNING")
	_, sandbox := p.only()
	if err := os.WriteFile(filepath.Join(sandbox, "tasks", "a", "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := p.m.waitState("a", "FAILED").GetMessage(); got != "Command exited with status 3" {
		t.Errorf("message: got %q", got)
	}
	if got := p.m.waitState("b", "KILLED").GetMessage(); got != "Command terminated with signal Terminated" {
		t.Errorf("message: got %q", got)
	}
	wantStates(t, p.m, "b", "STARTING", "RUNNING", "KILLING", "KILLED")
	wantStates(t, p.m, "c", "STARTING", "RUNNING")
	p.m.send(killTask("F", "c"))
	p.m.waitState("c", "KILLED")
	p.completed()
}

// TestPodKill: a task that does not listen is killed when its grace period is over, and the rest
// of its group with it. What cannot be launched fails.
func TestPodKill(t *testing.T) {
	p := newPod(t)
	deaf := commandTask("deaf", `trap "" TERM; echo ready; while :; do sleep 0.05; done`)
	deaf.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: new(int64(100e6))}}
	other := commandTask("other", "sleep 1000")
	p.m.send(runGroup(framework("F"), defaultExecutor("d"), true, deaf, other))
	p.m.waitState("other", "RUNNING")
	p.m.waitState("deaf", "RUNNING")
	_, sandbox := p.only()
	readWhenThere(t, filepath.Join(sandbox, "tasks", "deaf", "stdout"), "ready")
	p.m.send(killTask("F", "deaf"))
	if got := p.m.waitState("deaf", "KILLED").GetMessage(); got != "Command terminated with signal Killed" {
		t.Errorf("message: got %q", got)
	}
	p.m.waitState("other", "KILLED")
	p.completed()

	bad := commandTask("bad", "x")
	bad.Command = &mesos.CommandInfo{Shell: new(bool), Value: new("/no/such/program")}
	p.m.send(runGroup(framework("F"), defaultExecutor("d2"), true, bad, commandTask("good", "sleep 1000")))
	if got := p.m.waitState("bad", "FAILED").GetMessage(); !strings.Contains(got, "/no/such/program") {
		t.Errorf("message: got %q", got)
	}
	p.m.waitState("good", "KILLED")
	wantStates(t, p.m, "bad", "STARTING", "FAILED")
	p.completed()
}

// TestPodTakesTooLong: a task that is not done in time has failed.
func TestPodTakesTooLong(t *testing.T) {
	p := newPod(t)
	slow := commandTask("slow", "sleep 1000")
	slow.MaxCompletionTime = &mesos.DurationInfo{Nanoseconds: new(int64(50e6))}
	p.m.send(runGroup(framework("F"), defaultExecutor("d"), true, slow))
	if got := p.m.waitState("slow", "FAILED").GetReason(); got != mesos.TaskStatus_REASON_MAX_COMPLETION_TIME_REACHED {
		t.Errorf("reason: got %v", got)
	}
	p.completed()
}

// TestPodOverRestart: the agent goes and comes back; nothing that happened is lost.
func TestPodOverRestart(t *testing.T) {
	p := newPod(t)
	p.m.send(runGroup(framework("F"), defaultExecutor("d"), true,
		commandTask("a", "until [ -e go ]; do sleep 0.01; done; exit 4"), commandTask("b", "sleep 1000"),
		commandTask("c", "until [ -e go ]; do sleep 0.01; done; exit 0")))
	for _, task := range []string{"a", "b", "c"} {
		p.m.waitState(task, "RUNNING")
	}
	_, sandbox := p.only()
	p.h.stop(p.a)
	if err := os.WriteFile(filepath.Join(sandbox, "tasks", "c", "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.a = p.h.start()
	p.m.waitRegistered(2)
	p.m.waitState("c", "FINISHED")
	wantStates(t, p.m, "a", "STARTING", "RUNNING")
	if err := os.WriteFile(filepath.Join(sandbox, "tasks", "a", "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.m.waitState("a", "FAILED")
	p.m.waitState("b", "KILLED")
	p.completed()
}

// TestPodChecks: checks look at the tasks of a pod, commands in containers nested in theirs.
func TestPodChecks(t *testing.T) {
	p := newPod(t)
	check := func(cmd string) *mesos.CheckInfo {
		return &mesos.CheckInfo{
			Type: mesos.CheckInfo_COMMAND.Enum(), DelaySeconds: new(0.0), IntervalSeconds: new(0.02),
			Command: &mesos.CheckInfo_Command{Command: &mesos.CommandInfo{Value: &cmd}},
		}
	}
	checked := commandTask("checked", "echo 5 >code; sleep 1000")
	checked.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new("SECOND"), Value: new("6")}}}
	checked.Check = check(`[ -e second ] && exit $SECOND; exit $(cat code)`)
	sick := commandTask("sick", "sleep 1000")
	sick.HealthCheck = &mesos.HealthCheck{
		Type: mesos.HealthCheck_COMMAND.Enum(), DelaySeconds: new(0.0), IntervalSeconds: new(0.02), GracePeriodSeconds: new(0.0),
		ConsecutiveFailures: new(uint32(2)), Command: &mesos.CommandInfo{Value: new("test ! -e sick")},
	}
	p.m.send(runGroup(framework("F"), defaultExecutor("d"), true, checked, sick))
	code := func(want int32) func() bool {
		return func() bool {
			all := p.m.updatesOf("checked")
			if len(all) == 0 {
				return false
			}
			c := all[len(all)-1].GetStatus().GetCheckStatus().GetCommand()
			return c != nil && c.ExitCode != nil && c.GetExitCode() == want
		}
	}
	eventually(t, "the check's first result", code(5))
	_, sandbox := p.only()
	if err := os.WriteFile(filepath.Join(sandbox, "tasks", "checked", "second"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the check's second result", code(6))
	eventually(t, "the other task is healthy", func() bool {
		all := p.m.updatesOf("sick")
		return len(all) > 0 && all[len(all)-1].GetStatus().GetHealthy()
	})
	if err := os.WriteFile(filepath.Join(sandbox, "tasks", "sick", "sick"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	last := p.m.waitState("sick", "KILLED")
	if last.Healthy == nil || last.GetHealthy() {
		t.Errorf("the unhealthy task: got %v", last)
	}
	if s := p.m.waitState("checked", "KILLED"); s.Healthy != nil || s.GetCheckStatus().GetCommand() == nil {
		t.Errorf("the task beside it: got %v", s)
	}
	p.completed()
}

// stream makes a call whose answer is a stream, and calls f for every record until it says no.
func (p *pod) stream(body string, f func(*agentv1.ProcessIO) bool) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "http://"+p.a.Addr()+"/api/v1", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", jsonType)
	req.Header.Set("Accept", "application/recordio")
	req.Header.Set("Message-Accept", jsonType)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/recordio" || resp.Header.Get("Message-Content-Type") != jsonType {
		b, _ := io.ReadAll(resp.Body)
		p.t.Fatalf("%s: got %d %s %v", body, resp.StatusCode, b, resp.Header)
	}
	r := recordio.NewReader(resp.Body, 1<<20)
	for {
		rec, err := r.Next()
		if err != nil {
			f(nil)
			return
		}
		m := &agentv1.ProcessIO{}
		if err := mesosjson.Unmarshal(rec, m); err != nil {
			p.t.Errorf("record %s: %v", rec, err)
			return
		}
		if !f(m) {
			return
		}
	}
}

// input is an ATTACH_CONTAINER_INPUT that is under way.
type input struct {
	t      *testing.T
	w      *io.PipeWriter
	answer chan answered
}

func (p *pod) input(id string) *input {
	p.t.Helper()
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "http://"+p.a.Addr()+"/api/v1", r)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/recordio")
	req.Header.Set("Message-Content-Type", jsonType)
	in := &input{t: p.t, w: w, answer: make(chan answered, 1)}
	go func() {
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			in.answer <- answered{body: err.Error()}
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		in.answer <- answered{resp.StatusCode, resp.Header, string(b)}
	}()
	in.record(`{"type":"CONTAINER_ID","container_id":` + id + `}`)
	return in
}

func (in *input) record(content string) {
	in.t.Helper()
	_, _ = in.w.Write(recordio.Append(nil, []byte(call("ATTACH_CONTAINER_INPUT", content))))
}

func (in *input) typed(text string) {
	in.t.Helper()
	m, err := mesosjson.Marshal(&agentv1.ProcessIO{
		Type: agentv1.ProcessIO_DATA.Enum(), Data: &agentv1.ProcessIO_Data{Type: agentv1.ProcessIO_Data_STDIN.Enum(), Data: []byte(text)},
	})
	if err != nil {
		in.t.Fatal(err)
	}
	in.record(`{"type":"PROCESS_IO","process_io":` + string(m) + `}`)
}

func (in *input) end(want int) {
	in.t.Helper()
	in.w.Close()
	if got := <-in.answer; got.status != want {
		in.t.Errorf("input: got %d %s, want %d", got.status, got.body, want)
	}
}

func nestedJSON(id string, values ...string) string {
	out := `{"value":"` + id + `"}`
	for _, v := range values {
		out = `{"value":"` + v + `","parent":` + out + `}`
	}
	return out
}

// onePod has one task that sleeps; it returns the ids of its container.
func (p *pod) onePod() (executor, task, sandbox string) {
	p.t.Helper()
	t := commandTask("t", "cat >/dev/null; sleep 1000")
	t.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new("COLOUR"), Value: new("blue")}}}
	p.m.send(runGroup(framework("F"), defaultExecutor("d"), true, t))
	id := p.m.waitState("t", "RUNNING").GetContainerStatus().GetContainerId()
	_, sandbox = p.only()
	return id.GetParent().GetValue(), id.GetValue(), sandbox
}

// TestSession: a session shows all that its command prints, lets its client type, and ends with
// it. It sees what the container sees that it is in.
func TestSession(t *testing.T) {
	p := newPod(t)
	executor, task, sandbox := p.onePod()
	// A short one: all of its output comes, though it is over before anybody can read.
	id := nestedJSON(executor, task, "s1")
	var out, errs bytes.Buffer
	p.stream(call("LAUNCH_NESTED_CONTAINER_SESSION", `{"container_id":`+id+`,"command":{"value":"echo $COLOUR; pwd; echo oops >&2; exit 5"}}`), func(m *agentv1.ProcessIO) bool {
		switch m.GetData().GetType() {
		case agentv1.ProcessIO_Data_STDOUT:
			out.Write(m.GetData().GetData())
		case agentv1.ProcessIO_Data_STDERR:
			errs.Write(m.GetData().GetData())
		default:
		}
		return true
	})
	if got, want := out.String(), "blue\n"+filepath.Join(sandbox, "containers", task)+"\n"; got != want || errs.String() != "oops\n" {
		t.Errorf("output: got %q and %q, want %q", got, errs.String(), want)
	}
	if got := p.call(200, `{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":%s}}`, id).GetWaitNestedContainer(); got.GetExitStatus() != 5<<8 {
		t.Errorf("wait: got %v", got)
	}
	p.call(200, `{"type":"REMOVE_NESTED_CONTAINER","remove_nested_container":{"container_id":%s}}`, id)
	p.call(404, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":%s}}`, id)
	if _, err := os.Stat(filepath.Join(sandbox, "containers", task, "containers", "s1")); !os.IsNotExist(err) {
		t.Errorf("the sandbox of what was removed: %v", err)
	}

	// One that reads what is typed.
	id = nestedJSON(executor, task, "s2")
	out.Reset()
	var in *input
	p.stream(call("LAUNCH_NESTED_CONTAINER_SESSION", `{"container_id":`+id+`,"command":{"value":"echo ready; sed s/a/b/; echo over"}}`), func(m *agentv1.ProcessIO) bool {
		out.Write(m.GetData().GetData())
		if in == nil && strings.Contains(out.String(), "ready\n") {
			in = p.input(id)
			in.record(`{"type":"PROCESS_IO","process_io":{"type":"CONTROL","control":{"type":"HEARTBEAT","heartbeat":{}}}}`)
			in.typed("a\n")
			in.typed("")
		}
		return true
	})
	if got := out.String(); got != "ready\nb\nover\n" {
		t.Errorf("output: got %q", got)
	}
	in.end(200)

	// One whose client goes.
	id = nestedJSON(executor, task, "s3")
	p.stream(call("LAUNCH_NESTED_CONTAINER_SESSION", `{"container_id":`+id+`,"command":{"value":"echo ready; sleep 1000"}}`), func(*agentv1.ProcessIO) bool { return false })
	if got := p.call(200, `{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":%s}}`, id).GetWaitNestedContainer(); got.GetExitStatus() != 9 {
		t.Errorf("wait: got %v", got)
	}
	if s := p.m.states("t"); s[len(s)-1] != "RUNNING" {
		t.Errorf("the task: got %v", s)
	}
}

// TestTerminal: a session with a terminal has the size that its client wants.
func TestTerminal(t *testing.T) {
	p := newPod(t, func(o *Options) { o.HTTPHeartbeatInterval = 1e6 })
	executor, task, _ := p.onePod()
	id := nestedJSON(executor, task, "s")
	var out bytes.Buffer
	var in *input
	resized, beats := false, 0
	p.stream(call("LAUNCH_NESTED_CONTAINER_SESSION", `{"container_id":`+id+`,"command":{"value":"stty size; read x; stty size; echo $x"},`+
		`"container":{"type":"MESOS","tty_info":{"window_size":{"rows":30,"columns":90}}}}`), func(m *agentv1.ProcessIO) bool {
		if m.GetControl().GetHeartbeat().GetInterval().GetNanoseconds() == 1e6 {
			beats++
		}
		out.Write(m.GetData().GetData())
		if !resized && strings.Contains(out.String(), "30 90") {
			resized = true
			in = p.input(id)
			in.record(`{"type":"PROCESS_IO","process_io":{"type":"CONTROL","control":{"type":"TTY_INFO","tty_info":{"window_size":{"rows":41,"columns":132}}}}}`)
			in.typed("hello\n")
		}
		return true
	})
	for _, want := range []string{"41 132\r\n", "hello\r\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output: got %q, want %q in it", out.String(), want)
		}
	}
	if in != nil {
		in.end(200)
	}
	if beats == 0 {
		t.Error("no heartbeat came")
	}
}

// TestAttachPlain: who attaches to a task that has neither terminal nor input reads along, and
// cannot type.
func TestAttachPlain(t *testing.T) {
	p := newPod(t)
	p.m.send(runGroup(framework("F"), defaultExecutor("d"), true,
		commandTask("plain", "i=0; while [ ! -e stop ]; do echo line $i; i=$((i+1)); sleep 0.01; done; echo the end")))
	c := p.m.waitState("plain", "RUNNING").GetContainerStatus().GetContainerId()
	id := nestedJSON(c.GetParent().GetValue(), c.GetValue())
	_, sandbox := p.only()
	var out bytes.Buffer
	p.stream(call("ATTACH_CONTAINER_OUTPUT", `{"container_id":`+id+`}`), func(m *agentv1.ProcessIO) bool {
		out.Write(m.GetData().GetData())
		if strings.Count(out.String(), "line") >= 3 {
			if err := os.WriteFile(filepath.Join(sandbox, "tasks", "plain", "stop"), nil, 0o644); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	if !strings.HasPrefix(out.String(), "line ") || !strings.HasSuffix(out.String(), "\nthe end\n") {
		t.Errorf("output: got %q", out.String())
	}
	p.completed()

	executor, task, _ := p.onePod()
	in := p.input(nestedJSON(executor, task))
	in.typed("x")
	in.end(500)
}

// TestNestedAPI launches, kills and removes containers below one by the agent's API.
func TestNestedAPI(t *testing.T) {
	p := newPod(t)
	executor, task, sandbox := p.onePod()
	id := nestedJSON(executor, "n")
	const launch = `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":%s,"command":{"value":"echo $X >x; trap 'exit 7' USR1; echo up; while :; do sleep 0.01; done",` +
		`"environment":{"variables":[{"name":"X","value":"y"}]}}}}`
	p.call(200, launch, id)
	p.call(202, launch, id)
	readWhenThere(t, filepath.Join(sandbox, "containers", "n", "stdout"), "up")
	readWhenThere(t, filepath.Join(sandbox, "containers", "n", "x"), "y")
	deep := nestedJSON(executor, "n", "m")
	p.call(200, `{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":%s,"command":{"value":"sleep 1000"}}}`, deep)
	p.call(500, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":%s}}`, deep)
	p.call(200, `{"type":"KILL_CONTAINER","kill_container":{"container_id":%s,"signal":10}}`, id)
	got := p.call(200, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":%s}}`, id).GetWaitContainer()
	if got.GetExitStatus() != 7<<8 || got.Message != nil || got.State != nil {
		t.Errorf("wait: got %v", got)
	}
	// What was nested in it has ended with it.
	if got := p.call(200, `{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":%s}}`, deep).GetWaitNestedContainer(); got.GetExitStatus() != 9 {
		t.Errorf("wait: got %v", got)
	}
	p.call(404, `{"type":"KILL_CONTAINER","kill_container":{"container_id":%s}}`, id)
	p.call(200, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":%s}}`, id)
	p.call(404, `{"type":"KILL_NESTED_CONTAINER","kill_nested_container":{"container_id":%s}}`, id)

	// Files are brought in.
	source := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(source, []byte("brought"), 0o644); err != nil {
		t.Fatal(err)
	}
	const fetch = `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":%s,"command":{"value":"cat file","uris":[{"value":"%s"}]}}}`
	p.call(200, fetch, nestedJSON(executor, "fetches"), source)
	readWhenThere(t, filepath.Join(sandbox, "containers", "fetches", "stdout"), "brought")
	p.call(400, fetch, nestedJSON(executor, "fetches2"), source+".nosuch")

	p.call(400, launch, nestedJSON(executor, "nosuch", "x"))
	p.call(400, launch, nestedJSON("nosuch", "x"))
	p.call(400, `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":%s,"command":{"value":"/nosuch","shell":false}}}`, id)
	p.call(400, `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":%s,"command":{"value":"x"},"container":{"type":"DOCKER","docker":{"image":"i"}}}}`, id)
	p.call(500, `{"type":"REMOVE_NESTED_CONTAINER","remove_nested_container":{"container_id":%s}}`, nestedJSON(executor, task))
	p.call(500, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"%s"}}}`, executor)
}

// TestLinksLeadNowhere: a task that replaces the directory of nested sandboxes by a link does
// not get anything made where that leads.
func TestLinksLeadNowhere(t *testing.T) {
	p := newPod(t)
	executor, _, sandbox := p.onePod()
	outside := t.TempDir()
	if err := os.Mkdir(filepath.Join(outside, "n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(sandbox, "containers"), filepath.Join(sandbox, "away")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(sandbox, "containers")); err != nil {
		t.Fatal(err)
	}
	p.call(400, `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":%s,"command":{"value":"true"}}}`, nestedJSON(executor, "n"))
	p.call(500, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":%s}}`, nestedJSON(executor, "n"))
	entries, err := os.ReadDir(filepath.Join(outside, "n"))
	if err != nil || len(entries) > 0 {
		t.Errorf("outside: got %v, %v", entries, err)
	}
}

// TestStandalone: a container that belongs to nobody outlives the agent, which takes it up again.
func TestStandalone(t *testing.T) {
	p := newPod(t)
	const launch = `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"alone"},"command":{"value":"echo here; until [ -e go ]; do sleep 0.01; done; exit 2"},` +
		`"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}}]}}`
	p.call(200, launch)
	p.call(202, launch)
	dir := filepath.Join(p.h.work, "containers", "alone")
	readWhenThere(t, filepath.Join(dir, "stdout"), "here")
	if got := len(p.call(200, `{"type":"GET_CONTAINERS","get_containers":{"show_nested":true}}`).GetGetContainers().GetContainers()); got != 0 {
		t.Errorf("containers: got %d", got)
	}
	got := p.call(200, `{"type":"GET_CONTAINERS","get_containers":{"show_standalone":true}}`).GetGetContainers().GetContainers()
	if len(got) != 1 || got[0].GetContainerId().GetValue() != "alone" || got[0].ResourceStatistics == nil || got[0].FrameworkId != nil {
		t.Errorf("standalone: got %v", got)
	}
	p.h.stop(p.a)
	p.a = p.h.start()
	p.m.waitRegistered(2)
	p.call(202, launch)
	p.call(500, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"alone"}}}`)
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := p.call(200, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"alone"}}}`).GetWaitContainer(); got.GetExitStatus() != 2<<8 {
		t.Errorf("wait: got %v", got)
	}
	if err := os.Remove(filepath.Join(dir, "go")); err != nil {
		t.Fatal(err)
	}
	p.call(200, launch) // it has ended, so that there is none
	p.call(200, `{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"alone"}}}`)
	p.call(200, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"alone"}}}`)
	p.call(200, `{"type":"REMOVE_CONTAINER","remove_container":{"container_id":{"value":"alone"}}}`)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("its sandbox: %v", err)
	}
	p.call(404, `{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"alone"}}}`)
}

// TestPodWithTokens: where everybody has to say who they are, the executor of a pod does so with
// its token, which is good for its own container and no other.
func TestPodWithTokens(t *testing.T) {
	dir := t.TempDir()
	key, credentials := filepath.Join(dir, "key"), filepath.Join(dir, "credentials")
	for file, text := range map[string]string{
		key: strings.Repeat("k", 40), credentials: `{"credentials":[{"principal":"carol","secret":"carol"}]}`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := authn.New(authn.Config{
		Realms:          map[authn.Realm][]string{authn.AgentExecutor: {"jwt"}, authn.AgentReadwrite: {"basic"}},
		CredentialsFile: credentials, ExecutorKeyFile: key,
	})
	if err != nil {
		t.Fatal(err)
	}
	p := newPod(t, func(o *Options) {
		o.ExecutorTokens, o.Realms = set.ExecutorTokens, set.Realms
		o.ACLs = rules(t, false) // which permit nothing to anybody; a token does
	})
	check := commandTask("t", "sleep 1000")
	check.Check = &mesos.CheckInfo{
		Type: mesos.CheckInfo_COMMAND.Enum(), DelaySeconds: new(0.0),
		Command: &mesos.CheckInfo_Command{Command: &mesos.CommandInfo{Value: new("exit 9")}},
	}
	p.m.send(runGroup(framework("F"), defaultExecutor("d"), true, check))
	id := p.m.waitState("t", "RUNNING").GetContainerStatus().GetContainerId()
	eventually(t, "the check's result", func() bool {
		all := p.m.updatesOf("t")
		return all[len(all)-1].GetStatus().GetCheckStatus().GetCommand().GetExitCode() == 9
	})
	for container, want := range map[string]int{id.GetParent().GetValue(): 404, "another": 403} {
		token, err := set.ExecutorTokens.New("F", "d", container)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.a.Addr()+"/api/v1",
			strings.NewReader(call("KILL_NESTED_CONTAINER", `{"container_id":`+nestedJSON(id.GetParent().GetValue(), "n")+`}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", jsonType)
		req.Header.Set("Authorization", "Bearer "+token)
		if got := answerTo(t, req); got.status != want {
			t.Errorf("the executor of %s: got %d %s, want %d", container, got.status, got.body, want)
		}
	}
	p.m.send(killTask("F", "t"))
	p.m.waitState("t", "KILLED")
	p.completed()
}

// TestSocketCalls: on the executors' socket there are the calls on what is nested in them, and
// nothing else.
func TestSocketCalls(t *testing.T) {
	p := newPod(t, func(o *Options) { o.DomainSocket = filepath.Join(o.RuntimeDir, "agent.sock") })
	executor, task, _ := p.onePod()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.h.run, "agent.sock"))
	}}
	for body, want := range map[string]int{
		call("GET_STATE", ""): 403,
		call("LAUNCH_CONTAINER", `{"container_id":{"value":"s"},"command":{"value":"true"}}`): 403,
		call("KILL_CONTAINER", `{"container_id":{"value":"`+executor+`"}}`):                   403,
		call("KILL_CONTAINER", `{"container_id":`+nestedJSON("nosuch", "n")+`}`):              403,
		call("KILL_CONTAINER", `{"container_id":`+nestedJSON(executor, "n")+`}`):              404,
		call("REMOVE_NESTED_CONTAINER", `{"container_id":`+nestedJSON(executor, task)+`}`):    500,
		call("LAUNCH_NESTED_CONTAINER", `{"container_id":{"value":"x"}}`):                     400,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent/api/v1", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", jsonType)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", body, resp.StatusCode, want)
		}
	}
	for uid, want := range map[uint32]bool{uint32(os.Geteuid()): true, 65533: false} {
		if got := runsAs("", uid); got != want {
			t.Errorf("user %d is the agent's: got %v", uid, got)
		}
	}
	if !runsAs("root", 0) || runsAs("root", 1) || runsAs("no such user", 0) {
		t.Error("users are mixed up")
	}
}

// TestPodProbes: HTTP and TCP checks of a pod's tasks find what listens.
func TestPodProbes(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer srv.Close()
	port := uint32(srv.Listener.Addr().(*net.TCPAddr).Port)
	p := newPod(t)
	web, tcp := commandTask("web", "sleep 1000"), commandTask("tcp", "sleep 1000")
	web.Check = &mesos.CheckInfo{Type: mesos.CheckInfo_HTTP.Enum(), DelaySeconds: new(0.0), Http: &mesos.CheckInfo_Http{Port: &port}}
	tcp.HealthCheck = &mesos.HealthCheck{Type: mesos.HealthCheck_TCP.Enum(), DelaySeconds: new(0.0), Tcp: &mesos.HealthCheck_TCPCheckInfo{Port: &port}}
	p.m.send(runGroup(framework("F"), defaultExecutor("d"), true, web, tcp))
	last := func(task string) *mesos.TaskStatus {
		all := p.m.updatesOf(task)
		if len(all) == 0 {
			return nil
		}
		return all[len(all)-1].GetStatus()
	}
	eventually(t, "the page is found", func() bool { return last("web").GetCheckStatus().GetHttp().GetStatusCode() == http.StatusTeapot })
	eventually(t, "the port is open", func() bool { return last("tcp").GetHealthy() })
	if got := last("tcp").GetReason(); got != mesos.TaskStatus_REASON_TASK_HEALTH_CHECK_STATUS_UPDATED {
		t.Errorf("reason: got %v", got)
	}
}
