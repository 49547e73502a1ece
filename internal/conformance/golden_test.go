package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// goldenDir holds what a real Mesos answered; it is not part of the repository.
const goldenDir = "../../../shared/golden"

// object is a JSON object.
type object = map[string]any

// TestGoldenStream plays the scheduler calls that were recorded against a real
// Mesos, with fresh ids, and compares every event with the recorded one, field by
// field. What no two runs share (ids, times, ports, pids) is replaced on both
// sides first; members must be the same on both.
func TestGoldenStream(t *testing.T) {
	recorded := readEvents(t)
	master := startCluster(t, "--resources=cpus:4;mem:2048;disk:10000", "--attributes=rack:r1;level:3", "--hostname=localhost")
	s := &rawScheduler{t: t, url: "http://" + master + "/api/v1/scheduler"}
	s.subscribe(object{
		"user": "root", "name": "golden", "roles": []any{"golden"}, "failover_timeout": 60, "checkpoint": true,
		"capabilities": []any{
			object{"type": "MULTI_ROLE"},
			object{"type": "PARTITION_AWARE"},
			object{"type": "RESERVATION_REFINEMENT"},
			object{"type": "TASK_KILLING_STATE"},
		},
		"labels": object{"labels": []any{object{"key": "k", "value": "v"}}},
	})
	s.same(s.next("SUBSCRIBED"), recorded.first("SUBSCRIBED"))
	s.same(s.next("HEARTBEAT"), recorded.first("HEARTBEAT"))
	offer := s.next("OFFERS")
	s.same(offer, recorded.first("OFFERS"))

	// 01: three tasks of one offer.
	first := at(offer, "offers", "offers").([]any)[0].(object)
	stop := filepath.Join(t.TempDir(), "stop")
	launch := readCall(t, "01_ACCEPT_LAUNCH.json")
	accept := launch["accept"].(object)
	accept["offer_ids"] = []any{first["id"]}
	for _, ti := range at(accept["operations"].([]any)[0].(object), "launch", "task_infos").([]any) {
		ti := ti.(object)
		ti["agent_id"] = first["agent_id"]
		if command := ti["command"].(object); ti["name"] == "t1" {
			command["value"] = strings.ReplaceAll(command["value"].(string), "/run/stop", stop)
		}
	}
	s.call(launch)
	s.updates(recorded, "t_kill TASK_STARTING", "t_kill TASK_RUNNING", "t1 TASK_STARTING", "t1 TASK_RUNNING",
		"t_fail TASK_STARTING", "t_fail TASK_RUNNING", "t_fail TASK_FAILED")

	// 15: reconciliation of a known and of an unknown task.
	reconcile := readCall(t, "15_RECONCILE.json")
	at(reconcile, "reconcile", "tasks").([]any)[0].(object)["agent_id"] = first["agent_id"]
	s.call(reconcile)
	s.updates(recorded, "t1 TASK_RUNNING REASON_RECONCILIATION", "nosuch TASK_UNKNOWN REASON_RECONCILIATION")

	// 17: a kill, and the end of the task that waits for a file.
	kill := readCall(t, "17_KILL.json")
	kill["kill"].(object)["agent_id"] = first["agent_id"]
	s.call(kill)
	s.updates(recorded, "t_kill TASK_KILLING", "t_kill TASK_KILLED")
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.updates(recorded, "t1 TASK_FINISHED")

	// An offer that never was.
	s.call(object{"type": "ACCEPT", "accept": object{
		"offer_ids": []any{object{"value": "nosuch"}},
		"operations": []any{object{"type": "LAUNCH", "launch": object{"task_infos": []any{object{
			"name": "x_invalid_offer", "task_id": object{"value": "x_invalid_offer"}, "agent_id": first["agent_id"],
			"command":   object{"value": "true"},
			"resources": []any{object{"name": "cpus", "type": "SCALAR", "scalar": object{"value": 0.1}}},
		}}}}},
	}})
	s.updates(recorded, "x_invalid_offer TASK_DROPPED REASON_INVALID_OFFERS")

	s.call(object{"type": "TEARDOWN"})
	for e := range s.events {
		if e["type"] != "OFFERS" && e["type"] != "HEARTBEAT" && e["type"] != "RESCIND" {
			t.Errorf("after TEARDOWN: %v", e)
		}
	}
}

// TestGoldenOperations reserves and creates as recorded: the recorded offer held
// no disk, so the operation with an id is answered with OPERATION_ERROR.
func TestGoldenOperations(t *testing.T) {
	recorded := readEvents(t)
	master := startCluster(t, "--resources=cpus:0.1;mem:32;disk:0;ports:[]", "--hostname=localhost")
	s := &rawScheduler{t: t, url: "http://" + master + "/api/v1/scheduler"}
	s.subscribe(object{
		"user": "root", "name": "golden", "roles": []any{"golden"},
		"capabilities": []any{object{"type": "MULTI_ROLE"}, object{"type": "PARTITION_AWARE"}, object{"type": "RESERVATION_REFINEMENT"}},
	})
	s.next("SUBSCRIBED")
	offer := at(s.next("OFFERS"), "offers", "offers").([]any)[0].(object)
	call := readCall(t, "14_ACCEPT_RESERVE_CREATE.json")
	call["accept"].(object)["offer_ids"] = []any{offer["id"]}
	s.call(call)
	s.same(s.next("UPDATE_OPERATION_STATUS"), recorded.first("UPDATE_OPERATION_STATUS"))
}

// events are recorded ones.
type events []object

