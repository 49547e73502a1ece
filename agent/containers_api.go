package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	agentv1 "clusterd/api/mesos/v1/agent"
	"clusterd/internal/httpapi"
	"clusterd/isolation"
	"clusterd/isolation/mounts"
)

// nestedContainers is what the agent remembers of containers that no scheduler launched.
type nestedContainers struct {
	mu sync.Mutex // mu guards what follows.
	// users are whom containers run as, by key, for those that are launched below them.
	users map[string]string
	// inputs are the containers that somebody types into.
	inputs map[string]bool
}

// newContainer is a nested or standalone container to be launched.
type newContainer struct {
	id        *mesos.ContainerID
	class     isolation.Class
	command   *mesos.CommandInfo
	container *mesos.ContainerInfo
	resources []*mesos.Resource
	limits    map[string]*mesos.Value_Scalar
}

func (n *newContainer) nested() bool { return n.id.GetParent() != nil }

// serveContainerCall answers the calls on containers.
func (a *Agent) serveContainerCall(w http.ResponseWriter, r *http.Request, c *agentv1.Call, cc *containerCall, body *callStream, media httpapi.AgentMedia) error {
	if c.GetType() == agentv1.Call_ATTACH_CONTAINER_INPUT && c.GetAttachContainerInput().GetType() != agentv1.Call_AttachContainerInput_CONTAINER_ID {
		return httpapi.BadRequest("Expecting 'attach_container_input.type' to be CONTAINER_ID")
	}
	if cc.changes {
		httpapi.Audit(r, c.GetType().String(), "container_id", containerText(cc.id))
	}
	v, err := a.read(r)
	if err != nil {
		return err
	}
	if err := a.access(r).authorizeContainer(v, cc, a.standalone); err != nil {
		return err
	}
	switch c.GetType() {
	case agentv1.Call_LAUNCH_CONTAINER:
		l := c.GetLaunchContainer()
		return a.launchContainer(w, r, v, &newContainer{
			id: cc.id, command: l.GetCommand(), container: l.Container, resources: l.GetResources(), limits: l.GetLimits(),
		})
	case agentv1.Call_LAUNCH_NESTED_CONTAINER:
		l := c.GetLaunchNestedContainer()
		return a.launchContainer(w, r, v, &newContainer{id: cc.id, command: l.GetCommand(), container: l.Container})
	case agentv1.Call_LAUNCH_NESTED_CONTAINER_SESSION:
		l := c.GetLaunchNestedContainerSession()
		return a.launchSession(w, r, v, &newContainer{
			id: cc.id, class: isolation.ClassDebug, command: l.GetCommand(), container: l.Container,
		}, media)
	case agentv1.Call_WAIT_CONTAINER, agentv1.Call_WAIT_NESTED_CONTAINER:
		return a.waitContainer(w, r, cc.id, c.GetType() == agentv1.Call_WAIT_NESTED_CONTAINER, media)
	case agentv1.Call_KILL_CONTAINER:
		return a.killContainer(w, r, cc.id, c.GetKillContainer().Signal)
	case agentv1.Call_KILL_NESTED_CONTAINER:
		return a.killContainer(w, r, cc.id, c.GetKillNestedContainer().Signal)
	case agentv1.Call_REMOVE_CONTAINER, agentv1.Call_REMOVE_NESTED_CONTAINER:
		return a.removeContainer(w, r, v, cc.id)
	case agentv1.Call_ATTACH_CONTAINER_OUTPUT:
		return a.attachOutput(w, r, cc.id, media)
	case agentv1.Call_ATTACH_CONTAINER_INPUT:
		return a.attachInput(w, r, cc.id, body)
	default:
		return notYet(c)
	}
}

// launchContainer answers LAUNCH_CONTAINER and LAUNCH_NESTED_CONTAINER (Http::_launchContainer
// in src/slave/http.cpp): 200, or 202 if there is such a container already.
func (a *Agent) launchContainer(w http.ResponseWriter, r *http.Request, v *core.View, n *newContainer) error {
	status, err := a.launchFor(r, v, n)
	if err != nil {
		return err
	}
	httpapi.WriteStatus(w, status)
	return nil
}

