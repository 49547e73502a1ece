package testcluster

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test binary one that watches a folder, has a process below it, takes
// ports, says so, and does nothing more.
const childEnv = "TESTCLUSTER_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Println(child(dir))
		select {}
	}
	m.Run()
}

func child(dir string) string {
	gone := dir + "-gone"
	for _, d := range []string{gone, dir} {
		if err := Watch(d); err != nil {
			return err.Error()
		}
	}
	Unwatch(gone)
	var pids []string
	for _, d := range []string{dir, gone} {
		cmd := exec.Command("sleep", "1000")
		cmd.Env = []string{"HOME=" + d + "/home"}
		if err := cmd.Start(); err != nil {
			return err.Error()
		}
		pids = append(pids, strconv.Itoa(cmd.Process.Pid))
	}
	free, err := Ports(3)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintln(strings.Join(pids, " "), strings.Trim(fmt.Sprint(free), "[]"))
}

// startChild returns the process ids below its folder and below the one that it does not
// watch any more, and its ports.
func startChild(t *testing.T, dir string) (cmd *exec.Cmd, watched, unwatched int, ports []int) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	ports = make([]int, 3)
	if _, err := fmt.Sscan(line, &watched, &unwatched, &ports[0], &ports[1], &ports[2]); err != nil {
		t.Fatalf("the child says %q: %v", line, err)
	}
	t.Cleanup(func() { _ = syscall.Kill(unwatched, syscall.SIGKILL) })
	return cmd, watched, unwatched, ports
}

// alive says whether a process is there and more than a zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// TestWatch: what a test has started ends with the test, even if that is killed.
func TestWatch(t *testing.T) {
	cmd, watched, unwatched, _ := startChild(t, t.TempDir())
	if !alive(watched) || !alive(unwatched) {
		t.Fatal("what the child has started does not run")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := Poll(func() error {
		if alive(watched) {
			return fmt.Errorf("process %d is left of the child", watched)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if !alive(unwatched) {
		t.Error("what is not watched any more has ended")
	}
}

func TestWatchBadName(t *testing.T) {
	for _, dir := range []string{"", "a b", "/tmp/*", "a\nwatch /"} {
		if err := Watch(dir); err == nil {
			t.Errorf("Watch(%q) takes it", dir)
		}
	}
}

// TestPorts: nobody is given a port that another has, in this process or in others, nor one
// that is in use.
func TestPorts(t *testing.T) {
	_, _, _, theirs := startChild(t, t.TempDir())
	seen := map[int]bool{}
	for _, p := range theirs {
		seen[p] = true
	}
	inUse := 0
	for range 3 * portBlock / 10 {
		got, err := Ports(10)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range got {
			if seen[p] || p < firstPort || p >= lastPort {
				t.Fatalf("port %d was given twice, or is beyond the range", p)
			}
			seen[p] = true
		}
		// The next one is taken by somebody who does not ask here.
		ports.Lock()
		next := ports.next
		ports.Unlock()
		l, err := net.Listen("tcp", loopback(next))
		if err != nil {
			continue
		}
		got, err = Ports(1)
		_ = l.Close()
		if err != nil || got[0] == next {
			t.Fatalf("got port %v in use, %v", got, err)
		}
		inUse++
	}
	if inUse == 0 {
		t.Error("no port could be taken")
	}
}

// TestGetGivesUp: a server that takes the question and never answers is no reason to wait for
// ever.
func TestGetGivesUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	start := time.Now()
	if _, err := get("http://"+l.Addr().String()+"/", 50*time.Millisecond); err == nil {
		t.Error("got an answer")
	}
	if took := time.Since(start); took >= Patience {
		t.Errorf("it took %s", took)
	}
}
