package clock

import (
	"slices"
	"testing"
	"time"
)

func TestOrder(t *testing.T) {
	start := time.Unix(0, 0)
	c := New(start)
	var got []string
	note := func(s string) func() { return func() { got = append(got, s) } }
	c.After(2*time.Second, note("c"))
	c.After(time.Second, note("a"))
	c.After(time.Second, func() {
		note("b")()
		c.At(start, note("b2")) // over: next, and time does not run backwards
	})
	late := c.After(3*time.Second, note("late"))
	cancelled := c.After(time.Second, note("cancelled"))
	c.Cancel(cancelled)
	c.Cancel(cancelled)
	c.Cancel(nil)
	c.Run(start.Add(2500 * time.Millisecond))
	if want := []string{"a", "b", "b2", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if c.Now() != start.Add(2500*time.Millisecond) || c.Len() != 1 {
		t.Errorf("it is %s and %d are left", c.Now(), c.Len())
	}
	c.Run(start.Add(time.Hour))
	c.Cancel(late)
	if got[len(got)-1] != "late" {
		t.Errorf("got %v", got)
	}
}
