package browser

import (
	"context"
	"fmt"
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
	console []string // the last lines that pages wrote, of any kind
	shown   bool     // evidence of a failure was given
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
	return blankIn(browser, t, base, size...)
}

// blankIn is blank in a certain browser.
func blankIn(browser context.Context, t testing.TB, base string, size ...int64) *tab {
	t.Helper()
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
			b.evidence()
		}
	})
	call(b, network.Enable, network.EnableParams{})
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: toasts})
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
		b.noted("exception: " + text)
		b.fault("exception: " + text)
	case *runtime.EventConsoleAPICalled:
		text := "console:"
		for _, a := range ev.Args {
			text += " " + string(a.Value) + a.Description
		}
		b.noted(string(ev.Type) + " " + text)
		if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeAssert {
			b.fault(text)
		}
	case *log.EventEntryAdded:
		b.noted(string(ev.Entry.Level) + " log: " + ev.Entry.Text + " " + ev.Entry.URL)
		// Failed requests, and breaches of the content security policy, are here.
		if ev.Entry.Level == log.EntryLevelError || ev.Entry.Source == log.EntrySourceSecurity {
			b.fault("log: " + ev.Entry.Text + " " + ev.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if !b.mayAsk(ev.Request.URL) {
			b.fault("request to another address: " + ev.Request.URL)
		}
	case *network.EventWebSocketCreated:
		// ws: is http:, and wss: https:.
		if !b.mayAsk(strings.Replace(ev.URL, "ws", "http", 1)) {
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

// noted keeps the last lines that pages wrote, those too that are no faults.
func (b *tab) noted(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	const most = 40
	b.console = append(b.console, line)
	b.console = b.console[max(0, len(b.console)-most):]
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

// in has a test within the test go on with the tab.
func (b *tab) in(t testing.TB) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.t, b.shown = t, false
}

// bounded is for one thing that the browser is asked to do: a page that hangs, or asks before
// it is left, must not take all of the tests' time.
func (b *tab) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(b.ctx, 2*testcluster.Patience)
}

// do performs actions, or fails the test.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := b.bounded()
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.fatalf("%v", err)
	}
}

// fatalf fails the test, with what can be seen at that moment.
func (b *tab) fatalf(format string, args ...any) {
	b.t.Helper()
	b.evidence()
	b.t.Fatalf(format, args...)
}

// call sends the browser a command of its protocol.
func call[P, R any](b *tab, cmd cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := b.bounded()
	defer cancel()
	res, err := chromedp.Call(ctx, cmd, params)
	if err != nil {
		b.fatalf("%s: %v", cmd.Method, err)
	}
	return res
}

// drawn says in JavaScript that a page is there, and no part of it is still loading.
const drawn = `document.querySelector('main h1') !== null && document.querySelector('main [aria-busy=true], main .skeleton') === null`

// goTo opens a path of the UI and waits until its page is drawn.
func (b *tab) goTo(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + "/" + path))
	b.settles("the page of "+path, drawn)
}

// settles waits until a page is there. Another path of the UI leaves the document as it is: for a
// moment the page before it stands there, drawn as well, and the focus goes to the title of the
// new one only after that.
func (b *tab) settles(what, there string) {
	b.t.Helper()
	frame := `new Promise((done) => { requestAnimationFrame(() => setTimeout(() => done(true))); setTimeout(() => done(true), 1000) })`
	for range 2 {
		ctx, cancel := b.bounded()
		for range 2 { // a page that is just being left has no answer
			_, _ = chromedp.Run(ctx, chromedp.Evaluate[bool](frame, chromedp.EvalAwaitPromise))
		}
		cancel()
		b.wait(what+" is drawn", there)
	}
}

// eval returns what a JavaScript expression gives; promises are awaited.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := b.bounded()
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.fatalf("evaluate %s: %v", expression, err)
	}
	return v
}

