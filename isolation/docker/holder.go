package docker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// holder is a container of the engine, of the image that the agent itself runs in, in which
// an executor is born (src/slave/containerizer/docker.cpp, Container::create and
// launchExecutorContainer): it outlives the agent's.
type holder struct {
	i    *isolator
	id   *mesos.ContainerID
	name string
	// sandbox is the container's, socket that by which its executor reaches the agent.
	sandbox, socket string
}

// executorSuffix is Mesos's.
const executorSuffix = ".executor"

func holderName(id *mesos.ContainerID) string { return containerName(id) + executorSuffix }

func (i *isolator) holder(config *isolation.ContainerConfig) *holder {
	return &holder{
		i: i, id: config.ID, name: holderName(config.ID),
		sandbox: config.Sandbox, socket: config.Env["MESOS_DOMAIN_SOCKET"],
	}
}

const (
	// holdPatience is how long a holder may take to start.
	holdPatience = time.Minute
	// probePatience is how long the first may take, with the image to be pulled.
	probePatience = 5 * time.Minute
)

// start implements isolation.Birthplace.
func (h *holder) start(ctx context.Context, b *isolation.Birth) (pid int, err error) {
	if err := h.i.pull(ctx, h.i.c.options.MesosImage, false); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, holdPatience)
	defer cancel()
	path := filepath.Join(h.i.c.options.holdDir(), isolation.Key(h.id))
	listener, closeListener, err := listen(path)
	if err != nil {
		return 0, fmt.Errorf("docker: %w", err)
	}
	defer closeListener()
	ended, err := h.run(ctx, path)
	if err == nil {
		stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
		defer stop()
		// It may end before it has come.
		met := make(chan struct{})
		defer close(met)
		go func() {
			select {
			case <-ended.Result:
			case <-met:
			}
			_ = listener.Close()
		}()
		pid, err = h.order(ctx, listener, b)
	}
	if err == nil {
		return pid, nil
	}
	// Cleanup removes it.
	err = cmp.Or(ctx.Err(), err)
	if said := h.said(); said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return 0, fmt.Errorf("docker: container %s of the executor: %w", h.name, err)
}

// listen opens a socket whose path may be longer than a socket's.
func listen(path string) (l *net.UnixListener, closeAll func(), err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	l, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	l.SetUnlinkOnClose(false)
	return l, func() {
		_ = l.Close()
		_ = os.Remove(path)
		_ = dir.Close()
	}, nil
}

