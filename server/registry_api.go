package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
	"clusterd/internal/registryapi"
	"clusterd/internal/version"
	"clusterd/registry"
	"clusterd/registry/dump"
	"clusterd/registry/gossip"
	"clusterd/registry/state"
)

// dialPatience is how long a master that is to be added has to answer.
const dialPatience = 2 * time.Second

// silence is how long a member may not have answered its leader and still be
// taken for alive.
const silence = 3 * time.Second

// registryRoutes are clusterd's own endpoints on what masters agree on, and the
// one by which Mesos shows it.
func (s *Server) registryRoutes(rt *httpapi.Router) {
	handle := func(path string, h httpapi.Handler) {
		// No list of Mesos's rules speaks of these, but for the one that takes paths.
		rt.Handle(path, httpapi.Access{Realm: authn.MasterReadwrite, Endpoint: true}, exactly(h))
	}
	handle(registryapi.Path, func(w http.ResponseWriter, r *http.Request) error {
		if err := httpapi.RequireMethod(r, http.MethodGet); err != nil {
			return err
		}
		st, err := s.registryStatus()
		if err != nil {
			return unavailable(err)
		}
		body, err := json.Marshal(st)
		if err != nil {
			return err
		}
		return httpapi.WriteJSON(w, r, body)
	})
	handle(registryapi.Path+"/add", s.changeMembers(s.addMember))
	handle(registryapi.Path+"/remove", s.changeMembers(s.removeMember))
	handle(registryapi.Path+"/transfer", s.changeMembers(s.transferLeadership))
	handle(registryapi.Path+"/snapshot", s.registrySnapshot)
	rt.Handle("/registrar(1)/registry", httpapi.Access{Realm: authn.MasterReadonly, Endpoint: true}, s.registrarRegistry)
}

// registrarRegistry shows all that the registry holds (src/master/registrar.cpp,
// RegistrarProcess::getRegistry); followers show what they have applied.
func (s *Server) registrarRegistry(w http.ResponseWriter, r *http.Request) error {
	body, err := dump.AppendJSON(nil, s.registry.State())
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, r, body)
}

// registryStatus is how this master stands.
func (s *Server) registryStatus() (*registryapi.Status, error) {
	st, err := s.registry.Status()
	if err != nil {
		return nil, err
	}
	held := st.Held
	out := &registryapi.Status{
		ID: st.Self.ID, Address: st.Self.Addr, ClusterID: st.ClusterID, State: strings.ToLower(st.State),
		Leader: st.Leader, Epoch: held.Epoch(), Term: st.Term, LastContactMS: st.LastContact.Milliseconds(),
		LastIndex: st.LastIndex, CommitIndex: st.CommitIndex, AppliedIndex: st.AppliedIndex,
		SnapshotIndex: st.SnapshotIndex, SnapshotTerm: st.SnapshotTerm, Queued: st.QueuedCall, Tolerates: st.Tolerates,
		Format: state.Format, Build: version.Clusterd, Counts: dump.Count(held),
	}
	// Behind a restored snapshot stands a new epoch that the term before it does not lead.
	if t := s.term.Load(); t != nil && t.lead.Holds() && t.lead.Epoch() == held.Epoch() && st.Leader == st.Self.ID {
		out.Leads, out.LeaderAddress = true, hostPort(t.info)
	} else if st.LeaderInfo != nil {
		out.LeaderAddress = hostPort(st.LeaderInfo)
	}
	out.Members, out.Others = s.masterTable(st)
	out.Autopilot, out.Gossip = autopilotOf(st.Health), s.group.Load().gossipStatus()
	return out, nil
}

