package browser

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// focused is, in JavaScript, what has the focus, for people.
const focused = `(document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText ?? '').trim()`

// TestKeyboard does without a mouse: it reaches every page, sees where the focus is, works
// tables, menus, dialogs and the palette.
func TestKeyboard(t *testing.T) {
	c := shared(t)
	w := work(t, c, "keyed", "sleep 1000")
	base := "http://" + follower(t, c).Addr
	b := open(t, base, "#/")

	// Every page has keys of its own.
	for key, title := range map[string]string{
		"a": "Agents", "f": "Frameworks", "t": "Tasks", "r": "Roles", "e": "Offers", "m": "Maintenance", "y": "Registry", "x": "Metrics", "l": "Flags", "o": "",
	} {
		b.keys("g" + key)
		b.wait("g "+key+" leads to "+title, drawn+` && document.querySelector('main h1').innerText.startsWith(`+quote(title)+`)`)
	}
	// The whole page can be walked through, and one sees where one is.
	b.goTo("#/agents")
	b.tabThrough()

	// A table: down, and open.
	b.goTo("#/tasks")
	b.sees("keyed")
	b.keys("/")
	b.wait("the filter has the focus", `document.activeElement.matches('input')`)
	b.keys("keyed" + kb.Escape)
	b.goTo("#/tasks?q=keyed")
	b.sees("keyed")
	eval[bool](b, `(document.activeElement.blur(), true)`)
	b.keys("j" + kb.Enter)
	b.wait("Enter opens the row", `location.hash === `+quote("#/tasks/"+w.framework+"/"+w.task)+` && `+drawn)

	// A menu, a dialog: arrows, Enter, Escape; the focus comes back.
	b.goTo("#/agents/" + w.agent)
	b.tabTo(control("Actions"))
	b.keys(kb.Enter)
	b.wait("the menu has the focus", `document.activeElement.matches('[role=menuitem]')`)
	b.keys(kb.ArrowDown + kb.Enter)
	b.wait("the dialog is open and has the focus", `document.querySelector('dialog[open]')?.contains(document.activeElement)`)
	for range 20 {
		b.keys(kb.Tab)
		if !eval[bool](b, `document.activeElement === document.body || document.querySelector('dialog[open]').contains(document.activeElement)`) {
			t.Fatalf("the focus leaves the dialog: %s", eval[string](b, focused))
		}
	}
	b.keys(kb.Escape)
	b.wait("the dialog is closed", `document.querySelector('dialog[open]') === null`)

	// The palette finds a task and goes there.
	b.keys("k", chromedp.ModifierCtrl)
	b.wait("the palette is open", `document.activeElement.matches('[role=combobox]')`)
	b.keys("keyed")
	b.sees(w.task)
	b.wait("something is chosen", `document.querySelector('[role=option][aria-selected=true]') !== null`)
	for range 5 {
		if eval[bool](b, `document.querySelector('[role=option][aria-selected=true]').innerText.includes(`+quote(w.task)+`)`) {
			break
		}
		b.keys(kb.ArrowDown)
	}
	b.keys(kb.Enter)
	b.wait("the palette leads to the task", `location.hash === `+quote("#/tasks/"+w.framework+"/"+w.task))
}

// tabTo presses Tab until an element has the focus.
func (b *tab) tabTo(find string) {
	b.t.Helper()
	b.wait("it is there", find)
	for range 100 {
		if eval[bool](b, "document.activeElement === "+find) {
			return
		}
		b.keys(kb.Tab)
	}
	b.fatalf("Tab does not lead to %s", find)
}

// tabThrough presses Tab until it comes round: each element that gets the focus shows it.
func (b *tab) tabThrough() {
	b.t.Helper()
	eval[bool](b, `(document.activeElement.blur(), window.visited = new Set(), true)`)
	n := 0
	for ; n < 150; n++ {
		b.keys(kb.Tab)
		at := eval[struct {
			Body, Again, Seen bool
			What              string
		}](b, `(() => {
			const e = document.activeElement
			if (e === document.body) return {Body: true}
			const again = window.visited.has(e)
			window.visited.add(e)
			const ring = (s) => (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== 'none'
			const r = e.getBoundingClientRect()
			// Titles are focused by the page, not by Tab, and need no ring.
			return {Again: again, Seen: e.tabIndex < 0 || e.checkVisibility() && r.width > 0 && (ring(getComputedStyle(e)) || ring(getComputedStyle(e.parentElement))), What: e.outerHTML.slice(0, 200)}
		})()`)
		if at.Body || at.Again {
			break
		}
		if !at.Seen {
			b.t.Errorf("one does not see that the focus is on %s", at.What)
		}
	}
	if n < 15 {
		b.t.Errorf("Tab leads to %d elements only", n)
	}
}
