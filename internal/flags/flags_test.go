package flags

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"clusterd/internal/units"
)

func testSet() *Set {
	return NewSet("test", nil, []Flag{
		{Name: "help", Type: Bool, Default: "false", Help: "Help."},
		{Name: "quiet", Type: Bool, Default: "false", Aliases: []string{"silent"}, Help: "Be quiet."},
		{Name: "port", Type: Int, Default: "5050", Env: []string{"LIBPROCESS_PORT"}, Check: validPort, Help: "Port."},
		{Name: "factor", Type: Float, Default: "0.10", Help: "Factor."},
		{Name: "agent_reregister_timeout", Type: Duration, Default: "10mins", Aliases: []string{"slave_reregister_timeout"}, Help: "Timeout."},
		{Name: "cache", Type: Bytes, Default: "2048MB", Help: "Cache."},
		{Name: "limit", Type: Percent, Default: "100%", Help: "Limit."},
		{Name: "work_dir", Type: Path, Help: "Directory."},
		{Name: "home", EmptyDefault: true, Help: "Home."},
		{Name: "acls", Type: JSON, Help: "Rules."},
		{Name: "join", List: true, Help: "Peers."},
		{Name: "new_thing", Default: "a", State: Accepted, Help: "Not built yet."},
		{Name: "zk", State: Replaced, Note: "no ZooKeeper here", Check: zkURL, Help: "ZooKeeper."},
		{Name: "gone", State: Rejected, Note: "it was removed", Help: "Gone."},
	})
}

