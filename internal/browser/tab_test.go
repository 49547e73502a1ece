package browser

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"clusterd/internal/testcluster"
)

// tab is a page that is looked at.
type tab struct {
	t    testing.TB
	ctx  context.Context
	base string // http://host:port of the master that is asked

	mu      sync.Mutex
	faults  []string
	forgive []string // parts of faults that the test brings about itself
	hosts   []string // further addresses that the page may ask
}

// open opens a tab with a browser context of its own (cookies, storage) at a path such as
// "#/agents" of a master.
func open(t testing.TB, base, path string) *tab {
	t.Helper()
	b := blank(t, base)
	b.goTo(path)
	return b
}

// blank opens a tab that shows nothing yet, 1440x900 unless another size is given.
func blank(t testing.TB, base string, size ...int64) *tab {
	t.Helper()
	browser, err := first()
	if err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	b := &tab{t: t, base: base}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(b.event))
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	b.ctx, cancel = context.WithTimeout(ctx, 10*testcluster.Patience)
	t.Cleanup(cancel)
	t.Cleanup(func() {
		b.t = t
		b.quiet()
		if t.Failed() {
			b.shoot()
		}
	})
	call(b, network.Enable, network.EnableParams{})
	if len(size) != 2 {
		size = []int64{1440, 900}
	}
	b.do(chromedp.EmulateViewport(size[0], size[1]))
	return b
}

// event looks for what no page may do. It must not wait for the browser.
func (b *tab) event(ev any) {
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		text := ev.ExceptionDetails.Text
		if e := ev.ExceptionDetails.Exception; e != nil {
			text += " " + e.Description
		}
		b.fault("exception: " + text)
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeAssert {
			text := "console:"
			for _, a := range ev.Args {
				text += " " + string(a.Value) + a.Description
			}
			b.fault(text)
		}
	case *log.EventEntryAdded:
		// Failed requests, and breaches of the content security policy, are here.
		if ev.Entry.Level == log.EntryLevelError || ev.Entry.Source == log.EntrySourceSecurity {
			b.fault("log: " + ev.Entry.Text + " " + ev.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if !b.mayAsk(ev.Request.URL) {
			b.fault("request to another address: " + ev.Request.URL)
		}
	case *network.EventWebSocketCreated:
		if !b.mayAsk(strings.Replace(ev.URL, "ws://", "http://", 1)) {
			b.fault("connection to another address: " + ev.URL)
		}
	}
}

// mayAsk says whether a page may ask for an address: that of the cluster alone.
func (b *tab) mayAsk(address string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, own := range append([]string{b.base + "/", "data:", "blob:", "about:blank"}, b.hosts...) {
		if strings.HasPrefix(address, own) {
			return true
		}
	}
	return false
}

func (b *tab) fault(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.forgive {
		if strings.Contains(text, f) {
			return
		}
	}
	b.faults = append(b.faults, text)
}

// seen returns the faults so far, and forgets them.
func (b *tab) seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.faults
	b.faults = nil
	return list
}

// quiet fails the test if the page did what it may not.
func (b *tab) quiet() {
	b.t.Helper()
	for _, f := range b.seen() {
		b.t.Errorf("a fault of the page: %s", f)
	}
}

// allow lets faults with one of the texts pass from now on: the test brings them about.
func (b *tab) allow(texts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgive = append(b.forgive, texts...)
}

// do performs actions, or fails the test.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// call sends the browser a command of its protocol.
func call[P, R any](b *tab, cmd cdp.Command[P, R], params P) R {
	b.t.Helper()
	res, err := chromedp.Call(b.ctx, cmd, params)
	if err != nil {
		b.t.Fatalf("%s: %v", cmd.Method, err)
	}
	return res
}

// drawn says in JavaScript that a page is there, and no part of it is still loading.
const drawn = `document.querySelector('main h1') !== null && document.querySelector('main [aria-busy=true], main .skeleton') === null`

// goTo opens a path of the UI and waits until its page is drawn.
func (b *tab) goTo(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + "/" + path))
	b.wait("the page of "+path+" is drawn", drawn)
}

// eval returns what a JavaScript expression gives; promises are awaited.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return v
}

