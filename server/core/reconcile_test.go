package core

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// taskReport is a task as its agent reports it.
func taskReport(fw *mesos.FrameworkInfo, agent, id string, state mesos.TaskState) *mesos.Task {
	used := []*mesos.Resource{scalar("cpus", 1)}
	allocateTo(fw.Roles[0], used)
	return &mesos.Task{
		Name: &id, TaskId: &mesos.TaskID{Value: &id}, FrameworkId: fw.Id, AgentId: &mesos.AgentID{Value: &agent},
		State: state.Enum(), Resources: used,
	}
}

// returningAgent is the message of an agent that has tasks of a framework.
func returningAgent(id, host string, fw *mesos.FrameworkInfo, tasks ...*mesos.Task) *clusterdv1.RegisterAgent {
	m := registerMessage(id, host, "cpus:4")
	m.Tasks = tasks
	if fw != nil {
		m.Frameworks = []*mesos.FrameworkInfo{proto.CloneOf(fw)}
	}
	return m
}

func recoveredAgent(id, host string) RecoveredAgent {
	return RecoveredAgent{Info: registerMessage(id, host, "cpus:4").AgentInfo}
}

func awareInfo(id string, aware bool) *mesos.FrameworkInfo {
	info := multiRole("f", 1e6)
	info.Id = &mesos.FrameworkID{Value: &id}
	if aware {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()})
	}
	return info
}

// statuses returns those that came on stream s from event n on, each in words.
func (h *harness) statuses(n int) (lines []string) {
	for _, e := range h.streams["s"][n:] {
		s := e.GetUpdate().GetStatus()
		if s == nil {
			continue
		}
		line := fmt.Sprintf("%s %s %s %s", s.GetTaskId().GetValue(), s.GetState(), s.GetSource(), s.GetReason())
		if s.UnreachableTime != nil {
			line += fmt.Sprintf(" since %d", s.UnreachableTime.GetNanoseconds()/1e9-epoch.Unix())
		}
		if s.Uuid != nil || s.Data != nil {
			line += " with uuid or data"
		}
		lines = append(lines, line)
	}
	return lines
}

// afterFailover is a master that has taken over from one that knew agents back (which
// has returned with task live), away (which has not), lost (unreachable) and gone.
func afterFailover(t *testing.T, aware bool) *harness {
	t.Helper()
	fw := awareInfo("OLD-0000", aware)
	h := newHarness(t, testConfig(), Recovered{
		Agents:      []RecoveredAgent{recoveredAgent("back", "a1"), recoveredAgent("away", "a2")},
		Unreachable: []Departed{{ID: "lost", Time: epoch}},
		Gone:        []Departed{{ID: "gone", Time: epoch}},
		Frameworks:  []RecoveredFramework{{Info: fw}},
	})
	h.subscribe("s", fw)
	h.register(1, returningAgent("back", "a1", fw, taskReport(fw, "back", "live", mesos.TaskState_TASK_RUNNING)))
	return h
}

func (h *harness) reconcile(pairs ...[2]string) []string {
	h.t.Helper()
	n := len(h.streams["s"])
	call := &scheduler.Call_Reconcile{}
	for _, p := range pairs {
		t := &scheduler.Call_Reconcile_Task{TaskId: &mesos.TaskID{Value: &p[0]}}
		if p[1] != "" {
			t.AgentId = &mesos.AgentID{Value: &p[1]}
		}
		call.Tasks = append(call.Tasks, t)
	}
	h.call("s", &scheduler.Call{
		Type: scheduler.Call_RECONCILE.Enum(), FrameworkId: &mesos.FrameworkID{Value: new("OLD-0000")}, Reconcile: call,
	})
	return h.statuses(n)
}

