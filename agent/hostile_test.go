package agent

import (
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
)

// TestEndlessTimes: the longest times that a framework can name are as good as
// any. (Margins added to them must not make them negative.)
func TestEndlessTimes(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start()
	defer h.leave(a)
	m.waitRegistered(1)
	endless := &mesos.DurationInfo{Nanoseconds: new(int64(math.MaxInt64))}
	task := commandTask("t", "exit 0")
	task.KillPolicy = &mesos.KillPolicy{GracePeriod: endless}
	task.MaxCompletionTime = endless
	m.send(runTasks(framework("M-0000"), task))
	m.waitState("t", "FINISHED")
	custom := customTask("c", "e")
	custom.Executor.ShutdownGracePeriod = endless
	custom.Executor.Command = &mesos.CommandInfo{Value: strp(`case $MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD in *-*) exit 9;; esac; exit 0`)}
	m.send(runTasks(framework("M-0000"), custom))
	if st := m.waitState("c", "FAILED"); st.GetMessage() != "Exited with status 0" {
		t.Errorf("got %q: the executor was given a negative time", st.GetMessage())
	}
}

// TestSlowClients: clients that never finish what they begin hold nobody up, and are cut
// off in the end.
func TestSlowClients(t *testing.T) {
	m := newScriptedMaster(t)
	h := newMachine(t, m)
	a := h.start(func(o *Options) { o.ReadHeaderTimeout = 500 * time.Millisecond })
	defer h.leave(a)
	m.waitRegistered(1)
	var slow []net.Conn
	for i := range 200 {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begin := []string{"", "P", "POST /api/v1 HTTP/1.1\r\nHost: x\r\n", "POST /api/v1 HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 1000)}
		if _, err := io.WriteString(c, begin[i%len(begin)]); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	if status, _, _ := request(t, a, "GET", "/health", "", ""); status != http.StatusOK {
		t.Errorf("others get %d", status)
	}
	for i, c := range slow {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("client %d is not cut off: %v", i, err)
		}
	}
	// Headers without an end.
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.WriteString(c, "GET /state HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("X: y\r\n", 1<<20))
	}()
	// What was sent and not read may reset the connection before the answer is read.
	b, err := io.ReadAll(c)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Error("endless headers are read for ever")
	}
	if len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 431 ") {
		t.Errorf("endless headers: got %.60q", b)
	}
}
