package filesystem_test

import (
	"path/filepath"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/filesystem"
)

// TestSocketOfAgent: an executor in an image finds the agent's socket, also that of the
// next agent, and no container below it is shown it.
func TestSocketOfAgent(t *testing.T) {
	l := newLinux(t, filesystem.Options{WorkDir: t.TempDir()})
	const socket = "/run/clusterd/agent.sock"
	top := &mesos.ContainerID{Value: new("top")}
	for id, want := range map[*mesos.ContainerID]bool{top: true, {Value: new("nested"), Parent: top}: false} {
		p, err := l.Prepare(t.Context(), &isolation.ContainerConfig{
			ID: id, RootFS: "/rootfs", Sandbox: t.TempDir(), Env: map[string]string{"MESOS_DOMAIN_SOCKET": socket},
		})
		if err != nil {
			t.Fatal(err)
		}
		inside := p.Env["MESOS_DOMAIN_SOCKET"]
		var found bool
		for _, m := range p.Mounts {
			found = found || m.Source == filepath.Dir(isolation.ExecutorSocket(socket)) && m.Target == filepath.Dir(inside)
		}
		if found != want || want != (inside != "") {
			t.Errorf("%s: mounted %v, told %q; want %v", id.GetValue(), found, inside, want)
		}
	}
}
