package gossip

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

func pack(kind byte, parts ...any) []byte {
	b := []byte{kind}
	for _, p := range parts {
		var enc []byte
		if err := codec.NewEncoderBytes(&enc, &codec.MsgpackHandle{}).Encode(p); err != nil {
			panic(err)
		}
		b = append(b, enc...)
	}
	return b
}

func labelled(b []byte) []byte {
	return append(append([]byte{kindLabel, byte(len(label))}, label...), b...)
}

type (
	aliveMessage struct {
		Incarnation uint32
		Node        string
		Addr        []byte
		Port        uint16
		Meta        []byte
		Vsn         []uint8
	}
	compressMessage struct {
		Algo uint8
		Buf  []byte
	}
	userHeader struct{ UserMsgLen int }
)

// hostile are messages that end a plain memberlist or take its memory, and others
// that it ought not to see.
var hostile = map[string][]byte{
	"short version list":  pack(kindPushPull, pushPullHeader{Nodes: 1}, pushPullNode{Name: "x@1", Addr: []byte{1, 2, 3, 4}, Vsn: []byte{1}}),
	"no version list":     pack(kindPushPull, pushPullHeader{Nodes: 1, Join: true}, pushPullNode{Name: "x@1", Addr: []byte{1, 2, 3, 4}}),
	"million of nodes":    pack(kindPushPull, pushPullHeader{Nodes: 1 << 20}),
	"negative nodes":      pack(kindPushPull, pushPullHeader{Nodes: -1}),
	"user state":          pack(kindPushPull, pushPullHeader{UserStateLen: 1 << 40}),
	"empty compression":   pack(9, compressMessage{Buf: []byte{0x01, 0x01}}),
	"user message":        pack(8, userHeader{UserMsgLen: 1 << 62}),
	"unknown kind":        pack(200, 1),
	"no message":          {},
	"kind alone":          {kindAlive},
	"empty compound":      {kindCompound},
	"lying compound":      {kindCompound, 200, 255, 255},
	"compound of nothing": {kindCompound, 1, 0, 0},
	"nested compound":     {kindCompound, 1, 0, 4, kindCompound, 1, 0, 0},
	"compressed inside":   append([]byte{kindCompound, 1, 0, 3}, 9, 0x81, 0),
	"not a map":           {kindPing, 0x93, 1, 2, 3},
}

func TestScreen(t *testing.T) {
	for name, b := range hostile {
		if err := screenPacket(labelled(b)); err == nil {
			t.Errorf("packet: %s goes through", name)
		}
		if err := screenStream(bytes.NewReader(labelled(b)), true, new(bytes.Buffer)); err == nil {
			t.Errorf("stream: %s goes through", name)
		}
	}
	good := pack(kindPing, map[string]any{"SeqNo": 1, "Node": "a"})
	state := pack(kindPushPull, pushPullHeader{Nodes: 1}, pushPullNode{Name: "x@1", Addr: []byte{1, 2, 3, 4}, Vsn: make([]byte, 6)})
	for _, b := range [][]byte{good, append([]byte{kindCRC, 0, 0, 0, 0}, good...), append([]byte{kindCompound, 1, 0, byte(len(good))}, good...)} {
		if err := screenPacket(labelled(b)); err != nil {
			t.Errorf("packet %x: %v", b, err)
		}
		if err := screenPacket(b); err == nil {
			t.Errorf("packet %x without label goes through", b)
		}
	}
	for _, b := range [][]byte{good, state} {
		var ahead bytes.Buffer
		if err := screenStream(bytes.NewReader(labelled(b)), true, &ahead); err != nil || !bytes.Equal(ahead.Bytes(), labelled(b)) {
			t.Errorf("stream %x: %v, read %x", b, err, ahead.Bytes())
		}
		if err := screenStream(bytes.NewReader(b), true, new(bytes.Buffer)); err == nil {
			t.Errorf("stream %x without label goes through", b)
		}
		for cut := range len(b) {
			if err := screenStream(bytes.NewReader(b[:cut]), false, new(bytes.Buffer)); err == nil {
				t.Errorf("truncated to %d of %x goes through", cut, b)
			}
		}
	}
	if err := screenPacket(labelled([]byte{1, 0x12, 0x34, 0x56})); err == nil || err.Error() != errCiphered.Error() {
		t.Errorf("an encrypted packet: %v", err)
	}
}

