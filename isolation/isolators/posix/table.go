package posix

import (
	"sync"
	"time"

	"clusterd/isolation/proctree"
)

// sharedTable hands out process tables no older than a moment, so that
// measuring a thousand containers does not read /proc a thousand times.
type sharedTable struct {
	mu sync.Mutex
	// table was read at the time read; both are guarded by mu.
	table proctree.Table
	read  time.Time
}

const tableAge = 200 * time.Millisecond

// get returns a table in which pid occurs, if it does at all: a container
// younger than the last table gets a new one.
func (s *sharedTable) get(pid int) (proctree.Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table != nil && time.Since(s.read) < tableAge {
		if _, ok := s.table[pid]; ok {
			return s.table, nil
		}
	}
	t, err := proctree.ReadTable()
	if err != nil {
		return nil, err
	}
	s.table, s.read = t, time.Now()
	return t, nil
}
