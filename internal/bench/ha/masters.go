package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/testcluster"
)

// startMasters runs three real masters, and waits until one leads.
func startMasters(s *settings, flags ...string) (*testcluster.Cluster, error) {
	c, err := testcluster.New(testcluster.Options{Dir: s.dir, Masters: 3, Agents: -1, MasterFlags: flags})
	if err != nil {
		return nil, err
	}
	for _, m := range c.Masters {
		if err := m.Start(); err != nil {
			c.Stop()
			return nil, err
		}
	}
	if _, _, err := leader(context.Background(), c); err != nil {
		stop(s, c, err)
		return nil, err
	}
	return c, nil
}

// stop ends the masters of a section.
func stop(s *settings, c *testcluster.Cluster, failed error) {
	c.Stop()
	if failed != nil && s.keep {
		c.DumpLogs(s.progress)
	}
}

// plain does not follow redirects.
var plain = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// status returns the status code of a master's answer to what only the leader serves: 200, 307
// with a leader known, 503 without.
func status(ctx context.Context, m *testcluster.Process, path string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Addr+path, nil)
	if err != nil {
		return 0, err
	}
	res, err := plain.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	return res.StatusCode, nil
}

// leader waits until one master leads and all others that run know it.
func leader(ctx context.Context, c *testcluster.Cluster) (lead *testcluster.Process, others []*testcluster.Process, err error) {
	err = testcluster.Poll(func() error {
		lead, others = nil, nil
		for _, m := range c.Masters {
			if m.PID() == 0 {
				continue
			}
			code, err := status(ctx, m, "/slaves")
			switch {
			case err != nil:
				return err
			case code == http.StatusOK && lead == nil:
				lead = m
			case code == http.StatusTemporaryRedirect:
				others = append(others, m)
			default:
				return fmt.Errorf("%s answers %d", m.Addr, code)
			}
		}
		if lead == nil {
			return errors.New("no master leads")
		}
		return ctx.Err()
	})
	return lead, others, err
}

// framework is a connected scheduler that wants nothing.
type framework struct {
	*scheduler.Client
	subscribed chan time.Time // takes when it was subscribed, each time
	cancel     context.CancelFunc
	done       chan struct{} // closed when err is why it ended
	err        error
}

func addrs(masters []*testcluster.Process) []string {
	var all []string
	for _, m := range masters {
		all = append(all, m.Addr)
	}
	return all
}

// subscribe runs a framework without interest in offers. Its client tries again at once
// when it has lost its master.
func subscribe(ctx context.Context, masters []string, name string) (*framework, error) {
	client, err := scheduler.New(scheduler.Options{
		Masters: masters, MinBackoff: 5 * time.Millisecond, MaxBackoff: 10 * time.Millisecond,
		Framework: &mesos.FrameworkInfo{
			User: new("root"), Name: &name, Roles: []string{name}, Checkpoint: new(true), FailoverTimeout: proto.Float64(3600),
			Capabilities: []*mesos.FrameworkInfo_Capability{
				{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()},
				{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
			},
		},
		SuppressedRoles: []string{name},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &framework{Client: client, subscribed: make(chan time.Time, 100), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.err = client.Run(ctx, func(e *scheduler.Event) error {
			if e.GetType() == scheduler.SUBSCRIBED {
				f.subscribed <- time.Now()
			}
			return nil
		})
	}()
	_, err = f.wait()
	return f, err
}

// wait waits for the next subscription.
func (f *framework) wait() (time.Time, error) {
	select {
	case at := <-f.subscribed:
		return at, nil
	case <-f.done:
		return time.Time{}, fmt.Errorf("the framework ended: %w", f.err)
	case <-time.After(testcluster.Patience):
		return time.Time{}, errors.New("the framework is not subscribed")
	}
}

func (f *framework) close() {
	f.cancel()
	<-f.done
}