// run has the engine make and start the container.
func (h *holder) run(ctx context.Context, socket string) (*client.ContainerWaitResult, error) {
	config, host, err := h.create(socket)
	if err != nil {
		return nil, err
	}
	engine := h.i.c.engine
	options := client.ContainerCreateOptions{Name: h.name, Config: config, HostConfig: host}
	_, err = engine.ContainerCreate(ctx, options)
	if cerrdefs.IsConflict(err) {
		if _, err := engine.ContainerRemove(ctx, h.name, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			return nil, fmt.Errorf("remove an older container of the name: %w", err)
		}
		_, err = engine.ContainerCreate(ctx, options)
	}
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	ended := engine.ContainerWait(ctx, h.name, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := engine.ContainerStart(ctx, h.name, client.ContainerStartOptions{}); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return &ended, nil
}

// create says how the engine makes the container. What the executor has to do with is where
// the agent sees it; to look into the task's namespaces for checks it has the rights that
// Mesos gives it.
func (h *holder) create(socket string) (*container.Config, *container.HostConfig, error) {
	o := &h.i.c.options
	program, err := o.program()
	if err != nil {
		return nil, nil, err
	}
	config := &container.Config{
		Image: o.MesosImage, User: "0", Entrypoint: []string{program}, Cmd: []string{HoldMode, socket},
		Labels:      map[string]string{agentLabel: o.owner(), idLabel: isolation.Key(h.id)},
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	host := &container.HostConfig{PidMode: "host", NetworkMode: "host", CapAdd: []string{"SYS_ADMIN", "SYS_PTRACE"}}
	paths := []string{o.RuntimeDir}
	if h.sandbox != "" {
		paths = append(paths, h.sandbox)
	}
	// Of sockets the directory: an engine, and an agent, that starts again makes a new one.
	if engine, ok := o.socketPath(); ok {
		paths = append(paths, filepath.Dir(engine))
	}
	if h.socket != "" {
		paths = append(paths, filepath.Dir(h.socket))
	}
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		// What is mounted below is nobody's business here, and would be kept busy. The engine
		// refuses a path that the machine does not have.
		host.Mounts = append(host.Mounts, mount.Mount{
			Type: mount.TypeBind, Source: p, Target: p, BindOptions: &mount.BindOptions{NonRecursive: true},
		})
	}
	return config, host, nil
}

// order has the holder start the process.
func (h *holder) order(ctx context.Context, listener *net.UnixListener, b *isolation.Birth) (pid int, err error) {
	conn, err := listener.AcceptUnix()
	if err != nil {
		return 0, errors.New("it has ended before it asked what to do")
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	return orderBirth(conn, b)
}

// orderBirth is the agent's side of the socket.
func orderBirth(conn *net.UnixConn, b *isolation.Birth) (pid int, err error) {
	var hello holdHello
	if _, err := receiveMessage(conn, &hello); err != nil {
		return 0, err
	}
	own, err := pidNamespace()
	if err != nil {
		return 0, err
	}
	if own != hello.Namespace {
		return 0, fmt.Errorf("the agent's own container needs the machine's processes (docker run --pid=host): %w", isolation.ErrNotSupported)
	}
	order := holdOrder{Argv: b.Argv, Env: b.Env, Supervises: b.Supervises, Small: b.Small}
	if err := sendMessage(conn, order, append([]*os.File{b.Program}, b.Files...)...); err != nil {
		return 0, err
	}
	var done holdDone
	if _, err := receiveMessage(conn, &done); err != nil {
		return 0, err
	}
	if done.Error != "" {
		return 0, errors.New(done.Error)
	}
	return done.PID, nil
}

// said is what the holder has complained about.
func (h *holder) said() string {
	ctx, cancel := context.WithTimeout(h.i.c.base, 5*time.Second)
	defer cancel()
	answer, err := h.i.c.engine.ContainerLogs(ctx, h.name, client.ContainerLogsOptions{ShowStderr: true, Tail: "1"})
	if err != nil {
		return ""
	}
	defer answer.Close()
	var text bytes.Buffer
	_, _ = stdcopy.StdCopy(io.Discard, &text, answer)
	return oneLine(text.String())
}

// probe tries a holder when the agent starts: one that cannot have any would fail every
// task. An engine that is not there, or takes too long, is waited for as ever.
func (c *Containerizer) probe(ctx context.Context) error {
	if c.options.MesosImage == "" {
		return nil
	}
	if _, err := c.engine.Ping(ctx, client.PingOptions{}); err != nil {
		c.log.Warn().Err(err).Msg("docker: the engine does not answer: --docker_mesos_image was not tried")
		return nil
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	trying, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	h := &holder{i: c.files, id: &mesos.ContainerID{Value: new("probe-" + c.options.owner())}}
	h.name = holderName(h.id)
	// It only complains that it has no argument.
	_, err = h.start(trying, &isolation.Birth{Argv: []string{"clusterd", HoldMode}, Program: self, Files: []*os.File{null, null, null}})
	_, removeErr := c.engine.ContainerRemove(ctx, h.name, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if removeErr != nil && !cerrdefs.IsNotFound(removeErr) {
		c.log.Warn().Err(removeErr).Str("docker_container", h.name).Msg("docker: remove container")
	}
	if errors.Is(err, context.DeadlineExceeded) || client.IsErrConnectionFailed(err) {
		c.log.Warn().Err(err).Msg("docker: --docker_mesos_image was not tried")
		return nil
	}
	if err != nil {
		return fmt.Errorf("--docker_mesos_image: %w", err)
	}
	return nil
}

// socketPath is where the engine's socket lies, if it is one of this machine.
func (o *Options) socketPath() (path string, ok bool) {
	if path, ok = strings.CutPrefix(o.Socket, "unix://"); ok {
		return path, true
	}
	return o.Socket, !strings.Contains(o.Socket, "://")
}

// holdDir is where the sockets of holders lie.
func (o *Options) holdDir() string { return filepath.Join(o.dir(), "hold") }
