package netcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"clusterd/internal/testcluster"
)

// Node is a clusterd daemon on a host of its own. It may be killed and started again.
type Node struct {
	*Host
	// Addr is its HTTP address.
	Addr string
	// WorkDir is its --work_dir.
	WorkDir string
	// Args is its command line; a change takes effect at the next start.
	Args []string

	// cgroups is the root of an agent's cgroups.
	cgroups string

	log  string
	from *http.Client // speaks from the test's own host
	cmd  *exec.Cmd
	done chan struct{}
}

// SetFlag sets a flag of the command line, from the next start on.
func (n *Node) SetFlag(name, value string) {
	start := "--" + name + "="
	n.Args = append(slices.DeleteFunc(n.Args, func(a string) bool { return strings.HasPrefix(a, start) }), start+value)
}

// Launch starts the process if it does not run, and does not wait for it.
func (n *Node) Launch() error {
	if n.cmd != nil {
		return nil
	}
	bin, err := testcluster.Binary()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.Background(), bin, n.Args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := n.Run(cmd); err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	done := make(chan struct{})
	n.cmd, n.done = cmd, done
	go func() {
		_ = cmd.Wait() // how it ended shows in ProcessState
		close(done)
	}()
	return nil
}

// Start is Launch, and waits until the daemon answers.
func (n *Node) Start() error {
	if err := n.Launch(); err != nil {
		return err
	}
	return n.WaitAnswers()
}

// errEnded is why a node that should run does not.
var errEnded = errors.New("the process has ended")

// WaitAnswers waits until the daemon answers.
func (n *Node) WaitAnswers() error {
	var ended error
	err := testcluster.Poll(func() error {
		select {
		case <-n.done:
			ended = fmt.Errorf("%s: %w: %v\n%s", n.name, errEnded, n.cmd.ProcessState, n.Log())
			return nil
		default:
		}
		status, _, err := n.Get("/health")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%s: /health answers %d", n.name, status)
		}
		return err
	})
	return errors.Join(ended, err)
}

// Kill ends the process with SIGKILL and waits for it; containers live on.
func (n *Node) Kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGKILL)
	<-n.done
	n.cmd = nil
}

// Terminate asks the process to end, as an init system does, and waits until it has. One that
// does not is made to show where it hangs, in its log.
func (n *Node) Terminate() error {
	n.Signal(syscall.SIGTERM)
	select {
	case <-n.done:
		n.cmd = nil
		return nil
	case <-time.After(testcluster.Patience):
	}
	n.Signal(syscall.SIGQUIT)
	select {
	case <-n.done:
		n.cmd = nil
	case <-time.After(testcluster.Patience):
		n.Kill()
	}
	return fmt.Errorf("%s did not end on SIGTERM in %s", n.name, testcluster.Patience)
}

// Signal sends a signal to the process, such as SIGSTOP and SIGCONT.
func (n *Node) Signal(sig syscall.Signal) {
	if n.cmd != nil {
		_ = n.cmd.Process.Signal(sig)
	}
}

// Runs says whether the process was started and not ended since.
func (n *Node) Runs() bool { return n.cmd != nil }

// PID is the process id, 0 if it does not run.
func (n *Node) PID() int {
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

// Log returns what the process has logged so far, in all its lives.
func (n *Node) Log() string {
	b, _ := os.ReadFile(n.log) // none yet
	return string(b)
}

// answerTimeout is how long a request to a node may take: one to a node that is
// stopped or cut off takes that long.
const answerTimeout = 700 * time.Millisecond

// Get asks the daemon from the test's own host. Redirects are not followed.
func (n *Node) Get(path string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Addr+path, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := n.from.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}
