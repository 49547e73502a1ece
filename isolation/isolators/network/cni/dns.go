package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ErrContainerDNS says that --default_container_dns does not hold what it should.
var ErrContainerDNS = errors.New("bad default container DNS")

// DNS is how names are resolved.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
	Options     []string `json:"options,omitempty"`
}

// merge appends the lists of o; the last domain stands.
func (d *DNS) merge(o DNS) {
	d.Nameservers = append(d.Nameservers, o.Nameservers...)
	d.Search = append(d.Search, o.Search...)
	d.Options = append(d.Options, o.Options...)
	if o.Domain != "" {
		d.Domain = o.Domain
	}
}

// resolvConf renders d (formatResolverConfig in .../network/cni/spec.cpp).
func (d *DNS) resolvConf() []byte {
	var b bytes.Buffer
	if d.Domain != "" {
		fmt.Fprintf(&b, "domain %s\n", d.Domain)
	}
	if len(d.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Search, " "))
	}
	if len(d.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
	}
	for _, n := range d.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", n)
	}
	return b.Bytes()
}

// DockerDNS is the part of --default_container_dns that is for the docker
// containerizer: BRIDGE's, or that of a user-defined network (every one that has
// none of its own, if the name is empty).
type DockerDNS struct {
	Bridge  bool
	Network string
	DNS     DNS
}

// ContainerDNS is what --default_container_dns says (ContainerDNSInfo in
// src/messages/flags.proto).
type ContainerDNS struct {
	// Networks is DNS by name of CNI network, Default that of all others.
	Networks map[string]DNS
	Default  *DNS
	Docker   []DockerDNS
}

// ParseContainerDNS reads --default_container_dns and refuses what Mesos does
// (src/slave/flags.cpp).
func ParseContainerDNS(text []byte) (*ContainerDNS, error) {
	type entry struct {
		NetworkMode string  `json:"network_mode"`
		NetworkName *string `json:"network_name"`
		DNS         *DNS    `json:"dns"`
	}
	var in struct{ Mesos, Docker []entry }
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContainerDNS, err)
	}
	out := &ContainerDNS{Networks: make(map[string]DNS)}
	for _, e := range in.Mesos {
		if e.DNS == nil {
			return nil, fmt.Errorf("%w: an entry of mesos has no dns", ErrContainerDNS)
		}
		switch {
		case e.NetworkMode == "HOST":
			return nil, fmt.Errorf("%w: the HOST network has the machine's", ErrContainerDNS)
		case e.NetworkMode != "CNI":
			return nil, fmt.Errorf("%w: unknown network mode %q", ErrContainerDNS, e.NetworkMode)
		case e.NetworkName == nil && out.Default != nil:
			return nil, fmt.Errorf("%w: several entries of mode CNI without a network name", ErrContainerDNS)
		case e.NetworkName == nil:
			out.Default = e.DNS
			continue
		}
		if _, twice := out.Networks[*e.NetworkName]; twice {
			return nil, fmt.Errorf("%w: several entries for CNI network %q", ErrContainerDNS, *e.NetworkName)
		}
		out.Networks[*e.NetworkName] = *e.DNS
	}
	seen := make(map[string]bool)
	for _, e := range in.Docker {
		if e.DNS == nil {
			return nil, fmt.Errorf("%w: an entry of docker has no dns", ErrContainerDNS)
		}
		d := DockerDNS{DNS: *e.DNS}
		switch e.NetworkMode {
		case "HOST":
			return nil, fmt.Errorf("%w: the HOST network has the machine's", ErrContainerDNS)
		case "BRIDGE":
			d.Bridge = true
		case "USER":
			if e.NetworkName != nil {
				d.Network = *e.NetworkName
			}
		default:
			return nil, fmt.Errorf("%w: unknown network mode %q", ErrContainerDNS, e.NetworkMode)
		}
		if key := e.NetworkMode + " " + d.Network; seen[key] {
			return nil, fmt.Errorf("%w: several entries of docker for %s", ErrContainerDNS, strings.TrimSpace(key))
		} else {
			seen[key] = true
		}
		out.Docker = append(out.Docker, d)
	}
	return out, nil
}