// launchFor launches a container for a request, and goes on launching it when the client
// leaves: what came of it is found by WAIT.
func (a *Agent) launchFor(r *http.Request, v *core.View, n *newContainer) (status int, err error) {
	done := make(chan struct{})
	a.wg.Go(func() {
		defer close(done)
		defer a.pending.add("launch", n.id)()
		status, err = a.launchOther(context.WithoutCancel(r.Context()), v, n)
	})
	select {
	case <-done:
		return status, err
	case <-a.ctx.Done():
		return 0, httpapi.Unavailable("Agent is shutting down")
	}
}

// launchOther launches a container that no scheduler asked for, and returns the status of the
// answer.
func (a *Agent) launchOther(ctx context.Context, v *core.View, n *newContainer) (int, error) {
	if n.container != nil && n.container.GetType() != mesos.ContainerInfo_MESOS {
		return 0, httpapi.BadRequest("The provided ContainerInfo is not supported")
	}
	if a.exists(ctx, n.id) {
		if n.nested() || !a.replaceable(ctx, n.id) {
			return http.StatusAccepted, nil
		}
	}
	place, err := a.placeOf(v, n.id)
	if err != nil {
		return 0, httpapi.BadRequest("%v", err)
	}
	if n.nested() {
		if !a.exists(ctx, n.id.GetParent()) {
			return 0, httpapi.BadRequest("Parent container %s does not exist", containerText(n.id.GetParent()))
		}
	}
	config := &isolation.ContainerConfig{
		ID: n.id, Class: n.class, Sandbox: place.sandbox(), Command: n.command, ContainerInfo: n.container,
		User: a.userFor(place, n), Resources: n.resources, Limits: n.limits,
		FrameworkID: place.framework, ExecutorID: place.executor,
		// A terminal is input as well.
		Stdin: n.class == isolation.ClassDebug && n.container.GetTtyInfo() == nil,
	}
	if config.Command == nil {
		config.Command = &mesos.CommandInfo{}
	}
	if n.class == isolation.ClassDefault {
		config.Env = map[string]string{"MESOS_SANDBOX": config.Sandbox, "PATH": defaultPath}
	}
	select {
	case a.launches <- struct{}{}:
		defer func() { <-a.launches }()
	case <-a.ctx.Done():
		return 0, httpapi.Unavailable("Agent is shutting down")
	}
	a.gc.unschedule(place)
	if err := place.make(config.User); err != nil {
		return 0, httpapi.BadRequest("Failed to create nested sandbox '%s': %v", config.Sandbox, err)
	}
	if err := a.fetchFor(ctx, place, config); err != nil {
		return 0, httpapi.BadRequest("%v", err)
	}
	switch err := a.runner.Launch(ctx, config); {
	case errors.Is(err, isolation.ErrContainerExists):
		return http.StatusAccepted, nil
	case errors.Is(err, isolation.ErrClosed):
		return 0, httpapi.Unavailable("Agent is shutting down")
	case err != nil:
		if n.nested() && a.opts.GCNonExecutorContainers {
			a.gc.scheduleNested(n.id, place, time.Now())
		}
		// Whatever it is, what the client wants is the likely cause.
		return 0, httpapi.BadRequest("%v", err)
	}
	a.nested.mu.Lock()
	a.nested.users[isolation.Key(n.id)] = config.User
	a.nested.mu.Unlock()
	a.collectNested(n.id, place)
	return http.StatusOK, nil
}