func TestParse(t *testing.T) {
	dir := t.TempDir()
	value := filepath.Join(dir, "value")
	if err := os.WriteFile(value, []byte("5mins\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(dir, "rules")
	if err := os.WriteFile(rules, []byte("{\"a\": [1,\n 2]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		args     []string
		env      []string
		flag     string
		want     string
		warnings []string
		file     string
	}{
		{name: "default", flag: "agent_reregister_timeout", want: "10mins"},
		{name: "default is printed canonically", flag: "cache", want: "2GB"},
		{name: "float", flag: "factor", want: "0.1"},
		{name: "empty default", flag: "home", want: ""},
		{name: "equals", args: []string{"--port=1"}, flag: "port", want: "1"},
		{name: "space", args: []string{"--port", "1"}, flag: "port", want: "1"},
		{name: "hyphens", args: []string{"--work-dir=/x"}, flag: "work_dir", want: "/x"},
		{name: "upper case", args: []string{"--PORT=1"}, flag: "port", want: "1"},
		{name: "value with equals", args: []string{"--home=a=b"}, flag: "home", want: "a=b"},
		{name: "value with hyphen", args: []string{"--home", "-5"}, flag: "home", want: "-5"},
		{name: "bare bool", args: []string{"--quiet"}, flag: "quiet", want: "true"},
		{name: "bool equals nothing", args: []string{"--quiet="}, flag: "quiet", want: "true"},
		{name: "bool 0", args: []string{"--quiet=0"}, flag: "quiet", want: "false"},
		{name: "no-bool", args: []string{"--no-quiet"}, flag: "quiet", want: "false"},
		{name: "no-bool over environment", args: []string{"--no-quiet"}, env: []string{"MESOS_QUIET=1"}, flag: "quiet", want: "false"},
		{name: "bool alias negated", args: []string{"--no-silent"}, flag: "quiet", want: "false", warnings: []string{"--no-silent is deprecated, use --quiet"}},
		{name: "mesos environment", env: []string{"MESOS_PORT=7"}, flag: "port", want: "7"},
		{name: "clusterd environment first", env: []string{"MESOS_PORT=7", "CLUSTERD_PORT=8"}, flag: "port", want: "8"},
		{name: "libprocess last", env: []string{"LIBPROCESS_PORT=9"}, flag: "port", want: "9"},
		{name: "libprocess behind mesos", env: []string{"LIBPROCESS_PORT=9", "MESOS_PORT=7"}, flag: "port", want: "7"},
		{name: "command line over all", args: []string{"--port=1"}, env: []string{"MESOS_PORT=7", "CLUSTERD_PORT=8"}, flag: "port", want: "1"},
		{name: "command line over the alias in the environment", args: []string{"--agent_reregister_timeout=1hrs"}, env: []string{"MESOS_SLAVE_REREGISTER_TIMEOUT=2hrs"}, flag: "agent_reregister_timeout", want: "1hrs"},
		{name: "alias in the environment", env: []string{"MESOS_SLAVE_REREGISTER_TIMEOUT=2hrs"}, flag: "agent_reregister_timeout", want: "2hrs", warnings: []string{"$MESOS_SLAVE_REREGISTER_TIMEOUT is deprecated, use --agent_reregister_timeout"}},
		{name: "unknown mesos environment", env: []string{"MESOS_NATIVE_JAVA_LIBRARY=x", "MESOS_PRT=1"}, flag: "port", want: "5050"},
		{name: "misspelt clusterd environment", env: []string{"CLUSTERD_PROT=1"}, flag: "port", want: "5050", warnings: []string{"ignoring $CLUSTERD_PROT, which names no flag (did you mean $CLUSTERD_PORT?)"}},
		{name: "file value", args: []string{"--agent_reregister_timeout=file://" + value}, flag: "agent_reregister_timeout", want: "5mins"},
		{name: "file value from the environment", env: []string{"MESOS_AGENT_REREGISTER_TIMEOUT=file://" + value}, flag: "agent_reregister_timeout", want: "5mins"},
		{name: "path is not read", args: []string{"--work_dir=file://" + value}, flag: "work_dir", want: "file://" + value},
		{name: "JSON is compacted", args: []string{`--acls={ "a" : 1 }`}, flag: "acls", want: `{"a":1}`},
		{name: "JSON file", args: []string{"--acls=file://" + rules}, flag: "acls", want: `{"a":[1,2]}`, file: rules},
		{name: "JSON file without scheme", args: []string{"--acls=" + rules}, flag: "acls", want: `{"a":[1,2]}`, file: rules, warnings: []string{"--acls names a file without file://, which is deprecated"}},
		{name: "list", args: []string{"--join=a", "--join=b,c"}, flag: "join", want: "a,b,c"},
		{name: "no effect", args: []string{"--new_thing=b"}, flag: "new_thing", want: "b", warnings: []string{"--new_thing: accepted but has no effect in this version"}},
		{name: "no effect at its default", args: []string{"--new_thing=a"}, flag: "new_thing", want: "a"},
		{name: "replaced", args: []string{"--zk=zk://u:p@h1:2181,h2:2181/mesos"}, flag: "zk", want: "zk://u:p@h1:2181,h2:2181/mesos", warnings: []string{"--zk: no ZooKeeper here"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := testSet().Parse(tt.args, tt.env)
			if err != nil {
				t.Fatalf("Parse(%q, %q): %v", tt.args, tt.env, err)
			}
			if got := v.String(tt.flag); got != tt.want {
				t.Errorf("--%s is %q, want %q", tt.flag, got, tt.want)
			}
			if d := cmp.Diff(tt.warnings, v.Warnings()); d != "" {
				t.Errorf("warnings (-want +got):\n%s", d)
			}
			if got := v.File(tt.flag); got != tt.file && tt.flag == "acls" {
				t.Errorf("--%s comes from file %q, want %q", tt.flag, got, tt.file)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct {
		name string
		args []string
		env  []string
		is   error
		text string
	}{
		{"unknown with a near one", []string{"--wrk_dir=/x"}, nil, ErrUnknownFlag, "unknown flag --wrk_dir (did you mean --work_dir?)"},
		{"transposed", []string{"--prot=1"}, nil, ErrUnknownFlag, "unknown flag --prot (did you mean --port?)"},
		{"negated unknown", []string{"--no-quite"}, nil, ErrUnknownFlag, "unknown flag --no-quite (did you mean --quiet?)"},
		{"nothing near", []string{"--xyzzyxyzzy"}, nil, ErrUnknownFlag, "unknown flag --xyzzyxyzzy"},
		{"never suggests a rejected one", []string{"--gon=1"}, nil, ErrUnknownFlag, ""},
		{"twice", []string{"--port=1", "--port=1"}, nil, ErrDuplicateFlag, "flag given twice: --port and --port"},
		{"with its alias", []string{"--agent_reregister_timeout=1hrs", "--slave_reregister_timeout=1hrs"}, nil, ErrDuplicateFlag, "--agent_reregister_timeout and --slave_reregister_timeout"},
		{"with its alias in the environment", nil, []string{"MESOS_QUIET=1", "MESOS_SILENT=1"}, ErrDuplicateFlag, "$MESOS_QUIET and $MESOS_SILENT"},
		{"bad int", []string{"--port=x"}, nil, ErrInvalidValue, "invalid value 'x' of --port: expecting a whole number"},
		{"bad int in the environment", nil, []string{"MESOS_PORT=tcp://1.2.3.4:5"}, ErrInvalidValue, "of $MESOS_PORT"},
		{"out of range", []string{"--port=65536"}, nil, ErrInvalidValue, "a port is between 0 and 65535"},
		{"bad bool", []string{"--quiet=yes"}, nil, ErrInvalidValue, "expecting a boolean"},
		{"negated with a value", []string{"--no-quiet=true"}, nil, ErrInvalidValue, "--no-quiet takes no value"},
		{"negated non-bool", []string{"--no-port"}, nil, ErrInvalidValue, "--port is not a boolean"},
		{"no value", []string{"--port"}, nil, ErrInvalidValue, "--port needs a value"},
		{"flag for a value", []string{"--port", "--quiet"}, nil, ErrInvalidValue, "--port needs a value"},
		{"bad duration", []string{"--agent_reregister_timeout=5m"}, nil, ErrInvalidValue, "Unknown duration unit 'm'"},
		{"bad bytes", []string{"--cache=1.5GB"}, nil, ErrInvalidValue, "Fractional bytes '1.5GB'"},
		{"bad percent", []string{"--limit=110%"}, nil, ErrInvalidValue, "not between 0% and 100%"},
		{"bad JSON", []string{"--acls={"}, nil, ErrInvalidValue, "JSON"},
		{"scalar JSON", []string{"--acls=5"}, nil, ErrInvalidValue, "expecting a JSON object or array"},
		{"missing file", []string{"--home=file:///nonexistent/x"}, nil, ErrInvalidValue, "no such file"},
		{"bad zk", []string{"--zk=h1:2181"}, nil, ErrInvalidValue, "expecting zk://"},
		{"rejected", []string{"--gone=1"}, nil, ErrRejectedFlag, "it was removed"},
		{"positional", []string{"port=1"}, nil, ErrUnexpectedArgument, `"port=1"`},
		{"after --", []string{"--", "x"}, nil, ErrUnexpectedArgument, `"x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := testSet().Parse(tt.args, tt.env)
			if !errors.Is(err, tt.is) {
				t.Fatalf("Parse(%q, %q): error %v, want %v", tt.args, tt.env, err, tt.is)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error is %q, want it to contain %q", err, tt.text)
			}
			if strings.Contains(err.Error(), "--gone?") {
				t.Errorf("error %q suggests a rejected flag", err)
			}
		})
	}
}

func TestArgs(t *testing.T) {
	s := testSet()
	s.AllowArgs = true
	v, err := s.Parse([]string{"a", "--quiet", "b", "--", "--port", "c"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a", "b", "--port", "c"}, v.Args()); d != "" {
		t.Errorf("arguments (-want +got):\n%s", d)
	}
	if v.Given("port") || !v.Given("quiet") {
		t.Errorf("given: port %t, quiet %t; want false, true", v.Given("port"), v.Given("quiet"))
	}
}

func TestValueTypes(t *testing.T) {
	v, err := testSet().Parse([]string{"--limit=12.5%", "--cache=3KB", "--work_dir=file:///w", "--agent_reregister_timeout=1.5hrs", "--join= a , ,b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Float("limit"); got != 0.125 {
		t.Errorf("limit is %v, want 0.125", got)
	}
	if got := v.Bytes("cache"); got != 3072 {
		t.Errorf("cache is %v, want 3072", got)
	}
	if got := v.Path("work_dir"); got != "/w" {
		t.Errorf("work_dir is %q, want /w", got)
	}
	if got := v.Duration("agent_reregister_timeout"); got != 90*time.Minute {
		t.Errorf("timeout is %v, want 1h30m", got)
	}
	if d := cmp.Diff([]string{"a", "b"}, v.List("join")); d != "" {
		t.Errorf("join (-want +got):\n%s", d)
	}
	if v.Has("acls") {
		t.Error("acls has a value, want none")
	}
	for _, p := range v.All() {
		if p.Name == "acls" || p.Name == "gone" {
			t.Errorf("All shows %s, which has no value", p.Name)
		}
	}
}

// TestGoldenFlags starts our tables with the flags of the recorded run and
// compares everything that a real Mesos shows.
func TestGoldenFlags(t *testing.T) {
	// Defaults that depend on how a binary was built, or that clusterd has no use for.
	ours := map[string]bool{"webui_dir": true, "launcher_dir": true}
	tests := []struct {
		file string
		set  *Set
		args []string
	}{
		{"master", Master(), []string{
			"--ip=127.0.0.1", "--port=15050", "--work_dir=/var/lib/mesos-master", "--log_dir=/var/lib/mesos-master/log",
		}},
		{"agent", Agent(), []string{
			"--ip=127.0.0.1", "--port=15051", "--work_dir=/var/lib/mesos-agent", "--log_dir=/var/lib/mesos-agent/log",
			"--runtime_dir=/var/lib/mesos-agent/run", "--attributes=rack:r1;level:3", "--launcher=posix", "--master=127.0.0.1:15050",
			"--resources=cpus:4;mem:2048;disk:10000;ports:[31000-32000]", "--no-systemd_enable_support",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			data, err := os.ReadFile("../../../shared/golden/running/" + tt.file + "/flags.json")
			if err != nil {
				t.Skipf("no recorded answers: %v", err)
			}
			var golden struct {
				Response struct {
					JSON struct{ Flags map[string]string }
				}
			}
			if err := json.Unmarshal(data, &golden); err != nil {
				t.Fatal(err)
			}
			if len(golden.Response.JSON.Flags) < 40 {
				t.Fatalf("only %d recorded flags", len(golden.Response.JSON.Flags))
			}
			v, err := tt.set.Parse(tt.args, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]string)
			for _, p := range v.All() {
				got[p.Name] = p.Value
			}
			for name, want := range golden.Response.JSON.Flags {
				if value, ok := got[name]; !ours[name] && (!ok || value != want) {
					t.Errorf("%s is %q (present: %t), Mesos shows %q", name, value, ok, want)
				}
			}
		})
	}
}

func TestTables(t *testing.T) {
	for _, s := range []*Set{Master(), Agent()} {
		for _, f := range s.Flags() {
			if f.Help == "" || !strings.HasSuffix(f.Help, ".") {
				t.Errorf("%s --%s: help %q is no sentence", s.Mode, f.Name, f.Help)
			}
			if (f.State == Replaced || f.State == Rejected) && f.Note == "" {
				t.Errorf("%s --%s has no note", s.Mode, f.Name)
			}
		}
	}
}

func TestModeChecks(t *testing.T) {
	tests := []struct {
		name string
		set  *Set
		args []string
		want string // part of the error; empty: none
	}{
		{"the seed's master", Master(), []string{"--ip=0.0.0.0", "--work_dir=/w", "--hostname=h"}, ""},
		{"the seed's agent", Agent(), []string{"--master=10.0.0.1:5050", "--ip=0.0.0.0", "--work_dir=/w", "--hostname=h"}, ""},
		{"three masters", Master(), []string{"--bootstrap-expect=3", "--join=a:5053,b,[::1]:5053", "--work_dir=/w"}, ""},
		{"in memory", Master(), []string{"--registry=in_memory"}, ""},
		{"no work_dir", Master(), nil, "--work_dir"},
		{"help needs nothing", Master(), []string{"--help"}, ""},
		{"version needs nothing", Agent(), []string{"--version"}, ""},
		{"registry_strict", Master(), []string{"--work_dir=/w", "--registry_strict"}, "disabled"},
		{"registry_strict false", Master(), []string{"--work_dir=/w", "--no-registry_strict"}, ""},
		{"short reregister timeout", Master(), []string{"--work_dir=/w", "--agent_reregister_timeout=9mins"}, "between 10mins"},
		{"quorum is no majority", Master(), []string{"--work_dir=/w", "--quorum=1", "--bootstrap_expect=3"}, "no majority"},
		{"ip twice", Master(), []string{"--work_dir=/w", "--ip=1.2.3.4", "--ip_discovery_command=/x"}, "only one of --ip and --ip_discovery_command"},
		{"bad join", Master(), []string{"--work_dir=/w", "--join=a:99999"}, "no valid port"},
		{"old master flags", Master(), []string{"--work_dir=/w", "--slave_ping_timeout=20secs", "--user_sorter=random", "--authenticate"}, ""},
		{"no master", Agent(), []string{"--work_dir=/w"}, "--master=HOST:PORT"},
		{"join is enough", Agent(), []string{"--work_dir=/w", "--join=a"}, ""},
		{"list of masters", Agent(), []string{"--work_dir=/w", "--master=a:1,b:2"}, ""},
		{"zk master", Agent(), []string{"--work_dir=/w", "--master=zk://a:1/mesos"}, "ZooKeeper"},
		{"agent work_dir", Agent(), []string{"--master=a:1"}, "--work_dir"},
		{"late executors", Agent(), []string{"--work_dir=/w", "--master=a:1", "--executor_reregistration_timeout=16secs"}, "between 0ns and 15secs"},
		{"executor environment", Agent(), []string{"--work_dir=/w", "--master=a:1", `--executor_environment_variables={"A":1}`}, "members are strings"},
		{"removed", Agent(), []string{"--work_dir=/w", "--master=a:1", "--containerizer_path=/x"}, "removed in Mesos 1.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.set.Parse(tt.args, nil)
			if tt.want == "" {
				if err != nil {
					t.Errorf("Parse(%q): %v", tt.args, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse(%q): error %v, want one with %q", tt.args, err, tt.want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	var b strings.Builder
	if err := testSet().Usage(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{"--port=N\n", "--[no-]quiet\n", "(default: 5050)", "(old name: --slave_reregister_timeout)", "--new_thing=VALUE", "no ZooKeeper here"} {
		if !strings.Contains(text, want) {
			t.Errorf("usage lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "--gone") {
		t.Error("usage shows a rejected flag")
	}
	if strings.Index(text, "--new_thing") < strings.Index(text, "--work_dir") {
		t.Error("usage shows an accepted flag among those that work")
	}
	for line := range strings.SplitSeq(text, "\n") {
		if len(line) > usageWidth {
			t.Errorf("line of %d characters: %q", len(line), line)
		}
	}
}

func TestComplete(t *testing.T) {
	s := testSet()
	for word, want := range map[string][]string{
		"--p":    {"--port="},
		"--qu":   {"--quiet"},
		"--no-q": {"--no-quiet"},
		"--gone": nil,
		"--n":    {"--new_thing="},
		"x":      nil,
	} {
		if d := cmp.Diff(want, s.Complete(word)); d != "" {
			t.Errorf("Complete(%q) (-want +got):\n%s", word, d)
		}
	}
	if got := s.Complete("--"); len(got) != 13 {
		t.Errorf("Complete(--) offers %d flags, want 13: %q", len(got), got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("--port=1\n--quiet", "MESOS_PORT=2")
	f.Add("--work-dir\n/x\n--\n--y", "CLUSTERD_JOIN=a\nLIBPROCESS_IP=x")
	f.Add("--no-quiet=\n--join=a\n--join=b\n--acls=[]", "")
	s := testSet()
	s.AllowArgs = true
	f.Fuzz(func(t *testing.T, args, env string) {
		if strings.Contains(args+env, "file:/") || strings.Contains(args, "acls\n/") || strings.Contains(args+env, "=/") {
			t.Skip("reads files")
		}
		v, err := s.Parse(strings.Split(args, "\n"), strings.Split(env, "\n"))
		if err != nil {
			return
		}
		// What is shown can be given again and shows the same.
		var again []string
		for _, p := range v.All() {
			if p.Name != "gone" {
				again = append(again, "--"+p.Name+"="+p.Value)
			}
		}
		w, err := s.Parse(again, nil)
		if err != nil {
			t.Fatalf("Parse(%q) of what Parse(%q, %q) shows: %v", again, args, env, err)
		}
		// Durations are printed with 15 digits, as Mesos prints them.
		ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Value" }, cmp.Comparer(func(a, b string) bool {
			_, err := units.ParseDuration(a)
			return a == b || err == nil
		}))
		if d := cmp.Diff(v.All(), w.All(), ignore); d != "" {
			t.Fatalf("flags change when given again (-first +second):\n%s", d)
		}
	})
}

// TestProtections warns of a protection that was asked for when nothing gives it, and
// refuses to start without one that is not built.
func TestProtections(t *testing.T) {
	base := []string{"--work_dir=/tmp/x", "--master=m:5050"}
	for _, c := range []struct {
		args []string
		warn bool
	}{
		{[]string{"--enforce_container_disk_quota"}, true},
		{[]string{"--enforce_container_disk_quota", "--isolation=posix/cpu,disk/du"}, false},
		{[]string{"--no-enforce_container_disk_quota"}, false},
		{[]string{"--cgroups_enable_cfs", "--isolation=cgroups/mem"}, true},
		{[]string{"--cgroups_enable_cfs", "--isolation=cgroups/all"}, false},
		{[]string{"--cgroups_enable_cfs", "--isolation=cgroups"}, false},
		{[]string{"--seccomp_profile_name=strict"}, true},
		{[]string{"--seccomp_profile_name=strict", "--isolation=linux/seccomp"}, false},
	} {
		v, err := Agent().Parse(append(slices.Clone(base), c.args...), nil)
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		if warned := len(v.Warnings()) > 0; warned != c.warn {
			t.Errorf("%q: got warnings %q", c.args, v.Warnings())
		}
	}
	for _, f := range Agent().Flags() {
		if f.State != Guarded {
			continue
		}
		value := map[Type]string{Bool: "true", Bytes: "1MB"}[f.Type]
		if _, err := Agent().Parse(append(slices.Clone(base), "--"+f.Name+"="+value), nil); !errors.Is(err, ErrRejectedFlag) {
			t.Errorf("--%s: got %v, want %v", f.Name, err, ErrRejectedFlag)
		}
	}
}

// TestFlagsAreRead finds flags that claim to work but that nobody asks for.
func TestFlagsAreRead(t *testing.T) {
	// Checked by the table itself: there is one allocator.
	checkedOnly := map[string]bool{"allocator": true}
	var sources strings.Builder
	for _, dir := range []string{"../cli", "../../server", "../../agent"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(data)
		}
	}
	for _, s := range []*Set{Master(), Agent()} {
		for _, f := range s.Flags() {
			if f.State == Works && !checkedOnly[f.Name] && !strings.Contains(sources.String(), `"`+f.Name+`"`) {
				t.Errorf("%s --%s is said to work, but nothing reads it: read it or mark it Accepted", s.Mode, f.Name)
			}
		}
	}
}
