package checks

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestDialInKeepsTasks: a task dies with the thread that started it, so no thread may end
// that has been to another network.
func TestDialInKeepsTasks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	namespace, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	var tasks []*exec.Cmd
	for range 20 {
		task := exec.Command("sleep", "1000")
		task.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := task.Start(); err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, task)
		for range 5 {
			conn, err := DialIn(t.Context(), namespace, listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
	}
	for _, task := range tasks {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(task.Process.Pid, &status, syscall.WNOHANG, nil)
		if err != nil || pid != 0 {
			t.Errorf("a task has ended: %v, %v", status, err)
			continue
		}
		_ = task.Process.Kill()
		_ = task.Wait()
	}
}
