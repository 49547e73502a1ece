package browser

import (
	"context"
	"os"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestLogRests shows the end of a log with a long line in windows of many heights: the page
// must come to rest in each. Scrollbars are shown here, as people have them: one that came
// and went with the long line once had the page lay itself out without end.
func TestLogRests(t *testing.T) {
	c := shared(t)
	w := work(t, c, "rests", `for i in $(seq 400); do if [ $i = 360 ]; then head -c 400 /dev/zero | tr '\0' x; echo; else echo line $i; fi; done > rows; sleep 1000`)
	profile, err := os.MkdirTemp("", "clusterd-scroll-") //nolint:usetesting // the browser writes there until it has gone
	if err != nil {
		t.Fatal(err)
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), options(profile)...)
	t.Cleanup(func() {
		stop()
		os.RemoveAll(profile)
	})
	browser, end := chromedp.NewContext(alloc)
	t.Cleanup(end)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	b := blankIn(browser, t, "http://"+follower(t, c).Addr)
	b.goTo("#/agents/" + w.agent + "/frameworks/" + w.framework + "/executors/" + w.executor + "/browse")
	b.press("rows")
	b.sees("line 400", "Following")
	for _, wrap := range []string{"true", "false"} {
		b.press("Wrap")
		b.wait("lines wrap or not", `[...document.querySelectorAll('.log-button')].find((e) => e.innerText === 'Wrap').ariaPressed !== '`+wrap+`'`)
		// What is drawn moves with each change of its style.
		eval[bool](b, `(() => {
			let was = ''
			window.moves = 0
			window.looking?.disconnect()
			window.looking = new MutationObserver((l) => { for (const m of l) { if (m.oldValue !== was) window.moves++; was = m.oldValue } })
			window.looking.observe(document.querySelector('.log-body'), {attributes: true, attributeFilter: ['style'], attributeOldValue: true})
			return true
		})()`)
		first := map[string]bool{}
		for height := int64(600); height <= 800; height += 3 {
			eval[bool](b, `(window.moves = 0, true)`)
			b.do(chromedp.EmulateViewport(1440, height))
			moves := eval[int](b, `new Promise((done) => { let n = 0; const step = () => ++n < 5 ? requestAnimationFrame(step) : done(window.moves); step() })`)
			if moves > 6 {
				t.Errorf("%d pixels high, unwrapped %s: it moved %d times", height, wrap, moves)
			}
			first[eval[string](b, `document.querySelector('.log-line').innerText.slice(0, 10)`)] = true
			if !eval[bool](b, `(() => { const e = document.querySelector('.log-scroll'); return e.scrollTop + e.clientHeight >= e.scrollHeight - 2 })()`) {
				t.Errorf("%d pixels high, unwrapped %s: it is not at its end", height, wrap)
			}
		}
		// Or else the heights above do not show what they are to show.
		if !first["xxxxxxxxxx"] || len(first) < 5 {
			t.Errorf("the long line was not among those that come and go: %v", first)
		}
	}
}

// TestTableScrolls scrolls through a table with many rows: rows show what they stand for, they
// are in order for readers of the screen, and the keyboard is not lost.
func TestTableScrolls(t *testing.T) {
	c := shared(t)
	w := work(t, c, "rows", `for i in $(seq 1000 1399); do touch row$i; done; sleep 1000`)
	b := open(t, "http://"+follower(t, c).Addr, "#/agents/"+w.agent+"/frameworks/"+w.framework+"/executors/"+w.executor+"/browse")
	// Rows that come meanwhile would move the others: 400, two of the sandbox itself, and the head.
	const all = `Number(document.querySelector('.table-scroll')?.ariaRowCount) >= 403`
	b.wait("all files are listed", all)
	const rows = `[...document.querySelectorAll('.table-body [role=row]')]`
	// Every frame while it scrolls, down and up again: no row is missing, none shows another's text.
	const look = `new Promise((done) => {
		const box = document.querySelector('.table-scroll')
		const head = box.querySelector('.table-head').offsetHeight
		const names = new Map()
		const faults = []
		let n = 0
		const step = () => {
			const seen = new Set()
			for (const r of ` + rows + `) {
				const i = Number(r.ariaRowIndex)
				const name = r.innerText.match(/row\d+|std\w+/)?.[0] ?? r.innerText
				if (seen.has(i)) faults.push('twice: ' + i)
				seen.add(i)
				if ((names.get(i) ?? name) !== name) faults.push(i + ' was ' + names.get(i) + ' and is ' + name)
				names.set(i, name)
				const at = r.getBoundingClientRect().top - box.querySelector('.table-body').getBoundingClientRect().top
				if (Math.abs(at - (i - 2) * 38) > 1) faults.push(i + ' is drawn at ' + at)
			}
			const from = Math.floor(box.scrollTop / 38) + 2
			const to = Math.min(Number(box.ariaRowCount), Math.floor((box.scrollTop + box.clientHeight - head - 1) / 38) + 2)
			if (n % 2 === 0) for (let i = from; i <= to; i++) if (!seen.has(i)) faults.push(i + ' is not drawn at ' + box.scrollTop)
			// What was scrolled to in this frame is drawn in the next.
			if (++n >= 160 || faults.length > 5) return done({names: names.size, faults})
			if (n % 2 === 0) box.scrollTop += n < 80 ? 370 : -370
			requestAnimationFrame(step)
		}
		step()
	})`
	type seen struct {
		Names  int
		Faults []string
	}
	if s := eval[seen](b, look); len(s.Faults) > 0 || s.Names < 300 {
		t.Errorf("%d rows were seen; %q", s.Names, s.Faults)
	}
	b.wait("the rows are in order", rows+`.length > 10 && `+rows+`.every((r, i, all) => i === 0 || Number(r.ariaRowIndex) === Number(all[i - 1].ariaRowIndex) + 1)`)

	// A link with the focus scrolls away: it is not made another row's, and the table has the focus.
	b.goTo("#/agents/" + w.agent + "/frameworks/" + w.framework + "/executors/" + w.executor + "/browse")
	b.wait("all files are listed", all)
	eval[bool](b, `(window.link = `+rows+`[3].querySelector('a'), window.text = link.textContent, link.focus(), true)`)
	eval[bool](b, `new Promise((done) => { let n = 0; const step = () => { document.querySelector('.table-scroll').scrollTop += 370; ++n < 20 ? requestAnimationFrame(step) : done(true) }; step() })`)
	b.wait("the table has the focus", `document.activeElement === document.querySelector('.table-scroll')`)
	if is := eval[string](b, `link.isConnected + ' ' + (link.textContent === text)`); is != "false true" {
		t.Errorf("the link with the focus became another row's: it is in the page and says the same: %s", is)
	}
	// The keyboard goes on from there.
	b.keys(kb.End)
	b.wait("the last row is chosen", rows+`.at(-1).ariaSelected === 'true' && document.getElementById(document.activeElement.getAttribute('aria-activedescendant')) === `+rows+`.at(-1)`)
	b.keys(kb.Home)
	b.wait("the first row is chosen", rows+`[0].ariaSelected === 'true' && document.activeElement.getAttribute('aria-activedescendant') === `+rows+`[0].id`)
}
