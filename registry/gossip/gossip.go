package gossip

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

// DefaultPort is where masters gossip unless they are told otherwise.
const DefaultPort = 5053

// ErrClosed says that the gossip was closed or left.
var ErrClosed = errors.New("gossip is closed")

// Options say how a node gossips.
type Options struct {
	// Self is what this node says of itself at first. Name and Role must be set.
	Self Node
	// Bind is where to listen, host:port, on TCP and UDP; with port 0 any that is
	// free on both. 127.0.0.1:0 if empty.
	Bind string
	// Advertise is what other nodes dial, host:port; port 0 means the one bound.
	// Empty: the address bound, or if that is 0.0.0.0 the host of Self.HTTP.
	Advertise string
	// Join names nodes, host or host:port, any of which leads to all others. Names
	// are resolved again at each try.
	Join []string
	// JoinPort is for those that name no port; [DefaultPort] if zero.
	JoinPort int
	// Keys encrypt all traffic with AES-GCM (16, 24 or 32 bytes each): the first
	// encrypts, any decrypts. None: nothing is encrypted.
	Keys [][]byte
	// Key is the same as a first of Keys.
	Key []byte
	// Logger is told what the operator should know.
	Logger zerolog.Logger

	versions versions                 // for tests
	tune     func(*memberlist.Config) // for tests
}

func (o *Options) setDefaults() {
	if o.Bind == "" {
		o.Bind = "127.0.0.1:0"
	}
	if o.JoinPort == 0 {
		o.JoinPort = DefaultPort
	}
	if o.versions == (versions{}) {
		o.versions = ours
	}
	if len(o.Key) > 0 {
		o.Keys = append([][]byte{o.Key}, o.Keys...)
	}
}

func (o *Options) validate() error {
	if o.Self.Name == "" || len(o.Self.Name) > 128 {
		return fmt.Errorf("gossip: node name %q must have 1 to 128 bytes", o.Self.Name)
	}
	if err := validateKeys(o.Keys); err != nil {
		return err
	}
	for _, target := range o.Join {
		if _, _, err := splitTarget(target, o.JoinPort); err != nil {
			return err
		}
	}
	meta, err := encodeMeta(&o.Self, o.versions, 1<<42)
	if err == nil && len(meta)+reserve > memberlist.MetaMaxSize {
		err = fmt.Errorf("%w: %d bytes, %d are allowed at the start", ErrTooLong, len(meta), memberlist.MetaMaxSize-reserve)
	}
	return err
}

func validateKeys(keys [][]byte) error {
	for i, k := range keys {
		if memberlist.ValidateKey(k) != nil {
			return fmt.Errorf("gossip key %d has %d bytes; it must have 16, 24 or 32", i+1, len(k))
		}
	}
	return nil
}

// Gossip is this node's part in what all nodes tell each other.
type Gossip struct {
	opts      Options
	started   uint64
	advertise netip.AddrPort
	notices   *notices
	transport *transport
	keyring   *memberlist.Keyring
	list      *memberlist.Memberlist

	ctx    context.Context // ends with Close and Leave
	cancel context.CancelFunc
	wg     sync.WaitGroup
	poke   chan struct{} // lets the join loop look again

	unreached sync.Map // join addresses that were told to be out of reach: netip.AddrPort to string

	ready chan struct{} // closed when list is set

	contesting sync.Mutex
	// contesting guards what follows.
	contests map[string]bool // names that several bear; nil at the end

	updating sync.Mutex // held while the others are told something new

	closing sync.Mutex
	// closing guards what follows.
	left, closed bool

	table
}

