package isolation

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
)

// merged puts Preparations together, and knows whose each part is.
type merged struct {
	Preparation
	// by are the isolators that said what there can be one of only.
	by map[string]string
}

// add puts what one isolator asks for after what the others did.
func (m *merged) add(isolator string, p *Preparation) error {
	if m.by == nil {
		m.by = make(map[string]string)
		m.Env, m.TaskEnv = make(map[string]string), make(map[string]string)
	}
	maps.Copy(m.Env, p.Env)
	maps.Copy(m.TaskEnv, p.TaskEnv)
	m.CloneFlags |= p.CloneFlags
	m.EnterFlags |= p.EnterFlags
	m.Mounts = slices.Concat(m.Mounts, p.Mounts)
	m.Devices = slices.Concat(m.Devices, p.Devices)
	m.MaskedPaths = slices.Concat(m.MaskedPaths, p.MaskedPaths)
	m.ReadonlyPaths = slices.Concat(m.ReadonlyPaths, p.ReadonlyPaths)
	m.Groups = slices.Concat(m.Groups, p.Groups)
	m.Rlimits = slices.Concat(m.Rlimits, p.Rlimits)
	m.NoNewPrivileges = m.NoNewPrivileges || p.NoNewPrivileges
	m.WorkingDirectory = cmp.Or(p.WorkingDirectory, m.WorkingDirectory)
	for _, err := range [...]error{
		one(m, isolator, "user ids", &m.UIDMaps, p.UIDMaps),
		one(m, isolator, "group ids", &m.GIDMaps, p.GIDMaps),
		one(m, isolator, "user namespace", &m.UserNamespace, p.UserNamespace),
		one(m, isolator, "cgroup", &m.Cgroup, p.Cgroup),
		one(m, isolator, "place of birth", &m.Birthplace, p.Birthplace),
		one(m, isolator, "root file system", &m.RootFS, p.RootFS),
		one(m, isolator, "lowest layer", &m.RootBase, p.RootBase),
		one(m, isolator, "hostname", &m.Hostname, p.Hostname),
		one(m, isolator, "command", &m.Command, p.Command),
		one(m, isolator, "credentials", &m.Credentials, p.Credentials),
		one(m, isolator, "capabilities", &m.Capabilities, p.Capabilities),
		one(m, isolator, "seccomp program", &m.Seccomp, p.Seccomp),
		one(m, isolator, "badness for the OOM killer", &m.OOMScoreAdj, p.OOMScoreAdj),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// maxMountData is how long the options of a mount may be: a page, with the final NUL.
const maxMountData = 4096 - 1

// putBelow puts a directory below the layers of an overlay that a root consists of. Where
// that is not possible the supervisor makes in the root what it needs there.
func putBelow(mounts []Mount, root, base string) {
	for i := range mounts {
		m := &mounts[i]
		layers, rest, _ := strings.Cut(m.Data, ",")
		if base == "" || strings.ContainsAny(base, ",:\\") || m.Type != "overlay" || m.Target != root || !strings.HasPrefix(layers, "lowerdir=") {
			continue
		}
		if data := layers + ":" + base + "," + rest; len(data) <= maxMountData {
			m.Data = data
		}
	}
}

// one sets what there can be one of only.
func one[T any](m *merged, isolator, what string, to *T, value T) error {
	if reflect.ValueOf(&value).Elem().IsZero() {
		return nil
	}
	first, ok := m.by[what]
	if ok && !same(*to, value) {
		return fmt.Errorf("isolators %s and %s want a different %s", first, isolator, what)
	}
	if !ok {
		m.by[what] = isolator
	}
	*to = value
	return nil
}

func same(a, b any) bool {
	if x, ok := a.(proto.Message); ok {
		y, ok := b.(proto.Message)
		return ok && proto.Equal(x, y)
	}
	return reflect.DeepEqual(a, b)
}
