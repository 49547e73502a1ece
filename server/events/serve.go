package events

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/maintenance"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/httpapi"
	"clusterd/server/core"
	"clusterd/server/render"
)

// Path is where the stream with tokens is served.
const Path = "/api/clusterd/v1/events"

// eventStream is the media type of server-sent events.
const eventStream = "text/event-stream"

// demand is what a client asks for.
type demand struct {
	format format
	types  types
	// resume is where to go on, if the client says so.
	resume string
	// bare: no state is wanted.
	bare bool
}

// ServeMesos answers a SUBSCRIBE call of the operator API, which was authenticated and
// decoded before, in the media type that was negotiated. It returns when the stream ends;
// an error is to be answered, it was not begun then.
func (h *Hub) ServeMesos(w http.ResponseWriter, r *http.Request, m httpapi.Media) error {
	d := demand{format: format{face: mesosFace, chunked: chunks(r)}, types: allTypes}
	if m == httpapi.Protobuf {
		d.format.media = asProtobuf
	}
	return h.serve(w, r, d, http.Header{"Content-Type": {m.String()}})
}

// ServeClusterd answers GET [Path]. The query may hold `types`, names of types that are
// wanted, separated by commas; `resume`, a token to go on from; and `snapshot=false`, if the
// state is not wanted. The header Last-Event-ID stands for resume, as browsers send it.
// It returns like ServeMesos.
func (h *Hub) ServeClusterd(w http.ResponseWriter, r *http.Request) error {
	if err := httpapi.RequireMethod(r, http.MethodGet); err != nil {
		return err
	}
	d, err := demandOf(r)
	if err != nil {
		return err
	}
	header := http.Header{"Cache-Control": {"no-store"}}
	switch d.format.media {
	case asSSE:
		header.Set("Content-Type", eventStream)
		header.Set("X-Accel-Buffering", "no") // proxies shall not hold events back
	case asProtobuf:
		header.Set("Content-Type", httpapi.Protobuf.String())
	default:
		header.Set("Content-Type", httpapi.JSON.String())
	}
	return h.serve(w, r, d, header)
}

// demandOf reads a request for our stream.
func demandOf(r *http.Request) (demand, error) {
	d := demand{format: format{face: ownFace, chunked: chunks(r)}}
	if strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Accept"), ",")), eventStream) &&
		httpapi.Accepts(r.Header, "Accept", eventStream) {
		d.format.media = asSSE // browsers ask for it by name
	} else {
		m, err := httpapi.ResponseMedia(r)
		if err != nil {
			return d, err
		}
		if m == httpapi.Protobuf {
			d.format.media = asProtobuf
		}
	}
	query := r.URL.Query()
	var err error
	if d.types, err = parseTypes(query["types"]); err != nil {
		return d, err
	}
	switch query.Get("snapshot") {
	case "", "true":
	case "false":
		d.bare = true
	default:
		return d, httpapi.BadRequest("'snapshot' is either true or false, not %q.\n", query.Get("snapshot"))
	}
	if d.resume = query.Get("resume"); d.resume == "" {
		d.resume = r.Header.Get("Last-Event-ID")
	}
	return d, nil
}

// parseTypes reads names of types; none at all stands for every type.
func parseTypes(lists []string) (types, error) {
	var set types
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			switch name = strings.ToUpper(strings.TrimSpace(name)); name {
			case "":
				continue
			case "SUBSCRIBED", "HEARTBEAT": // always sent
				set |= 1
				continue
			}
			known := false
			for t, own := range ownTypes {
				if own != 0 && own.String() == name {
					set |= 1 << uint(t)
					known = true
				}
			}
			if !known {
				return 0, httpapi.BadRequest("There are no events of type %q.\n", name)
			}
		}
	}
	if set == 0 {
		return allTypes, nil
	}
	return set, nil
}

// serve is a stream from its beginning to its end.
func (h *Hub) serve(w http.ResponseWriter, r *http.Request, d demand, header http.Header) error {
	s, ctx, err := h.enrol(r, d.format, d.types)
	if err != nil {
		return err
	}
	defer h.leave(s)
	first, err := h.opening(ctx, s, d)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && r.Context().Err() == nil {
			err = unavailable(cause) // closed before it began
		}
		return err
	}
	defer first.done()
	c, err := answer(w, r, header, h.opts.WriteTimeout, h.opts.sendBuffer)
	if err != nil {
		if errors.Is(err, errGone) || slow(err) {
			return nil // it was begun
		}
		return err
	}
	began := time.Now()
	log := h.log.With().Str("remote", r.RemoteAddr).Str("principal", s.principal.String()).Logger()
	log.Debug().Stringer("media", d.format.media).Bool("resumed", first.resumed).Msg("operator subscribed")
	unwatch := c.watch(ctx, s.cancel)
	err = h.stream(ctx, s, c, first)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // and not that the write was interrupted
	}
	c.close(err)
	unwatch()
	if !slow(err) {
		log.Debug().AnErr("cause", err).Dur("after", time.Since(began)).Msg("operator's stream ended")
		return nil
	}
	log.Warn().AnErr("cause", err).Dur("after", time.Since(began)).Msg("operator does not read its events: it is cut off")
	if h.opts.OnDropped != nil {
		h.opts.OnDropped()
	}
	return nil
}

