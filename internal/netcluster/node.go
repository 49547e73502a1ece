package netcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
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

	log  string
	from *http.Client // speaks from the test's own host
	cmd  *exec.Cmd
	done chan struct{}
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

// WaitEnd waits until the process has ended by itself, and returns its exit code.
func (n *Node) WaitEnd() (int, error) {
	select {
	case <-n.done:
		code := n.cmd.ProcessState.ExitCode()
		n.cmd = nil
		return code, nil
	case <-time.After(testcluster.Patience):
		return 0, fmt.Errorf("%s does not end", n.name)
	}
}

// Kill ends the process with SIGKILL and waits for it; containers live on.
func (n *Node) Kill() { n.End(syscall.SIGKILL) }

// End sends a signal and waits until the process has ended.
func (n *Node) End(sig syscall.Signal) {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(sig)
	<-n.done
	n.cmd = nil
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
