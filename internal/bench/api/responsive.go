package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"clusterd/api/client/scheduler"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/bench/measure"
	"clusterd/internal/testcluster"
)

// benchResponsive measures what cannot wait while others read the whole state, as Mesos's
// MasterActorResponsiveness does: /health, and offers of resources that became free. And
// what the readers cost the core, which must not notice them.
func benchResponsive(ctx context.Context, s *settings) ([]measure.Row, error) {
	w, err := s.large(ctx)
	if err != nil {
		return nil, err
	}
	p, err := w.newProber(ctx)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if _, err := w.pauses(ctx); err != nil { // it reads what the prober has changed, not later
		return nil, err
	}
	health := query{name: "/health", path: "/health"}
	var rows []measure.Row
	for _, clients := range []int{0, s.clients} {
		when, target := ", alone", "p99 <= 10 ms"
		if clients > 0 {
			when, target = fmt.Sprintf(", %d clients poll /state", clients), ""
		}
		before, err := w.pauses(ctx)
		if err != nil {
			return rows, err
		}
		begin := time.Now()
		finish := w.poll(ctx, query{path: "/state"}, clients)
		healthy := w.poll(ctx, health, 1)
		offers, probed := p.probe(ctx, s.length)
		alive, asked := healthy()
		after, err := w.pauses(ctx) // while it is as busy
		polled, failed := finish()
		if err := errors.Join(probed, asked, err, failed); err != nil {
			return rows, err
		}
		waited, viewed := fmt.Sprintf("%d inputs", after.count-before.count), fmt.Sprintf("%d views", after.view.total()-before.view.total())
		if begin.Sub(w.ready) > 2*time.Minute { // or the making of the cluster would count
			waited += ", longest " + ms(after.longestWait) + " in the last minute or two"
			viewed += ", longest " + ms(after.longestView) + " likewise"
		}
		rows = append(rows,
			measure.Row{What: "/health" + when, Value: measure.Quantiles(alive.took, ms), Note: fmt.Sprintf("%d times, one after the other", len(alive.took))},
			measure.Row{What: "free resources -> OFFERS" + when, Value: measure.Quantiles(offers, ms), Target: target, Note: fmt.Sprintf("%d times", len(offers))},
			measure.Row{What: "inputs wait for the core" + when, Value: after.wait.since(before.wait), Note: waited},
			measure.Row{What: "the core handles an input" + when, Value: after.handle.since(before.handle)},
			measure.Row{What: "the core makes a view for readers" + when, Value: after.view.since(before.view), Note: viewed},
		)
		if clients > 0 {
			rows = append(rows, measure.Row{What: "- what the pollers get meanwhile", Value: polled.String()})
		}
	}
	return rows, nil
}

// prober is a framework that is offered the resources of one agent again and again.
type prober struct {
	w *world
	*framework
	offer *mesos.Offer
	n     int
}

