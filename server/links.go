package server

import (
	"context"
	"net/http"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
	"clusterd/internal/link"
	"clusterd/server/core"
)

// termKey is where a request for a link carries the term that it came in.
type termKey struct{}

// openLink takes an agent's link, or sends the agent to the leader.
func (s *Server) openLink(w http.ResponseWriter, r *http.Request) error {
	t, err := s.leading(r)
	if err != nil {
		return err
	}
	httpapi.Stream(r)
	s.links.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), termKey{}, t)))
	return nil
}

// serveLink feeds what an agent says to the core until the link ends.
func (s *Server) serveLink(c *link.MasterConn, r *http.Request) {
	t, _ := r.Context().Value(termKey{}).(*term)
	a := &agentLink{t: t, id: core.LinkID(s.linkID.Add(1)), conn: c, principal: httpapi.PrincipalOf(r)}
	c.Dispatch(a.handle)
}

// agentLink is a link on its way to the core. Its handle is called by one
// goroutine at a time.
type agentLink struct {
	t    *term
	id   core.LinkID
	conn *link.MasterConn
	// principal that the agent has authenticated as.
	principal *authz.Principal
	known     bool // the term has the link
}

func (a *agentLink) handle(m *clusterdv1.AgentMessage, err error) {
	// The link outlives its request, whose context ends with the handler.
	ctx := context.Background()
	if err != nil {
		if a.known {
			_ = a.t.submit(ctx, envelope{in: core.LinkClosed{Link: a.id, Reason: err.Error()}})
		}
		return
	}
	e := envelope{in: a.message(m)}
	if !a.known {
		e.conn = a.conn
	}
	if err := a.t.submit(ctx, e); err != nil {
		a.conn.Close("this master leads no more")
		return
	}
	a.known = true
	if e.conn != nil && a.t.over() {
		// It may have come after finish had looked for what nobody takes any more.
		a.conn.Close("this master leads no more")
	}
}

func (a *agentLink) message(m *clusterdv1.AgentMessage) core.AgentMessage {
	return core.AgentMessage{Link: a.id, Principal: a.principal, Message: m}
}

// Routes that need a leader answer 307 with its address, or 503 when there is
// none. The Location has no scheme: clients keep theirs.
func (s *Server) leading(r *http.Request) (*term, error) {
	if httpapi.PrincipalOf(r).OnlyClaims() {
		return nil, httpapi.Forbidden("The request's authenticated principal contains claims, but no value string. " +
			"The master currently requires that principals have a value")
	}
	if t := s.term.Load(); t != nil && t.lead.Holds() {
		return t, nil
	}
	return nil, s.toLeader(r, r.URL.RequestURI())
}

func (s *Server) toLeader(r *http.Request, path string) error {
	if isWithinProxy(r) {
		return noLeader("The leader has just changed")
	}
	if t := s.term.Load(); t != nil && t.lead.Holds() {
		return httpapi.Redirect(hostPort(t.info), path)
	}
	leader, ok := s.registry.Leader()
	if !ok || hostPort(leader) == hostPort(s.info) { // itself, and not ready yet
		return httpapi.Errorf(http.StatusServiceUnavailable, "No leader elected")
	}
	return httpapi.Redirect(hostPort(leader), path)
}
