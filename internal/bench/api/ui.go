package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"clusterd/internal/bench/measure"
)

// viewer is a browser with one page.
type viewer struct {
	ctx  context.Context
	base string
}

// watch notes in the page when it is painted first, and how long frames take.
const watch = `
	window.bench = {frames: []}
	new PerformanceObserver((l) => { for (const e of l.getEntries()) if (e.name === 'first-contentful-paint') window.bench.paint = e.startTime }).observe({type: 'paint', buffered: true})
	window.bench.scroll = (ms) => new Promise((done) => {
		const box = [...document.querySelectorAll('main *')].filter((e) => e.scrollHeight > e.clientHeight + 1000 && /auto|scroll/.test(getComputedStyle(e).overflowY)).sort((a, b) => b.scrollHeight - a.scrollHeight)[0]
		if (!box) { done({rows: -1, deltas: []}); return }
		const deltas = []
		let last = performance.now(), begin = last, down = 1, blank = 0
		const step = (now) => {
			deltas.push(now - last)
			last = now
			if (box.scrollTop + box.clientHeight >= box.scrollHeight - 5) down = -1
			if (box.scrollTop <= 0) down = 1
			box.scrollTop += down * 120 // as a wheel turned fast
			const r = box.getBoundingClientRect()
			const there = document.elementFromPoint(r.x + 60, r.y + r.height / 2)
			if (there === null || there === box || there.innerText === '') blank++
			if (now - begin < ms) requestAnimationFrame(step)
			else done({height: box.scrollHeight, deltas: deltas.slice(2), blank})
		}
		requestAnimationFrame(step)
	})`

// plain makes a page of the simplest table that shows as much as ours: rows of texts that are
// written anew when they come into sight. It is what this machine's browser can do at most.
const plain = `(() => {
	const main = document.createElement('main'), box = document.createElement('div'), body = document.createElement('div')
	main.style.cssText = 'position: absolute; inset: 160px 24px 16px 232px; font: 13px/37px system-ui, sans-serif'
	box.style.cssText = 'position: relative; overflow: auto; height: 100%; background: #fff'
	body.style.cssText = 'position: relative; height: ' + 100000 * 38 + 'px'
	main.append(box)
	box.append(body)
	document.body.replaceChildren(main)
	const rows = Array.from({length: Math.ceil(box.clientHeight / 38) + 20}, () => {
		const row = document.createElement('div')
		row.style.cssText = 'position: absolute; inset: 0 0 auto; height: 38px; contain: strict; display: grid; grid-template-columns: repeat(11, 1fr); border-bottom: 1px solid #ddd; white-space: nowrap'
		for (let c = 0; c < 11; c++) row.append(document.createElement('div'))
		body.append(row)
		return {row, i: -1}
	})
	const draw = () => {
		const from = Math.max(0, Math.floor(box.scrollTop / 152) * 4 - 8)
		for (let i = from; i < from + rows.length; i++) {
			const r = rows[i % rows.length]
			if (r.i === i) continue
			r.i = i
			for (let c = 0; c < 11; c++) r.row.children[c].textContent = 'text ' + i + '.' + c
			r.row.style.transform = 'translateY(' + i * 38 + 'px)'
		}
	}
	box.addEventListener('scroll', draw, {passive: true})
	draw()
	return true
})()`

// benchUI measures the web UI on a large cluster, in Debian's chromium without a screen: its
// frames are drawn by the processor, which it shares with the master and all agents.
func benchUI(ctx context.Context, s *settings) ([]measure.Row, error) {
	if _, err := exec.LookPath("chromium"); err != nil {
		fmt.Fprintln(s.progress, "the web UI is not measured without chromium (scripts/chromium.sh)")
		return nil, nil
	}
	w, err := s.large(ctx)
	if err != nil {
		return nil, err
	}
	alloc, stop := chromedp.NewExecAllocator(ctx, chromedp.ExecPath("chromium"), chromedp.NoFirstRun, chromedp.NoSandbox,
		chromedp.Flag("headless", true), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("enable-precise-memory-info", true), chromedp.UserDataDir(filepath.Join(s.dir, "chromium")), chromedp.WSURLReadTimeout(2*time.Minute))
	defer stop()
	tab, end := chromedp.NewContext(alloc)
	defer end()
	if err := chromedp.Do(tab, chromedp.EmulateViewport(1440, 900)); err != nil {
		return nil, fmt.Errorf("start chromium: %w", err)
	}
	v := &viewer{ctx: tab, base: "http://" + w.c.Master.Addr}
	if _, err := chromedp.Call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch}); err != nil {
		return nil, err
	}
	rows, err := v.load(s)
	if err != nil {
		return rows, err
	}
	for _, t := range []struct{ path, what string }{{"#/agents", fmt.Sprintf("%d agents", s.agents)}, {"#/tasks", fmt.Sprintf("%d tasks", s.tasks)}} {
		row, err := v.scroll(t.path, "scrolling the table of "+t.what)
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
	}
	more, err := v.updates(ctx, s, w)
	rows = append(rows, more...)
	if err != nil {
		return rows, err
	}
	floor, err := v.floor()
	return append(rows, floor), err
}

