package wire

// Call types of mesos.v1.agent.Call, and the response to WAIT_NESTED_CONTAINER.
const (
	callWaitNested    = 15
	callKillNested    = 16
	callSession       = 17
	callRemoveNested  = 21
	callLaunch        = 22
	responseWaitField = 14
)

// Of ContainerInfo and of volumes in it: the type MESOS, and SANDBOX_PATH of a PARENT.
const (
	containerMesos    = 2
	sourceSandboxPath = 2
	sandboxParent     = 2
)

// NestedID encodes the ContainerID of a container below another, whose ContainerID is encoded.
func NestedID(value string, parent []byte) []byte {
	return appendBytes(appendString(nil, 1, value), 2, parent)
}

// IDValue is the value of an encoded ContainerID.
func IDValue(id []byte) (value string, err error) {
	return value, decodeID(id, &value)
}

// LaunchContainer encodes a LAUNCH_CONTAINER call for a task of a pod: what the task says, with
// variables added to its environment. Its disks, which are in the sandbox of the container
// around it, it gets as volumes of there (src/launcher/default_executor.cpp).
func LaunchContainer(id []byte, t *Task, extra ...Variable) []byte {
	var env []byte
	for _, v := range extra {
		env = appendBytes(env, 1, appendString(appendString(nil, 1, v.Name), 2, v.Value))
	}
	var command []byte
	if t.Command != nil {
		command = append(command, t.Command.Raw...)
	}
	command = appendBytes(command, 2, env) // messages one after the other are merged
	container, has := append([]byte(nil), t.Container...), t.Container != nil
	for _, v := range t.Volumes {
		if !has {
			container, has = appendVarint(container, 1, containerMesos), true
		}
		container = appendBytes(container, 2, encodeVolume(v))
	}
	b := appendBytes(nil, 1, id)
	b = appendBytes(b, 2, command)
	for _, r := range t.Resources {
		b = appendBytes(b, 3, r)
	}
	if has {
		b = appendBytes(b, 4, container)
	}
	for _, l := range t.Limits {
		b = appendBytes(b, 5, l)
	}
	return appendBytes(appendVarint(nil, 1, callLaunch), 13, b)
}

func encodeVolume(v DiskVolume) []byte {
	path := appendString(appendVarint(nil, 1, sandboxParent), 2, v.ContainerPath)
	source := appendBytes(appendVarint(nil, 1, sourceSandboxPath), 3, path)
	b := appendVarint(appendString(nil, 1, v.ContainerPath), 3, v.Mode)
	return appendBytes(b, 5, source)
}

// WaitContainer encodes a WAIT_NESTED_CONTAINER call.
func WaitContainer(id []byte) []byte {
	return appendBytes(appendVarint(nil, 1, callWaitNested), 7, appendBytes(nil, 1, id))
}

// KillContainer encodes a KILL_NESTED_CONTAINER call.
func KillContainer(id []byte, signal int) []byte {
	b := appendVarint(appendBytes(nil, 1, id), 2, uint64(int64(signal)))
	return appendBytes(appendVarint(nil, 1, callKillNested), 8, b)
}

// RemoveContainer encodes a REMOVE_NESTED_CONTAINER call.
func RemoveContainer(id []byte) []byte {
	return appendBytes(appendVarint(nil, 1, callRemoveNested), 12, appendBytes(nil, 1, id))
}

// LaunchSession encodes a LAUNCH_NESTED_CONTAINER_SESSION call.
func LaunchSession(id []byte, c *Command) []byte {
	b := appendBytes(nil, 1, id)
	if c != nil {
		b = appendBytes(b, 2, c.Raw)
	}
	return appendBytes(appendVarint(nil, 1, callSession), 9, b)
}

// Ended is the response to WAIT_NESTED_CONTAINER.
type Ended struct {
	// StatusKnown says whether there is a Status, a wait status.
	StatusKnown bool
	Status      int32
	// HasState says whether there is a State; Reason is NoReason if there is none.
	HasState bool
	State    State
	Reason   Reason
	// Limitation is as it came.
	Limitation []byte
	Message    string
}

// DecodeEnded decodes a response to WAIT_NESTED_CONTAINER.
func DecodeEnded(b []byte) (*Ended, error) {
	e := &Ended{Reason: NoReason}
	err := fields(b, func(f field) error {
		if f.number != responseWaitField {
			return nil
		}
		return fields(f.bytes, func(f field) error {
			switch f.number {
			case 1:
				e.StatusKnown, e.Status = true, int32(f.varint)
			case 2:
				e.HasState, e.State = true, State(f.varint)
			case 3:
				e.Reason = Reason(f.varint)
			case 4:
				e.Limitation = append(e.Limitation, f.bytes...)
			case 5:
				e.Message = string(f.bytes)
			}
			return nil
		})
	})
	return e, err
}

// Output is what a ProcessIO message carries of the container's output; nil if it is another.
func Output(b []byte) (data []byte, err error) {
	err = fields(b, func(f field) error {
		if f.number != 2 {
			return nil
		}
		return fields(f.bytes, func(f field) error {
			if f.number == 2 {
				data = append(data, f.bytes...)
			}
			return nil
		})
	})
	return data, err
}
