package netcluster

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Fault is what happens to the packets from one host to another. The zero value
// is a good wire.
type Fault struct {
	// Drop loses all.
	Drop bool
	// Loss is the share of packets lost, 0 to 1.
	Loss float64
	// Delay is how long each takes; Jitter, up to how much longer, at random. With
	// jitter packets overtake each other.
	Delay, Jitter time.Duration
}

// pair is one direction between two hosts.
type pair struct{ from, to netip.Addr }

// Network is a switch between hosts.
type Network struct {
	wg sync.WaitGroup

	mu sync.Mutex
	// mu guards what follows.
	hosts  map[netip.Addr]*Host
	faults map[pair]Fault
	random *rand.Rand
	late   delayed
	seq    uint64
	wake   chan struct{} // closed and replaced when the head of late changes
	closed bool
	sent   map[pair]int // packets delivered
	lost   int
}

// New returns a network without hosts. The seed decides which packets are lost and
// how much later they come. It ends with Close.
func New(seed uint64) *Network {
	n := &Network{
		hosts: map[netip.Addr]*Host{}, faults: map[pair]Fault{}, sent: map[pair]int{},
		random: rand.New(rand.NewPCG(seed, 0)), wake: make(chan struct{}),
	}
	n.wg.Go(n.deliverLate)
	return n
}

// Close ends the hosts and the network.
func (n *Network) Close() {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return
	}
	n.closed = true
	close(n.wake)
	hosts := n.hosts
	n.hosts = nil
	n.mu.Unlock()
	for _, h := range hosts {
		h.close()
	}
	n.wg.Wait()
}

// Set makes the packets from one host to another suffer a fault, until it is set
// to something else.
func (n *Network) Set(from, to *Host, f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.setLocked(from, to, f)
}

func (n *Network) setLocked(from, to *Host, f Fault) {
	if f == (Fault{}) {
		delete(n.faults, pair{from.ip, to.ip})
		return
	}
	n.faults[pair{from.ip, to.ip}] = f
}

// Between makes the packets between any host of a and any of b suffer a fault, both ways.
func (n *Network) Between(a, b []*Host, f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range a {
		for _, y := range b {
			if x != y {
				n.setLocked(x, y, f)
				n.setLocked(y, x, f)
			}
		}
	}
}

// Others returns all hosts but those.
func (n *Network) Others(but ...*Host) []*Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	var others []*Host
	for _, h := range n.hosts {
		in := false
		for _, b := range but {
			in = in || b == h
		}
		if !in {
			others = append(others, h)
		}
	}
	return others
}

// Partition cuts the hosts of a from all that are not among them, both ways.
func (n *Network) Partition(a ...*Host) { n.Between(a, n.Others(a...), Fault{Drop: true}) }

// Deafen lets a host send but not hear the others.
func (n *Network) Deafen(h *Host, others ...*Host) {
	for _, o := range others {
		n.Set(o, h, Fault{Drop: true})
	}
}

// Silence lets a host hear the others but not send to them.
func (n *Network) Silence(h *Host, others ...*Host) {
	for _, o := range others {
		n.Set(h, o, Fault{Drop: true})
	}
}

// Heal ends all faults.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.faults)
}

// Delivered is how many packets have gone from one host to another.
func (n *Network) Delivered(from, to *Host) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent[pair{from.ip, to.ip}]
}

func (n *Network) add(h *Host) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return errors.New("the network is closed")
	}
	if other := n.hosts[h.ip]; other != nil {
		return fmt.Errorf("%s has the address of %s", h.name, other.name)
	}
	n.hosts[h.ip] = h
	n.wg.Go(func() { n.carry(h) })
	return nil
}

// Offsets in the header of IPv4.
const (
	ipSource      = 12
	ipDestination = 16
	ipHeader      = 20
	mtu           = 1500
)

// carry takes what a host sends, until the host ends.
func (n *Network) carry(h *Host) {
	buf := make([]byte, 2*mtu)
	for {
		k, err := h.tun.Read(buf)
		if err != nil {
			return
		}
		p := buf[:k]
		if k < ipHeader || p[0]>>4 != 4 {
			continue // what IPv6 says to find neighbours
		}
		// The sender is who it is, whatever it writes into its packets.
		to := netip.AddrFrom4([4]byte(p[ipDestination:][:4]))
		if binary.BigEndian.Uint32(p[ipSource:]) != binary.BigEndian.Uint32(h.ip.AsSlice()) {
			continue
		}
		n.forward(pair{h.ip, to}, p)
	}
}

// forward delivers a packet now, later or never.
func (n *Network) forward(way pair, p []byte) {
	n.mu.Lock()
	to := n.hosts[way.to]
	f := n.faults[way]
	if to == nil || f.Drop || f.Loss > 0 && n.random.Float64() < f.Loss {
		n.lost++
		n.mu.Unlock()
		return
	}
	n.sent[way]++
	if f.Delay+f.Jitter > 0 {
		after := f.Delay
		if f.Jitter > 0 {
			after += time.Duration(n.random.Int64N(int64(f.Jitter)))
		}
		n.seq++
		heap.Push(&n.late, packet{at: time.Now().Add(after), seq: n.seq, to: to, data: append([]byte(nil), p...)})
		if n.late[0].seq == n.seq {
			close(n.wake)
			n.wake = make(chan struct{})
		}
		n.mu.Unlock()
		return
	}
	n.mu.Unlock()
	to.deliver(p)
}

// deliverLate delivers what is delayed when its time has come.
func (n *Network) deliverLate() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		n.mu.Lock()
		if n.closed {
			n.mu.Unlock()
			return
		}
		now := time.Now()
		var due []packet
		for len(n.late) > 0 && !n.late[0].at.After(now) {
			due = append(due, heap.Pop(&n.late).(packet))
		}
		wake, wait := n.wake, time.Hour
		if len(n.late) > 0 {
			wait = n.late[0].at.Sub(now)
		}
		n.mu.Unlock()
		for _, p := range due {
			p.to.deliver(p.data)
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-wake:
		}
	}
}

// packet is one under way.
type packet struct {
	at   time.Time
	seq  uint64
	to   *Host
	data []byte
}

// delayed is a heap of packets, the first due on top.
type delayed []packet

func (d delayed) Len() int { return len(d) }
func (d delayed) Less(i, j int) bool {
	if !d[i].at.Equal(d[j].at) {
		return d[i].at.Before(d[j].at)
	}
	return d[i].seq < d[j].seq
}
func (d delayed) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *delayed) Push(x any)   { *d = append(*d, x.(packet)) }

func (d *delayed) Pop() any {
	last := len(*d) - 1
	p := (*d)[last]
	(*d)[last] = packet{}
	*d = (*d)[:last]
	return p
}
