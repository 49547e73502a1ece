package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// Containerizer runs containers of type DOCKER (src/slave/containerizer/docker.cpp).
type Containerizer struct {
	*isolation.Mesos

	options Options
	engine  *client.Client
	files   *isolator
	log     zerolog.Logger

	// base ends with Close; wg waits for what removes containers later.
	base   context.Context //nolint:containedctx // the lifecycle owner
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

var (
	_ isolation.Containerizer = (*Containerizer)(nil)
	_ isolation.Chooser       = (*Containerizer)(nil)
)

// New makes the containerizer. The engine need not be there yet.
func New(o Options, programs *isolation.Programs, log zerolog.Logger) (*Containerizer, error) {
	engine, err := dial(o.Socket)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.dir(), 0o755); err != nil {
		return nil, err
	}
	launcher, err := isolation.NewPosixLauncher(o.dir(), programs, log)
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Containerizer{options: o, engine: engine, log: log, base: ctx, cancel: cancel}
	if c.files, err = newIsolator(c); err != nil {
		cancel()
		return nil, errors.Join(err, launcher.Close(), engine.Close())
	}
	c.Mesos = isolation.NewMesos(launcher, []isolation.Isolator{c.files}, log)
	return c, nil
}

func dial(socket string) (*client.Client, error) {
	if !strings.Contains(socket, "://") {
		socket = "unix://" + socket
	}
	engine, err := client.New(client.WithHost(socket))
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	return engine, nil
}

// Runs says that a container is one for Docker: of type DOCKER, which is also what a
// ContainerInfo without a type says.
func (*Containerizer) Runs(config *isolation.ContainerConfig) bool {
	return config.ContainerInfo != nil && config.ContainerInfo.GetType() == mesos.ContainerInfo_DOCKER
}

// Recover implements isolation.Containerizer.
func (c *Containerizer) Recover(ctx context.Context, known []isolation.ContainerConfig) ([]*mesos.ContainerID, error) {
	if err := c.probe(ctx); err != nil {
		return nil, err
	}
	own := make([]isolation.ContainerConfig, 0, len(known))
	for _, k := range known {
		own = append(own, *c.inner(&k))
	}
	orphans, err := c.Mesos.Recover(ctx, own)
	if err != nil {
		return nil, err
	}
	c.wg.Go(c.clear)
	return orphans, nil
}

// clear removes what an earlier run has left in the engine, now or when it is old enough.
// It waits for an engine that is not there.
func (c *Containerizer) clear() {
	var all []container.Summary
	for {
		list, err := c.engine.ContainerList(c.base, client.ContainerListOptions{
			All: true, Filters: client.Filters{}.Add("label", agentLabel+"="+c.options.owner()),
		})
		if err == nil {
			all = list.Items
			break
		}
		if c.base.Err() != nil {
			return
		}
		c.log.Warn().Err(err).Msg("docker: cannot ask the engine for containers of an earlier run; trying again")
		if !c.sleep(10 * retryInterval) {
			return
		}
	}
	for _, s := range all {
		if err := c.clearOne(&s); err != nil && c.base.Err() == nil {
			c.log.Error().Err(err).Str("container_id", s.Labels[idLabel]).Msg("docker: clear container of an earlier run")
		}
	}
}

// clearOne looks after one container that may be left from an earlier run. One that has
// a runner has the runner's file, those that were launched meanwhile too.
func (c *Containerizer) clearOne(s *container.Summary) error {
	if c.files.owned(s.Labels[idLabel]) {
		return nil
	}
	found, err := c.engine.ContainerInspect(c.base, s.ID, client.ContainerInspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	delay := c.options.RemoveDelay
	if strings.HasSuffix(found.Container.Name, executorSuffix) {
		delay = 0
	}
	state := found.Container.State
	switch {
	case state == nil:
	case state.Running:
		if !c.options.KillOrphans {
			return nil
		}
		c.log.Info().Str("container_id", s.Labels[idLabel]).Msg("docker: destroy orphan container")
		if err := c.stop(c.base, s.ID); err != nil {
			return err
		}
	default:
		if at, err := time.Parse(time.RFC3339Nano, state.FinishedAt); err == nil {
			delay -= time.Since(at)
		}
	}
	c.removeLater(s.ID, delay)
	return nil
}

// retryInterval is the time between questions to an engine that does not answer.
const retryInterval = time.Second

func (c *Containerizer) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.base.Done():
		return false
	}
}

// removeLater deletes an ended engine container after the time it is kept.
func (c *Containerizer) removeLater(id string, delay time.Duration) {
	c.wg.Go(func() {
		if delay > 0 && !c.sleep(delay) {
			return
		}
		_, err := c.engine.ContainerRemove(c.base, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil && !cerrdefs.IsNotFound(err) && c.base.Err() == nil {
			c.log.Warn().Err(err).Str("docker_container", id).Msg("docker: remove container")
		}
	})
}

// stop ends a running engine container: SIGTERM, and SIGKILL after the stop timeout.
func (c *Containerizer) stop(ctx context.Context, id string) error {
	timeout := int(c.options.StopTimeout / time.Second)
	_, err := c.engine.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &timeout})
	if cerrdefs.IsNotFound(err) || cerrdefs.IsNotModified(err) {
		return nil
	}
	return err
}

// inner is what the processes on the machine run as: the runner needs the engine's
// socket, so it is the agent's user; in the container it is the image's.
func (*Containerizer) inner(config *isolation.ContainerConfig) *isolation.ContainerConfig {
	own := *config
	own.User = ""
	own.ContainerInfo = nil
	return &own
}