// defaultPath is where programs are looked for (os::host_default_path in
// 3rdparty/stout/include/stout/posix/os.hpp).
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// fetchFor brings in the files of a command.
func (a *Agent) fetchFor(ctx context.Context, p *place, config *isolation.ContainerConfig) error {
	uris := config.Command.GetUris()
	if len(uris) == 0 {
		return nil
	}
	// What is opened stays what it is, whatever the task above makes of the path meanwhile.
	dir, err := p.open()
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	sandbox := fmt.Sprintf("/proc/self/fd/%d/.", dir.Fd())
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(a.ctx, stop)()
	if err := a.fetch(ctx, sandbox, config.User, uris); err != nil {
		a.metrics.Counter("containerizer/fetcher/task_fetches_failed").Inc()
		return errors.New(strings.ReplaceAll(err.Error(), sandbox, config.Sandbox))
	}
	a.metrics.Counter("containerizer/fetcher/task_fetches_succeeded").Inc()
	return nil
}

// forget drops what is remembered of the containers nested in one that is removed.
func (n *nestedContainers) forget(root *mesos.ContainerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.users, func(key, _ string) bool {
		return key == root.GetValue() || strings.HasPrefix(key, root.GetValue()+".")
	})
}

// replaceable says whether a standalone container has ended, and forgets it then: Mesos
// remembers none that has.
func (a *Agent) replaceable(ctx context.Context, id *mesos.ContainerID) bool {
	if !a.ended(ctx, id) {
		return false
	}
	if err := a.runner.Remove(ctx, id); err != nil {
		a.log.Error().Err(err).Str("container_id", isolation.Key(id)).Msg("cannot remove an ended container")
		return false
	}
	return true
}

// ended says whether a container has ended.
func (a *Agent) ended(ctx context.Context, id *mesos.ContainerID) bool {
	ctx, cancel := context.WithCancel(ctx)
	cancel() // who has ended is told all the same
	_, err := a.runner.Wait(ctx, id)
	return err == nil
}

// place is where a container belongs.
type place struct {
	// root is the sandbox of the outermost container, sub the path of the container's own
	// below it, empty if it is the root itself.
	root, sub string
	// owner is whom the outermost container's sandbox belongs to; empty: the agent's user.
	owner     string
	framework *mesos.FrameworkID
	executor  *mesos.ExecutorID
}

func (p *place) sandbox() string { return filepath.Join(p.root, p.sub) }

// placeOf finds the place of a container (getSandboxPath in
// src/slave/containerizer/mesos/paths.cpp).
func (a *Agent) placeOf(v *core.View, id *mesos.ContainerID) (*place, error) {
	p := &place{}
	root := rootOf(id)
	for at := id; at.GetParent() != nil; at = at.GetParent() {
		p.sub = filepath.Join("containers", at.GetValue(), p.sub)
	}
	if fw, e := containerOf(v, id); e != nil {
		p.root, p.framework, p.executor = e.Directory, fw.Info.GetId(), e.Info.GetExecutorId()
		p.owner = e.User
		return p, nil
	}
	p.root = a.standaloneSandbox(root)
	if id.GetParent() != nil && !a.standalone(root) {
		return nil, fmt.Errorf("Parent container %s does not exist", containerText(id.GetParent())) //nolint:staticcheck // Mesos's words
	}
	return p, nil
}

// standaloneSandbox is the sandbox of a standalone container (paths::getContainerPath).
func (a *Agent) standaloneSandbox(id *mesos.ContainerID) string {
	return filepath.Join(a.opts.WorkDir, "containers", id.GetValue())
}

// standalone says whether the containerizer has a container of this id. Those of executors
// are looked for in the core, so that what is left are the others.
func (a *Agent) standalone(id *mesos.ContainerID) bool {
	return a.exists(a.ctx, id)
}

// exists says whether the containerizer has a container, running or ended.
func (a *Agent) exists(ctx context.Context, id *mesos.ContainerID) bool {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_, err := a.runner.Wait(ctx, id) // unlike Status it asks no isolator
	return !errors.Is(err, isolation.ErrUnknownContainer)
}

