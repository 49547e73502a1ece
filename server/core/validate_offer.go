package core

import (
	mesos "clusterd/api/mesos/v1"
)

// validateOffers checks the offers of an ACCEPT and returns them (Mesos:
// src/master/validation.cpp, offer::validate). That their agents are there and
// connected is not asked: an offer does not outlive that.
func (c *Core) validateOffers(ids []*mesos.OfferID, fw *framework) ([]*offer, error) {
	if err := validateUniqueOffers(ids); err != nil {
		return nil, err
	}
	offers := make([]*offer, 0, len(ids))
	for _, id := range ids {
		o := c.offers[id.GetValue()]
		if o == nil {
			return nil, invalidf("Offer %s is no longer valid", id.GetValue())
		}
		offers = append(offers, o)
	}
	for _, o := range offers {
		if o.FrameworkID != fw.id {
			return nil, invalidf("Offer %s has invalid framework %s while framework %s is expected",
				o.ID, o.FrameworkID, fw.id)
		}
	}
	for _, o := range offers {
		if o.Role != offers[0].Role {
			return nil, invalidf("Aggregated offers must be allocated to the same role. Offer %s uses role '%s"+
				" but another is using role '%s", o.ID, o.Role, offers[0].Role)
		}
	}
	for _, o := range offers {
		if o.AgentID != offers[0].AgentID {
			return nil, invalidf("Aggregated offers must belong to one single agent. Offer %s uses agent %s and agent %s",
				o.ID, o.AgentID, offers[0].AgentID)
		}
	}
	return offers, nil
}

func validateUniqueOffers(ids []*mesos.OfferID) error {
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		if seen[id.GetValue()] {
			return invalidf("Duplicate offer %s in offer list", id.GetValue())
		}
		seen[id.GetValue()] = true
	}
	return nil
}
