package server

import (
	"slices"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/internal/link"
	"clusterd/server/core"
)

// What agents are told of the masters is the shell's affair: it changes nothing
// that the core decides.

// masterAddresses are where all masters are reached, this one first.
func (t *term) masterAddresses() []string {
	self := hostPort(t.info)
	addrs := []string{self}
	for _, a := range t.s.group.Load().masters() {
		if a != self {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// introduce adds to an agent's admission who the masters are, and since when this
// one leads. The core's message is shared and stays as it is.
func (t *term) introduce(m *clusterdv1.MasterMessage) *clusterdv1.MasterMessage {
	r := m.GetRegistered()
	if r == nil {
		return m
	}
	return &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Registered{Registered: &clusterdv1.Registered{
		AgentId: r.AgentId, MasterInfo: r.MasterInfo, PingTimeout: r.PingTimeout, ReconcileTasks: r.ReconcileTasks,
		ClusterId: r.ClusterId, Masters: t.addresses, Epoch: new(t.lead.Epoch()),
	}}}
}

// tellMasters tells all agents when the masters have changed: an agent must find
// the cluster when none that it was started with is left.
func (t *term) tellMasters() {
	addrs := t.masterAddresses()
	if slices.Equal(addrs, t.addresses) {
		return
	}
	t.addresses = addrs
	m := &clusterdv1.MasterMessage{Message: &clusterdv1.MasterMessage_Masters{Masters: &clusterdv1.Masters{Addresses: addrs}}}
	for id, c := range t.links {
		t.sendAgent(id, c, m)
	}
}

func (t *term) sendAgent(id core.LinkID, c *link.MasterConn, m *clusterdv1.MasterMessage) {
	// An error ends the link, which comes back as LinkClosed.
	if err := c.Send(m); err != nil {
		t.log.Debug().Err(err).Uint64("link", uint64(id)).Msg("message to an agent is lost")
	}
}