// newProber subscribes one, and has it refuse all agents but one.
func (w *world) newProber(ctx context.Context) (*prober, error) {
	// Deep enough that reading is never what limits a run.
	f, err := w.subscribe(ctx, &mesos.FrameworkInfo{
		User: new("root"), Name: new("prober"), Roles: []string{"prober"}, Checkpoint: new(true), FailoverTimeout: proto.Float64(60),
		Capabilities: []*mesos.FrameworkInfo_Capability{
			{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()},
			{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
			{Type: mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT.Enum()},
		},
	}, nil, make(chan event, 1<<16))
	if err != nil {
		return nil, err
	}
	p := &prober{w: w, framework: f}
	var refused []*mesos.OfferID
	for got := 0; got < w.shape.agents; {
		e, err := p.next(ctx)
		if err != nil {
			p.close()
			return nil, err
		}
		for _, o := range e.GetOffers().GetOffers() {
			if got++; p.offer == nil {
				p.offer = o
			} else {
				refused = append(refused, o.GetId())
			}
		}
	}
	if len(refused) > 0 {
		err = p.Decline(ctx, scheduler.Refuse(100000), refused...)
	}
	if err != nil {
		p.close()
	}
	return p, err
}

func (p *prober) next(ctx context.Context) (event, error) {
	patience := time.NewTimer(testcluster.Patience)
	defer patience.Stop()
	select {
	case e := <-p.events:
		return e, nil
	case <-p.done:
		return event{}, fmt.Errorf("the framework ended: %w", p.err)
	case <-ctx.Done():
		return event{}, ctx.Err()
	case <-patience.C:
		return event{}, errors.New("the framework hears nothing")
	}
}

// probe measures for a while.
func (p *prober) probe(ctx context.Context, length time.Duration) ([]time.Duration, error) {
	var took []time.Duration
	for begin := time.Now(); len(took) == 0 || time.Since(begin) < length; {
		d, err := p.once(ctx)
		if err != nil {
			return nil, err
		}
		took = append(took, d)
	}
	return took, nil
}

// once takes an offer whole with a task, ends that, and measures from the moment at which
// the agent tells of its end until what it had is offered.
func (p *prober) once(ctx context.Context) (time.Duration, error) {
	p.n++
	id := fmt.Sprintf("probe-%d", p.n)
	task := &mesos.TaskInfo{
		Name: &id, TaskId: &mesos.TaskID{Value: &id}, AgentId: p.offer.GetAgentId(), Resources: p.offer.GetResources(),
		Command: &mesos.CommandInfo{Shell: new(false), Value: new("/bin/true"), Arguments: []string{"true"}},
	}
	if err := p.Launch(ctx, p.offer, task); err != nil {
		return 0, err
	}
	for {
		e, err := p.next(ctx)
		if err != nil {
			return 0, err
		}
		if offers := e.GetOffers().GetOffers(); len(offers) > 0 {
			p.offer = offers[0]
			ended, ok := p.w.ends.LoadAndDelete(id)
			if !ok {
				return 0, fmt.Errorf("an offer came before %s had ended", id)
			}
			return e.at.Sub(ended.(time.Time)), nil
		}
		status := e.GetUpdate().GetStatus()
		if status == nil {
			continue
		}
		if err := p.Acknowledge(ctx, status); err != nil {
			return 0, err
		}
		if status.GetTaskId().GetValue() == id && status.GetState() == mesos.TaskState_TASK_RUNNING {
			if err := p.Kill(ctx, task.TaskId, task.AgentId, nil); err != nil {
				return 0, err
			}
		}
	}
}

// pauses are what the master says of its core.
type pauses struct {
	count                    int
	wait, handle, view       histogram
	longestWait, longestView time.Duration
}

// histogram has how many durations were at most as long as each bound, in seconds.
type histogram []bucket

type bucket struct {
	bound float64
	count int
}

// pauses reads them from what Prometheus would.
func (w *world) pauses(ctx context.Context) (pauses, error) {
	text, err := w.body(ctx, query{path: "/metrics"})
	if err != nil {
		return pauses{}, err
	}
	var p pauses
	if p.wait, err = readHistogram(text, "clusterd_master_core_wait_seconds"); err != nil {
		return p, err
	}
	if p.handle, err = readHistogram(text, "clusterd_master_core_handle_seconds"); err != nil {
		return p, err
	}
	if p.view, err = readHistogram(text, "clusterd_master_core_view_seconds"); err != nil {
		return p, err
	}
	p.count = p.wait.total()
	if p.longestWait, err = readSeconds(text, "clusterd_master_core_longest_wait_seconds"); err != nil {
		return p, err
	}
	p.longestView, err = readSeconds(text, "clusterd_master_core_longest_view_seconds")
	return p, err
}

// readSeconds takes a gauge from the text format.
func readSeconds(text []byte, name string) (time.Duration, error) {
	n, err := strconv.ParseFloat(after(text, name+" "), 64)
	if err != nil {
		return 0, fmt.Errorf("the master does not show %s: %w", name, err)
	}
	return time.Duration(n * float64(time.Second)), nil
}

// after returns the rest of the line that begins with a prefix.
func after(text []byte, prefix string) string {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(prefix)); ok {
			return strings.TrimSpace(string(rest))
		}
	}
	return ""
}

// readHistogram takes one from the text format.
func readHistogram(text []byte, name string) (histogram, error) {
	var h histogram
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name+`_bucket{le="`)
		if !ok {
			continue
		}
		bound, number, _ := strings.Cut(rest, `"} `)
		le, err := strconv.ParseFloat(bound, 64)
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return nil, err
		}
		h = append(h, bucket{le, int(n)})
	}
	if len(h) == 0 {
		return nil, fmt.Errorf("the master does not show %s", name)
	}
	return h, lines.Err()
}

func (h histogram) total() int { return h[len(h)-1].count }

// since renders bounds of what came after an earlier reading.
func (h histogram) since(before histogram) string {
	total := h.total() - before.total()
	if total == 0 {
		return "none"
	}
	within := func(share float64) string {
		need := int(math.Ceil(share * float64(total)))
		for i, b := range h {
			if b.count-before[i].count >= need {
				if math.IsInf(b.bound, 1) {
					break
				}
				return "<= " + ms(time.Duration(b.bound*float64(time.Second)))
			}
		}
		return "> 60 s"
	}
	return fmt.Sprintf("p50 %s, p99 %s, all %s", within(0.5), within(0.99), within(1))
}
