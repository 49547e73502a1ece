package browser

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// axe is a tool that finds what people with disabilities cannot use; npm installs it for the
// build of the UI.
const axe = "../../ui/node_modules/axe-core/axe.min.js"

// violation is something that axe finds.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct {
		HTML           string
		FailureSummary string
	}
}

// TestAccessible runs axe on every page and on dialogs: light and dark, on a wide screen and
// on a telephone; there the page must not scroll sideways either.
func TestAccessible(t *testing.T) {
	c := shared(t)
	script, err := os.ReadFile(filepath.FromSlash(axe))
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("axe-core is not installed (make ui): ", err)
	}
	w := work(t, c, "web", "for i in $(seq 100000); do echo line $i; sleep 0.2; done", "--role=batch")
	base := "http://" + follower(t, c).Addr
	for _, colours := range []string{"light", "dark"} {
		for _, size := range [][]int64{{1440, 900}, {360, 740}} {
			t.Run(fmt.Sprintf("%s %d", colours, size[0]), func(t *testing.T) {
				b := blank(t, base, size...)
				call(b, page.SetBypassCSP, page.SetBypassCSPParams{Enabled: true}) // for axe alone
				call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: string(script)})
				call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
					{Name: "prefers-color-scheme", Value: colours}, {Name: "prefers-reduced-motion", Value: "reduce"},
				}})
				b.do(chromedp.Navigate(base + "/#/"))
				for _, p := range places(w) {
					b.follow(p)
					b.check(p.path, rules[colours])
				}
				for _, d := range dialogs(w) {
					b.follow(place{path: d.path})
					for _, name := range d.press {
						b.press(name)
					}
					b.check(d.path+" "+strings.Join(d.press, ", "), rules[colours])
					if len(d.press) > 0 {
						b.keys(kb.Escape) // closes menus and dialogs
						b.wait("nothing is in front of the page", `document.querySelector('dialog[open], [role=menu]:popover-open') === null`)
					}
				}
			})
		}
	}
}

// dialogs are ways to some.
func dialogs(w ids) []struct {
	path  string
	press []string
} {
	return []struct {
		path  string
		press []string
	}{
		{"#/tasks/" + w.framework + "/" + w.task, []string{"Kill"}},
		{"#/frameworks/" + w.framework, []string{"Tear down"}},
		{"#/agents/" + w.agent, []string{"Actions"}},
		{"#/agents/" + w.agent, []string{"Actions", "Drain…"}},
		{"#/agents/" + w.agent + "?tab=reservations", []string{"Reserve"}},
		{"#/roles", []string{"Set a quota"}},
		{"#/maintenance", []string{"Schedule maintenance"}},
		{"#/registry", []string{"Add a master"}},
		{"#/tasks/" + w.framework + "/" + w.task + "?tab=terminal", nil},
		{"#/tasks/" + w.framework + "/" + w.task + "?tab=output", nil},
		{"#/frameworks/" + w.framework + "?tab=offers", nil},
		{"#/login", nil},
	}
}

// follow goes to a page as a link does, without loading everything anew.
func (b *tab) follow(p place) {
	b.t.Helper()
	eval[bool](b, `(location.hash = `+quote(p.path)+`, true)`)
	lands := p.lands
	if lands == "" {
		lands = p.path
	}
	b.settles("the page of "+p.path, `decodeURIComponent(location.hash).startsWith(`+quote(lands)+`) && `+drawn)
	b.sees(p.texts...)
}

// rules are those that axe checks: in light colours of WCAG 2.2 A and AA, and its own best
// practices; the same pages in dark ones differ in colours alone.
var rules = map[string]string{
	"light": `['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']`,
	"dark":  `{type: 'rule', values: ['color-contrast', 'link-in-text-block']}`,
}

// check has axe look at what is shown.
func (b *tab) check(what, rules string) {
	b.t.Helper()
	// What is half faded in has no contrast yet.
	eval[bool](b, `Promise.allSettled(document.getAnimations().filter((a) => a.effect.getComputedTiming().endTime < Infinity).map((a) => a.finished)).then(() => true)`)
	var found []violation
	text := eval[string](b, `axe.run(document, {resultTypes: ['violations'], preload: false, runOnly: `+rules+`}).then((r) => JSON.stringify(r.violations))`)
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		b.t.Fatal(err)
	}
	for _, v := range found {
		if v.Impact != "serious" && v.Impact != "critical" {
			continue
		}
		for _, n := range v.Nodes[:min(3, len(v.Nodes))] {
			b.t.Errorf("%s: %s (%s): %s\n%s\n%s", what, v.ID, v.Impact, v.Help, n.HTML, n.FailureSummary)
		}
	}
	if wide := eval[[]int](b, `[document.documentElement.scrollWidth, innerWidth]`); wide[0] > wide[1] {
		b.t.Errorf("%s: the page is %d wide, its window %d: %s", what, wide[0], wide[1], eval[string](b, widest))
	}
}

// widest names, in JavaScript, what sticks out of the window.
const widest = `[...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1).slice(0, 4).map((e) => e.tagName + '.' + e.className).join(' ')`
