package docker

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"clusterd/internal/units"
)

// parameter translates an option of `docker run`, which frameworks give by its long
// name, into the engine's request. One that is not known is an error: it may have been a
// protection.
func (c *create) parameter(key, value string, env map[string]string) error {
	if set, ok := texts[key]; ok {
		set(c, value)
		return nil
	}
	set, ok := parsed[key]
	if !ok {
		return fmt.Errorf("%w: parameter %q is not supported", ErrInvalid, key)
	}
	if err := set(c, value, env); err != nil {
		return fmt.Errorf("%w: parameter %s=%s: %w", ErrInvalid, key, value, err)
	}
	return nil
}

// texts are options that need no parsing.
var texts = map[string]func(c *create, v string){
	"add-host":      func(c *create, v string) { c.HostConfig.ExtraHosts = append(c.HostConfig.ExtraHosts, v) },
	"cap-add":       func(c *create, v string) { c.HostConfig.CapAdd = append(c.HostConfig.CapAdd, v) },
	"cap-drop":      func(c *create, v string) { c.HostConfig.CapDrop = append(c.HostConfig.CapDrop, v) },
	"cgroup-parent": func(c *create, v string) { c.HostConfig.CgroupParent = v },
	"cpuset-cpus":   func(c *create, v string) { c.HostConfig.CpusetCpus = v },
	"cpuset-mems":   func(c *create, v string) { c.HostConfig.CpusetMems = v },
	"dns-opt":       func(c *create, v string) { c.HostConfig.DNSOptions = append(c.HostConfig.DNSOptions, v) },
	"dns-option":    func(c *create, v string) { c.HostConfig.DNSOptions = append(c.HostConfig.DNSOptions, v) },
	"dns-search":    func(c *create, v string) { c.HostConfig.DNSSearch = append(c.HostConfig.DNSSearch, v) },
	"domainname":    func(c *create, v string) { c.Config.Domainname = v },
	"entrypoint":    func(c *create, v string) { c.Config.Entrypoint = []string{v} },
	"group-add":     func(c *create, v string) { c.HostConfig.GroupAdd = append(c.HostConfig.GroupAdd, v) },
	"hostname":      func(c *create, v string) { c.Config.Hostname = v },
	"ipc":           func(c *create, v string) { c.HostConfig.IpcMode = container.IpcMode(v) },
	"log-driver":    func(c *create, v string) { c.HostConfig.LogConfig.Type = v },
	"net":           func(c *create, v string) { c.HostConfig.NetworkMode = container.NetworkMode(v) },
	"network":       func(c *create, v string) { c.HostConfig.NetworkMode = container.NetworkMode(v) },
	"pid":           func(c *create, v string) { c.HostConfig.PidMode = container.PidMode(v) },
	"runtime":       func(c *create, v string) { c.HostConfig.Runtime = v },
	"security-opt":  func(c *create, v string) { c.HostConfig.SecurityOpt = append(c.HostConfig.SecurityOpt, v) },
	"stop-signal":   func(c *create, v string) { c.Config.StopSignal = v },
	"user":          func(c *create, v string) { c.Config.User = v },
	"userns":        func(c *create, v string) { c.HostConfig.UsernsMode = container.UsernsMode(v) },
	"uts":           func(c *create, v string) { c.HostConfig.UTSMode = container.UTSMode(v) },
	"volume":        func(c *create, v string) { c.HostConfig.Binds = append(c.HostConfig.Binds, v) },
	"volume-driver": func(c *create, v string) { c.HostConfig.VolumeDriver = v },
	"volumes-from":  func(c *create, v string) { c.HostConfig.VolumesFrom = append(c.HostConfig.VolumesFrom, v) },
	"workdir":       func(c *create, v string) { c.Config.WorkingDir = v },
}

type setter = func(c *create, v string, env map[string]string) error

