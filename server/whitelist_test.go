package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/scheduler"
)

func TestWhitelist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "whitelist")
	list := func(text string) {
		t.Helper()
		// As an operator should: the master never reads half a file.
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	list("a.example\r\n\n")
	s := startMaster(t, func(o *Options) { o.Whitelist, o.whitelistInterval = path, 5*time.Millisecond })
	host := func(name string, port int32) *mesos.AgentInfo {
		info := agentInfo()
		info.Hostname, info.Port = &name, &port
		return info
	}
	b := startAgent(t, s, host("b.example", 1))
	a := startAgent(t, s, host("a.example", 2))
	f := subscribe(t, s, goldenInfo())
	offered := func(want *agent) {
		t.Helper()
		offers := f.next(scheduler.Event_OFFERS).GetOffers().GetOffers()
		var got []string
		for _, o := range offers {
			got = append(got, o.GetAgentId().GetValue())
		}
		if diff := cmp.Diff([]string{want.id.GetValue()}, got); diff != "" {
			t.Errorf("offers (-want +got):\n%s", diff)
		}
	}
	offered(a)

	// A file that is gone changes nothing; the agent listed next is offered at once.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	list("a.example\nb.example\n")
	offered(b)

	// Who is not listed keeps what it has, and is offered no more.
	list("")
	eventually(t, "the list is read", func() bool { return len(*s.whitelist.Load()) == 0 })
	c := startAgent(t, s, host("c.example", 3))
	list("c.example")
	offered(c)
}

// A whitelist that cannot be read at the start must not mean that all are offered.
func TestWhitelistMissing(t *testing.T) {
	opts := DefaultOptions()
	opts.IP, opts.Port, opts.Hostname, opts.InMemory = "127.0.0.1", 0, "localhost", true
	opts.Whitelist = filepath.Join(t.TempDir(), "missing")
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that the file does not exist", err)
	}
}
