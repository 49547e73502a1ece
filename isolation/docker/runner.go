package docker

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"clusterd/isolation/supervisor"
)

// exitFailed is the runner's exit status when it is not the container's: what Docker's
// own client uses.
const exitFailed = 125

// runner stands for one container of the engine.
type runner struct {
	run
	engine *client.Client
	report *os.File
	// id is the engine's.
	id string
	// copied is closed when all output was copied.
	copied chan struct{}
}

// RunMain runs a container of the engine as the file says that it is given, and returns
// its exit status. It copies the output to its own, hands SIGTERM, SIGINT and SIGHUP on,
// and reports over the descriptor supervisor.TaskReportFD when it is asked to.
func RunMain(args []string) int {
	r, err := newRunner(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "docker:", err)
		return exitFailed
	}
	code, err := r.main()
	if err != nil {
		r.say("failed " + oneLine(err.Error()))
		fmt.Fprintln(os.Stderr, "docker:", err)
	}
	return code
}

func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }

func newRunner(args []string) (*runner, error) {
	if len(args) != 1 {
		return nil, errors.New("expecting the file that says what to run")
	}
	r := &runner{copied: make(chan struct{})}
	text, err := os.ReadFile(args[0])
	if err == nil {
		err = json.Unmarshal(text, &r.run)
	}
	if err != nil {
		return nil, err
	}
	if os.Getenv(supervisor.TaskReportsVariable) != "" {
		r.report = os.NewFile(supervisor.TaskReportFD, "report")
		syscall.CloseOnExec(supervisor.TaskReportFD)
	}
	r.engine, err = dial(r.Socket)
	return r, err
}

// say tells the executor a line.
func (r *runner) say(line string) {
	if r.report != nil {
		_, _ = r.report.WriteString(line + "\n")
	}
}

func (r *runner) main() (code int, err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended, code, err := r.begin(ctx, signals)
	if ended == nil {
		return code, err
	}
	go r.handOn(ctx, signals)
	r.tellRunning(ctx)
	for {
		select {
		case <-ended.Result:
			return r.over(ctx)
		case err := <-ended.Error:
			fmt.Fprintln(os.Stderr, "docker: the engine is away:", err)
		}
		// The engine is away. With live restore the container goes on, so this waits.
		broken := time.Now()
		state := r.look(ctx)
		select {
		case <-r.copied:
			r.copied = make(chan struct{})
			_ = r.resume(ctx, broken, state)
		case <-time.After(time.Second): // only the wait was broken off
		}
		if !state.Running {
			return r.over(ctx)
		}
		ended = new(r.engine.ContainerWait(ctx, r.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning}))
	}
}

// exitSignaled is added to the number of a signal, as shells do.
const exitSignaled = 128

// begin makes and starts the container. A signal that comes before it is made ends it
// all, with an exit status; a later one is for the container.
func (r *runner) begin(ctx context.Context, signals <-chan os.Signal) (ended *client.ContainerWaitResult, code int, err error) {
	making, stop := context.WithCancel(ctx)
	defer stop()
	var signaled os.Signal
	watched, made := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case signaled = <-signals:
			stop()
		case <-made:
		}
	}()
	err = r.create(making)
	close(made)
	<-watched
	if signaled != nil {
		_, _ = r.engine.ContainerRemove(ctx, r.Name, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		number, _ := signaled.(syscall.Signal)
		return nil, exitSignaled + int(number), nil
	}
	if err == nil {
		err = r.attach(ctx)
	}
	if err != nil {
		return nil, exitFailed, err
	}
	// Before it starts: it may be over at once.
	wait := r.engine.ContainerWait(ctx, r.id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := r.engine.ContainerStart(ctx, r.id, client.ContainerStartOptions{}); err != nil {
		return nil, exitFailed, fmt.Errorf("start container: %w", err)
	}
	return &wait, 0, nil
}

// create makes the container. One of the name that is left from a runner that was
// killed is not this one.
func (r *runner) create(ctx context.Context) error {
	options := client.ContainerCreateOptions{
		Name: r.Name, Config: r.Create.Config, HostConfig: r.Create.HostConfig, NetworkingConfig: r.Create.Networking,
	}
	made, err := r.engine.ContainerCreate(ctx, options)
	if cerrdefs.IsConflict(err) {
		if _, err := r.engine.ContainerRemove(ctx, r.Name, client.ContainerRemoveOptions{Force: true}); err != nil {
			return fmt.Errorf("remove an older container of the name: %w", err)
		}
		made, err = r.engine.ContainerCreate(ctx, options)
	}
	if err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	r.id = made.ID
	return nil
}

// attach begins to copy the output.
func (r *runner) attach(ctx context.Context) error {
	answer, err := r.engine.ContainerAttach(ctx, r.id, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		return fmt.Errorf("attach to container: %w", err)
	}
	go func() {
		defer answer.Close()
		r.copyOutput(answer.Reader)
	}()
	return nil
}

// resume goes on with the output that was broken off. What was printed since is in the
// engine's log, if it keeps one.
func (r *runner) resume(ctx context.Context, since time.Time, state *container.State) error {
	answer, err := r.engine.ContainerLogs(ctx, r.id, client.ContainerLogsOptions{
		ShowStdout: true, ShowStderr: true, Follow: state.Running, Since: since.Format(time.RFC3339Nano),
	})
	if err != nil && state.Running {
		err = r.attach(ctx)
		if err == nil {
			return nil
		}
	}
	if err != nil {
		close(r.copied)
		return err
	}
	go func() {
		defer answer.Close()
		r.copyOutput(answer)
	}()
	return nil
}

// copyOutput copies the output to its end.
func (r *runner) copyOutput(from io.Reader) {
	defer close(r.copied)
	if r.Create.Config.Tty {
		_, _ = io.Copy(os.Stdout, from)
		return
	}
	_, _ = stdcopy.StdCopy(os.Stdout, os.Stderr, from)
}

// handOn gives the container the signals that this process gets. SIGTERM is whatever
// the image takes for the order to stop.
func (r *runner) handOn(ctx context.Context, signals <-chan os.Signal) {
	for {
		var s os.Signal
		select {
		case s = <-signals:
		case <-ctx.Done():
			return
		}
		name := map[os.Signal]string{syscall.SIGINT: "SIGINT", syscall.SIGHUP: "SIGHUP"}[s]
		if name == "" {
			name = "SIGTERM"
			if stop := r.stopSignal(ctx); stop != "" {
				name = stop
			}
		}
		if _, err := r.engine.ContainerKill(ctx, r.id, client.ContainerKillOptions{Signal: name}); err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
			fmt.Fprintln(os.Stderr, "docker: send", name, "to the container:", err)
		}
	}
}

