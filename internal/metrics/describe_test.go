package metrics

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDescribe: what is shown has a description, and its query selects what Prometheus is
// shown.
func TestDescribe(t *testing.T) {
	r := NewRegistry()
	r.Counter("master/messages_register_framework").Inc()
	r.Counter(`master/frameworks/a%20"b/id-1/offers/sent`).Inc()
	r.Counter("master/frameworks/a/id-1/calls").Inc()
	r.Gauge("master/mem_used").Set(3)
	r.Gauge("master/cpus_percent").Set(.5)
	r.Gauge("allocator/mesos/roles/a/b/shares/dominant").Set(.25)
	timer := r.Timer("registrar/state_store", time.Hour)
	timer.Observe(time.Second)
	timer.Observe(time.Second)

	shown := make(map[string]bool)
	families, err := r.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+strconv.Quote(l.GetValue()))
			}
			shown[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = true
		}
	}
	all := r.Describe(0)
	var names, want []string
	byName := make(map[string]Description)
	for _, d := range all {
		names = append(names, d.Name)
		byName[d.Name] = d
		if d.Kind == "timer" || d.PromQL == "" {
			continue
		}
		query := d.PromQL
		if !strings.Contains(query, "{") {
			query += "{}"
		}
		if !shown[query] {
			t.Errorf("%s: %s selects nothing", d.Name, query)
		}
	}
	for _, s := range r.Snapshot(0) {
		want = append(want, s.Name)
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names (-snapshot +described):\n%s", diff)
	}
	for name, want := range map[string]Description{
		"master/messages_register_framework": {Kind: "counter", PromQL: `clusterd_master_messages_total{type="register_framework"}`},
		"master/frameworks/a/id-1/calls":     {Kind: "counter"},
		"master/cpus_percent":                {Kind: "gauge", PromQL: `clusterd_master_resource_used_ratio{resource="cpus",revocable="false"}`, Unit: "ratio"},
		"master/mem_used":                    {Kind: "gauge", PromQL: `clusterd_master_resource_used{resource="mem",revocable="false",unit="byte"}`, Unit: "MB"},
		"registrar/state_store_ms":           {Kind: "timer", PromQL: "rate(clusterd_registry_commit_seconds_sum[5m]) / rate(clusterd_registry_commit_seconds_count[5m])", Unit: "ms"},
		"registrar/state_store_ms/count":     {Kind: "timer", PromQL: "increase(clusterd_registry_commit_seconds_count[1h])"},
		"registrar/state_store_ms/p99":       {Kind: "timer", PromQL: "histogram_quantile(0.99, rate(clusterd_registry_commit_seconds_bucket[1h]))", Unit: "ms"},
	} {
		got := byName[name]
		if want.PromQL != "" && got.Help == "" {
			t.Errorf("%s: no help", name)
		}
		want.Name, want.Help = name, got.Help
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
