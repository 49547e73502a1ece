package isolation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation/supervisor"
)

// recovery is what Recover has found out.
type recovery struct {
	// kept are containers that stay, parents first; lost are known ones of which nothing
	// is left; orphans are to be destroyed, parents first, and debug are those among
	// them that stay known to nobody but were nested in a container that stays.
	kept, lost []*container
	orphans    []*mesos.ContainerID
}

// Recover implements Containerizer.
func (m *Mesos) Recover(ctx context.Context, known []ContainerConfig) ([]*mesos.ContainerID, error) {
	found, err := m.launcher.Recover(ctx)
	if err != nil {
		return nil, err
	}
	r, err := m.sort(known, found)
	if err != nil {
		return nil, err
	}
	states := make([]ContainerState, 0, len(r.kept))
	ids := make([]*mesos.ContainerID, 0, len(r.kept))
	for _, c := range r.kept {
		status, err := m.launcher.Status(c.id)
		if err != nil {
			return nil, err
		}
		states = append(states, ContainerState{Config: c.config, PID: status.Supervisor})
		ids = append(ids, c.id)
	}
	for _, isolator := range m.isolators {
		if err := isolator.Recover(ctx, statesFor(isolator, r.kept, states), r.orphans); err != nil {
			return nil, fmt.Errorf("recover isolator %s: %w", isolator.Name(), err)
		}
	}
	if m.provisioner != nil {
		// Orphans have theirs until they are destroyed.
		if err := m.provisioner.Recover(ctx, append(ids, r.orphans...)); err != nil {
			return nil, fmt.Errorf("recover root file systems: %w", err)
		}
	}
	m.mu.Lock()
	for _, c := range append(r.lost, r.kept...) {
		m.addLocked(c)
	}
	m.mu.Unlock()
	for _, c := range r.lost {
		c.termination = Termination{Message: "no trace of the container was found"}
		m.cleanup(ctx, c.id, c.isolators)
		close(c.ended)
	}
	for _, c := range r.kept {
		if err := m.watch(c); err != nil {
			return nil, err
		}
	}
	return r.orphans, m.destroyOrphans(ctx, r.orphans)
}

// statesFor are the states of those containers that an isolator is called for.
func statesFor(isolator Isolator, kept []*container, states []ContainerState) []ContainerState {
	var own []ContainerState
	for i, c := range kept {
		if slices.Contains(c.isolators, isolator) {
			own = append(own, states[i])
		}
	}
	return own
}

// sort decides what becomes of the containers that were found, parents first.
func (m *Mesos) sort(known []ContainerConfig, found []*mesos.ContainerID) (*recovery, error) {
	configs := make(map[string]*ContainerConfig, len(known))
	for i := range known {
		if err := ValidateID(known[i].ID); err != nil {
			return nil, err
		}
		configs[Key(known[i].ID)] = &known[i]
	}
	r := &recovery{}
	kept := make(map[string]*container, len(found))
	for _, id := range found {
		config, dir := m.remembered(id, configs[Key(id)])
		delete(configs, Key(id))
		parent, nested := kept[Key(id.GetParent())], id.GetParent() != nil
		if config == nil || nested && (parent == nil || config.Class == ClassDebug) {
			r.orphans = append(r.orphans, id)
			continue
		}
		root := config
		if nested {
			root = kept[rootID(id).GetValue()].config
		}
		c := m.newContainer(config, root.FrameworkID == nil, func() {})
		c.dir = dir
		close(c.launched)
		kept[Key(id)] = c
		r.kept = append(r.kept, c)
	}
	for i := range known {
		if config, ok := configs[Key(known[i].ID)]; ok {
			c := m.newContainer(config, config.FrameworkID == nil, func() {})
			close(c.launched)
			r.lost = append(r.lost, c)
		}
	}
	return r, nil
}

// remembered is the configuration of a container that was found: what the agent knows of
// it, if it does, and else what the last run of the containerizer wrote down of one that
// is nested or standalone. Nil means that nobody wants it.
func (m *Mesos) remembered(id *mesos.ContainerID, known *ContainerConfig) (config *ContainerConfig, dir string) {
	status, err := m.launcher.Status(id)
	if err != nil {
		return known, ""
	}
	if known == nil && m.cutShort(id, status) {
		m.log.Info().Str("container_id", Key(id)).Msg("the launch of a container was cut short")
		return nil, ""
	}
	written, dir, err := readCheckpoint(status.RuntimeDir, id)
	if err != nil {
		if known == nil {
			m.log.Warn().Err(err).Str("container_id", Key(id)).Msg("read what is remembered of a container")
		}
		return known, ""
	}
	switch {
	case known != nil:
		own := *known
		own.RootFS, own.Image, own.Volumes, own.Class = written.RootFS, written.Image, written.Volumes, written.Class
		return &own, dir
	case id.GetParent() == nil && written.FrameworkID != nil:
		return nil, ""
	}
	return written, dir
}

// cutShort says whether the agent died before it had a container's command started: nothing
// of it has run, and whoever asked for it may ask again and get it. A supervisor that was
// told nothing ends by itself when the agent does, which may take it a moment.
func (m *Mesos) cutShort(id *mesos.ContainerID, status LauncherStatus) bool {
	if !fileExists(status.RuntimeDir) {
		return false // it was lost: nobody knows
	}
	for deadline := time.Now().Add(cutShortPatience); !supervisor.Started(status.RuntimeDir); time.Sleep(time.Millisecond) {
		if status.Supervisor == 0 {
			// It may have been told in its last moment.
			return !supervisor.Started(status.RuntimeDir)
		}
		var err error
		if status, err = m.launcher.Status(id); err != nil || time.Now().After(deadline) {
			return false
		}
	}
	return false
}

// cutShortPatience is how long a supervisor may take to notice the end of the agent.
const cutShortPatience = 2 * time.Second

// destroyOrphans destroys containers, those nested in others before these.
func (m *Mesos) destroyOrphans(ctx context.Context, orphans []*mesos.ContainerID) error {
	var nested, top []*mesos.ContainerID
	orphan := make(map[string]bool, len(orphans))
	for _, id := range orphans {
		orphan[Key(id)] = true
	}
	for _, id := range orphans {
		if id.GetParent() != nil && orphan[Key(id.GetParent())] {
			nested = append(nested, id)
		} else {
			top = append(top, id)
		}
	}
	errs := make([]error, len(top))
	var wg sync.WaitGroup
	for i, id := range top {
		wg.Go(func() {
			m.log.Info().Str("container_id", Key(id)).Msg("destroy orphan container")
			if err := m.launcher.Destroy(ctx, id); err != nil {
				errs[i] = fmt.Errorf("destroy orphan container %s: %w", Key(id), err)
				return
			}
			for _, n := range slices.Backward(nested) {
				if isBelow(n, id) {
					m.cleanup(ctx, n, m.isolators)
				}
			}
			m.cleanup(ctx, id, m.isolators)
			errs[i] = m.launcher.Remove(id)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// isBelow says whether a container is nested, at any depth, in another.
func isBelow(id, above *mesos.ContainerID) bool {
	for id = id.GetParent(); id != nil; id = id.GetParent() {
		if Key(id) == Key(above) {
			return true
		}
	}
	return false
}