// wait waits until a JavaScript expression is true.
func (b *tab) wait(what, expression string) {
	b.t.Helper()
	deadline := time.Now().Add(testcluster.Patience)
	for time.Now().Before(deadline) {
		// A page that is just being left has no answer.
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && ok {
			return
		}
		if b.ctx.Err() != nil {
			b.t.Fatalf("wait until %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.t.Fatalf("waited in vain until %s; the page says:\n%s", what, b.text())
}

// sees waits until the page shows all the texts, in capitals or not.
func (b *tab) sees(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.wait("it shows "+text, "document.body.innerText.toLowerCase().includes("+quote(strings.ToLower(text))+")")
	}
}

// seesNot waits until the page shows none of the texts.
func (b *tab) seesNot(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.wait("it no longer shows "+text, "!document.body.innerText.toLowerCase().includes("+quote(strings.ToLower(text))+")")
	}
}

// text is all text of the page.
func (b *tab) text() string {
	s, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
	if err != nil {
		return err.Error()
	}
	return s
}

// inFront is, in JavaScript, what can be reached: the open dialog, or the page.
const inFront = `([...document.querySelectorAll('dialog[open]')].at(-1) ?? document)`

// control is a JavaScript expression for the visible button, link, menu item or tab with the
// name that can be reached.
func control(name string) string {
	return `[...` + inFront + `.querySelectorAll('[role^=menuitem], [role=option], [role=tab], button, a, label')].find(e =>
		e.checkVisibility() && !e.disabled && ((e.getAttribute('aria-label') ?? '') === ` + quote(name) + ` || e.innerText.trim().toLowerCase() === ` + quote(strings.ToLower(name)) + `))`
}

// press clicks the control with the name.
func (b *tab) press(name string) {
	b.t.Helper()
	b.clickOn(control(name))
}

// clickOn clicks an element, which a JavaScript expression finds, with the mouse: as soon as
// it is there, stands still, and nothing covers it.
func (b *tab) clickOn(find string) {
	b.t.Helper()
	b.wait("there is something to press: "+find, `(() => {
		const e = `+find+`
		const r = e?.getBoundingClientRect()
		const was = window.pressed ?? []
		window.pressed = r && [r.x + r.width / 2, r.y + r.height / 2]
		if (!e) return false
		if (r.top < 0 || r.left < 0 || r.bottom > innerHeight || r.right > innerWidth) e.scrollIntoView({block: 'center', inline: 'nearest', behavior: 'instant'})
		const there = document.elementFromPoint(window.pressed[0], window.pressed[1])
		return was[0] === window.pressed[0] && was[1] === window.pressed[1] && there !== null && (e.contains(there) || there.closest('label') === e)
	})()`)
	at := eval[[]float64](b, `(() => { const p = window.pressed; delete window.pressed; return p })()`)
	b.do(chromedp.MouseClickXY(at[0], at[1]))
}

// fill types into the field with the label.
func (b *tab) fill(label, text string) {
	b.t.Helper()
	find := `[...` + inFront + `.querySelectorAll('label, input[aria-label]')].map((l) => [l, l.control === undefined ? l : l.control]).find(([l, c]) =>
		c && c.checkVisibility() && c.matches('input, select, textarea') && (l === c ? l.getAttribute('aria-label') : l.innerText).trim().toLowerCase().startsWith(` + quote(strings.ToLower(label)) + `))?.[1]`
	b.wait("there is a field "+label, find)
	kind := eval[string](b, `(() => { const e = `+find+`; e.focus(); if (e.select) e.select(); return e.tagName + ' ' + e.type })()`)
	switch {
	case strings.HasPrefix(kind, "SELECT"), strings.HasSuffix(kind, "datetime-local"):
		eval[bool](b, `(() => { const e = document.activeElement; e.value = `+quote(text)+`; e.dispatchEvent(new Event('input', {bubbles: true})); e.dispatchEvent(new Event('change', {bubbles: true})); return true })()`)
	case strings.HasSuffix(kind, "checkbox"):
		b.clickOn("document.activeElement")
	default:
		b.keys(text)
	}
}

// keys types, as a keyboard does: a key whose event a page takes for itself types nothing.
// Special keys are those of chromedp/kb.
func (b *tab) keys(keys string, modifiers ...chromedp.Modifier) {
	b.t.Helper()
	for _, r := range keys {
		var down, up *input.DispatchKeyEventParams
		for _, p := range kb.Encode(r) {
			switch {
			case down == nil:
				down = p
			case p.Type == input.DispatchKeyEventTypeChar && len(modifiers) == 0:
				down.Text, down.UnmodifiedText = p.Text, p.UnmodifiedText
			case p.Type == input.DispatchKeyEventTypeKeyUp:
				up = p
			}
		}
		for _, m := range modifiers {
			down.Modifiers |= int64(m)
		}
		down.Type = input.DispatchKeyEventTypeRawKeyDown
		if down.Text != "" {
			down.Type = input.DispatchKeyEventTypeKeyDown
		}
		call(b, input.DispatchKeyEvent, *down)
		call(b, input.DispatchKeyEvent, *up)
	}
}

// shoot keeps a picture of a page whose test failed.
func (b *tab) shoot() {
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	res, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{})
	if err != nil {
		return
	}
	file := filepath.Join(b.t.ArtifactDir(), "page.png")
	if os.WriteFile(file, res.Data, 0o600) == nil {
		b.t.Logf("the page as it was: %s", file)
	}
}
