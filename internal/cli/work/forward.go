package work

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/internal/cli/console"
)

// linger is how long a connection whose local end writes no more is still read from, where
// that cannot be told to the other end.
const linger = 10 * time.Second

func forwardCommand(e console.Env) *cliv2.Command {
	return &cliv2.Command{
		Name:      "port-forward",
		Usage:     "make ports of a task reachable on this machine",
		ArgsUsage: "TASK [LOCAL:]REMOTE...",
		Description: "Connections to LOCAL here are made to REMOTE in the task's network, on its 127.0.0.1. LOCAL 0\n" +
			"is any that is free. It ends with the task, or with ^C.",
		Flags: console.Flags(
			&cliv2.StringFlag{Name: "address", Usage: "`ADDRESS` of this machine to listen on", Value: "127.0.0.1"},
			&cliv2.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print only what is listened on"},
		),
		Action: func(c *cliv2.Context) error {
			if c.NArg() < 2 {
				return console.Hint(console.Usagef("port-forward takes a task and ports"), "clusterd port-forward TASK 8080:80")
			}
			var pairs []ports
			for _, text := range c.Args().Slice()[1:] {
				p, err := portsOf(text)
				if err != nil {
					return err
				}
				pairs = append(pairs, p)
			}
			return runForward(c, e, pairs)
		},
	}
}

// ports are a port here and one there.
type ports struct{ local, remote uint16 }

func portsOf(text string) (ports, error) {
	local, remote, ok := strings.Cut(text, ":")
	if !ok {
		remote = local
	}
	l, err := strconv.ParseUint(local, 10, 16)
	r, err2 := strconv.ParseUint(remote, 10, 16)
	if err != nil || err2 != nil || r == 0 {
		return ports{}, console.Hint(console.Usagef("%q are no ports", text), "LOCAL:REMOTE, or one number for both; LOCAL 0 is any")
	}
	return ports{uint16(l), uint16(r)}, nil
}

// forwarding is one run of port-forward.
type forwarding struct {
	console.Env
	cluster *console.Cluster
	task    *console.Task
	quiet   bool
	wg      sync.WaitGroup
}

func (f *forwarding) say(format string, args ...any) {
	if !f.quiet {
		fmt.Fprintf(f.Err, "clusterd: "+format+"\n", args...)
	}
}

func runForward(c *cliv2.Context, e console.Env, pairs []ports) error {
	f := &forwarding{Env: e, quiet: c.Bool("quiet")}
	var err error
	if f.cluster, err = console.Connect(c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer f.wg.Wait()
	defer cancel()
	w := newWatcher(f.cluster)
	ready, listened := make(chan struct{}), make(chan error, 1)
	go func() { listened <- w.run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-listened:
		return err
	}
	if f.task, err = livingTask(ctx, f.cluster, c.Args().First()); err != nil {
		return err
	}
	ended := w.ended(keyOf(f.task.Task))
	var listeners []net.Listener
	closeAll := func() {
		for _, l := range listeners {
			_ = l.Close() // nobody is left who could be told
		}
	}
	defer closeAll()
	for _, p := range pairs {
		address := net.JoinHostPort(c.String("address"), strconv.Itoa(int(p.local)))
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return console.Hint(err, "0:%d takes any port that is free", p.remote)
		}
		listeners = append(listeners, l)
	}
	for i, l := range listeners {
		// On standard output: a script reads from it which port it got.
		fmt.Fprintf(f.Out, "%s -> %s port %d\n", l.Addr(), f.task.GetTaskId().GetValue(), pairs[i].remote)
		f.wg.Go(func() { f.accept(ctx, l, pairs[i].remote) })
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-listened:
		return err
	case <-ended:
		return fmt.Errorf("task %s has ended", f.task.GetTaskId().GetValue())
	}
}

func (f *forwarding) accept(ctx context.Context, l net.Listener, remote uint16) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
				f.say("%v", err)
			}
			return
		}
		f.wg.Go(func() {
			if err := f.serve(ctx, conn, remote); err != nil && ctx.Err() == nil {
				f.say("port %d: %v", remote, err)
				if hint := console.HintOf(err); hint != "" {
					f.say("hint: %s", hint)
				}
			}
		})
	}
}

// serve joins one connection with one to the task.
func (f *forwarding) serve(ctx context.Context, conn net.Conn, remote uint16) error {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := url.Values{"container_id": {containerText(f.task.Container())}, "port": {strconv.Itoa(int(remote))}}
	inside, err := f.cluster.UpgradeAgent(ctx, f.task.GetAgentId().GetValue(), console.OwnPath+"forward?"+q.Encode(), "tcp")
	if err != nil {
		return err
	}
	defer inside.Close()
	defer context.AfterFunc(ctx, func() {
		_ = inside.Close() // ends the copies below
		_ = conn.Close()   // the same
	})()
	f.wg.Go(func() {
		_, err := io.Copy(inside, conn)
		if half, ok := inside.(interface{ CloseWrite() error }); ok && err == nil {
			if half.CloseWrite() == nil {
				return
			}
		}
		// It may only have said all that it has to say: an answer can still come.
		if err == nil {
			select {
			case <-ctx.Done():
			case <-time.After(linger):
			}
		}
		cancel()
	})
	_, err = io.Copy(conn, inside)
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}
