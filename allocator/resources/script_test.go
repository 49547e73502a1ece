package resources

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesosjson"
)

// script runs a file of testdata; see testdata/README.
type script struct {
	names map[string]Resources
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.HasSuffix(path, "README") || strings.Contains(path, "/rapid/") || strings.Contains(path, "/fuzz/") {
			t.Skip("not a script")
		}
		s := &script{names: map[string]Resources{}}
		datadriven.RunTest(t, path, s.run)
	})
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "let":
		return s.each(d.Input, s.let)
	case "eval":
		return s.each(d.Input, s.eval)
	case "value":
		return s.each(d.Input, func(line string) (string, error) { return line + " is " + describeValue(line), nil })
	case "quantities":
		return s.each(d.Input, quantitiesLine)
	case "limits":
		return s.each(d.Input, limitsLine)
	case "parse":
		role := "*"
		d.MaybeScanArgs(t, "role", &role)
		if strings.HasPrefix(d.Input, "[") || strings.HasPrefix(d.Input, "{") {
			return orError(Parse(d.Input, role)) + "\n"
		}
		return s.each(d.Input, func(line string) (string, error) {
			return line + " is " + orError(Parse(strings.Trim(line, `"`), role)), nil
		})
	case "validate":
		return s.each(d.Input, func(line string) (string, error) { return validity(line), nil })
	case "formats":
		return formats(d.Input)
	case "downgrade":
		return downgrade(d.Input)
	}
	t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return ""
}

func orError[T fmt.Stringer](v T, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return v.String()
}

// each runs f for every line but comments.
func (s *script) each(input string, f func(string) (string, error)) string {
	var out strings.Builder
	for line := range strings.Lines(input) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, err := f(line)
		if err != nil {
			text = line + ": error: " + err.Error()
		}
		if text != "" {
			out.WriteString(text + "\n")
		}
	}
	return out.String()
}

func (s *script) let(line string) (string, error) {
	name, text, found := strings.Cut(line, " = ")
	if !found {
		return "", fmt.Errorf("no = in it")
	}
	if expression, found := strings.CutPrefix(text, "eval "); found {
		v, err := s.value(expression)
		if err != nil {
			return "", err
		}
		s.names[name] = v.(Resources)
		return "", nil
	}
	r, err := notation(text)
	s.names[name] = r
	return "", err
}

func (s *script) eval(line string) (string, error) {
	v, err := s.value(line)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is %v", line, v), nil
}

func (s *script) value(expression string) (any, error) {
	e := &evaluator{names: s.names, tokens: tokensOf(expression)}
	v, err := e.comparison()
	if err == nil && len(e.tokens) > 0 {
		err = fmt.Errorf("unexpected %q", e.tokens[0])
	}
	return v, err
}

func describeValue(text string) string {
	v, err := parseValue(strings.Trim(text, `"`))
	switch {
	case err != nil:
		return "error: " + err.Error()
	case v.typ == mesos.Value_SCALAR:
		return fmt.Sprint(v.typ, " ", v.scalar)
	case v.typ == mesos.Value_RANGES:
		return fmt.Sprint(v.typ, " ", v.ranges)
	case v.typ == mesos.Value_SET:
		return fmt.Sprintf("%s %q", v.typ, v.set)
	}
	return v.typ.String()
}

// operands splits a line at one of the operators.
func operands(line string, operators ...string) (left, operator, right string) {
	for _, op := range operators {
		if l, r, found := strings.Cut(line, " "+op+" "); found {
			return l, op, r
		}
	}
	return line, "", "{}"
}

func readQuantities(text string, read func(string) (Quantities, error)) (Quantities, error) {
	if text == "{}" {
		return Quantities{}, nil
	}
	return read(strings.Trim(text, `"`))
}

// quantitiesLine reads "Q", "Q + Q", "Q - Q" or "Q contains Q".
func quantitiesLine(line string) (string, error) {
	l, op, r := operands(line, "+", "-", "contains")
	a, err := readQuantities(l, ParseQuantities)
	if err != nil {
		return "", err
	}
	b, err := readQuantities(r, ParseQuantities)
	if err != nil {
		return "", err
	}
	switch op {
	case "+":
		a = a.Add(b)
	case "-":
		a = a.Sub(b)
	case "contains":
		return fmt.Sprint(line, " is ", a.Contains(b)), nil
	}
	return line + " is " + a.String(), nil
}

// limitsLine reads "L", "L - Q" or "L contains Q".
func limitsLine(line string) (string, error) {
	l, op, r := operands(line, "-", "contains")
	a, err := readQuantities(l, ParseLimits)
	if err != nil {
		return "", err
	}
	b, err := readQuantities(r, ParseQuantities)
	if err != nil {
		return "", err
	}
	switch op {
	case "-":
		a = a.SubFromLimits(b)
	case "contains":
		return fmt.Sprint(line, " is ", a.LimitsContain(b)), nil
	}
	return line + " is " + a.String(), nil
}

