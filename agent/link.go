package agent

import (
	"errors"
	"net/http"
	"slices"

	"clusterd/agent/core"
	"clusterd/internal/link"
)

// connect looks for the leading master, opens a link and receives on it until it
// ends.
func (a *Agent) connect() {
	addrs := a.candidates()
	if len(addrs) == 0 {
		a.post(core.LinkDown{Reason: "no master is known yet"})
		return
	}
	ctx, cancel := a.beginSearch()
	defer cancel()
	conn, err := link.Dial(ctx, addrs, a.linkOptions())
	if err != nil {
		a.post(core.LinkDown{Reason: err.Error(), Refused: notLetIn(err)})
		return
	}
	id := core.LinkID(a.nextID())
	a.mu.Lock()
	a.links[id] = conn
	a.mu.Unlock()
	if a.ctx.Err() != nil { // Stop may have looked before
		conn.CloseNow()
		<-conn.Done()
		return
	}
	a.post(core.LinkUp{Link: id})
	for {
		m, err := conn.Receive()
		if err != nil {
			a.mu.Lock()
			delete(a.links, id)
			a.mu.Unlock()
			conn.CloseNow()
			<-conn.Done()
			a.tunnels.endTunnels(conn)
			a.post(core.LinkDown{Link: id, Reason: err.Error()})
			return
		}
		if open := m.GetOpenTunnel(); open != nil {
			a.openTunnel(conn, open.GetToken())
			continue
		}
		a.post(core.MasterMessage{Link: id, Message: m})
	}
}

// notLetIn says whether a master was found that asks for another credential, or does not
// permit this one. (Those of the masters that do not lead may have nothing to say.)
func notLetIn(err error) bool {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return slices.ContainsFunc(many.Unwrap(), notLetIn)
	}
	if r, ok := err.(*link.RefusedError); ok { //nolint:errorlint // walks the tree
		return r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden
	}
	next := errors.Unwrap(err)
	return next != nil && notLetIn(next)
}

func (a *Agent) link(id core.LinkID) *link.AgentConn {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.links[id]
}

func (a *Agent) sendMaster(e core.SendMaster) {
	conn := a.link(e.Link)
	if conn == nil {
		return // LinkDown is on its way
	}
	if err := conn.Send(e.Message); errors.Is(err, link.ErrTooLarge) {
		a.log.Error().Err(err).Msg("a message to the master is too large for the link")
	}
}

func (a *Agent) closeLink(e core.CloseLink) {
	if conn := a.link(e.Link); conn != nil {
		a.log.Info().Str("reason", e.Reason).Msg("closing the link to the master")
		conn.Close(e.Reason)
	}
}
