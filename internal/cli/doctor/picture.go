package doctor

import (
	"context"
	"net/http"
	"sync"
	"time"

	"clusterd/api/mesos/v1/master"
	"clusterd/internal/cli/console"
	"clusterd/internal/registryapi"
)

// picture is what a cluster says of itself at one moment. Checks look at it, and ask for
// more only about what looks ill.
type picture struct {
	cluster  *console.Cluster
	now      time.Time
	registry registryapi.Status
	agents   *master.Response_GetAgents
	tasks    *master.Response_GetTasks
	// frameworks and offers by id.
	frameworks *master.Response_GetFrameworks
	offers     []offer
	metrics    map[string]float64
	// skew is how far the leader's clock is ahead of this host's, to a second.
	skew time.Duration
	// expires is when the leader's certificate does; zero without TLS.
	expires time.Time
	// ask answers why a framework is offered nothing.
	ask func(ctx context.Context, framework string) (explanation, error)
	// agentClock is how far an agent's clock is ahead of this host's.
	agentClock func(ctx context.Context, agent string) (time.Duration, error)
}

// offer is what matters of an outstanding offer.
type offer struct {
	FrameworkID string  `json:"framework_id"`
	Framework   string  `json:"framework"`
	Since       float64 `json:"since"`
	Inverse     bool    `json:"inverse"`
}

// explanation is what matters of the leader's.
type explanation struct {
	Agents struct {
		Eligible int `json:"eligible"`
		Reasons  []struct {
			Reason string `json:"reason"`
			Agents int    `json:"agents"`
		} `json:"reasons"`
	} `json:"agents"`
	Hint string `json:"hint"`
}

// take asks a cluster for the picture.
func take(ctx context.Context, cl *console.Cluster) (*picture, error) {
	p := &picture{cluster: cl, now: time.Now(), metrics: map[string]float64{}}
	if err := p.lookAtLeader(ctx); err != nil {
		return nil, err
	}
	p.ask = func(ctx context.Context, id string) (e explanation, err error) {
		return e, cl.Get(ctx, console.OwnPath+"explain?framework_id="+id, &e)
	}
	p.agentClock = func(ctx context.Context, id string) (time.Duration, error) {
		r, err := cl.Request(ctx, http.MethodGet, "/version", nil)
		if err != nil {
			return 0, err
		}
		res, err := cl.AgentDo(id, r)
		if err != nil {
			return 0, err
		}
		return ahead(res)
	}
	for _, get := range []struct {
		path string
		out  any
	}{
		{registryapi.Path, &p.registry},
		{console.OwnPath + "offers", &p.offers},
		{"/metrics/snapshot", &p.metrics},
	} {
		if err := cl.Get(ctx, get.path, get.out); err != nil {
			return nil, err
		}
	}
	for _, t := range []master.Call_Type{master.Call_GET_AGENTS, master.Call_GET_FRAMEWORKS, master.Call_GET_TASKS} {
		res, err := cl.Ask(ctx, t)
		if err != nil {
			return nil, err
		}
		switch t {
		case master.Call_GET_AGENTS:
			p.agents = res.GetGetAgents()
		case master.Call_GET_FRAMEWORKS:
			p.frameworks = res.GetGetFrameworks()
		default:
			p.tasks = res.GetGetTasks()
		}
	}
	return p, nil
}

// lookAtLeader finds out what the leader's answer says by its head and by TLS.
func (p *picture) lookAtLeader(ctx context.Context) error {
	r, err := p.cluster.Request(ctx, http.MethodGet, "/version", nil)
	if err != nil {
		return err
	}
	res, err := p.cluster.Do(r)
	if err != nil {
		return err
	}
	if res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
		p.expires = res.TLS.PeerCertificates[0].NotAfter
	}
	p.skew, err = ahead(res)
	return err
}

// ahead is how far the clock of who answers is ahead, by the Date of its answer, which
// counts in whole seconds.
func ahead(res *http.Response) (time.Duration, error) {
	defer res.Body.Close()
	date, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return 0, err
	}
	return time.Until(date.Add(500 * time.Millisecond)), nil
}

// atOnce runs f for the numbers below n, some at a time, and waits.
func atOnce(n int, f func(i int)) {
	const width = 16
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, width) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
