package scheduler

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	pb "clusterd/api/mesos/v1/scheduler"
)

// Refuse returns filters that keep the resources from being offered again for
// so many seconds; without filters the master takes 5.
func Refuse(seconds float64) *mesos.Filters {
	return &mesos.Filters{RefuseSeconds: &seconds}
}

// Accept uses offers, all of one agent, for the operations. What the operations
// leave over is declined with the filters, which may be nil.
func (c *Client) Accept(ctx context.Context, offers []*mesos.OfferID, operations []*mesos.Offer_Operation, filters *mesos.Filters) error {
	return c.call(ctx, &Call{Type: pb.Call_ACCEPT.Enum(), Accept: &pb.Call_Accept{
		OfferIds: offers, Operations: operations, Filters: filters,
	}})
}

// Launch accepts one offer for tasks, whose agent_id is set if it is not.
func (c *Client) Launch(ctx context.Context, offer *mesos.Offer, tasks ...*mesos.TaskInfo) error {
	for _, t := range tasks {
		if t.AgentId == nil {
			t.AgentId = offer.GetAgentId()
		}
	}
	return c.Accept(ctx, []*mesos.OfferID{offer.GetId()}, []*mesos.Offer_Operation{{
		Type:   mesos.Offer_Operation_LAUNCH.Enum(),
		Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks},
	}}, nil)
}

// Decline gives offers back. The filters may be nil.
func (c *Client) Decline(ctx context.Context, filters *mesos.Filters, offers ...*mesos.OfferID) error {
	return c.call(ctx, &Call{Type: pb.Call_DECLINE.Enum(), Decline: &pb.Call_Decline{OfferIds: offers, Filters: filters}})
}

// AcceptInverseOffers agrees to give up resources for maintenance.
func (c *Client) AcceptInverseOffers(ctx context.Context, filters *mesos.Filters, offers ...*mesos.OfferID) error {
	return c.call(ctx, &Call{Type: pb.Call_ACCEPT_INVERSE_OFFERS.Enum(), AcceptInverseOffers: &pb.Call_AcceptInverseOffers{
		InverseOfferIds: offers, Filters: filters,
	}})
}

// DeclineInverseOffers says that resources cannot be given up for maintenance.
func (c *Client) DeclineInverseOffers(ctx context.Context, filters *mesos.Filters, offers ...*mesos.OfferID) error {
	return c.call(ctx, &Call{Type: pb.Call_DECLINE_INVERSE_OFFERS.Enum(), DeclineInverseOffers: &pb.Call_DeclineInverseOffers{
		InverseOfferIds: offers, Filters: filters,
	}})
}

// Revive asks for offers again and drops all filters, for the roles or, without
// any, for all roles of the framework. A later resubscription remembers it.
func (c *Client) Revive(ctx context.Context, roles ...string) error {
	err := c.call(ctx, &Call{Type: pb.Call_REVIVE.Enum(), Revive: &pb.Call_Revive{Roles: roles}})
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.suppressed = slices.DeleteFunc(c.suppressed, func(r string) bool { return len(roles) == 0 || slices.Contains(roles, r) })
	}
	return err
}

// Suppress asks for no more offers, for the roles or, without any, for all
// roles of the framework. A later resubscription remembers it.
func (c *Client) Suppress(ctx context.Context, roles ...string) error {
	err := c.call(ctx, &Call{Type: pb.Call_SUPPRESS.Enum(), Suppress: &pb.Call_Suppress{Roles: roles}})
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(roles) == 0 {
			roles = c.info.GetRoles()
		}
		for _, r := range roles {
			if !slices.Contains(c.suppressed, r) {
				c.suppressed = append(c.suppressed, r)
			}
		}
	}
	return err
}

// Kill asks for the end of a task. The agent and the policy may be nil: the
// master knows the agent, and the task has a policy.
func (c *Client) Kill(ctx context.Context, task *mesos.TaskID, agent *mesos.AgentID, policy *mesos.KillPolicy) error {
	return c.call(ctx, &Call{Type: pb.Call_KILL.Enum(), Kill: &pb.Call_Kill{TaskId: task, AgentId: agent, KillPolicy: policy}})
}

