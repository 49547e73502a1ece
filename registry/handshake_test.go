package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	clusterdv1 "clusterd/api/clusterd/v1"
	"clusterd/registry/state"
)

// syncBuffer takes the log of a member.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// logged opens a member and returns its log beside it.
func logged(t *testing.T, opts Options) (*Registry, *syncBuffer) {
	t.Helper()
	log := new(syncBuffer)
	opts.Logger = zerolog.New(log).Level(zerolog.WarnLevel)
	return openT(t, opts), log
}

// dialAs connects to a member as another one would, which says h.
func dialAs(t *testing.T, to *Registry, h *hello) (*hello, error) {
	t.Helper()
	c, err := net.Dial("tcp", to.Self().Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(h.encode()); err != nil {
		t.Fatal(err)
	}
	return readHello(c)
}

func TestHandshakeRefusals(t *testing.T) {
	opts := single(t.TempDir())
	opts.ServerID = "m1"
	opts.BuildVersion = "1.0"
	r, log := logged(t, opts)
	cluster := leadT(t, r).State().ClusterID()
	fits := hello{version: handshakeVersion, to: "m1", from: "m2", cluster: cluster, nonce: "n", format: state.Format, build: "1.1"}
	for name, row := range map[string]struct {
		change func(*hello)
		want   string // "": accepted
	}{
		"fits":          {func(*hello) {}, ""},
		"no cluster":    {func(h *hello) { h.cluster = "" }, ""},
		"other cluster": {func(h *hello) { h.cluster = "X" }, "m2 belongs to cluster X, m1 to cluster " + cluster},
		"older":         {func(h *hello) { h.version-- }, `version 0 of the raft connection against version 1 here: the builds "1.1" and "1.0" do not fit`},
		"newer":         {func(h *hello) { h.version = 9 }, `version 9 of the raft connection`},
		"reused":        {func(h *hello) { h.to = "m7" }, "the master at this address is m1, not m7"},
		"own address":   {func(h *hello) { h.to, h.from, h.nonce = "m7", "m1", r.who.nonce }, "the address that is known of m7 is this master's own"},
		"same id":       {func(h *hello) { h.from = "m1" }, "two masters have the id m1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := fits
			row.change(&h)
			answer, err := dialAs(t, r, &h)
			if err != nil {
				t.Fatal(err)
			}
			if row.want == "" && answer.to != "" || !strings.Contains(answer.to, row.want) {
				t.Errorf("got %q, want %q", answer.to, row.want)
			}
			if answer.from != "m1" || answer.cluster != cluster || answer.build != "1.0" {
				t.Errorf("got answer %+v", answer)
			}
			if row.want != "" {
				poll(t, func() bool { return strings.Contains(strings.ReplaceAll(log.String(), `\"`, `"`), row.want) })
				before := len(log.String())
				for range 5 { // who is refused tries again and again
					if _, err := dialAs(t, r, &h); err != nil {
						t.Fatal(err)
					}
				}
				if after := log.String()[before:]; after != "" {
					t.Errorf("the log repeats itself: %s", after)
				}
			}
		})
	}
	if b, ok := r.buildOf("m2"); !ok || b != (build{state.Format, "1.1"}) {
		t.Errorf("got build %v of a master that was met", b)
	}
}

