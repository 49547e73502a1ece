package agent

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestTerminalGoneWhileTyping: a client that has typed more than the command reads, and then
// has gone without a word, leaves nothing behind.
func TestTerminalGoneWhileTyping(t *testing.T) {
	defer func(d time.Duration) { terminalPing = d }(terminalPing)
	terminalPing = 100 * time.Millisecond
	p := newPod(t)
	executor, task, _ := p.onePod()
	before := p.containers()
	c, _ := p.terminal(url.Values{"container_id": {container(executor, task)}, "cmd": {"sh"}, "arg": {"-c", "echo ready; exec sleep 1000"}}, nil)
	c.says("ready")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	paste := []byte("\x00" + strings.Repeat("x", 100_000))
	for i := 0; ctx.Err() == nil; i++ {
		if err := c.ws.Write(ctx, websocket.MessageBinary, paste); err != nil {
			break // neither the command nor the agent takes more
		}
	}
	_ = c.ws.CloseNow()
	deadline := time.Now().Add(patience)
	for p.containers() > before && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	if n := p.containers(); n > before {
		t.Errorf("%d containers are left of the session", n-before)
	}
}
