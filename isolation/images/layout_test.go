package images

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	mesos "clusterd/api/mesos/v1"
)

// Roots lay deeper once, as Mesos has them. Containers that are older than the agent keep
// theirs, layers included, until they end; those that nobody knows are removed.
func TestOlderLayout(t *testing.T) {
	needRoot(t)
	o := testOptions(t)
	r := newRegistry(t)
	name := r.push(t, "some/image:v1", threeLayers(t))
	first := newProvisioner(t, o)
	pulled := newID()
	if _, err := first.Provision(testContext(t), pulled, dockerImageNamed(name)); err != nil {
		t.Fatal(err)
	}
	layers, err := os.ReadFile(filepath.Join(first.dir(pulled), layersFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Destroy(testContext(t), pulled); err != nil {
		t.Fatal(err)
	}
	known, unknown := newID(), newID()
	for _, id := range []*mesos.ContainerID{known, unknown} {
		backend := filepath.Join(first.dir(id), "backends", BackendOverlay)
		for _, d := range []string{"rootfses/u", "scratch/u/upperdir", "scratch/u/workdir/work/incompat/volatile"} {
			if err := os.MkdirAll(filepath.Join(backend, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(first.dir(id), layersFile), layers, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	p := newRecovered(t, o, []*mesos.ContainerID{known})
	if rest := leftovers(t, filepath.Join(p.root, containersDir)); len(rest) != 1 || rest[0] != known.GetValue() {
		t.Errorf("after recovery: got %v, want the known container's alone", rest)
	}
	var used []use
	if err := json.Unmarshal(layers, &used); err != nil || len(used) != 1 {
		t.Fatalf("layers: got %s, %v", layers, err)
	}
	if err := p.Prune(testContext(t), nil); err != nil {
		t.Fatal(err)
	}
	for _, l := range used[0].Layers {
		if _, err := os.Stat(p.store.layerDir(l)); err != nil {
			t.Errorf("a layer of a running container was pruned: %v", err)
		}
	}
	if err := p.Destroy(testContext(t), known); err != nil {
		t.Fatal(err)
	}
	if rest := leftovers(t, filepath.Join(p.root, containersDir)); len(rest) != 0 {
		t.Errorf("left behind: %v", rest)
	}
	if err := p.Prune(testContext(t), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.store.layerDir(used[0].Layers[0])); err == nil {
		t.Error("a layer that nobody uses was not pruned")
	}
}