// What is not a master is told so, and holds nobody up.
func TestHandshakeWithStrangers(t *testing.T) {
	r, log := logged(t, single(t.TempDir()))
	l := leadT(t, r)
	silent, err := net.Dial("tcp", r.Self().Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, bytes := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "cluster\x00garbage", "clusterd\x00\x01\xff\xff\xff\xff", "clusterd\x00\x01\x00\x00\x00\x02\x09x"} {
		c, err := net.Dial("tcp", r.Self().Addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(bytes)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err == nil && len(got) > 0 {
			t.Errorf("%q was answered with %q", bytes, got)
		}
		c.Close()
	}
	applyT(t, l, state.AdmitAgent(agentInfo("a1")))
	poll(t, func() bool {
		return strings.Contains(log.String(), "not the raft port") && strings.Contains(log.String(), "4294967295 bytes") &&
			strings.Contains(log.String(), "damaged")
	})
}

// A leader that dials an address where another cluster's master is now does it no
// harm, and both say what is wrong.
func TestMastersOfTwoClustersStayApart(t *testing.T) {
	a, alog := logged(t, single(t.TempDir()))
	opts := single(t.TempDir())
	opts.MasterInfo = masterInfo("other")
	b, blog := logged(t, opts)
	la, lb := leadT(t, a), leadT(t, b)
	ida, idb := la.State().ClusterID(), lb.State().ClusterID()
	if err := a.AddMember(t.Context(), b.Self()); err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool {
		return strings.Contains(alog.String(), "belongs to cluster "+ida) && strings.Contains(alog.String(), "to cluster "+idb) &&
			strings.Contains(blog.String(), "belongs to cluster "+ida)
	})
	applyT(t, lb, state.AdmitAgent(agentInfo("b1")))
	applyT(t, la, state.AdmitAgent(agentInfo("a1"))) // it has no vote
	if got := b.State().ClusterID(); got != idb || b.State().Agent("a1") != nil {
		t.Errorf("b is in cluster %s", got)
	}
}

func TestHelloRoundTrip(t *testing.T) {
	h := &hello{version: 3, to: "a", from: "b", cluster: "", nonce: "xyz", format: 7, build: "1.2"}
	more := append(h.encode(), 0) // a later build says more
	more[len(handshakeMagic)+5]++ // one byte
	for name, b := range map[string][]byte{"exact": h.encode(), "longer": more} {
		got, err := readHello(bytes.NewReader(b))
		if err != nil {
			t.Fatal(name, err)
		}
		if d := cmp.Diff(h, got, cmp.AllowUnexported(hello{})); d != "" {
			t.Error(name, d)
		}
	}
}

func FuzzHello(f *testing.F) {
	f.Add((&hello{version: 1, from: "m1"}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := readHello(bytes.NewReader(h.encode()))
		if err != nil {
			t.Fatal(err)
		}
		if len(h.to) < 512 && len(h.from) < 512 && len(h.cluster) < 512 && len(h.nonce) < 512 && len(h.build) < 512 && *again != *h {
			t.Errorf("got %+v, want %+v", again, h)
		}
	})
}

// A command that a voter does not know is not proposed.
func TestCommandsWaitForTheOldestBuild(t *testing.T) {
	c := newCluster(t, 3, nil)
	l := c.leader()
	poll(t, func() bool { // it has met both
		n := 0
		for _, name := range c.names {
			if _, ok := l.r.buildOf(raft.ServerID(name)); ok {
				n++
			}
		}
		return n == 2
	})
	l.r.formatOf = func(k clusterdv1.Command_Kind) uint32 {
		if k == clusterdv1.Command_ADMIT_FRAMEWORK {
			return state.Format + 1
		}
		return 1
	}
	applyT(t, l, state.AdmitAgent(agentInfo("a1")))
	err := l.Apply(t.Context(), state.AdmitAgent(agentInfo("a2")), state.AdmitFramework(frameworkInfo("f1")))
	if !errors.Is(err, ErrNotUnderstood) || !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), `build "test", format 1`) {
		t.Errorf("got %v, want ErrNotUnderstood and who", err)
	}
	if l.r.State().Agent("a2") != nil || context.Cause(l.Context()) != nil {
		t.Error("a command that was not proposed had an effect")
	}
	skip := state.AdmitFramework(frameworkInfo("f2"))
	skip.Ignorable = new(true)
	applyT(t, l, skip)
	for _, name := range c.names {
		l.r.met(&hello{from: name, format: state.Format + 1})
	}
	applyT(t, l, state.AdmitFramework(frameworkInfo("f1")))
}
