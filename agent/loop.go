package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"clusterd/agent/core"
	"clusterd/internal/authz"
	"clusterd/internal/files"
)

// maxBatch is how many inputs may share one transaction: enough to make the
// disk's share of each small, few enough to answer the first soon.
const maxBatch = 512

// post hands an input to the core. It waits while too many wait already, and
// gives up when the agent ends.
func (a *Agent) post(in core.Input) {
	select {
	case a.inputs <- in:
	case <-a.ctx.Done():
	}
}

// loop feeds the core.
func (a *Agent) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var effects []core.Effect
	for {
		if at, ok := a.core.NextWake(); ok {
			timer.Reset(time.Until(at))
		} else {
			timer.Reset(time.Hour)
		}
		effects = effects[:0]
		select {
		case <-a.ctx.Done():
			return
		case ch := <-a.views:
			a.answerViews(ch)
			continue
		case in := <-a.inputs:
			effects = append(effects, a.feed(in)...)
		case <-timer.C:
			effects = append(effects, a.core.Handle(time.Now(), core.Tick{})...)
		}
	batch:
		for range maxBatch {
			select {
			case in := <-a.inputs:
				effects = append(effects, a.feed(in)...)
			default:
				break batch
			}
		}
		if !a.perform(effects) {
			return
		}
		clear(effects)
	}
}

// feed hands the core an input.
func (a *Agent) feed(in core.Input) []core.Effect {
	now := time.Now()
	a.timings.fed(in, now)
	return a.core.Handle(now, in)
}

// answerViews takes one view for all who ask now.
func (a *Agent) answerViews(ch chan *core.View) {
	v := a.core.View()
	ch <- v
	for {
		select {
		case ch := <-a.views:
			ch <- v
		default:
			return
		}
	}
}

// perform does the effects of a batch. It returns false when the agent is over.
func (a *Agent) perform(effects []core.Effect) bool {
	var records []core.Record
	volumes := false // a launch must not overtake the volumes that it may need
	for _, e := range effects {
		switch e := e.(type) {
		case core.Persist:
			records = append(records, e.Record)
		case core.MakeVolume, core.RemoveVolume:
			volumes = true
		case core.LaunchContainer:
			// Before the commit, which takes as long as the launch: see core.Effect.
			if !volumes {
				a.launch(e)
			}
		}
	}
	if len(records) > 0 {
		began := time.Now()
		err := a.store.Write(records)
		a.timings.commits.Observe(time.Since(began))
		if err != nil {
			// Nothing of this batch was told to anybody. The executors keep what was
			// not acknowledged and report it to the next run.
			a.log.Error().Err(err).Msg("the checkpoint cannot be written: the agent stops, its executors go on")
			a.end(errors.Join(errCheckpoint, err))
			return false
		}
	}
	volumes = false
	for _, e := range effects {
		switch e := e.(type) {
		case core.Exit:
			a.log.Info().Str("reason", e.Reason).Msg("agent ends")
			if e.Err {
				a.end(errors.New(e.Reason))
			} else {
				a.end(nil)
			}
			return false
		case core.MakeVolume, core.RemoveVolume:
			volumes = true
		case core.LaunchContainer:
			if volumes {
				a.launch(e)
			}
		}
		a.do(e)
	}
	return true
}

var errCheckpoint = errors.New("the checkpoint cannot be written")

func (a *Agent) do(e core.Effect) {
	switch e := e.(type) {
	case core.Persist, core.LaunchContainer:
	case core.Log:
		a.logEffect(e)
	case core.Count:
		a.metrics.Counter(e.Key).Add(e.N)
	case core.ConnectMaster:
		a.wg.Go(a.connect)
	case core.LearnMasters:
		a.learnMasters(e)
	case core.SendMaster:
		a.timings.sent(e)
		a.sendMaster(e)
	case core.CloseLink:
		a.closeLink(e)
	case core.Respond:
		a.respond(e.Request, reply{status: e.Status, body: e.Body})
	case core.OpenStream:
		a.respond(e.Request, reply{open: true})
	case core.SendExecutor:
		a.stream(e.Stream).send(e.Event)
	case core.CloseStream:
		a.stream(e.Stream).close()
	case core.UpdateContainer:
		a.updateContainer(e)
	case core.DestroyContainer:
		a.destroy(e.ContainerID)
	case core.WatchContainer:
		a.watch(e.ContainerID)
	case core.RemoveContainer:
		a.remove(e.ContainerID)
	case core.AttachFiles:
		a.attach(e.Real, e.Virtual, e.Owner)
	case core.CollectSandbox:
		a.gc.schedule(e.Directory, e.Virtual, time.Now())
	case core.MakeVolume:
		if err := os.MkdirAll(e.Path, 0o755); err != nil {
			a.log.Error().Err(err).Str("path", e.Path).Msg("cannot make the directory of a persistent volume")
		}
	case core.RemoveVolume:
		a.removeVolume(e)
	default:
		a.log.Error().Type("effect", e).Msg("unknown effect")
	}
}

func (a *Agent) logEffect(e core.Log) {
	var ev *zerolog.Event
	switch e.Level {
	case core.Debug:
		ev = a.log.Debug()
	case core.Warn:
		ev = a.log.Warn()
	case core.Error:
		ev = a.log.Error()
	default:
		ev = a.log.Info()
	}
	for i := 0; i+1 < len(e.Fields); i += 2 {
		ev = ev.Str(e.Fields[i], e.Fields[i+1])
	}
	ev.Msg(e.Event)
}

// attach shows a sandbox to those who may see those of its owner.
func (a *Agent) attach(directory, virtual, owner string) {
	may := func(p *authz.Principal) bool {
		return a.policy.Load().Approver(p, authz.AccessSandboxes).Allows(owner)
	}
	a.attachFor(directory, virtual, may)
}

// attachForeign shows a sandbox that nobody knows the owner of to those who may see all.
func (a *Agent) attachForeign(directory string) {
	a.attachFor(directory, directory, func(p *authz.Principal) bool {
		return a.policy.Load().Approver(p, authz.AccessSandboxes).Everything()
	})
}

func (a *Agent) attachFor(directory, virtual string, may files.Authorizer) {
	if err := a.files.AttachAuthorized(directory, virtual, may); err != nil {
		a.log.Warn().Err(err).Str("path", virtual).Msg("cannot attach to /files")
	}
}

// removeVolume deletes what a persistent volume held. It may be much: what the
// path holds is put aside at once, so that a volume of the same name may follow,
// and deleted by and by.
func (a *Agent) removeVolume(e core.RemoveVolume) {
	var aside []string
	var errs []error
	put := func(path, to string) {
		if err := os.Rename(path, to); err == nil {
			aside = append(aside, to)
		} else if !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	suffix := ".removed-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if e.KeepRoot {
		entries, err := os.ReadDir(e.Path)
		errs = append(errs, err)
		for _, entry := range entries {
			put(filepath.Join(e.Path, entry.Name()), filepath.Join(e.Path, "."+entry.Name()+suffix))
		}
	} else {
		put(e.Path, e.Path+suffix)
	}
	a.wg.Go(func() {
		for _, path := range aside {
			errs = append(errs, os.RemoveAll(path))
		}
		if err := errors.Join(errs...); err != nil {
			a.log.Error().Err(err).Str("path", e.Path).Msg("cannot remove a persistent volume")
		}
	})
}
