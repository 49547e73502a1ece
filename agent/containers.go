package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"clusterd/agent/core"
	"clusterd/agent/fetcher"
	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// fetchFunc brings the URIs of a command into a sandbox. It is not called when
// there are none.
type fetchFunc func(ctx context.Context, sandbox, user string, uris []*mesos.CommandInfo_URI) error

// containerState is what the shell knows of a container.
type containerState struct {
	// cancel ends a launch that is under way; nil when none is.
	cancel context.CancelFunc
	// unwanted says that the container is to be destroyed as soon as it runs.
	unwanted *atomic.Bool
	// last is closed when the last operation that was asked for is done: updates
	// of one container happen one after the other.
	last chan struct{}
}

func (a *Agent) container(id *mesos.ContainerID) *containerState {
	s := a.containers[id.GetValue()]
	if s == nil {
		s = &containerState{unwanted: new(atomic.Bool)}
		a.containers[id.GetValue()] = s
	}
	return s
}

// chain runs f after all that was chained to the container before.
func (a *Agent) chain(id *mesos.ContainerID, f func()) {
	s := a.container(id)
	before, done := s.last, make(chan struct{})
	s.last = done
	a.wg.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		f()
	})
}

func containerConfig(e *core.LaunchContainer) *isolation.ContainerConfig {
	c := &isolation.ContainerConfig{
		ID: e.ContainerID, Sandbox: e.Directory, Command: e.Command, Env: e.Environment, User: e.User,
		Resources: e.Resources, Limits: e.Limits, ContainerInfo: e.Container,
		FrameworkID: e.FrameworkID, ExecutorID: e.ExecutorID,
	}
	if e.CommandExecutor {
		c.Builtin, c.TaskCommand = isolation.CommandExecutorFor(e.Task), e.Task.GetCommand()
	}
	if e.DefaultExecutor {
		c.Builtin = isolation.BuiltinDefaultExecutor
	}
	return c
}

// launch starts the container in a goroutine of its own, which goes on to wait
// for its end.
func (a *Agent) launch(e core.LaunchContainer) {
	// Only Destroy ends a launch: an agent that stops lets it finish, and the next
	// run takes the container up.
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.ctx))
	s := a.container(e.ContainerID)
	s.cancel = cancel
	a.chain(e.ContainerID, func() {
		defer cancel()
		defer a.pending.add("launch", e.ContainerID)()
		began := time.Now()
		status, err := a.launchNow(ctx, &e)
		if err == nil {
			a.timings.containers.Observe(time.Since(began))
		}
		if a.ctx.Err() != nil {
			return // the next run takes it up
		}
		a.post(core.ContainerLaunched{ContainerID: e.ContainerID.GetValue(), Status: status, Err: err})
		if err != nil {
			return
		}
		a.wg.Go(func() { a.wait(e.ContainerID) })
		if s.unwanted.Load() {
			a.destroyNow(e.ContainerID)
		}
	})
}

func (a *Agent) launchNow(ctx context.Context, e *core.LaunchContainer) (*mesos.ContainerStatus, error) {
	select {
	case a.launches <- struct{}{}:
		defer func() { <-a.launches }()
	case <-ctx.Done():
		return nil, isolation.ErrDestroyed
	case <-a.ctx.Done():
		return nil, errStopped
	}
	if err := makeSandbox(e.Directory, e.User); err != nil {
		return nil, err
	}
	for _, v := range e.Virtual {
		a.attach(e.Directory, v, e.Owner)
	}
	if uris := e.Command.GetUris(); len(uris) > 0 {
		fetching, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(a.ctx, stop)()
		if err := a.fetch(fetching, e.Directory, e.User, uris); err != nil {
			a.metrics.Counter("containerizer/fetcher/task_fetches_failed").Inc()
			return nil, err
		}
		a.metrics.Counter("containerizer/fetcher/task_fetches_succeeded").Inc()
	}
	config, err := a.withToken(containerConfig(e))
	if err != nil {
		return nil, err
	}
	if err := a.runner.Launch(ctx, config); err != nil {
		return nil, err
	}
	status, err := a.runner.Status(a.ctx, e.ContainerID)
	if err != nil {
		// It may be over already; Wait will tell how.
		status = &mesos.ContainerStatus{ContainerId: e.ContainerID}
	}
	return status, nil
}

// tokenVariable tells an executor how to authenticate.
const tokenVariable = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN"

// withToken gives the container's executor its token (Slave::generateSecret). It is made
// for this one launch and kept nowhere but in the container's environment: an agent that
// restarts knows it by its signature.
func (a *Agent) withToken(c *isolation.ContainerConfig) (*isolation.ContainerConfig, error) {
	if a.opts.ExecutorTokens == nil {
		return c, nil
	}
	token, err := a.opts.ExecutorTokens.New(c.FrameworkID.GetValue(), c.ExecutorID.GetValue(), c.ID.GetValue())
	if err != nil {
		return nil, fmt.Errorf("make the executor's token: %w", err)
	}
	// The map is the core's.
	env := maps.Clone(c.Env)
	if env == nil {
		env = map[string]string{}
	}
	env[tokenVariable] = token
	c.Env = env
	return c, nil
}

