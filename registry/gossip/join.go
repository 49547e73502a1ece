package gossip

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// A node that sees no other master tries again after firstTry, then after twice
	// that, up to lastTry. One that does looks after those that it misses every
	// masterRound or agentRound, so that what a partition has parted meets again.
	firstTry    = 250 * time.Millisecond
	lastTry     = 10 * time.Second
	masterRound = 10 * time.Second
	agentRound  = time.Minute
	// crowd is how many nodes per second try when many lose all masters at once. The
	// first to find one tells the others.
	crowd = 50
	// longDead is when a dead master is tried but now and then.
	longDead = 10 * time.Minute
	// resolveTimeout is for the names of one round.
	resolveTimeout = 5 * time.Second
)

// syncs are when a node that has found others asks one of them for all that it
// knows once more: what it was not told while few knew each other is not told
// again, and the others' own exchange comes late.
var syncs = []time.Duration{time.Second, 4 * time.Second}

// joinLoop looks for nodes until the end.
func (g *Gossip) joinLoop() {
	alone := true // at first; those that lose their masters wait their turn
	wait, synced := firstTry, 0
	for {
		g.forget(time.Now())
		g.tryAll(g.ctx)
		lonely, others := g.lonely()
		delay := masterRound
		switch {
		case lonely:
			delay, wait, synced = wait, min(2*wait, lastTry), 0
			delay = max(delay, time.Duration(others)*time.Second/crowd)
		case synced < len(syncs):
			delay, wait = syncs[synced], firstTry
		case g.opts.Self.Role == Agent:
			delay = agentRound
		}
		if alone && !lonely {
			g.tellFound()
		}
		alone = lonely
		if !g.pause(jitter(delay), &alone) {
			return
		}
		if !lonely && synced < len(syncs) {
			synced++
			g.syncOnce()
		}
	}
}

func (g *Gossip) tellFound() {
	e := g.notices.log.Info()
	if l, ok := g.Leader(); ok {
		e.Str("leader", l.Name).Str("leader_address", l.HTTP)
	}
	e.Int("masters", len(g.mastersNow())).Msg("found other masters by gossip")
}

// syncOnce exchanges all that is known with one live master.
func (g *Gossip) syncOnce() {
	var addrs []netip.AddrPort
	for _, s := range g.All() {
		if a, err := netip.ParseAddrPort(s.Addr); err == nil && s.Alive && s.Role == Master && a != g.advertise {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) > 0 && g.ctx.Err() == nil {
		// Whoever does not answer is found dead by the probes.
		_, _ = g.list.Join([]string{hostPort(addrs[rand.N(len(addrs))])}) //nolint:gosec // no secret
	}
}

// jitter spreads a delay from half of it to one and a half.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // no secret
}

// pause waits until the next round, less if the last master is lost meanwhile.
func (g *Gossip) pause(d time.Duration, alone *bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return true
		case <-g.ctx.Done():
			return false
		case <-g.poke:
			lonely, others := g.lonely()
			if lonely && !*alone {
				timer.Reset(rand.N(firstTry + time.Duration(others)*time.Second/crowd)) //nolint:gosec // no secret
			}
			*alone = lonely
		}
	}
}

func (g *Gossip) wake() {
	select {
	case g.poke <- struct{}{}:
	default:
	}
}

// target is an address to try.
type target struct {
	addr netip.AddrPort
	why  string // the --join it stands for, or the name of a dead master
}

// tryAll exchanges all that is known with every node that is missed.
func (g *Gossip) tryAll(ctx context.Context) {
	var wg sync.WaitGroup
	for _, t := range g.targets(ctx) {
		wg.Go(func() { g.try(t) })
	}
	wg.Wait()
}

func (g *Gossip) try(t target) {
	if g.ctx.Err() != nil {
		return
	}
	_, err := g.list.Join([]string{hostPort(t.addr)})
	if err == nil || g.ctx.Err() != nil {
		return
	}
	if first := errors.Unwrap(err); first != nil {
		err = first // of memberlist's list, which holds one
	}
	if g.notices.mismatch(err.Error(), t.addr.String()) {
		return
	}
	if e := g.notices.once(joinKey(t.addr)); e != nil {
		g.unreached.Store(t.addr, t.why)
		e.Str("address", t.addr.String()).Str("join", t.why).Err(err).
			Msg("cannot reach a node by gossip; trying on")
	}
}

func joinKey(addr netip.AddrPort) string { return "join " + addr.String() }

// reached tells that a node is seen that could not be reached before.
func (g *Gossip) reached(addr netip.AddrPort) {
	if why, ok := g.unreached.LoadAndDelete(addr); ok {
		g.notices.again(joinKey(addr))
		g.notices.log.Info().Str("address", addr.String()).Any("join", why).Msg("reached the node by gossip")
	}
}

