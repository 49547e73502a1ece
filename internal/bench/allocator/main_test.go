package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

// TestShapes runs every shape with few agents: each checks what it did itself.
func TestShapes(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			r := &runner{scale: tiny, rounds: 12, progress: io.Discard}
			if err := r.runAll([]shape{s}); err != nil {
				t.Fatal(err)
			}
			if len(r.figures) == 0 {
				t.Fatal("no figures")
			}
			seen := map[key]bool{}
			for _, f := range r.figures {
				k := key{f.bench, f.params, f.what}
				if seen[k] {
					t.Errorf("two figures are called %v", k)
				}
				seen[k] = true
				if len(f.samples) == 0 && f.value == 0 {
					t.Errorf("%v has no value", k)
				}
			}
		})
	}
}

// TestVerdicts holds figures against targets.
func TestVerdicts(t *testing.T) {
	ms := func(n int) []time.Duration { return []time.Duration{time.Duration(n) * time.Millisecond} }
	for _, c := range []struct {
		ref  reference
		fig  figure
		want string
	}{
		{reference{}, figure{samples: ms(5)}, ""},
		{reference{target: 0.050}, figure{samples: ms(50)}, met},
		{reference{target: 0.050}, figure{samples: ms(51)}, notMet},
		{reference{target: 2, unit: "x", slack: 0.1}, figure{value: 2.15}, "within 10 %"},
		{reference{target: 2, unit: "x", slack: 0.1}, figure{value: 2.3}, notMet},
		{reference{target: 19500, atLeast: true}, figure{value: 19499}, notMet},
		{reference{target: 19500, atLeast: true}, figure{value: 19500}, met},
	} {
		if got := c.ref.verdict(&c.fig); got != c.want {
			t.Errorf("%+v against %+v: got %q, want %q", c.fig, c.ref, got, c.want)
		}
	}
}

// TestTable prints the same figures both ways.
func TestTable(t *testing.T) {
	figures := []figure{
		{
			bench: "DeclineOffers", params: "10,000 agents x 1,000 frameworks", what: whatRound,
			samples: []time.Duration{60 * time.Millisecond, 30 * time.Millisecond, 40 * time.Millisecond}, note: "3 rounds",
		},
		{bench: "MultiFrameworkAllocations", params: multiParams, what: whatLaunched, value: 19499, unit: " tasks"},
	}
	var text, markdown bytes.Buffer
	if err := printFigures(&text, figures, false); err != nil {
		t.Fatal(err)
	}
	if err := printFigures(&markdown, figures, true); err != nil {
		t.Fatal(err)
	}
	const first = "| DeclineOffers | 10,000 agents x 1,000 frameworks | round (AllocateAll) | 30 ms | 40 ms | 60 ms |" +
		" 1.06 s | 26.5x | <= 50 ms | met | 3 rounds |"
	if !strings.Contains(markdown.String(), first+"\n") {
		t.Errorf("got\n%swant\n%s", markdown.String(), first)
	}
	for _, s := range []string{"40 ms", "19,499 tasks", ">= 19,500 tasks", notMet, "targets not met: 1"} {
		if !strings.Contains(text.String(), s) {
			t.Errorf("no %q in\n%s", s, text.String())
		}
	}
}

// TestSelection refuses names that are not there.
func TestSelection(t *testing.T) {
	if got, err := selection("declineoffers,Growth"); err != nil || len(got) != 2 {
		t.Errorf("got %d shapes and error %v, want 2", len(got), err)
	}
	if _, err := selection("DeclineOffer"); err == nil {
		t.Error("an unknown name was accepted")
	}
}
