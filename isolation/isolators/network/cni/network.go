package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
	"clusterd/isolation"
	"clusterd/isolation/isolators/network/netns"
)

// Names in StateDir and in a container's directory there.
const (
	// cacheDir is libcni's. No container's id begins with a dot.
	cacheDir  = ".cache"
	stateFile = "state"
	netnsFile = "ns"
)

// network is one that a container is attached to, as it is kept.
type network struct {
	Name      string          `json:"name"`
	Interface string          `json:"interface"`
	List      json.RawMessage `json:"list"`
	Info      json.RawMessage `json:"network_info"`
	Result    json.RawMessage `json:"result,omitempty"`

	info   *mesos.NetworkInfo
	result *result
}

// result is what ADD answered.
type result types100.Result

func (r *result) addresses() []string {
	var out []string
	for _, ip := range r.IPs {
		out = append(out, ip.Address.String())
	}
	return out
}

func (r *result) dns() DNS {
	if r == nil {
		return DNS{}
	}
	return DNS{Nameservers: r.DNS.Nameservers, Domain: r.DNS.Domain, Search: r.DNS.Search, Options: r.DNS.Options}
}

// first is the first address of a family.
func (r *result) first(v6 bool) string {
	if r == nil {
		return ""
	}
	for _, ip := range r.IPs {
		if (ip.Address.IP.To4() == nil) == v6 {
			return ip.Address.IP.String()
		}
	}
	return ""
}

func (own *container) firstAddress(v6 bool) string {
	for _, n := range own.networks {
		if ip := n.result.first(v6); ip != "" {
			return ip
		}
	}
	return ""
}

// networkInfo is what the framework asked for with what it got.
func (n *network) networkInfo() *mesos.NetworkInfo {
	info := proto.CloneOf(n.info)
	info.IpAddresses = nil
	for _, ip := range n.result.IPs {
		protocol := mesos.NetworkInfo_IPv4
		if ip.Address.IP.To4() == nil {
			protocol = mesos.NetworkInfo_IPv6
		}
		info.IpAddresses = append(info.IpAddresses, &mesos.NetworkInfo_IPAddress{
			Protocol: protocol.Enum(), IpAddress: new(ip.Address.IP.String()),
		})
	}
	return info
}

func (own *container) netns() string { return filepath.Join(own.dir, netnsFile) }

// call is what libcni is called with.
func (own *container) call(n *network) (*libcni.NetworkConfigList, *libcni.RuntimeConf, error) {
	list, err := libcni.NetworkConfFromBytes(n.List)
	if err != nil {
		return nil, nil, err
	}
	rt := &libcni.RuntimeConf{
		ContainerID: isolation.Key(own.id), IfName: n.Interface, CapabilityArgs: capabilityArgs(n.info),
	}
	// After a reboot there is no namespace, and DEL without it takes back the rest.
	if netns.Held(own.netns()) {
		rt.NetNS = own.netns()
	}
	return list, rt, nil
}

func (c *CNI) add(ctx context.Context, own *container, n *network) (*result, error) {
	list, rt, err := own.call(n)
	if err != nil {
		return nil, err
	}
	answer, err := c.libcni.AddNetworkList(ctx, list, rt)
	if err != nil {
		return nil, err
	}
	return resultOf(answer)
}

func (c *CNI) del(ctx context.Context, own *container, n *network) error {
	list, rt, err := own.call(n)
	if err != nil {
		return err
	}
	return c.libcni.DelNetworkList(ctx, list, rt)
}

func resultOf(answer types.Result) (*result, error) {
	r, err := types100.NewResultFromResult(answer)
	if err != nil {
		return nil, fmt.Errorf("result of the plugin: %w", err)
	}
	return (*result)(r), nil
}

// addUsage runs in the container's network namespace.
func addUsage(names map[string]bool, stats *mesos.ResourceStatistics) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list a container's links: %w", err)
	}
	for _, l := range links {
		if names[l.Attrs().Name] {
			netns.AddLinkStatistics(stats, l.Attrs().Statistics)
		}
	}
	return nil
}

// makeHome makes the directory of a container with networks of its own. The files
// in it are there from the beginning, as mounts need them.
func (c *CNI) makeHome(own *container) error {
	if err := os.MkdirAll(own.dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of a container's networks: %w", err)
	}
	for _, name := range [...]string{hostsFile, hostnameFile, resolvFile} {
		if err := os.WriteFile(filepath.Join(own.dir, name), nil, 0o644); err != nil { //nolint:gosec // the task's user reads it
			return fmt.Errorf("make the container's /etc/%s: %w", name, err)
		}
	}
	return own.save()
}

// removeHome removes what makeHome made; the namespace is released already.
func (c *CNI) removeHome(own *container) {
	if own.dir == "" || netns.Held(own.netns()) {
		return
	}
	if err := os.RemoveAll(own.dir); err != nil {
		c.o.Log.Error().Err(err).Str("container_id", isolation.Key(own.id)).Msg("remove the directory of a container's networks")
	}
}

// state is the state file.
type state struct {
	Hostname string     `json:"hostname"`
	Networks []*network `json:"networks"`
}

// save writes the state file. The rename makes it whole or not at all; it need not
// survive the machine's crash better than the namespaces do.
func (own *container) save() error {
	own.mu.Lock()
	defer own.mu.Unlock()
	for _, n := range own.networks {
		info, err := mesosjson.Marshal(n.info)
		if err != nil {
			return err
		}
		n.Info = info
		if n.result != nil {
			if n.Result, err = json.Marshal((*types100.Result)(n.result)); err != nil {
				return err
			}
		}
	}
	b, err := json.MarshalIndent(state{Hostname: own.hostname, Networks: own.networks}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(own.dir, stateFile)
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return fmt.Errorf("keep a container's networks: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("keep a container's networks: %w", err)
	}
	return nil
}

// load reads what save wrote.
func load(dir string) (*container, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, stateFile), err)
	}
	own := &container{id: parseID(filepath.Base(dir)), dir: dir, hostname: s.Hostname, networks: s.Networks}
	own.home = own
	for _, n := range own.networks {
		n.info = &mesos.NetworkInfo{}
		if err := mesosjson.Unmarshal(n.Info, n.info); err != nil {
			return nil, err
		}
		if len(n.Result) == 0 {
			continue
		}
		r := &types100.Result{}
		if err := json.Unmarshal(n.Result, r); err != nil {
			return nil, err
		}
		n.result = (*result)(r)
	}
	return own, nil
}
