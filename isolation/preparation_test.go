package isolation

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	mesos "clusterd/api/mesos/v1"
)

func TestPreparationsAreMerged(t *testing.T) {
	var m merged
	for name, p := range map[string]*Preparation{
		"a": {
			Env: map[string]string{"A": "a"}, CloneFlags: 1, Mounts: []Mount{{Target: "/a"}}, Hostname: "h", Groups: []uint32{1},
			Command: &mesos.CommandInfo{Value: new("c")},
		},
	} {
		if err := m.add(name, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.add("b", &Preparation{
		Env: map[string]string{"A": "b", "B": "b"}, CloneFlags: 2, EnterFlags: 4, Mounts: []Mount{{Target: "/b"}}, Hostname: "h",
		Groups: []uint32{2}, NoNewPrivileges: true, Command: &mesos.CommandInfo{Value: new("c")}, OOMScoreAdj: new(0),
	}); err != nil {
		t.Fatal(err)
	}
	want := Preparation{
		Env: map[string]string{"A": "b", "B": "b"}, TaskEnv: map[string]string{}, CloneFlags: 3, EnterFlags: 4,
		Mounts: []Mount{{Target: "/a"}, {Target: "/b"}}, Hostname: "h", Groups: []uint32{1, 2}, NoNewPrivileges: true,
		Command: &mesos.CommandInfo{Value: new("c")}, OOMScoreAdj: new(0),
	}
	if diff := cmp.Diff(want, m.Preparation, protocmp.Transform()); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	for name, p := range map[string]*Preparation{
		"hostname": {Hostname: "other"}, "command": {Command: &mesos.CommandInfo{Value: new("d")}}, "badness": {OOMScoreAdj: new(1)},
	} {
		if err := m.add("c", p); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), " c ") {
			t.Errorf("a second %s: got %v", name, err)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	secret := func() *mesos.Secret {
		return &mesos.Secret{Type: mesos.Secret_VALUE.Enum(), Value: &mesos.Secret_Value{Data: []byte("hush hush")}}
	}
	id := &mesos.ContainerID{Value: new("c"), Parent: &mesos.ContainerID{Value: new("p")}}
	config := &ContainerConfig{
		ID: id, Class: ClassDebug, Sandbox: "/s", Builtin: BuiltinDefaultExecutor, User: "u", Stdout: "/o", Stderr: "/e",
		StdoutRotation: Rotation{MaxSize: 1, MaxFiles: 2, Compress: true}, Stdin: true, RootFS: "/r",
		Image:     &ImageConfig{Env: []string{"A=1"}, User: "x", Credentials: &Credentials{UID: 1, Groups: []uint32{2}}},
		Volumes:   []string{"/v"},
		Resources: []*mesos.Resource{{Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: new(0.1)}}},
		Limits:    map[string]*mesos.Value_Scalar{"mem": {Value: new(1.5)}},
		ContainerInfo: &mesos.ContainerInfo{
			Type:    mesos.ContainerInfo_MESOS.Enum(),
			Volumes: []*mesos.Volume{{ContainerPath: new("s"), Mode: mesos.Volume_RO.Enum(), Source: &mesos.Volume_Source{Type: mesos.Volume_Source_SECRET.Enum(), Secret: secret()}}},
			Mesos: &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{
				Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: new("n"), Config: secret()},
			}},
		},
		FrameworkID: &mesos.FrameworkID{Value: new("f")}, ExecutorID: &mesos.ExecutorID{Value: new("e")},
	}
	before := proto.CloneOf(config.ContainerInfo)
	b, err := encodeCheckpoint(config, "/dir")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("hush")) || bytes.Contains(b, []byte("aHVzaC")) {
		t.Errorf("a secret is in the checkpoint: %s", b)
	}
	if !proto.Equal(before, config.ContainerInfo) {
		t.Error("writing it down changed the container")
	}
	got, dir, err := decodeCheckpoint(b, id)
	if err != nil || dir != "/dir" {
		t.Fatal(dir, err)
	}
	want := *config
	want.ContainerInfo = withoutSecrets(config.ContainerInfo)
	if diff := cmp.Diff(&want, got, protocmp.Transform()); diff != "" {
		t.Errorf("checkpoint (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "{", `{"Version":99}`, `{"Version":1,"FrameworkID":"/////w=="}`} {
		if _, _, err := decodeCheckpoint([]byte(bad), id); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
}