// masterTable puts together what Raft and what gossip know of masters.
func (s *Server) masterTable(st registry.Status) (members, others []registryapi.Member) {
	seen := make(map[string]gossip.Seen)
	for _, n := range s.group.Load().seen() {
		if n.Role == gossip.Master {
			seen[n.Name] = n
		}
	}
	health := make(map[string]string)
	for _, h := range st.Health {
		switch {
		case h.ID == st.Self.ID, h.LastContact > 0 && h.LastContact < silence:
			health[h.ID] = registryapi.Healthy
		case h.LastContact > 0:
			health[h.ID] = registryapi.Unhealthy
		default: // it has not answered this leader yet, who may be new
		}
	}
	for _, m := range st.Members {
		row := registryapi.Member{ID: m.ID, Address: m.Addr, Voter: m.Voter, Leads: m.Leads, Health: health[m.ID]}
		if n, ok := seen[m.ID]; ok {
			row.HTTP, row.Known, row.Alive, row.Format, row.Build = n.HTTP, true, n.Alive, n.Format, n.Build
		}
		if m.ID == st.Self.ID {
			row.HTTP, row.Known, row.Alive, row.Format, row.Build = hostPort(s.info), true, true, state.Format, version.Clusterd
		}
		members = append(members, row)
		delete(seen, m.ID)
	}
	for _, n := range seen {
		if n.Name == st.Self.ID || (n.ClusterID != "" && st.ClusterID != "" && n.ClusterID != st.ClusterID) {
			continue
		}
		others = append(others, registryapi.Member{
			ID: n.Name, Address: n.Raft, HTTP: n.HTTP, Known: true, Alive: n.Alive, Format: n.Format, Build: n.Build,
		})
	}
	slices.SortFunc(others, func(a, b registryapi.Member) int { return cmp.Compare(a.ID, b.ID) })
	return members, others
}

// seen is what gossip knows, nil without it.
func (g *group) seen() []gossip.Seen {
	if g == nil {
		return nil
	}
	return g.gossip.All()
}

// changeMembers reads a change and has the leader make it. It answers with the
// status that follows.
func (s *Server) changeMembers(change func(ctx context.Context, c registryapi.Change, force bool) error) httpapi.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, err := s.leading(r); err != nil {
			return err
		}
		if err := requireBody(r, "application/json"); err != nil {
			return err
		}
		body, err := httpapi.ReadBody(w, r, 64<<10)
		if err != nil {
			return err
		}
		var c registryapi.Change
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&c); err != nil {
			return httpapi.BadRequest("Failed to parse the change: %v", err)
		}
		httpapi.Audit(r, "REGISTRY_"+strings.ToUpper(path.Base(r.URL.Path)), "id", c.ID, "address", c.Address, "force", strconv.FormatBool(forced(r)))
		if err := change(r.Context(), c, forced(r)); err != nil {
			return s.registryError(r, err)
		}
		st, err := s.registryStatus()
		if err != nil {
			return unavailable(err)
		}
		if body, err = json.Marshal(st); err != nil {
			return err
		}
		return httpapi.WriteJSON(w, r, body)
	}
}

// requireBody wants POST with a media type that no web page of another site may
// send without asking.
func requireBody(r *http.Request, media string) error {
	if err := httpapi.RequireMethod(r, http.MethodPost); err != nil {
		return err
	}
	if got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || got != media {
		return httpapi.Errorf(http.StatusUnsupportedMediaType, "Expecting 'Content-Type' of %s", media)
	}
	return nil
}

func forced(r *http.Request) bool {
	force, err := strconv.ParseBool(r.URL.Query().Get("force"))
	return err == nil && force
}

// registryError says by a status what stands in the way of a change.
func (s *Server) registryError(r *http.Request, err error) error {
	switch {
	case errors.Is(err, registry.ErrNotLeader), errors.Is(err, registry.ErrLeadershipLost):
		return s.toLeader(r, r.URL.RequestURI())
	case errors.Is(err, registry.ErrNoMember):
		return httpapi.NotFound("%v", err)
	case errors.Is(err, registry.ErrClosed), errors.Is(err, registry.ErrStoreTimeout):
		return unavailable(err)
	}
	if _, ok := errors.AsType[*httpapi.Error](err); ok {
		return err
	}
	return httpapi.Conflict("%v", err)
}

func (s *Server) addMember(ctx context.Context, c registryapi.Change, force bool) error {
	host, port, err := net.SplitHostPort(c.Address)
	switch n, badPort := strconv.ParseUint(port, 10, 16); {
	case c.ID == "":
		return httpapi.BadRequest("Expecting 'id' to be present")
	case err != nil || host == "" || badPort != nil || n == 0:
		return httpapi.BadRequest("address %q of the master's Raft port is not host:port", c.Address)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return httpapi.BadRequest("address %q is every address of a host, and of none that others can reach", c.Address)
	}
	members, err := s.registry.Members()
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.ID != c.ID && m.Addr == c.Address {
			return fmt.Errorf("%s is the address of member %s already: remove that one first", c.Address, m.ID)
		}
	}
	if !force {
		conn, err := (&net.Dialer{Timeout: dialPatience}).DialContext(ctx, "tcp", c.Address)
		if err != nil {
			return fmt.Errorf("the master to be added does not answer at its Raft address: %w; ?force=true adds it all the same", err)
		}
		_ = conn.Close() // only looked whether somebody is there
	}
	return s.registry.AddMember(ctx, registry.Member{ID: c.ID, Addr: c.Address})
}

