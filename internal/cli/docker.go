package cli

import (
	"fmt"
	"slices"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/flags"
	"clusterd/isolation/docker"
	"clusterd/isolation/isolators/network/cni"
)

// containerizers reads --containerizers: names in the order in which they are asked.
func containerizers(v *flags.Values) ([]string, error) {
	names := v.List("containerizers")
	for i, name := range names {
		if name != "mesos" && name != "docker" || slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("--containerizers: %w: expecting mesos, docker or both, each once", flags.ErrInvalidValue)
		}
	}
	return names, nil
}

// dockerOptions reads the flags about the Docker containerizer.
func dockerOptions(v *flags.Values, dns *cni.ContainerDNS) docker.Options {
	o := docker.Options{
		Socket: v.Path("docker_socket"), Config: v.String("docker_config"), SandboxDirectory: v.Path("sandbox_directory"),
		RemoveDelay: v.Duration("docker_remove_delay"), StopTimeout: v.Duration("docker_stop_timeout"), KillOrphans: v.Bool("docker_kill_orphans"),
		MesosImage: v.String("docker_mesos_image"),
	}
	if dns != nil && len(dns.Docker) > 0 {
		o.DNS = func(mode mesos.ContainerInfo_DockerInfo_Network, network string) (servers, search, options []string) {
			d := dockerDNS(dns.Docker, mode, network)
			return d.Nameservers, d.Search, d.Options
		}
	}
	return o
}

// dockerDNS finds what is said about a network: by its name, or about all of the mode
// (src/docker/docker.cpp).
func dockerDNS(all []cni.DockerDNS, mode mesos.ContainerInfo_DockerInfo_Network, network string) cni.DNS {
	var found cni.DNS
	for _, d := range all {
		switch mode {
		case mesos.ContainerInfo_DockerInfo_BRIDGE:
			if d.Bridge {
				return d.DNS
			}
		case mesos.ContainerInfo_DockerInfo_USER:
			if !d.Bridge && d.Network == network {
				return d.DNS
			}
			if !d.Bridge && d.Network == "" {
				found = d.DNS
			}
		default:
		}
	}
	return found
}
