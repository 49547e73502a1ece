package server

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// A leader that hangs answers nothing, and its connections stay open. Who asks a follower is
// told when another leads.
func TestProxyHangingLeader(t *testing.T) {
	t.Parallel() // it waits more than it works
	hangs := make(map[int]net.Listener)
	masters := startGroup(t, 3, func(o *Options) {
		// What is sent to where masters say that they are is taken, and nothing comes back.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		o.AdvertiseIP, o.AdvertisePort = "127.0.0.1", l.Addr().(*net.TCPAddr).Port
		hangs[o.AdvertisePort] = l
	})
	leader, follower := masters[0], masters[1]
	answers := make(chan reply, 2)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r, err := http.NewRequestWithContext(t.Context(), method, endpoint(follower, leaderPath+"/state"), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				answers <- reply{body: err.Error()}
				return
			}
			defer func() { _ = res.Body.Close() }()
			b, _ := io.ReadAll(res.Body)
			answers <- reply{res.StatusCode, res.Header, r.Method + " " + string(b)}
		}()
		// It has arrived at the leader.
		conn, err := hangs[int(leader.info.GetPort())].Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	stopMaster(t, leader)
	for range 2 {
		got := <-answers
		switch {
		case strings.HasPrefix(got.body, "GET ") && got.status == http.StatusServiceUnavailable && got.header.Get("Retry-After") != "":
		case strings.HasPrefix(got.body, "POST ") && got.status == http.StatusBadGateway && strings.Contains(got.body, "is not known"):
			// Not 503: who is told that tries again.
		default:
			t.Errorf("got %d %s %v", got.status, got.body, got.header)
		}
	}
	eventually(t, "no request is noted that is over", func() bool {
		follower.proxy.passed.mu.Lock()
		defer follower.proxy.passed.mu.Unlock()
		return len(follower.proxy.passed.requests) == 0
	})
}
