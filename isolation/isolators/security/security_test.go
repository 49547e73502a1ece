package security_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
	"clusterd/isolation/isolators/security"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func capabilities(caps ...mesos.CapabilityInfo_Capability) *mesos.CapabilityInfo {
	return &mesos.CapabilityInfo{Capabilities: caps}
}

func profiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"default.json": `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}`,
		"caps.json":    `{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}}]}`,
		"broken.json":  `{`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestConformance(t *testing.T) {
	needRoot(t)
	o := security.Options{Effective: capabilities(mesos.CapabilityInfo_CHOWN), SeccompDir: profiles(t), SeccompProfile: "default.json"}
	for name, make := range map[string]func() (isolation.Isolator, error){
		"posix/rlimits":      func() (isolation.Isolator, error) { return security.Rlimits{}, nil },
		"linux/nnp":          func() (isolation.Isolator, error) { return security.NoNewPrivileges{}, nil },
		"linux/capabilities": func() (isolation.Isolator, error) { return security.NewCapabilities(o) },
		"linux/seccomp":      func() (isolation.Isolator, error) { return security.NewSeccomp(o, nil) },
		"linux/devices":      func() (isolation.Isolator, error) { return security.NewDevices(o) },
	} {
		t.Run(name, func(t *testing.T) {
			isolationtest.Isolator(t, name, func(t *testing.T, _ string) isolation.Isolator {
				i, err := make()
				if err != nil {
					t.Fatal(err)
				}
				return i
			})
		})
	}
}

func linuxInfo(info *mesos.LinuxInfo) *isolation.ContainerConfig {
	return &isolation.ContainerConfig{ContainerInfo: &mesos.ContainerInfo{LinuxInfo: info}}
}

