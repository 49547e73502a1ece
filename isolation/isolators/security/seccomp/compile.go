package seccomp

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// architecture is a machine's, in the words of those who name it.
type architecture struct {
	scmp, docker string
	info         *arch.Info
}

var architectures = map[string]architecture{
	"amd64": {"SCMP_ARCH_X86_64", "amd64", arch.X86_64},
	"arm64": {"SCMP_ARCH_AARCH64", "arm64", arch.AARCH64},
	"386":   {"SCMP_ARCH_X86", "x86", arch.I386},
	"arm":   {"SCMP_ARCH_ARM", "arm", arch.ARM},
}

// native is what this program runs on; info is nil where no table is known.
var native = architectures[runtime.GOARCH]

// subArchitectures are what a machine runs beside its native programs.
var subArchitectures = map[string]*arch.Info{
	"SCMP_ARCH_X86": arch.I386,
	"SCMP_ARCH_X32": arch.X32,
	"SCMP_ARCH_ARM": arch.ARM,
}

// Offsets in struct seccomp_data.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// x32Bit marks the system calls of x32 on x86-64.
const x32Bit = 0x40000000

// maxInstructions is the kernel's limit (BPF_MAXINSNS).
const maxInstructions = 4096

// Compile makes the program for a container that has these capabilities (bit n for
// capability n): an array of struct sock_filter. System calls of architectures that the
// profile does not name kill the process, as libseccomp does it.
func (p *Profile) Compile(caps uint64) ([]byte, error) {
	if native.info == nil {
		return nil, fmt.Errorf("%w: system calls of %s are not known", ErrProfile, runtime.GOARCH)
	}
	sections := []*arch.Info{native.info}
	x32 := false
	for _, name := range p.archs {
		info := subArchitectures[name]
		switch {
		case info == nil || info == native.info:
		case info == arch.X32:
			x32 = native.info == arch.X86_64
		case !slices.Contains(sections, info):
			sections = append(sections, info)
		}
	}
	// The program is put together from its end.
	program := []bpf.Instruction{bpf.RetConstant{Val: retKillProcess}}
	for _, info := range slices.Backward(sections) {
		code := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetNumber, Size: 4}}
		body := p.section(caps, info)
		switch {
		case info == arch.X86_64 && x32:
			other := p.section(caps, arch.X32)
			code = append(code, choose(bpf.JumpGreaterOrEqual, x32Bit, other, body)...)
		case info == arch.X86_64:
			code = append(code, choose(bpf.JumpGreaterOrEqual, x32Bit, []bpf.Instruction{bpf.RetConstant{Val: retErrno | enosys}}, body)...)
		default:
			code = append(code, body...)
		}
		program = choose(bpf.JumpEqual, uint32(info.ID), code, program)
	}
	program = append([]bpf.Instruction{bpf.LoadAbsolute{Off: offsetArch, Size: 4}}, program...)
	if len(program) > maxInstructions {
		return nil, fmt.Errorf("%w: %d instructions, the kernel takes %d", ErrProfile, len(program), maxInstructions)
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProfile, err)
	}
	out := make([]byte, 0, 8*len(raw))
	for _, i := range raw {
		out = binary.NativeEndian.AppendUint16(out, i.Op)
		out = append(out, i.Jt, i.Jf)
		out = binary.NativeEndian.AppendUint32(out, i.K)
	}
	return out, nil
}

// choose runs yes if the comparison of the accumulator holds, else no. Both must end
// with a return.
func choose(test bpf.JumpTest, value uint32, yes, no []bpf.Instruction) []bpf.Instruction {
	code := make([]bpf.Instruction, 0, len(yes)+len(no)+2)
	if len(yes) <= 255 {
		code = append(code, bpf.JumpIf{Cond: test, Val: value, SkipFalse: uint8(len(yes))})
	} else { // a conditional jump is a byte wide
		code = append(code, bpf.JumpIf{Cond: test, Val: value, SkipTrue: 1}, bpf.Jump{Skip: uint32(len(yes))})
	}
	return append(append(code, yes...), no...)
}

// span is a run of system calls that are treated alike. It ends where the next begins.
type span struct {
	first uint32
	code  []bpf.Instruction
}

