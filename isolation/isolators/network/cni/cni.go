// Package cni is the isolator network/cni: containers get network namespaces of
// their own, which CNI plugins connect to networks, and files in /etc that fit
// (src/slave/containerizer/mesos/isolators/network/cni).
//
// CNI is the isolator; New makes it of Options. What it must know to take a
// network away again is kept in a directory per container, written before the first
// plugin runs: DEL comes after any crash, in the same form as ADD. The network
// namespace is kept by a mount there, so that plugins find it when the container's
// processes have gone. Its methods are safe for concurrent use; calls for one
// container come one after the other, as isolation.Isolator says. isolation/setup
// imports it.
package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolators/network/netns"
)

// Options are what the agent's flags say.
type Options struct {
	// PluginDirs (--network_cni_plugins_dir) is where plugins are looked for,
	// ConfigDir (--network_cni_config_dir) where networks are described. Both or none:
	// without them there is only the machine's own network.
	PluginDirs []string
	ConfigDir  string
	// StateDir is where the isolator keeps what it must remember; see StateDir.
	StateDir string
	// Metrics (--network_cni_metrics) adds what the interfaces carried to statistics.
	Metrics bool
	// DNS (--default_container_dns) is for networks whose plugins say nothing.
	DNS *ContainerDNS
	Log zerolog.Logger
}

// StateDir is the directory for Options.StateDir: in the runtime directory, or with
// --network_cni_root_dir_persist in the work directory, where it outlives a reboot.
func StateDir(workDir, runtimeDir string, persist bool) string {
	if persist {
		return filepath.Join(workDir, "isolators", "network", "cni")
	}
	return filepath.Join(runtimeDir, "isolators", "network", "cni")
}

// Name is what --isolation knows the isolator by.
const Name = "network/cni"

// maxHostname is the longest name that a machine can have.
const maxHostname = 64

// CNI is the isolator network/cni.
type CNI struct {
	isolation.BaseIsolator
	o      Options
	libcni *libcni.CNIConfig

	mu sync.Mutex
	// containers is guarded by mu.
	containers map[string]*container
}

// container is what is known of one. Its fields do not change once it is in the
// map, but for networks[].result, which Isolate sets.
type container struct {
	id *mesos.ContainerID
	// home owns the network namespace that the container lives in: itself, the
	// one it is nested in, or nil for the machine's network.
	home *container
	// dir, hostname and networks are those of a home.
	dir      string
	hostname string
	networks []*network

	// mu guards the results.
	mu sync.Mutex
}

var _ isolation.Isolator = (*CNI)(nil)