func (r *runner) stopSignal(ctx context.Context) string {
	found, err := r.engine.ContainerInspect(ctx, r.id, client.ContainerInspectOptions{})
	if err != nil || found.Container.Config == nil {
		return ""
	}
	return found.Container.Config.StopSignal
}

// tellRunning reports the container's process and its addresses, and what `docker inspect`
// prints: an array of one (src/docker/executor.cpp).
func (r *runner) tellRunning(ctx context.Context) {
	found, err := r.engine.ContainerInspect(ctx, r.id, client.ContainerInspectOptions{})
	if err != nil {
		r.say("running 0")
		return
	}
	pid := 0
	if found.Container.State != nil {
		pid = found.Container.State.Pid
	}
	if len(found.Raw) > 0 {
		r.say("data " + base64.StdEncoding.EncodeToString(slices.Concat([]byte("["), bytes.TrimSpace(found.Raw), []byte("]"))))
	}
	r.say(strings.Join(append([]string{"running", strconv.Itoa(pid)}, addresses(&found.Container)...), " "))
}

// look asks for the container's state until the engine answers.
func (r *runner) look(ctx context.Context) *container.State {
	for {
		found, err := r.engine.ContainerInspect(ctx, r.id, client.ContainerInspectOptions{})
		if err == nil {
			return found.Container.State
		}
		if cerrdefs.IsNotFound(err) {
			return &container.State{ExitCode: exitFailed, Error: "the container was removed"}
		}
		time.Sleep(time.Second)
	}
}

// over tells how the container ended.
func (r *runner) over(ctx context.Context) (code int, err error) {
	state := r.look(ctx)
	select {
	case <-r.copied:
	case <-time.After(10 * time.Second): // a process that holds the output is no reason to stay
	}
	if state.OOMKilled {
		r.say("oom " + outOfMemory(r.Create.HostConfig.Memory))
	}
	if state.Error != "" {
		return state.ExitCode, errors.New(state.Error)
	}
	return state.ExitCode, nil
}

// ExecMain runs a command in a container that a runner runs: its arguments are the
// runner's file and the command. It returns the command's exit status.
func ExecMain(args []string) int {
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "docker: expecting the file of the container and a command")
		return exitFailed
	}
	r, err := newRunner(args[:1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "docker:", err)
		return exitFailed
	}
	code, err := r.exec(context.Background(), args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "docker:", err)
	}
	return code
}

func (r *runner) exec(ctx context.Context, argv []string) (int, error) {
	made, err := r.engine.ExecCreate(ctx, r.Name, client.ExecCreateOptions{Cmd: argv, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return exitFailed, fmt.Errorf("execute in the container: %w", err)
	}
	answer, err := r.engine.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return exitFailed, fmt.Errorf("execute in the container: %w", err)
	}
	defer answer.Close()
	_, _ = stdcopy.StdCopy(os.Stdout, os.Stderr, answer.Reader)
	found, err := r.engine.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	if err != nil {
		return exitFailed, fmt.Errorf("execute in the container: %w", err)
	}
	return found.ExitCode, nil
}
