package authz

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ErrInvalid is wrapped by the errors of Parse.
var ErrInvalid = errors.New("invalid ACLs")

// renamed tells the present names of lists that old files may still hold.
var renamed = map[string]string{
	"shutdown_frameworks": "teardown_frameworks",
	"set_quotas":          "update_quotas",
	"remove_quotas":       "update_quotas",
	"resize_volume":       "resize_volumes", // as Mesos's documentation spells it
}

// maxProblems bounds how many problems one error tells.
const maxProblems = 100

// parser collects the rules and the problems of one file.
type parser struct {
	rules      map[Action][]rule
	permissive bool
	problems   []error
	left       int
}

// Parse reads rules in the shape of Mesos's `--acls` (JSON of message ACLs). It is stricter
// than Mesos, where what nobody knows counts as not said and so as permitted: every key
// must be known, no key stand twice, and no rule be one that cannot match. All
// problems are told at once.
func Parse(data []byte) (*ACLs, error) {
	root, err := parseJSON(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	p := &parser{rules: make(map[Action][]rule), permissive: true}
	p.file(root)
	if p.left > 0 {
		p.problems = append(p.problems, fmt.Errorf("%w: and %d more problems", ErrInvalid, p.left))
	}
	if len(p.problems) > 0 {
		return nil, errors.Join(p.problems...)
	}
	acls := newACLs(p.permissive, p.rules)
	acls.source = bytes.Clone(data)
	return acls, nil
}

func (p *parser) problem(place, format string, args ...any) {
	if len(p.problems) == maxProblems {
		p.left++
		return
	}
	text := fmt.Sprintf(format, args...)
	if place != "" {
		text = place + ": " + text
	}
	p.problems = append(p.problems, fmt.Errorf("%w: %s", ErrInvalid, text))
}

// members walks the members of an object, and tells of those that stand twice.
func (p *parser) members(place string, n *node, each func(key string, value *node)) {
	if n.kind != objectNode {
		p.problem(place, "want an object, got %s", n)
		return
	}
	seen := make(map[string]bool, len(n.keys))
	for i, key := range n.keys {
		if seen[key] {
			p.problem(place, "%q stands here twice", key)
			continue
		}
		seen[key] = true
		each(key, n.items[i])
	}
}

func (p *parser) file(root *node) {
	known := []string{"permissive"}
	byName := make(map[string]Action, len(lists))
	for _, a := range Actions() {
		byName[a.String()] = a
		known = append(known, a.String())
	}
	p.members("", root, func(key string, value *node) {
		action, ok := byName[key]
		switch {
		case key == "permissive" && value.kind != boolNode:
			p.problem(key, "want true or false, got %s", value)
		case key == "permissive":
			p.permissive = value.bool
		case ok:
			p.list(action, value)
		case renamed[key] != "":
			p.problem("", "%q was renamed: write %q", key, renamed[key])
		default:
			p.problem("", "unknown key %q: did you mean %q?", key, closest(key, known))
		}
	})
}

func (p *parser) list(action Action, n *node) {
	if n.kind != arrayNode {
		p.problem(action.String(), "want an array of rules, got %s", n)
		return
	}
	for i, item := range n.items {
		p.rule(action, fmt.Sprintf("%s[%d]", action, i), item)
	}
}

func (p *parser) rule(action Action, place string, n *node) {
	list := lists[action]
	var r rule
	var principals, objects bool
	if n.kind != objectNode {
		p.problem(place, "want a rule, an object with %q and %q, got %s", "principals", list.objects, n)
		return
	}
	p.members(place, n, func(key string, value *node) {
		switch key {
		case "principals":
			principals = true
			r.principals = p.entity(place+"."+key, value)
			if slices.Contains(r.principals.values, "") {
				p.problem(place+"."+key, "nobody has an empty name: write the type ANY for those who have none")
			}
		case list.objects:
			objects = true
			r.objects = p.entity(place+"."+key, value)
			p.checkObjects(list.kind, place+"."+key, value, r.objects)
		default:
			p.problem(place, "unknown key %q: a rule of %s has %q and %q", key, action, "principals", list.objects)
		}
	})
	if !principals {
		p.problem(place, "%q is missing", "principals")
	}
	if !objects {
		p.problem(place, "%q is missing", list.objects)
	}
	p.rules[action] = append(p.rules[action], r)
}

func (p *parser) checkObjects(k kind, place string, n *node, e entity) {
	if e.typ != some || n.kind != objectNode {
		return
	}
	switch k {
	case ofAny:
		p.problem(place, "the type must be ANY or NONE")
	case ofPath:
		for i, path := range e.values {
			if !endpoints[path] {
				p.problem(fmt.Sprintf("%s.values[%d]", place, i), "%q is not a path that can be guarded: these are %s", path, known(endpoints))
			}
		}
	case ofRole:
		for i, role := range e.values {
			if why := badRole(role); why != "" {
				p.problem(fmt.Sprintf("%s.values[%d]", place, i), "%q is no role, %s", role, why)
			}
		}
	default:
	}
}

// badRole says what is wrong with a role in a rule, which no role could match then (Mesos:
// src/common/roles.cpp); empty if nothing is.
func badRole(value string) string {
	if value == "*" {
		return ""
	}
	role, _ := strings.CutSuffix(value, "/%")
	for part := range strings.SplitSeq(role, "/") {
		switch {
		case part == "":
			return "because a part of it is empty"
		case part == "*" || part == "%":
			return "because '" + part + "' cannot be a part of it: write the type ANY for all roles, and 'a/%' for those below a"
		case part == "." || part == ".." || strings.HasPrefix(part, "-"):
			return "because of '" + part + "'"
		case strings.ContainsAny(part, "\t\n\v\f\r \x7f"):
			return "because of a blank in it"
		}
	}
	return ""
}

func (p *parser) entity(place string, n *node) entity {
	var e entity
	var values *node
	typed := true
	p.members(place, n, func(key string, value *node) {
		switch key {
		case "type":
			e.typ, typed = p.entityType(place+".type", value)
		case "values":
			values = value
			e.values = p.values(place+".values", value)
		default:
			p.problem(place, "unknown key %q: there are %q and %q", key, "type", "values")
		}
	})
	switch {
	case n.kind != objectNode || !typed: // was said
	case e.typ == some && (values == nil || values.kind == arrayNode && len(values.items) == 0):
		p.problem(place, "there are no values: this rule would never match; write the type ANY or NONE, or leave the rule out")
	case e.typ != some && values != nil && len(values.items) > 0:
		p.problem(place, "values mean nothing beside the type ANY or NONE")
	}
	return e
}

func (p *parser) entityType(place string, n *node) (entityType, bool) {
	if n.kind == stringNode {
		switch n.text {
		case "SOME":
			return some, true
		case "ANY":
			return anyone, true
		case "NONE":
			return none, true
		}
	}
	p.problem(place, "want SOME, ANY or NONE, got %s", n)
	return some, false
}

func (p *parser) values(place string, n *node) []string {
	if n.kind != arrayNode {
		p.problem(place, "want an array of strings, got %s", n)
		return nil
	}
	out := make([]string, 0, len(n.items))
	for i, item := range n.items {
		if item.kind != stringNode {
			p.problem(fmt.Sprintf("%s[%d]", place, i), "want a string, got %s", item)
			continue
		}
		out = append(out, item.text)
	}
	return out
}

// known lists the keys of a set in order.
func known(set map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(set)), ", ")
}

// closest returns the known word that is the fewest edits away from a misspelt one; of
// several the first.
func closest(word string, known []string) string {
	if len(word) > 200 {
		word = word[:200] // no need to be exact about what nobody wrote by hand
	}
	best, least := "", -1
	for _, k := range known {
		if d := distance(word, k); least < 0 || d < least {
			best, least = k, d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements of bytes between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