// Launch implements isolation.Containerizer. The image is pulled first.
func (c *Containerizer) Launch(ctx context.Context, config *isolation.ContainerConfig) error {
	switch {
	case config.ID.GetParent() != nil:
		return fmt.Errorf("docker: nested containers: %w", isolation.ErrNotSupported)
	case !c.Runs(config):
		return fmt.Errorf("docker: containers of other types: %w", isolation.ErrNotSupported)
	case config.ContainerInfo.GetTtyInfo() != nil:
		return fmt.Errorf("%w: terminals are for containers of type MESOS", ErrInvalid)
	}
	if gpus, _ := isolation.ScalarSum(config.Resources, "gpus"); gpus > 0 {
		return fmt.Errorf("%w: GPUs are for containers of type MESOS", ErrInvalid)
	}
	for _, v := range command(config).GetEnvironment().GetVariables() {
		if v.GetType() == mesos.Environment_Variable_SECRET {
			return fmt.Errorf("%w: environment variable %q of type SECRET", ErrInvalid, v.GetName())
		}
	}
	create, err := newCreate(config, &c.options)
	if err != nil {
		return err
	}
	c.files.expect(config, create)
	defer c.files.forget(config.ID)
	if err := c.Mesos.Launch(ctx, c.inner(config)); err != nil {
		return err
	}
	return nil
}

// Update implements isolation.Containerizer. What a command task may use does not
// change.
func (c *Containerizer) Update(ctx context.Context, id *mesos.ContainerID, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error {
	if err := c.Mesos.Update(ctx, id, resources, limits); err != nil {
		return err
	}
	if c.files.ofTask(id) {
		return nil
	}
	r := engineResources(resources, limits, c.options.EnableCFS)
	if r.Memory > 0 {
		r.MemorySwap = -1
	}
	_, err := c.engine.ContainerUpdate(ctx, containerName(id), client.ContainerUpdateOptions{Resources: &r})
	if cerrdefs.IsNotFound(err) { // not made yet, or gone
		return nil
	}
	return err
}

// Usage implements isolation.Containerizer, by the engine's figures.
func (c *Containerizer) Usage(ctx context.Context, id *mesos.ContainerID) (*mesos.ResourceStatistics, error) {
	stats, err := c.Mesos.Usage(ctx, id)
	if err != nil {
		return nil, err
	}
	answer, err := c.engine.ContainerStats(ctx, containerName(id), client.ContainerStatsOptions{})
	if cerrdefs.IsNotFound(err) {
		return stats, nil
	}
	if err != nil {
		return nil, fmt.Errorf("docker: usage: %w", err)
	}
	defer answer.Body.Close()
	var s container.StatsResponse
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		return nil, fmt.Errorf("docker: usage: %w", err)
	}
	addUsage(stats, &s)
	return stats, nil
}

const second = 1e9 // nanoseconds

func addUsage(stats *mesos.ResourceStatistics, s *container.StatsResponse) {
	cpu := s.CPUStats
	stats.CpusUserTimeSecs = new(float64(cpu.CPUUsage.UsageInUsermode) / second)
	stats.CpusSystemTimeSecs = new(float64(cpu.CPUUsage.UsageInKernelmode) / second)
	stats.CpusNrPeriods = new(uint32(cpu.ThrottlingData.Periods))
	stats.CpusNrThrottled = new(uint32(cpu.ThrottlingData.ThrottledPeriods))
	stats.CpusThrottledTimeSecs = new(float64(cpu.ThrottlingData.ThrottledTime) / second)
	stats.MemTotalBytes = new(s.MemoryStats.Usage)
	for _, name := range []string{"total_rss", "rss", "anon"} { // cgroup v1, and v2
		if rss, ok := s.MemoryStats.Stats[name]; ok {
			stats.MemRssBytes = new(rss)
			break
		}
	}
	for _, n := range s.Networks {
		stats.NetRxBytes = new(stats.GetNetRxBytes() + n.RxBytes)
		stats.NetTxBytes = new(stats.GetNetTxBytes() + n.TxBytes)
		stats.NetRxPackets = new(stats.GetNetRxPackets() + n.RxPackets)
		stats.NetTxPackets = new(stats.GetNetTxPackets() + n.TxPackets)
	}
}

// Status implements isolation.Containerizer; addresses are those the engine gives.
func (c *Containerizer) Status(ctx context.Context, id *mesos.ContainerID) (*mesos.ContainerStatus, error) {
	status, err := c.Mesos.Status(ctx, id)
	if err != nil {
		return nil, err
	}
	found, err := c.engine.ContainerInspect(ctx, containerName(id), client.ContainerInspectOptions{})
	if err != nil {
		return status, nil //nolint:nilerr // it may not be made yet, or the engine is away: then there is less to say
	}
	for _, ip := range addresses(&found.Container) {
		protocol := mesos.NetworkInfo_IPv4
		if strings.Contains(ip, ":") {
			protocol = mesos.NetworkInfo_IPv6
		}
		status.NetworkInfos = append(status.NetworkInfos, &mesos.NetworkInfo{
			IpAddresses: []*mesos.NetworkInfo_IPAddress{{Protocol: protocol.Enum(), IpAddress: &ip}},
		})
	}
	return status, nil
}

// PruneImages is the engine's own business.
func (*Containerizer) PruneImages(context.Context, []*mesos.Image) error {
	return isolation.ErrNotSupported
}

// Close implements isolation.Containerizer.
func (c *Containerizer) Close() error {
	c.cancel()
	err := errors.Join(c.Mesos.Close(), c.engine.Close())
	c.wg.Wait()
	return err
}

// addresses are those of a container in its networks.
func addresses(found *container.InspectResponse) []string {
	if found.NetworkSettings == nil {
		return nil
	}
	var all []string
	for _, n := range found.NetworkSettings.Networks {
		if n != nil && n.IPAddress.IsValid() {
			all = append(all, n.IPAddress.String())
		}
	}
	return all
}
