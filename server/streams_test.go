package server

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
	"clusterd/server/events"
)

// streamPage is a page with its streams on one websocket.
type streamPage struct {
	t      *testing.T
	ws     *websocket.Conn
	text   map[uint32]string // what has come of each stream
	status map[uint32]int
	body   map[uint32]string
	ended  map[uint32]bool
}

func openStreams(t *testing.T, s *Server, header http.Header) *streamPage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, endpoint(s, httpapi.StreamsPath), &websocket.DialOptions{HTTPHeader: header}) //nolint:bodyclose // there is none
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return &streamPage{t, ws, map[uint32]string{}, map[uint32]int{}, map[uint32]string{}, map[uint32]bool{}}
}

func (p *streamPage) open(id int, path string) {
	p.t.Helper()
	if err := p.ws.Write(p.t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"open":%d,"path":%q}`, id, path)); err != nil {
		p.t.Fatal(err)
	}
}

// until reads until something is so.
func (p *streamPage) until(what string, so func() bool) {
	p.t.Helper()
	for !so() {
		if err := p.read(); err != nil {
			p.t.Fatalf("%s: %v; of the streams came %v, statuses %v %v", what, err, p.text, p.status, p.body)
		}
	}
}

func (p *streamPage) read() error {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	kind, data, err := p.ws.Read(ctx)
	if err != nil {
		return err
	}
	if kind == websocket.MessageBinary {
		p.text[binary.BigEndian.Uint32(data)] += string(data[4:])
		return nil
	}
	var m struct {
		ID     uint32
		Status int
		Body   string
		End    bool
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if m.Status != 0 {
		p.status[m.ID], p.body[m.ID] = m.Status, m.Body
	}
	p.ended[m.ID] = m.End || m.Status != http.StatusOK
	return nil
}

// TestStreamsOfPages: pages of the leader and of a follower have events and documents on one
// websocket, in the name of who has logged in, and go on with the next leader.
func TestStreamsOfPages(t *testing.T) {
	const eventsPath, watchPath = leaderPath + events.Path + "?snapshot=false", leaderPath + httpapi.LivePath + "?path=/weights&interval=500ms"
	realms := accessRealms(t, []string{"carol"}, authn.MasterReadonly, authn.MasterReadwrite)
	masters := startGroup(t, 3, func(o *Options) { o.Realms = realms })
	leader, follower := masters[0], masters[1]
	login := openPage(t, follower)
	if status := login.login("carol", "carol"); status != http.StatusNoContent {
		t.Fatalf("login: %d", status)
	}
	session := httpapi.SessionCookie + "=" + login.cookies[httpapi.SessionCookie]
	var pages []*streamPage
	for _, m := range []*Server{follower, leader} {
		p := openStreams(t, m, http.Header{"Cookie": {session}, "Origin": {"http://" + m.Addr().String()}})
		p.open(1, eventsPath)
		p.open(2, watchPath)
		p.until("both have begun", func() bool {
			return strings.Contains(p.text[1], "SUBSCRIBED") && strings.Contains(p.text[2], "event: /weights")
		})
		pages = append(pages, p)

		stranger := openStreams(t, m, nil)
		stranger.open(1, eventsPath)
		stranger.until("it is refused", func() bool { return stranger.ended[1] })
		if stranger.status[1] != http.StatusUnauthorized {
			t.Errorf("without a session: %d %s", stranger.status[1], stranger.body[1])
		}
	}
	if got := login.do(http.MethodPut, leaderPath+"/weights", `[{"role":"r","weight":7}]`); got.status != http.StatusOK {
		t.Fatalf("PUT /weights: %d %s", got.status, got.body)
	}
	for _, p := range pages {
		p.until("both tell of the weight", func() bool {
			return strings.Contains(p.text[1], "WEIGHTS_UPDATED") && strings.Contains(p.text[2], `"weight":7`)
		})
	}

	// The leader ends: so do its websocket, and the streams through the follower, whose own
	// websocket stays.
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stopMaster(t, leader)
	}()
	followed := pages[0]
	for {
		err := pages[1].read()
		if err == nil {
			continue
		}
		if got := websocket.CloseStatus(err); got != websocket.StatusGoingAway {
			t.Errorf("the leader's websocket ended with %v", err)
		}
		break
	}
	followed.until("both have ended", func() bool { return followed.ended[1] && followed.ended[2] })
	<-stopped
	for id := 3; ; id++ {
		followed.open(id, eventsPath)
		at := uint32(id)
		followed.until("it begins, or is refused", func() bool { return followed.ended[at] || strings.Contains(followed.text[at], "SUBSCRIBED") })
		if !followed.ended[at] {
			break
		}
		switch followed.status[at] {
		case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusOK: // nobody leads, or it was the old one to the last
		default:
			t.Fatalf("got %d %s", followed.status[at], followed.body[at])
		}
	}
}
