package work

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	cliv2 "github.com/urfave/cli/v2"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
)

// containerFlags say in what a task runs.
func containerFlags() []cliv2.Flag {
	return []cliv2.Flag{
		&cliv2.StringFlag{Name: "image", Usage: "`IMAGE` to run in, as docker pull names it; without COMMAND its own command runs"},
		&cliv2.BoolFlag{Name: "entrypoint", Usage: "keep the image's entry point: COMMAND is what it gets as arguments"},
		&cliv2.StringFlag{Name: "containerizer", Usage: "`CONTAINERIZER`: mesos or docker", Value: "mesos"},
		&cliv2.StringSliceFlag{Name: "volume", Aliases: []string{"v"}, Usage: "`VOLUME` to mount: " + volumeHint + "; repeatable"},
		&cliv2.StringSliceFlag{Name: "network", Usage: "`NETWORK` to join, by its name; with docker also host, bridge or none; repeatable"},
		&cliv2.StringSliceFlag{Name: "port", Aliases: []string{"p"}, Usage: "`HOST[:CONTAINER][/udp]` port to get, 0: any; the task finds it in $PORT0 ($PORT1, ...); with CONTAINER it leads there; repeatable"},
		&cliv2.StringSliceFlag{Name: "capability", Aliases: []string{"capabilities"}, Usage: "Linux `CAPABILITY` to have, all others not (NET_RAW, ...); none: NONE; repeatable"},
		&cliv2.StringSliceFlag{Name: "rlimit", Usage: "`NAME=SOFT[:HARD]` limit of a process (NOFILE=1024:4096, CORE=unlimited); repeatable"},
		&cliv2.StringFlag{Name: "hostname", Usage: "`NAME` of the host that the task sees"},
		&cliv2.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the task a terminal; with --interactive it is this one"},
		&cliv2.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "type into the task's terminal; ctrl-p ctrl-q leaves it alone"},
	}
}

// container is what a task runs in: a ContainerInfo but for the ports, which come with
// the offer; persistent volumes are resources.
type container struct {
	info    *mesos.ContainerInfo // nil: none is needed
	ports   []port
	volumes []*persistent
}

// port is one --port.
type port struct {
	host, container uint32 // 0: any, and none
	protocol        string
}

func containerOf(c *cliv2.Context) (*container, error) {
	out := &container{info: &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum()}}
	docker := c.String("containerizer") == "docker"
	image := c.String("image")
	switch {
	case docker && image == "":
		return nil, console.Usagef("--containerizer=docker needs an --image")
	case docker && c.Bool("tty"):
		return nil, console.Usagef("the docker containerizer gives no terminal: --tty is for --containerizer=mesos")
	case docker:
		out.info.Type = mesos.ContainerInfo_DOCKER.Enum()
		out.info.Docker = &mesos.ContainerInfo_DockerInfo{Image: &image}
	case c.String("containerizer") != "mesos":
		return nil, console.Usagef("no containerizer %q: mesos or docker", c.String("containerizer"))
	case image != "":
		out.info.Mesos = &mesos.ContainerInfo_MesosInfo{Image: imageOf(image)}
	}
	if h := c.String("hostname"); h != "" {
		out.info.Hostname = &h
	}
	if c.Bool("tty") {
		out.info.TtyInfo = &mesos.TTYInfo{}
	}
	for _, text := range c.StringSlice("volume") {
		v, err := parseVolume(text)
		if err != nil {
			return nil, err
		}
		if v.persistent != nil {
			out.volumes = append(out.volumes, v.persistent)
		} else {
			out.info.Volumes = append(out.info.Volumes, v.mount)
		}
	}
	if err := out.network(c.StringSlice("network"), docker); err != nil {
		return nil, err
	}
	if err := out.limits(c); err != nil {
		return nil, err
	}
	for _, text := range c.StringSlice("port") {
		p, err := parsePort(text)
		if err != nil {
			return nil, err
		}
		if p.container > 0 && len(out.info.NetworkInfos) == 0 && !docker {
			return nil, console.Hint(console.Usagef("--port %q: on the host's network there is nothing to lead to another port", text), "--network joins one; --port=%d alone gives the task that port of the host", p.host)
		}
		out.ports = append(out.ports, p)
	}
	if !docker && plain(out.info) {
		out.info = nil
	}
	return out, nil
}

// plain reports whether a container asks for nothing: a task does without it then.
func plain(i *mesos.ContainerInfo) bool {
	return i.Mesos == nil && i.Hostname == nil && i.TtyInfo == nil && len(i.GetVolumes()) == 0 && len(i.GetNetworkInfos()) == 0 &&
		i.LinuxInfo == nil && i.RlimitInfo == nil
}

