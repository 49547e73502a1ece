package agent

import (
	"strings"
	"testing"
	"time"

	"clusterd/internal/metrics"
	"clusterd/isolation"
	"clusterd/isolation/setup"
)

// TestMeasureContainers: what containers measure is there under Mesos's names, if the
// feature is in use.
func TestMeasureContainers(t *testing.T) {
	a := &Agent{metrics: metrics.NewRegistry()}
	unused := setup.Options{}
	a.measureContainers(&unused)
	if unused.Images.Pulled != nil || unused.Docker.Pulled != nil {
		t.Error("pulls are measured where there are none")
	}
	used := setup.Options{ImageProviders: []string{"docker"}, Containerizers: []string{"docker", "mesos"}}
	a.measureContainers(&used)
	used.Count(isolation.CountRemoveErrors)
	used.Gauge("containerizer/mesos/disk/project_ids_free", func() float64 { return 7 })
	for _, pulled := range []func(time.Duration, error){used.Images.Pulled, used.Docker.Pulled} {
		pulled(time.Second, nil)
		pulled(3*time.Second, nil)
	}
	got := map[string]float64{}
	for _, s := range a.metrics.Snapshot(time.Second) {
		got[s.Name] = s.Value
	}
	for name, want := range map[string]float64{
		"containerizer/mesos/provisioner/remove_container_errors":          1,
		"containerizer/mesos/disk/project_ids_free":                        7,
		"containerizer/mesos/provisioner/docker_store/image_pull_ms":       3000,
		"containerizer/mesos/provisioner/docker_store/image_pull_ms/count": 2,
		"containerizer/docker/image_pull_ms/min":                           1000,
		"containerizer/docker/image_pull_ms/p99":                           2980,
	} {
		if got[name] < want-1e-6 || got[name] > want+1e-6 {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	families, err := a.metrics.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"clusterd_containerizer_mesos_provisioner_docker_store_image_pull_seconds", "clusterd_containerizer_docker_image_pull_seconds"} {
		found := false
		for _, f := range families {
			found = found || f.GetName() == name && f.GetMetric()[0].GetHistogram().GetSampleCount() == 2 && strings.TrimSpace(f.GetHelp()) != ""
		}
		if !found {
			t.Errorf("%s is not there, or has not counted two", name)
		}
	}
}
