package server

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestProxyNested: a path that has many proxies in it, each written so that it is not seen
// at once, is not worked off one by one.
func TestProxyNested(t *testing.T) {
	s := startMaster(t)
	for _, around := range []string{"/master" + leaderPath, "/" + leaderPath} {
		for n, want := range map[int]int{1: http.StatusOK, 2: http.StatusOK, 3: http.StatusNotFound, 500: http.StatusNotFound} {
			if r := get(t, s, strings.Repeat(around, n)+"/version"); r.status != want {
				t.Errorf("%d times %s: got %d %q, want %d", n, around, r.status, r.body, want)
			}
		}
	}
}

// TestProxyRefusalIsHeard: an agent that refuses what is large at its beginning is heard by
// way of every master.
func TestProxyRefusalIsHeard(t *testing.T) {
	t.Parallel() // it waits more than it works
	masters := startGroup(t, 2)
	a := startTunnelled(t, masters[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		_, _ = io.CopyN(io.Discard, r.Body, 1000)
		http.Error(w, "the disk is full", http.StatusInsufficientStorage)
		_ = rc.Flush()
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	for _, s := range masters {
		for range 3 {
			body := bytes.Repeat([]byte("x"), 4<<20)
			r := do(t, http.MethodPut, endpoint(s, a.path("/archive")), http.Header{"Content-Type": {"application/x-tar"}}, body)
			if r.status == http.StatusServiceUnavailable {
				t.Skip("this machine is too busy for a leader to stay one")
			}
			if r.status != http.StatusInsufficientStorage || !strings.Contains(r.body, "the disk is full") {
				t.Errorf("got %d %q", r.status, r.body)
			}
		}
	}
}
