package allocator

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"clusterd/allocator/resources"
)

// sorterScript runs the scripts of testdata/sorter: what a sorter is told, line
// by line, and the order that comes of it.
//
//	sorter drf|random clients=roles|frameworks|both
//	----
//
// starts anew. A client of the sorter is a role with one framework, or a
// framework in one role, or first the one and then the other with the same
// outcome. The lines of the command "steps" are
//
//	total AGENT RESOURCES        an agent has these, of which nothing is gone
//	let NAME RESOURCES           a name for resources
//	add CLIENT, remove CLIENT
//	activate CLIENT, deactivate CLIENT
//	weight CLIENT NUMBER         also of a role that has no client
//	allocated CLIENT [@AGENT] RESOURCES
//	unallocated CLIENT [@AGENT] RESOURCES
//	convert CLIENT [@AGENT] RESOURCES -> RESOURCES
//	order                        prints the active clients, the next one first
//	allocation CLIENT|all        prints what is held, by agent, and its sum
//
// Resources are terms joined by " + ": text as --resources has it, JSON in
// brackets, or a name. The agent is s1 unless another is given. Behind a client
// "order" prints its share, and before it those of the roles above it where
// they matter.
type sorterScript struct {
	worlds []*sorterWorld
}

// sorterWorld is an allocator whose sorter has the clients.
type sorterWorld struct {
	h          *hierarchical
	frameworks bool // they are the clients
	sorted     bool // print by name: the order is random
	names      map[string]resources.Resources
}

// oneRole is what the frameworks are in if they are the clients.
const oneRole = "role"

func runSorterScript(t *testing.T, path string) {
	s := &sorterScript{}
	datadriven.RunTest(t, path, s.run)
}

func (s *sorterScript) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "sorter":
		clients := "roles"
		d.MaybeScanArgs(t, "clients", &clients)
		s.worlds = nil
		for _, frameworks := range []bool{false, true} {
			if clients == "roles" && frameworks || clients == "frameworks" && !frameworks {
				continue
			}
			opts := DefaultOptions()
			opts.RoleSorter, opts.FrameworkSorter = d.CmdArgs[0].Key, d.CmdArgs[0].Key
			s.worlds = append(s.worlds, &sorterWorld{
				h: newHierarchical(opts), frameworks: frameworks,
				sorted: d.CmdArgs[0].Key == SorterRandom, names: map[string]resources.Resources{},
			})
		}
		return ""
	case "steps":
		first := s.worlds[0].steps(t, d)
		for _, w := range s.worlds[1:] {
			if other := w.steps(t, d); other != first {
				return first + "but with frameworks as clients:\n" + other
			}
		}
		return first
	}
	t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return ""
}

func (w *sorterWorld) steps(t *testing.T, d *datadriven.TestData) string {
	var out strings.Builder
	for line := range strings.Lines(d.Input) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		cmd, rest, _ := strings.Cut(line, " ")
		subject, rest, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if err := w.step(&out, cmd, subject, strings.TrimSpace(rest)); err != nil {
			t.Fatalf("%s: %s: %v", d.Pos, line, err)
		}
	}
	return out.String()
}

func (w *sorterWorld) step(out *strings.Builder, cmd, subject, rest string) error {
	switch cmd {
	case "order":
		out.WriteString("order: " + w.order() + "\n")
		return nil
	case "allocation":
		out.WriteString(w.allocation(subject))
		return nil
	case "add":
		w.h.AddFramework(subject, Framework{
			Roles: []string{w.role(subject)}, MultiRole: true, Active: true, Shared: true, Revocable: true,
			ReservationRefinement: true,
		}, nil)
		return nil
	case "remove":
		w.h.RemoveFramework(subject)
		return nil
	case "activate":
		w.h.ReviveOffers(subject, nil)
		return nil
	case "deactivate":
		w.h.SuppressOffers(subject, nil)
		return nil
	case "weight":
		v, err := strconv.ParseFloat(rest, 64)
		if err != nil {
			return err
		}
		w.h.UpdateWeights(map[string]float64{subject: v})
		return nil
	}
	return w.stepWithResources(cmd, subject, rest)
}

