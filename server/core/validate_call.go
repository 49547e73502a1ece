package core

import (
	"clusterd/api/mesos/v1/scheduler"
	"clusterd/internal/authz"
)

// ValidateCall checks what can be known of a scheduler call from itself alone:
// step 8 of the order in which the front checks. The error's text goes to the
// client behind "Failed to validate scheduler::Call: " (Mesos:
// src/master/validation.cpp, scheduler::call::validate).
func ValidateCall(call *scheduler.Call) error {
	if call == nil || call.Type == nil {
		return invalidf("Expecting 'type' to be present")
	}
	if call.GetType() == scheduler.Call_SUBSCRIBE {
		if call.Subscribe == nil {
			return missing("subscribe")
		}
		if call.GetFrameworkId().GetValue() != call.Subscribe.GetFrameworkInfo().GetId().GetValue() {
			return invalidf("'framework_id' differs from 'subscribe.framework_info.id'")
		}
		return nil
	}
	if call.FrameworkId == nil {
		return missing("framework_id")
	}
	return validateMember(call)
}

// ValidatePrincipal checks that the principal in a SUBSCRIBE is the one that was
// authenticated. The front calls it right after [ValidateCall], and treats its
// error alike.
func ValidatePrincipal(call *scheduler.Call, principal *authz.Principal) error {
	info := call.GetSubscribe().GetFrameworkInfo()
	if call.GetType() != scheduler.Call_SUBSCRIBE || principal == nil || info == nil || info.Principal == nil {
		return nil
	}
	if principal.Value != info.GetPrincipal() {
		return invalidf("Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`",
			principal.Value, info.GetPrincipal())
	}
	return nil
}

func missing(member string) error {
	return invalidf("Expecting '%s' to be present", member)
}

// validateMember checks that the member that belongs to the call's type is set.
func validateMember(call *scheduler.Call) error {
	present, member := true, ""
	switch call.GetType() {
	case scheduler.Call_ACCEPT:
		present, member = call.Accept != nil, "accept"
	case scheduler.Call_DECLINE:
		present, member = call.Decline != nil, "decline"
	case scheduler.Call_ACCEPT_INVERSE_OFFERS:
		present, member = call.AcceptInverseOffers != nil, "accept_inverse_offers"
	case scheduler.Call_DECLINE_INVERSE_OFFERS:
		present, member = call.DeclineInverseOffers != nil, "decline_inverse_offers"
	case scheduler.Call_KILL:
		present, member = call.Kill != nil, "kill"
	case scheduler.Call_SHUTDOWN:
		present, member = call.Shutdown != nil, "shutdown"
	case scheduler.Call_ACKNOWLEDGE:
		if call.Acknowledge == nil {
			return missing("acknowledge")
		}
		return validateUUID(call.Acknowledge.GetUuid())
	case scheduler.Call_ACKNOWLEDGE_OPERATION_STATUS:
		ack := call.AcknowledgeOperationStatus
		if ack == nil {
			return missing("acknowledge_operation_status")
		}
		if err := validateUUID(ack.GetUuid()); err != nil {
			return err
		}
		present, member = ack.AgentId != nil, "agent_id"
	case scheduler.Call_RECONCILE:
		present, member = call.Reconcile != nil, "reconcile"
	case scheduler.Call_RECONCILE_OPERATIONS:
		present, member = call.ReconcileOperations != nil, "reconcile_operations"
	case scheduler.Call_MESSAGE:
		present, member = call.Message != nil, "message"
	case scheduler.Call_REQUEST:
		present, member = call.Request != nil, "request"
	case scheduler.Call_UPDATE_FRAMEWORK:
		if call.UpdateFramework == nil {
			return missing("update_framework")
		}
		if call.GetFrameworkId().GetValue() != call.UpdateFramework.GetFrameworkInfo().GetId().GetValue() {
			return invalidf("'framework_id' differs from 'update_framework.framework_info.id'")
		}
	default: // SUBSCRIBE is checked before; the others have no member.
	}
	if !present {
		return missing(member)
	}
	return nil
}

// validateUUID checks the length, which is all that can be wrong with one.
func validateUUID(uuid []byte) error {
	if len(uuid) != 16 {
		return invalidf("Not a valid UUID")
	}
	return nil
}
