package isolation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
)

// Mesos is the containerizer of that name in Mesos: a launcher and isolators,
// composed (src/slave/containerizer/mesos/containerizer.cpp).
type Mesos struct {
	launcher  Launcher
	isolators []Isolator
	log       zerolog.Logger
	// base ends with Close: what the containerizer does on its own runs under
	// it.
	base   context.Context //nolint:containedctx // the lifecycle owner
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu sync.Mutex
	// containers and closed are guarded by mu.
	containers map[string]*container
	closed     bool
}

var _ Containerizer = (*Mesos)(nil)

// container is one container from Launch or Recover until Remove.
type container struct {
	id *mesos.ContainerID
	// launched is closed when Launch has succeeded or failed.
	launched chan struct{}
	// abort cancels a launch under way.
	abort context.CancelFunc
	// ended is closed when nothing is left and isolators have cleaned up;
	// termination is set before.
	ended       chan struct{}
	termination Termination

	mu sync.Mutex
	// what follows is guarded by mu.
	config      *ContainerConfig
	destroyed   bool
	limitations []Limitation
}

// NewMesos composes a containerizer. Isolators prepare in the given order and
// clean up in the reverse one.
func NewMesos(launcher Launcher, isolators []Isolator, log zerolog.Logger) *Mesos {
	ctx, cancel := context.WithCancel(context.Background())
	return &Mesos{
		launcher: launcher, isolators: isolators, log: log,
		base: ctx, cancel: cancel, containers: make(map[string]*container),
	}
}

