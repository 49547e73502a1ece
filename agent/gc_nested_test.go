package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"clusterd/isolation/mounts"
)

// TestCollectNestedSandboxes: --gc_non_executor_container_sandboxes collects the sandboxes
// of nested containers that ended, those too that an earlier run launched, and nothing else.
func TestCollectNestedSandboxes(t *testing.T) {
	soon := func(o *Options) { o.GCDelay, o.DiskWatchInterval = time.Nanosecond, 10*time.Millisecond }
	p := newPod(t, soon)
	executor, task, sandbox := p.onePod()
	own := filepath.Join(sandbox, "containers", task)
	dirOf := func(name string) string { return filepath.Join(own, "containers", name) }
	launch := func(name, command string) {
		t.Helper()
		p.call(200, `{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":%s,"command":{"value":%q}}}`, nestedJSON(executor, task, name), command)
	}
	wait := func(name string) {
		t.Helper()
		p.call(200, `{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":%s}}`, nestedJSON(executor, task, name))
	}
	there := func(path string) bool {
		_, err := os.Lstat(path)
		return err == nil
	}
	collected := func(name string) {
		t.Helper()
		eventually(t, "the sandbox of "+name+" is collected", func() bool { return !there(dirOf(name)) })
	}

	// Without the flag nothing is done.
	launch("before", "true")
	wait("before")
	launch("over", "until [ -e go ]; do sleep 0.01; done")
	p.h.stop(p.a)
	if !there(dirOf("before")) {
		t.Error("a sandbox was collected although nobody wants that")
	}
	p.a = p.h.start(soon, func(o *Options) { o.GCNonExecutorContainers = true })
	p.m.waitRegistered(2)
	collected("before") // it had ended
	if !there(dirOf("over")) {
		t.Error("the sandbox of a running container was collected")
	}
	if err := os.WriteFile(filepath.Join(dirOf("over"), "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	collected("over") // it ends now

	// What a link in it leads to stays.
	volume := t.TempDir()
	data := filepath.Join(volume, "file")
	if err := os.WriteFile(data, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	launch("links", "mkdir -p a/b; echo x >a/b/c; ln -s "+volume+" volume")
	collected("links")
	// One that is launched again under its id has its sandbox.
	p.call(200, `{"type":"REMOVE_NESTED_CONTAINER","remove_nested_container":{"container_id":%s}}`, nestedJSON(executor, task, "links"))
	launch("links", "sleep 1000")
	if os.Geteuid() == 0 {
		launch("mounts", "mkdir data; until [ -e go ]; do sleep 0.01; done")
		eventually(t, "it has made its directory", func() bool { return there(filepath.Join(dirOf("mounts"), "data")) })
		t.Cleanup(func() {
			if err := mounts.UnmountBelow(sandbox); err != nil {
				t.Error(err)
			}
		})
		if err := mounts.Bind(volume, dirOf("mounts"), "data", mounts.BindOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dirOf("mounts"), "go"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a volume is in the way", func() bool { return p.a.metrics.Counter("gc/path_removals_failed").Value() == 1 })
	}
	if b, err := os.ReadFile(data); err != nil || string(b) != "kept" {
		t.Errorf("data of a volume: got %q, %v", b, err)
	}
	if !there(dirOf("links")) || !there(own) {
		t.Error("the sandbox of a running container was collected")
	}
}