// TestHostile sends a node what may end it, and noise. It lives on, takes nobody
// in, and does not grow.
func TestHostile(t *testing.T) { // alone, since it measures memory
	for _, c := range []struct {
		name string
		key  []byte
	}{{"plain", nil}, {"encrypted", key(7, 32)}} {
		t.Run(c.name, func(t *testing.T) {
			n := open(t, Options{Self: Node{Name: "n"}, Key: c.key})
			udp, err := net.Dial("udp", n.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()
			var noise [][]byte
			for _, b := range hostile {
				noise = append(noise, b, labelled(b))
			}
			r := rand.New(rand.NewPCG(1, 2))
			for i := range 3000 {
				b := make([]byte, r.IntN(1400))
				for j := range b {
					b[j] = byte(r.Uint32())
				}
				if i%2 == 0 && len(b) > 0 {
					b[0] %= 14 // a kind that there is
					b = labelled(b)
				}
				noise = append(noise, b)
			}
			alive := func(meta []byte, addr ...byte) []byte {
				return labelled(pack(kindAlive, aliveMessage{
					Incarnation: 1, Node: "evil@1", Addr: addr, Port: 1, Meta: meta, Vsn: []byte{1, 5, 2, 0, 0, 0},
				}))
			}
			noise = append(noise, alive(nil, 1, 2, 3, 4), alive([]byte("consul"), 1, 2, 3, 4), alive([]byte{8, 1, 16, 1}, 1))

			before := inUse()
			for i, b := range noise {
				_, _ = udp.Write(b)
				if i < 2*len(hostile) || i%20 == 0 {
					sendStream(t, n.Addr(), b)
				}
			}
			other := open(t, Options{Self: Node{Name: "other"}, Key: c.key, Join: []string{n.Addr()}})
			eventually(t, "it lives", sees(other, "n", "other"))
			eventually(t, "it takes in", sees(n, "n", "other"))
			if grown := inUse() - before; grown > 16<<20 {
				t.Errorf("it grew by %d bytes", grown)
			}
			if lines := n.log.lines(`"warn"`); len(lines) > 4 {
				t.Errorf("it logged %d lines: %q", len(lines), lines)
			}
		})
	}
}

// sendStream sends bytes by TCP, and waits until the other side has done with them.
func sendStream(t *testing.T, addr string, b []byte) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_, _ = nc.Write(b)
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
		return
	}
	_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, nc); err != nil && nc.SetReadDeadline(time.Now()) == nil {
		return // reset: refused before all was read
	}
}

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestManyConnections keeps idle connections open; nodes that want to join still can.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	n := open(t, Options{Self: Node{Name: "n"}, tune: func(c *memberlist.Config) { c.TCPTimeout = 500 * time.Millisecond }})
	for range 2 * maxStreams {
		nc, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	other := open(t, Options{Self: Node{Name: "other"}, Join: []string{n.Addr()}})
	eventually(t, "it joins", sees(n, "n", "other"))
	eventually(t, "it joins", sees(other, "n", "other"))
}

func FuzzScreenPacket(f *testing.F) {
	for _, b := range hostile {
		f.Add(labelled(b))
	}
	f.Fuzz(func(_ *testing.T, b []byte) { _ = screenPacket(b) })
}

func FuzzScreenStream(f *testing.F) {
	for _, b := range hostile {
		f.Add(labelled(b))
	}
	f.Add(labelled(pack(kindPushPull, pushPullHeader{Nodes: 1}, pushPullNode{Name: "x@1", Addr: []byte{1, 2, 3, 4}, Vsn: make([]byte, 6)})))
	f.Fuzz(func(t *testing.T, b []byte) {
		var ahead bytes.Buffer
		if err := screenStream(bytes.NewReader(b), true, &ahead); err == nil && !bytes.HasPrefix(b, ahead.Bytes()) {
			t.Errorf("%x became %x", b, ahead.Bytes())
		}
	})
}

