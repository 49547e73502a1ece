package core

import (
	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// maxRequests bounds what one framework may say it needs: the allocator looks at all
// of it for each agent.
const maxRequests = 100

// request notes what a framework says it needs, in place of what it said before. A
// request that makes no sense is left out, and a call with too many is void; Mesos
// hands all of them to the allocator, which ignores them (Master::request).
func (c *Core) request(fw *framework, requests []*mesos.Request) {
	c.count("master/messages_resource_request")
	if len(requests) > maxRequests {
		c.drop("request", "too many requests", "framework_id", fw.id)
		return
	}
	var valid []*mesos.Request
	for _, r := range requests {
		for _, res := range r.GetResources() {
			resources.ToPostRefinement(res)
		}
		if err := resources.ValidateAll(r.GetResources()); err != nil {
			c.drop("request", err.Error(), "framework_id", fw.id)
			continue
		}
		valid = append(valid, r)
	}
	c.alloc.RequestResources(fw.id, valid)
}
