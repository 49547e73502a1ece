package agent

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"clusterd/agent/core"
	"clusterd/registry/gossip"
)

// Finder knows masters and who of them leads, as far as anybody can tell. Its
// methods may be called from any goroutine.
type Finder interface {
	// Masters returns addresses, host:port, the leader's first.
	Masters() []string
	// Leader returns the address of the master that leads and the number of its
	// leadership.
	Leader() (addr string, epoch uint64, ok bool)
	// Changed returns a channel that is closed when the others' answers change next.
	Changed() <-chan struct{}
}

// discovery is what the agent knows about where its masters are.
type discovery struct {
	finder Finder         // nil: none
	gossip *gossip.Gossip // nil: none
	// joined hands the newest cluster id to the goroutine that gossips it.
	joined chan string

	mu sync.Mutex // guards what follows
	// learned are the masters that a master has told, the leader of then first.
	learned []string
	cluster string
	cancel  context.CancelFunc // of the search under way; nil: none
}

// nodeID is the name of this node among all that gossip: given, or made once and
// kept. It is not the agent's id, which masters give, and outlives that.
func (a *Agent) nodeID() (string, error) {
	path := filepath.Join(a.opts.WorkDir, "meta", "node_id")
	kept, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the name of this node: %w", err)
	}
	old := strings.TrimSpace(string(kept))
	name := a.opts.NodeID
	if name == "" {
		name = old
	}
	if name == "" {
		var b [6]byte
		if _, err := crand.Read(b[:]); err != nil {
			return "", fmt.Errorf("name this node: %w", err)
		}
		name = "agent-" + hex.EncodeToString(b[:])
	}
	if name == old {
		return name, nil
	}
	return name, writeFile(path, name)
}

// watchLeader tells the core who leads, as gossip sees it.
func (a *Agent) watchLeader() {
	var last uint64
	for {
		changed := a.finder.Changed()
		addr, epoch, ok := a.finder.Leader()
		if !ok {
			epoch = 0
		}
		if epoch != last {
			last = epoch
			a.log.Info().Str("leader", addr).Uint64("epoch", epoch).Msg("leader known by gossip changed")
			a.post(core.LeaderKnown{Epoch: epoch})
			if epoch > 0 {
				a.endSearch() // it may hang at a master that is gone
			}
		}
		select {
		case <-changed:
		case <-a.ctx.Done():
			return
		}
	}
}

// learnMasters takes what a master has told. It is called by the goroutine that
// feeds the core alone.
func (a *Agent) learnMasters(e core.LearnMasters) {
	a.discovery.mu.Lock()
	changed := a.cluster != e.ClusterID
	a.learned, a.cluster = e.Masters, e.ClusterID
	a.discovery.mu.Unlock()
	if !changed {
		return
	}
	select {
	case <-a.joined: // nobody has taken the last one: this is newer
	default:
	}
	a.joined <- e.ClusterID
}

// candidates are the addresses to try, in order: whom gossip knows, whom the
// operator named, and whom a master has told of. An operator's word comes before
// what was learned, which may be of long ago.
func (a *Agent) candidates() []string {
	var all []string
	if a.finder != nil {
		all = a.finder.Masters()
	}
	all = append(slices.Clip(all), a.opts.Masters...)
	a.discovery.mu.Lock()
	all = append(all, a.learned...)
	a.discovery.mu.Unlock()
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(addr string) bool {
		twice := seen[addr] || addr == ""
		seen[addr] = true
		return twice
	})
}

// beginSearch returns the context of a search for a master.
func (a *Agent) beginSearch() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(a.ctx)
	a.discovery.mu.Lock()
	defer a.discovery.mu.Unlock()
	a.discovery.cancel = cancel
	return ctx, cancel
}

func (a *Agent) endSearch() {
	a.discovery.mu.Lock()
	defer a.discovery.mu.Unlock()
	if a.discovery.cancel != nil {
		a.discovery.cancel()
		a.discovery.cancel = nil
	}
}