func (o *container) network(names []string, docker bool) error {
	if docker && len(names) > 1 {
		return console.Usagef("the docker containerizer joins one network, not %s", strings.Join(names, " and "))
	}
	for _, name := range names {
		if docker {
			kinds := map[string]mesos.ContainerInfo_DockerInfo_Network{
				"host": mesos.ContainerInfo_DockerInfo_HOST, "bridge": mesos.ContainerInfo_DockerInfo_BRIDGE, "none": mesos.ContainerInfo_DockerInfo_NONE,
			}
			if kind, ok := kinds[name]; ok {
				o.info.Docker.Network = kind.Enum()
				continue
			}
			o.info.Docker.Network = mesos.ContainerInfo_DockerInfo_USER.Enum()
		} else if name == "host" {
			continue // where a task is by itself
		}
		o.info.NetworkInfos = append(o.info.NetworkInfos, &mesos.NetworkInfo{Name: &name})
	}
	return nil
}

// limits reads capabilities and limits of processes.
func (o *container) limits(c *cliv2.Context) error {
	if names := c.StringSlice("capability"); len(names) > 0 {
		set := &mesos.CapabilityInfo{}
		for _, name := range names {
			name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
			if name == "NONE" {
				continue
			}
			v, ok := mesos.CapabilityInfo_Capability_value[name]
			if !ok || v == 0 {
				return console.Usagef("--capability: there is no capability %q", name)
			}
			set.Capabilities = append(set.Capabilities, mesos.CapabilityInfo_Capability(v))
		}
		o.info.LinuxInfo = &mesos.LinuxInfo{EffectiveCapabilities: set, BoundingCapabilities: set}
	}
	for _, text := range c.StringSlice("rlimit") {
		l, err := parseRlimit(text)
		if err != nil {
			return err
		}
		if o.info.RlimitInfo == nil {
			o.info.RlimitInfo = &mesos.RLimitInfo{}
		}
		o.info.RlimitInfo.Rlimits = append(o.info.RlimitInfo.Rlimits, l)
	}
	return nil
}

func parseRlimit(text string) (*mesos.RLimitInfo_RLimit, error) {
	fail := console.Hint(console.Usagef("--rlimit %q", text), "NAME=SOFT[:HARD] or NAME=unlimited, NAME one of AS, CORE, CPU, DATA, FSIZE, MEMLOCK, NOFILE, NPROC, STACK, ...")
	name, value, ok := strings.Cut(text, "=")
	kind := mesos.RLimitInfo_RLimit_Type_value["RLMT_"+strings.TrimPrefix(strings.ToUpper(name), "RLMT_")]
	if !ok || kind == 0 {
		return nil, fail
	}
	out := &mesos.RLimitInfo_RLimit{Type: mesos.RLimitInfo_RLimit_Type(kind).Enum()}
	if value == "unlimited" || value == "infinity" {
		return out, nil
	}
	soft, hard, ok := strings.Cut(value, ":")
	if !ok {
		hard = soft
	}
	s, err := strconv.ParseUint(soft, 10, 64)
	h, err2 := strconv.ParseUint(hard, 10, 64)
	if err != nil || err2 != nil || s > h {
		return nil, fail
	}
	out.Soft, out.Hard = &s, &h
	return out, nil
}

func parsePort(text string) (port, error) {
	p := port{protocol: "tcp"}
	rest, protocol, ok := strings.Cut(text, "/")
	if ok {
		p.protocol = protocol
	}
	host, inside, leads := strings.Cut(rest, ":")
	h, err := strconv.ParseUint(host, 10, 16)
	var in uint64
	if leads && err == nil {
		if in, err = strconv.ParseUint(inside, 10, 16); err == nil && in == 0 {
			err = fmt.Errorf("%q is no port", inside)
		}
	}
	if err != nil || !slices.Contains([]string{"tcp", "udp"}, p.protocol) {
		return p, console.Hint(console.Usagef("--port %q", text), "HOST[:CONTAINER][/udp]; HOST 0 is any that the agent has")
	}
	p.host, p.container = uint32(h), uint32(in)
	return p, nil
}

// withPorts is the ContainerInfo with the ports of the host that lead into it.
func (o *container) withPorts(info *mesos.ContainerInfo, ports []uint64) {
	for i, p := range o.ports {
		if p.container == 0 {
			continue
		}
		host := uint32(ports[i])
		if info.GetType() == mesos.ContainerInfo_DOCKER {
			info.Docker.PortMappings = append(info.Docker.PortMappings, &mesos.ContainerInfo_DockerInfo_PortMapping{
				HostPort: &host, ContainerPort: &p.container, Protocol: &p.protocol,
			})
			continue
		}
		n := info.NetworkInfos[0]
		n.PortMappings = append(n.PortMappings, &mesos.NetworkInfo_PortMapping{HostPort: &host, ContainerPort: &p.container, Protocol: &p.protocol})
	}
}
