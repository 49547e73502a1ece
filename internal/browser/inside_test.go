package browser

import (
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// TestTerminal opens a shell in a task's container, types, and leaves.
func TestTerminal(t *testing.T) {
	c := shared(t)
	w := work(t, c, "shell", "sleep 1000")
	b := open(t, "http://"+follower(t, c).Addr, "#/tasks/"+w.framework+"/"+w.task+"?tab=terminal")
	b.press("Open terminal")
	b.sees("Connected.")
	screen := `document.querySelector('.xterm-rows').innerText`
	b.wait("the shell is ready", `document.querySelector('.xterm-rows')?.innerText.trim().length > 0`)
	b.keys("echo he$((1+1))llo\r")
	b.wait("the shell answers", screen+`.includes('he2llo')`)
	b.keys("stty size\r")
	b.wait("the shell knows the size", `/\b\d+ \d{2,}\b/.test(`+screen+`)`)
	b.keys("exit 3\r")
	b.sees("Run again")
	b.wait("it says how the shell ended", `document.querySelector('.term-foot').innerText.includes('3')`)
}

// TestLog follows a log, searches it, shows its colours, and a file too large to load whole.
func TestLog(t *testing.T) {
	c := shared(t)
	w := work(t, c, "writer", `seq 1000000 > big.txt; printf '\033[31mred words\033[0m\n'; i=0; while true; do i=$((i+1)); echo line $i; sleep 0.3; done`)
	b := open(t, "http://"+follower(t, c).Addr, "#/agents/"+w.agent+"/frameworks/"+w.framework+"/executors/"+w.executor+"/browse")
	b.sees("stdout", "stderr", "big.txt")
	b.press("stdout")
	b.sees("red words", "Following", "line 5")
	b.wait("the words are red", `[...document.querySelectorAll('main span')].some((e) => e.innerText === 'red words' && getComputedStyle(e).color !== getComputedStyle(document.body).color)`)
	before := eval[string](b, lastLine)
	b.wait("the log grows", lastLine+` !== `+quote(before))
	b.fill("Search in the file", "red")
	b.keys(kb.Enter)
	b.sees("1 of 1")

	b.goTo("#/agents/" + w.agent + "/frameworks/" + w.framework + "/executors/" + w.executor + "/browse")
	b.press("big.txt")
	b.sees("1000000")
	b.press("Start")
	b.sees("6.57 MiB", "MiB more below")
	// Far from what is loaded.
	b.fill("Search in the file", "/^654321$/")
	b.keys(kb.Enter)
	b.sees("1 of 1", "654321")
	if n := eval[int](b, `document.querySelectorAll('main *').length`); n > 5000 {
		t.Errorf("%d elements are drawn", n)
	}
}