// wait waits until a JavaScript expression is true.
func (b *tab) wait(what, expression string) {
	b.t.Helper()
	deadline := time.Now().Add(testcluster.Patience)
	ctx, cancel := b.bounded()
	defer cancel()
	for time.Now().Before(deadline) {
		// A page that is just being left has no answer.
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && ok {
			return
		}
		if ctx.Err() != nil {
			b.fatalf("wait until %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.fatalf("waited in vain until %s", what)
}

// toasts has a page remember what its short messages said: they vanish after a few seconds, in
// which a test on a busy machine may not come to look. A click forgets them.
const toasts = `window.told = []
new MutationObserver((changes) => {
	for (const {addedNodes} of changes) for (const n of addedNodes) {
		if (n instanceof Element) window.told.push(...(n.matches('.toast') ? [n] : [...n.querySelectorAll('.toast')]).map((e) => e.textContent))
	}
}).observe(document, {subtree: true, childList: true})`

// sees waits until the page shows all the texts, in capitals or not, or has said them since the
// last click.
func (b *tab) sees(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.wait("it shows "+text, "[document.body.innerText, ...(window.told ?? [])].join('\\n').toLowerCase().includes("+quote(strings.ToLower(text))+")")
	}
}

// seesNot waits until the page shows none of the texts.
func (b *tab) seesNot(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.wait("it no longer shows "+text, "!document.body.innerText.toLowerCase().includes("+quote(strings.ToLower(text))+")")
	}
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
// it is there, stands still, and nothing covers it. A page may draw it anew, or move it, between
// the look and the click: what the click has met is seen in the page, and it is done again if
// that was something else.
func (b *tab) clickOn(find string) {
	b.t.Helper()
	b.wait("there is something to press: "+find, `Boolean(`+find+`)`)
	for deadline := time.Now().Add(testcluster.Patience); time.Now().Before(deadline); {
		if b.tryClick(find) {
			return
		}
	}
	b.fatalf("clicked in vain on %s", find)
}

// tryClick does what clickOn does if it can be done now.
func (b *tab) tryClick(find string) bool {
	b.t.Helper()
	look := `(() => {
		const e = ` + find + `
		const r = e?.getBoundingClientRect()
		const was = window.pressed?.at ?? []
		const at = r && [r.x + r.width / 2, r.y + r.height / 2]
		window.pressed = at && {at, hit: false}
		if (!e) return false
		if (r.top < 0 || r.left < 0 || r.bottom > innerHeight || r.right > innerWidth) e.scrollIntoView({block: 'center', inline: 'nearest', behavior: 'instant'})
		const there = document.elementFromPoint(at[0], at[1])
		if (was[0] !== at[0] || was[1] !== at[1] || there === null || !(e.contains(there) || there.closest('label') === e)) return false
		const mine = window.pressed
		addEventListener('click', (ev) => { mine.hit ||= ev.composedPath().includes(e) }, {capture: true, once: true})
		window.told = []
		return true
	})()`
	still := false
	for range 3 { // it stands still if it is found twice in a row at the same place
		// A page that is just being left has no answer.
		if ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](look)); err == nil && ok {
			still = true
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if !still {
		return false
	}
	at := eval[[]float64](b, `window.pressed?.at ?? []`)
	if len(at) != 2 {
		return false
	}
	b.do(chromedp.MouseClickXY(at[0], at[1]))
	// A click that has left the page has met what it should.
	return eval[bool](b, `(() => { const p = window.pressed; delete window.pressed; return p === undefined || p.hit })()`)
}

// choose opens the menu and clicks what it offers. A menu closes by itself when the page
// scrolls: it is opened again then.
func (b *tab) choose(menu, item string) {
	b.t.Helper()
	b.chooseFrom(control(menu), item)
}

// chooseFrom does so with the menu that a JavaScript expression finds.
func (b *tab) chooseFrom(menu, item string) {
	b.t.Helper()
	for deadline := time.Now().Add(testcluster.Patience); time.Now().Before(deadline); {
		if !eval[bool](b, `Boolean(`+control(item)+`)`) {
			b.clickOn(menu)
		}
		if b.tryClick(control(item)) {
			return
		}
	}
	b.fatalf("the menu does not offer %q", item)
}

// field is a JavaScript expression for the form field with the label that can be reached.
func field(label string) string {
	return `[...` + inFront + `.querySelectorAll('label, input[aria-label]')].map((l) => [l, l.control === undefined ? l : l.control]).find(([l, c]) =>
		c && c.checkVisibility() && c.matches('input, select, textarea') && (l === c ? l.getAttribute('aria-label') : l.innerText).trim().toLowerCase().startsWith(` + quote(strings.ToLower(label)) + `))?.[1]`
}

// fill types into the field with the label, or ticks it. It looks whether that is what stands
// there then, and does it again if not: a dialog that has just opened may take the focus away.
func (b *tab) fill(label, text string) {
	b.t.Helper()
	find := field(label)
	b.wait("there is a field "+label, find)
	kind := eval[string](b, `(`+find+`).tagName + ' ' + (`+find+`).type`)
	done := `(` + find + `)?.value === ` + quote(text)
	enter := func() {
		b.wait("the field "+label+" has the focus", `(() => { const e = `+find+`; if (!e) return false; e.focus(); if (e.select) e.select(); return document.activeElement === e })()`)
		b.keys(text)
	}
	switch {
	case strings.HasPrefix(kind, "SELECT"), strings.HasSuffix(kind, "datetime-local"):
		enter = func() {
			b.wait("the field "+label+" takes it", `(() => { const e = `+find+`; if (!e) return false; e.value = `+quote(text)+`; e.dispatchEvent(new Event('input', {bubbles: true})); e.dispatchEvent(new Event('change', {bubbles: true})); return true })()`)
		}
	case strings.HasSuffix(kind, "checkbox"):
		done = fmt.Sprintf("(%s)?.checked === %t", find, !eval[bool](b, "("+find+").checked"))
		enter = func() { b.clickOn(find) }
	}
	for deadline := time.Now().Add(testcluster.Patience); time.Now().Before(deadline); {
		enter()
		if eval[bool](b, "Boolean("+done+")") {
			return
		}
	}
	b.fatalf("%q cannot be put into the field %s", text, label)
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

// evidence logs, once, what a page whose test fails looks like: a picture of it, which stays
// when the test is over, its text, and what it wrote to the console.
func (b *tab) evidence() {
	b.t.Helper()
	b.mu.Lock()
	again, console := b.shown, strings.Join(b.console, "\n")
	b.shown = true
	b.mu.Unlock()
	if again {
		return
	}
	// The tab's own time may be over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 20*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + '\n' + document.body.innerText`))
	if err != nil {
		text = err.Error()
	}
	picture := "none"
	if res, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{}); err != nil {
		picture += ": " + err.Error()
	} else if file, err := keep(b.t.Name(), res.Data); err != nil {
		picture += ": " + err.Error()
	} else {
		picture = file
	}
	const most = 6000
	b.t.Logf("the page as it was, picture %s:\n%s\nits console:\n%s", picture, text[:min(len(text), most)], console)
}

// keep writes a picture to $CLUSTERD_PICTURES, or beside the temporary files.
func keep(test string, picture []byte) (string, error) {
	dir := os.Getenv("CLUSTERD_PICTURES")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "clusterd-browser-failures")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // pictures of tests are no secrets
		return "", err
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, test)
	file := filepath.Join(dir, name+".png")
	return file, os.WriteFile(file, picture, 0o600)
}
