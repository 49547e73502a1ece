package agent

import (
	"testing"

	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/api/mesosjson"
)

// all reads the containers that can be watched.
func (p *pod) all(query string) []*agentv1.Response_GetContainers_Container {
	p.t.Helper()
	status, _, out := request(p.t, p.a, "GET", "/api/clusterd/v1/containers"+query, "", "")
	if status != 200 {
		p.t.Fatalf("containers%s: got %d %s", query, status, out)
	}
	r := &agentv1.Response_GetContainers{}
	if err := mesosjson.Unmarshal([]byte(out), r); err != nil {
		p.t.Fatal(err)
	}
	return r.GetContainers()
}

// TestContainersThatCanBeWatched: the read shows what GET_CONTAINERS does, nested containers
// and what they use among it, and can be narrowed to what is below one.
func TestContainersThatCanBeWatched(t *testing.T) {
	p := newPod(t)
	if got := p.all(""); len(got) != 0 {
		t.Errorf("of an idle agent: got %v", got)
	}
	p.m.send(runGroup(framework("F"), defaultExecutor("d"), true, commandTask("a", "sleep 1000")))
	nested := p.m.waitState("a", "RUNNING").GetContainerStatus().GetContainerId()
	all := p.all("")
	if len(all) != 2 {
		t.Fatalf("got %v, want the executor's and the task's", all)
	}
	if all[0].GetExecutorId().GetValue() != "d" || all[0].GetResourceStatistics().GetTimestamp() == 0 {
		t.Errorf("the executor's: got %v", all[0])
	}
	if all[1].GetContainerId().GetValue() != nested.GetValue() || all[1].GetContainerId().GetParent().GetValue() != all[0].GetContainerId().GetValue() {
		t.Errorf("the task's: got %v, want %v", all[1], nested)
	}
	if got := p.all("?container_id=" + nested.GetParent().GetValue()); len(got) != 2 {
		t.Errorf("below the executor's: got %v", got)
	}
	if got := p.all("?container_id=nobody"); len(got) != 0 {
		t.Errorf("below none: got %v", got)
	}
}
