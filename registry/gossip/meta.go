package gossip

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
)

// Protocol is the version of what nodes say of themselves. Nodes whose ranges
// [OldestProtocol, Protocol] do not meet refuse each other. A field that others
// may ignore needs no new version.
//
//	1  2026-11  the first
const Protocol = 1

// OldestProtocol is the oldest version that this build understands.
const OldestProtocol = 1

// versions are what a node speaks and understands.
type versions struct{ oldest, newest uint32 }

var ours = versions{OldestProtocol, Protocol}

// label stands before every packet and stream, so that other programs that use
// memberlist (Consul, Nomad) and we do not take each other in by mistake.
const label = "clusterd"

// ErrTooLong says that what a node says of itself does not fit into a packet.
var ErrTooLong = errors.New("what this node says of itself does not fit into a gossip packet")

// reserve is the room that a cluster id, an endorsement, a leadership and what
// else a node learns in its life need: two UUIDs and some numbers.
const reserve = 100

// The name of a process in memberlist is its node's name and what is unique to the
// process. A restarted process is a new one there: it need not outbid what
// others remember of the one before it, whatever address it comes back with.
const processMark = "@"

func splitProcess(name string) (node string, ok bool) {
	i := strings.LastIndex(name, processMark)
	if i <= 0 {
		return "", false
	}
	return name[:i], true
}

// encodeMeta renders what a node says of itself.
func encodeMeta(n *Node, v versions, started uint64) ([]byte, error) {
	m := &clusterdv1.GossipNode{
		Protocol: new(v.newest), OldestProtocol: new(v.oldest),
		StartedMs: new(started),
	}
	switch n.Role {
	case Master:
		m.Role = clusterdv1.GossipNode_MASTER.Enum()
	case Agent:
		m.Role = clusterdv1.GossipNode_AGENT.Enum()
	default:
		return nil, fmt.Errorf("gossip: node %s has role %q", n.Name, n.Role)
	}
	text := func(field **string, s string) {
		if s != "" {
			*field = new(s)
		}
	}
	text(&m.Http, n.HTTP)
	text(&m.Raft, n.Raft)
	text(&m.ClusterId, n.ClusterID)
	text(&m.Endorses, n.Endorses)
	text(&m.Build, n.Build)
	text(&m.Region, n.Region)
	text(&m.Zone, n.Zone)
	if n.Epoch != 0 {
		m.Epoch = new(n.Epoch)
	}
	if n.Expect > 0 {
		m.Expect = new(uint32(n.Expect))
	}
	if n.Format != 0 {
		m.Format = new(n.Format)
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("gossip: node %s: %w", n.Name, err)
	}
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("%w: %d bytes, %d are allowed", ErrTooLong, len(b), memberlist.MetaMaxSize)
	}
	return b, nil
}

// decoded is what a packet says of a node.
type decoded struct {
	Node
	versions versions
	started  uint64
}

var errNoNode = errors.New("not what a clusterd node says of itself")

// decodeMeta reads what encodeMeta wrote, perhaps of an older or a newer build. It
// says nothing about whether that one is understood, see understands.
func decodeMeta(process string, meta []byte) (*decoded, error) {
	name, ok := splitProcess(process)
	if !ok || len(meta) == 0 {
		return nil, errNoNode
	}
	var m clusterdv1.GossipNode
	if err := proto.Unmarshal(meta, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoNode, err)
	}
	if m.GetProtocol() == 0 {
		return nil, errNoNode
	}
	d := &decoded{
		Node: Node{
			Name: name, HTTP: m.GetHttp(), Raft: m.GetRaft(), ClusterID: m.GetClusterId(), Epoch: m.GetEpoch(),
			Expect: int(m.GetExpect()), Endorses: m.GetEndorses(), Format: m.GetFormat(), Build: m.GetBuild(),
			Region: m.GetRegion(), Zone: m.GetZone(),
		},
		versions: versions{m.GetOldestProtocol(), m.GetProtocol()}, started: m.GetStartedMs(),
	}
	switch m.GetRole() {
	case clusterdv1.GossipNode_MASTER:
		d.Role = Master
	case clusterdv1.GossipNode_AGENT:
		d.Role = Agent
	default: // of a newer build: known by protocol, or nothing that concerns us
	}
	return d, nil
}

// understands says whether each side speaks a version that the other one
// understands.
func (v versions) understands(w versions) bool {
	return w.newest >= v.oldest && w.oldest <= v.newest
}

func (v versions) String() string {
	if v.oldest == v.newest {
		return fmt.Sprint(v.newest)
	}
	return fmt.Sprintf("%d to %d", v.oldest, v.newest)
}
