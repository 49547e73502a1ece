package authn

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// errBusy says that too many secrets are being compared with hashes.
var errBusy = errors.New("too many are logging in: again later")

// Bounds of what hashing may cost. bcrypt is slow by intention: without bounds a
// few clients with wrong secrets, or a cluster of agents that comes back, would
// take the processors from the master.
const (
	// hashWait is how long a comparison waits for its turn.
	hashWait = 2 * time.Second
	// goodRemembered and badRemembered are how many comparisons are remembered. They
	// are apart: who guesses must not have good ones forgotten.
	goodRemembered = 16384
	badRemembered  = 1024
)

// hashes compares secrets with bcrypt hashes, and remembers how it came out.
// What is remembered is keyed by an HMAC of principal, secret and hash under a key
// that only this process has: it shows nothing, and a hash that is replaced is
// forgotten with it.
type hashes struct {
	key   [sha256.Size]byte
	turns chan struct{} // size: how many are compared at once
	wait  time.Duration
	runs  atomic.Int64 // how many were compared

	mu sync.Mutex
	// mu guards what follows.
	good, bad recent
}

func newHashes() *hashes {
	h := &hashes{
		turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		wait:  hashWait,
		good:  recent{limit: goodRemembered},
		bad:   recent{limit: badRemembered},
	}
	_, _ = rand.Read(h.key[:])
	return h
}

// same says whether a hash is that of a secret. It fails when its turn does not
// come.
func (h *hashes) same(principal string, password, hash []byte) (bool, error) {
	sum := h.sum([]byte(principal), password, hash)
	if same, known := h.remembered(sum); known {
		return same, nil
	}
	turn := time.NewTimer(h.wait)
	defer turn.Stop()
	select {
	case h.turns <- struct{}{}:
	case <-turn.C:
		return false, errBusy
	}
	defer func() { <-h.turns }()
	// Of clients that show the same secret, as all agents may, one has it compared
	// while the others wait for their turn.
	if same, known := h.remembered(sum); known {
		return same, nil
	}
	h.runs.Add(1)
	same := bcrypt.CompareHashAndPassword(hash, password) == nil
	h.mu.Lock()
	defer h.mu.Unlock()
	if same {
		h.good.add(sum)
	} else {
		h.bad.add(sum)
	}
	return same, nil
}

func (h *hashes) remembered(sum [sha256.Size]byte) (same, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.good.has(sum) {
		return true, true
	}
	return false, h.bad.has(sum)
}

// sum is the HMAC of the parts, each with its length.
func (h *hashes) sum(parts ...[]byte) (out [sha256.Size]byte) {
	m := hmac.New(sha256.New, h.key[:])
	for _, p := range parts {
		m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		m.Write(p)
	}
	m.Sum(out[:0])
	return out
}

// recent is a bounded set that forgets what was not asked for of late: the older
// half goes at once.
type recent struct {
	limit       int
	now, before map[[sha256.Size]byte]struct{}
}

func (r *recent) has(sum [sha256.Size]byte) bool {
	if _, ok := r.now[sum]; ok {
		return true
	}
	if _, ok := r.before[sum]; ok {
		r.add(sum)
		return true
	}
	return false
}

func (r *recent) add(sum [sha256.Size]byte) {
	if r.now == nil || len(r.now) >= (r.limit+1)/2 {
		r.before, r.now = r.now, make(map[[sha256.Size]byte]struct{})
	}
	r.now[sum] = struct{}{}
}