func readEvents(t *testing.T) events {
	t.Helper()
	f, err := os.Open(filepath.Join(goldenDir, "streams", "scheduler_subscribe.events.jsonl"))
	if err != nil {
		t.Skipf("no recorded answers of a real Mesos here: %v", err)
	}
	defer f.Close()
	var all events
	for d := json.NewDecoder(f); d.More(); {
		var e object
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func (es events) first(typ string) object {
	for _, e := range es {
		if e["type"] == typ {
			return e
		}
	}
	return nil
}

// update finds a recorded update by "task state [reason]".
func (es events) update(key string) object {
	for _, e := range es {
		if e["type"] == "UPDATE" && updateKey(e) == key {
			return e
		}
	}
	return nil
}

func updateKey(e object) string {
	st := at(e, "update", "status").(object)
	key := fmt.Sprint(at(st, "task_id", "value"), " ", st["state"])
	if r, ok := st["reason"]; ok {
		key += fmt.Sprint(" ", r)
	}
	return key
}

func readCall(t *testing.T, name string) object {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenDir, "streams", "scheduler_calls", name))
	if err != nil {
		t.Fatal(err)
	}
	var c object
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return at(c, "request", "json").(object)
}

func at(o object, path ...string) any {
	var v any = o
	for _, p := range path {
		m, ok := v.(object)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

// rawScheduler speaks the scheduler API with nothing but JSON and HTTP.
type rawScheduler struct {
	t         *testing.T
	url       string
	stream    string
	framework any
	events    chan object
}

func (s *rawScheduler) post(call object) *http.Response {
	s.t.Helper()
	body, err := json.Marshal(call)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if s.stream != "" {
		req.Header.Set("Mesos-Stream-Id", s.stream)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return res
}

func (s *rawScheduler) subscribe(info object) {
	s.t.Helper()
	res := s.post(object{"type": "SUBSCRIBE", "subscribe": object{"framework_info": info}})
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(res.Body)
		s.t.Fatalf("SUBSCRIBE: %s: %s", res.Status, b)
	}
	s.stream = res.Header.Get("Mesos-Stream-Id")
	s.events = make(chan object, 1000)
	s.t.Cleanup(func() { res.Body.Close() })
	go func() {
		defer close(s.events)
		r := bufio.NewReader(res.Body)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			n, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				return
			}
			record := make([]byte, n)
			if _, err := io.ReadFull(r, record); err != nil {
				return
			}
			var e object
			if json.Unmarshal(record, &e) != nil {
				return
			}
			s.events <- e
		}
	}()
}

func (s *rawScheduler) call(c object) {
	s.t.Helper()
	c["framework_id"] = s.framework
	res := s.post(c)
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusAccepted || len(b) != 0 {
		s.t.Fatalf("%s: got %s %q, want 202 without a body", c["type"], res.Status, b)
	}
}

// next returns the next event of a type; what else comes by itself is passed over.
func (s *rawScheduler) next(typ string) object {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				s.t.Fatalf("stream ended while waiting for %s", typ)
			}
			if e["type"] == "SUBSCRIBED" {
				s.framework = at(e, "subscribed", "framework_id")
			}
			if e["type"] == typ {
				return e
			}
			if !slices.Contains([]any{"OFFERS", "HEARTBEAT", "RESCIND"}, e["type"]) {
				s.t.Errorf("got %v while waiting for %s", e, typ)
			}
		case <-timeout:
			s.t.Fatalf("no %s within %s", typ, patience)
		}
	}
}

// updates wants exactly these updates, in order for each task, acknowledges them
// and compares each with the recorded one.
func (s *rawScheduler) updates(recorded events, keys ...string) {
	s.t.Helper()
	for range slices.Clone(keys) {
		e := s.next("UPDATE")
		key := updateKey(e)
		i := slices.Index(keys, key)
		if i < 0 {
			s.t.Fatalf("got update %q, want one of %q", key, keys)
		}
		task, _, _ := strings.Cut(key, " ")
		for _, earlier := range keys[:i] {
			if strings.HasPrefix(earlier, task+" ") {
				s.t.Errorf("%s came before %s", key, earlier)
			}
		}
		keys = slices.Delete(keys, i, i+1)
		s.same(e, recorded.update(key))
		st := at(e, "update", "status").(object)
		if uuid, ok := st["uuid"]; ok {
			s.call(object{"type": "ACKNOWLEDGE", "acknowledge": object{
				"agent_id": st["agent_id"], "task_id": st["task_id"], "uuid": uuid,
			}})
		}
	}
}

// same compares an event with the recorded one.
func (s *rawScheduler) same(got, recorded object) {
	s.t.Helper()
	if recorded == nil {
		s.t.Errorf("nothing recorded to compare with %v", got)
		return
	}
	g, w := normalise("", got), normalise("", recorded)
	if !reflect.DeepEqual(g, w) {
		gj, _ := json.MarshalIndent(g, "", " ")
		wj, _ := json.MarshalIndent(w, "", " ")
		s.t.Errorf("%s differs from Mesos's\ngot  %s\nwant %s", got["type"], gj, wj)
	}
}

// volatile are members whose values no two runs share.
var volatile = map[string]bool{
	"framework_id": true, "agent_id": true, "offer_id": true, "container_id": true, "uuid": true,
	"timestamp": true, "executor_pid": true, "port": true, "pid": true, "version": true,
}

// normalise replaces volatile values by their kind, so that presence and type are
// still compared.
func normalise(name string, v any) any {
	if volatile[name] {
		return fmt.Sprintf("<%s %T>", name, v)
	}
	switch v := v.(type) {
	case object:
		out := object{}
		for k, e := range v {
			if k == "id" && (name == "master_info" || name == "offers") {
				out[k] = fmt.Sprintf("<%s %T>", k, e)
				continue
			}
			out[k] = normalise(k, e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = normalise(name, e)
		}
		return out
	}
	return v
}
