package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"clusterd/api/client"
	"clusterd/api/client/operator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/api/recordio"
)

// TestGoldenEvents has the life of a framework told by SUBSCRIBE of a real master: each kind
// of event has the members that a real Mesos gave it, and no others.
func TestGoldenEvents(t *testing.T) {
	want := recordedEvents(t)
	s := startMaster(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint(s, "/api/v1"), bytes.NewReader([]byte(`{"type":"SUBSCRIBE"}`)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/json" || len(res.TransferEncoding) != 1 {
		t.Fatalf("%s, %v, %v", res.Status, res.Header, res.TransferEncoding)
	}
	records := recordio.NewReader(res.Body, 0)
	next := func(kind string) {
		t.Helper()
		b, err := records.Next()
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if diff := cmp.Diff(want[kind], shape(t, b)); diff != "" {
			t.Errorf("%s (-Mesos +ours):\n%s\n%s", kind, diff, b)
		}
	}
	next("SUBSCRIBED")
	next("HEARTBEAT")
	a := startAgent(t, s, agentInfo())
	next("AGENT_ADDED")
	f := subscribe(t, s, goldenInfo())
	next("FRAMEWORK_ADDED")
	f.launch(f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()[0], "t_fail")
	next("TASK_ADDED t_fail")
	for n, state := range []mesos.TaskState{mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FAILED} {
		a.update(f, "t_fail", state, byte(n))
		next("TASK_UPDATED t_fail " + state.String())
		f.acknowledge(f.next(scheduler.Event_UPDATE).GetUpdate().GetStatus())
	}
	if r := operate(t, s, fmt.Sprintf(`{"type":"TEARDOWN","teardown":{"framework_id":{"value":%q}}}`, f.id.GetValue())); r.status != http.StatusOK {
		t.Fatalf("TEARDOWN: %d %s", r.status, r.body)
	}
	next("FRAMEWORK_REMOVED")
}

// recordedEvents are the shapes of the recorded events, by type, and for tasks by name and
// state too.
func recordedEvents(t *testing.T) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenDir, "streams", "operator_subscribe.events.jsonl"))
	if os.IsNotExist(err) {
		t.Skipf("the recorded answers of a real Mesos are not here (%s)", goldenDir)
	}
	if err != nil {
		t.Fatal(err)
	}
	shapes := map[string]any{}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		e := &master.Event{}
		if err := client.JSON.Unmarshal(lines.Bytes(), e); err != nil {
			t.Fatal(err)
		}
		name := e.GetType().String()
		switch {
		case e.TaskAdded != nil:
			name += " " + e.TaskAdded.GetTask().GetName()
		case e.TaskUpdated != nil:
			name += " " + e.TaskUpdated.GetStatus().GetTaskId().GetValue() + " " + e.TaskUpdated.GetStatus().GetState().String()
		}
		if shapes[name] == nil {
			shapes[name] = shape(t, lines.Bytes())
		}
	}
	return shapes
}

// shape is JSON without its values.
func shape(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return shapeOf(v)
}

func shapeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = shapeOf(e)
		}
		return v
	case []any:
		for i, e := range v {
			v[i] = shapeOf(e)
		}
		return v
	default:
		return fmt.Sprintf("%T", v)
	}
}

// TestEventsBeyondMesos hears of what Mesos is silent about, through the client.
func TestEventsBeyondMesos(t *testing.T) {
	s := startMaster(t)
	a := startAgent(t, s, agentInfo())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := make(chan *clusterdv1.OperatorEvent, 1000)
	done := make(chan struct{})
	hc := client.NewHTTPClient(nil)
	defer hc.CloseIdleConnections()
	m, err := operator.NewMaster([]string{s.Addr().String()}, operator.Options{Options: client.Options{HTTPClient: hc}})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		for e, err := range m.Events(ctx, operator.EventsOptions{}) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			events <- e
		}
	}()
	next := func() *clusterdv1.OperatorEvent {
		t.Helper()
		return receive(t, events)
	}
	if first := next().GetSubscribed(); len(first.GetGetState().GetGetAgents().GetAgents()) != 1 || first.Resumed != nil {
		t.Errorf("got %v", first)
	}
	accept := func(call string) {
		t.Helper()
		if r := operate(t, s, call); r.status != http.StatusOK {
			t.Fatalf("%s: %d %s", call, r.status, r.body)
		}
	}
	accept(`{"type":"UPDATE_QUOTA","update_quota":{"quota_configs":[{"role":"dev","limits":{"cpus":{"value":2}}}]}}`)
	if q := next().GetQuotasUpdated().GetQuotas(); len(q) != 1 || q[0].GetRole() != "dev" || q[0].GetLimits()["cpus"].GetValue() != 2 {
		t.Errorf("quotas: %v", q)
	}
	accept(`{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{"role":"dev","weight":3}]}}`)
	if w := next().GetWeightsUpdated().GetWeights(); len(w) != 1 || w[0].GetRole() != "dev" || w[0].GetWeight() != 3 {
		t.Errorf("weights: %v", w)
	}
	accept(`{"type":"UPDATE_MAINTENANCE_SCHEDULE","update_maintenance_schedule":{"schedule":{"windows":[{"machine_ids":[{"hostname":"other"}],"unavailability":{"start":{"nanoseconds":1}}}]}}}`)
	if m := next().GetMaintenanceUpdated(); len(m.GetSchedule().GetWindows()) != 1 || len(m.GetMachines()) != 1 || m.GetMachines()[0].GetMode() != mesos.MachineInfo_DRAINING {
		t.Errorf("maintenance: %v", m)
	}
	accept(fmt.Sprintf(`{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":%q}}}`, a.id.GetValue()))
	for {
		u := next().GetAgentUpdated()
		if u == nil {
			t.Fatal("no update of the agent")
		}
		if u.GetAgent().GetDrainInfo() != nil && u.GetAgent().GetDeactivated() && u.GetConnected() {
			break
		}
	}
	a.conn.CloseNow()
	for u := next().GetAgentUpdated(); u.GetConnected(); u = next().GetAgentUpdated() {
	}
	cancel()
	<-done
}

// TestEventsEndWithTheTerm ends the leadership: streams end, and are refused from then on.
func TestEventsEndWithTheTerm(t *testing.T) {
	s := startMaster(t)
	res, err := http.Get(endpoint(s, "/api/clusterd/v1/events?snapshot=false"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	records := recordio.NewReader(res.Body, 0)
	if b, err := records.Next(); err != nil || !bytes.Contains(b, []byte(`"type":"SUBSCRIBED"`)) {
		t.Fatalf("%s, %v", b, err)
	}
	t1 := s.term.Load()
	stopMaster(t, s)
	if _, err := records.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	if n := t1.events.Subscribers(); n != 0 {
		t.Errorf("%d subscribers are left", n)
	}
}

// receive waits for the next of a channel.
func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case v := <-from:
		return v
	case <-ctx.Done():
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}
