package operate

import (
	"fmt"
	"strings"
	"testing"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
)

func drainingAgent(id, host string, state *mesos.DrainState) *agentInfo {
	a := &agentInfo{AgentInfo: &mesos.AgentInfo{Id: console.AgentID(id), Hostname: &host}}
	if state != nil {
		a.DrainInfo = &mesos.DrainInfo{State: state}
	}
	return a
}

func runningOn(agent, framework, id string) *mesos.Task {
	return &mesos.Task{TaskId: &mesos.TaskID{Value: &id}, FrameworkId: console.FrameworkID(framework), AgentId: console.AgentID(agent), State: mesos.TaskState_TASK_RUNNING.Enum()}
}

func frameworkThat(id, name string, connected bool) *master.Response_GetFrameworks_Framework {
	return &master.Response_GetFrameworks_Framework{
		FrameworkInfo: &mesos.FrameworkInfo{Id: console.FrameworkID(id), Name: &name}, Connected: &connected,
	}
}

func taskEnds(agent, framework, id string) *clusterdv1.OperatorEvent {
	return &clusterdv1.OperatorEvent{
		Type: clusterdv1.OperatorEvent_TASK_UPDATED.Enum(),
		TaskUpdated: &master.Event_TaskUpdated{
			FrameworkId: console.FrameworkID(framework), State: mesos.TaskState_TASK_KILLED.Enum(),
			Status: &mesos.TaskStatus{TaskId: &mesos.TaskID{Value: &id}, AgentId: console.AgentID(agent)},
		},
	}
}

func agentIs(a *agentInfo, connected bool) *clusterdv1.OperatorEvent {
	return &clusterdv1.OperatorEvent{
		Type:         clusterdv1.OperatorEvent_AGENT_UPDATED.Enum(),
		AgentUpdated: &clusterdv1.OperatorEvent_AgentUpdated{Agent: a, Connected: &connected},
	}
}

func stateOf(agents []*agentInfo, tasks []*mesos.Task, frameworks ...*master.Response_GetFrameworks_Framework) *clusterdv1.OperatorEvent {
	return &clusterdv1.OperatorEvent{
		Type: clusterdv1.OperatorEvent_SUBSCRIBED.Enum(),
		Subscribed: &clusterdv1.OperatorEvent_Subscribed{GetState: &master.Response_GetState{
			GetAgents: &master.Response_GetAgents{Agents: agents}, GetTasks: &master.Response_GetTasks{Tasks: tasks},
			GetFrameworks: &master.Response_GetFrameworks{Frameworks: frameworks},
		}},
	}
}

// TestDraining follows a drain that a framework which is away holds up.
func TestDraining(t *testing.T) {
	drains, drained := mesos.DrainState_DRAINING.Enum(), mesos.DrainState_DRAINED.Enum()
	left, right := drainingAgent("S0", "left", drains), drainingAgent("S1", "right", drains)
	var said []string
	d := newDraining([]*agentInfo{left, right}, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
	steps := []struct {
		what, want string
		event      *clusterdv1.OperatorEvent
		hint       bool
	}{
		{
			"the state", "3 tasks to end",
			stateOf([]*agentInfo{left, right}, []*mesos.Task{
				runningOn("S0", "F0", "a"), runningOn("S0", "F1", "b"),
				runningOn("S1", "F1", "c"), runningOn("S2", "F1", "elsewhere"),
			}, frameworkThat("F0", "here", true), frameworkThat("F1", "away", false)), false,
		},
		{"one ends, its framework is told", "2 tasks to end", taskEnds("S0", "F0", "a"), false},
		{
			"one ends, its framework is away", "1 task to end, disconnected framework away (F1) to take note of 1 ended task",
			taskEnds("S0", "F1", "b"), true,
		},
		{"another", "disconnected framework away (F1) to take note of 2 ended tasks", taskEnds("S1", "F1", "c"), false},
		{
			"nothing was missed", "disconnected framework away (F1) to take note of 2 ended tasks",
			&clusterdv1.OperatorEvent{
				Type: clusterdv1.OperatorEvent_SUBSCRIBED.Enum(), Subscribed: &clusterdv1.OperatorEvent_Subscribed{Resumed: new(true)},
			}, false,
		},
		{
			"an agent is cut off", "disconnected framework away (F1) to take note of 2 ended tasks, agent right (S1) to connect again",
			agentIs(right, false), false,
		},
		{"it is drained", "disconnected framework away (F1) to take note of 1 ended task", agentIs(drainingAgent("S1", "right", drained), true), false},
		{
			"the framework is back", "left (S0)",
			&clusterdv1.OperatorEvent{
				Type:             clusterdv1.OperatorEvent_FRAMEWORK_UPDATED.Enum(),
				FrameworkUpdated: &master.Event_FrameworkUpdated{Framework: frameworkThat("F1", "away", true)},
			}, false,
		},
	}
	for _, s := range steps {
		if err := d.learn(s.event); err != nil {
			t.Fatalf("%s: %v", s.what, err)
		}
		if got := d.String(); got != s.want {
			t.Errorf("%s: got %q, want %q", s.what, got, s.want)
		}
		if got := d.hint(); (got != "") != s.hint || s.hint && !strings.Contains(got, "clusterd framework teardown F1") {
			t.Errorf("%s: got hint %q", s.what, got)
		}
	}
	if err := d.learn(agentIs(drainingAgent("S0", "left", nil), true)); err == nil || !strings.Contains(err.Error(), "somebody has stopped the drain") {
		t.Errorf("a drain that was stopped: %v", err)
	}
	// A new leader does not have the agent: it was marked gone.
	if err := d.learn(stateOf(nil, nil)); err != nil {
		t.Error(err)
	}
	if got, want := strings.Join(said, "; "), "right (S1) is drained; left (S0) is gone"; got != want {
		t.Errorf("it said %q, want %q", got, want)
	}
	if len(d.left) > 0 {
		t.Errorf("%v are left", d.left)
	}
}
