package docker

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// ErrInvalid says that a container asks for what Docker cannot give.
var ErrInvalid = errors.New("invalid docker container")

// create says how the engine makes a container.
type create struct {
	Config     *container.Config
	HostConfig *container.HostConfig
	Networking *network.NetworkingConfig `json:",omitempty"`
}

// newCreate turns what a framework asks for into what the engine is asked for
// (src/docker/docker.cpp, Docker::RunOptions::create).
func newCreate(config *isolation.ContainerConfig, o *Options) (*create, error) {
	info := config.ContainerInfo
	docker := info.GetDocker()
	if docker.GetImage() == "" {
		return nil, fmt.Errorf("%w: no image", ErrInvalid)
	}
	c := &create{
		Config: &container.Config{
			Image: docker.GetImage(), Hostname: info.GetHostname(),
			Labels: map[string]string{agentLabel: o.owner(), idLabel: isolation.Key(config.ID)},
		},
		HostConfig: &container.HostConfig{Privileged: docker.GetPrivileged(), VolumeDriver: docker.GetVolumeDriver()},
	}
	c.addResources(config.Resources, config.Limits, o.EnableCFS)
	c.addCommand(config)
	if err := c.addNetwork(info, o); err != nil {
		return nil, err
	}
	if err := c.addVolumes(config, o); err != nil {
		return nil, err
	}
	env := c.environment(config, o)
	for _, p := range docker.GetParameters() {
		if err := c.parameter(p.GetKey(), p.GetValue(), env); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		c.Config.Env = append(c.Config.Env, name+"="+env[name])
	}
	return c, nil
}

// command is what runs in the container: for a task, the task's.
func command(config *isolation.ContainerConfig) *mesos.CommandInfo {
	if config.Builtin != isolation.BuiltinNone {
		return config.TaskCommand
	}
	return config.Command
}

// addCommand says what is executed. A shell command goes around the image's entry point,
// anything else is its arguments.
func (c *create) addCommand(config *isolation.ContainerConfig) {
	cmd := command(config)
	switch {
	case cmd == nil || cmd.Value == nil && cmd.GetShell():
	case cmd.GetShell():
		c.Config.Entrypoint, c.Config.Cmd = []string{"/bin/sh"}, []string{"-c", cmd.GetValue()}
	default:
		if cmd.Value != nil {
			c.Config.Cmd = append(c.Config.Cmd, cmd.GetValue())
		}
		c.Config.Cmd = append(c.Config.Cmd, cmd.GetArguments()...)
	}
}

func (c *create) environment(config *isolation.ContainerConfig, o *Options) map[string]string {
	env := map[string]string{}
	if config.Builtin == isolation.BuiltinNone { // an executor talks to the agent
		maps.Copy(env, config.Env)
	}
	for _, v := range command(config).GetEnvironment().GetVariables() {
		env[v.GetName()] = v.GetValue()
	}
	env["MESOS_SANDBOX"], env["MESOS_CONTAINER_NAME"] = o.SandboxDirectory, containerName(config.ID)
	return env
}

func containerName(id *mesos.ContainerID) string { return namePrefix + isolation.Key(id) }

// Least that a container gets (src/docker/docker.cpp).
const (
	minMemory   = 32 << 20
	minShares   = 2
	sharesOfCPU = 1024
	cfsPeriod   = 100_000 // microseconds
	minQuota    = 1_000
)

func (c *create) addResources(resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar, cfs bool) {
	c.HostConfig.Resources = engineResources(resources, limits, cfs)
}

// engineResources turns requests and limits into the engine's.
func engineResources(resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar, cfs bool) container.Resources {
	var r container.Resources
	if cpus, ok := isolation.ScalarSum(resources, "cpus"); ok {
		r.CPUShares = max(int64(cpus*sharesOfCPU), minShares)
		quota := cpus
		limit, limited := limits["cpus"]
		if limited {
			quota = limit.GetValue()
		}
		if (cfs || limited) && !math.IsInf(quota, 1) {
			r.CPUPeriod, r.CPUQuota = cfsPeriod, max(int64(quota*cfsPeriod), minQuota)
		}
	}
	mem, ok := isolation.ScalarSum(resources, "mem")
	if !ok {
		return r
	}
	r.Memory = max(int64(mem*(1<<20)), minMemory)
	if limit, limited := limits["mem"]; limited {
		r.MemoryReservation = r.Memory
		r.Memory = 0
		if !math.IsInf(limit.GetValue(), 1) {
			r.Memory = max(int64(limit.GetValue()*(1<<20)), r.MemoryReservation)
		}
	}
	return r
}

