package browser

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"clusterd/internal/testcluster"
)

// traffic is what a window asks for.
type traffic struct {
	mu      sync.Mutex
	sockets []string
	streams []string // requests for streams that do not go by a websocket
}

func (n *traffic) event(ev any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventWebSocketCreated:
		n.sockets = append(n.sockets, ev.URL)
	case *network.EventRequestWillBeSent:
		if strings.Contains(ev.Request.URL, "/v1/events?") || strings.Contains(ev.Request.URL, "/v1/live?") {
			n.streams = append(n.streams, ev.Request.URL)
		}
	}
}

// window opens another window beside a tab: with the same cookies, and with the same
// connections.
func (b *tab) window() (*tab, *traffic) {
	b.t.Helper()
	n, asked := &tab{t: b.t, base: b.base}, new(traffic)
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithListener(func(ev any) {
		n.event(ev)
		asked.event(ev)
	}))
	b.t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		b.t.Fatalf("open a window: %v", err)
	}
	n.ctx, cancel = context.WithTimeout(ctx, 10*testcluster.Patience)
	b.t.Cleanup(cancel)
	b.t.Cleanup(n.quiet)
	call(n, network.Enable, network.EnableParams{})
	return n, asked
}

// TestManyWindows opens more windows on one master than a browser opens connections to a
// host: each shows at once what happens, and asks for what it needs.
func TestManyWindows(t *testing.T) {
	c := shared(t)
	const windows = 8
	first := blank(t, "http://"+follower(t, c).Addr)
	var all []*tab
	var asked []*traffic
	for range windows {
		b, a := first.window()
		b.goTo("#/tasks")
		b.wait("it is live", `document.querySelector('.light-live') !== null`)
		all, asked = append(all, b), append(asked, a)
	}
	for i, b := range all {
		if got := eval[string](b, "document.visibilityState"); got != "visible" {
			t.Fatalf("window %d is %s: its streams may be closed", i, got)
		}
	}
	work(t, c, "seen-by-all", "sleep 1000")
	for _, b := range all {
		b.sees("seen-by-all", "running")
	}
	// Documents that are watched come to all, too: here the members of the registry.
	for _, b := range all {
		eval[string](b, `(location.hash = '#/registry')`)
	}
	leader, err := c.Leader()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		b.sees(leader.Addr[strings.LastIndexByte(leader.Addr, ':'):], "voting masters answer")
		if got := eval[int](b, `fetch('version').then((r) => r.status)`); got != 200 {
			t.Errorf("got %d", got)
		}
	}
	for i, a := range asked {
		a.mu.Lock()
		if len(a.sockets) != 1 || len(a.streams) != 0 {
			t.Errorf("window %d has opened %q and asked for %q, want one websocket alone", i, a.sockets, a.streams)
		}
		a.mu.Unlock()
	}
}

// TestSessionOfAllWindows: who logs in or out does so in all windows.
func TestSessionOfAllWindows(t *testing.T) {
	base, w := guarded(t, newProvider(t))
	page := "#/tasks/" + w.framework + "/" + w.task
	first := open(t, base, page)
	second, _ := first.window()
	second.goTo(page)
	for _, b := range []*tab{first, second} {
		b.allow("status of 401")
		b.sees("Log in to see this cluster")
	}
	first.fill("Name", "ops")
	first.fill("Password", "ops-secret")
	first.press("Log in")
	for _, b := range []*tab{first, second} {
		b.sees("secret-work", "running")
		b.wait("the session is that of ops", control("Session of ops"))
	}
	second.press("Session of ops")
	second.press("Log out")
	for _, b := range []*tab{second, first} {
		b.sees("Log in to see this cluster")
		b.seesNot("secret-work")
	}
	second.fill("Name", "guest")
	second.fill("Password", "guest-secret")
	second.press("Log in")
	for _, b := range []*tab{first, second} {
		b.sees("secret-work", "running")
		b.wait("the session is that of the guest", control("Session of guest"))
		if eval[bool](b, "Boolean("+control("Kill")+")") {
			t.Error("there is a button to kill the task for who may not")
		}
	}
}
