package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"pgregory.net/rapid"
)

// run passes a system call through a compiled program. The interpreter reads big
// endian, the kernel its own order, so every word is written for the interpreter.
func run(t interface{ Fatal(...any) }, program []byte, arch, number uint32, args ...uint64) uint32 {
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[offsetNumber:], number)
	binary.BigEndian.PutUint32(data[offsetArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[offsetArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[offsetArgs+8*i+4:], uint32(a>>32))
	}
	var raw []bpf.RawInstruction
	for ; len(program) > 0; program = program[8:] {
		raw = append(raw, bpf.RawInstruction{
			Op: binary.NativeEndian.Uint16(program), Jt: program[2], Jf: program[3], K: binary.NativeEndian.Uint32(program[4:]),
		})
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program has unknown instructions")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	got, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(got)
}

func compile(t *testing.T, text string, caps uint64) []byte {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	program, err := p.Compile(caps)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func number(t *testing.T, name string) uint32 {
	t.Helper()
	n, ok := native.info.SyscallNames[name]
	if !ok {
		t.Fatalf("no system call %s", name)
	}
	return uint32(n)
}

// TestProfile goes through what a profile in Docker's format can say.
func TestProfile(t *testing.T) {
	if native.docker != "amd64" {
		t.Skip("the numbers of this test are those of amd64")
	}
	const profile = `{
		"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 99,
		"archMap": [
			{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
			{"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
		"syscalls": [
			{"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {}, "excludes": {}},
			{"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]},
			{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}], "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
			{"names": ["clone", "mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
			{"names": ["arm_only", "chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
			{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "3.1"}},
			{"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.1"}},
			{"names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS"},
			{"name": "swapon", "action": "SCMP_ACT_ERRNO", "errnoRet": 7}]}`
	const admin = 1 << 21
	with, without := compile(t, profile, admin), compile(t, profile, 0)
	arch := uint32(native.info.ID)
	refused := uint32(retErrno | 99)
	for _, c := range []struct {
		program []byte
		call    string
		args    []uint64
		want    uint32
	}{
		{without, "read", nil, retAllow},
		{without, "openat", nil, refused},
		{without, "personality", []uint64{8}, retAllow},
		{without, "personality", []uint64{8 | 1<<32}, refused},
		{without, "clone", []uint64{0x11}, retAllow},
		{without, "clone", []uint64{0x10000000}, refused},
		{with, "clone", []uint64{0x10000000}, retAllow},
		{without, "mount", nil, refused},
		{with, "mount", nil, retAllow},
		{with, "chroot", nil, refused},
		{with, "ptrace", nil, retAllow},
		{with, "bpf", nil, refused},
		{with, "reboot", nil, retKillProcess},
		{with, "swapon", nil, retErrno | 7},
	} {
		if got := run(t, c.program, arch, number(t, c.call), c.args...); got != c.want {
			t.Errorf("%s%v: got %#x, want %#x", c.call, c.args, got, c.want)
		}
	}
	x86 := subArchitectures["SCMP_ARCH_X86"]
	for what, c := range map[string]struct{ arch, number, want uint32 }{
		"read of a 32-bit program":   {uint32(x86.ID), uint32(x86.SyscallNames["read"]), retAllow},
		"mount of a 32-bit program":  {uint32(x86.ID), uint32(x86.SyscallNames["mount"]), refused},
		"read of x32, not named":     {arch, x32Bit | number(t, "read"), retErrno | enosys},
		"a call of another machine":  {0x12345, 0, retKillProcess},
		"a number that is not there": {arch, 0x3fffffff, refused},
	} {
		if got := run(t, without, c.arch, c.number); got != c.want {
			t.Errorf("%s: got %#x, want %#x", what, got, c.want)
		}
	}
}

func TestBadProfiles(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":            `{`,
		"no default":         `{}`,
		"unknown default":    `{"defaultAction": "SCMP_ACT_SMILE"}`,
		"unknown action":     `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "ALLOW"}]}`,
		"no names":           `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]}`,
		"unknown operator":   `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "SCMP_CMP_NEAR"}]}]}`,
		"seventh argument":   `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]}`,
		"unknown capability": `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_FLY"]}}]}`,
		"large error number": `{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}`,
		"no architecture":    `{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86_64"]}`,
	} {
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrProfile) {
			t.Errorf("%s: got %v, want %v", name, err, ErrProfile)
		}
	}
}

// TestCompile compares programs with the profile's plain meaning, for random rules and
// calls.
func TestCompile(t *testing.T) {
	if native.info == nil {
		t.Skip("no table of system calls for this machine")
	}
	all := slices.Sorted(maps.Keys(native.info.SyscallNames))
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SampledFrom([]uint64{0, 1, 2, 0xff, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1 << 63, ^uint64(0)})
		acts := rapid.SampledFrom([]string{"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG"})
		var rules []string
		for range rapid.IntRange(0, 50).Draw(t, "rules") {
			var args []string
			for i := range rapid.IntRange(0, 3).Draw(t, "args") {
				args = append(args, fmt.Sprintf(`{"index":%d,"value":%d,"valueTwo":%d,"op":%q}`, i,
					values.Draw(t, "value"), values.Draw(t, "two"), rapid.SampledFrom(operators).Draw(t, "op")))
			}
			names := rapid.SliceOfN(rapid.SampledFrom(all), 1, 20).Draw(t, "names")
			rules = append(rules, fmt.Sprintf(`{"names":["%s"],"action":%q,"args":[%s]}`, strings.Join(names, `","`), acts.Draw(t, "action"), strings.Join(args, ",")))
		}
		text := fmt.Sprintf(`{"defaultAction":%q,"syscalls":[%s]}`, acts.Draw(t, "default"), strings.Join(rules, ","))
		p, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		program, err := p.Compile(0)
		if err != nil && strings.Contains(err.Error(), "instructions, the kernel takes") {
			t.Skip("longer than the kernel takes, and refused")
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			name := rapid.SampledFrom(all).Draw(t, "call")
			args := []uint64{values.Draw(t, "a0"), values.Draw(t, "a1"), values.Draw(t, "a2")}
			want := p.meaning(name, args)
			if got := run(t, program, uint32(native.info.ID), uint32(native.info.SyscallNames[name]), args...); got != want {
				t.Fatalf("%s%v: got %#x, want %#x", name, args, got, want)
			}
		}
	})
}

// meaning is what a profile says, spelled out.
func (p *Profile) meaning(name string, args []uint64) uint32 {
	plain, found := p.def, false
	for i := range p.rules {
		r := &p.rules[i]
		if !slices.Contains(r.names, name) {
			continue
		}
		if len(r.args) == 0 {
			if !found {
				plain, found = r.action, true
			}
			continue
		}
		holds := true
		for _, a := range r.args {
			v := args[a.index]
			holds = holds && map[string]bool{
				"SCMP_CMP_NE": v != a.value, "SCMP_CMP_LT": v < a.value, "SCMP_CMP_LE": v <= a.value, "SCMP_CMP_EQ": v == a.value,
				"SCMP_CMP_GE": v >= a.value, "SCMP_CMP_GT": v > a.value, "SCMP_CMP_MASKED_EQ": v&a.mask == a.value,
			}[a.op]
		}
		if holds {
			return r.action
		}
	}
	return plain
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"SCMP_CMP_GE"}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil || native.info == nil {
			return
		}
		program, err := p.Compile(0)
		if err != nil {
			return
		}
		run(t, program, uint32(native.info.ID), 1)
	})
}