// makeSandbox makes the directory, gives it to its user and points `latest` at
// it (paths::createExecutorDirectory).
func makeSandbox(dir, owner string) error {
	for try := 0; ; try++ {
		// Tasks run as anybody, who must be able to pass through what lies above.
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return fmt.Errorf("create sandbox: %w", err)
		}
		err := os.Mkdir(dir, 0o750)
		if err == nil || errors.Is(err, os.ErrExist) {
			break
		}
		// The collector may just have removed an empty directory above.
		if try == 3 || !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("create sandbox: %w", err)
		}
	}
	if owner != "" {
		if err := chown(dir, owner); err != nil {
			return err
		}
	}
	latest := filepath.Join(filepath.Dir(dir), "latest")
	tmp := dir + ".latest"
	if err := os.Symlink(filepath.Base(dir), tmp); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("link the latest sandbox: %w", err)
	}
	if err := os.Rename(tmp, latest); err != nil {
		return fmt.Errorf("link the latest sandbox: %w", err)
	}
	return nil
}

func chown(dir, name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("user of the sandbox: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("user of the sandbox: %w", err)
	}
	if uid == os.Geteuid() {
		return nil
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return fmt.Errorf("give the sandbox to %s: %w", name, err)
	}
	return nil
}

// watch waits for the end of a container that an earlier run launched.
func (a *Agent) watch(id *mesos.ContainerID) {
	a.container(id)
	a.wg.Go(func() { a.wait(id) })
}

func (a *Agent) wait(id *mesos.ContainerID) {
	t, err := a.runner.Wait(a.ctx, id)
	if a.ctx.Err() != nil {
		return
	}
	out := core.Termination{}
	if err != nil {
		out.Failure = err.Error()
	} else {
		out.StatusKnown, out.Status, out.Reason, out.Message = t.StatusKnown, t.Status, t.Reason, t.Message
		for _, l := range t.Limitations {
			out.Limited = append(out.Limited, l.Resources...)
		}
	}
	a.post(core.ContainerTerminated{ContainerID: id.GetValue(), Termination: out})
}

func (a *Agent) updateContainer(e core.UpdateContainer) {
	a.chain(e.ContainerID, func() {
		defer a.pending.add("update", e.ContainerID)()
		err := a.runner.Update(a.ctx, e.ContainerID, e.Resources, e.Limits)
		if errors.Is(err, isolation.ErrUnknownContainer) {
			err = nil // it has ended: there is nothing to shrink
		}
		if a.ctx.Err() == nil {
			a.post(core.ContainerUpdated{ContainerID: e.ContainerID.GetValue(), Token: e.Token, Err: err})
		}
	})
}

// destroy ends a container, or the launch of one. Not chained: it must not wait
// for an update that waits for the container.
func (a *Agent) destroy(id *mesos.ContainerID) {
	if s := a.containers[id.GetValue()]; s != nil {
		s.unwanted.Store(true)
		if s.cancel != nil {
			s.cancel()
		}
	}
	a.wg.Go(func() { a.destroyNow(id) })
}

func (a *Agent) destroyNow(id *mesos.ContainerID) {
	defer a.pending.add("destroy", id)()
	err := a.runner.Destroy(a.ctx, id)
	if err == nil || errors.Is(err, isolation.ErrUnknownContainer) || a.ctx.Err() != nil {
		return
	}
	a.metrics.Counter("containerizer/mesos/container_destroy_errors").Inc()
	a.log.Error().Err(err).Str("container_id", id.GetValue()).Msg("cannot destroy a container")
}

// remove forgets a container whose end is on the disk.
func (a *Agent) remove(id *mesos.ContainerID) {
	a.chain(id, func() {
		if err := a.runner.Remove(a.ctx, id); err != nil && a.ctx.Err() == nil {
			a.log.Error().Err(err).Str("container_id", id.GetValue()).Msg("cannot remove an ended container")
		}
	})
	delete(a.containers, id.GetValue())
	a.nested.forget(id)
}

// newFetcher makes what brings in the files of a command.
func (a *Agent) newFetcher() (fetchFunc, error) {
	o := fetcher.Options{FrameworksHome: a.opts.FrameworksHome, StallTimeout: a.opts.FetcherStallTimeout, HadoopHome: a.opts.HadoopHome}
	if a.opts.FetcherCacheSize > 0 {
		// Several agents on a machine may be given the same directory.
		own := sha256.Sum256([]byte(a.opts.WorkDir))
		var err error
		o.Cache, err = fetcher.NewCache(filepath.Join(a.opts.FetcherCacheDir, "agent-"+hex.EncodeToString(own[:6])), a.opts.FetcherCacheSize)
		if err != nil {
			return nil, err
		}
		a.metrics.GaugeFunc("containerizer/fetcher/cache_size_total_bytes", func() float64 { capacity, _ := o.Cache.Size(); return float64(capacity) })
		a.metrics.GaugeFunc("containerizer/fetcher/cache_size_used_bytes", func() float64 { _, used := o.Cache.Size(); return float64(used) })
	}
	f := fetcher.New(o)
	return func(ctx context.Context, sandbox, user string, uris []*mesos.CommandInfo_URI) error {
		return f.Fetch(ctx, fetcher.Request{URIs: uris, Sandbox: sandbox, User: user})
	}, nil
}
