package agent

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"io"
	"net/http"
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

// sparseBomb is a tar of a file of 64 MB (it could say more) that is all hole but for its last byte, as GNU tar
// writes it with --sparse.
const sparseBomb = "H4sIAAAAAAACA+3Tz4rCMBDH8ZzzFH2CNNOGrpeCJ92TLIgPEDGHirWSuiA+vVmV/VPw2GUXvx8CE4aBQIafyU0+ffOn1+A3IapR" +
	"2JtH1Ypzn/drX2whTmUn9Qve+6OP6Xn1nIoimy9Wpj/42AfT+m0Xa9GDbrNPXasL9727922o11271uWP6Rj8rm/Ooa5exE4mldMK" +
	"f1Za3PK6t1mzC8bmHwsdI//VV8aHVdIZ5F/KNJ5Z8j860feYlloI6vM58wUAAAAAAAAAAAAAAPx7F5tfAFwAKAAA"

// TestArchiveSparse: a small archive does not fill the disk.
func TestArchiveSparse(t *testing.T) {
	p := newPod(t)
	executor, task, _ := p.onePod()
	packed := base64.NewDecoder(base64.StdEncoding, strings.NewReader(sparseBomb))
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	status, out := p.archive("PUT", container(executor, task), ".", string(archive))
	if status != http.StatusBadRequest || !strings.Contains(out, "sparse") {
		t.Errorf("status %d: %s", status, out)
	}
}

// TestArchiveRefusalIsHeard: who sends much that is refused at its beginning is told why, and
// not that the connection was reset.
func TestArchiveRefusalIsHeard(t *testing.T) {
	p := newPod(t)
	executor, task, _ := p.onePod()
	archive := makeTar(t, file{name: "../up", content: "x"}, file{name: "large", content: strings.Repeat("x", 16<<20)})
	for range 5 {
		if status, out := p.archive("PUT", container(executor, task), ".", archive); status != http.StatusBadRequest || !strings.Contains(out, "../up") {
			t.Fatalf("status %d: %s", status, out)
		}
	}
}
