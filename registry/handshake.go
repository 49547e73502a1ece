package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// handshakeVersion is the version of the Raft connection between masters. Masters
// of different versions refuse each other, with a message on both sides.
//
//   - 1 (2026-11-22): this handshake, then raft's NetworkTransport (protocol 3).
const handshakeVersion = 1

const (
	handshakeMagic   = "clusterd"
	handshakeTimeout = 5 * time.Second
	maxHelloBytes    = 4096
)

// hello is what both sides of a Raft connection say first, before a byte of
// raft's own:
//
//	magic (8) version (2) length (4) then strings, each after its length (uvarint)
//
// Magic, version and length stay where they are in all versions, and strings are
// only added at the end, so that masters that do not fit can say so.
type hello struct {
	version uint16
	to      string // id of the master that the dialer wants; what is wrong, in an answer
	from    string // id of the master that speaks
	cluster string // its cluster, empty until it knows one
	nonce   string // of its process
	format  uint32 // the newest registry format that it understands
	build   string
}

func (h *hello) encode() []byte {
	var body []byte
	for _, s := range []string{h.to, h.from, h.cluster, h.nonce, strconv.FormatUint(uint64(h.format), 10), h.build} {
		if len(s) > maxHelloBytes/8 {
			s = s[:maxHelloBytes/8]
		}
		body = binary.AppendUvarint(body, uint64(len(s)))
		body = append(body, s...)
	}
	b := binary.BigEndian.AppendUint16([]byte(handshakeMagic), h.version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

var (
	errNotRaft = errors.New("this is not the raft port of a clusterd master")
	errIsTLS   = errors.New("it speaks TLS, this master does not")
)

func readHello(r io.Reader) (*hello, error) {
	var head [len(handshakeMagic) + 6]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return nil, err
	}
	if head[0] == 0x16 { // a TLS record of a handshake
		return nil, errIsTLS
	}
	if head[0] != handshakeMagic[0] {
		return nil, errNotRaft
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return nil, err
	}
	if string(head[:len(handshakeMagic)]) != handshakeMagic {
		return nil, errNotRaft
	}
	h := &hello{version: binary.BigEndian.Uint16(head[8:])}
	size := binary.BigEndian.Uint32(head[10:])
	if size > maxHelloBytes {
		return nil, fmt.Errorf("its first message has %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	var format string
	br := bytes.NewReader(body)
	for _, p := range []*string{&h.to, &h.from, &h.cluster, &h.nonce, &format, &h.build} {
		n, err := binary.ReadUvarint(br)
		if err != nil || n > uint64(br.Len()) {
			return nil, errors.New("its first message is damaged")
		}
		b := make([]byte, n)
		_, _ = br.Read(b) // it has n
		*p = string(b)
	}
	f, err := strconv.ParseUint(format, 10, 32)
	if err != nil {
		return nil, errors.New("its first message is damaged")
	}
	h.format = uint32(f)
	return h, nil
}

// identity is what a member says of itself and judges others by.
type identity struct {
	id      raft.ServerID
	build   string
	format  uint32
	nonce   string
	version uint16 // handshakeVersion, but in tests

	log zerolog.Logger

	// ready is closed once the functions below are set, with raft running.
	ready    chan struct{}
	cluster  func() string                      // "" until it is known
	founded  func() bool                        // has it a log
	isMember func(raft.ServerID) bool           // of the Raft group that this one knows
	met      func(*hello)                       // told of every master that fits
	whereIs  func(raft.ServerID) (string, bool) // by other means than Raft

	mu sync.Mutex
	// mu guards what follows.
	pinned string // the cluster that fills this member's log, before it has applied its id

	said sayings // refusals that were logged
}

func newIdentity(id raft.ServerID, o *Options) *identity {
	return &identity{
		id: id, build: o.BuildVersion, format: o.format, nonce: rand.Text(), version: handshakeVersion, log: o.Logger,
		ready: make(chan struct{}),
	}
}

func (i *identity) hello(to string) *hello {
	return &hello{
		version: i.version, to: to, from: string(i.id), cluster: i.cluster(), nonce: i.nonce,
		format: i.format, build: i.build,
	}
}

// judge says why another master's connection is refused, or "".
func (i *identity) judge(h *hello) string {
	own := i.cluster()
	i.mu.Lock()
	defer i.mu.Unlock()
	if own == "" && i.founded() {
		own = i.pinned
	}
	switch {
	case h.version != i.version:
		return fmt.Sprintf("version %d of the raft connection against version %d here: the builds %q and %q do not fit", h.version, i.version, h.build, i.build)
	case h.from == string(i.id) && h.nonce != i.nonce:
		return fmt.Sprintf("two masters have the id %s: was a work_dir copied, or the same --node_id given twice?", i.id)
	case h.to != "" && h.to != string(i.id):
		if h.from == string(i.id) {
			return fmt.Sprintf("the address that is known of %s is this master's own", h.to)
		}
		return fmt.Sprintf("the master at this address is %s, not %s", i.id, h.to)
	case h.cluster != "" && own != "" && h.cluster != own && !i.isMember(raft.ServerID(h.from)):
		return fmt.Sprintf("%s belongs to cluster %s, %s to cluster %s", h.from, h.cluster, i.id, own)
	}
	if own == "" && h.cluster != "" && h.from != string(i.id) {
		i.pinned = h.cluster
	}
	return ""
}

// complain logs a refusal, but the same one only now and then: who is refused
// tries again many times a second.
func (i *identity) complain(key, msg string, fields func(*zerolog.Event) *zerolog.Event) {
	if i.said.again(msg + key) {
		return
	}
	fields(i.log.Warn()).Msg(msg)
}

// receive is the acceptor's side of the handshake.
func (i *identity) receive(ctx context.Context, c net.Conn) error {
	select {
	case <-i.ready:
	case <-ctx.Done():
		return net.ErrClosed
	}
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	h, err := readHello(c)
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String()) // whole if it has no port
	if err != nil {
		i.complain(host+reason(err), "refused a raft connection", func(e *zerolog.Event) *zerolog.Event {
			return e.Str("from", c.RemoteAddr().String()).Str("because", tlsHint(err).Error())
		})
		return err
	}
	answer := i.hello(i.judge(h))
	if _, err := c.Write(answer.encode()); err != nil {
		return err
	}
	if why := answer.to; why != "" {
		i.complain(h.from+host+why, "refused the raft connection of another master", func(e *zerolog.Event) *zerolog.Event {
			return e.Str("from", c.RemoteAddr().String()).Str("id", h.from).Str("because", why)
		})
		return errors.New(why)
	}
	i.met(h)
	return c.SetDeadline(time.Time{})
}

// reason is an error without the ports, which are others each time.
func reason(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + op.Err.Error()
	}
	return err.Error()
}

// greet is the dialer's side of the handshake.
func (i *identity) greet(c net.Conn, to string) error {
	h := i.hello(to)
	if _, err := c.Write(h.encode()); err != nil { // the TLS handshake is in it
		return hangup(err)
	}
	answer, err := readHello(c)
	if err != nil {
		return hangup(err)
	}
	if answer.to != "" {
		return errors.New(answer.to)
	}
	i.met(answer)
	return nil
}

// hangup says in our words what went wrong on the dialer's side.
func hangup(err error) error {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return errors.New("it hung up at the handshake; its own log says why")
		}
	}
	return tlsHint(err)
}

// refused is a connection that this master could not make.
func (i *identity) refused(to, addr string, err error) error {
	i.complain(to+addr+reason(err), "another master does not take the raft connection", func(e *zerolog.Event) *zerolog.Event {
		return e.Str("id", to).Str("addr", addr).Str("because", err.Error())
	})
	return fmt.Errorf("raft connection to master %s at %s: %w", to, addr, err)
}