// Shutdown asks for the end of an executor and all its tasks.
func (c *Client) Shutdown(ctx context.Context, executor *mesos.ExecutorID, agent *mesos.AgentID) error {
	return c.call(ctx, &Call{Type: pb.Call_SHUTDOWN.Enum(), Shutdown: &pb.Call_Shutdown{ExecutorId: executor, AgentId: agent}})
}

// Acknowledge tells that an update has arrived, so that it is not sent again. It
// does nothing for updates without a uuid, which are sent only once.
func (c *Client) Acknowledge(ctx context.Context, status *mesos.TaskStatus) error {
	if len(status.GetUuid()) == 0 {
		return nil
	}
	return c.call(ctx, &Call{Type: pb.Call_ACKNOWLEDGE.Enum(), Acknowledge: &pb.Call_Acknowledge{
		AgentId: status.GetAgentId(), TaskId: status.GetTaskId(), Uuid: status.GetUuid(),
	}})
}

// AcknowledgeOperation is Acknowledge for the update of an operation.
func (c *Client) AcknowledgeOperation(ctx context.Context, status *mesos.OperationStatus) error {
	if len(status.GetUuid().GetValue()) == 0 {
		return nil
	}
	return c.call(ctx, &Call{
		Type: pb.Call_ACKNOWLEDGE_OPERATION_STATUS.Enum(),
		AcknowledgeOperationStatus: &pb.Call_AcknowledgeOperationStatus{
			AgentId: status.GetAgentId(), ResourceProviderId: status.GetResourceProviderId(),
			Uuid: status.GetUuid().GetValue(), OperationId: status.GetOperationId(),
		},
	})
}

// Reconcile asks for the latest state of the tasks or, without any, of all
// tasks that the master knows. The answers come as UPDATE events.
func (c *Client) Reconcile(ctx context.Context, tasks ...*pb.Call_Reconcile_Task) error {
	return c.call(ctx, &Call{Type: pb.Call_RECONCILE.Enum(), Reconcile: &pb.Call_Reconcile{Tasks: tasks}})
}

// ReconcileOperations asks for the latest state of the operations or, without
// any, of all. The answers come as UPDATE_OPERATION_STATUS events.
func (c *Client) ReconcileOperations(ctx context.Context, operations ...*pb.Call_ReconcileOperations_Operation) error {
	return c.call(ctx, &Call{Type: pb.Call_RECONCILE_OPERATIONS.Enum(), ReconcileOperations: &pb.Call_ReconcileOperations{
		Operations: operations,
	}})
}

// Message sends data to an executor; it may be lost on the way.
func (c *Client) Message(ctx context.Context, agent *mesos.AgentID, executor *mesos.ExecutorID, data []byte) error {
	return c.call(ctx, &Call{Type: pb.Call_MESSAGE.Enum(), Message: &pb.Call_Message{AgentId: agent, ExecutorId: executor, Data: data}})
}

// Request says what the framework needs, in place of what it said before. On agents
// that satisfy none of the requests whole, it comes after all other frameworks.
func (c *Client) Request(ctx context.Context, requests ...*mesos.Request) error {
	return c.call(ctx, &Call{Type: pb.Call_REQUEST.Enum(), Request: &pb.Call_Request{Requests: requests}})
}

// Teardown ends the framework: all its tasks are killed and its id cannot be used
// again.
func (c *Client) Teardown(ctx context.Context) error {
	return c.call(ctx, &Call{Type: pb.Call_TEARDOWN.Enum()})
}

// UpdateFramework replaces the framework's info, suppressed roles and offer
// constraints, now and in later resubscriptions. The info's id is filled in.
func (c *Client) UpdateFramework(ctx context.Context, info *mesos.FrameworkInfo, suppressed []string, constraints *pb.OfferConstraints) error {
	info = proto.CloneOf(info)
	if info.Id == nil {
		info.Id = c.FrameworkID()
	}
	err := c.call(ctx, &Call{Type: pb.Call_UPDATE_FRAMEWORK.Enum(), UpdateFramework: &pb.Call_UpdateFramework{
		FrameworkInfo: info, SuppressedRoles: suppressed, OfferConstraints: constraints,
	}})
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.info, c.suppressed, c.constraints = info, slices.Clone(suppressed), proto.CloneOf(constraints)
	}
	return err
}
