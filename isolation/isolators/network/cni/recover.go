package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// Recover takes up containers with networks, and gets rid of networks of containers
// that nobody knows any more. Those of orphans go with their Cleanup.
func (c *CNI) Recover(ctx context.Context, states []isolation.ContainerState, orphans []*mesos.ContainerID) error {
	found, err := c.loadAll()
	if err != nil {
		return err
	}
	c.mu.Lock()
	for _, s := range states { // parents come first
		key := isolation.Key(s.Config.ID)
		own := found[key]
		if own == nil {
			own = &container{id: s.Config.ID}
			if parent := s.Config.ID.GetParent(); parent != nil && joinsParent(s.Config) {
				if p := c.containers[isolation.Key(parent)]; p != nil {
					own.home = p.home
				}
			}
		}
		delete(found, key)
		c.containers[key] = own
	}
	for _, id := range orphans {
		if own := found[isolation.Key(id)]; own != nil {
			c.containers[isolation.Key(id)] = own
			delete(found, isolation.Key(id))
		}
	}
	c.mu.Unlock()
	for key, own := range found {
		c.o.Log.Info().Str("container_id", key).Msg("remove networks of an unknown container")
		if err := c.removeNetworks(ctx, own); err != nil {
			c.o.Log.Error().Err(err).Str("container_id", key).Msg("remove networks of an unknown container")
			continue // the next start of the agent tries again
		}
		c.removeHome(own)
	}
	if c.libcni != nil {
		c.check(ctx)
		c.collect(ctx)
	}
	return nil
}

func joinsParent(config *isolation.ContainerConfig) bool {
	return config.Class == isolation.ClassDebug || len(config.ContainerInfo.GetNetworkInfos()) == 0
}

// loadAll reads the directories of all containers.
func (c *CNI) loadAll() (map[string]*container, error) {
	found := make(map[string]*container)
	if c.o.StateDir == "" {
		return found, nil
	}
	entries, err := os.ReadDir(c.o.StateDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list containers with networks: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		dir := filepath.Join(c.o.StateDir, e.Name())
		own, err := load(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// The agent died before it had written the state, so nothing was done;
			// or after it had undone everything.
			c.removeHome(&container{id: parseID(e.Name()), dir: dir})
		case err != nil:
			c.o.Log.Error().Err(err).Str("container_id", e.Name()).Msg("networks of a container cannot be read")
		default:
			found[e.Name()] = own
		}
	}
	return found, nil
}

// checkTime and checksAtOnce bound how long CHECK may keep an agent from starting.
const (
	checkTime    = 10 * time.Second
	checksAtOnce = 4
)

// check asks the plugins whether living containers' networks are as they should be.
// There is nobody but the operator to tell: a container that cannot be reached is
// what health checks are for.
func (c *CNI) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	slots := make(chan struct{}, checksAtOnce) // one for each that may run
	var wg sync.WaitGroup
	for _, own := range c.homes() {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			for _, n := range own.networks {
				if err := c.checkNetwork(ctx, own, n); err != nil && ctx.Err() == nil {
					c.o.Log.Warn().Err(err).Str("container_id", isolation.Key(own.id)).Str("network", n.Name).
						Msg("CNI network of a container is not as it should be")
				}
			}
		})
	}
	wg.Wait()
}

func (c *CNI) checkNetwork(ctx context.Context, own *container, n *network) error {
	list, rt, err := own.call(n)
	if err != nil || ctx.Err() != nil {
		return err
	}
	if n.result == nil || rt.NetNS == "" || !atLeast(list.CNIVersion, "0.4.0") {
		return nil
	}
	return c.libcni.CheckNetworkList(ctx, list, rt)
}

// collect lets plugins of version 1.1 and above free what belongs to no attachment
// that we know, in all networks of the directory.
func (c *CNI) collect(ctx context.Context) {
	valid := make(map[string][]types.GCAttachment)
	for _, own := range c.homes() {
		for _, n := range own.networks {
			valid[n.Name] = append(valid[n.Name], types.GCAttachment{ContainerID: isolation.Key(own.id), IfName: n.Interface})
		}
	}
	paths, err := libcni.ConfFiles(c.o.ConfigDir, []string{".conf", ".conflist", ".json"})
	if err != nil {
		c.o.Log.Error().Err(err).Msg("list CNI network configurations")
		return
	}
	for _, path := range paths {
		list, err := libcni.NetworkConfFromFile(path)
		if err != nil || len(list.Plugins) == 0 || list.DisableGC || !atLeast(list.CNIVersion, "1.1.0") {
			continue // what is wrong with a file is said to whom uses it
		}
		if err := c.libcni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: valid[list.Name]}); err != nil {
			c.o.Log.Warn().Err(err).Str("network", list.Name).Msg("collect garbage of a CNI network")
		}
	}
}

// homes are the containers with networks of their own.
func (c *CNI) homes() []*container {
	c.mu.Lock()
	defer c.mu.Unlock()
	var homes []*container
	for _, own := range c.containers {
		if own.home == own {
			homes = append(homes, own)
		}
	}
	return homes
}

func atLeast(v, other string) bool {
	ok, err := version.GreaterThanOrEqualTo(v, other)
	return err == nil && ok
}