func newContainer(config *ContainerConfig, abort context.CancelFunc) *container {
	return &container{
		id: config.ID, config: config, abort: abort,
		launched: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Recover implements Containerizer.
func (m *Mesos) Recover(ctx context.Context, known []ContainerConfig) ([]*mesos.ContainerID, error) {
	found, err := m.launcher.Recover(ctx)
	if err != nil {
		return nil, err
	}
	running := make(map[string]bool, len(found))
	for _, id := range found {
		running[Key(id)] = true
	}
	var states []ContainerState
	var alive, lost []*container
	for i := range known {
		config := &known[i]
		if err := ValidateID(config.ID); err != nil {
			return nil, err
		}
		c := newContainer(config, func() {})
		close(c.launched)
		if !running[Key(config.ID)] {
			lost = append(lost, c)
			continue
		}
		delete(running, Key(config.ID))
		alive = append(alive, c)
		status, err := m.launcher.Status(config.ID)
		if err != nil {
			return nil, err
		}
		states = append(states, ContainerState{Config: config, PID: status.Supervisor})
	}
	found = slices.DeleteFunc(found, func(id *mesos.ContainerID) bool { return !running[Key(id)] })
	for _, isolator := range m.isolators {
		if err := isolator.Recover(ctx, states, found); err != nil {
			return nil, fmt.Errorf("recover isolator %s: %w", isolator.Name(), err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range lost {
		c.termination = Termination{Message: "no trace of the container was found"}
		m.cleanup(ctx, c.id)
		close(c.ended)
		m.containers[Key(c.id)] = c
	}
	for _, c := range alive {
		m.containers[Key(c.id)] = c
		if err := m.watch(c); err != nil {
			return nil, err
		}
	}
	return found, m.destroyOrphans(ctx, found)
}

func (m *Mesos) destroyOrphans(ctx context.Context, orphans []*mesos.ContainerID) error {
	errs := make([]error, len(orphans))
	var wg sync.WaitGroup
	for i, id := range orphans {
		wg.Go(func() {
			m.log.Info().Str("container_id", Key(id)).Msg("destroy orphan container")
			if err := m.launcher.Destroy(ctx, id); err != nil {
				errs[i] = fmt.Errorf("destroy orphan container %s: %w", Key(id), err)
				return
			}
			m.cleanup(ctx, id)
			errs[i] = m.launcher.Remove(id)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Launch implements Containerizer.
func (m *Mesos) Launch(ctx context.Context, config *ContainerConfig) error {
	if err := validateConfig(config); err != nil {
		return err
	}
	ctx, abort := context.WithCancel(ctx)
	defer abort()
	c := newContainer(config, abort)
	defer close(c.launched)
	m.mu.Lock()
	switch _, exists := m.containers[Key(c.id)]; {
	case m.closed:
		m.mu.Unlock()
		return ErrClosed
	case exists:
		m.mu.Unlock()
		return fmt.Errorf("container %s: %w", Key(c.id), ErrContainerExists)
	}
	m.containers[Key(c.id)] = c
	m.mu.Unlock()

	err := m.launch(ctx, c)
	if err == nil {
		err = m.watch(c)
	}
	if err == nil {
		return nil
	}
	c.mu.Lock()
	destroyed := c.destroyed
	c.mu.Unlock()
	if destroyed {
		err = fmt.Errorf("container %s: %w", Key(c.id), ErrDestroyed)
	}
	m.undo(c, err, destroyed)
	return err
}

// launch takes the steps of a launch.
func (m *Mesos) launch(ctx context.Context, c *container) error {
	env := make(map[string]string, len(c.config.Env)+8)
	maps.Copy(env, c.config.Env)
	var flags uintptr
	for _, isolator := range m.isolators {
		p, err := isolator.Prepare(ctx, c.config)
		if err != nil {
			return fmt.Errorf("prepare isolator %s: %w", isolator.Name(), err)
		}
		if p == nil {
			continue
		}
		maps.Copy(env, p.Env)
		flags |= p.CloneFlags
	}
	info, err := launchInfo(c.config, env)
	if err != nil {
		return err
	}
	info.CloneFlags = flags
	pid, err := m.launcher.Fork(ctx, c.id, &ForkInfo{Builtin: c.config.Builtin, CloneFlags: flags})
	if err != nil {
		return err
	}
	for _, isolator := range m.isolators {
		if err := isolator.Isolate(ctx, c.id, pid); err != nil {
			return fmt.Errorf("isolator %s: %w", isolator.Name(), err)
		}
	}
	return m.launcher.Start(ctx, c.id, info)
}

// undo leaves nothing of a failed launch. It works even when the caller has
// gone: the context of the launch may be over.
func (m *Mesos) undo(c *container, cause error, destroyed bool) {
	if !errors.Is(cause, ErrContainerExists) {
		ctx, cancel := context.WithTimeout(m.base, time.Minute)
		defer cancel()
		err := m.launcher.Destroy(ctx, c.id)
		if err == nil {
			m.cleanup(ctx, c.id)
			err = m.launcher.Remove(c.id)
		} else if errors.Is(err, ErrUnknownContainer) { // Fork was not reached
			m.cleanup(ctx, c.id)
			err = nil
		}
		if err != nil {
			m.log.Error().Err(err).Str("container_id", Key(c.id)).Msg("undo a failed launch")
		}
	}
	m.mu.Lock()
	delete(m.containers, Key(c.id))
	m.mu.Unlock()
	c.termination = Termination{Destroyed: destroyed, Message: cause.Error()}
	close(c.ended)
}

// watch follows a container that runs, or has run.
func (m *Mesos) watch(c *container) error {
	watched, stop := context.WithCancel(m.base)
	for _, isolator := range m.isolators {
		limits, err := isolator.Watch(c.id)
		if err != nil {
			stop()
			return fmt.Errorf("watch isolator %s: %w", isolator.Name(), err)
		}
		if limits == nil {
			continue
		}
		m.wg.Go(func() {
			select {
			case limitation := <-limits:
				m.limited(c, limitation)
			case <-watched.Done():
			}
		})
	}
	m.wg.Go(func() {
		defer stop()
		status, err := m.launcher.Wait(m.base, c.id)
		if err != nil {
			if m.base.Err() == nil && !errors.Is(err, ErrUnknownContainer) {
				m.log.Error().Err(err).Str("container_id", Key(c.id)).Msg("wait for container")
			}
			return
		}
		m.postMortem(c)
		m.cleanup(m.base, c.id)
		c.mu.Lock()
		c.termination = terminationOf(status, c.destroyed, c.limitations)
		c.mu.Unlock()
		close(c.ended)
	})
	return nil
}

// limited destroys a container that reached a limit.
func (m *Mesos) limited(c *container, limitation Limitation) {
	m.log.Info().Str("container_id", Key(c.id)).Str("limitation", limitation.Message).Msg("container reached a limit")
	c.mu.Lock()
	c.limitations = append(c.limitations, limitation)
	c.destroyed = true
	c.mu.Unlock()
	if err := m.launcher.Destroy(m.base, c.id); err != nil && m.base.Err() == nil {
		m.log.Error().Err(err).Str("container_id", Key(c.id)).Msg("destroy container")
	}
}

// postMortem asks which limit has ended a container: its processes may be gone before
// the report of that comes.
func (m *Mesos) postMortem(c *container) {
	for _, isolator := range m.isolators {
		i, ok := isolator.(PostMortem)
		if !ok {
			continue
		}
		if limitation, ok := i.Reached(m.base, c.id); ok {
			m.log.Info().Str("container_id", Key(c.id)).Str("limitation", limitation.Message).Msg("container ended at a limit")
			c.mu.Lock()
			c.limitations = append(c.limitations, limitation)
			c.destroyed = true
			c.mu.Unlock()
		}
	}
}

// cleanup lets the isolators forget a container, last one first.
func (m *Mesos) cleanup(ctx context.Context, id *mesos.ContainerID) {
	for _, isolator := range slices.Backward(m.isolators) {
		if err := isolator.Cleanup(ctx, id); err != nil {
			m.log.Error().Err(err).Str("container_id", Key(id)).Str("isolator", isolator.Name()).Msg("clean up container")
		}
	}
}

// Update implements Containerizer.
func (m *Mesos) Update(ctx context.Context, id *mesos.ContainerID, resources []*mesos.Resource, limits map[string]*mesos.Value_Scalar) error {
	c, err := m.get(id)
	if err != nil {
		return err
	}
	select {
	case <-c.launched:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, isolator := range m.isolators {
		if err := isolator.Update(ctx, id, resources, limits); err != nil {
			return fmt.Errorf("update isolator %s: %w", isolator.Name(), err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	config := *c.config
	config.Resources, config.Limits = resources, limits
	c.config = &config
	return nil
}

// Usage implements Containerizer.
func (m *Mesos) Usage(ctx context.Context, id *mesos.ContainerID) (*mesos.ResourceStatistics, error) {
	c, err := m.get(id)
	if err != nil {
		return nil, err
	}
	stats := &mesos.ResourceStatistics{Timestamp: new(float64(time.Now().UnixMicro()) / 1e6)}
	for _, isolator := range m.isolators {
		if err := isolator.Usage(ctx, id, stats); err != nil {
			return nil, fmt.Errorf("usage by isolator %s: %w", isolator.Name(), err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	addAllocation(stats, c.config)
	return stats, nil
}

// Status implements Containerizer.
func (m *Mesos) Status(ctx context.Context, id *mesos.ContainerID) (*mesos.ContainerStatus, error) {
	if _, err := m.get(id); err != nil {
		return nil, err
	}
	status := &mesos.ContainerStatus{ContainerId: id}
	if s, err := m.launcher.Status(id); err == nil && s.PID != 0 {
		status.ExecutorPid = new(uint32(s.PID))
	}
	for _, isolator := range m.isolators {
		if err := isolator.Status(ctx, id, status); err != nil {
			return nil, fmt.Errorf("status by isolator %s: %w", isolator.Name(), err)
		}
	}
	return status, nil
}

// Wait implements Containerizer.
func (m *Mesos) Wait(ctx context.Context, id *mesos.ContainerID) (Termination, error) {
	c, err := m.get(id)
	if err != nil {
		return Termination{}, err
	}
	select {
	case <-c.ended:
		return c.termination, nil
	case <-ctx.Done():
		return Termination{}, ctx.Err()
	case <-m.base.Done():
		return Termination{}, ErrClosed
	}
}

// Destroy implements Containerizer.
func (m *Mesos) Destroy(ctx context.Context, id *mesos.ContainerID) error {
	c, err := m.get(id)
	if err != nil {
		return err
	}
	select {
	case <-c.ended:
		return nil
	default:
	}
	c.mu.Lock()
	c.destroyed = true
	c.mu.Unlock()
	c.abort()
	select {
	case <-c.launched:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := m.launcher.Destroy(ctx, id); err != nil && !errors.Is(err, ErrUnknownContainer) {
		return err
	}
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-m.base.Done():
		return ErrClosed
	}
}

// Attach implements Containerizer.
func (m *Mesos) Attach(_ context.Context, id *mesos.ContainerID) (Attachment, error) {
	if _, err := m.get(id); err != nil {
		return nil, err
	}
	return nil, ErrNotAttachable
}

// Kill implements Containerizer.
func (m *Mesos) Kill(_ context.Context, id *mesos.ContainerID, _ syscall.Signal) error {
	if _, err := m.get(id); err != nil {
		return err
	}
	return ErrNotSupported
}

// PruneImages implements Containerizer.
func (m *Mesos) PruneImages(context.Context, []*mesos.Image) error { return ErrNotSupported }

// Remove implements Containerizer.
func (m *Mesos) Remove(_ context.Context, id *mesos.ContainerID) error {
	c, err := m.get(id)
	if err != nil {
		return nil
	}
	select {
	case <-c.ended:
	default:
		return fmt.Errorf("remove container %s: still running", Key(id))
	}
	if err := m.launcher.Remove(id); err != nil && !errors.Is(err, ErrUnknownContainer) {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.containers, Key(id))
	return nil
}

// Containers implements Containerizer.
func (m *Mesos) Containers() []*mesos.ContainerID {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make([]*mesos.ContainerID, 0, len(m.containers))
	for _, c := range m.containers {
		ids = append(ids, c.id)
	}
	slices.SortFunc(ids, func(a, b *mesos.ContainerID) int { return strings.Compare(Key(a), Key(b)) })
	return ids
}

// Close implements Containerizer.
func (m *Mesos) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	errs := []error{m.launcher.Close()}
	m.wg.Wait()
	for _, isolator := range m.isolators {
		if c, ok := isolator.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

func (m *Mesos) get(id *mesos.ContainerID) (*container, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.containers[Key(id)]
	if !ok {
		return nil, fmt.Errorf("container %s: %w", Key(id), ErrUnknownContainer)
	}
	return c, nil
}

func validateConfig(config *ContainerConfig) error {
	if err := ValidateID(config.ID); err != nil {
		return err
	}
	if config.ID.GetParent() != nil {
		return fmt.Errorf("nested container %s: %w", Key(config.ID), ErrNotSupported)
	}
	if !filepath.IsAbs(config.Sandbox) {
		return fmt.Errorf("container %s: sandbox %q is not an absolute path", Key(config.ID), config.Sandbox)
	}
	if image := config.ContainerInfo.GetMesos().GetImage(); image != nil {
		return fmt.Errorf("container image: %w", ErrNotSupported)
	}
	// As filesystem/posix does (src/slave/containerizer/mesos/isolators/filesystem/
	// posix.cpp): better no container than one without its data.
	if len(config.ContainerInfo.GetVolumes()) > 0 {
		return fmt.Errorf("volumes in ContainerInfo: %w without filesystem/linux", ErrNotSupported)
	}
	// A missing ContainerInfo has the first type of the enumeration: DOCKER.
	if config.ContainerInfo != nil && config.ContainerInfo.GetType() == mesos.ContainerInfo_DOCKER {
		return fmt.Errorf("container of type DOCKER: %w", ErrNotSupported)
	}
	return nil
}

// launchInfo says what to execute. The environment is, lowest first: what the
// agent gives, what isolators add, what the command asks for.
func launchInfo(config *ContainerConfig, env map[string]string) (*LaunchInfo, error) {
	for _, v := range config.Command.GetEnvironment().GetVariables() {
		if v.GetType() == mesos.Environment_Variable_SECRET {
			return nil, fmt.Errorf("environment variable %q of type SECRET: %w", v.GetName(), ErrNotSupported)
		}
		env[v.GetName()] = v.GetValue()
	}
	info := &LaunchInfo{
		Builtin: config.Builtin,
		Env:     make([]string, 0, len(env)),
		Dir:     config.Sandbox,
		Stdout:  config.Stdout,
		Stderr:  config.Stderr,
		User:    config.User,
	}
	config.setStreams(info)
	for k, v := range env {
		info.Env = append(info.Env, k+"="+v)
	}
	slices.Sort(info.Env)
	if info.Stdout == "" {
		info.Stdout = filepath.Join(config.Sandbox, "stdout")
	}
	if info.Stderr == "" {
		info.Stderr = filepath.Join(config.Sandbox, "stderr")
	}
	if config.Builtin != BuiltinNone {
		return info, nil
	}
	command := config.Command
	if command.GetValue() == "" {
		return nil, &LaunchError{Err: syscall.EINVAL, Message: "the command has no value"}
	}
	if command.GetShell() {
		info.Path, info.Argv = "/bin/sh", []string{"sh", "-c", command.GetValue()}
		return info, nil
	}
	info.Path, info.Argv = command.GetValue(), command.GetArguments()
	if len(info.Argv) == 0 { // Linux itself puts an empty argv[0] here
		info.Argv = []string{command.GetValue()}
	}
	return info, nil
}

// terminationOf puts together how a container ended.
func terminationOf(status ExitStatus, destroyed bool, limitations []Limitation) Termination {
	t := Termination{StatusKnown: status.Known, Status: status.Status, Destroyed: destroyed, Limitations: limitations}
	switch {
	case len(limitations) > 0:
		t.Reason = limitations[0].Reason.Enum()
		messages := make([]string, 0, len(limitations))
		for _, l := range limitations {
			messages = append(messages, l.Message)
		}
		t.Message = strings.Join(messages, "; ")
	case destroyed:
		t.Message = "Container was destroyed"
	case !status.Known:
		t.Message = "Exit status is unknown: what watches over the container was killed with it"
	default:
		t.Message = describeStatus(syscall.WaitStatus(status.Status))
	}
	return t
}

func describeStatus(ws syscall.WaitStatus) string {
	switch {
	case ws.Exited():
		return fmt.Sprintf("Exited with status %d", ws.ExitStatus())
	case ws.Signaled():
		core := ""
		if ws.CoreDump() {
			core = " (core dumped)"
		}
		return fmt.Sprintf("Terminated with signal %v%s", ws.Signal(), core)
	}
	return fmt.Sprintf("Ended with wait status %d", int(ws))
}