func (s *Server) removeMember(ctx context.Context, c registryapi.Change, force bool) error {
	if c.ID == "" {
		return httpapi.BadRequest("Expecting 'id' to be present")
	}
	st, err := s.registry.Status()
	if err != nil {
		return err
	}
	members, _ := s.masterTable(st)
	if err := mayRemove(members, c.ID, force); err != nil {
		return err
	}
	return s.registry.RemoveMember(ctx, c.ID)
}

// mayRemove says why a member must not be removed: those that remain would have no
// majority that lives, and could not even take it back; or it lives, and would be
// brought in again at once. force overrides all but the removal of the last one.
func mayRemove(members []registryapi.Member, id string, force bool) error {
	var found *registryapi.Member
	voters, alive := 0, 0
	for i, m := range members {
		switch {
		case m.ID == id:
			found = &members[i]
		case m.Voter:
			voters++
			// Gossip is not asked where the leader knows itself who answers it.
			if m.Health == registryapi.Healthy || m.Health == "" && m.Alive {
				alive++
			}
		}
	}
	switch {
	case found == nil:
		return fmt.Errorf("remove %s: %w", id, registry.ErrNoMember)
	case found.Voter && voters == 0:
		return fmt.Errorf("%s is the only voting member of the registry: stop it to end the cluster", id)
	case force:
		return nil
	case found.Voter && alive*2 <= voters:
		return fmt.Errorf("without %s there would be %d voting members of which %d are alive: no majority, and nobody could lead; "+
			"start the others again or add new ones first; ?force=true removes it all the same", id, voters, alive)
	case found.Alive:
		return fmt.Errorf("%s is alive and would join again: stop it first; ?force=true removes it all the same", id)
	}
	return nil
}

func (s *Server) transferLeadership(ctx context.Context, c registryapi.Change, _ bool) error {
	members, err := s.registry.Members()
	if err != nil {
		return err
	}
	self, others := s.registry.Self().ID, 0
	for _, m := range members {
		if m.ID == c.ID && !m.Voter {
			return fmt.Errorf("%s has no vote yet: it is still catching up", c.ID)
		}
		if m.Voter && m.ID != self {
			others++
		}
	}
	switch {
	case c.ID == self:
		return fmt.Errorf("%s leads already", c.ID)
	case others == 0:
		return errors.New("there is no other voting member that could lead")
	}
	return s.registry.TransferLeadership(ctx, c.ID)
}

// registrySnapshot hands the registry out, or takes it in.
func (s *Server) registrySnapshot(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodPost {
		return s.restoreSnapshot(w, r)
	}
	if err := httpapi.RequireMethod(r, http.MethodGet, http.MethodPost); err != nil {
		return err
	}
	if stale, err := strconv.ParseBool(r.URL.Query().Get("stale")); err != nil || !stale {
		if _, err := s.leading(r); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.Method == http.MethodHead {
		return nil
	}
	if err := s.registry.Save(r.Context(), w); err != nil {
		// The answer has begun; without its trailer nobody takes it for a snapshot.
		s.log.Warn().Err(err).Str("remote", r.RemoteAddr).Msg("snapshot was not sent to its end")
	}
	return nil
}

// restoreSnapshot replaces what the registry holds. The body is read and checked
// as a whole before anything happens.
func (s *Server) restoreSnapshot(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.leading(r); err != nil {
		return err
	}
	if err := requireBody(r, "application/octet-stream"); err != nil {
		return err
	}
	body, err := httpapi.ReadBody(w, r, registryapi.MaxSnapshot)
	if err != nil {
		return err
	}
	restored, err := state.ReadSnapshot(bytes.NewReader(body))
	if err != nil {
		return httpapi.BadRequest("This is no snapshot that can be restored: %v", err)
	}
	if own := s.registry.State().ClusterID(); restored.ClusterID() != own && !forced(r) {
		return httpapi.Conflict("the snapshot is of cluster %q, and this is cluster %q; ?force=true restores it all the same", restored.ClusterID(), own)
	}
	httpapi.Audit(r, "REGISTRY_RESTORE", "cluster_id", restored.ClusterID(), "agents", strconv.Itoa(restored.AgentCount()),
		"force", strconv.FormatBool(forced(r)))
	if err := s.registry.Restore(r.Context(), bytes.NewReader(body), forced(r)); err != nil {
		return s.registryError(r, err)
	}
	counts, err := json.Marshal(dump.Count(restored))
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, r, counts)
}