// parsed are options whose values have a form.
var parsed = map[string]setter{
	"cpu-period":         number(func(c *create, n int64) { c.HostConfig.CPUPeriod = n }),
	"cpu-quota":          number(func(c *create, n int64) { c.HostConfig.CPUQuota = n }),
	"cpu-shares":         number(func(c *create, n int64) { c.HostConfig.CPUShares = n }),
	"memory":             size(func(c *create, n int64) { c.HostConfig.Memory = n }),
	"memory-reservation": size(func(c *create, n int64) { c.HostConfig.MemoryReservation = n }),
	"memory-swap":        size(func(c *create, n int64) { c.HostConfig.MemorySwap = n }),
	"memory-swappiness":  number(func(c *create, n int64) { c.HostConfig.MemorySwappiness = &n }),
	"oom-score-adj":      number(func(c *create, n int64) { c.HostConfig.OomScoreAdj = int(n) }),
	"pids-limit":         number(func(c *create, n int64) { c.HostConfig.PidsLimit = &n }),
	"shm-size":           size(func(c *create, n int64) { c.HostConfig.ShmSize = n }),
	"stop-timeout":       number(func(c *create, n int64) { c.Config.StopTimeout = new(int(n)) }),

	"init":             boolean(func(c *create, b bool) { c.HostConfig.Init = &b }),
	"oom-kill-disable": boolean(func(c *create, b bool) { c.HostConfig.OomKillDisable = &b }),
	"privileged":       boolean(func(c *create, b bool) { c.HostConfig.Privileged = b }),
	"read-only":        boolean(func(c *create, b bool) { c.HostConfig.ReadonlyRootfs = b }),
	// The container is removed in any case, after --docker_remove_delay.
	"rm": boolean(func(*create, bool) {}),

	"label": pair(func(c *create, k, v string, _ map[string]string) { c.Config.Labels[k] = v }),
	"env":   pair(func(_ *create, k, v string, env map[string]string) { env[k] = v }),
	"sysctl": pair(func(c *create, k, v string, _ map[string]string) {
		put(&c.HostConfig.Sysctls, k, v)
	}),
	"storage-opt": pair(func(c *create, k, v string, _ map[string]string) {
		put(&c.HostConfig.StorageOpt, k, v)
	}),
	"log-opt": pair(func(c *create, k, v string, _ map[string]string) {
		put(&c.HostConfig.LogConfig.Config, k, v)
	}),
	"tmpfs": func(c *create, v string, _ map[string]string) error {
		path, options, _ := strings.Cut(v, ":")
		put(&c.HostConfig.Tmpfs, path, options)
		return nil
	},
	"dns":           func(c *create, v string, _ map[string]string) error { return c.addDNS(v) },
	"ulimit":        addUlimit,
	"device":        addDevice,
	"network-alias": addAlias,
	"ip":            addAddress,
}

func put(m *map[string]string, k, v string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[k] = v
}

func number(set func(*create, int64)) setter {
	return func(c *create, v string, _ map[string]string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err == nil {
			set(c, n)
		}
		return err
	}
}

// size takes 512m as Docker does, 512MB as Mesos does, and -1.
func size(set func(*create, int64)) setter {
	return func(c *create, v string, _ map[string]string) error {
		if v == "-1" {
			set(c, -1)
			return nil
		}
		text := strings.ToUpper(v)
		if text != "" && !strings.HasSuffix(text, "B") {
			text += "B"
		}
		n, err := units.ParseBytes(text)
		if err == nil {
			set(c, int64(n))
		}
		return err
	}
}

func boolean(set func(*create, bool)) setter {
	return func(c *create, v string, _ map[string]string) error {
		if v == "" {
			v = "true" // given without a value
		}
		b, err := strconv.ParseBool(v)
		if err == nil {
			set(c, b)
		}
		return err
	}
}

func pair(set func(c *create, k, v string, env map[string]string)) setter {
	return func(c *create, text string, env map[string]string) error {
		k, v, ok := strings.Cut(text, "=")
		if !ok || k == "" {
			return fmt.Errorf("%q is no name=value", text)
		}
		set(c, k, v, env)
		return nil
	}
}

// addUlimit reads name=soft[:hard].
func addUlimit(c *create, text string, _ map[string]string) error {
	name, limits, ok := strings.Cut(text, "=")
	soft, hard, two := strings.Cut(limits, ":")
	if !two {
		hard = soft
	}
	s, err := strconv.ParseInt(soft, 10, 64)
	if err != nil || !ok {
		return fmt.Errorf("%q is no name=soft:hard", text)
	}
	h, err := strconv.ParseInt(hard, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no name=soft:hard", text)
	}
	c.HostConfig.Ulimits = append(c.HostConfig.Ulimits, &container.Ulimit{Name: name, Soft: s, Hard: h})
	return nil
}

// addDevice reads host[:container[:permissions]].
func addDevice(c *create, text string, _ map[string]string) error {
	parts := strings.Split(text, ":")
	if len(parts) > 3 || parts[0] == "" {
		return fmt.Errorf("%q is no host:container:permissions", text)
	}
	d := container.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
	if len(parts) > 1 {
		d.PathInContainer = parts[1]
	}
	if len(parts) > 2 {
		d.CgroupPermissions = parts[2]
	}
	c.HostConfig.Devices = append(c.HostConfig.Devices, d)
	return nil
}

// endpoint is how the container is known in its network.
func (c *create) endpoint() *network.EndpointSettings {
	if c.Networking == nil {
		c.Networking = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{}}
	}
	name := string(c.HostConfig.NetworkMode)
	if c.Networking.EndpointsConfig[name] == nil {
		c.Networking.EndpointsConfig[name] = &network.EndpointSettings{}
	}
	return c.Networking.EndpointsConfig[name]
}

func addAlias(c *create, v string, _ map[string]string) error {
	e := c.endpoint()
	e.Aliases = append(e.Aliases, v)
	return nil
}

func addAddress(c *create, v string, _ map[string]string) error {
	addr, err := netip.ParseAddr(v)
	if err == nil {
		c.endpoint().IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: addr}
	}
	return err
}
