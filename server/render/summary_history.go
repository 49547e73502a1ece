package render

import (
	"strconv"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// Sample is what the cluster was like at one moment, in numbers.
type Sample struct {
	At time.Time
	// Tasks that were not completed, by state.
	Tasks map[mesos.TaskState]int
	// Ended is how many tasks have ended in each terminal state, since the master started.
	Ended map[mesos.TaskState]int64
	// total, allocated and offered are sums of the four usual scalars.
	total, allocated, offered                          [len(always)]int64
	agentsActive, agentsInactive, agentsUnreachable    int
	frameworksActive, frameworksInactive, offersLength int
}

// NewSample measures a view.
func NewSample(v *core.View, at time.Time, ended map[mesos.TaskState]int64) Sample {
	s := Sample{
		At: at, Tasks: v.Counts.Tasks, Ended: ended,
		agentsActive: v.Counts.AgentsActive, agentsInactive: v.Counts.AgentsInactive, agentsUnreachable: v.Unreachable.Len(),
		frameworksActive: v.Counts.FrameworksActive, frameworksInactive: v.Counts.FrameworksInactive,
		offersLength: v.Counts.OutstandingOffers,
	}
	for a := range v.Agents.Values() {
		for _, one := range []struct {
			to   *[len(always)]int64
			from [len(always)]int64
		}{{&s.total, scalars(a.Total)}, {&s.allocated, scalars(a.Used)}, {&s.offered, scalars(a.Offered)}} {
			for i, n := range one.from {
				one.to[i] += n
			}
		}
	}
	return s
}

// Notable is an event that people want to hear of: when it was, and in words.
type Notable struct {
	At   time.Time
	Type string
	Text string
	// What it is about; empty where it is about nothing of the kind.
	AgentID, FrameworkID, TaskID, State string
	// FrameworkUser and TaskUser are what it takes to see it; empty: all see it.
	FrameworkUser, TaskUser string
	// Role that must be seen; empty: none. With OfQuota its quota must be.
	Role    string
	OfQuota bool
}

// seen says whether a viewer may hear of it.
func (n *Notable) seen(who *authz.Viewer) bool {
	if n.FrameworkID != "" && !who.SeesFramework(n.FrameworkUser) {
		return false
	}
	if n.TaskID != "" && !who.SeesTask(n.TaskUser) {
		return false
	}
	if n.OfQuota {
		return who.SeesQuota(n.Role)
	}
	return n.Role == "" || who.SeesRole(n.Role)
}

// History writes samples as columns, oldest first, and notable events, newest first.
func History(samples []Sample, interval time.Duration, recent []Notable, viewer *authz.Viewer) []byte {
	o := open(nil)
	o.double("interval", interval.Seconds())
	column(&o, "times", samples, func(dst []byte, s *Sample) []byte { return appendMillis(dst, Seconds(s.At)) })
	o.states("tasks", samples, func(s *Sample, state mesos.TaskState) int64 { return int64(s.Tasks[state]) })
	o.states("ended", samples, func(s *Sample, state mesos.TaskState) int64 { return s.Ended[state] })
	for i, name := range always {
		o.key(name)
		in := open(o.buf)
		column(&in, "total", samples, func(dst []byte, s *Sample) []byte { return appendAmount(dst, s.total[i]) })
		column(&in, "allocated", samples, func(dst []byte, s *Sample) []byte { return appendAmount(dst, s.allocated[i]) })
		column(&in, "offered", samples, func(dst []byte, s *Sample) []byte { return appendAmount(dst, s.offered[i]) })
		o.buf = in.close()
	}
	o.key("agents")
	in := open(o.buf)
	numbers(&in, "active", samples, func(s *Sample) int { return s.agentsActive })
	numbers(&in, "inactive", samples, func(s *Sample) int { return s.agentsInactive })
	numbers(&in, "unreachable", samples, func(s *Sample) int { return s.agentsUnreachable })
	o.buf = in.close()
	o.key("frameworks")
	in = open(o.buf)
	numbers(&in, "active", samples, func(s *Sample) int { return s.frameworksActive })
	numbers(&in, "inactive", samples, func(s *Sample) int { return s.frameworksInactive })
	o.buf = in.close()
	numbers(&o, "offers", samples, func(s *Sample) int { return s.offersLength })
	o.key("recent")
	o.buf = append(o.buf, '[')
	first := true
	for i := range recent {
		if !recent[i].seen(viewer) {
			continue
		}
		if !first {
			o.buf = append(o.buf, ',')
		}
		first = false
		o.buf = recent[i].append(o.buf)
	}
	o.buf = append(o.buf, ']')
	return o.close()
}

func (n *Notable) append(dst []byte) []byte {
	o := open(dst)
	o.time("time", n.At)
	o.str("type", n.Type)
	o.str("text", n.Text)
	for _, f := range []struct{ name, value string }{
		{"agent_id", n.AgentID}, {"framework_id", n.FrameworkID}, {"task_id", n.TaskID}, {"state", n.State}, {"role", n.Role},
	} {
		if f.value != "" {
			o.str(f.name, f.value)
		}
	}
	return o.close()
}

// column writes one value of each sample.
func column(o *object, name string, samples []Sample, write func([]byte, *Sample) []byte) {
	o.key(name)
	o.buf = append(o.buf, '[')
	for i := range samples {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = write(o.buf, &samples[i])
	}
	o.buf = append(o.buf, ']')
}

func numbers(o *object, name string, samples []Sample, of func(*Sample) int) {
	column(o, name, samples, func(dst []byte, s *Sample) []byte { return strconv.AppendInt(dst, int64(of(s)), 10) })
}

// states writes a column for each state that there was any task in.
func (o *object) states(name string, samples []Sample, of func(*Sample, mesos.TaskState) int64) {
	o.key(name)
	in := open(o.buf)
	for i := range taskStates {
		state, some := mesos.TaskState(i), false //nolint:gosec // there are few
		for k := range samples {
			some = some || of(&samples[k], state) != 0
		}
		if some {
			column(&in, stateName(state), samples, func(dst []byte, s *Sample) []byte { return strconv.AppendInt(dst, of(s, state), 10) })
		}
	}
	o.buf = in.close()
}
