package cgroups_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"clusterd/isolation/cgroups"
)

// TestSiblingsAtOnce makes the cgroups of the containers of a pod at the same moment: what
// is above them is made once, and each can take processes.
func TestSiblingsAtOnce(t *testing.T) {
	for _, subsystem := range []string{"cpuset", "pids", "memory"} {
		t.Run(subsystem, func(t *testing.T) {
			tree := newTree(t, cgroups.Core, subsystem)
			for round := range 40 {
				top := fmt.Sprint("pod", round)
				if err := tree.Create(newID(top)); err != nil {
					t.Fatal(err)
				}
				if err := tree.Extend(newID(top), subsystem); err != nil {
					t.Fatal(err)
				}
				siblingsAtOnce(t, tree, subsystem, top)
			}
		})
	}
}

func siblingsAtOnce(t *testing.T, tree *cgroups.Tree, subsystem, top string) {
	t.Helper()
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range 8 {
		id := newID(top, fmt.Sprint("n", i))
		wg.Go(func() {
			<-begin
			for _, s := range []string{cgroups.Core, subsystem} {
				if err := tree.Extend(id, s); err != nil {
					t.Errorf("%s, %s: %v", s, id, err)
				}
			}
			if tree.Version(subsystem) == 2 || subsystem != "cpuset" {
				return
			}
			dir, owner, ok := tree.Dir(id, subsystem)
			if !ok || owner != id {
				t.Errorf("%s has no cpuset of its own: %s of %s", id, dir, owner)
				return
			}
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				if text, err := cgroups.Read(filepath.Join(dir, file)); err != nil || strings.TrimSpace(string(text)) == "" {
					t.Errorf("%s of %s: got %q, %v", file, id, text, err)
				}
			}
		})
	}
	close(begin)
	wg.Wait()
}
