package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Errors of projects.
var (
	// ErrProjectRange says that --xfs_project_range cannot be read.
	ErrProjectRange = errors.New("invalid range of XFS project ids")
	// ErrNoProjects says that all project ids are in use.
	ErrNoProjects = errors.New("no XFS project id is free")
)

// interval is a range of project ids, both ends included.
type interval struct {
	first, last uint32
}

// parseRange reads ranges as Mesos writes them: "[5000-10000,20000-20010]".
func parseRange(s string) ([]interval, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(s), "[")
	if body, ok = cutSuffix(body, "]", ok); !ok {
		return nil, fmt.Errorf("%w: %q is not like [5000-10000]", ErrProjectRange, s)
	}
	var ranges []interval
	for part := range strings.SplitSeq(body, ",") {
		from, to, ok := strings.Cut(strings.TrimSpace(part), "-")
		first, err := strconv.ParseUint(strings.TrimSpace(from), 10, 64)
		last, err2 := strconv.ParseUint(strings.TrimSpace(to), 10, 64)
		switch {
		case !ok || err != nil || err2 != nil || first > last:
			return nil, fmt.Errorf("%w: %q in %q", ErrProjectRange, part, s)
		case first == 0:
			return nil, fmt.Errorf("%w: %q has 0, which means no project", ErrProjectRange, s)
		case last > math.MaxUint32:
			return nil, fmt.Errorf("%w: %d is too large", ErrProjectRange, last)
		}
		ranges = append(ranges, interval{uint32(first), uint32(last)})
	}
	slices.SortFunc(ranges, func(a, b interval) int { return int(int64(a.first) - int64(b.first)) })
	return ranges, nil
}

func cutSuffix(s, suffix string, ok bool) (string, bool) {
	if !ok {
		return s, false
	}
	return strings.CutSuffix(s, suffix)
}

// project is an id that is in use.
type project struct {
	id uint32
	// disk is a directory that stays, on the same file system.
	disk string
	// dirs are the directories that were given to the project.
	dirs map[string]bool
	// users counts the containers that have it; the id stays in use after them until
	// the directories are gone.
	users int
}

// projects hands out project ids. It is not safe for concurrent use.
type projects struct {
	ranges []interval
	used   map[uint32]*project
}

func newProjects(ranges []interval) *projects {
	return &projects{ranges: ranges, used: make(map[uint32]*project)}
}

// next takes the lowest id that is free.
func (p *projects) next(disk string) (*project, error) {
	for _, r := range p.ranges {
		for id := uint64(r.first); id <= uint64(r.last); id++ {
			if p.used[uint32(id)] == nil {
				return p.take(uint32(id), disk), nil
			}
		}
	}
	return nil, ErrNoProjects
}

// take marks an id as used, or finds who has it: one that is out of the range too, which
// may have been another once.
func (p *projects) take(id uint32, disk string) *project {
	if p.used[id] == nil {
		p.used[id] = &project{id: id, disk: disk, dirs: make(map[string]bool)}
	}
	return p.used[id]
}

// reclaim frees the ids of which nothing is left on disk. Before that, another container
// that got the id would have the old one's files counted as its own.
func (p *projects) reclaim() error {
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(p.used)) {
		one := p.used[id]
		for dir := range one.dirs {
			if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
				delete(one.dirs, dir)
			}
		}
		if one.users > 0 || len(one.dirs) > 0 {
			continue
		}
		if err := setQuota(one.disk, id, 0, 0); err != nil {
			errs = append(errs, fmt.Errorf("free project %d: %w", id, err))
			continue
		}
		delete(p.used, id)
	}
	return errors.Join(errs...)
}

// counts are how many ids there are, and how many are free.
func (p *projects) counts() (total, free uint64) {
	for _, r := range p.ranges {
		total += uint64(r.last) - uint64(r.first) + 1
	}
	free = total
	for id := range p.used {
		if slices.ContainsFunc(p.ranges, func(r interval) bool { return r.first <= id && id <= r.last }) {
			free--
		}
	}
	return total, free
}
