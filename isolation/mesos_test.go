package isolation_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

var errTest = errors.New("as the test wants it")

// spy is an isolator that notes its calls and fails where it is told to.
type spy struct {
	isolation.BaseIsolator
	name string
	fail string
	env  map[string]string

	mu     sync.Mutex
	calls  []string
	limits chan isolation.Limitation
}

func (s *spy) note(call string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	if call == s.fail {
		return errTest
	}
	return nil
}

func (s *spy) noted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *spy) Name() string { return s.name }

func (s *spy) Recover(context.Context, []isolation.ContainerState, []*mesos.ContainerID) error {
	return s.note("recover")
}

func (s *spy) Prepare(context.Context, *isolation.ContainerConfig) (*isolation.Preparation, error) {
	return &isolation.Preparation{Env: s.env}, s.note("prepare")
}

func (s *spy) Isolate(_ context.Context, _ *mesos.ContainerID, pid int) error {
	if _, err := os.Stat("/proc/self"); err != nil || pid <= 0 {
		return errors.New("no process to isolate")
	}
	return s.note("isolate")
}

func (s *spy) Watch(*mesos.ContainerID) (<-chan isolation.Limitation, error) {
	return s.limits, s.note("watch")
}

func (s *spy) Update(context.Context, *mesos.ContainerID, []*mesos.Resource, map[string]*mesos.Value_Scalar) error {
	return s.note("update")
}

func (s *spy) Usage(context.Context, *mesos.ContainerID, *mesos.ResourceStatistics) error {
	return s.note("usage")
}

func (s *spy) Status(context.Context, *mesos.ContainerID, *mesos.ContainerStatus) error {
	return s.note("status")
}

func (s *spy) Cleanup(context.Context, *mesos.ContainerID) error { return s.note("cleanup") }

func script(t *testing.T, text string) *isolation.ContainerConfig {
	t.Helper()
	return &isolation.ContainerConfig{
		ID: &mesos.ContainerID{Value: new("c1")}, Sandbox: t.TempDir(),
		Command: &mesos.CommandInfo{Value: &text}, Env: map[string]string{"PATH": "/bin:/usr/bin", "A": "agent", "B": "agent"},
	}
}

func TestIsolatorsAreAsked(t *testing.T) {
	first, second := &spy{name: "first", env: map[string]string{"B": "isolator", "C": "isolator"}}, &spy{name: "second"}
	m := newMesos(t, isolationtest.Programs(t), t.TempDir(), t.TempDir(), first, second)
	defer m.Close()
	config := script(t, `echo "$A $B $C"`)
	config.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: new("C"), Value: new("command")}}}
	if err := m.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Wait(t.Context(), config.ID); err != nil || got.Status != 0 {
		t.Errorf("wait: got %+v, %v", got, err)
	}
	want := []string{"prepare", "isolate", "watch", "cleanup"}
	for _, s := range []*spy{first, second} {
		if diff := cmp.Diff(want, s.noted()); diff != "" {
			t.Errorf("calls of %s (-want +got):\n%s", s.name, diff)
		}
	}
	b, err := os.ReadFile(filepath.Join(config.Sandbox, "stdout"))
	if err != nil || string(b) != "agent isolator command\n" {
		t.Errorf("environment: got %q, %v", b, err)
	}
}

// TestIsolatorFails: whatever step fails, nothing is left.
func TestIsolatorFails(t *testing.T) {
	for _, step := range []string{"prepare", "isolate", "watch"} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			first, second := &spy{name: "first"}, &spy{name: "second", fail: step}
			m := newMesos(t, isolationtest.Programs(t), t.TempDir(), dir, first, second)
			defer m.Close()
			config := script(t, "echo ran >ran; sleep 1000")
			err := m.Launch(t.Context(), config)
			if !errors.Is(err, errTest) || !strings.Contains(err.Error(), "second") {
				t.Errorf("launch: got %v, want %v of the isolator", err, errTest)
			}
			if got := first.noted(); got[len(got)-1] != "cleanup" {
				t.Errorf("calls of the isolator that did not fail: got %v", got)
			}
			if ids := m.Containers(); len(ids) != 0 {
				t.Errorf("containers: got %v", ids)
			}
			entries, err := os.ReadDir(filepath.Join(dir, "containers"))
			if err != nil || len(entries) != 0 {
				t.Errorf("runtime directory: got %v, %v", entries, err)
			}
			if _, err := os.Stat(filepath.Join(config.Sandbox, "ran")); step != "watch" && err == nil {
				t.Error("the command ran")
			}
		})
	}
}