// section decides about the system calls of one architecture, whose number is in the
// accumulator.
func (p *Profile) section(caps uint64, info *arch.Info) []bpf.Instruction {
	rules := map[uint32][]*rule{}
	for i := range p.rules {
		r := &p.rules[i]
		if !r.counts(caps) {
			continue
		}
		for _, name := range r.names {
			if n, ok := info.SyscallNames[name]; ok {
				number := uint32(n | info.SeccompMask)
				rules[number] = append(rules[number], r)
			}
		}
	}
	numbers := make([]uint32, 0, len(rules))
	for n := range rules {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	byDefault := []bpf.Instruction{bpf.RetConstant{Val: p.def}}
	spans := []span{{0, byDefault}}
	add := func(first uint32, code []bpf.Instruction) {
		last := &spans[len(spans)-1]
		switch {
		case slices.Equal(last.code, code):
		case last.first == first:
			last.code = code
		default:
			spans = append(spans, span{first, code})
		}
	}
	for i, n := range numbers {
		add(n, p.decide(rules[n]))
		if i+1 == len(numbers) || numbers[i+1] != n+1 {
			add(n+1, byDefault)
		}
	}
	return search(spans)
}

// search is a binary search for the span of a number.
func search(spans []span) []bpf.Instruction {
	if len(spans) == 1 {
		return spans[0].code
	}
	half := len(spans) / 2
	return choose(bpf.JumpGreaterOrEqual, spans[half].first, search(spans[half:]), search(spans[:half]))
}

// decide treats one system call: the first rule whose conditions hold, then the first
// without conditions, then the default.
func (p *Profile) decide(rules []*rule) []bpf.Instruction {
	last := p.def
	for _, r := range slices.Backward(rules) {
		if len(r.args) == 0 {
			last = r.action
		}
	}
	var code []bpf.Instruction
	for _, r := range rules {
		if len(r.args) > 0 {
			code = append(code, r.test()...)
		}
	}
	return append(code, bpf.RetConstant{Val: last})
}

// test returns the rule's action if all of its conditions hold, and falls through if
// not.
func (r *rule) test() []bpf.Instruction {
	code := []bpf.Instruction{bpf.RetConstant{Val: r.action}}
	for _, a := range slices.Backward(r.args) {
		// A condition fails by jumping over all that follows in this rule.
		code = append(a.test(uint8(len(code))), code...)
	}
	return code
}

// test falls through when the condition holds and skips fail instructions more when it
// does not. The two halves of the 64 bits are compared one after the other.
func (a *argument) test(fail uint8) []bpf.Instruction {
	high, low := uint32(a.value>>32), uint32(a.value)
	loadHigh, loadLow := loadArg(a.index)
	switch a.op {
	case "SCMP_CMP_EQ":
		return []bpf.Instruction{
			loadHigh,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: fail + 2},
			loadLow,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: low, SkipFalse: fail},
		}
	case "SCMP_CMP_MASKED_EQ":
		return []bpf.Instruction{
			loadHigh,
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: uint32(a.mask >> 32)},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: fail + 3},
			loadLow,
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: uint32(a.mask)},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: low, SkipFalse: fail},
		}
	case "SCMP_CMP_NE":
		return []bpf.Instruction{
			loadHigh,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: 2},
			loadLow,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: low, SkipTrue: fail},
		}
	case "SCMP_CMP_GT", "SCMP_CMP_GE":
		test := bpf.JumpGreaterThan
		if a.op == "SCMP_CMP_GE" {
			test = bpf.JumpGreaterOrEqual
		}
		return []bpf.Instruction{
			loadHigh,
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: high, SkipTrue: 3},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: fail + 2},
			loadLow,
			bpf.JumpIf{Cond: test, Val: low, SkipFalse: fail},
		}
	}
	// Less is not greater or equal.
	test := bpf.JumpGreaterOrEqual
	if a.op == "SCMP_CMP_LE" {
		test = bpf.JumpGreaterThan
	}
	return []bpf.Instruction{
		loadHigh,
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: high, SkipTrue: fail + 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: 2},
		loadLow,
		bpf.JumpIf{Cond: test, Val: low, SkipTrue: fail},
	}
}

// loadArg loads the halves of an argument, which lie in the machine's order.
func loadArg(index uint32) (high, low bpf.Instruction) {
	offset := offsetArgs + 8*index
	first, second := bpf.LoadAbsolute{Off: offset, Size: 4}, bpf.LoadAbsolute{Off: offset + 4, Size: 4}
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return second, first
	}
	return first, second
}

var kernel = sync.OnceValues(func() (major, minor int) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	}
	return major, minor
})

func kernelAtLeast(major, minor int) bool {
	a, b := kernel()
	return a > major || a == major && b >= minor
}
