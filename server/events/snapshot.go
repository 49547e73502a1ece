package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/render"
)

// Each snapshot may be a hundred megabytes, and is kept until all who get it have it. When
// so many of one kind are on their way, newcomers get the newest of them instead of one of
// their own, unless it is old already; and at most in any case. Events make up for its age,
// but for offers and allocated resources, of which no event tells.
const (
	liveSnapshots = 2
	maxSnapshots  = 8
	oldSnapshot   = 5 * time.Second
)

// errEnvelope means that a rendered response does not look like one.
var errEnvelope = errors.New("the response to GET_STATE has an unknown form")

// snapshots shares the rendering of the cluster's state among those who subscribe at the
// same time. All who ask while one is being rendered get the next one together: it is
// never older than their request, and a thousand subscribers that come at once cost two.
type snapshots struct {
	hub *Hub
	// turn is held by who renders: one at a time, over all kinds.
	turn chan struct{}

	mu sync.Mutex
	// mu guards what follows.
	kinds map[snapshotKey]*snapshotKind
}

type snapshotKey struct {
	format render.Format
	sight  string
}

type snapshotKind struct {
	waiting *flight     // who asks now joins it
	running bool        // a goroutine renders, one flight after the other
	live    []*snapshot // that somebody uses, oldest first
}

// flight is a rendering to come.
type flight struct {
	done     chan struct{}
	joined   int
	snapshot *snapshot
	err      error
}

// snapshot is a view, and the state as the stream shows it.
type snapshot struct {
	view  *core.View
	state render.Body // of a GetState message
	made  time.Time
	refs  int // guarded by snapshots.mu
}

func (s *snapshots) init(h *Hub) {
	s.hub = h
	s.turn = make(chan struct{}, 1)
	s.kinds = make(map[snapshotKey]*snapshotKind)
}

// get returns a snapshot that is not older than the call, unless many are on their way. It
// is to be given to release.
func (s *snapshots) get(ctx context.Context, key snapshotKey, viewer *authz.Viewer) (*snapshot, error) {
	s.mu.Lock()
	k := s.kinds[key]
	if k == nil {
		k = &snapshotKind{}
		s.kinds[key] = k
	}
	if newest := k.shareLocked(); newest != nil && s.hub.remembers(newest.view.Events) {
		newest.refs++
		s.mu.Unlock()
		return newest, nil
	}
	if k.waiting == nil {
		k.waiting = &flight{done: make(chan struct{})}
	}
	f := k.waiting
	f.joined++
	if !k.running {
		k.running = true
		s.hub.wg.Go(func() { s.run(key, k, viewer) }) // the caller is a stream: Wait waits for it anyway
	}
	s.mu.Unlock()

	select {
	case <-f.done:
		return f.snapshot, f.err
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		f.joined--
		if f.snapshot != nil { // it was just made, with a share for this one
			s.releaseLocked(key, f.snapshot)
		}
		return nil, context.Cause(ctx)
	}
}

// shareLocked is the snapshot that newcomers get since too many are on their way.
func (k *snapshotKind) shareLocked() *snapshot {
	n := len(k.live)
	if n < liveSnapshots || n < maxSnapshots && time.Since(k.live[n-1].made) > oldSnapshot {
		return nil
	}
	return k.live[n-1]
}

// run renders until nobody waits.
func (s *snapshots) run(key snapshotKey, k *snapshotKind, viewer *authz.Viewer) {
	for {
		s.turn <- struct{}{}
		s.mu.Lock()
		f := k.waiting
		k.waiting = nil
		k.running = f != nil
		if f == nil {
			s.tidyLocked(key, k)
			s.mu.Unlock()
			<-s.turn
			return
		}
		s.mu.Unlock()
		snap, err := s.render(key.format, viewer)
		s.mu.Lock()
		if f.err = err; err == nil && f.joined > 0 {
			snap.refs = f.joined
			k.live = append(k.live, snap)
			f.snapshot = snap
		}
		close(f.done)
		s.mu.Unlock()
		<-s.turn
	}
}

func (s *snapshots) render(f render.Format, viewer *authz.Viewer) (*snapshot, error) {
	made := time.Now()
	v, err := s.hub.opts.View(s.hub.ctx)
	if err != nil {
		if _, ok := errors.AsType[*httpapi.Error](err); !ok {
			err = unavailable(err)
		}
		return nil, err
	}
	body, err := s.hub.opts.State(f, v, viewer)
	if err != nil {
		return nil, err
	}
	if body, err = unwrap(f, body); err != nil {
		return nil, err
	}
	return &snapshot{view: v, state: body, made: made}, nil
}

// release says that a snapshot is not used any more.
func (s *snapshots) release(key snapshotKey, snap *snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked(key, snap)
}

func (s *snapshots) releaseLocked(key snapshotKey, snap *snapshot) {
	if snap.refs--; snap.refs > 0 {
		return
	}
	k := s.kinds[key]
	for i, l := range k.live {
		if l == snap {
			k.live = append(k.live[:i:i], k.live[i+1:]...)
		}
	}
	s.tidyLocked(key, k)
}

func (s *snapshots) tidyLocked(key snapshotKey, k *snapshotKind) {
	if len(k.live) == 0 && !k.running && s.kinds[key] == k {
		delete(s.kinds, key)
	}
}

// unwrap takes a GetState out of the Response around it. The pieces stay shared with the
// body that was given.
func unwrap(f render.Format, body render.Body) (render.Body, error) {
	body = append(render.Body(nil), body...)
	if f == render.JSON {
		const prefix = `{"type":"GET_STATE","get_state":`
		if head := take(&body, len(prefix)); !bytes.Equal(head, []byte(prefix)) {
			return nil, fmt.Errorf("%w: it begins with %q", errEnvelope, head)
		}
		for len(body) > 0 && len(body[len(body)-1]) == 0 {
			body = body[:len(body)-1]
		}
		if len(body) == 0 {
			return nil, fmt.Errorf("%w: it is too short", errEnvelope)
		}
		last := body[len(body)-1]
		body[len(body)-1] = last[:len(last)-1]
		return body, nil
	}
	size := body.Len()
	head := peek(body, 32)
	for at := 0; at < len(head); {
		number, typ, n := protowire.ConsumeTag(head[at:])
		if n < 0 {
			break
		}
		at += n
		if typ == protowire.BytesType {
			length, n := protowire.ConsumeVarint(head[at:])
			if n < 0 || number != 9 || at+n+int(length) != size { //nolint:gosec // compared with what is there
				break
			}
			take(&body, at+n)
			return body, nil
		}
		if n = protowire.ConsumeFieldValue(number, typ, head[at:]); n < 0 {
			break
		}
		at += n
	}
	return nil, fmt.Errorf("%w: it begins with %x", errEnvelope, head)
}

// take removes the first bytes of a body and returns them.
func take(body *render.Body, n int) []byte {
	head := peek(*body, n)
	for left := len(head); left > 0; {
		first := (*body)[0]
		k := min(left, len(first))
		(*body)[0] = first[k:]
		if k == len(first) {
			*body = (*body)[1:]
		}
		left -= k
	}
	return head
}

// peek returns the first bytes of a body, fewer if it is shorter.
func peek(body render.Body, n int) []byte {
	var head []byte
	for _, p := range body {
		head = append(head, p[:min(len(p), n-len(head))]...)
	}
	return head
}