func TestLimitation(t *testing.T) {
	s := &spy{name: "s", limits: make(chan isolation.Limitation, 1)}
	m := newMesos(t, isolationtest.Programs(t), t.TempDir(), t.TempDir(), s)
	defer m.Close()
	config := script(t, "sleep 1000")
	if err := m.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	limitation := isolation.Limitation{Reason: mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY, Message: "too much", Resources: []*mesos.Resource{isolationtest.Scalar("mem", 33)}}
	s.limits <- limitation
	got, err := m.Wait(t.Context(), config.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Destroyed || got.Reason == nil || *got.Reason != limitation.Reason || got.Message != "too much" || len(got.Limitations) != 1 || !got.StatusKnown || got.Status != 9 {
		t.Errorf("termination: got %+v", got)
	}
}

func TestPersistentVolumePath(t *testing.T) {
	volume := func(change func(*mesos.Resource)) *mesos.Resource {
		r := isolationtest.Scalar("disk", 1)
		r.Reservations = []*mesos.Resource_ReservationInfo{{Role: new("a")}, {Role: new("a/b")}}
		r.Disk = &mesos.Resource_DiskInfo{Persistence: &mesos.Resource_DiskInfo_Persistence{Id: new("id")}, Source: nil}
		change(r)
		return r
	}
	source := func(s *mesos.Resource_DiskInfo_Source) func(*mesos.Resource) {
		return func(r *mesos.Resource) { r.Disk.Source = s }
	}
	path := func(root string) *mesos.Resource_DiskInfo_Source {
		return &mesos.Resource_DiskInfo_Source{Type: mesos.Resource_DiskInfo_Source_PATH.Enum(), Path: &mesos.Resource_DiskInfo_Source_Path{Root: &root}}
	}
	for _, c := range []struct {
		name   string
		volume *mesos.Resource
		want   string
	}{
		{"root disk", volume(func(*mesos.Resource) {}), "/work/volumes/roles/a b/id"},
		{"old form", volume(func(r *mesos.Resource) { r.Reservations, r.Role = nil, new("old") }), "/work/volumes/roles/old/id"},
		{"path", volume(source(path("/mnt/d"))), "/mnt/d/volumes/roles/a b/id"},
		{"relative path", volume(source(path("d"))), "/work/d/volumes/roles/a b/id"},
		{"mount", volume(source(&mesos.Resource_DiskInfo_Source{Type: mesos.Resource_DiskInfo_Source_MOUNT.Enum(), Mount: &mesos.Resource_DiskInfo_Source_Mount{Root: new("/mnt/m")}})), "/mnt/m"},
		{"block", volume(source(&mesos.Resource_DiskInfo_Source{Type: mesos.Resource_DiskInfo_Source_BLOCK.Enum()})), ""},
		{"mount without root", volume(source(&mesos.Resource_DiskInfo_Source{Type: mesos.Resource_DiskInfo_Source_MOUNT.Enum()})), ""},
		{"no id", volume(func(r *mesos.Resource) { r.Disk.Persistence = nil }), ""},
		{"id that leaves", volume(func(r *mesos.Resource) { r.Disk.Persistence.Id = new("..") }), ""},
		{"id with slash", volume(func(r *mesos.Resource) { r.Disk.Persistence.Id = new("a/b") }), ""},
		{"unreserved", volume(func(r *mesos.Resource) { r.Reservations = nil }), ""},
		{"role that leaves", volume(func(r *mesos.Resource) { r.Reservations, r.Role = nil, new("..") }), ""},
	} {
		got, err := isolation.PersistentVolumePath("/work", c.volume)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, isolation.ErrInvalidVolume) {
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

func TestCommandExecutorFor(t *testing.T) {
	for _, c := range []struct {
		task *mesos.TaskInfo
		want isolation.Builtin
	}{
		{&mesos.TaskInfo{}, isolation.BuiltinCommandExecutor},
		{&mesos.TaskInfo{HealthCheck: &mesos.HealthCheck{Type: mesos.HealthCheck_TCP.Enum()}}, isolation.BuiltinCommandExecutor},
		{&mesos.TaskInfo{HealthCheck: &mesos.HealthCheck{Type: mesos.HealthCheck_HTTP.Enum()}}, isolation.BuiltinCommandExecutorTLS},
		{&mesos.TaskInfo{Check: &mesos.CheckInfo{Type: mesos.CheckInfo_HTTP.Enum()}}, isolation.BuiltinCommandExecutorTLS},
	} {
		if got := isolation.CommandExecutorFor(c.task); got != c.want {
			t.Errorf("%v: got %q, want %q", c.task, got, c.want)
		}
	}
}
