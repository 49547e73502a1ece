package gossip

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// memberlist trusts what it reads: a version list that is too short, a message of
// nothing or a length that is a lie end the process or take all memory, and
// compressed data may grow a thousandfold. With keys only those who have one can
// say such a thing. Without, everything that arrives passes here first, and only
// the messages that nodes of ours send go through.

// The kinds of memberlist's messages (net.go there).
const (
	kindPing         = 0
	kindIndirectPing = 1
	kindAck          = 2
	kindSuspect      = 3
	kindAlive        = 4
	kindDead         = 5
	kindPushPull     = 6
	kindCompound     = 7
	kindEncrypted    = 10
	kindNack         = 11
	kindCRC          = 12
	kindError        = 13
	kindLabel        = 244
)

const (
	maxStream      = 48 << 20 // all of maxPeers
	maxSmallStream = 64 << 10 // a ping, its answer, an error
	maxNodeName    = 255
	maxMeta        = 512
)

var (
	errHostile   = errors.New("not a message of clusterd's gossip: no label, or an unexpected content")
	errCiphered  = errors.New("remote state is encrypted and encryption is not configured")
	errTruncated = fmt.Errorf("%w: truncated", errHostile)
)

// screenPacket checks a packet.
func screenPacket(b []byte) error {
	if len(b) < 2 || b[0] != kindLabel || len(b) < 2+int(b[1]) || string(b[2:2+b[1]]) != label {
		return errHostile
	}
	b = b[2+len(label):]
	if len(b) >= 5 && b[0] == kindCRC {
		b = b[5:]
	}
	return screenMessage(b, 0)
}

func screenMessage(b []byte, depth int) error {
	if len(b) < 2 {
		return errTruncated
	}
	switch b[0] {
	case kindPing, kindIndirectPing, kindAck, kindSuspect, kindAlive, kindDead, kindNack:
		if b[1]&0xf0 == 0x80 { // a map of few members, as all of these are
			return nil
		}
		if b[0] == kindIndirectPing && depth == 0 { // also the mark of AES-GCM
			return errCiphered
		}
		return errHostile
	case kindCompound:
		return screenCompound(b[1:], depth)
	}
	return errHostile
}

// screenCompound checks messages packed together: their number, their lengths, and
// they.
func screenCompound(b []byte, depth int) error {
	n := int(b[0])
	if depth > 0 || len(b) < 1+2*n {
		return errTruncated
	}
	lengths, rest := b[1:1+2*n], b[1+2*n:]
	for i := range n {
		size := int(lengths[2*i])<<8 | int(lengths[2*i+1])
		if size > len(rest) {
			return errTruncated
		}
		if err := screenMessage(rest[:size], depth+1); err != nil {
			return err
		}
		rest = rest[size:]
	}
	return nil
}

// pushPullHeader and pushPullNode are what memberlist's messages of a stream hold.
type pushPullHeader struct {
	Nodes        int
	UserStateLen int
	Join         bool
}

type pushPullNode struct {
	Name        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Incarnation uint32
	State       int
	Vsn         []uint8
}

func (n *pushPullNode) valid() bool {
	return n.Name != "" && len(n.Name) <= maxNodeName && (len(n.Addr) == 4 || len(n.Addr) == 16) &&
		len(n.Meta) <= maxMeta && len(n.Vsn) == 6 && n.State >= 0 && n.State <= 3
}

// screenStream reads the first message of a connection into ahead. What memberlist
// refuses by itself before it reads on goes through, so that it can answer.
func screenStream(r io.Reader, labelled bool, ahead *bytes.Buffer) error {
	limited := &io.LimitedReader{R: r, N: maxSmallStream}
	in := bufio.NewReader(io.TeeReader(limited, ahead))
	kind, err := in.ReadByte()
	if err != nil {
		return err
	}
	if labelled {
		if kind != kindLabel {
			return errHostile
		}
		head := make([]byte, 1+len(label)+1) // and the kind of what follows
		if _, err := io.ReadFull(in, head); err != nil {
			return err
		}
		if string(head[:len(head)-1]) != string(byte(len(label)))+label {
			return errHostile
		}
		kind = head[len(head)-1]
	}
	dec := codec.NewDecoder(in, &codec.MsgpackHandle{})
	switch kind {
	case kindEncrypted:
		return nil
	case kindPushPull:
		limited.N += maxStream
		return screenPushPull(dec)
	case kindPing, kindAck, kindError:
		var m map[string]any
		return unreadable(dec.Decode(&m))
	}
	return errHostile
}

func screenPushPull(dec *codec.Decoder) error {
	var h pushPullHeader
	if err := unreadable(dec.Decode(&h)); err != nil {
		return err
	}
	if h.Nodes < 0 || h.Nodes > maxPeers || h.UserStateLen != 0 {
		return fmt.Errorf("%w: %d nodes and %d bytes", errHostile, h.Nodes, h.UserStateLen)
	}
	for range h.Nodes {
		var n pushPullNode
		if err := unreadable(dec.Decode(&n)); err != nil {
			return err
		}
		if !n.valid() {
			return fmt.Errorf("%w: node %.40q", errHostile, n.Name)
		}
	}
	return nil
}

// unreadable tells a message that nobody of ours would send from a connection that
// broke.
func unreadable(err error) error {
	var broken net.Error
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &broken):
		return err
	}
	return fmt.Errorf("%w: %w", errHostile, err)
}
