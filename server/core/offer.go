package core

import (
	"fmt"
	"math"
	"strings"
	"time"

	"clusterd/allocator"
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

// offer is an outstanding offer.
type offer struct {
	*Offer
	seq uint64
	fw  *framework
	ag  *agent
}

// inverseOffer is an outstanding inverse offer.
type inverseOffer struct {
	*InverseOffer
	seq uint64
	fw  *framework
	ag  *agent
}

// maxRefuse caps how long an offer can be refused for.
const maxRefuse = 365 * 24 * time.Hour

// offer turns what the allocator decided into offers: one OFFERS event for each
// framework (Mesos: Master::offer).
func (c *Core) offer(decided []allocator.Offer) {
	var order []*framework
	batches := map[*framework][]*mesos.Offer{}
	for i := range decided {
		d := &decided[i]
		fw, ag := c.framework(d.FrameworkID), c.agent(d.AgentID)
		if fw == nil || !fw.active || !fw.connected() || ag == nil || !ag.active {
			c.alloc.RecoverResources(c.now, d.FrameworkID, d.AgentID, d.Resources, nil)
			continue
		}
		o := c.addOffer(fw, ag, d)
		if _, ok := batches[fw]; !ok {
			order = append(order, fw)
		}
		batches[fw] = append(batches[fw], o.message(c.cfg.TLS))
	}
	for _, fw := range order {
		for range batches[fw] {
			c.countFramework(fw, "offers/sent")
		}
		c.sendEvent(fw, &scheduler.Event{
			Type:   scheduler.Event_OFFERS.Enum(),
			Offers: &scheduler.Event_Offers{Offers: batches[fw]},
		})
	}
}

func (c *Core) newOfferID() (string, uint64) {
	seq := c.nextOffer
	c.nextOffer++
	return fmt.Sprintf("%s-O%d", c.masterID, seq), seq
}

func (c *Core) addOffer(fw *framework, ag *agent, d *allocator.Offer) *offer {
	id, seq := c.newOfferID()
	o := &offer{
		Offer: &Offer{
			ID: id, FrameworkID: fw.id, AgentID: ag.id, Role: d.Role,
			Resources: d.Resources, Unavailability: ag.unavailability, MadeAt: c.now,
		},
		seq: seq, fw: fw, ag: ag,
	}
	c.offers[id] = o
	fw.offers.Set(seq, o)
	ag.offers.Set(seq, o)
	ag.offered = ag.offered.Add(d.Resources)
	if c.cfg.OfferTimeout > 0 {
		c.timers.add(c.now.Add(c.cfg.OfferTimeout), timer{kind: offerTimer, id: id})
	}
	c.touchFramework(fw)
	c.touchAgent(ag)
	return o
}

// message is the offer as its framework gets it: without what it would not
// understand.
func (o *offer) message(tls bool) *mesos.Offer {
	var executors []*mesos.ExecutorID
	prefix := executorKey(o.ag.id, "")
	o.fw.executors.Ascend(prefix, func(key string, e *Executor) bool {
		if !strings.HasPrefix(key, prefix) {
			return false
		}
		executors = append(executors, e.Info.GetExecutorId())
		return true
	})
	m := offerProto(o.Offer, o.ag.info, o.ag.ip, executors, tls)
	kept := m.Resources[:0]
	for _, r := range m.Resources {
		if r.GetName() != "ephemeral_ports" { // of the port mapping isolator, not for frameworks
			kept = append(kept, r)
		}
	}
	m.Resources = kept
	if !o.fw.can(mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		m.AllocationInfo = nil
		for _, r := range m.Resources {
			r.AllocationInfo = nil
		}
	}
	if !o.fw.can(mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT) {
		for _, r := range m.Resources {
			// Refined reservations are not offered to such frameworks.
			_ = resources.ToPreRefinement(r)
		}
	}
	return m
}

// removeOffer forgets an offer; its resources are the caller's to place.
func (c *Core) removeOffer(o *offer) {
	delete(c.offers, o.ID)
	o.fw.offers.Delete(o.seq)
	o.ag.offers.Delete(o.seq)
	o.ag.offered = o.ag.offered.Sub(o.Resources)
	c.touchFramework(o.fw)
	c.touchAgent(o.ag)
}

// discard takes an offer back without telling the framework.
func (c *Core) discard(o *offer, filter *allocator.Filter) {
	c.removeOffer(o)
	c.alloc.RecoverResources(c.now, o.FrameworkID, o.AgentID, o.Resources, filter)
}

// rescind takes an offer back and says so.
func (c *Core) rescind(o *offer) {
	c.sendEvent(o.fw, &scheduler.Event{
		Type:    scheduler.Event_RESCIND.Enum(),
		Rescind: &scheduler.Event_Rescind{OfferId: &mesos.OfferID{Value: &o.ID}},
	})
	c.countFramework(o.fw, "offers/rescinded")
	c.discard(o, nil)
}

// discardOffers takes all offers of a framework back, inverse ones too.
func (c *Core) discardOffers(fw *framework, rescind bool) {
	for _, o := range fw.offers.Values() {
		if rescind {
			c.rescind(o)
		} else {
			c.discard(o, nil)
		}
	}
	for _, o := range fw.inverse.Values() {
		c.removeInverse(o, rescind)
	}
}

// rescindOffers takes all offers of an agent back.
func (c *Core) rescindOffers(ag *agent) {
	for _, o := range ag.offers.Values() {
		c.rescind(o)
	}
}

// rescindAgent takes all offers of an agent back, inverse ones too.
func (c *Core) rescindAgent(ag *agent) {
	c.rescindOffers(ag)
	for _, o := range ag.inverse.Values() {
		c.removeInverse(o, true)
	}
}

// filterOf reads the filters of a call. What is not set is the default.
func (c *Core) filterOf(f *mesos.Filters) *allocator.Filter {
	s := f.GetRefuseSeconds()
	switch {
	case math.IsNaN(s) || s < 0:
		c.log(Warn, "invalid_refuse_seconds", "using", "5")
		s = 5
	case s > maxRefuse.Seconds():
		s = maxRefuse.Seconds()
	}
	return &allocator.Filter{RefuseFor: time.Duration(s * float64(time.Second))}
}

// inverseOffer asks frameworks to leave agents that will be maintained.
func (c *Core) inverseOffer(decided []allocator.InverseOffer) {
	var order []*framework
	batches := map[*framework][]*mesos.InverseOffer{}
	for i := range decided {
		d := &decided[i]
		fw, ag := c.framework(d.FrameworkID), c.agent(d.AgentID)
		if fw == nil || !fw.active || !fw.connected() || ag == nil || !ag.active || ag.unavailability == nil {
			continue
		}
		id, seq := c.newOfferID()
		o := &inverseOffer{
			InverseOffer: &InverseOffer{ID: id, FrameworkID: fw.id, AgentID: ag.id, Unavailability: d.Unavailability},
			seq:          seq, fw: fw, ag: ag,
		}
		c.inverse[id] = o
		fw.inverse.Set(seq, o)
		ag.inverse.Set(seq, o)
		if c.cfg.OfferTimeout > 0 {
			c.timers.add(c.now.Add(c.cfg.OfferTimeout), timer{kind: offerTimer, id: id})
		}
		c.touchFramework(fw)
		if _, ok := batches[fw]; !ok {
			order = append(order, fw)
		}
		batches[fw] = append(batches[fw], &mesos.InverseOffer{
			Id:             &mesos.OfferID{Value: &o.ID},
			Url:            agentURL(ag.info, ag.ip, c.cfg.TLS),
			FrameworkId:    &mesos.FrameworkID{Value: &fw.id},
			AgentId:        &mesos.AgentID{Value: &ag.id},
			Unavailability: d.Unavailability,
		})
	}
	for _, fw := range order {
		c.sendEvent(fw, &scheduler.Event{
			Type:          scheduler.Event_INVERSE_OFFERS.Enum(),
			InverseOffers: &scheduler.Event_InverseOffers{InverseOffers: batches[fw]},
		})
	}
}

// forgetInverse takes an inverse offer out of the books.
func (c *Core) forgetInverse(o *inverseOffer) {
	delete(c.inverse, o.ID)
	o.fw.inverse.Delete(o.seq)
	o.ag.inverse.Delete(o.seq)
	c.touchFramework(o.fw)
}

// removeInverse takes an inverse offer back that was not answered.
func (c *Core) removeInverse(o *inverseOffer, rescind bool) {
	c.forgetInverse(o)
	c.alloc.RescindInverseOffer(o.FrameworkID, o.AgentID)
	if rescind {
		c.sendEvent(o.fw, &scheduler.Event{
			Type:                scheduler.Event_RESCIND_INVERSE_OFFER.Enum(),
			RescindInverseOffer: &scheduler.Event_RescindInverseOffer{InverseOfferId: &mesos.OfferID{Value: &o.ID}},
		})
	}
}

// answerInverse takes a framework's answer to inverse offers.
func (c *Core) answerInverse(fw *framework, ids []*mesos.OfferID, filters *mesos.Filters, accepted bool) {
	for _, id := range ids {
		o := c.inverse[id.GetValue()]
		if o == nil || o.fw != fw {
			c.log(Warn, "inverse_offer_invalid", "framework_id", fw.id, "offer_id", id.GetValue())
			continue
		}
		c.alloc.UpdateInverseOffer(c.now, fw.id, o.AgentID, accepted, c.filterOf(filters))
		c.forgetInverse(o)
		c.touchAgent(o.ag)
	}
}

// decline gives offers back (Mesos: Master::decline). Offers of others are left
// alone; Mesos would take them back too.
func (c *Core) decline(fw *framework, call *scheduler.Call_Decline) {
	c.count("master/messages_decline_offers")
	filter := c.filterOf(call.Filters)
	for _, id := range call.OfferIds {
		o := c.offers[id.GetValue()]
		if o == nil || o.fw != fw {
			c.log(Debug, "offer_invalid", "framework_id", fw.id, "offer_id", id.GetValue())
			continue
		}
		c.countFramework(fw, "offers/declined")
		c.noteRefusal(o)
		c.discard(o, filter)
	}
}

// quotaOf reads a quota as the allocator wants it.
func quotaOf(q interface {
	GetGuarantees() map[string]*mesos.Value_Scalar
	GetLimits() map[string]*mesos.Value_Scalar
},
) *allocator.Quota {
	return &allocator.Quota{
		Guarantees: resources.QuantitiesFromProto(q.GetGuarantees()),
		Limits:     resources.LimitsFromProto(q.GetLimits()),
	}
}
