package authz

import "strings"

// Container is what calls on nested and standalone containers are asked for.
type Container struct {
	// ID is the value of its own id, Root that of the outermost container around it, which
	// is its own if there is none.
	ID, Root string
	// User is whom the executor around it runs as, as UserOf tells; nil if there is no
	// executor and no framework.
	User *string
	// Command says that a command comes with a launch, CommandUser as whom it wants to run.
	Command     bool
	CommandUser *string
}

// AllowsContainer says whether an action on a container is permitted. A launch is
// asked for with either of its two actions, and needs both (LocalNestedContainerObjectApprover).
// A principal that has only claims is an executor, which may act within its own container
// (claim cid), or a resource provider, whose containers begin with a prefix (claim cid_prefix).
func (a *ACLs) AllowsContainer(p *Principal, action Action, c Container) bool {
	if p.OnlyClaims() {
		return p.claimed(action, c)
	}
	if a = a.of(p); a == nil {
		return true
	}
	switch action {
	case LaunchNestedContainersAsUser, LaunchNestedContainersUnderParentWithUser:
		return a.launch(p, LaunchNestedContainersAsUser, LaunchNestedContainersUnderParentWithUser, c)
	case LaunchNestedContainerSessionsAsUser, LaunchNestedContainerSessionsUnderParentWithUser:
		return a.launch(p, LaunchNestedContainerSessionsAsUser, LaunchNestedContainerSessionsUnderParentWithUser, c)
	case AttachContainersInput, AttachContainersOutput, RemoveNestedContainers, KillNestedContainers, WaitNestedContainers:
		// Without an executor Mesos asks for the id instead.
		if c.User == nil && c.ID != "" {
			return a.Approver(p, action).Allows(c.ID)
		}
	default:
	}
	return a.Approver(p, action).allowsUser(c.User)
}

func (a *ACLs) launch(p *Principal, as, under Action, c Container) bool {
	return a.Approver(p, under).allowsUser(c.User) && (!c.Command || a.Approver(p, as).allowsUser(c.CommandUser))
}

func (a Approver) allowsUser(user *string) bool {
	if user == nil {
		return a.AllowsAny()
	}
	return a.Allows(*user)
}

// claimed says what a principal may that has only claims.
func (p *Principal) claimed(action Action, c Container) bool {
	switch action {
	case LaunchNestedContainersAsUser, LaunchNestedContainersUnderParentWithUser,
		LaunchNestedContainerSessionsAsUser, LaunchNestedContainerSessionsUnderParentWithUser,
		WaitNestedContainers, KillNestedContainers, RemoveNestedContainers, AttachContainersOutput:
		cid, ok := p.Claims["cid"]
		return ok && cid == c.Root
	case LaunchStandaloneContainers, WaitStandaloneContainers, KillStandaloneContainers,
		RemoveStandaloneContainers, ViewStandaloneContainers:
		prefix, ok := p.Claims["cid_prefix"]
		return ok && strings.HasPrefix(c.ID, prefix)
	default:
		return false
	}
}
