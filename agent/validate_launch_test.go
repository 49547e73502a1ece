package agent

import (
	"strings"
	"testing"

	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/api/mesosjson"
)

// TestValidateLaunch: what a launch must not ask for is refused in Mesos's words.
func TestValidateLaunch(t *testing.T) {
	const (
		root  = `"container_id":{"value":"s"}`
		child = `"container_id":{"value":"n","parent":{"value":"p"}}`
		grand = `"container_id":{"value":"g","parent":{"value":"n","parent":{"value":"p"}}}`
		cpus  = `"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]`
	)
	volume := func(v string) string {
		return child + `,"container":{"type":"MESOS","volumes":[{"mode":"RW","container_path":"x",` + v + `}]}`
	}
	for _, c := range []struct{ name, call, content, want string }{
		{"plain", "LAUNCH_CONTAINER", child + "," + cpus, ""},
		{"reserved", "LAUNCH_CONTAINER", root + `,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"STATIC","role":"r"}]}]`, "'launch_container.resources' must be unreserved"},
		{"reserved, nested", "LAUNCH_CONTAINER", child + `,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"STATIC","role":"r"}]}]`, ""},
		{"revocable", "LAUNCH_CONTAINER", root + `,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"revocable":{}}]`, "must be non-revocable"},
		{"half a gpu", "LAUNCH_CONTAINER", child + `,"resources":[{"name":"gpus","type":"SCALAR","scalar":{"value":0.5}}]`, "Invalid GPU resources: The 'gpus' resource must be an unsigned integer"},
		{"no value", "LAUNCH_CONTAINER", child + `,"resources":[{"name":"cpus","type":"SCALAR"}]`, "Invalid resources: "},
		{"grandchild's resources", "LAUNCH_CONTAINER", grand + "," + cpus, "cannot specify resources"},
		{"grandchild's limits", "LAUNCH_CONTAINER", grand + `,"limits":{"cpus":{"value":1}}`, "cannot specify resource limits"},
		{"grandchild's cgroups", "LAUNCH_CONTAINER", grand + `,"container":{"type":"MESOS","linux_info":{"share_cgroups":false}}`, "cannot set 'share_cgroups' to 'false'"},
		{"grandchild's cgroups, old call", "LAUNCH_NESTED_CONTAINER", grand + `,"container":{"type":"MESOS","linux_info":{"share_cgroups":false}}`, "'launch_nested_container' is invalid: "},
		{"child's cgroups", "LAUNCH_CONTAINER", child + `,"container":{"type":"MESOS","linux_info":{"share_cgroups":false}}`, ""},
		{"shared with nobody", "LAUNCH_CONTAINER", root + `,"container":{"type":"MESOS","linux_info":{"share_cgroups":true}}`, "containers without a parent cannot set 'share_cgroups' to 'true'"},
		{"session's cgroups", "LAUNCH_NESTED_CONTAINER_SESSION", child + `,"container":{"type":"MESOS","linux_info":{"share_cgroups":false}}`, "for nested container sessions"},
		{"variable without value", "LAUNCH_CONTAINER", child + `,"command":{"value":"x","environment":{"variables":[{"name":"A"}]}}`, "'launch_container.command' is invalid: Environment variable 'A' of type 'VALUE' must have a value set"},
		{"secret without secret", "LAUNCH_NESTED_CONTAINER", child + `,"command":{"environment":{"variables":[{"name":"A","type":"SECRET"}]}}`, "'launch_nested_container.command' is invalid: "},
		{"secret of nothing", "LAUNCH_CONTAINER", child + `,"command":{"environment":{"variables":[{"name":"A","type":"SECRET","secret":{"type":"VALUE"}}]}}`, "invalid secret: "},
		{"volume of nothing", "LAUNCH_CONTAINER", child + `,"container":{"type":"MESOS","volumes":[{"mode":"RW","container_path":"x"}]}`, "Invalid volume: Only one of them should be set"},
		{"volume of two", "LAUNCH_CONTAINER", volume(`"host_path":"/a","image":{"type":"DOCKER"}`), "Only one of them"},
		{"sandbox path", "LAUNCH_CONTAINER", volume(`"source":{"type":"SANDBOX_PATH","sandbox_path":{"type":"PARENT","path":"x"}}`), ""},
		{"sandbox path unset", "LAUNCH_NESTED_CONTAINER_SESSION", volume(`"source":{"type":"SANDBOX_PATH"}`), "'source.sandbox_path' is not set for SANDBOX_PATH volume"},
		{"docker", "LAUNCH_CONTAINER", child + `,"container":{"type":"DOCKER"}`, "DockerInfo 'docker' is not set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &agentv1.Call{}
			if err := mesosjson.Unmarshal([]byte(call(c.call, "{"+c.content+"}")), m); err != nil {
				t.Fatal(err)
			}
			err := validateCall(m)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v", err)
			case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "400 ") && !strings.Contains(err.Error(), "Failed to validate agent::Call: ") || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestValidateInput: what a client types into a container is looked at first.
func TestValidateInput(t *testing.T) {
	for in, want := range map[string]string{
		`{"type":"CONTAINER_ID"}`:                                                                           "'attach_container_input.type' to be 'PROCESS_IO' instead of: 'CONTAINER_ID'",
		`{"type":"PROCESS_IO"}`:                                                                             "'attach_container_input.process_io'",
		`{"type":"PROCESS_IO","process_io":{}}`:                                                             "'process_io.type' to be present",
		`{"type":"PROCESS_IO","process_io":{"type":"UNKNOWN"}}`:                                             "'process_io.type' is unknown",
		`{"type":"PROCESS_IO","process_io":{"type":"DATA"}}`:                                                "'process_io.data' to be present",
		`{"type":"PROCESS_IO","process_io":{"type":"DATA","data":{}}}`:                                      "'process_io.data.type' to be present",
		`{"type":"PROCESS_IO","process_io":{"type":"DATA","data":{"type":"STDOUT","data":"eA=="}}}`:         "'process_io.data.type' to be 'STDIN'",
		`{"type":"PROCESS_IO","process_io":{"type":"DATA","data":{"type":"STDIN"}}}`:                        "'process_io.data.data' to be present",
		`{"type":"PROCESS_IO","process_io":{"type":"DATA","data":{"type":"STDIN","data":""}}}`:              "",
		`{"type":"PROCESS_IO","process_io":{"type":"CONTROL"}}`:                                             "'process_io.control' to be present",
		`{"type":"PROCESS_IO","process_io":{"type":"CONTROL","control":{}}}`:                                "'process_io.control.type' to be present",
		`{"type":"PROCESS_IO","process_io":{"type":"CONTROL","control":{"type":"UNKNOWN"}}}`:                "'process_io.control.type' is unknown",
		`{"type":"PROCESS_IO","process_io":{"type":"CONTROL","control":{"type":"HEARTBEAT"}}}`:              "'process_io.control.heartbeat' to be present",
		`{"type":"PROCESS_IO","process_io":{"type":"CONTROL","control":{"type":"TTY_INFO"}}}`:               "'process_io.control.tty_info' to be present",
		`{"type":"PROCESS_IO","process_io":{"type":"CONTROL","control":{"type":"TTY_INFO","tty_info":{}}}}`: "'tty_info.window_size' to be present",
	} {
		m := &agentv1.Call{}
		if err := mesosjson.Unmarshal([]byte(call("ATTACH_CONTAINER_INPUT", in)), m); err != nil {
			t.Fatal(err)
		}
		got := validateInput(m.GetAttachContainerInput())
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}
