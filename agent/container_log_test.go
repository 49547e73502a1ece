package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clusterd/agent/containerlogger"
	mesos "clusterd/api/mesos/v1"
)

// TestContainerLogger: the output of tasks is bounded as the agent's flags say, and as
// the task itself does.
func TestContainerLogger(t *testing.T) {
	logger, err := containerlogger.New(containerlogger.Logrotate, map[string]string{
		"max_stdout_size": "8KB", "logrotate_stdout_options": "rotate 2\ncompress",
	})
	if err != nil {
		t.Fatal(err)
	}
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start(func(o *Options) { o.ContainerLogger = logger })
	defer h.leave(a)
	m.waitRegistered(1)
	withEnv := func(info *mesos.TaskInfo, name, value string) *mesos.TaskInfo {
		info.Command.Environment = &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: &name, Value: &value}}}
		return info
	}
	fw := framework("M-0000")
	// Slowly enough for what is older to be compressed before it is as old as may be.
	m.send(runTasks(fw, commandTask("flags", "seq 10000; sleep 0.3; seq 10000")))
	m.send(runTasks(fw, withEnv(commandTask("own", "seq 10000"), "CONTAINER_LOGGER_MAX_STDOUT_SIZE", "16KB")))
	m.send(runTasks(fw, withEnv(commandTask("bad", "seq 10000"), "CONTAINER_LOGGER_MAX_STDOUT_SIZE", "few")))
	for _, task := range []string{"flags", "own"} {
		m.waitState(task, "FINISHED")
	}
	if got := m.waitState("bad", "FAILED").GetMessage(); !strings.Contains(got, "CONTAINER_LOGGER_MAX_STDOUT_SIZE") {
		t.Errorf("message of a task with bad settings: got %q", got)
	}
	sandbox := func(task string) string {
		return filepath.Join(h.work, "slaves/M-S0/frameworks/M-0000/executors", task, "runs/latest")
	}
	eventually(t, "the last words are there", func() bool {
		b, err := os.ReadFile(filepath.Join(sandbox("flags"), "stdout"))
		return err == nil && strings.HasSuffix(string(b), "\n10000\n")
	})
	for task, most := range map[string]int64{"flags": 8 << 10, "own": 16 << 10} {
		files, err := filepath.Glob(filepath.Join(sandbox(task), "stdout*"))
		if err != nil || len(files) < 3 || len(files) > 4 { // one may be about to be compressed
			t.Errorf("%s: got files %v, %v, want three", task, files, err)
		}
		for _, f := range files {
			if fi, err := os.Stat(f); err != nil || fi.Size() > most {
				t.Errorf("%s: got %v, %v, want at most %d bytes", f, fi, err, most)
			}
		}
	}
}
