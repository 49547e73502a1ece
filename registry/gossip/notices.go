package gossip

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// noticeEvery is how often the operator is told the same thing, maxNotices how
// many different things are remembered.
const (
	noticeEvery = 10 * time.Minute
	maxNotices  = 1000
)

// notices is what the operator is told. It is memberlist's log too: most of what
// that says once per packet goes to the debug level or below, and what an
// operator must act on is said in words that tell how.
type notices struct {
	log zerolog.Logger

	mu sync.Mutex
	// mu guards what follows.
	told    map[string]time.Time
	counts  map[string]int // since it was told
	stopped bool
}

func newNotices(log zerolog.Logger) *notices {
	return &notices{log: log.With().Str("component", "gossip").Logger(), told: make(map[string]time.Time), counts: make(map[string]int)}
}

// once returns a warning to fill, or nil if the same was said lately.
func (n *notices) once(key string) *zerolog.Event {
	if !n.due(key) {
		return nil
	}
	return n.log.Warn() //nolint:zerologlint // the caller fills and sends it
}

func (n *notices) due(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if at, ok := n.told[key]; n.stopped || ok && now.Sub(at) < noticeEvery {
		return false
	}
	if len(n.told) >= maxNotices {
		for k, at := range n.told {
			if now.Sub(at) >= noticeEvery {
				delete(n.told, k)
			}
		}
		if len(n.told) >= maxNotices {
			return false
		}
	}
	n.told[key] = now
	return true
}

// often says whether something that means nothing by itself has happened so often
// since it was told, or for the first time, that it must be told.
func (n *notices) often(key string) bool {
	const times = 20
	n.mu.Lock()
	n.counts[key]++
	due := n.counts[key] >= times
	n.mu.Unlock()
	if !due || !n.due(key) {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts[key] = 0
	return true
}

// again lets the same be said once more, because it had ended meanwhile.
func (n *notices) again(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.told, key)
}

// stop ends it: memberlist's last goroutines may outlive Close by a moment.
func (n *notices) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped = true
}

func (n *notices) isStopped() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stopped
}

// What memberlist says when keys or programs do not match. It has no errors to
// compare with, and those of the other side arrive as text.
var mismatches = []struct{ text, key, means string }{
	{"no installed keys could decrypt", "key", "gossip from this address is encrypted with a key that this node does not have: --gossip_key differs"},
	{"unsupported encryption version", "key", "gossip from this address cannot be decrypted: it has no --gossip_key, or is no node of clusterd"},
	{"too small to decrypt", "key", "gossip from this address cannot be decrypted: it has no --gossip_key, or is no node of clusterd"},
	{"encryption is configured but remote state is not", "plain", "gossip from this address is not encrypted: it has no --gossip_key, this node has one"},
	{"remote state is encrypted and encryption is not", "encrypted", "gossip from this address is encrypted: it has a --gossip_key, this node has none"},
	{"no label, or an unexpected content", "label", "what arrives from this address is not gossip of clusterd"},
	{"unacceptable label", "label", "what arrives from this address is not gossip of clusterd"},
}

// mismatch tells of a key or program that does not match, if that is what a text
// of memberlist means.
func (n *notices) mismatch(text, address string) bool {
	for _, m := range mismatches {
		if !strings.Contains(text, m.text) {
			continue
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		if e := n.once(m.key + " " + host); e != nil {
			e.Str("address", address).Msg(m.means)
		}
		return true
	}
	return false
}

// Write takes a line of memberlist's log.
func (n *notices) Write(line []byte) (int, error) {
	size := len(line)
	if n.isStopped() {
		return size, nil
	}
	level := "ERR"
	if i := bytes.IndexByte(line, '['); i >= 0 { // before it is the date
		if j := bytes.IndexByte(line[i:], ']'); j > 0 {
			level, line = string(line[i+1:i+j]), line[i+j+1:]
		}
	}
	text := strings.TrimPrefix(strings.TrimSpace(string(line)), "memberlist: ")
	_, from, _ := strings.Cut(text, "from=")
	switch {
	case level == "DEBUG" || level == "INFO":
		n.log.Trace().Msg(text)
	case n.mismatch(text, from):
	case strings.Contains(text, "over TCP but UDP probes failed"):
		// One lost packet means nothing.
		if who := strings.Fields(text); n.often("udp") {
			n.log.Warn().Str("last", strings.Join(who[5:6], "")).
				Msg("nodes answer by TCP but not by UDP: is UDP blocked, or this machine overloaded?")
		}
	case strings.Contains(text, "handler queue full"):
		if e := n.once("full"); e != nil {
			e.Msg("gossip arrives faster than it can be handled: some is dropped")
		}
	default:
		n.log.Debug().Msg(text)
	}
	return size, nil
}