// validity says whether a resource in JSON is valid.
func validity(line string) string {
	r := &mesos.Resource{}
	err := mesosjson.Unmarshal([]byte(line), r)
	if err == nil {
		err = Validate(r)
	}
	if err == nil {
		return "valid"
	}
	return "invalid: " + err.Error()
}

// formats prints resources, given in JSON, in all formats.
func formats(input string) string {
	rs, err := mesosjson.UnmarshalList[mesos.Resource]([]byte(input))
	if err != nil {
		return "error: " + err.Error()
	}
	var out strings.Builder
	for _, r := range rs {
		ToPostRefinement(r)
		fmt.Fprintf(&out, "post: %s\n", asJSON(r))
		pre := proto.CloneOf(r)
		if err := ToPreRefinement(pre); err != nil {
			fmt.Fprintf(&out, " pre: error: %s\n", err)
		} else {
			fmt.Fprintf(&out, " pre: %s\n", asJSON(pre))
		}
		ToEndpoint(r)
		fmt.Fprintf(&out, "both: %s\n", asJSON(r))
	}
	return out.String()
}

func asJSON(m proto.Message) string {
	text, err := mesosjson.Marshal(m)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(text)
}

// downgrade prints a TaskInfo, given in JSON, as frameworks without
// RESERVATION_REFINEMENT get it.
func downgrade(input string) string {
	task := &mesos.TaskInfo{}
	if err := mesosjson.Unmarshal([]byte(input), task); err != nil {
		return "error: " + err.Error()
	}
	var out strings.Builder
	if err := DowngradeMessage(task); err != nil {
		fmt.Fprintf(&out, "error: %s\n", err)
	}
	for _, r := range task.Resources {
		out.WriteString(asJSON(r) + "\n")
	}
	return out.String()
}

// evaluator evaluates expressions of resources.
type evaluator struct {
	names  map[string]Resources
	tokens []string
}

// tokensOf splits at blanks, and keeps what is inside of parentheses together.
func tokensOf(text string) []string {
	return slices.DeleteFunc(splitOutside(strings.TrimSpace(text), ' '), func(s string) bool { return s == "" })
}

func (e *evaluator) next() string {
	if len(e.tokens) == 0 {
		return ""
	}
	token := e.tokens[0]
	e.tokens = e.tokens[1:]
	return token
}

func (e *evaluator) comparison() (any, error) {
	left, err := e.sum()
	if err != nil || len(e.tokens) == 0 {
		return left, err
	}
	operator := e.next()
	right, err := e.sum()
	if err != nil {
		return nil, err
	}
	a, ok := left.(Resources)
	b, too := right.(Resources)
	if !ok || !too {
		return nil, fmt.Errorf("%s of what are not resources", operator)
	}
	switch operator {
	case "==":
		return a.Equal(b), nil
	case "contains":
		return a.Contains(b), nil
	}
	return nil, fmt.Errorf("unknown operator %q", operator)
}

func (e *evaluator) sum() (any, error) {
	v, err := e.term()
	if err != nil {
		return nil, err
	}
	for len(e.tokens) > 0 && (e.tokens[0] == "+" || e.tokens[0] == "-") {
		operator := e.next()
		w, err := e.term()
		if err != nil {
			return nil, err
		}
		a, ok := v.(Resources)
		b, too := w.(Resources)
		switch {
		case !ok || !too:
			return nil, fmt.Errorf("%s of what are not resources", operator)
		case operator == "+":
			v = a.Add(b)
		default:
			v = a.Sub(b)
		}
	}
	return v, nil
}

// term reads a name, "(expression)" or "function(expression, argument, ...)".
func (e *evaluator) term() (any, error) {
	token := e.next()
	if r, ok := e.names[token]; ok {
		return r, nil
	}
	if token == "{}" {
		return Resources{}, nil
	}
	name, rest, found := strings.Cut(token, "(")
	if !found || !strings.HasSuffix(rest, ")") {
		if strings.Contains(token, ":") {
			return notation(token)
		}
		return nil, fmt.Errorf("unknown name %q", token)
	}
	args := splitOutside(strings.TrimSuffix(rest, ")"), ',')
	for i := range args {
		args[i] = strings.TrimSpace(args[i])
	}
	v, err := e.inner(args[0])
	if err != nil || name == "" {
		return v, err
	}
	r, ok := v.(Resources)
	if !ok {
		return nil, fmt.Errorf("%s of what are not resources", name)
	}
	return e.call(name, r, append(args[1:], "", ""))
}