func FuzzMeta(f *testing.F) {
	b, err := encodeMeta(&full, ours, 5)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full.Name+"@x", b)
	f.Fuzz(func(t *testing.T, process string, b []byte) {
		d, err := decodeMeta(process, b)
		if err == nil && (d.Name == "" || d.versions.newest == 0) {
			t.Errorf("%q %x became %+v", process, b, d)
		}
	})
}

var full = Node{
	Name: "m@1", Role: Master, HTTP: "[2001:db8::1]:5050", Raft: "m1.example.com:5052", ClusterID: clusterX, Epoch: 1 << 40,
	Expect: 5, Endorses: clusterY, Format: 3, Build: "1.2.3-rc1+abcdef", Region: "eu-west", Zone: "eu-west-1a",
}

func TestMeta(t *testing.T) {
	b, err := encodeMeta(&full, ours, 77)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a node says %d bytes of itself", len(b))
	d, err := decodeMeta("m@1@0011aabb", b)
	if err != nil {
		t.Fatal(err)
	}
	if d.Node != full || d.versions != ours || d.started != 77 {
		t.Errorf("got %+v, want %+v", d, full)
	}
	for _, process := range []string{"", "m", "@x"} {
		if _, err := decodeMeta(process, b); err == nil {
			t.Errorf("process %q", process)
		}
	}
	// A newer build says more, and speaks of a role that there is not yet.
	newer := append(bytes.Clone(b), 0x18, 99, 0xfa, 0x3f, 3, 'n', 'e', 'w')
	if d, err := decodeMeta("m@1", newer); err != nil || d.HTTP != full.HTTP || d.Role != "" {
		t.Errorf("of a newer build: %+v, %v", d, err)
	}
}

// TestManyNodes fills the table: it stays bounded, quick, and in order.
func TestManyNodes(t *testing.T) {
	var table table
	table.init(&Options{Self: Node{Name: "self", Role: Agent}, versions: ours}, "self@0")
	const many = 20_000
	start := time.Now()
	for i := range many {
		d := &decoded{Node: Node{Name: fmt.Sprintf("a%05d", i), Role: Agent}, versions: ours}
		if _, ok := table.admit(d.Name+"@1", d); ok {
			table.hear(d.Name+"@1", fmt.Sprintf("10.0.0.0:%d", i), d)
		}
	}
	if s := table.viewNow().stats; s.Agents != many+1 {
		t.Errorf("%+v", s)
	}
	t.Logf("%d nodes heard after %s", many, time.Since(start).Round(time.Millisecond))
	for i := range many {
		table.lose(fmt.Sprintf("a%05d@1", i))
	}
	if len(table.peers) != 0 || len(table.names) != 0 || len(table.Nodes()) != 1 {
		t.Errorf("%d processes and %d names are left", len(table.peers), len(table.names))
	}
	// Dead masters are remembered, but not all and not for ever; so are strangers.
	for i := range 3 * maxDead {
		d := &decoded{Node: Node{Name: fmt.Sprintf("m%04d", i), Role: Master}, versions: ours}
		table.hear(d.Name+"@1", "10.0.0.1:1", d)
		table.lose(d.Name + "@1")
	}
	table.forget(time.Now())
	if n := table.viewNow().stats.DeadMasters; n != maxDead {
		t.Errorf("%d dead masters are remembered", n)
	}
	table.forget(time.Now().Add(rememberDead + time.Second))
	if n := table.viewNow().stats.DeadMasters; n != 0 {
		t.Errorf("%d dead masters are remembered after %s", n, rememberDead)
	}
	for i := range maxRefused + 100 {
		if _, ok := table.admit(fmt.Sprintf("x%d@1", i), &decoded{versions: versions{8, 9}}); ok {
			t.Fatal("admitted")
		}
	}
	if n := len(table.refused); n != maxRefused {
		t.Errorf("%d strangers are remembered", n)
	}
	table.forget(time.Now().Add(refuseFor + time.Second))
	if len(table.refused) != 0 {
		t.Errorf("strangers are remembered for longer than %s", refuseFor)
	}
	table.stop()
}