func (w *sorterWorld) stepWithResources(cmd, subject, rest string) error {
	agent := "s1"
	if after, found := strings.CutPrefix(rest, "@"); found {
		agent, rest, _ = strings.Cut(after, " ")
	}
	rest, into, _ := strings.Cut(rest, "->")
	r, err := w.resources(rest)
	if err != nil {
		return err
	}
	converted, err := w.resources(into)
	if err != nil {
		return err
	}
	role := w.role(subject)
	switch cmd {
	case "let":
		w.names[subject] = r
	case "total":
		a := testAgent("")
		a.Total = r
		if w.h.agents[subject] == nil {
			w.h.AddAgent(subject, a, nil)
		} else {
			w.h.UpdateAgent(subject, a)
		}
	case "allocated":
		w.h.hold(w.h.agent(agent), w.h.framework(subject).leaf(role), r)
	case "unallocated":
		w.h.RecoverResources(epoch, subject, agent, r.Allocate(role), nil)
	case "convert":
		w.h.UpdateAllocation(subject, agent, r.Allocate(role), converted.Allocate(role))
	default:
		return fmt.Errorf("unknown step %q", cmd)
	}
	return nil
}

func (w *sorterWorld) role(client string) string {
	if w.frameworks {
		return oneRole
	}
	return client
}

func (w *sorterWorld) resources(text string) (resources.Resources, error) {
	var sum resources.Resources
	if strings.TrimSpace(text) == "" {
		return sum, nil
	}
	for term := range strings.SplitSeq(text, " + ") {
		term = strings.TrimSpace(term)
		r, ok := w.names[term]
		if !ok {
			var err error
			if strings.HasPrefix(term, "[") {
				r, err = anyJSON(term)
			} else {
				r, err = resources.Parse(term, "*")
			}
			if err != nil {
				return sum, err
			}
		}
		sum = sum.Add(r)
	}
	return sum, nil
}

// order asks the sorters.
func (w *sorterWorld) order() string {
	var out []string
	w.h.eachRole(&agent{}, func(r *role) bool {
		w.h.eachLeaf(&agent{}, r, func(l *leaf) bool {
			switch {
			case w.sorted:
				out = append(out, l.name)
			case w.frameworks:
				out = append(out, l.name+" "+shareText(w.h.trueShare(l.share)))
			default:
				out = append(out, l.name+" "+sharesAlong(w.h, r.leaf))
			}
			return true
		})
		return true
	})
	if len(out) == 0 {
		return "nobody"
	}
	if w.sorted {
		slices.Sort(out)
	}
	return strings.Join(out, ", ")
}

// sharesAlong returns the shares by which the role competes, from the top of the
// tree downwards; its own leaf competes only if it has active subroles.
func sharesAlong(h *hierarchical, leaf *node) string {
	var out []string
	for n := leaf; n.parent != nil; n = n.parent {
		if n == leaf && n.parent.active == n.active {
			continue
		}
		out = append(out, shareText(h.trueShare(n.share)))
	}
	slices.Reverse(out)
	return strings.Join(out, "/")
}

func shareText(v float64) string {
	return strconv.FormatFloat(math.Round(v*10000)/10000, 'g', -1, 64)
}

func (w *sorterWorld) allocation(client string) string {
	var b strings.Builder
	var sum resources.Quantities
	for _, a := range sortedAgents(maps.Values(w.h.agents)) {
		for _, hd := range a.held {
			if client != "all" && hd.leaf.name != client {
				continue
			}
			if client != "all" {
				fmt.Fprintf(&b, "%s on %s: %s\n", client, a.id, hd.res)
			}
			sum = sum.Add(hd.res.Quantities())
		}
	}
	fmt.Fprintf(&b, "%s: %s\n", client, sum)
	return b.String()
}
