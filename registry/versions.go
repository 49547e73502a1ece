package registry

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/raft"

	clusterdv1 "clusterd/api/clusterd/v1"
)

// ErrNotUnderstood says that a command was not proposed because a master that
// votes runs a build that would stop at it.
var ErrNotUnderstood = errors.New("not every master understands this command")

// build is what a master has said of its binary.
type build struct {
	format  uint32
	version string
}

// met notes what a master said at the begin of a connection.
func (r *Registry) met(h *hello) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.builds[raft.ServerID(h.from)] = build{h.format, h.build}
}

// buildOf returns what is known of a master's binary: from its last connection,
// or else from gossip.
func (r *Registry) buildOf(id raft.ServerID) (build, bool) {
	r.mu.Lock()
	b, ok := r.builds[id]
	r.mu.Unlock()
	if ok {
		return b, true
	}
	for _, p := range r.peers() {
		if p.ID == string(id) && p.Format > 0 {
			return build{p.Format, p.Build}, true
		}
	}
	return build{}, false
}

// understood says whether all voters understand the commands. A command that they
// may skip needs nobody's understanding.
func (r *Registry) understood(cmds []*clusterdv1.Command) error {
	need, kind := uint32(0), clusterdv1.Command_Kind(0)
	for _, c := range cmds {
		if f := r.formatOf(c.GetKind()); f > need && !c.GetIgnorable() {
			need, kind = f, c.GetKind()
		}
	}
	if need <= firstFormat {
		return nil // there was never a build without
	}
	f := r.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return storeError(err)
	}
	var old []string
	for _, s := range f.Configuration().Servers {
		if s.Suffrage != raft.Voter || s.ID == r.id {
			continue
		}
		switch b, ok := r.buildOf(s.ID); {
		case !ok:
			old = append(old, fmt.Sprintf("%s (its build is not known)", s.ID))
		case b.format < need:
			old = append(old, fmt.Sprintf("%s (build %q, format %d)", s.ID, b.version, b.format))
		}
	}
	if len(old) > 0 {
		return fmt.Errorf("%w: %w: %s needs registry format %d: %s", ErrRefused, ErrNotUnderstood, kind, need, strings.Join(old, ", "))
	}
	return nil
}

const firstFormat = 1

// peers returns the masters that are known by other means than Raft.
func (r *Registry) peers() []Peer {
	if r.opts.Peers == nil {
		return nil
	}
	return r.opts.Peers()
}

// whereIs returns the address of a master as gossip tells it.
func (r *Registry) whereIs(id raft.ServerID) (string, bool) {
	for _, p := range r.peers() {
		if p.ID == string(id) && p.Alive && p.Addr != "" {
			return p.Addr, true
		}
	}
	return "", false
}