// stream writes the beginning and then all events, until something ends it.
func (h *Hub) stream(ctx context.Context, s *subscriber, c *conn, first *opening) error {
	cursor := first.cursor
	for len(first.bufs) > 0 {
		// A large state may take so long that it is worth nothing when it has arrived.
		if !h.remembers(cursor) {
			return errFellBehind
		}
		var now [][]byte
		now, first.bufs = cut(first.bufs, piece)
		if err := c.write(now...); err != nil {
			return err
		}
		c.inside = len(first.bufs) > 0
	}
	first.done() // may be a lot of memory
	timer := time.NewTicker(h.opts.Heartbeat)
	defer timer.Stop()
	var bufs [][]byte
	for {
		m := s.cohort.moment.Load()
		var err error
		if bufs, cursor, err = s.class.next(cursor, m.upTo, bufs[:0]); err != nil {
			return err
		}
		if len(bufs) > 0 {
			if err := c.write(bufs...); err != nil {
				return err
			}
			clear(bufs) // what was written may be forgotten now
		}
		if cursor < m.upTo {
			continue
		}
		select {
		case <-m.over:
		case <-timer.C:
			if err := c.write(h.heartbeat(s.class.key.format, cursor)); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// cut takes at least one buffer and about so many bytes from the beginning. It may cut
// a buffer.
func cut(bufs [][]byte, size int) (now, rest [][]byte) {
	for len(bufs) > 0 && size > 0 {
		n := min(size, len(bufs[0]))
		now = append(now, bufs[0][:n])
		size -= n
		if n < len(bufs[0]) {
			return now, append([][]byte{bufs[0][n:]}, bufs[1:]...)
		}
		bufs = bufs[1:]
	}
	return now, bufs
}

// heartbeat is a record that says that there was nothing to say.
func (h *Hub) heartbeat(f format, cursor uint64) []byte {
	at := token{h.opts.MasterID, cursor}
	switch {
	case f.media == asSSE:
		// Not an event, but the browser remembers the id.
		return f.plain(nil, ": heartbeat\nid: "+at.String()+"\n\n")
	case f.face == mesosFace:
		return f.wrap(nil, f.marshal(&master.Event{Type: master.Event_HEARTBEAT.Enum()}), record{})
	default:
		return f.wrap(nil, f.marshal(&clusterdv1.OperatorEvent{
			Type: clusterdv1.OperatorEvent_HEARTBEAT.Enum(), Token: new(at.String()),
		}), record{})
	}
}

// opening is how a stream begins.
type opening struct {
	bufs    [][]byte
	cursor  uint64 // what follows are the events after this one
	resumed bool
	free    func() // gives the snapshot back
}

func (o *opening) done() {
	if o.free != nil {
		o.free()
		o.free = nil
	}
	o.bufs = nil
}

// opening makes the first records: SUBSCRIBED, with the state unless the stream goes on
// where another was interrupted.
func (h *Hub) opening(ctx context.Context, s *subscriber, d demand) (*opening, error) {
	f := d.format
	sub := &clusterdv1.OperatorEvent_Subscribed{HeartbeatIntervalSeconds: new(h.opts.Heartbeat.Seconds())}
	if d.resume != "" {
		at, reason := h.resumable(d.resume)
		sub.Resumed = new(reason == "")
		if reason == "" {
			return &opening{bufs: h.subscribed(f, sub, at, nil), cursor: at, resumed: true}, nil
		}
		sub.Reason = &reason
	}
	if d.bare {
		at := h.last()
		return &opening{bufs: h.subscribed(f, sub, at, nil), cursor: at}, nil
	}
	seen := s.class.sight
	key := snapshotKey{render.JSON, seen.viewer.Key()}
	if f.media == asProtobuf {
		key.format = render.Protobuf
	}
	snap, err := h.snapshots.get(ctx, key, seen.viewer)
	if err != nil {
		return nil, err
	}
	o := &opening{cursor: snap.view.Events, free: func() { h.snapshots.release(key, snap) }}
	if f.face == mesosFace {
		// Mesos has no resume, and the very first heartbeat comes at once.
		o.bufs = append(h.mesosSubscribed(f, snap.state), h.heartbeat(f, o.cursor))
		return o, nil
	}
	h.fill(sub, snap.view, seen)
	o.bufs = h.subscribed(f, sub, o.cursor, snap.state)
	return o, nil
}

// resumable says where a stream may go on, or the reason why it may not.
func (h *Hub) resumable(text string) (at uint64, reason string) {
	t, err := parseToken(text)
	if err != nil {
		return 0, err.Error()
	}
	if t.master != h.opts.MasterID {
		return 0, "another master leads now: the token is of " + t.master
	}
	h.mu.Lock()
	changed := h.rules && t.serial <= h.rulesAt
	h.mu.Unlock()
	if changed {
		return 0, ErrPolicy.Error()
	}
	if !h.remembers(t.serial) {
		return 0, "what came since is forgotten"
	}
	return t.serial, ""
}

// fill adds what GET_STATE does not have and events change.
func (h *Hub) fill(sub *clusterdv1.OperatorEvent_Subscribed, v *core.View, s sight) {
	for role, q := range v.Quotas.All() {
		if s.viewer.SeesQuota(role) {
			sub.Quotas = append(sub.Quotas, q)
		}
	}
	for role, w := range v.Weights.All() {
		if s.viewer.SeesRole(role) {
			sub.Weights = append(sub.Weights, &mesos.WeightInfo{Role: new(role), Weight: new(w)})
		}
	}
	if s.maintenance {
		if sub.Schedule = v.Schedule; sub.Schedule == nil {
			sub.Schedule = &maintenance.Schedule{}
		}
		for m := range v.Machines.Values() {
			sub.Machines = append(sub.Machines, m)
		}
	}
}

// mesosSubscribed frames a SUBSCRIBED event of Mesos around a state.
func (h *Hub) mesosSubscribed(f format, state render.Body) [][]byte {
	seconds := &master.Event_Subscribed{HeartbeatIntervalSeconds: new(h.opts.Heartbeat.Seconds())}
	if f.media == asJSON {
		tail := append([]byte{','}, f.marshal(seconds)[1:]...) // its members, and the brace
		return f.around([]byte(`{"type":"SUBSCRIBED","subscribed":{"get_state":`), state, append(tail, '}'), record{})
	}
	tail := f.marshal(seconds)
	head := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), uint64(state.Len()))
	size := len(head) + state.Len() + len(tail)
	outer := f.marshal(&master.Event{Type: master.Event_SUBSCRIBED.Enum()})
	outer = protowire.AppendVarint(protowire.AppendTag(outer, 2, protowire.BytesType), uint64(size)) //nolint:gosec // a length
	return f.around(append(outer, head...), state, tail, record{})
}

// subscribed frames the first record of our stream, around a state if there is one.
func (h *Hub) subscribed(f format, sub *clusterdv1.OperatorEvent_Subscribed, at uint64, state render.Body) [][]byte {
	id := token{h.opts.MasterID, at}
	outer := &clusterdv1.OperatorEvent{Type: clusterdv1.OperatorEvent_SUBSCRIBED.Enum(), Token: new(id.String())}
	rec := record{name: outer.GetType().String(), id: id}
	var bufs [][]byte
	if f.media == asSSE {
		bufs = append(bufs, f.plain(nil, "retry: 2000\n\n"))
	}
	if state == nil {
		outer.Subscribed = sub
		return append(bufs, f.wrap(nil, f.marshal(outer), rec))
	}
	if f.media != asProtobuf {
		head := f.marshal(outer)
		head = append(head[:len(head)-1], `,"subscribed":`...)
		inner := f.marshal(sub) // never empty: it has the interval
		head = append(append(head, inner[:len(inner)-1]...), `,"get_state":`...)
		return append(bufs, f.around(head, state, []byte("}}"), rec)...)
	}
	inner := f.marshal(sub)
	inner = protowire.AppendVarint(protowire.AppendTag(inner, 4, protowire.BytesType), uint64(state.Len())) //nolint:gosec // a length
	head := protowire.AppendTag(f.marshal(outer), 3, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(inner)+state.Len())) //nolint:gosec // likewise
	return append(bufs, f.around(append(head, inner...), state, nil, rec)...)
}

// around frames a record of a head, a body and a tail without joining them.
func (f format) around(head []byte, body render.Body, tail []byte, r record) [][]byte {
	r.size = len(head) + body.Len() + len(tail)
	bufs := [][]byte{append(f.open(nil, r), head...)}
	bufs = append(bufs, body...)
	return append(bufs, f.shut(tail))
}

// String names a media type in logs.
func (m media) String() string {
	switch m {
	case asProtobuf:
		return httpapi.Protobuf.String()
	case asSSE:
		return eventStream
	default:
		return httpapi.JSON.String()
	}
}
