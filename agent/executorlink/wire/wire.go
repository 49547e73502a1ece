// Package wire encodes and decodes the part of the executor API, and of the agent's, that
// the executors that come with clusterd speak, by hand.
//
// The generated types would do the same, but a program that links them takes
// three times as long to start (their descriptors are registered before main),
// and the executors are started for every task or pod. A test compares this
// package with the generated types, field by field. All functions are pure;
// agent/executorlink and the executors import them.
package wire

import (
	"errors"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMalformed says that a message cannot be decoded.
var ErrMalformed = errors.New("malformed message")

// EventType is mesos.v1.executor.Event.Type.
type EventType int32

// The events of the executor API.
const (
	EventUnknown      EventType = 0
	EventSubscribed   EventType = 1
	EventLaunch       EventType = 2
	EventKill         EventType = 3
	EventAcknowledged EventType = 4
	EventMessage      EventType = 5
	EventError        EventType = 6
	EventShutdown     EventType = 7
	EventLaunchGroup  EventType = 8
	EventHeartbeat    EventType = 9
)

// State is mesos.v1.TaskState.
type State int32

// The states that executors report.
const (
	TaskStarting State = 0
	TaskRunning  State = 1
	TaskFinished State = 2
	TaskFailed   State = 3
	TaskKilled   State = 4
	TaskLost     State = 5
	TaskKilling  State = 8
	TaskDropped  State = 9
)

// Terminal says whether a task in this state has ended.
func (s State) Terminal() bool {
	return s == TaskFinished || s == TaskFailed || s == TaskKilled || s == TaskLost || s == TaskDropped
}

// Reason is mesos.v1.TaskStatus.Reason; NoReason is not on the wire.
type Reason int32

// The reasons that executors give.
const (
	NoReason                  Reason = -1
	ReasonLimitationMemory    Reason = 8
	ReasonTaskCheckUpdated    Reason = 28
	ReasonHealthStatusUpdated Reason = 29
	ReasonMaxCompletionTime   Reason = 33
)

// CheckType is the type of a check or health check.
type CheckType int32

// The types of checks.
const (
	CheckUnknown CheckType = 0
	CheckCommand CheckType = 1
	CheckHTTP    CheckType = 2
	CheckTCP     CheckType = 3
)

// Of FrameworkInfo.Capability: TASK_KILLING_STATE and PARTITION_AWARE.
const (
	capabilityTaskKilling    = 2
	capabilityPartitionAware = 5
)

// sourceExecutor is TaskStatus.SOURCE_EXECUTOR.
const sourceExecutor = 2

// Event is an event of the agent.
type Event struct {
	Type EventType
	// TaskKilling says of SUBSCRIBED that the framework knows TASK_KILLING.
	TaskKilling bool
	// PartitionAware says of SUBSCRIBED that the framework knows TASK_DROPPED.
	PartitionAware bool
	// ContainerID is that of SUBSCRIBED, as it came.
	ContainerID []byte
	// Task is that of LAUNCH.
	Task *Task
	// Group are the tasks of LAUNCH_GROUP.
	Group []*Task
	// TaskID is that of KILL and ACKNOWLEDGED.
	TaskID string
	// UUID is that of ACKNOWLEDGED.
	UUID []byte
	// Grace is the grace period of KILL in nanoseconds, if it has one.
	Grace *int64
	// Message is that of ERROR.
	Message string
}

// Task is a TaskInfo.
type Task struct {
	// Raw is the message as it came.
	Raw []byte
	ID  string
	// Command is nil if there is none.
	Command     *Command
	HealthCheck *Check
	Check       *Check
	// Grace is the grace period of the kill policy, in nanoseconds.
	Grace *int64
	// MaxCompletion is in nanoseconds; 0 is none.
	MaxCompletion int64
	// Role is that which the task's first resource is allocated to.
	Role string
	// Resources and Limits (the entries of the map) are as they came.
	Resources, Limits [][]byte
	// Container is the ContainerInfo as it came; nil if there is none. Networks says that it
	// asks for networks of its own.
	Container []byte
	Networks  bool
	// Volumes are where the task wants to have its disks.
	Volumes []DiskVolume
}

// DiskVolume is where a disk of a task is to be.
type DiskVolume struct {
	// Mode is that of Volume.
	Mode          uint64
	ContainerPath string
}

// Command is a CommandInfo.
type Command struct {
	// Raw is the message as it came.
	Raw       []byte
	Shell     bool
	HasValue  bool
	Value     string
	Arguments []string
	Env       []Variable
}

// Variable is an environment variable; those of type SECRET are left out.
type Variable struct {
	Name, Value string
}

// Check is a CheckInfo or a HealthCheck.
type Check struct {
	Type CheckType
	// Seconds.
	Delay, Interval, Timeout float64
	// Failures and GracePeriod are of health checks only.
	Failures    uint32
	GracePeriod float64
	Command     *Command
	// Scheme is empty for the default.
	Scheme string
	Port   uint32
	Path   string
	IPv6   bool
}

// CheckStatus is a CheckStatusInfo. Has says that there is a result.
type CheckStatus struct {
	Type CheckType
	Has  bool
	// Value is the exit code, the status code, or 1 for a connection that
	// succeeded.
	Value int32
}

// Status is a TaskStatus.
type Status struct {
	TaskID    string
	State     State
	Message   string
	Reason    Reason
	Executor  string
	Timestamp float64
	UUID      []byte
	Healthy   *bool
	Check     *CheckStatus
	// ContainerID and Limitation (a TaskResourceLimitation) are encoded already; nil if there
	// are none.
	ContainerID, Limitation []byte
	// Addresses are those of the task's container in networks of its own, and Container its
	// ContainerInfo, which may say more of the first of these.
	Addresses []string
	Container []byte
	// Data is TaskStatus.data; nil if there is none.
	Data []byte
}

// DecodeEvent decodes an Event.
func DecodeEvent(b []byte) (*Event, error) {
	e := &Event{}
	err := fields(b, func(f field) error {
		switch f.number {
		case 1:
			e.Type = EventType(f.varint)
		case 2:
			return fields(f.bytes, func(f field) error {
				switch f.number {
				case 2:
					return decodeFramework(f.bytes, e)
				case 4:
					e.ContainerID = append(e.ContainerID, f.bytes...)
				}
				return nil
			})
		case 3, 5:
			return decodeKillOrAck(f.bytes, e, f.number == 3)
		case 4:
			return fields(f.bytes, func(f field) (err error) {
				if f.number == 1 {
					e.Task, err = DecodeTask(f.bytes)
				}
				return err
			})
		case 7:
			return fields(f.bytes, func(f field) error {
				if f.number == 1 {
					e.Message = string(f.bytes)
				}
				return nil
			})
		case 8:
			return decodeGroup(f.bytes, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// decodeGroup decodes LaunchGroup {task_group 1 {tasks 1}}.
func decodeGroup(b []byte, e *Event) error {
	return fields(b, func(f field) error {
		if f.number != 1 {
			return nil
		}
		return fields(f.bytes, func(f field) error {
			if f.number != 1 {
				return nil
			}
			t, err := DecodeTask(f.bytes)
			e.Group = append(e.Group, t)
			return err
		})
	})
}

func decodeFramework(b []byte, e *Event) error {
	return fields(b, func(f field) error {
		if f.number != 10 {
			return nil
		}
		return fields(f.bytes, func(f field) error {
			if f.number == 1 {
				e.TaskKilling = e.TaskKilling || f.varint == capabilityTaskKilling
				e.PartitionAware = e.PartitionAware || f.varint == capabilityPartitionAware
			}
			return nil
		})
	})
}

// decodeKillOrAck decodes Acknowledged {task_id 1, uuid 2} or Kill {task_id 1,
// kill_policy 2}.
func decodeKillOrAck(b []byte, e *Event, ack bool) error {
	return fields(b, func(f field) error {
		switch {
		case f.number == 1:
			return decodeID(f.bytes, &e.TaskID)
		case f.number == 2 && ack:
			e.UUID = append([]byte(nil), f.bytes...)
		case f.number == 2:
			return decodeKillPolicy(f.bytes, &e.Grace)
		}
		return nil
	})
}

func decodeID(b []byte, id *string) error {
	return fields(b, func(f field) error {
		if f.number == 1 {
			*id = string(f.bytes)
		}
		return nil
	})
}

func decodeKillPolicy(b []byte, grace **int64) error {
	return fields(b, func(f field) error {
		if f.number != 1 {
			return nil
		}
		n := new(int64)
		*grace = n
		return decodeDuration(f.bytes, n)
	})
}

func decodeDuration(b []byte, n *int64) error {
	return fields(b, func(f field) error {
		if f.number == 1 {
			*n = int64(f.varint)
		}
		return nil
	})
}

// DecodeTask decodes a TaskInfo.
func DecodeTask(b []byte) (*Task, error) {
	t := &Task{Raw: append([]byte(nil), b...)}
	b = t.Raw // what is kept of it must not change
	err := fields(b, func(f field) (err error) {
		switch f.number {
		case 2:
			return decodeID(f.bytes, &t.ID)
		case 4:
			t.Resources = append(t.Resources, f.bytes)
			return decodeResource(f.bytes, t)
		case 7:
			t.Command, err = decodeCommand(f.bytes, t.Command)
		case 9:
			if t.Container == nil {
				t.Container = []byte{}
			}
			t.Container = append(t.Container, f.bytes...)
			return decodeContainer(f.bytes, t)
		case 8:
			t.HealthCheck, err = decodeHealthCheck(f.bytes, t.HealthCheck)
		case 12:
			return decodeKillPolicy(f.bytes, &t.Grace)
		case 13:
			t.Check, err = decodeCheck(f.bytes, t.Check)
		case 14:
			return decodeDuration(f.bytes, &t.MaxCompletion)
		case 15:
			t.Limits = append(t.Limits, f.bytes)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// decodeResource looks for the role of a task's first resource (allocation_info 11) and where
// its disks (disk 7 {volume 2}) are to be.
func decodeResource(b []byte, t *Task) error {
	first := len(t.Resources) == 1
	return fields(b, func(f field) error {
		switch {
		case f.number == 11 && first:
			return decodeID(f.bytes, &t.Role)
		case f.number == 7:
			return fields(f.bytes, func(f field) error {
				if f.number == 2 {
					return decodeDiskVolume(f.bytes, t)
				}
				return nil
			})
		}
		return nil
	})
}

func decodeDiskVolume(b []byte, t *Task) error {
	var v DiskVolume
	err := fields(b, func(f field) error {
		switch f.number {
		case 1:
			v.ContainerPath = string(f.bytes)
		case 3:
			v.Mode = f.varint
		}
		return nil
	})
	t.Volumes = append(t.Volumes, v)
	return err
}

func decodeContainer(b []byte, t *Task) error {
	return fields(b, func(f field) error {
		t.Networks = t.Networks || f.number == 7
		return nil
	})
}

func decodeCommand(b []byte, c *Command) (*Command, error) {
	if c == nil {
		c = &Command{Shell: true}
	}
	c.Raw = append(c.Raw, b...)
	err := fields(b, func(f field) error {
		switch f.number {
		case 2:
			return fields(f.bytes, func(f field) error {
				if f.number == 1 {
					return decodeVariable(f.bytes, c)
				}
				return nil
			})
		case 3:
			c.HasValue, c.Value = true, string(f.bytes)
		case 6:
			c.Shell = f.varint != 0
		case 7:
			c.Arguments = append(c.Arguments, string(f.bytes))
		}
		return nil
	})
	return c, err
}

func decodeVariable(b []byte, c *Command) error {
	var v Variable
	secret := false
	err := fields(b, func(f field) error {
		switch f.number {
		case 1:
			v.Name = string(f.bytes)
		case 2:
			v.Value = string(f.bytes)
		case 3:
			secret = f.varint == 2
		}
		return nil
	})
	if err == nil && !secret {
		c.Env = append(c.Env, v)
	}
	return err
}

func newCheck() *Check {
	return &Check{Delay: 15, Interval: 10, Timeout: 20, Failures: 3, GracePeriod: 10}
}

func decodeHealthCheck(b []byte, c *Check) (*Check, error) {
	if c == nil {
		c = newCheck()
	}
	err := fields(b, func(f field) (err error) {
		switch f.number {
		case 1: // HTTPCheckInfo
			return fields(f.bytes, func(f field) error {
				switch f.number {
				case 1:
					c.Port = uint32(f.varint)
				case 2:
					c.Path = string(f.bytes)
				case 3:
					c.Scheme = string(f.bytes)
				case 5:
					c.IPv6 = f.varint == 2
				}
				return nil
			})
		case 2:
			c.Delay = f.double()
		case 3:
			c.Interval = f.double()
		case 4:
			c.Timeout = f.double()
		case 5:
			c.Failures = uint32(f.varint)
		case 6:
			c.GracePeriod = f.double()
		case 7:
			c.Command, err = decodeCommand(f.bytes, c.Command)
		case 8:
			c.Type = CheckType(f.varint)
		case 9: // TCPCheckInfo
			return fields(f.bytes, func(f field) error {
				switch f.number {
				case 1:
					c.Port = uint32(f.varint)
				case 2:
					c.IPv6 = f.varint == 2
				}
				return nil
			})
		}
		return err
	})
	return c, err
}

func decodeCheck(b []byte, c *Check) (*Check, error) {
	if c == nil {
		c = newCheck()
	}
	err := fields(b, func(f field) error {
		switch f.number {
		case 1:
			c.Type = CheckType(f.varint)
		case 2:
			return fields(f.bytes, func(f field) (err error) {
				if f.number == 1 {
					c.Command, err = decodeCommand(f.bytes, c.Command)
				}
				return err
			})
		case 3, 7: // Http and Tcp
			return fields(f.bytes, func(f field) error {
				switch f.number {
				case 1:
					c.Port = uint32(f.varint)
				case 2:
					c.Path = string(f.bytes)
				}
				return nil
			})
		case 4:
			c.Delay = f.double()
		case 5:
			c.Interval = f.double()
		case 6:
			c.Timeout = f.double()
		}
		return nil
	})
	return c, err
}

// field is one field of a message.
type field struct {
	number int
	varint uint64 // also the bits of a fixed one
	bytes  []byte
}

func (f field) double() float64 { return math.Float64frombits(f.varint) }

// fields calls f for every field of a message, in order.
func fields(b []byte, f func(field) error) error {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return ErrMalformed
		}
		b = b[n:]
		v := field{number: int(number)}
		switch typ {
		case protowire.VarintType:
			v.varint, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			v.varint, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		default:
			if n = protowire.ConsumeFieldValue(number, typ, b); n >= 0 {
				b = b[n:]
				continue
			}
		}
		if n < 0 {
			return ErrMalformed
		}
		b = b[n:]
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}
