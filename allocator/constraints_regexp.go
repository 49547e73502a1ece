package allocator

import (
	"errors"
	"regexp"
	"regexp/syntax"
)

// RegexpLimits bound the regular expressions in offer constraints. They mean what
// they mean to Mesos; zero stands for its default. Where ours count differently,
// they allow more: what Mesos takes is taken here.
type RegexpLimits struct {
	// MaxMemory is --offer_constraints_re2_max_mem, in bytes: what a compiled
	// regular expression may take. RE2 gives two thirds of it to the forward
	// program, of which 416 bytes go to its head and 8 to each instruction
	// (re2/compile.cc, re2/re2.cc of 2020-07-06, which Mesos is built with); 4 KB
	// are 289 instructions. We allow as many; they are larger, 40 bytes and 8 for
	// each range of characters, but no less bounded.
	MaxMemory int64
	// MaxProgramSize is --offer_constraints_re2_max_program_size, in instructions
	// that do something: RE2 leaves those that merely branch out of its count. A
	// class of characters counts as many as it has ranges; in RE2, whose programs
	// read bytes, as many as its UTF-8 takes, which is no less.
	MaxProgramSize int
}

const (
	defaultMaxMemory      = 4096
	defaultMaxProgramSize = 100
)

// instructions is how many instructions the memory is enough for.
func (l RegexpLimits) instructions() int {
	memory := l.MaxMemory
	if memory <= 0 {
		memory = defaultMaxMemory
	}
	return int(min(max(0, (memory/3*2+memory%3*2/3-416)/8), maxInstructions))
}

// maxInstructions bounds what any limit allows.
const maxInstructions = 1_000_000

func (l RegexpLimits) programSize() int {
	if l.MaxProgramSize <= 0 {
		return defaultMaxProgramSize
	}
	return l.MaxProgramSize
}

// length is how long a pattern may be, in bytes. RE2 has no such limit, but in
// most patterns each byte is an instruction. It bounds the time of the parser, and
// grows with the other limits.
func (l RegexpLimits) length() int { return max(1000, 10*l.programSize()) }

// compileRegexp compiles a pattern that is to match all of a text.
//
// The syntax is RE2's, of which Go's package is a sibling. Of what RE2 takes, \C
// (any byte) is refused; of what it refuses, (?<name>...) is taken, as newer
// versions of RE2 do. Texts that are not UTF-8 match differently: a byte that is
// no part of a character is matched by a dot here, and by nothing in RE2.
//
// To refuse a pattern is cheap: before it is compiled, which multiplies its
// repetitions out, the size of its program is worked out from its syntax.
func compileRegexp(pattern string, limits RegexpLimits) (*regexp.Regexp, error) {
	if n := limits.length(); len(pattern) > n {
		return nil, constraintErrorf("Regex of %d characters is too complex: the maximum is %d", len(pattern), n)
	}
	fail := func(why string) error {
		return constraintErrorf("Failed to construct regex from pattern '%s': %s", pattern, why)
	}
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, fail(re2Error(err))
	}
	counted := withoutPrefix(tree)
	if expanded(counted, limits.instructions()) > limits.instructions() {
		return nil, fail("pattern too large - compile failed")
	}
	prog, err := syntax.Compile(counted.Simplify())
	if err != nil {
		return nil, fail(err.Error())
	}
	if n := programSize(prog); n > limits.programSize() {
		return nil, constraintErrorf("Regex '%s' is too complex: program size of %d is larger than "+
			"maximum of %d allowed", pattern, n, limits.programSize())
	}
	// The tree as text, not the pattern: a \Q in it may lack its \E.
	re, err := regexp.Compile(`\A(?:` + tree.String() + `)\z`)
	if err != nil {
		return nil, fail(err.Error())
	}
	return re, nil
}