// Open listens and begins to tell and to learn. It does not wait until another
// node was found: joining goes on in the background for as long as it takes.
// The context bounds the start alone.
func Open(ctx context.Context, opts Options) (*Gossip, error) {
	opts.setDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	g := &Gossip{
		opts: opts, notices: newNotices(opts.Logger), poke: make(chan struct{}, 1),
		started: uint64(time.Now().UnixMilli()), ready: make(chan struct{}), contests: make(map[string]bool),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	var unique [4]byte
	if _, err := io.ReadFull(rand.Reader, unique[:]); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	g.table.init(&g.opts, opts.Self.Name+processMark+hex.EncodeToString(unique[:]))

	bind, err := bindAddr(ctx, opts.Bind)
	if err != nil {
		return nil, err
	}
	if g.transport, err = listen(ctx, bind, g.notices); err != nil {
		return nil, err
	}
	if g.advertise, err = advertiseAddr(ctx, &opts, g.transport.bound); err == nil {
		g.transport.advertise = g.advertise
		g.table.addr = g.advertise.String()
		g.transport.shunned = g.shunned
		g.transport.encrypted = len(opts.Keys) > 0
		err = g.start()
	}
	if err != nil {
		g.cancel()
		_ = g.transport.Shutdown() // nothing came of it
		return nil, err
	}
	return g, nil
}

// start hands over to memberlist, and begins to join.
func (g *Gossip) start() error {
	if len(g.opts.Keys) > 0 {
		keyring, err := memberlist.NewKeyring(g.opts.Keys, g.opts.Keys[0])
		if err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
		g.keyring = keyring
	}
	g.transport.start()
	list, err := memberlist.Create(g.config())
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	g.list = list
	close(g.ready)
	g.wg.Go(g.joinLoop)
	return nil
}

// config is memberlist's configuration for a LAN, made quicker: a dead node is
// known after some 4 s and a new leader everywhere within half a second, at 50
// nodes. Both grow with the logarithm of the number of nodes. What it costs when
// nothing happens is one small packet and its answer per node and half second.
func (g *Gossip) config() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = g.process
	c.Label = label
	c.Transport = g.transport
	c.Keyring = g.keyring
	c.LogOutput = g.notices
	d := &delegate{g}
	c.Delegate, c.Events, c.Alive = d, d, d

	c.ProbeInterval = 500 * time.Millisecond
	c.ProbeTimeout = 300 * time.Millisecond
	c.SuspicionMult = 4
	c.SuspicionMaxTimeoutMult = 3 // for those who are few, and confirm no suspicion
	c.AwarenessMaxMultiplier = 4
	c.GossipInterval = 100 * time.Millisecond
	c.GossipNodes = 4
	c.RetransmitMult = 6
	c.PushPullInterval = 15 * time.Second // longer where there are many; memberlist scales it
	c.TCPTimeout = 10 * time.Second
	// What arrives is limited to what we send (see screen), and compressed data
	// could hide anything; packets are too small to gain.
	c.EnableCompression = false
	if g.opts.tune != nil {
		g.opts.tune(c)
	}
	return c
}

// Addr returns the address that other nodes are told to dial.
func (g *Gossip) Addr() string { return g.advertise.String() }

// Update changes what this node says of itself, and tells all. Name and Role stay
// what they are. It does not wait until all know.
func (g *Gossip) Update(change func(*Node)) error {
	g.updating.Lock()
	defer g.updating.Unlock()
	next := g.Self()
	name, role := next.Name, next.Role
	change(&next)
	next.Name, next.Role = name, role
	meta, err := encodeMeta(&next, g.opts.versions, g.started)
	if err != nil {
		return err
	}
	if g.isClosed() {
		return ErrClosed
	}
	for _, p := range g.setSelf(next) {
		g.tellRefused(&p.decoded, p.addr, p.ClusterID)
	}
	// memberlist loses an update if it refutes a false report about this node at
	// the same moment; what it took is known from its event.
	for range 10 {
		if g.hasSpoken(meta) {
			break
		}
		_ = g.list.UpdateNode(time.Nanosecond) // an error says that it does not wait
	}
	return nil
}

// SetKeys replaces the keys of a node that was opened with some: the first
// encrypts, any decrypts. To change the key of a cluster, give all nodes (old,
// new), then (new, old), then (new).
func (g *Gossip) SetKeys(keys [][]byte) error {
	if err := validateKeys(keys); err != nil {
		return err
	}
	if g.keyring == nil || len(keys) == 0 {
		return errors.New("gossip keys: encryption cannot be switched on or off while running")
	}
	for _, k := range keys {
		if err := g.keyring.AddKey(k); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	if err := g.keyring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("gossip keys: %w", err)
	}
	for _, old := range append([][]byte(nil), g.keyring.GetKeys()...) {
		if !containsKey(keys, old) {
			if err := g.keyring.RemoveKey(old); err != nil {
				return fmt.Errorf("gossip keys: %w", err)
			}
		}
	}
	return nil
}

func containsKey(keys [][]byte, key []byte) bool {
	for _, k := range keys {
		if string(k) == string(key) {
			return true
		}
	}
	return false
}

// Leave tells all others that this node goes, so that they need not find out. It
// returns when the word has gone out, or with the context, after a second at most:
// whoever misses it finds out.
func (g *Gossip) Leave(ctx context.Context) error {
	g.closing.Lock()
	defer g.closing.Unlock()
	if g.left || g.closed {
		return nil
	}
	g.left = true
	g.cancel()
	timeout := time.Second
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("leave gossip: %w", err)
	}
	_ = g.list.Leave(max(timeout, time.Nanosecond)) // it can but tell that it did not wait
	return nil
}

// Close ends it, without a word unless Leave was called. It may be called more
// than once.
func (g *Gossip) Close() error {
	g.closing.Lock()
	defer g.closing.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	g.cancel()
	g.contesting.Lock()
	g.contests = nil
	g.contesting.Unlock()
	err := g.list.Shutdown()
	g.wg.Wait()
	g.table.stop()
	g.notices.stop()
	if err != nil {
		return fmt.Errorf("close gossip: %w", err)
	}
	return nil
}

// Stats returns figures.
func (g *Gossip) Stats() Stats {
	s := g.viewNow().stats
	s.Health = g.list.GetHealthScore()
	return s
}

func (g *Gossip) isClosed() bool {
	g.closing.Lock()
	defer g.closing.Unlock()
	return g.left || g.closed
}
