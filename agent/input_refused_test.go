package agent

import (
	"net/http"
	"testing"
	"time"
)

// Who is refused an input is told at once, although the body goes on: people wait for the
// answer before they end it.
func TestInputRefusedAtOnce(t *testing.T) {
	p := newPod(t)
	in := p.input(`{"value":"nobody"}`)
	defer in.w.Close()
	select {
	case got := <-in.answer:
		if got.status != http.StatusNotFound {
			t.Errorf("got %d %s, want %d", got.status, got.body, http.StatusNotFound)
		}
	case <-time.After(firstCallTimeout - 5*time.Second): // nobody waits for so long
		t.Error("no answer while the body is open")
	}
}
