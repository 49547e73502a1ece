package setup

import (
	"clusterd/isolation/isolators/network/cni"
	"clusterd/isolation/isolators/network/portmapping"
	"clusterd/isolation/isolators/network/ports"
)

// NetworkOptions are for the isolators of network/: what the flags say about them, and
// nothing else.
type NetworkOptions struct {
	CNI cni.Options
	// CNIRootDirPersist is --network_cni_root_dir_persist.
	CNIRootDirPersist bool
	PortMapping       portmapping.Options
	Ports             ports.Options
	// AgentPortsOnly is --check_agent_port_range_only.
	AgentPortsOnly bool
}

// cni, portMapping and ports fill in what is not of the flags about networks.
func (b *builder) cni() cni.Options {
	o := b.Network.CNI
	o.StateDir, o.Log = cni.StateDir(b.WorkDir, b.RuntimeDir, b.Network.CNIRootDirPersist), b.log
	return o
}

func (b *builder) portMapping() portmapping.Options {
	o := b.Network.PortMapping
	o.StateDir, o.Log, o.Resources = portmapping.StateDir(b.RuntimeDir), b.log, b.Resources
	return o
}

func (b *builder) ports() ports.Options {
	o := b.Network.Ports
	o.CNI, o.Log = b.wanted[cni.Name], b.log
	if b.Network.AgentPortsOnly {
		o.Isolated = ports.AgentPorts(b.Resources)
	}
	if b.Tree != nil && b.Launcher == "linux" {
		o.Processes = b.Tree.Processes
	}
	return o
}
