package fetcher

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func randomName() string { return strings.ToLower(rand.Text()) }

// maxComplaint bounds what is kept of the program's complaints.
const maxComplaint = 4096

// hadoop runs the hadoop program as the task's user. It and its children are killed
// when the context ends.
func (j *job) hadoop(ctx context.Context, args ...string) error {
	scheme, _, _ := strings.Cut(j.source, "://")
	program, home, err := j.f.hadoopProgram()
	if err != nil {
		return fmt.Errorf("%w: scheme '%s' is not supported without Hadoop: %w", ErrInvalidURI, scheme, err)
	}
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // the operator names the program, and no shell reads the URI
	cmd.Dir = "/"
	// The agent's environment may hold secrets; this is what Hadoop's scripts read.
	for _, name := range []string{"PATH", "HOME", "JAVA_HOME", "HADOOP_CONF_DIR", "HADOOP_CLASSPATH", "HADOOP_OPTS", "HADOOP_CLIENT_OPTS", "LANG"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	if home != "" {
		cmd.Env = append(cmd.Env, "HADOOP_HOME="+home)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if j.who.change {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(j.who.uid), Gid: uint32(j.who.gid), Groups: j.who.groups}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	complaint := &tail{}
	cmd.Stderr = complaint
	j.logf("asking %s for '%s'", program, j.source)
	// The threads of the task's user may not start what only root may: its own
	// goroutine has the agent's rights.
	err = asAgent(cmd.Run)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return fmt.Errorf("hadoop ended with %s: %s", exit.ProcessState, complaint)
	}
	if err != nil {
		return fmt.Errorf("run hadoop: %w", err)
	}
	return nil
}

// hadoopProgram finds the program as Mesos does (HDFS::create).
func (f *Fetcher) hadoopProgram() (program, home string, err error) {
	home = f.opts.HadoopHome
	if home == "" {
		home = os.Getenv("HADOOP_HOME")
	}
	if home == "" {
		program, err = exec.LookPath("hadoop")
		return program, "", err
	}
	program, err = exec.LookPath(filepath.Join(home, "bin", "hadoop"))
	return program, home, err
}

// asAgent calls f with the agent's own rights, from wherever it is called.
func asAgent(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return <-done
}

// tail keeps the last that was written to it.
type tail struct{ b []byte }

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > maxComplaint {
		t.b = t.b[len(t.b)-maxComplaint:]
	}
	return len(p), nil
}

func (t *tail) String() string { return string(bytes.TrimSpace(t.b)) }
