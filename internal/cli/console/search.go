package console

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"clusterd/api/client"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/api/mesosjson"
)

// searchPath is where the leader finds tasks; masters of before have it not.
const searchPath = OwnPath + "tasks/search"

// maxFound is how many tasks one reference is looked for at most: it is to be one. Of those that
// a * stands for so many are asked for at first.
const maxFound = 1000

// found are tasks, and whether there are more.
type found struct {
	tasks []Task
	more  bool
}

// SearchTasks are up to limit tasks that live, and whose id or name begins with a text.
func (cl *Cluster) SearchTasks(ctx context.Context, begin string, limit int) ([]Task, error) {
	f, err := cl.search(ctx, url.Values{"ref": {begin}, "living": {"true"}, "limit": {strconv.Itoa(limit)}})
	return f.tasks, err
}

func (cl *Cluster) search(ctx context.Context, query url.Values) (found, error) {
	var answer struct {
		Tasks []struct {
			Task               json.RawMessage `json:"task"`
			Framework          string          `json:"framework"`
			Hostname           string          `json:"hostname"`
			Ended, Unreachable bool
		} `json:"tasks"`
		More bool `json:"more"`
	}
	if err := cl.Get(ctx, searchPath+"?"+query.Encode(), &answer); err != nil {
		return found{}, err
	}
	f := found{more: answer.More, tasks: make([]Task, len(answer.Tasks))}
	for i, t := range answer.Tasks {
		own := &mesos.Task{}
		if err := mesosjson.Unmarshal(t.Task, own); err != nil {
			return found{}, err
		}
		f.tasks[i] = Task{Task: own, Framework: t.Framework, Hostname: t.Hostname, Ended: t.Ended, Unreachable: t.Unreachable}
	}
	return f, nil
}

// TaskNow is a task as the leader knows it now, nil if it knows none.
func (cl *Cluster) TaskNow(ctx context.Context, framework, id string) (*mesos.Task, error) {
	var answer struct {
		Tasks []json.RawMessage `json:"tasks"`
	}
	query := url.Values{"framework_id": {framework}, "task_id": {id}}
	if err := cl.Get(ctx, OwnPath+"task?"+query.Encode(), &answer); err != nil || len(answer.Tasks) == 0 {
		return nil, err
	}
	t := &mesos.Task{}
	return t, mesosjson.Unmarshal(answer.Tasks[len(answer.Tasks)-1], t) // the newest
}

// EachTask calls each with all tasks, in the form of the v1 API as JSON, one after the other: of
// one framework if its id is given, with ended also those that have ended.
func (cl *Cluster) EachTask(ctx context.Context, framework string, ended bool, each func(framework, id string, task json.RawMessage)) error {
	query := url.Values{"framework": {framework}, "living": {strconv.FormatBool(!ended)}}
	r, err := cl.Request(ctx, http.MethodGet, searchPath+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	res, err := cl.Do(r)
	if client.StatusCode(err) == http.StatusNotFound {
		return cl.eachOfTasks(ctx, each) // a master of before
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	d := json.NewDecoder(res.Body)
	for range 3 { // {, "tasks" and [
		if _, err := d.Token(); err != nil {
			return err
		}
	}
	for d.More() {
		var t struct {
			TaskID      string          `json:"task_id"`
			FrameworkID string          `json:"framework_id"`
			Task        json.RawMessage `json:"task"`
		}
		if err := d.Decode(&t); err != nil {
			return err
		}
		each(t.FrameworkID, t.TaskID, t.Task)
	}
	return nil
}

func (cl *Cluster) eachOfTasks(ctx context.Context, each func(framework, id string, task json.RawMessage)) error {
	tasks, err := cl.Tasks(ctx)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		b, err := mesosjson.Marshal(t.Task)
		if err != nil {
			return err
		}
		each(t.GetFrameworkId().GetValue(), t.GetTaskId().GetValue(), b)
	}
	return nil
}

// candidates are tasks among which [Choose] finds what a reference means, or says what it may
// have meant: those that fit, or else some that there are.
func (cl *Cluster) candidates(ctx context.Context, ref string) ([]Task, error) {
	framework, want, ok := strings.Cut(ref, "/")
	if !ok {
		framework, want = "", ref
	}
	begin, many := strings.CutSuffix(want, Everything)
	if want == "" || many && begin == "" && framework == "" {
		return nil, nil // it is refused
	}
	q := url.Values{"ref": {begin}, "framework": {framework}, "names": {strconv.FormatBool(many)}, "limit": {strconv.Itoa(maxFound)}}
	f, err := cl.search(ctx, q)
	switch {
	case client.StatusCode(err) == http.StatusNotFound, f.more && many:
		return cl.Tasks(ctx)
	case err != nil || len(f.tasks) > 0:
		return f.tasks, err
	}
	f, err = cl.search(ctx, url.Values{"limit": {strconv.Itoa(maxFound)}})
	return f.tasks, err
}

// FindTask finds the task that a person means by a reference: see [Choose].
func (cl *Cluster) FindTask(ctx context.Context, ref string) (Task, error) {
	return returned(ctx, cl, func() (Task, error) {
		tasks, err := cl.candidates(ctx, ref)
		if err != nil {
			return Task{}, err
		}
		return Choose(tasks, ref)
	})
}

// FindTasks finds the tasks of references of commands that take several: see [ChooseAll].
func (cl *Cluster) FindTasks(ctx context.Context, refs []string) ([]Task, error) {
	return returned(ctx, cl, func() ([]Task, error) {
		var all [][]Task
		for _, ref := range refs {
			tasks, err := cl.candidates(ctx, ref)
			if err != nil {
				return nil, err
			}
			all = append(all, tasks)
		}
		return chooseAll(refs, func(i int) []Task { return all[i] })
	})
}

// FindTaskFramework is the id of the framework of all tasks that a reference fits.
func (cl *Cluster) FindTaskFramework(ctx context.Context, ref string) (string, error) {
	return returned(ctx, cl, func() (string, error) {
		tasks, err := cl.candidates(ctx, ref)
		if err != nil {
			return "", err
		}
		return ChooseFramework(tasks, ref)
	})
}

// youngTerm is how long after its election a leader may not yet have heard of all that runs.
const youngTerm = 30 * time.Second

// returned is what find finds. A new leader hears of tasks when their agents come back, most of
// which do at once: what is not there is looked for again for a while, and what is away is said.
func returned[T any](ctx context.Context, cl *Cluster, find func() (T, error)) (T, error) {
	w := newWait(cl.shared.waiting, cl.shared.patience)
	defer w.done()
	for {
		got, err := find()
		if Code(err) != ExitNotFound {
			return got, err
		}
		away, young := cl.away(ctx)
		if away == 0 {
			return got, err
		}
		why := Plural(away, "agent") + " not back since the leader changed"
		if !young || !w.again(ctx, why) || ctx.Err() != nil {
			return got, Hint(err, "%s: what runs there is not known yet", why)
		}
	}
}

// away is how many agents have not come back since the leader changed, and whether that was just
// now.
func (cl *Cluster) away(ctx context.Context) (agents int, young bool) {
	res, err := cl.Ask(ctx, master.Call_GET_AGENTS)
	if err != nil {
		return 0, false
	}
	if agents = len(res.GetGetAgents().GetRecoveredAgents()); agents == 0 {
		return 0, false
	}
	if res, err = cl.Ask(ctx, master.Call_GET_MASTER); err != nil {
		return agents, false
	}
	elected := time.UnixMicro(int64(res.GetGetMaster().GetElectedTime() * 1e6))
	return agents, time.Since(elected).Abs() < youngTerm
}