// make makes the sandbox and gives it to its user. The directories above it may belong to the
// task, which must not lead us elsewhere by symbolic links.
func (p *place) make(owner string) error {
	if p.sub == "" {
		if err := os.MkdirAll(p.root, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(p.root, 0o750); err != nil {
			return err
		}
		return chownTo(owner, func(uid, gid int) error { return os.Lchown(p.root, uid, gid) })
	}
	root, err := os.OpenRoot(p.root)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := root.MkdirAll(filepath.Dir(p.sub), 0o755); err != nil {
		return err
	}
	if err := root.Mkdir(p.sub, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return chownTo(owner, func(uid, gid int) error { return root.Lchown(p.sub, uid, gid) })
}

// open opens the sandbox; see make for how.
func (p *place) open() (*os.File, error) {
	if p.sub == "" {
		return os.Open(p.root)
	}
	root, err := os.OpenRoot(p.root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	return root.Open(p.sub)
}

func chownTo(name string, chown func(uid, gid int) error) error {
	if name == "" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if uid == os.Geteuid() {
		return nil
	}
	return chown(uid, gid)
}

// userFor is who runs a container: whom its command names, else who runs its parent.
func (a *Agent) userFor(p *place, n *newContainer) string {
	switch {
	case !a.opts.SwitchUser:
		return ""
	case n.command.GetUser() != "":
		return n.command.GetUser()
	case !n.nested():
		return ""
	}
	parent := n.id.GetParent()
	if parent.GetParent() == nil && p.executor != nil {
		return p.owner
	}
	a.nested.mu.Lock()
	name, ok := a.nested.users[isolation.Key(parent)]
	a.nested.mu.Unlock()
	if ok {
		return name
	}
	// An earlier run launched it: its sandbox is its user's.
	st, err := os.Lstat(filepath.Dir(filepath.Dir(p.sandbox())))
	if err != nil {
		return p.owner
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return p.owner
	}
	u, err := user.LookupId(strconv.Itoa(int(sys.Uid)))
	if err != nil {
		return p.owner
	}
	return u.Username
}

// completeStatus adds what the containerizer knows of a nested container to the status of a
// task that runs in it (Slave::statusUpdate in src/slave/slave.cpp). Of its own container the
// core knows.
func (a *Agent) completeStatus(ctx context.Context, st *mesos.TaskStatus) {
	cs := st.GetContainerStatus()
	if cs.GetContainerId().GetParent() == nil || validateContainerID(cs.GetContainerId()) != "" {
		return
	}
	known, err := a.runner.Status(ctx, cs.GetContainerId())
	if err != nil {
		return // it may not run yet, or no more
	}
	if cs.ExecutorPid == nil {
		cs.ExecutorPid = known.ExecutorPid
	}
	if cs.CgroupInfo == nil {
		cs.CgroupInfo = known.CgroupInfo
	}
	if len(cs.NetworkInfos) == 0 {
		cs.NetworkInfos = known.NetworkInfos
	}
}

// waitContainer answers WAIT_CONTAINER, or WAIT_NESTED_CONTAINER, once the container has
// ended.
func (a *Agent) waitContainer(w http.ResponseWriter, r *http.Request, id *mesos.ContainerID, nested bool, media httpapi.AgentMedia) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	httpapi.Stream(r) // it takes as long as the container
	t, err := a.runner.Wait(ctx, id)
	switch {
	case errors.Is(err, isolation.ErrUnknownContainer):
		return httpapi.NotFound("Container %s cannot be found", containerText(id))
	case errors.Is(err, isolation.ErrClosed), err != nil && a.ctx.Err() != nil:
		return httpapi.Unavailable("Agent is shutting down")
	case err != nil:
		return err
	}
	out := &agentv1.Response_WaitContainer{Reason: t.Reason}
	for _, l := range t.Limitations {
		out.State = mesos.TaskState_TASK_FAILED.Enum()
		if out.Limitation == nil {
			out.Limitation = &mesos.TaskResourceLimitation{}
		}
		out.Limitation.Resources = append(out.Limitation.Resources, l.Resources...)
	}
	if t.StatusKnown {
		out.ExitStatus = new(int32(t.Status))
	}
	// As in Mesos it says what the status does not.
	if t.Message != "" && (t.Reason != nil || !t.StatusKnown) {
		out.Message = strp(t.Message)
	}
	if nested {
		return writeResponse(w, r, media, &agentv1.Response{
			Type: agentv1.Response_WAIT_NESTED_CONTAINER.Enum(),
			WaitNestedContainer: &agentv1.Response_WaitNestedContainer{
				ExitStatus: out.ExitStatus, State: out.State, Reason: out.Reason, Limitation: out.Limitation, Message: out.Message,
			},
		})
	}
	return writeResponse(w, r, media, &agentv1.Response{
		Type: agentv1.Response_WAIT_CONTAINER.Enum(), WaitContainer: out,
	})
}

// killContainer answers KILL_CONTAINER and KILL_NESTED_CONTAINER: it sends a signal to the
// container's command.
func (a *Agent) killContainer(w http.ResponseWriter, r *http.Request, id *mesos.ContainerID, signal *int32) error {
	sig := syscall.SIGKILL
	if signal != nil {
		sig = syscall.Signal(*signal)
	}
	// Mesos does not know those any more that have ended.
	ended := a.ended(r.Context(), id)
	var err error
	if !ended {
		err = a.runner.Kill(r.Context(), id, sig)
	}
	if ended || errors.Is(err, isolation.ErrUnknownContainer) {
		return httpapi.NotFound("Container '%s' cannot be found (or is already killed)", containerText(id))
	}
	if err != nil {
		return httpapi.Errorf(http.StatusInternalServerError, "Unable to send signal to container: %v", err)
	}
	httpapi.WriteStatus(w, http.StatusOK)
	return nil
}

// removeContainer answers REMOVE_CONTAINER and REMOVE_NESTED_CONTAINER: it forgets an ended
// container and deletes its sandbox.
func (a *Agent) removeContainer(w http.ResponseWriter, r *http.Request, v *core.View, id *mesos.ContainerID) error {
	fail := func(format string, args ...any) error {
		return httpapi.Errorf(http.StatusInternalServerError, format, args...)
	}
	if _, e := containerOf(v, id); e != nil && id.GetParent() == nil {
		return fail("Container %s is an executor's", containerText(id))
	}
	p, err := a.placeOf(v, id)
	if err != nil {
		return fail("Unknown root container")
	}
	if a.exists(r.Context(), id) && !a.ended(r.Context(), id) {
		return fail("Nested container has not terminated yet")
	}
	if err := a.runner.Remove(r.Context(), id); err != nil {
		return fail("Failed to remove the runtime directory: %v", err)
	}
	a.nested.mu.Lock()
	delete(a.nested.users, isolation.Key(id))
	a.nested.mu.Unlock()
	a.gc.unschedule(p)
	if err := p.remove(); err != nil {
		return fail("Failed to remove the sandbox directory: %v", err)
	}
	httpapi.WriteStatus(w, http.StatusOK)
	return nil
}

// remove deletes the sandbox; see make for how.
func (p *place) remove() error {
	if p.sub == "" {
		return mounts.RemoveAll(p.root)
	}
	return mounts.RemoveBeneath(p.root, p.sub)
}

// pruneImages answers PRUNE_IMAGES.
func (a *Agent) pruneImages(w http.ResponseWriter, r *http.Request, c *agentv1.Call) error {
	err := a.runner.PruneImages(r.Context(), c.GetPruneImages().GetExcludedImages())
	if errors.Is(err, isolation.ErrNotSupported) {
		err = nil // without images there is nothing to prune
	}
	if err != nil {
		return httpapi.Errorf(http.StatusInternalServerError, "%v", err)
	}
	httpapi.WriteStatus(w, http.StatusOK)
	return nil
}
