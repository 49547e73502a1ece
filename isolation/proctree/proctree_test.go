package proctree

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	rest := " S 1 20 30 0 -1 4194560 1 2 3 4 140 150 160 170 20 0 1 0 2200 230000 240 18446744073709551615 1 2\n"
	want := Process{
		PID: 7, Parent: 1, Session: 30, State: 'S', User: 140, System: 150, ChildUser: 160, ChildSystem: 170,
		Start: 2200, ResidentPages: 240,
	}
	for _, name := range []string{"sh", "a b", "evil) R 9 9 9", ") Z 1 (", ""} {
		got, ok := parse(7, []byte("7 ("+name+")"+rest))
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("process named %q: %v (-want +got):\n%s", name, ok, diff)
		}
	}
	for _, bad := range []string{"", "7 (sh", "7 (sh)", "7 (sh) S 1 2", strings.Repeat("(", 100)} {
		if got, ok := parse(7, []byte(bad)); ok {
			t.Errorf("parse %q: got %+v", bad, got)
		}
	}
}

func TestTable(t *testing.T) {
	table, err := ReadTable()
	if err != nil {
		t.Fatal(err)
	}
	self, ok := table[os.Getpid()]
	if !ok || self.Parent != os.Getppid() || self.ResidentPages == 0 || self.Start == 0 {
		t.Errorf("this process: got %+v, %v", self, ok)
	}
	one, ok := Read(os.Getpid())
	if !ok || one.Start != self.Start {
		t.Errorf("read: got %+v, want it to have started at %d", one, self.Start)
	}
	for _, p := range table.Below(self.Parent) {
		if p.PID == self.PID {
			return
		}
	}
	t.Errorf("below %d: %d is not", self.Parent, self.PID)
}

func TestBelow(t *testing.T) {
	table := Table{}
	for pid, parent := range map[int]int{1: 0, 2: 1, 3: 2, 4: 2, 5: 4, 9: 1} {
		table[pid] = Process{PID: pid, Parent: parent}
	}
	var got []int
	for _, p := range table.Below(2) {
		got = append(got, p.PID)
	}
	if diff := cmp.Diff([]int{3, 4, 5}, got); diff != "" {
		t.Errorf("below (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{3, 4}, table.Children(2)); diff != "" {
		t.Errorf("children (-want +got):\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("7 (sh) S 1 20 30 0 -1 4194560 1 2 3 4 140 150 160 170 20 0 1 0 2200 230000 240 1 1 2\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { parse(1, b) })
}
