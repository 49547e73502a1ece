package state

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
)

// ErrRefused says that a command is not possible in the state that it met; the
// state is as if it had not been proposed.
var ErrRefused = errors.New("registry refused")

// UnknownKindError stops a node: the log holds a command of a newer build that
// may not be skipped.
type UnknownKindError struct {
	Kind   int32
	Format uint32
	Build  string // of the proposer
}

// Error says what is unknown and what to do.
func (e *UnknownKindError) Error() string {
	return fmt.Sprintf("command of unknown kind %d (format %d, proposed by build %q) cannot be skipped: this build knows format %d; run a build at least as new",
		e.Kind, e.Format, e.Build, Format)
}

// CorruptError stops a node: what the log or a snapshot holds cannot have been
// written by any build.
type CorruptError struct{ Err error }

// Error says what does not decode.
func (e *CorruptError) Error() string { return "registry is corrupt: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

func corrupt(format string, args ...any) error {
	return &CorruptError{Err: fmt.Errorf(format, args...)}
}

// Apply returns the state after an entry of the log, and for each of its
// commands nil or why it was refused; s itself does not change. An error means
// that this build cannot follow the log any further ([UnknownKindError],
// [CorruptError]): the node must stop.
func (s *State) Apply(e *clusterdv1.Entry) (*State, []error, error) {
	next := s.clone()
	results := make([]error, len(e.Commands))
	for i := 0; i < len(e.Commands); {
		end := i + 1
		for end < len(e.Commands) && e.Commands[end].GetWithPrevious() {
			end++
		}
		after, refused, err := next.applyGroup(e, e.Commands[i:end])
		if err != nil {
			return nil, nil, err
		}
		next = after
		for ; i < end; i++ {
			results[i] = refused
		}
	}
	return next, results, nil
}

// applyGroup applies commands that take effect together: s, which it may change,
// or a copy with none of them.
func (s *State) applyGroup(e *clusterdv1.Entry, cmds []*clusterdv1.Command) (after *State, refused, err error) {
	before := s
	if len(cmds) > 1 { // a single command checks before it changes
		before = s.clone()
	}
	for _, c := range cmds {
		refused, err := s.applyCommand(c)
		if unknown, ok := errors.AsType[*UnknownKindError](err); ok {
			if c.GetIgnorable() {
				continue
			}
			unknown.Format, unknown.Build = e.GetFormat(), e.GetBuildVersion()
		}
		if err != nil {
			return nil, nil, err
		}
		if refused != nil {
			return before, fmt.Errorf("%w: %s: %w", ErrRefused, c.GetKind(), refused), nil
		}
	}
	return s, nil, nil
}

// Check says whether a command is well formed, without a state: a command that
// fails it would be corrupt in the log.
func Check(c *clusterdv1.Command) error {
	_, err := New().applyCommand(c)
	return err
}

// applyCommand applies one command or refuses it; a refused command has changed
// nothing.
func (s *State) applyCommand(c *clusterdv1.Command) (refused, err error) {
	switch k := c.GetKind(); k {
	case clusterdv1.Command_ELECT_MASTER:
		return decode(c, new(clusterdv1.ElectMaster), s.electMaster)
	case clusterdv1.Command_ADMIT_AGENT:
		return decode(c, new(clusterdv1.AdmitAgent), s.admitAgent)
	case clusterdv1.Command_UPDATE_AGENT:
		return decode(c, new(clusterdv1.UpdateRegisteredAgent), s.updateAgent)
	case clusterdv1.Command_MARK_AGENT_UNREACHABLE:
		return decode(c, new(clusterdv1.MarkAgentUnreachable), s.markAgentUnreachable)
	case clusterdv1.Command_MARK_AGENT_REACHABLE:
		return decode(c, new(clusterdv1.MarkAgentReachable), s.markAgentReachable)
	case clusterdv1.Command_MARK_AGENT_GONE:
		return decode(c, new(clusterdv1.MarkAgentGone), s.markAgentGone)
	case clusterdv1.Command_REMOVE_AGENT:
		return decode(c, new(clusterdv1.RemoveAgent), s.removeAgent)
	case clusterdv1.Command_SET_AGENT_DRAIN:
		return decode(c, new(clusterdv1.SetAgentDrain), s.setAgentDrain)
	case clusterdv1.Command_SET_AGENT_DEACTIVATED:
		return decode(c, new(clusterdv1.SetAgentDeactivated), s.setAgentDeactivated)
	case clusterdv1.Command_PRUNE_AGENTS:
		return decode(c, new(clusterdv1.PruneAgents), s.prune)
	case clusterdv1.Command_ADMIT_FRAMEWORK:
		return decode(c, new(clusterdv1.AdmitFramework), s.admitFramework)
	case clusterdv1.Command_UPDATE_FRAMEWORK:
		return decode(c, new(clusterdv1.UpdateRegisteredFramework), s.updateFramework)
	case clusterdv1.Command_SET_FRAMEWORK_DEADLINE:
		return decode(c, new(clusterdv1.SetFrameworkDeadline), s.setFrameworkDeadline)
	case clusterdv1.Command_REMOVE_FRAMEWORK:
		return decode(c, new(clusterdv1.RemoveFramework), s.removeFramework)
	case clusterdv1.Command_UPDATE_WEIGHTS:
		return decode(c, new(clusterdv1.UpdateWeights), s.updateWeights)
	case clusterdv1.Command_UPDATE_QUOTA:
		return decode(c, new(clusterdv1.UpdateQuota), s.updateQuota)
	case clusterdv1.Command_UPDATE_MAINTENANCE_SCHEDULE:
		return decode(c, new(clusterdv1.UpdateMaintenanceSchedule), s.updateMaintenanceSchedule)
	case clusterdv1.Command_SET_MACHINE_MODE:
		return decode(c, new(clusterdv1.SetMachineMode), s.setMachineMode)
	default:
		return nil, &UnknownKindError{Kind: int32(k), Format: Format}
	}
}

// decode decodes the payload of a command and applies it.
func decode[M proto.Message](c *clusterdv1.Command, m M, apply func(M) error) (refused, err error) {
	if err := proto.Unmarshal(c.GetPayload(), m); err != nil {
		return nil, corrupt("payload of a command of kind %s: %w", c.GetKind(), err)
	}
	// Unmarshal overlooks some required members that are missing below a oneof
	// (protobuf-go v1.36), and what it lets through could not be written again.
	if err := proto.CheckInitialized(m); err != nil {
		return nil, corrupt("payload of a command of kind %s: %w", c.GetKind(), err)
	}
	return apply(m), nil
}

// DecodeEntry decodes an entry of the log.
func DecodeEntry(data []byte) (*clusterdv1.Entry, error) {
	e := new(clusterdv1.Entry)
	if err := proto.Unmarshal(data, e); err != nil {
		return nil, corrupt("log entry: %w", err)
	}
	return e, nil
}

// EncodeEntry encodes commands as an entry of the log. Together with another
// entry's commands they may be put in one: a group is marked by its own commands.
func EncodeEntry(proposedAt time.Time, build string, cmds []*clusterdv1.Command) ([]byte, error) {
	e := &clusterdv1.Entry{
		Format:       proto.Uint32(Format),
		Commands:     cmds,
		ProposedAt:   new(proposedAt.UnixNano()),
		BuildVersion: new(build),
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(e)
}
