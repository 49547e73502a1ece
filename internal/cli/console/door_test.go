package console

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"clusterd/api/client"
)

// Of several masters one may hang: it takes connections and answers nothing.
func TestDoorHangingMaster(t *testing.T) {
	t.Parallel() // it waits for what does not come
	hangs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	var probes, posts atomic.Int32
	lives := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/version":
			probes.Add(1)
		case leaderPrefix + "/api/v1":
			posts.Add(1)
			b, _ := io.ReadAll(r.Body)
			_, _ = w.Write(b)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer lives.Close()
	base := client.NewTLSClient(nil, nil).Transport
	d := &door{base: base, prefix: leaderPrefix, shared: &doorState{plain: map[int]bool{}}}
	for _, a := range []string{"http://" + hangs.Addr().String(), lives.URL} {
		u, err := url.Parse(a)
		if err != nil {
			t.Fatal(err)
		}
		d.masters = append(d.masters, u)
	}
	h := &http.Client{Transport: d}
	defer lives.CloseClientConnections()
	for range 3 {
		// It is sent once: what is sent to a master that hangs might be done later.
		res, err := h.Post(d.masters[0].String()+"/api/v1", "text/plain", strings.NewReader("kill"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if closing := res.Body.Close(); err != nil || closing != nil || string(b) != "kill" {
			t.Errorf("got %q, %v, %v", b, err, closing)
		}
	}
	if probes.Load() != 1 || posts.Load() != 3 {
		t.Errorf("asked %d times for the version, and sent %d of 3", probes.Load(), posts.Load())
	}
}
