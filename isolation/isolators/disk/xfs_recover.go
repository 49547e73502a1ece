package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
)

// Recover finds out which projects are in use: the directories know it. Sandboxes of
// containers that have ended keep theirs until they are deleted. A container that had
// none, from before the isolator was there, gets one.
func (x *XFS) Recover(ctx context.Context, states []isolation.ContainerState, _ []*mesos.ContainerID) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.findProjects(states); err != nil {
		return err
	}
	for _, s := range states {
		if s.Config.ID.GetParent() != nil {
			continue
		}
		if err := x.recoverOne(ctx, s.Config); err != nil {
			return fmt.Errorf("container %s: %w", isolation.Key(s.Config.ID), err)
		}
	}
	if len(x.projects.used) > 0 {
		x.start()
	}
	return nil
}

// findProjects looks at all directories that may have been given to a project.
func (x *XFS) findProjects(states []isolation.ContainerState) error {
	found := make(map[string]string) // the disk of each directory
	for _, s := range states {
		found[s.Config.Sandbox] = x.options.WorkDir
		for _, v := range s.Config.Volumes {
			found[v] = x.options.WorkDir
		}
	}
	patterns := map[string]string{
		filepath.Join(x.options.WorkDir, "slaves", "*", "frameworks", "*", "executors", "*", "runs", "*"): x.options.WorkDir,
		filepath.Join(x.options.WorkDir, "containers", "*"):                                               x.options.WorkDir,
	}
	for _, disk := range append([]string{x.options.WorkDir}, x.options.PathDisks...) {
		patterns[filepath.Join(disk, "volumes", "roles", "*", "*")] = disk
	}
	for pattern, disk := range patterns {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, d := range dirs {
			found[d] = disk
		}
	}
	for dir, disk := range found {
		info, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() { // as "latest" is a link
			continue
		}
		if err != nil {
			return err
		}
		id, err := projectOf(dir)
		if err != nil {
			return err
		}
		if id != 0 {
			x.projects.take(id, disk).dirs[dir] = true
		}
	}
	return nil
}

func (x *XFS) recoverOne(ctx context.Context, config *isolation.ContainerConfig) error {
	id, err := projectOf(config.Sandbox)
	if errors.Is(err, fs.ErrNotExist) {
		x.containers[isolation.Key(config.ID)] = newXFSContainer(config.Sandbox, nil)
		return nil
	}
	if err != nil {
		return err
	}
	var p *project
	if id != 0 {
		p = x.projects.take(id, x.options.WorkDir)
	} else if p, err = x.projects.next(x.options.WorkDir); err != nil {
		return err
	}
	c := newXFSContainer(config.Sandbox, p)
	x.containers[isolation.Key(config.ID)] = c
	// The agent may have died between two directories. What is wrong with one
	// container must not keep the agent from coming up.
	if err := x.fill(ctx, c, config); err != nil {
		x.options.Log.Error().Err(err).Str("container_id", isolation.Key(config.ID)).Msg("cannot limit the disk of a recovered container")
	}
	return nil
}