// New makes the isolator.
func New(o Options) (*CNI, error) {
	c := &CNI{o: o, containers: make(map[string]*container)}
	switch {
	case o.ConfigDir == "" && len(o.PluginDirs) == 0:
		return c, nil
	case len(o.PluginDirs) == 0:
		return nil, errors.New("network/cni with --network_cni_config_dir needs --network_cni_plugins_dir")
	case o.ConfigDir == "":
		return nil, errors.New("network/cni with --network_cni_plugins_dir needs --network_cni_config_dir")
	case os.Geteuid() != 0:
		return nil, errors.New("network/cni with networks needs root")
	}
	if info, err := os.Stat(o.ConfigDir); err != nil {
		return nil, fmt.Errorf("--network_cni_config_dir: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("--network_cni_config_dir %s: %w", o.ConfigDir, syscall.ENOTDIR)
	}
	if err := os.MkdirAll(o.StateDir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of network/cni: %w", err)
	}
	// The cache is what libcni remembers of ADD; CHECK and DEL get the result from it.
	c.libcni = libcni.NewCNIConfigWithCacheDir(o.PluginDirs, filepath.Join(o.StateDir, cacheDir), nil)
	return c, nil
}

// Name is "network/cni".
func (c *CNI) Name() string { return Name }

// Prepare finds the networks and says which namespaces and which files in /etc the
// container gets. The files' contents follow in Isolate, when the plugins have said
// what the addresses are.
func (c *CNI) Prepare(_ context.Context, config *isolation.ContainerConfig) (*isolation.Preparation, error) {
	if c.get(config.ID) != nil {
		return nil, fmt.Errorf("container %s: %w", isolation.Key(config.ID), isolation.ErrContainerExists)
	}
	own, err := c.plan(config)
	if err != nil {
		return nil, err
	}
	p := &isolation.Preparation{}
	switch {
	case own.home == nil && (config.RootFS == "" || config.Class == isolation.ClassDebug):
		p = nil // the machine's network and the machine's files, or the parent's
	case own.home == nil:
		p.Mounts = machineFiles()
	case own.home == own:
		if err := c.makeHome(own); err != nil {
			c.removeHome(own)
			return nil, err
		}
		p.CloneFlags = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS
		p.Hostname = own.hostname
		p.Mounts = own.mounts()
	case config.Class == isolation.ClassDebug:
		// It is in the parent's mount namespace and sees the parent's files.
		p.EnterFlags = unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWNS
	default:
		p.CloneFlags = unix.CLONE_NEWNS
		p.EnterFlags = unix.CLONE_NEWNET | unix.CLONE_NEWUTS
		p.Mounts = own.home.mounts()
	}
	if p != nil && own.home != nil {
		// An executor must bind to the container's address, not to the agent's.
		p.Env = map[string]string{"LIBPROCESS_IP": "0.0.0.0"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.containers[isolation.Key(config.ID)] = own
	return p, nil
}

// plan finds out which network the container is to live in.
func (c *CNI) plan(config *isolation.ContainerConfig) (*container, error) {
	own := &container{id: config.ID}
	infos := config.ContainerInfo.GetNetworkInfos()
	if parent := config.ID.GetParent(); parent != nil && (config.Class == isolation.ClassDebug || len(infos) == 0) {
		if p := c.get(parent); p != nil {
			own.home = p.home
		}
		return own, nil
	}
	if config.ContainerInfo != nil && config.ContainerInfo.GetType() != mesos.ContainerInfo_MESOS {
		return nil, errors.New("only a container of type MESOS can join CNI networks")
	}
	seen := make(map[string]bool)
	for _, info := range infos {
		if info.Name == nil {
			continue
		}
		if seen[info.GetName()] {
			return nil, fmt.Errorf("attempted to join CNI network %q multiple times", info.GetName())
		}
		seen[info.GetName()] = true
		list, err := c.listFor(info)
		if err != nil {
			return nil, err
		}
		own.networks = append(own.networks, &network{
			Name: info.GetName(), Interface: "eth" + strconv.Itoa(len(own.networks)), List: list, info: info,
		})
	}
	if len(own.networks) == 0 {
		return own, nil
	}
	own.home = own
	own.dir = filepath.Join(c.o.StateDir, isolation.Key(config.ID))
	own.hostname = config.ContainerInfo.GetHostname()
	if len(own.hostname) > maxHostname {
		return nil, fmt.Errorf("hostname %q is longer than %d bytes", own.hostname, maxHostname)
	}
	if own.hostname == "" {
		// Only the last part of a nested container's id, to stay short.
		own.hostname = config.ID.GetValue()
		own.hostname = own.hostname[:min(len(own.hostname), maxHostname)]
	}
	return own, nil
}

// Isolate connects the container's network namespace. When that fails, Cleanup takes
// back what was done.
func (c *CNI) Isolate(ctx context.Context, id *mesos.ContainerID, pid int) error {
	own, err := c.known(id)
	if err != nil {
		return err
	}
	if own.home != own {
		return nil
	}
	if err := netns.Hold(pid, own.netns()); err != nil {
		return err
	}
	if err := netns.Do(own.netns(), furnish); err != nil {
		return err
	}
	// One after the other: plugins must not run at once for one container, and the
	// first network's default route stands.
	for _, n := range own.networks {
		start := time.Now()
		result, err := c.add(ctx, own, n)
		if err != nil {
			return fmt.Errorf("attach container %s to CNI network %q: %w", isolation.Key(id), n.Name, err)
		}
		own.mu.Lock()
		n.result = result
		own.mu.Unlock()
		c.o.Log.Info().Str("container_id", isolation.Key(id)).Str("network", n.Name).Strs("addresses", result.addresses()).
			Dur("took", time.Since(start)).Msg("container attached to CNI network")
	}
	if err := own.save(); err != nil {
		return err
	}
	return c.writeFiles(own)
}

// furnish makes a new network namespace, which is the current one, fit to live in.
func furnish() error {
	if err := netns.OpenPorts(); err != nil {
		return fmt.Errorf("open the ports of the network namespace: %w", err)
	}
	return netns.SetLoopbackUp()
}

// Watch never reports anything.
func (c *CNI) Watch(id *mesos.ContainerID) (<-chan isolation.Limitation, error) {
	_, err := c.known(id)
	return nil, err
}

// Update does nothing: networks stay.
func (c *CNI) Update(_ context.Context, id *mesos.ContainerID, _ []*mesos.Resource, _ map[string]*mesos.Value_Scalar) error {
	_, err := c.known(id)
	return err
}

// Usage adds what the container's interfaces carried. Of a nested container that
// shares its parent's network nothing is said.
func (c *CNI) Usage(_ context.Context, id *mesos.ContainerID, stats *mesos.ResourceStatistics) error {
	own, err := c.known(id)
	if err != nil || own.home != own || !c.o.Metrics || !netns.Held(own.netns()) {
		return err
	}
	links := make(map[string]bool)
	for _, n := range own.networks {
		links[n.Interface] = true
	}
	return netns.Do(own.netns(), func() error { return addUsage(links, stats) })
}

// Status says which addresses the container has.
func (c *CNI) Status(_ context.Context, id *mesos.ContainerID, status *mesos.ContainerStatus) error {
	own, err := c.known(id)
	if err != nil || own.home == nil {
		return err
	}
	home := own.home
	home.mu.Lock()
	defer home.mu.Unlock()
	for _, n := range home.networks {
		if n.result != nil {
			status.NetworkInfos = append(status.NetworkInfos, n.networkInfo())
		}
	}
	return nil
}

// Cleanup takes the container off its networks. What fails is tried again by the
// next Cleanup, or when the agent starts again.
func (c *CNI) Cleanup(ctx context.Context, id *mesos.ContainerID) error {
	own := c.get(id)
	if own == nil {
		return nil
	}
	if own.home == own {
		if err := c.removeNetworks(ctx, own); err != nil {
			return err
		}
		c.removeHome(own)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.containers, isolation.Key(id))
	return nil
}

// removeNetworks calls DEL for every network, for those too whose ADD was not
// reached or failed half way.
func (c *CNI) removeNetworks(ctx context.Context, own *container) error {
	var errs []error
	for _, n := range slices.Backward(own.networks) {
		if err := c.del(ctx, own, n); err != nil {
			errs = append(errs, fmt.Errorf("detach container %s from CNI network %q: %w", isolation.Key(own.id), n.Name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return netns.Release(own.netns())
}

func (c *CNI) get(id *mesos.ContainerID) *container {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.containers[isolation.Key(id)]
}

func (c *CNI) known(id *mesos.ContainerID) (*container, error) {
	own := c.get(id)
	if own == nil {
		return nil, fmt.Errorf("container %s: %w", isolation.Key(id), isolation.ErrUnknownContainer)
	}
	return own, nil
}

// parseID is the reverse of isolation.Key.
func parseID(key string) *mesos.ContainerID {
	var id *mesos.ContainerID
	for value := range strings.SplitSeq(key, ".") {
		id = &mesos.ContainerID{Value: &value, Parent: id}
	}
	return id
}