// TestReconcileTasks has a row for each answer to an explicit question, in the order in
// which they are looked for (Mesos: Master::reconcile).
func TestReconcileTasks(t *testing.T) {
	for _, row := range []struct {
		name, task, agent string
		late              bool // the agent away has been given up
		aware, unaware    string
	}{
		{"known", "live", "back", false, "live TASK_RUNNING", "live TASK_RUNNING"},
		{"known, no agent named", "live", "", false, "live TASK_RUNNING", "live TASK_RUNNING"},
		{"known, another agent named", "live", "lost", false, "live TASK_RUNNING", "live TASK_RUNNING"},
		{"its agent is not back", "x", "away", false, "", ""},
		{"some agent is not back, none named", "x", "", false, "", ""},
		{"its agent is back without it", "x", "back", false, "x TASK_GONE", "x TASK_LOST"},
		{"its agent is unreachable", "x", "lost", false, "x TASK_UNREACHABLE", "x TASK_LOST"},
		{"its agent is gone", "x", "gone", false, "x TASK_GONE_BY_OPERATOR", "x TASK_LOST"},
		{"its agent is unknown", "x", "nobody", false, "x TASK_UNKNOWN", "x TASK_LOST"},
		{"its agent did not come back", "x", "away", true, "x TASK_UNREACHABLE", "x TASK_LOST"},
		{"all agents are accounted for, none named", "x", "", true, "x TASK_UNKNOWN", "x TASK_LOST"},
	} {
		for _, aware := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/aware=%t", row.name, aware), func(t *testing.T) {
				h := afterFailover(t, aware)
				since := 0
				if row.late {
					since = 600
					for range 60 { // away is given up, and back is alive
						h.advance(h.core.cfg.AgentReregisterTimeout / 60)
						h.agentSays(1, pongMessage())
					}
				}
				var want []string
				if state := map[bool]string{true: row.aware, false: row.unaware}[aware]; state != "" {
					line := state + " SOURCE_MASTER REASON_RECONCILIATION"
					// The time is in the answer whichever state it has.
					if row.aware == "x TASK_UNREACHABLE" {
						line += fmt.Sprintf(" since %d", since)
					}
					want = []string{line}
				}
				if d := cmp.Diff(want, h.reconcile([2]string{row.task, row.agent})); d != "" {
					t.Errorf("answer (-want +got):\n%s", d)
				}
			})
		}
	}
}

func pongMessage() *clusterdv1.AgentMessage {
	return &clusterdv1.AgentMessage{Message: &clusterdv1.AgentMessage_Pong{Pong: &clusterdv1.Pong{}}}
}

// TestReconcileSeveral asks for tasks of several kinds in one call: the answers are in
// the order of the questions, and one that has to wait holds no other up.
func TestReconcileSeveral(t *testing.T) {
	h := afterFailover(t, true)
	got := h.reconcile([2]string{"x", "gone"}, [2]string{"y", "away"}, [2]string{"live", "back"})
	want := []string{
		"x TASK_GONE_BY_OPERATOR SOURCE_MASTER REASON_RECONCILIATION",
		"live TASK_RUNNING SOURCE_MASTER REASON_RECONCILIATION",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("answers (-want +got):\n%s", d)
	}
}

// TestReconcileImplicitly asks for everything: what is known is told, the ended but
// unacknowledged included, and what is on agents that are not back is not.
func TestReconcileImplicitly(t *testing.T) {
	fw := awareInfo("OLD-0000", true)
	h := afterFailover(t, true)
	want := []string{"live TASK_RUNNING SOURCE_MASTER REASON_RECONCILIATION"}
	if d := cmp.Diff(want, h.reconcile()); d != "" {
		t.Errorf("before the other agent is back (-want +got):\n%s", d)
	}
	staging, ended := taskReport(fw, "away", "staging", mesos.TaskState_TASK_STAGING), taskReport(fw, "away", "ended", mesos.TaskState_TASK_FINISHED)
	h.register(2, returningAgent("away", "a2", fw, staging, ended))
	want = []string{
		"ended TASK_FINISHED SOURCE_MASTER REASON_RECONCILIATION",
		"live TASK_RUNNING SOURCE_MASTER REASON_RECONCILIATION",
		"staging TASK_STAGING SOURCE_MASTER REASON_RECONCILIATION",
	}
	if d := cmp.Diff(want, h.reconcile()); d != "" {
		t.Errorf("after it is back (-want +got):\n%s", d)
	}
}

