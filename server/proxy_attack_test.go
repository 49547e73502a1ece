package server

import (
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