func (e *evaluator) inner(expression string) (any, error) {
	return (&evaluator{names: e.names, tokens: tokensOf(expression)}).comparison()
}

// resources evaluates an argument.
func (e *evaluator) resources(expression string) (Resources, error) {
	v, err := e.inner(expression)
	if err != nil {
		return Resources{}, err
	}
	r, ok := v.(Resources)
	if !ok {
		return Resources{}, fmt.Errorf("%q are not resources", expression)
	}
	return r, nil
}

// call knows the functions of resources and texts; callOperation and callWith
// know those of two resources.
func (e *evaluator) call(name string, r Resources, args []string) (any, error) {
	simple := map[string]func() Resources{
		"unreserved": r.Unreserved, "toUnreserved": r.ToUnreserved, "revocable": r.Revocable,
		"nonRevocable": r.NonRevocable, "shared": r.Shared, "nonShared": r.NonShared,
		"volumes": r.PersistentVolumes, "unallocate": r.Unallocate, "refined": r.Refined,
		"dynamic": r.DynamicallyReserved, "scalars": r.Scalars,
	}
	if f := simple[name]; f != nil {
		return f(), nil
	}
	switch name {
	case "reserved":
		if args[0] == "" {
			return r.AnyReserved(), nil
		}
		return r.Reserved(args[0]), nil
	case "reservedBelow":
		return r.ReservedToSubtree(args[0]), nil
	case "allocatableTo":
		return r.AllocatableTo(args[0]), nil
	case "allocate":
		return r.Allocate(args[0]), nil
	case "get":
		return r.Get(args[0]), nil
	case "sum":
		return FromMilli(r.Scalar(args[0])), nil
	case "ports":
		return r.Ports(), nil
	case "set":
		return r.Set(args[0]), nil
	case "len":
		return r.Len(), nil
	case "names":
		return r.Names(), nil
	case "quantities":
		return r.Quantities(), nil
	case "byReservation":
		return roles(r.Reservations()), nil
	case "byAllocation":
		return roles(r.Allocations()), nil
	case "pop":
		return r.PopReservation()
	case "push":
		info, err := notationReservation(args[0])
		if err != nil {
			return nil, err
		}
		return r.PushReservation(info)
	case "has", "shrink":
		q, err := readQuantities(args[0], ParseQuantities)
		if err != nil {
			return nil, err
		}
		if name == "has" {
			return r.ContainsQuantities(q), nil
		}
		return r.Shrink(q), nil
	case "within":
		q, err := readQuantities(args[0], ParseLimits)
		return within(r, q), err
	}
	return e.callWith(name, r, args)
}

func roles(by []RoleResources) string {
	var out []string
	for _, e := range by {
		out = append(out, fmt.Sprintf("%q: %s", e.Role, e.Resources))
	}
	return strings.Join(out, " | ")
}

func (e *evaluator) callWith(name string, r Resources, args []string) (any, error) {
	with, err := e.resources(args[0])
	if err != nil {
		return nil, err
	}
	list := with.Proto()
	op := &mesos.Offer_Operation{}
	switch name {
	case "count":
		return r.Count(with.At(0)), nil
	case "find":
		found, ok := r.Find(with)
		if !ok {
			return "not found", nil
		}
		return found, nil
	case "ancestor":
		return ReservationAncestor(r, with)
	case "checkpointed":
		return r.ApplyCheckpointed(with)
	case "RESERVE":
		op.Type, op.Reserve = mesos.Offer_Operation_RESERVE.Enum(), &mesos.Offer_Operation_Reserve{Resources: list}
		if args[1] != "" {
			source, err := e.resources(args[1])
			if err != nil {
				return nil, err
			}
			op.Reserve.Source = source.Proto()
		}
	case "UNRESERVE":
		op.Type, op.Unreserve = mesos.Offer_Operation_UNRESERVE.Enum(), &mesos.Offer_Operation_Unreserve{Resources: list}
	case "CREATE":
		op.Type, op.Create = mesos.Offer_Operation_CREATE.Enum(), &mesos.Offer_Operation_Create{Volumes: list}
	case "DESTROY":
		op.Type, op.Destroy = mesos.Offer_Operation_DESTROY.Enum(), &mesos.Offer_Operation_Destroy{Volumes: list}
	default:
		return nil, fmt.Errorf("unknown function %q", name)
	}
	out, _, err := r.Apply(op)
	return out, err
}

// within cuts r down to limits: names that they do not have are not limited.
func within(r Resources, limits Quantities) Resources {
	left := map[string]*int64{}
	for i := range limits.Len() {
		left[limits.At(i).Name] = new(limits.At(i).Milli)
	}
	return r.Cut(func(it Item) *int64 { return left[it.Name()] })
}
