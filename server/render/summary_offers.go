package render

import (
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
	"clusterd/server/core"
)

// OfferQuery selects offers; what is empty selects all.
type OfferQuery struct{ FrameworkID, AgentID, Role string }

// offered is an offer or an inverse one.
type offered struct {
	framework *core.Framework
	offer     *core.Offer
	inverse   *core.InverseOffer
}

// Offers writes a list of all outstanding offers and inverse offers, those of each framework
// oldest first. Nobody remembers when inverse offers were made.
func Offers(v *core.View, q OfferQuery, viewer *authz.Viewer) Body {
	who := sight{viewer}
	var all []offered
	for f := range v.Frameworks.Values() {
		if !who.framework(f) || q.FrameworkID != "" && q.FrameworkID != f.ID {
			continue
		}
		for _, o := range f.Offers {
			if (q.AgentID == "" || q.AgentID == o.AgentID) && (q.Role == "" || q.Role == o.Role) {
				all = append(all, offered{framework: f, offer: o})
			}
		}
		for _, o := range f.InverseOffers {
			if (q.AgentID == "" || q.AgentID == o.AgentID) && q.Role == "" {
				all = append(all, offered{framework: f, inverse: o})
			}
		}
	}
	var p plan
	p.text("[")
	list(&p, all, func(dst []byte, of offered) []byte { return of.append(dst, v) })
	p.text("]")
	return p.write()
}

func (of offered) append(dst []byte, v *core.View) []byte {
	o := open(dst)
	id, agent := "", ""
	var unavailable *mesos.Unavailability
	if of.offer != nil {
		id, agent, unavailable = of.offer.ID, of.offer.AgentID, of.offer.Unavailability
	} else {
		id, agent, unavailable = of.inverse.ID, of.inverse.AgentID, of.inverse.Unavailability
	}
	o.str("offer_id", id)
	o.str("framework_id", of.framework.ID)
	o.str("framework", of.framework.Info.GetName())
	o.str("agent_id", agent)
	hostname := ""
	if a, ok := v.Agents.Get(agent); ok {
		hostname = a.Info.GetHostname()
	}
	o.str("hostname", hostname)
	if of.offer != nil {
		o.str("role", of.offer.Role)
		o.amounts("resources", of.offer.Resources)
		o.str("resources_text", of.offer.Resources.Unallocate().String())
		o.time("since", of.offer.MadeAt)
	}
	o.boolean("inverse", of.inverse != nil)
	if unavailable != nil {
		o.proto("unavailability", unavailable)
	}
	return o.close()
}