// withoutPrefix returns the tree without what RE2 keeps apart from its program:
// anchors at both ends, and a text that a pattern begins with.
func withoutPrefix(re *syntax.Regexp) *syntax.Regexp {
	if re.Op != syntax.OpConcat {
		return re
	}
	subs := re.Sub
	anchored := false
	for len(subs) > 0 && subs[0].Op == syntax.OpBeginText {
		subs, anchored = subs[1:], true
	}
	if anchored && len(subs) > 0 && subs[0].Op == syntax.OpLiteral {
		subs = subs[1:]
	}
	for len(subs) > 0 && subs[len(subs)-1].Op == syntax.OpEndText {
		subs = subs[:len(subs)-1]
	}
	if len(subs) == 0 {
		return &syntax.Regexp{Op: syntax.OpEmptyMatch, Flags: re.Flags}
	}
	return &syntax.Regexp{Op: syntax.OpConcat, Flags: re.Flags, Sub: subs}
}

// programSize counts the instructions that do something.
func programSize(p *syntax.Prog) int {
	n := 0
	for i := range p.Inst {
		switch p.Inst[i].Op {
		case syntax.InstAlt, syntax.InstAltMatch, syntax.InstNop:
		default:
			n += ranges(p.Inst[i].Rune)
		}
	}
	return n
}

// ranges counts those of a class of characters, or one character, at least 1. As in
// RE2, A-Z and a-z together are one.
func ranges(class []rune) int {
	if len(class) < 2 {
		return 1
	}
	has := func(c rune) bool {
		for i := 0; i < len(class); i += 2 {
			if class[i] <= c && c <= class[i+1] {
				return true
			}
		}
		return false
	}
	folds := true
	for c := 'A'; c <= 'Z' && folds; c++ {
		folds = has(c) == has(c+'a'-'A')
	}
	n := 0
	for i := 0; i < len(class); i += 2 {
		if !folds || class[i] < 'A' || class[i+1] > 'Z' {
			n++
		}
	}
	return max(1, n)
}

// expanded returns how many instructions the tree is compiled to, or some number
// greater than enough. Each range of a class counts as one.
func expanded(re *syntax.Regexp, enough int) int {
	n := 0
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpCharClass:
		n = ranges(re.Rune)
	case syntax.OpCapture:
		n = 2
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest:
		n = 1
	case syntax.OpAlternate:
		n = len(re.Sub) - 1
	case syntax.OpRepeat:
		if re.Max == 0 {
			return 1
		}
	default:
	}
	for _, sub := range re.Sub {
		if n += expanded(sub, enough); n > enough {
			return n
		}
	}
	if re.Op == syntax.OpRepeat {
		// x{2,5} is xx(x(x(x)?)?)?, and x{2,} is xx+.
		if re.Max < 0 {
			return n*max(1, re.Min) + 1
		}
		return n*re.Max + re.Max - re.Min
	}
	return max(1, n)
}

// re2Error says what is wrong with a pattern in RE2's words.
func re2Error(err error) string {
	var e *syntax.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	words := map[syntax.ErrorCode]string{
		syntax.ErrInternalError:         "unexpected error",
		syntax.ErrInvalidCharClass:      "invalid character class",
		syntax.ErrInvalidCharRange:      "invalid character class range",
		syntax.ErrInvalidEscape:         "invalid escape sequence",
		syntax.ErrInvalidNamedCapture:   "invalid named capture group",
		syntax.ErrInvalidPerlOp:         "invalid perl operator",
		syntax.ErrInvalidRepeatOp:       "bad repetition operator",
		syntax.ErrInvalidRepeatSize:     "invalid repetition size",
		syntax.ErrInvalidUTF8:           "invalid UTF-8",
		syntax.ErrMissingBracket:        "missing ]",
		syntax.ErrMissingParen:          "missing )",
		syntax.ErrMissingRepeatArgument: "no argument for repetition operator",
		syntax.ErrUnexpectedParen:       "unexpected )",
	}
	switch w, ok := words[e.Code]; {
	case e.Code == syntax.ErrTrailingBackslash:
		return `trailing \`
	case e.Code == syntax.ErrNestingDepth, e.Code == syntax.ErrLarge:
		return "pattern too large - compile failed"
	case !ok:
		return err.Error()
	case e.Expr == "" || e.Code == syntax.ErrInvalidUTF8:
		return w
	default:
		return w + ": " + e.Expr
	}
}
