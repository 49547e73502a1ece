// Package dump shows what the registry holds: how much ([Count]) and all of it
// ([AppendJSON]), in the shape of Mesos's /registrar(1)/registry with what
// clusterd remembers beyond that.
//
// It has no state; a registry/state.State may be read by many at once. Imported
// by server and internal/cli.
package dump

import (
	"bytes"
	"iter"
	"strconv"

	"google.golang.org/protobuf/proto"

	"clusterd/api/mesosjson"
	"clusterd/registry/state"
)

// Counts says how much of each kind a registry holds.
type Counts struct {
	Agents            int `json:"agents"`
	Unreachable       int `json:"unreachable_agents"`
	Gone              int `json:"gone_agents"`
	Frameworks        int `json:"frameworks"`
	RemovedFrameworks int `json:"removed_frameworks"`
	Weights           int `json:"weights"`
	Quotas            int `json:"quotas"`
	Windows           int `json:"maintenance_windows"`
	Machines          int `json:"machines"`
}

// Count counts what a registry holds.
func Count(s *state.State) Counts {
	return Counts{
		Agents:            s.AgentCount(),
		Unreachable:       count(s.Unreachable()),
		Gone:              count(s.Gone()),
		Frameworks:        count(s.Frameworks()),
		RemovedFrameworks: count(s.RemovedFrameworks()),
		Weights:           count(s.Weights()),
		Quotas:            count(s.Quotas()),
		Windows:           len(s.Schedule().GetWindows()),
		Machines:          count(s.Machines()),
	}
}

// Entry is one line of a table.
type Entry struct {
	What string
	N    int
}

// Entries are the counts with their names, for people.
func (c Counts) Entries() []Entry {
	return []Entry{
		{"agents", c.Agents},
		{"unreachable agents", c.Unreachable},
		{"gone agents", c.Gone},
		{"frameworks", c.Frameworks},
		{"removed frameworks", c.RemovedFrameworks},
		{"weights", c.Weights},
		{"quotas", c.Quotas},
		{"maintenance windows", c.Windows},
		{"machines in maintenance", c.Machines},
	}
}

func count[V any](seq iter.Seq[V]) int {
	n := 0
	for range seq {
		n++
	}
	return n
}

// AppendJSON appends all that a registry holds as one JSON object. Its members
// are those of Mesos's Registry (src/master/registry.proto); cluster_id, epoch,
// frameworks and removed_frameworks are clusterd's.
func AppendJSON(dst []byte, s *state.State) ([]byte, error) {
	w := &writer{b: append(dst, '{')}
	if s.Master() != nil {
		w.key("master").raw(`{"info":`).message(s.Master()).raw("}")
	}
	if s.AgentCount() > 0 {
		w.key("slaves").raw(`{"slaves":[`)
		for a := range s.Agents() {
			w.item().raw(`{"info":`).message(a.GetAgentInfo())
			if a.DrainInfo != nil {
				w.raw(`,"drain_info":`).message(a.GetDrainInfo())
			}
			w.raw(`,"deactivated":` + strconv.FormatBool(a.GetDeactivated()) + "}")
		}
		w.raw("]}")
	}
	if count(s.Unreachable()) > 0 {
		w.key("unreachable").raw(`{"slaves":[`)
		for d := range s.Unreachable() {
			w.item().raw(`{"id":`).message(d.GetAgentId()).raw(`,"timestamp":`).message(d.GetTime())
			if d.DrainInfo != nil {
				w.raw(`,"drain_info":`).message(d.GetDrainInfo())
			}
			w.raw(`,"deactivated":` + strconv.FormatBool(d.GetDeactivated()) + "}")
		}
		w.raw("]}")
	}
	if count(s.Gone()) > 0 {
		w.key("gone").raw(`{"slaves":[`)
		for d := range s.Gone() {
			w.item().raw(`{"id":`).message(d.GetAgentId()).raw(`,"timestamp":`).message(d.GetTime()).raw("}")
		}
		w.raw("]}")
	}
	w.shares(s)
	w.ours(s)
	w.raw("}")
	return w.b, w.err
}

// shares writes machines, maintenance, quotas, weights and the capabilities that
// a master must have to read all this.
func (w *writer) shares(s *state.State) {
	if count(s.Machines()) > 0 {
		w.key("machines").raw(`{"machines":[`)
		for m := range s.Machines() {
			w.item().raw(`{"info":`).message(m).raw("}")
		}
		w.raw("]}")
	}
	if len(s.Schedule().GetWindows()) > 0 {
		w.key("schedules").raw("[").message(s.Schedule()).raw("]")
	}
	list(w, "quota_configs", s.Quotas(), "", "")
	list(w, "weights", s.Weights(), `{"info":`, "}")
	// What Mesos's registrar records as it writes follows from what is there.
	var needed []string
	for a := range s.Agents() {
		if a.DrainInfo != nil || a.GetDeactivated() {
			needed = append(needed, "AGENT_DRAINING")
			break
		}
	}
	if count(s.Quotas()) > 0 {
		needed = append(needed, "QUOTA_V2")
	}
	if len(needed) > 0 {
		w.key("minimum_capabilities").raw("[")
		for _, name := range needed {
			w.item().raw(`{"capability":`).text(name).raw("}")
		}
		w.raw("]")
	}
}

// ours writes what Mesos's registry does not have.
func (w *writer) ours(s *state.State) {
	w.key("cluster_id").text(s.ClusterID())
	w.key("epoch").raw(strconv.FormatUint(s.Epoch(), 10))
	list(w, "frameworks", s.Frameworks(), "", "")
	list(w, "removed_frameworks", s.RemovedFrameworks(), "", "")
}

// list writes an array under a key, if there is anything in it.
func list[M proto.Message](w *writer, key string, seq iter.Seq[M], before, after string) {
	if count(seq) == 0 {
		return
	}
	w.key(key).raw("[")
	for m := range seq {
		w.item().raw(before).message(m).raw(after)
	}
	w.raw("]")
}

// writer appends JSON; after an error nothing it has is of use.
type writer struct {
	b   []byte
	err error
}

func (w *writer) raw(s string) *writer {
	w.b = append(w.b, s...)
	return w
}

func (w *writer) text(s string) *writer {
	w.b = mesosjson.AppendString(w.b, s)
	return w
}

// item sets the comma before an element that is not the first.
func (w *writer) item() *writer {
	if !bytes.HasSuffix(w.b, []byte("[")) && !bytes.HasSuffix(w.b, []byte("{")) {
		w.b = append(w.b, ',')
	}
	return w
}

func (w *writer) key(name string) *writer {
	return w.item().text(name).raw(":")
}

func (w *writer) message(m proto.Message) *writer {
	b, err := mesosjson.Append(w.b, m)
	if err != nil {
		w.err = err
		return w
	}
	w.b = b
	return w
}
