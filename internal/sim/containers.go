package sim

import (
	"errors"
	"time"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
)

// container is what the containerizer and its supervisor keep of one container: it
// outlives the agent's process, not the machine's boot.
type container struct {
	id      string
	m       *machine
	exec    *executor
	ended   bool
	status  int
	waiters []func()
}

// machine is a host for an agent and what survives the agent's process there.
type machine struct {
	w      *World
	index  int
	host   *host
	disk   *agentDisk
	agent  *agent
	booted int // counts boots; the disk knows that of the agent's last run
	// containers by id, and in order of creation.
	containers map[string]*container
	order      []*container
	ears       *listener
	// configuration is what an operator has changed in the agent's attributes.
	configuration int
}

// supervise begins a container.
func (m *machine) supervise(e *core.LaunchContainer) *container {
	c := &container{id: e.ContainerID.GetValue(), m: m}
	m.containers[c.id] = c
	m.order = append(m.order, c)
	c.exec = newExecutor(c, e)
	return c
}

// end is the end of all processes of a container. Who waits hears of it; the status
// stays until the container is removed.
func (c *container) end(status int) {
	if c.ended {
		return
	}
	c.ended, c.status = true, status
	c.exec.die()
	waiters := c.waiters
	c.waiters = nil
	for _, f := range waiters {
		f()
	}
}

func (m *machine) remove(id string) {
	c := m.containers[id]
	if c == nil {
		return
	}
	delete(m.containers, id)
	for i, x := range m.order {
		if x == c {
			m.order = append(m.order[:i:i], m.order[i+1:]...)
			break
		}
	}
}

// clear ends everything on the machine, as a loss of power does.
func (m *machine) clear() {
	for _, c := range m.order {
		c.ended = true
		c.exec.die()
		c.waiters = nil
	}
	m.containers, m.order = map[string]*container{}, nil
}

// shellContainer is what the agent's shell knows of a container (agent/containers.go).
type shellContainer struct {
	launching bool
	unwanted  bool
	cancel    func()
}

var errDestroyed = errors.New("the container was destroyed while it was launched")

// launch starts a container: some time passes before its processes run, and some
// before that is known.
func (a *agent) launch(e core.LaunchContainer) {
	id := e.ContainerID.GetValue()
	s := a.shellContainer(id)
	s.launching = true
	total := a.w.between(5*time.Millisecond, 150*time.Millisecond)
	if a.w.rng.IntN(20) == 0 {
		total += a.w.between(0, 20*time.Second) // fetches a lot
	}
	created := a.w.between(0, total)
	m := a.m
	failed := a.w.rng.IntN(60) == 0
	over := false
	boot := m.booted
	// What the agent has begun outside of itself may get done after it has died.
	a.w.clock.After(created, func() {
		if over || failed || m.booted != boot {
			return
		}
		if !a.up && a.w.rng.IntN(2) == 0 {
			return
		}
		if !a.up && a.next() {
			return // the next run has looked already: nothing is launched behind its back
		}
		m.supervise(&e)
	})
	finish := func(err error) {
		if over {
			return
		}
		over = true
		s.launching = false
		if err != nil {
			if c := m.containers[id]; c != nil {
				c.end(9)
				m.remove(id)
			}
			a.post(core.ContainerLaunched{ContainerID: id, Err: err})
			return
		}
		a.post(core.ContainerLaunched{ContainerID: id, Status: &mesos.ContainerStatus{ContainerId: e.ContainerID, ExecutorPid: new(uint32(100))}})
		a.wait(id)
		if s.unwanted {
			a.destroy(id)
		}
	}
	s.cancel = func() { a.later(time.Millisecond, func() { finish(errDestroyed) }) }
	a.later(total, func() {
		if failed {
			finish(errors.New("the launch failed"))
			return
		}
		finish(nil)
	})
}

// next says whether a later run of the agent has taken up what was there.
func (a *agent) next() bool { return a.m.agent != a && a.m.agent.started }

func (a *agent) shellContainer(id string) *shellContainer {
	s := a.containers[id]
	if s == nil {
		s = &shellContainer{}
		a.containers[id] = s
	}
	return s
}

// wait posts how a container ends.
func (a *agent) wait(id string) {
	post := func(t core.Termination) {
		a.later(a.w.between(0, time.Millisecond), func() { a.post(core.ContainerTerminated{ContainerID: id, Termination: t}) })
	}
	c := a.m.containers[id]
	if c == nil {
		post(core.Termination{Message: "no trace of the container was found"})
		return
	}
	known := func() { post(core.Termination{StatusKnown: true, Status: c.status}) }
	if c.ended {
		known()
		return
	}
	c.waiters = append(c.waiters, func() {
		if a.up {
			known()
		}
	})
}

// destroy ends a container, or the launch of one.
func (a *agent) destroy(id string) {
	s := a.containers[id]
	if s != nil {
		s.unwanted = true
		if s.launching {
			s.cancel()
			return
		}
	}
	a.later(a.w.between(time.Millisecond, 10*time.Millisecond), func() {
		if c := a.m.containers[id]; c != nil {
			c.end(9)
		}
	})
}

// takeUp finds the containers that an earlier run left; those that nobody knows are
// destroyed.
func (a *agent) takeUp(known []core.LaunchContainer) map[string]*mesos.ContainerStatus {
	ids := map[string]bool{}
	statuses := map[string]*mesos.ContainerStatus{}
	for _, k := range known {
		id := k.ContainerID.GetValue()
		ids[id] = true
		a.shellContainer(id)
		if c := a.m.containers[id]; c != nil && !c.ended {
			statuses[id] = &mesos.ContainerStatus{ContainerId: k.ContainerID, ExecutorPid: new(uint32(100))}
		}
	}
	for _, c := range append([]*container(nil), a.m.order...) {
		if !ids[c.id] {
			c.end(9)
			a.m.remove(c.id)
		}
	}
	return statuses
}
