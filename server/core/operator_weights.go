package core

import (
	"strconv"
	"strings"

	"clusterd/allocator/resources"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
)

// weightsKey is the turn of changes of weights.
const weightsKey = "weights"

// updateWeights sets weights of roles; others keep theirs. A weight that is set back
// to 1 stays in the list, as in Mesos (src/master/weights_handler.cpp).
func (c *Core) updateWeights(in Operate) {
	infos, err := c.validateWeights(in.Call.GetUpdateWeights().GetWeightInfos())
	if err != nil {
		c.refuseCall(in, err)
		return
	}
	if !c.permitsWeights(in.Principal, infos) {
		c.forbid(in)
		return
	}
	if len(infos) == 0 {
		c.answer(in.Request, 200, "")
		return
	}
	c.propose(weightsKey, func() {
		weights := map[string]float64{}
		for _, w := range infos {
			weights[w.GetRole()] = w.GetWeight()
			c.weights.Set(w.GetRole(), w.GetWeight())
		}
		c.publish.changed = true
		c.announce(&Event{Type: WeightsUpdated, Weights: infos})
		c.alloc.UpdateWeights(weights)
		c.rescindForWeights(infos)
		c.log(Info, "weights_updated", "roles", strings.Join(sortedKeys(weights), ","))
		c.answer(in.Request, 200, "")
	}, command(clusterdv1.Command_UPDATE_WEIGHTS, &clusterdv1.UpdateWeights{Weights: infos}))
}

// validateWeights returns the weights with their roles trimmed.
func (c *Core) validateWeights(infos []*mesos.WeightInfo) ([]*mesos.WeightInfo, error) {
	var out []*mesos.WeightInfo
	for _, w := range infos {
		role := strings.Trim(w.GetRole(), " \t\n\r")
		if err := resources.ValidateRole(role); err != nil {
			return nil, invalidf("Failed to validate update weights request JSON: Invalid role '%s': %s", role, err)
		}
		if !c.allowedRole(role) {
			return nil, invalidf("Failed to validate update weights request JSON: Unknown role '%s'", role)
		}
		// NaN is not above 0 either.
		if !(w.GetWeight() > 0) || w.GetWeight() > maxWeight {
			return nil, invalidf("Failed to validate update weights request JSON for role '%s': "+
				"Invalid weight '%s': Weights must be positive", role, strconv.FormatFloat(w.GetWeight(), 'g', 6, 64))
		}
		out = append(out, &mesos.WeightInfo{Role: &role, Weight: new(w.GetWeight())})
	}
	return out, nil
}

// maxWeight keeps infinite weights out: shares divided by one are all the same.
const maxWeight = 1e300

// rescindForWeights takes all offers back if a role with a new weight is in use, so
// that they are shared out anew.
func (c *Core) rescindForWeights(infos []*mesos.WeightInfo) {
	for _, w := range infos {
		if c.roleInUse(w.GetRole()) {
			c.agents.Scan(func(_ string, ag *agent) bool {
				for _, o := range ag.offers.Values() {
					c.rescind(o)
				}
				return true
			})
			return
		}
	}
}

// roleInUse says whether a framework is subscribed to a role, or still has tasks or
// executors of it (Mesos: Master::roles).
func (c *Core) roleInUse(role string) bool {
	used := false
	c.frameworks.Scan(func(_ string, fw *framework) bool {
		used = used || fw.hasRole(role) || fw.uses(role)
		return !used
	})
	return used
}

// uses says whether a task or executor of the framework holds resources of a role.
func (fw *framework) uses(role string) bool {
	found := false
	fw.tasks.Scan(func(_ string, t *Task) bool {
		found = !t.Terminal() && t.Role() == role
		return !found
	})
	fw.executors.Scan(func(_ string, e *Executor) bool {
		found = found || !e.Resources.Empty() && e.Resources.At(0).Role() == role
		return !found
	})
	return found
}
