package conformance

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything here may take before it has failed.
const patience = 60 * time.Second

// bin holds the programs under test, built once by TestMain.
var bin string

func TestMain(m *testing.M) {
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "clusterd-conformance-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bin = dir
	for _, name := range []string{"example-executor", "example-scheduler", "msh", "mwatch"} {
		if err := build(".", "github.com/mesos/mesos-go/api/v1/cmd/"+name, name); err != nil {
			return 1, err
		}
	}
	if err := build("telegraf", ".", "telegraf-mesos"); err != nil {
		return 1, err
	}
	if p := os.Getenv("CLUSTERD"); p != "" {
		return m.Run(), os.Symlink(p, filepath.Join(dir, "clusterd"))
	}
	if err := build("../..", ".", "clusterd"); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func build(in, pkg, name string) error {
	cmd := exec.Command("go", "build", "-o", filepath.Join(bin, name), pkg)
	cmd.Dir = in
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+map[bool]string{true: "0", false: "1"}[name == "clusterd"]) // msh needs C
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return nil
}

// clusterd is the path of the binary under test.
func clusterd() string {
	if p := os.Getenv("CLUSTERD"); p != "" {
		return p
	}
	return filepath.Join(bin, "clusterd")
}

// lockedBuffer collects what a process writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startCluster runs `clusterd dev` and returns the master's host:port.
func startCluster(t *testing.T, flags ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cc")
	if err != nil {
		t.Fatal(err)
	}
	var out lockedBuffer
	args := append([]string{
		"dev", "--port=0", "--agent_port=0", "--work_dir=" + dir,
		"--resources=cpus:4;mem:4096;disk:10000;ports:[31000-32000]",
	}, flags...)
	cmd := exec.Command(clusterd(), args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("clusterd's output:\n%s", out.String())
		}
		os.RemoveAll(dir)
	})
	address := regexp.MustCompile(`master +http://(\S+)`)
	var master string
	eventually(t, "clusterd dev prints its address and has an agent", func() error {
		m := address.FindStringSubmatch(out.String())
		if m == nil {
			return fmt.Errorf("no address in %q", out.String())
		}
		master = m[1]
		body, err := get("http://" + master + "/state")
		if err == nil && !strings.Contains(body, `"activated_slaves":1`) {
			err = fmt.Errorf("no agent in %s", body)
		}
		return err
	})
	return master
}

func get(url string) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(bufio.NewReader(res.Body))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return string(b), err
}

// eventually polls f until it returns nil or patience is over.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
