package core

import (
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
)

// refuse leaves a master that does not take the agent, or that the agent does
// not take. Tasks go on; the agent tries again, more and more slowly, for an
// operator may put it right.
func (c *Core) refuse(message string) {
	c.log(Error, "refused_by_master", "message", message)
	c.refusals++
	if c.phase == running {
		c.phase = disconnected
	}
	c.dropLink("refused: " + message)
}

// learn keeps which cluster the agent is of and where its masters are.
func (c *Core) learn(clusterID string, masters []string) {
	next := &clusterdv1.ClusterRecord{ClusterId: &clusterID, Masters: masters}
	if len(masters) == 0 {
		next.Masters = c.cluster.GetMasters()
	}
	if clusterID == "" { // a master that does not say
		next.ClusterId = new(c.cluster.GetClusterId())
	}
	if next.GetClusterId() == "" && len(next.GetMasters()) == 0 || proto.Equal(next, c.cluster) {
		return
	}
	c.cluster = next
	c.persist(PutCluster{next})
	c.emit(LearnMasters{ClusterID: next.GetClusterId(), Masters: next.GetMasters()})
}

// leaderKnown follows a new leader, which need not wait until the link to the
// old one is seen to be dead.
func (c *Core) leaderKnown(in LeaderKnown) {
	if in.Epoch == c.leaderEpoch {
		return
	}
	c.leaderEpoch = in.Epoch
	switch {
	case in.Epoch == 0 || c.phase == terminating || c.phase == recovering:
	case c.phase == running:
		if c.linkEpoch < in.Epoch {
			c.dropLink("another master leads")
		}
	case c.link != 0:
		// Perhaps it is the new one's already: it was found through a redirect.
		if fn := c.linkTimer.fn; c.linkTimer.left(c.now) > staleLinkTimeout {
			c.linkTimer.stop()
			c.linkTimer = c.after(staleLinkTimeout, fn)
		}
	case c.connecting:
		c.attempts = 0
	default:
		c.attempts = 0
		if wait := c.backoff(0, registerRetryMax); c.dialTimer.left(c.now) > wait {
			c.connectIn(wait)
		}
	}
}
