package docker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

// specOf is what the engine is asked for, for a container that a test changes.
func specOf(change func(*isolation.ContainerConfig), options ...func(*Options)) (*create, error) {
	config := &isolation.ContainerConfig{
		ID: &mesos.ContainerID{Value: new("c")}, Sandbox: "/box", Command: &mesos.CommandInfo{Value: new("true")},
		ContainerInfo: &mesos.ContainerInfo{Type: mesos.ContainerInfo_DOCKER.Enum(), Docker: &mesos.ContainerInfo_DockerInfo{Image: new("i")}},
	}
	o := Options{RuntimeDir: "/run", SandboxDirectory: "/mnt/mesos/sandbox"}
	for _, f := range options {
		f(&o)
	}
	change(config)
	return newCreate(config, &o)
}

// TestParameters tries every option of docker run that is known.
func TestParameters(t *testing.T) {
	tried := map[string]bool{}
	type changed struct {
		Config container.Config
		Host   container.HostConfig
		Net    *network.NetworkingConfig
	}
	for _, c := range []struct {
		key, value string
		want       changed
	}{
		{"add-host", "a:1.2.3.4", changed{Host: container.HostConfig{ExtraHosts: []string{"a:1.2.3.4"}}}},
		{"cap-add", "NET_ADMIN", changed{Host: container.HostConfig{CapAdd: []string{"NET_ADMIN"}}}},
		{"cap-drop", "ALL", changed{Host: container.HostConfig{CapDrop: []string{"ALL"}}}},
		{"cgroup-parent", "/p", changed{Host: container.HostConfig{Resources: container.Resources{CgroupParent: "/p"}}}},
		{"cpu-period", "9000", changed{Host: container.HostConfig{Resources: container.Resources{CPUPeriod: 9000}}}},
		{"cpu-quota", "9000", changed{Host: container.HostConfig{Resources: container.Resources{CPUQuota: 9000}}}},
		{"cpu-shares", "9", changed{Host: container.HostConfig{Resources: container.Resources{CPUShares: 9}}}},
		{"cpuset-cpus", "0-1", changed{Host: container.HostConfig{Resources: container.Resources{CpusetCpus: "0-1"}}}},
		{"cpuset-mems", "0", changed{Host: container.HostConfig{Resources: container.Resources{CpusetMems: "0"}}}},
		{"device", "/dev/a:/dev/b:r", changed{Host: container.HostConfig{Resources: container.Resources{
			Devices: []container.DeviceMapping{{PathOnHost: "/dev/a", PathInContainer: "/dev/b", CgroupPermissions: "r"}},
		}}}},
		{"dns", "10.0.0.1", changed{Host: container.HostConfig{DNS: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}},
		{"dns-opt", "ndots:1", changed{Host: container.HostConfig{DNSOptions: []string{"ndots:1"}}}},
		{"dns-option", "ndots:1", changed{Host: container.HostConfig{DNSOptions: []string{"ndots:1"}}}},
		{"dns-search", "example.com", changed{Host: container.HostConfig{DNSSearch: []string{"example.com"}}}},
		{"domainname", "d", changed{Config: container.Config{Domainname: "d"}}},
		{"entrypoint", "/e", changed{Config: container.Config{Entrypoint: []string{"/e"}}}},
		{"env", "A=b=c", changed{Config: container.Config{Env: []string{"A=b=c"}}}},
		{"group-add", "audio", changed{Host: container.HostConfig{GroupAdd: []string{"audio"}}}},
		{"hostname", "h", changed{Config: container.Config{Hostname: "h"}}},
		{"init", "true", changed{Host: container.HostConfig{Init: new(true)}}},
		{"ip", "10.0.0.9", changed{Net: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
			"host": {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("10.0.0.9")}},
		}}}},
		{"ipc", "host", changed{Host: container.HostConfig{IpcMode: "host"}}},
		{"label", "l=v", changed{Config: container.Config{Labels: map[string]string{"l": "v"}}}},
		{"log-driver", "journald", changed{Host: container.HostConfig{LogConfig: container.LogConfig{Type: "journald"}}}},
		{"log-opt", "max-size=1m", changed{Host: container.HostConfig{LogConfig: container.LogConfig{Config: map[string]string{"max-size": "1m"}}}}},
		{"memory", "512m", changed{Host: container.HostConfig{Resources: container.Resources{Memory: 512 << 20}}}},
		{"memory-reservation", "1GB", changed{Host: container.HostConfig{Resources: container.Resources{MemoryReservation: 1 << 30}}}},
		{"memory-swap", "-1", changed{Host: container.HostConfig{Resources: container.Resources{MemorySwap: -1}}}},
		{"memory-swappiness", "0", changed{Host: container.HostConfig{Resources: container.Resources{MemorySwappiness: new(int64)}}}},
		{"net", "n", changed{Host: container.HostConfig{NetworkMode: "n"}}},
		{"network", "n", changed{Host: container.HostConfig{NetworkMode: "n"}}},
		{"network-alias", "a", changed{Net: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"host": {Aliases: []string{"a"}}}}}},
		{"oom-kill-disable", "true", changed{Host: container.HostConfig{Resources: container.Resources{OomKillDisable: new(true)}}}},
		{"oom-score-adj", "5", changed{Host: container.HostConfig{OomScoreAdj: 5}}},
		{"pid", "host", changed{Host: container.HostConfig{PidMode: "host"}}},
		{"pids-limit", "7", changed{Host: container.HostConfig{Resources: container.Resources{PidsLimit: new(int64(7))}}}},
		{"privileged", "", changed{Host: container.HostConfig{Privileged: true}}},
		{"read-only", "true", changed{Host: container.HostConfig{ReadonlyRootfs: true}}},
		{"rm", "true", changed{}},
		{"runtime", "r", changed{Host: container.HostConfig{Runtime: "r"}}},
		{"security-opt", "no-new-privileges", changed{Host: container.HostConfig{SecurityOpt: []string{"no-new-privileges"}}}},
		{"shm-size", "64m", changed{Host: container.HostConfig{ShmSize: 64 << 20}}},
		{"stop-signal", "SIGINT", changed{Config: container.Config{StopSignal: "SIGINT"}}},
		{"stop-timeout", "3", changed{Config: container.Config{StopTimeout: new(3)}}},
		{"storage-opt", "size=1g", changed{Host: container.HostConfig{StorageOpt: map[string]string{"size": "1g"}}}},
		{"sysctl", "net.a=1", changed{Host: container.HostConfig{Sysctls: map[string]string{"net.a": "1"}}}},
		{"tmpfs", "/t:size=1m", changed{Host: container.HostConfig{Tmpfs: map[string]string{"/t": "size=1m"}}}},
		{"ulimit", "nofile=10:20", changed{Host: container.HostConfig{Resources: container.Resources{Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}}}}}},
		{"user", "someone", changed{Config: container.Config{User: "someone"}}},
		{"userns", "host", changed{Host: container.HostConfig{UsernsMode: "host"}}},
		{"uts", "host", changed{Host: container.HostConfig{UTSMode: "host"}}},
		{"volume", "/a:/b", changed{Host: container.HostConfig{Binds: []string{"/a:/b"}}}},
		{"volume-driver", "d", changed{Host: container.HostConfig{VolumeDriver: "d"}}},
		{"volumes-from", "other", changed{Host: container.HostConfig{VolumesFrom: []string{"other"}}}},
		{"workdir", "/w", changed{Config: container.Config{WorkingDir: "/w"}}},
	} {
		tried[c.key] = true
		got := &create{Config: &container.Config{Labels: map[string]string{}}, HostConfig: &container.HostConfig{}}
		if c.want.Net != nil {
			got.HostConfig.NetworkMode, c.want.Host.NetworkMode = "host", "host"
		}
		env := map[string]string{}
		if err := got.parameter(c.key, c.value, env); err != nil {
			t.Errorf("%s=%s: %v", c.key, c.value, err)
			continue
		}
		for k, v := range env {
			got.Config.Env = append(got.Config.Env, k+"="+v)
		}
		addrs := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
		if diff := cmp.Diff(c.want, changed{*got.Config, *got.HostConfig, got.Networking}, cmpopts.EquateEmpty(), addrs); diff != "" {
			t.Errorf("%s=%s (-want +got):\n%s", c.key, c.value, diff)
		}
	}
	for _, known := range [][]string{slices.Sorted(maps.Keys(texts)), slices.Sorted(maps.Keys(parsed))} {
		for _, key := range known {
			if !tried[key] {
				t.Errorf("parameter %s is not tried", key)
			}
		}
	}
	for key, value := range map[string]string{
		"no-such": "x", "memory": "much", "cpu-shares": "x", "privileged": "maybe", "env": "A", "ulimit": "nofile", "device": "", "dns": "name", "ip": "x",
		"detach": "true", "pids-limit": "1.5",
	} {
		_, err := specOf(func(c *isolation.ContainerConfig) {
			c.ContainerInfo.Docker.Parameters = []*mesos.Parameter{{Key: &key, Value: &value}}
		})
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s=%s: got %v, want %v", key, value, err, ErrInvalid)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*isolation.ContainerConfig){
		"no image":             func(c *isolation.ContainerConfig) { c.ContainerInfo.Docker.Image = nil },
		"hostname of the host": func(c *isolation.ContainerConfig) { c.ContainerInfo.Hostname = new("h") },
		"network without a name": func(c *isolation.ContainerConfig) {
			c.ContainerInfo.Docker.Network = mesos.ContainerInfo_DockerInfo_USER.Enum()
		},
		"ports of the host's network": func(c *isolation.ContainerConfig) {
			c.ContainerInfo.Docker.PortMappings = []*mesos.ContainerInfo_DockerInfo_PortMapping{{HostPort: new(uint32(1)), ContainerPort: new(uint32(1))}}
		},
		"odd protocol": func(c *isolation.ContainerConfig) {
			c.ContainerInfo.Docker.Network = mesos.ContainerInfo_DockerInfo_BRIDGE.Enum()
			c.ContainerInfo.Docker.PortMappings = []*mesos.ContainerInfo_DockerInfo_PortMapping{{HostPort: new(uint32(1)), ContainerPort: new(uint32(1)), Protocol: new("x")}}
		},
		"volume out of the sandbox": func(c *isolation.ContainerConfig) {
			c.ContainerInfo.Volumes = []*mesos.Volume{{Mode: mesos.Volume_RW.Enum(), ContainerPath: new("/a"), HostPath: new("../../etc")}}
		},
		"volume with options in its path": func(c *isolation.ContainerConfig) {
			c.ContainerInfo.Volumes = []*mesos.Volume{{Mode: mesos.Volume_RO.Enum(), ContainerPath: new("/a:rw"), HostPath: new("/etc")}}
		},
		"volume of an image": func(c *isolation.ContainerConfig) {
			c.ContainerInfo.Volumes = []*mesos.Volume{{Mode: mesos.Volume_RO.Enum(), ContainerPath: new("/a"), Image: &mesos.Image{}}}
		},
		"secret volume": func(c *isolation.ContainerConfig) {
			c.ContainerInfo.Volumes = []*mesos.Volume{{
				Mode: mesos.Volume_RO.Enum(), ContainerPath: new("/a"), Source: &mesos.Volume_Source{Type: mesos.Volume_Source_SECRET.Enum()},
			}}
		},
	} {
		if _, err := specOf(change); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
	}
}

