package events

import (
	"math/rand/v2"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// TestRing compares the ring with a plain list.
func TestRing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		h := ring{maxEvents: 1 + r.IntN(600), maxBytes: 4096 + r.IntN(1<<20)}
		var list []*core.Event
		total := 0
		for serial := uint64(1); serial < 2000; serial++ {
			e := &core.Event{Serial: serial, Type: core.TaskUpdated, Status: &mesos.TaskStatus{Data: make([]byte, r.IntN(2000))}}
			if !h.push(e) {
				t.Fatalf("event %d: a gap", serial)
			}
			list = append(list, e)
			total += weight(e)
			for len(list) > 1 && (len(list) > h.maxEvents || total > h.maxBytes) {
				total -= weight(list[0])
				list = list[1:]
			}
			if h.first() != list[0].Serial || h.last != serial || h.n != len(list) || h.bytes != total {
				t.Fatalf("holds %d to %d, %d events, %d bytes; want %d events from %d, %d bytes",
					h.first(), h.last, h.n, h.bytes, len(list), list[0].Serial, total)
			}
			if serial%97 != 0 {
				continue
			}
			from := h.first() + uint64(r.IntN(h.n))
			got, ok := h.read(nil, from, serial)
			if !ok || len(got) != int(serial-from)+1 || got[0] != list[from-list[0].Serial] || got[len(got)-1] != e {
				t.Fatalf("read %d to %d: %d events, %t", from, serial, len(got), ok)
			}
			if _, ok := h.read(nil, h.first()-1, serial); ok {
				t.Fatal("read what is forgotten")
			}
			if _, ok := h.read(nil, from, serial+1); ok {
				t.Fatal("read what is to come")
			}
		}
	}
}

// TestRingWithGap keeps nothing from before a gap.
func TestRingWithGap(t *testing.T) {
	h := ring{maxEvents: 10, maxBytes: 1 << 20}
	for _, serial := range []uint64{1, 2, 3} {
		h.push(&core.Event{Serial: serial})
	}
	if h.push(&core.Event{Serial: 5}) {
		t.Error("the gap was not noticed")
	}
	if h.first() != 5 || h.last != 5 {
		t.Errorf("holds %d to %d", h.first(), h.last)
	}
}

// TestRingKeepsNoGarbage frees what it forgets.
func TestRingKeepsNoGarbage(t *testing.T) {
	h := ring{maxEvents: 100, maxBytes: 10 << 10}
	for serial := uint64(1); serial < 500; serial++ {
		h.push(&core.Event{Serial: serial, Type: core.TaskUpdated, Task: &core.Task{}})
	}
	held := 0
	for _, s := range h.slots {
		if s.event != nil {
			held++
		}
	}
	if held != h.n || h.bytes > h.maxBytes {
		t.Errorf("%d events are held, %d are there, %d bytes", held, h.n, h.bytes)
	}
}

// FuzzToken reads anything as a token: what is understood says the same again.
func FuzzToken(f *testing.F) {
	for _, s := range []string{leader + ":17", ":1", "a:", "a:b:18446744073709551615", "a:01", "a:-1", "a:+1", "a:18446744073709551616"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseToken(s)
		if err != nil {
			return
		}
		if got.String() != s || got.master == "" {
			t.Errorf("%q is read as %q", s, got)
		}
	})
}
