package registry

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"clusterd/registry/state"
)

// TestFlippedBits flips single bits of everything that a member keeps: it starts
// with all that was acknowledged, or it refuses to and says that it is damaged.
func TestFlippedBits(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	opts := single(dir)
	opts.ServerID = "m1"
	r := openT(t, opts)
	l := leadT(t, r)
	for i := range 8 {
		applyT(t, l, state.AdmitAgent(agentInfo(fmt.Sprint("a", i))))
		if i == 3 {
			if err := r.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var want bytes.Buffer
	if err := r.State().WriteSnapshot(&want, "test"); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", "*"))
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	files = append(files, filepath.Join(dir, raftDBName))
	refused, harmless := 0, 0
	for _, path := range files {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var used []int // where something is
		for i, b := range whole {
			if b != 0 {
				used = append(used, i)
			}
		}
		for range 150 {
			at, bit := used[rnd.IntN(len(used))], rnd.IntN(8)
			damaged := bytes.Clone(whole)
			damaged[at] ^= 1 << bit
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if flipped(t, dir, want.Bytes(), fmt.Sprintf("bit %d of byte %d of %s", bit, at, filepath.Base(path))) {
				refused++
			} else {
				harmless++
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d refused, %d harmless", refused, harmless)
	if refused == 0 || harmless == 0 {
		t.Error("the test does not see what it should")
	}
}

// flipped reads a directory with a flipped bit as a start does and says whether
// it was refused.
func flipped(t *testing.T, dir string, want []byte, what string) bool {
	t.Helper()
	in, err := InspectDir(dir)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", what, err)
		}
		return true
	}
	defer in.Close()
	var got bytes.Buffer
	if err := in.State.WriteSnapshot(&got, "test"); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s: nobody minds, and the state is another", what)
	}
	if in.ServerID != "m1" || in.CurrentTerm != 2 || in.VoteTerm != 2 {
		t.Errorf("%s: nobody minds, and it is %s in term %d, voted in %d", what, in.ServerID, in.CurrentTerm, in.VoteTerm)
	}
	return false
}

// An entry 0 is entry 1 with a flipped bit: whoever reads from the first index on
// would take the log for empty.
func TestNoEntryZero(t *testing.T) {
	dir := t.TempDir()
	opts := single(dir)
	opts.setDefaults()
	s, err := openStores(&opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.logs.StoreLog(&raft.Log{Index: 0, Term: 1}), s.close()); err != nil {
		t.Fatal(err)
	}
	if _, err := InspectDir(dir); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	if _, err := Open(t.Context(), opts); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

// The checksums are on the disk alone: a log that older builds wrote has none.
func TestLogWithoutChecksums(t *testing.T) {
	dir := t.TempDir()
	opts := single(dir)
	opts.setDefaults()
	s, err := openStores(&opts)
	if err != nil {
		t.Fatal(err)
	}
	old := s.stable.(*checkedStable).StableStore
	if err := errors.Join(old.Set(keyServerID, []byte("m1")), old.SetUint64(keyCurrentTerm, 7), old.Set([]byte("LastVoteCand"), []byte("127.0.0.1:5052"))); err != nil {
		t.Fatal(err)
	}
	id, err := s.serverID("")
	if err != nil || id != "m1" {
		t.Errorf("got id %q, %v", id, err)
	}
	if term, err := s.stable.GetUint64(keyCurrentTerm); err != nil || term != 7 {
		t.Errorf("got term %d, %v", term, err)
	}
	if v, err := s.stable.Get([]byte("LastVoteCand")); err != nil || string(v) != "127.0.0.1:5052" {
		t.Errorf("got vote %q, %v", v, err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