func (c *create) addNetwork(info *mesos.ContainerInfo, o *Options) error {
	docker := info.GetDocker()
	mode, name := docker.GetNetwork(), ""
	switch mode {
	case mesos.ContainerInfo_DockerInfo_HOST:
		if info.GetHostname() != "" {
			return fmt.Errorf("%w: a container of the host's network has the host's name", ErrInvalid)
		}
		c.HostConfig.NetworkMode = "host"
	case mesos.ContainerInfo_DockerInfo_BRIDGE:
		c.HostConfig.NetworkMode = "bridge"
	case mesos.ContainerInfo_DockerInfo_NONE:
		c.HostConfig.NetworkMode = "none"
	case mesos.ContainerInfo_DockerInfo_USER:
		infos := info.GetNetworkInfos()
		if len(infos) != 1 || infos[0].GetName() == "" {
			return fmt.Errorf("%w: a network of the user's needs exactly one network_infos, with a name", ErrInvalid)
		}
		name = infos[0].GetName()
		c.HostConfig.NetworkMode = container.NetworkMode(name)
	default:
		return fmt.Errorf("%w: unknown network %v", ErrInvalid, mode)
	}
	if o.DNS != nil && !slices.ContainsFunc(docker.GetParameters(), aboutDNS) {
		servers, search, options := o.DNS(mode, name)
		for _, s := range servers {
			if err := c.addDNS(s); err != nil {
				return err
			}
		}
		c.HostConfig.DNSSearch, c.HostConfig.DNSOptions = search, options
	}
	if len(docker.GetPortMappings()) == 0 {
		return nil
	}
	if mode != mesos.ContainerInfo_DockerInfo_BRIDGE && mode != mesos.ContainerInfo_DockerInfo_USER {
		return fmt.Errorf("%w: port mappings need a bridge or a network of the user's", ErrInvalid)
	}
	c.Config.ExposedPorts, c.HostConfig.PortBindings = network.PortSet{}, network.PortMap{}
	for _, m := range docker.GetPortMappings() {
		protocol := "tcp"
		if m.GetProtocol() != "" {
			protocol = strings.ToLower(m.GetProtocol())
		}
		if protocol != "tcp" && protocol != "udp" {
			return fmt.Errorf("%w: port mapping: unknown protocol %q", ErrInvalid, m.GetProtocol())
		}
		port, err := network.ParsePort(fmt.Sprintf("%d/%s", m.GetContainerPort(), protocol))
		if err != nil {
			return fmt.Errorf("%w: port mapping: %w", ErrInvalid, err)
		}
		c.Config.ExposedPorts[port] = struct{}{}
		c.HostConfig.PortBindings[port] = append(c.HostConfig.PortBindings[port], network.PortBinding{HostPort: strconv.Itoa(int(m.GetHostPort()))})
	}
	return nil
}

// aboutDNS says that a parameter is about names: then the framework knows better than
// the operator.
func aboutDNS(p *mesos.Parameter) bool {
	switch p.GetKey() {
	case "dns", "dns-search", "dns-opt", "dns-option":
		return true
	}
	return false
}

func (c *create) addDNS(server string) error {
	addr, err := netip.ParseAddr(server)
	if err != nil {
		return fmt.Errorf("%w: name server: %w", ErrInvalid, err)
	}
	c.HostConfig.DNS = append(c.HostConfig.DNS, addr)
	return nil
}

// addVolumes binds the sandbox and the volumes that are asked for. A relative path
// belongs to the sandbox.
func (c *create) addVolumes(config *isolation.ContainerConfig, o *Options) error {
	c.HostConfig.Binds = []string{config.Sandbox + ":" + o.SandboxDirectory}
	for _, v := range config.ContainerInfo.GetVolumes() {
		if v.GetSource() != nil && v.GetSource().GetType() != mesos.Volume_Source_HOST_PATH && v.GetSource().GetType() != mesos.Volume_Source_DOCKER_VOLUME {
			return fmt.Errorf("%w: volumes of type %v: %w", ErrInvalid, v.GetSource().GetType(), isolation.ErrNotSupported)
		}
		if v.GetImage() != nil {
			return fmt.Errorf("%w: volumes of images: %w", ErrInvalid, isolation.ErrNotSupported)
		}
		source, target := v.GetHostPath(), v.GetContainerPath()
		if p := v.GetSource().GetHostPath(); p != nil {
			source = p.GetPath()
		}
		if d := v.GetSource().GetDockerVolume(); d != nil {
			source, c.HostConfig.VolumeDriver = d.GetName(), d.GetDriver()
		} else if source != "" && !filepath.IsAbs(source) && c.HostConfig.VolumeDriver == "" {
			if !filepath.IsLocal(source) {
				return fmt.Errorf("%w: volume %q leads out of the sandbox", ErrInvalid, source)
			}
			source = filepath.Join(config.Sandbox, source)
		}
		if strings.Contains(source, ":") || strings.Contains(target, ":") {
			return fmt.Errorf("%w: a colon in the path of a volume", ErrInvalid)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(o.SandboxDirectory, target)
		}
		bind := target
		if source != "" {
			bind = source + ":" + target
		}
		if v.GetMode() == mesos.Volume_RO {
			bind += ":ro"
		}
		c.HostConfig.Binds = append(c.HostConfig.Binds, bind)
	}
	return nil
}
