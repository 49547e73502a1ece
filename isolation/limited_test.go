package isolation_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

// atMessage is the writer of a log that does something before it takes a message.
type atMessage struct {
	text string
	do   func()
}

func (w atMessage) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.text) {
		w.do()
	}
	return len(b), nil
}

// TestLimitedAtItsEnd: a container ends by itself while its limitation is on its way. The
// end must have it.
func TestLimitedAtItsEnd(t *testing.T) {
	limits := make(chan isolation.Limitation)
	config := script(t, "until [ -e limited ]; do sleep 0.01; done")
	ended := make(chan struct{})
	log := zerolog.New(atMessage{text: "reached a limit", do: func() {
		if err := os.WriteFile(filepath.Join(config.Sandbox, "limited"), nil, 0o600); err != nil {
			t.Error(err)
		}
		select {
		case <-ended: // without the limitation
		case <-time.After(time.Second):
		}
	}})
	launcher, err := isolation.NewPosixLauncher(filepath.Join(t.TempDir(), "containers"), isolationtest.Programs(t), log)
	if err != nil {
		t.Fatal(err)
	}
	m := isolation.NewMesos(launcher, []isolation.Isolator{&spy{name: "first", limits: limits}}, log)
	defer m.Close()
	if err := m.Launch(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	limits <- isolation.Limitation{Reason: mesos.TaskStatus_REASON_CONTAINER_LIMITATION_DISK, Message: "too much"}
	got, err := m.Wait(t.Context(), config.ID)
	close(ended)
	if err != nil || len(got.Limitations) != 1 || got.Reason == nil || *got.Reason != mesos.TaskStatus_REASON_CONTAINER_LIMITATION_DISK {
		t.Errorf("end: got %+v, %v", got, err)
	}
}