// load measures from the first byte to the whole cluster.
func (v *viewer) load(s *settings) ([]measure.Row, error) {
	if _, err := chromedp.Call(v.ctx, network.Enable, network.EnableParams{}); err != nil {
		return nil, err
	}
	if err := chromedp.Do(v.ctx, chromedp.Navigate(v.base+"/#/")); err != nil {
		return nil, err
	}
	if err := v.until(`window.bench.paint > 0`); err != nil {
		return nil, err
	}
	// The overview names the number of agents when it has all of them.
	if err := v.until(`document.querySelector('.light-live') !== null && document.querySelector('main .skeleton') === null`); err != nil {
		return nil, err
	}
	type figures struct {
		Paint, Live, Summary, Heap float64
		Script, Scripts            float64
		Body                       float64
	}
	f, err := evaluate[figures](v, `(() => {
		const all = performance.getEntriesByType('resource')
		const js = all.filter((e) => e.name.endsWith('.js'))
		const sum = all.find((e) => e.name.includes('/summary'))
		return {Paint: window.bench.paint, Live: performance.now(), Summary: sum?.responseEnd ?? 0, Body: sum?.encodedBodySize ?? 0,
			Script: js.reduce((n, e) => n + e.encodedBodySize, 0), Scripts: js.length, Heap: performance.memory.usedJSHeapSize}
	})()`)
	if err != nil {
		return nil, err
	}
	return []measure.Row{
		{What: fmt.Sprintf("web UI, %d agents, %d tasks: first paint", s.agents, 2*s.tasks), Value: msOf(f.Paint), Target: "< 1 s", Note: "cold cache"},
		{What: "- the summary has come", Value: msOf(f.Summary), Note: megabytes(f.Body) + " compressed"},
		{What: "- the overview shows all of it", Value: msOf(f.Live), Note: "looked at every 50 ms"},
		{What: "- script loaded for it, compressed", Value: fmt.Sprintf("%.0f kB", f.Script/1e3), Target: "≤ 250 kB", Note: fmt.Sprintf("%.0f files", f.Scripts)},
		{What: "- JavaScript's heap", Value: megabytes(f.Heap), Note: "with garbage"},
	}, nil
}

// scroll turns the wheel for five seconds.
func (v *viewer) scroll(path, what string) (measure.Row, error) {
	if err := chromedp.Do(v.ctx, chromedp.Navigate(v.base+"/"+path)); err != nil {
		return measure.Row{}, err
	}
	if err := v.until(`document.querySelector('main [role=row] a, main [role=row] [role=cell], main [role=row] [role=gridcell]') !== null && document.querySelector('main .skeleton') === null`); err != nil {
		return measure.Row{}, err
	}
	return v.frames(what, "60 fps")
}

// floor scrolls a table that is as simple as can be.
func (v *viewer) floor() (measure.Row, error) {
	if err := chromedp.Do(v.ctx, chromedp.Navigate("about:blank")); err != nil {
		return measure.Row{}, err
	}
	if _, err := evaluate[bool](v, plain); err != nil {
		return measure.Row{}, err
	}
	return v.frames("scrolling a table of plain texts, for comparison", "")
}

// frames scrolls what the page shows, and counts frames.
func (v *viewer) frames(what, target string) (measure.Row, error) {
	type moves struct {
		Height, Blank float64
		Deltas        []float64
	}
	m, err := evaluate[moves](v, `window.bench.scroll(5000)`)
	if err != nil {
		return measure.Row{}, err
	}
	if len(m.Deltas) < 2 {
		return measure.Row{}, fmt.Errorf("%s: there is nothing to scroll", what)
	}
	sum := 0.0
	for _, d := range m.Deltas {
		sum += d
	}
	sort.Float64s(m.Deltas)
	return measure.Row{
		What: what, Value: fmt.Sprintf("%.1f fps", 1000*float64(len(m.Deltas))/sum), Target: target,
		Note: fmt.Sprintf("frames p50 %.1f, p99 %.1f, most %.1f ms; %.0f of %d with nothing drawn in the middle",
			m.Deltas[len(m.Deltas)/2], m.Deltas[len(m.Deltas)*99/100], m.Deltas[len(m.Deltas)-1], m.Blank, len(m.Deltas)),
	}, nil
}

// updates has tasks change their states, and looks how many the open page of tasks takes.
func (v *viewer) updates(ctx context.Context, s *settings, w *world) ([]measure.Row, error) {
	if _, err := evaluate[bool](v, `(window.bench.scroll(`+fmt.Sprint(s.length.Milliseconds()+500)+`).then((r) => (window.bench.during = r)), true)`); err != nil {
		return nil, err
	}
	timed, stop := context.WithTimeout(ctx, s.length)
	begin := time.Now()
	sent, err := w.flip(timed, min(s.rate, 1000))
	stop()
	if err != nil {
		return nil, err
	}
	rate := float64(sent) / time.Since(begin).Seconds()
	if err := v.until(`window.bench.during !== undefined`); err != nil {
		return nil, err
	}
	fps, err := evaluate[float64](v, `1000 * window.bench.during.deltas.length / window.bench.during.deltas.reduce((a, b) => a + b, 0)`)
	if err != nil {
		return nil, err
	}
	heap, err := evaluate[float64](v, `performance.memory.usedJSHeapSize`)
	return []measure.Row{
		{What: fmt.Sprintf("- scrolling it while %.0f tasks a second change", rate), Value: fmt.Sprintf("%.1f fps", fps), Target: "60 fps", Note: "JavaScript's heap then " + megabytes(heap)},
	}, err
}

// until waits until an expression is true.
func (v *viewer) until(expression string) error {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		ok, err := evaluate[bool](v, "Boolean("+expression+")")
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
	}
	text, err := evaluate[string](v, `document.body.innerText.slice(0, 2000)`)
	return errors.Join(err, fmt.Errorf("waited in vain for %s; the page says %s", expression, strings.Join(strings.Fields(text), " ")))
}

func evaluate[T any](v *viewer, expression string) (T, error) {
	return chromedp.Run(v.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

func msOf(n float64) string { return ms(time.Duration(n * float64(time.Millisecond))) }