func TestEngineResources(t *testing.T) {
	type bounds struct{ shares, quota, memory, reservation int64 }
	limit := func(v float64) map[string]*mesos.Value_Scalar {
		return map[string]*mesos.Value_Scalar{"cpus": {Value: &v}, "mem": {Value: &v}}
	}
	for name, c := range map[string]struct {
		cpus, mem float64
		limits    map[string]*mesos.Value_Scalar
		cfs       bool
		want      bounds
	}{
		"plain":            {2, 128, nil, false, bounds{2048, 0, 128 << 20, 0}},
		"quota":            {2, 128, nil, true, bounds{2048, 200000, 128 << 20, 0}},
		"least":            {0.0001, 1, nil, true, bounds{2, 1000, 32 << 20, 0}},
		"limits":           {1, 64, limit(256), false, bounds{1024, 25600000, 256 << 20, 64 << 20}},
		"no limits at all": {1, 64, limit(math.Inf(1)), true, bounds{1024, 0, 0, 64 << 20}},
	} {
		r := engineResources([]*mesos.Resource{isolationtest.Scalar("cpus", c.cpus), isolationtest.Scalar("mem", c.mem)}, c.limits, c.cfs)
		if got := (bounds{r.CPUShares, r.CPUQuota, r.Memory, r.MemoryReservation}); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// TestDefaultDNS: the operator's name servers are for those who do not name their own.
func TestDefaultDNS(t *testing.T) {
	dns := func(o *Options) {
		o.DNS = func(mode mesos.ContainerInfo_DockerInfo_Network, network string) (servers, search, options []string) {
			return []string{"10.9.9.9"}, []string{mode.String()}, []string{network}
		}
	}
	user := func(c *isolation.ContainerConfig) {
		c.ContainerInfo.Docker.Network = mesos.ContainerInfo_DockerInfo_USER.Enum()
		c.ContainerInfo.NetworkInfos = []*mesos.NetworkInfo{{Name: new("net")}}
	}
	got, err := specOf(user, dns)
	if err != nil || len(got.HostConfig.DNS) != 1 || got.HostConfig.DNSSearch[0] != "USER" || got.HostConfig.DNSOptions[0] != "net" {
		t.Errorf("got %+v, %v", got, err)
	}
	got, err = specOf(func(c *isolation.ContainerConfig) {
		user(c)
		c.ContainerInfo.Docker.Parameters = []*mesos.Parameter{{Key: new("dns-search"), Value: new("own")}}
	}, dns)
	if err != nil || len(got.HostConfig.DNS) != 0 || !slices.Equal(got.HostConfig.DNSSearch, []string{"own"}) {
		t.Errorf("with a parameter: got %+v, %v", got, err)
	}
}

func TestRegistryAuth(t *testing.T) {
	const config = `{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnB3"},"reg.example.com:5000":{"username":"u","password":"p"},"bad.example.com":{"auth":"!"}}}`
	for image, want := range map[string]string{"busybox": "hub pw", "reg.example.com:5000/a/b:1": "u p", "reg.example.com/a": "", "bad.example.com/x": "error", "UPPER CASE": "error"} {
		text, err := registryAuth(config, image)
		got := ""
		if err != nil {
			got = "error"
		} else if text != "" {
			var a struct{ Username, Password string }
			b, err := base64.URLEncoding.DecodeString(text)
			if err == nil {
				err = json.Unmarshal(b, &a)
			}
			if err != nil {
				t.Fatal(err)
			}
			got = a.Username + " " + a.Password
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", image, got, want)
		}
	}
	if _, err := registryAuth("no json", "a"); err == nil {
		t.Error("a config that is no JSON: got no error")
	}
}