func TestCapabilities(t *testing.T) {
	needRoot(t)
	chown, kill := capabilities(mesos.CapabilityInfo_CHOWN), capabilities(mesos.CapabilityInfo_KILL)
	both := capabilities(mesos.CapabilityInfo_CHOWN, mesos.CapabilityInfo_KILL)
	none := capabilities()
	const c, k = 1 << 0, 1 << 5
	sets := func(effective, bounding uint64) *isolation.Capabilities {
		return &isolation.Capabilities{Effective: effective, Permitted: effective, Inheritable: effective, Bounding: bounding, Ambient: effective}
	}
	for name, x := range map[string]struct {
		o    security.Options
		info *mesos.LinuxInfo
		want *isolation.Capabilities
		bad  bool
	}{
		"nobody asks":                    {},
		"the operator's default":         {o: security.Options{Effective: chown, Bounding: both}, want: sets(c, c|k)},
		"the default bounds itself":      {o: security.Options{Effective: chown}, want: sets(c, c)},
		"bounds alone leave root root":   {o: security.Options{Bounding: both}, want: &isolation.Capabilities{Effective: c | k, Permitted: c | k, Inheritable: c | k, Bounding: c | k}},
		"the framework's wish":           {o: security.Options{Effective: chown, Bounding: both}, info: &mesos.LinuxInfo{EffectiveCapabilities: kill}, want: sets(k, c|k)},
		"its old name":                   {o: security.Options{Bounding: both}, info: &mesos.LinuxInfo{CapabilityInfo: kill}, want: sets(k, c|k)},
		"none at all":                    {o: security.Options{Effective: chown, Bounding: both}, info: &mesos.LinuxInfo{EffectiveCapabilities: none}, want: sets(0, c|k)},
		"own bounds":                     {o: security.Options{Bounding: both}, info: &mesos.LinuxInfo{EffectiveCapabilities: kill, BoundingCapabilities: kill}, want: sets(k, k)},
		"no operator, a wish":            {info: &mesos.LinuxInfo{EffectiveCapabilities: kill}, want: sets(k, k)},
		"a wish beyond the bounds":       {o: security.Options{Bounding: chown}, info: &mesos.LinuxInfo{EffectiveCapabilities: kill}, bad: true},
		"bounds beyond the operator's":   {o: security.Options{Bounding: chown}, info: &mesos.LinuxInfo{BoundingCapabilities: both}, bad: true},
		"the default beyond own bounds":  {o: security.Options{Effective: chown, Bounding: both}, info: &mesos.LinuxInfo{BoundingCapabilities: kill}, bad: true},
		"both names":                     {info: &mesos.LinuxInfo{CapabilityInfo: kill, EffectiveCapabilities: kill}, bad: true},
		"a capability that is not there": {info: &mesos.LinuxInfo{EffectiveCapabilities: capabilities(mesos.CapabilityInfo_UNKNOWN)}, bad: true},
	} {
		i, err := security.NewCapabilities(x.o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p, err := i.Prepare(t.Context(), linuxInfo(x.info))
		if x.bad != errors.Is(err, security.ErrCapabilities) {
			t.Errorf("%s: got error %v", name, err)
		}
		var got *isolation.Capabilities
		if p != nil {
			got = p.Capabilities
		}
		if diff := cmp.Diff(x.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, err := security.NewCapabilities(security.Options{Effective: both, Bounding: chown}); !errors.Is(err, security.ErrCapabilities) {
		t.Errorf("flags that contradict each other: got %v", err)
	}
}

func TestRlimits(t *testing.T) {
	nofile := mesos.RLimitInfo_RLimit_RLMT_NOFILE.Enum()
	limit := func(l *mesos.RLimitInfo_RLimit) *isolation.ContainerConfig {
		return &isolation.ContainerConfig{ContainerInfo: &mesos.ContainerInfo{RlimitInfo: &mesos.RLimitInfo{Rlimits: []*mesos.RLimitInfo_RLimit{l}}}}
	}
	for _, c := range []struct {
		limit *mesos.RLimitInfo_RLimit
		want  isolation.Rlimit
	}{
		{&mesos.RLimitInfo_RLimit{Type: nofile, Soft: new(uint64(5)), Hard: new(uint64(6))}, isolation.Rlimit{Resource: unix.RLIMIT_NOFILE, Soft: 5, Hard: 6}},
		{&mesos.RLimitInfo_RLimit{Type: nofile}, isolation.Rlimit{Resource: unix.RLIMIT_NOFILE, Soft: math.MaxUint64, Hard: math.MaxUint64}},
	} {
		p, err := security.Rlimits{}.Prepare(t.Context(), limit(c.limit))
		if err != nil || len(p.Rlimits) != 1 || p.Rlimits[0] != c.want {
			t.Errorf("%v: got %+v, %v", c.limit, p, err)
		}
	}
	for _, bad := range []*mesos.RLimitInfo_RLimit{
		{}, {Type: nofile, Soft: new(uint64(5))}, {Type: nofile, Hard: new(uint64(5))}, {Type: nofile, Soft: new(uint64(6)), Hard: new(uint64(5))},
	} {
		if p, err := (security.Rlimits{}).Prepare(t.Context(), limit(bad)); err == nil {
			t.Errorf("%v: got %+v", bad, p)
		}
	}
}

func TestSeccomp(t *testing.T) {
	needRoot(t)
	o := security.Options{SeccompDir: profiles(t), SeccompProfile: "default.json", Effective: capabilities(mesos.CapabilityInfo_CHOWN)}
	caps, err := security.NewCapabilities(o)
	if err != nil {
		t.Fatal(err)
	}
	i, err := security.NewSeccomp(o, caps)
	if err != nil {
		t.Fatal(err)
	}
	program := func(info *mesos.LinuxInfo) []byte {
		t.Helper()
		p, err := i.Prepare(t.Context(), linuxInfo(info))
		if err != nil {
			t.Fatal(err)
		}
		if p == nil {
			return nil
		}
		return p.Seccomp
	}
	if len(program(nil)) == 0 {
		t.Error("the default profile: got no program")
	}
	if p := program(&mesos.LinuxInfo{Seccomp: &mesos.SeccompInfo{Unconfined: new(true)}}); p != nil {
		t.Errorf("unconfined: got a program of %d bytes", len(p))
	}
	named := &mesos.LinuxInfo{Seccomp: &mesos.SeccompInfo{ProfileName: new("caps.json")}}
	without := program(named)
	named.EffectiveCapabilities = capabilities(mesos.CapabilityInfo_SYS_CHROOT)
	if with := program(named); len(with) <= len(without) {
		t.Errorf("a rule for CAP_SYS_CHROOT: got %d bytes with it, %d without", len(with), len(without))
	}
	for name, info := range map[string]*mesos.SeccompInfo{
		"both":              {Unconfined: new(true), ProfileName: new("default.json")},
		"neither":           {},
		"missing":           {ProfileName: new("no.json")},
		"broken":            {ProfileName: new("broken.json")},
		"outside":           {ProfileName: new("../default.json")},
		"absolute":          {ProfileName: new(filepath.Join(o.SeccompDir, "default.json"))},
		"not confined, yet": {Unconfined: new(false)},
	} {
		if p, err := i.Prepare(t.Context(), linuxInfo(&mesos.LinuxInfo{Seccomp: info})); err == nil {
			t.Errorf("%s: got %+v", name, p)
		}
	}
	if _, err := security.NewSeccomp(security.Options{}, nil); err == nil {
		t.Error("no directory: got no error")
	}
	if _, err := security.NewSeccomp(security.Options{SeccompDir: o.SeccompDir, SeccompProfile: "broken.json"}, nil); err == nil {
		t.Error("a broken default profile: got no error")
	}
}

func TestDevices(t *testing.T) {
	needRoot(t)
	allow := func(path string, read, write bool) security.Options {
		return security.Options{Devices: &mesos.DeviceWhitelist{AllowedDevices: []*mesos.DeviceAccess{{
			Device: &mesos.Device{Path: &path}, Access: &mesos.DeviceAccess_Access{Read: &read, Write: &write},
		}}}}
	}
	i, err := security.NewDevices(allow("/dev/kmsg", true, false))
	if err != nil {
		t.Fatal(err)
	}
	p, err := i.Prepare(t.Context(), &isolation.ContainerConfig{RootFS: "/some/root"})
	want := &isolation.Preparation{Devices: []isolation.Device{{Path: "/dev/kmsg", Mode: unix.S_IFCHR | 0o644, Major: 1, Minor: 11}}}
	if diff := cmp.Diff(want, p); diff != "" || err != nil {
		t.Errorf("prepare: %v (-want +got):\n%s", err, diff)
	}
	if p, err := i.Prepare(t.Context(), &isolation.ContainerConfig{}); p != nil || err != nil {
		t.Errorf("a container on the machine's files: got %+v, %v", p, err)
	}
	for _, path := range []string{"", "/dev/no-such-device", "/dev/../dev/null", "/etc/passwd", "/dev/shm"} {
		if _, err := security.NewDevices(allow(path, true, true)); err == nil {
			t.Errorf("allowed device %q: got no error", path)
		}
	}
}