// TestReconcileSaysWhatWasToldLast: while updates wait for acknowledgements the agent is
// ahead of the framework; the answer is what the framework has been told.
func TestReconcileSaysWhatWasToldLast(t *testing.T) {
	fw := awareInfo("OLD-0000", true)
	h := afterFailover(t, true)
	ahead := taskReport(fw, "away", "ahead", mesos.TaskState_TASK_FINISHED)
	ahead.StatusUpdateState, ahead.StatusUpdateUuid = mesos.TaskState_TASK_RUNNING.Enum(), make([]byte, 16)
	h.register(2, returningAgent("away", "a2", fw, ahead))
	want := []string{"ahead TASK_RUNNING SOURCE_MASTER REASON_RECONCILIATION"}
	if d := cmp.Diff(want, h.reconcile([2]string{"ahead", "away"})); d != "" {
		t.Errorf("answer (-want +got):\n%s", d)
	}
}

// TestReconcileOperations has a row for each answer about an operation (Mesos:
// Master::reconcileOperations).
func TestReconcileOperations(t *testing.T) {
	fw := awareInfo("OLD-0000", true)
	h := afterFailover(t, true)
	m := returningAgent("third", "a3", fw)
	m.Operations = []*mesos.Operation{{
		FrameworkId: fw.Id, AgentId: &mesos.AgentID{Value: new("third")}, Uuid: &mesos.UUID{Value: make([]byte, 16)},
		Info: &mesos.Offer_Operation{
			Id: &mesos.OperationID{Value: new("op")}, Type: mesos.Offer_Operation_RESERVE.Enum(),
			Reserve: &mesos.Offer_Operation_Reserve{},
		},
		LatestStatus: &mesos.OperationStatus{
			OperationId: &mesos.OperationID{Value: new("op")}, State: mesos.OperationState_OPERATION_FINISHED.Enum(),
			Uuid: &mesos.UUID{Value: make([]byte, 16)},
		},
	}}
	h.register(3, m)
	ask := func(ops ...*scheduler.Call_ReconcileOperations_Operation) (lines []string) {
		n := len(h.streams["s"])
		h.call("s", &scheduler.Call{
			Type: scheduler.Call_RECONCILE_OPERATIONS.Enum(), FrameworkId: fw.Id,
			ReconcileOperations: &scheduler.Call_ReconcileOperations{Operations: ops},
		})
		for _, e := range h.streams["s"][n:] {
			if s := e.GetUpdateOperationStatus().GetStatus(); s != nil {
				line := fmt.Sprintf("%s %s", s.GetOperationId().GetValue(), s.GetState())
				if s.Uuid != nil {
					line += " with uuid"
				}
				lines = append(lines, line)
			}
		}
		return lines
	}
	for _, row := range []struct{ name, op, agent, want string }{
		{"known", "op", "third", "op OPERATION_FINISHED"},
		{"its agent is not back", "x", "away", "x OPERATION_RECOVERING"},
		{"its agent does not know it", "x", "back", "x OPERATION_UNKNOWN"},
		{"its agent is unreachable", "x", "lost", "x OPERATION_UNREACHABLE"},
		{"its agent is gone", "x", "gone", "x OPERATION_GONE_BY_OPERATOR"},
		{"its agent is unknown", "x", "nobody", "x OPERATION_UNKNOWN"},
		{"no agent named", "x", "", "x OPERATION_UNKNOWN"},
	} {
		t.Run(row.name, func(t *testing.T) {
			q := &scheduler.Call_ReconcileOperations_Operation{OperationId: &mesos.OperationID{Value: &row.op}}
			if row.agent != "" {
				q.AgentId = &mesos.AgentID{Value: &row.agent}
			}
			if d := cmp.Diff([]string{row.want}, ask(q)); d != "" {
				t.Errorf("answer (-want +got):\n%s", d)
			}
		})
	}
	t.Run("implicit", func(t *testing.T) {
		if d := cmp.Diff([]string{"op OPERATION_FINISHED"}, ask()); d != "" {
			t.Errorf("answer (-want +got):\n%s", d)
		}
	})
}
