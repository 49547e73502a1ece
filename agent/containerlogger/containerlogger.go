// Package containerlogger says where the output of containers goes: into files in the
// sandbox, as they are or bounded. It takes the names and parameters of Mesos's container
// loggers (src/slave/container_loggers), of which the second runs two processes and the
// program logrotate for each container; here the process that stands above a container
// anyhow does what is asked of them (isolation/supervisor).
//
// Logger is the main type. It does not change, so it is safe for concurrent use. Package
// agent and internal/cli import it.
package containerlogger

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/units"
	"clusterd/isolation"
)

// Names of loggers, as --container_logger takes them.
const (
	// Sandbox is the default: stdout and stderr grow without a bound.
	Sandbox = ""
	// Logrotate is the one that bounds them.
	Logrotate = "org_apache_mesos_LogrotateContainerLogger"
)

// What the parameters of Logrotate are when they are not given. Mesos keeps no older
// files by default, as logrotate does, so that the last words of a task are gone whenever
// the file has just been started; one is kept here.
const (
	DefaultMaxSize   = 10 << 20
	DefaultMaxFiles  = 1
	DefaultEnvPrefix = "CONTAINER_LOGGER_"
)

// MaxFiles is the most older files that can be asked for.
const MaxFiles = 1000

// ErrInvalid says that a logger or its parameters make no sense.
var ErrInvalid = errors.New("invalid container logger")

// Logger says what becomes of the output of containers.
type Logger struct {
	rotates        bool
	stdout, stderr isolation.Rotation
	prefix         string
	warnings       []string
}

// Parameters of Logrotate. Those of Mesos's own processes are accepted and do nothing.
var ignored = []string{"launcher_dir", "logrotate_path", "libprocess_num_worker_threads"}

// New makes the logger of a name with parameters as Mesos's module has them.
func New(name string, parameters map[string]string) (*Logger, error) {
	switch name {
	case Sandbox:
		return &Logger{}, nil
	case Logrotate:
	default:
		return nil, fmt.Errorf("%w: there is no %q (there is %s)", ErrInvalid, name, Logrotate)
	}
	r := isolation.Rotation{MaxSize: DefaultMaxSize, MaxFiles: DefaultMaxFiles}
	l := &Logger{rotates: true, stdout: r, stderr: r, prefix: DefaultEnvPrefix}
	names := make([]string, 0, len(parameters))
	for name := range parameters {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := parameters[name]
		switch {
		case name == "environment_variable_prefix":
			if value == "" {
				return nil, fmt.Errorf("%w: environment_variable_prefix is empty", ErrInvalid)
			}
			l.prefix = value
		case slices.Contains(ignored, name):
			l.warnings = append(l.warnings, name+" has no effect: no other process is started")
		default:
			warnings, err := set(&l.stdout, &l.stderr, name, value)
			if err != nil {
				return nil, err
			}
			l.warnings = append(l.warnings, warnings...)
		}
	}
	return l, nil
}

// Warnings say what of the parameters has no effect.
func (l *Logger) Warnings() []string { return l.warnings }

// Rotations bounds the output of a container with this environment, some of whose
// variables may say how. The two are zero when nothing is bounded.
func (l *Logger) Rotations(env *mesos.Environment) (stdout, stderr isolation.Rotation, err error) {
	if l == nil || !l.rotates {
		return stdout, stderr, nil
	}
	stdout, stderr = l.stdout, l.stderr
	for _, v := range env.GetVariables() {
		name, ok := strings.CutPrefix(v.GetName(), l.prefix)
		if !ok {
			continue
		}
		if _, err := set(&stdout, &stderr, strings.ToLower(name), v.GetValue()); err != nil {
			return stdout, stderr, fmt.Errorf("load container logger settings: %s: %w", v.GetName(), err)
		}
	}
	return stdout, stderr, nil
}

// set sets one of the parameters that a task can change as well.
func set(stdout, stderr *isolation.Rotation, name, value string) (warnings []string, err error) {
	switch name {
	case "max_stdout_size":
		return nil, setSize(stdout, name, value)
	case "max_stderr_size":
		return nil, setSize(stderr, name, value)
	case "logrotate_stdout_options":
		return setOptions(stdout, name, value)
	case "logrotate_stderr_options":
		return setOptions(stderr, name, value)
	}
	return nil, fmt.Errorf("%w: unknown parameter %q", ErrInvalid, name)
}

func setSize(r *isolation.Rotation, name, value string) error {
	n, err := units.ParseBytes(value)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, name, err)
	}
	if page := uint64(os.Getpagesize()); n < page { // LoggerFlags::validateSize
		return fmt.Errorf("%w: %s: expected at least %d bytes, got %s", ErrInvalid, name, page, value)
	}
	r.MaxSize = n
	return nil
}

// setOptions reads lines of a configuration of logrotate. Those that say how many older
// files there are, and whether they are compressed, count; others are about what cannot
// happen here (a file that a writer goes on writing, a time of the day, who mails it).
func setOptions(r *isolation.Rotation, name, value string) (warnings []string, err error) {
	for line := range strings.FieldsFuncSeq(value, func(c rune) bool { return c == '\n' || c == ';' }) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "rotate":
			if len(words) != 2 {
				return nil, fmt.Errorf("%w: %s: %q", ErrInvalid, name, line)
			}
			n, err := strconv.ParseUint(words[1], 10, 32)
			if err != nil || n > MaxFiles {
				return nil, fmt.Errorf("%w: %s: %q: expected a number up to %d", ErrInvalid, name, line, MaxFiles)
			}
			r.MaxFiles = uint32(n)
		case "compress":
			r.Compress = true
		case "nocompress":
			r.Compress = false
		default:
			warnings = append(warnings, fmt.Sprintf("%s: %q has no effect", name, strings.TrimSpace(line)))
		}
	}
	return warnings, nil
}

// Modules reads the parameters of a module of that name out of what --modules takes
// (Modules in include/mesos/module/module.proto, as JSON). There are none when it does
// not name the module.
func Modules(text, name string) (map[string]string, error) {
	var modules struct {
		Libraries []struct {
			Modules []struct {
				Name       string `json:"name"`
				Parameters []struct {
					Key   string `json:"key"`
					Value string `json:"value"`
				} `json:"parameters"`
			} `json:"modules"`
		} `json:"libraries"`
	}
	if strings.TrimSpace(text) == "" {
		return map[string]string{}, nil
	}
	if err := json.Unmarshal([]byte(text), &modules); err != nil {
		return nil, fmt.Errorf("%w: modules: %w", ErrInvalid, err)
	}
	parameters := make(map[string]string)
	for _, l := range modules.Libraries {
		for _, m := range l.Modules {
			if m.Name != name {
				continue
			}
			for _, p := range m.Parameters {
				parameters[p.Key] = p.Value
			}
		}
	}
	return parameters, nil
}
