package link

import (
	"errors"
	"time"

	clusterdv1 "clusterd/api/clusterd/v1"
)

// Version is the version of the link's records and of the messages in
// link.proto that this build speaks. A change that an older peer would
// misunderstand adds one here and a line below; a new member of a message that
// older peers may ignore does not.
//
//   - 1 (2026-11-22): the first.
const Version = 1

// MinVersion is the oldest version that this build still speaks.
const MinVersion = 1

const (
	// Path is where a master takes links.
	Path = "/api/clusterd/v1/link"
	// Protocol is the token of the Upgrade header.
	Protocol = "clusterd-link"
	// VersionHeader carries the version of each side.
	VersionHeader = "Clusterd-Link-Version"
)

// Defaults of [Options].
const (
	// DefaultMaxRecord bounds a record: a RegisterAgent with about 50,000 tasks.
	DefaultMaxRecord = 64 << 20
	// DefaultMaxQueueBytes and DefaultMaxQueueMessages bound what waits to be
	// written. A single record may exceed the bytes when nothing else waits.
	DefaultMaxQueueBytes    = 16 << 20
	DefaultMaxQueueMessages = 65536
	// DefaultKeepalive is how long a side is silent before it sends a keepalive,
	// and DefaultDeadAfter how long it listens to silence before it gives up.
	DefaultKeepalive = 10 * time.Second
	DefaultDeadAfter = 30 * time.Second
	// DefaultLinger is how long a closing side waits for its last records to be
	// taken.
	DefaultLinger = 5 * time.Second

	maxReason = 1 << 10
)

// Options tune a link. The zero value of each field means its default.
type Options struct {
	// MaxRecord is the longest record that is taken or sent.
	MaxRecord int
	// MaxQueueMessages and MaxQueueBytes bound what waits to be written.
	MaxQueueMessages int
	MaxQueueBytes    int
	// Keepalive is the longest silence that this side causes.
	Keepalive time.Duration
	// DeadAfter is the longest silence, or stall of a write, that it bears.
	DeadAfter time.Duration
	// Linger bounds the orderly end of a link.
	Linger time.Duration
	// Decode reads the messages of agents, at the master's end; nil: like any message.
	// The bytes are its own only while it runs.
	Decode func([]byte) (*clusterdv1.AgentMessage, error)
}

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	defD := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.MaxRecord, DefaultMaxRecord)
	def(&o.MaxQueueMessages, DefaultMaxQueueMessages)
	def(&o.MaxQueueBytes, DefaultMaxQueueBytes)
	defD(&o.Keepalive, DefaultKeepalive)
	defD(&o.DeadAfter, DefaultDeadAfter)
	defD(&o.Linger, DefaultLinger)
	return o
}

var (
	// ErrClosed says that this side has closed the link.
	ErrClosed = errors.New("link is closed")
	// ErrPeerClosed says that the peer has closed the link; its reason follows.
	ErrPeerClosed = errors.New("peer closed the link")
	// ErrCut says that the connection ended without a word.
	ErrCut = errors.New("link was cut")
	// ErrSlowPeer says that the peer does not read as fast as it is written to.
	ErrSlowPeer = errors.New("peer is too slow: the outbound queue of the link is full")
	// ErrSilent says that nothing came from the peer for too long.
	ErrSilent = errors.New("peer is silent")
	// ErrTooLarge says that a record exceeds the limit.
	ErrTooLarge = errors.New("record is too large")
	// ErrProtocol says that the peer does not speak this protocol.
	ErrProtocol = errors.New("link protocol error")
)