// targets are the addresses to join and those of dead masters, but for those at
// which a live node is seen.
func (g *Gossip) targets(ctx context.Context) []target {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	seen := map[netip.AddrPort]bool{g.advertise: true, g.transport.bound: true}
	for _, a := range g.liveAddrs() {
		seen[a] = true
		g.reached(a)
	}
	var all []target
	add := func(a netip.AddrPort, why string) {
		if !seen[a] {
			seen[a] = true
			all = append(all, target{a, why})
		}
	}
	for _, join := range g.opts.Join {
		host, port, err := splitTarget(join, g.opts.JoinPort)
		if err != nil {
			continue // Open has checked it
		}
		addrs, err := resolve(ctx, host)
		if err != nil {
			if e := g.notices.once("resolve " + host); e != nil && g.ctx.Err() == nil {
				e.Str("join", join).Err(err).Msg("cannot resolve the name of a node to join; trying on")
			}
			continue
		}
		for _, a := range addrs {
			add(netip.AddrPortFrom(a, port), join)
		}
	}
	lonely, _ := g.lonely()
	if g.opts.Self.Role != Master && !lonely {
		return all // masters look for each other
	}
	for _, s := range g.All() {
		a, err := netip.ParseAddrPort(s.Addr)
		if s.Alive || err != nil || time.Since(s.Since) > longDead && rand.N(6) != 0 { //nolint:gosec // no secret
			continue
		}
		add(a, s.Name)
	}
	return all
}

// lonely says whether no other master is seen, and how many nodes are, about.
func (g *Gossip) lonely() (lonely bool, others int) {
	masters := g.mastersNow()
	lonely = !slices.ContainsFunc(masters, func(n Node) bool { return n.Name != g.opts.Self.Name })
	g.mu.Lock()
	defer g.mu.Unlock()
	return lonely, len(g.names)
}

func (g *Gossip) liveAddrs() []netip.AddrPort {
	var all []netip.AddrPort
	for _, s := range g.viewNow().seen {
		if a, err := netip.ParseAddrPort(s.Addr); err == nil && s.Alive {
			all = append(all, a)
		}
	}
	return all
}

// settle finds out, as long as several processes bear one name, whether the older
// ones live: then somebody has given two nodes one name, and the older counts.
// Otherwise the youngest is a restart, and counts at once, before the death of
// the one before it is noticed.
func (g *Gossip) settle(name string) {
	const every, tries = 5 * time.Second, 3
	for {
		all := g.contested(name)
		own := name == g.opts.Self.Name
		if len(all) == 0 || len(all) == 1 && !own {
			return
		}
		for i := range all {
			if !own && i == len(all)-1 {
				break // the youngest need not prove anything
			}
			answers := g.answers(&all[i], tries)
			for j := i + 1; j < len(all); j++ {
				g.judge(all[i].process, all[j].process, answers)
			}
			if answers {
				g.tellDuplicate(&all[i], all[i+1:], own)
				break
			}
		}
		select {
		case <-time.After(every):
		case <-g.ctx.Done():
			return
		}
	}
}

func (g *Gossip) answers(p *peer, tries int) bool {
	addr, err := net.ResolveUDPAddr("udp", p.addr)
	if err != nil {
		return false
	}
	for range tries {
		if g.ctx.Err() != nil {
			return false
		}
		if _, err := g.list.Ping(p.process, addr); err == nil {
			return true
		}
	}
	return false
}

func (g *Gossip) tellDuplicate(older *peer, younger []peer, own bool) {
	if !g.notices.due("duplicate " + older.Name) {
		return
	}
	if own {
		g.notices.log.Error().Str("node", older.Name).Str("its_address", older.addr).Str("address", g.Addr()).
			Msg("another live node has the name of this one: give one of them another name, and a work directory of its own")
		return
	}
	addrs := []string{older.addr}
	for i := range younger {
		addrs = append(addrs, younger[i].addr)
	}
	g.notices.log.Warn().Str("node", older.Name).Strs("addresses", addrs).
		Msg("live nodes at several addresses have one name: the oldest counts")
}

// contest starts to settle who bears a name, unless that is under way.
func (g *Gossip) contest(name string) {
	g.contesting.Lock()
	defer g.contesting.Unlock()
	if g.contests == nil || g.contests[name] {
		return
	}
	g.contests[name] = true
	g.wg.Go(func() {
		select {
		case <-g.ready:
		case <-g.ctx.Done():
			return
		}
		g.settle(name)
		g.contesting.Lock()
		defer g.contesting.Unlock()
		delete(g.contests, name)
	})
}
