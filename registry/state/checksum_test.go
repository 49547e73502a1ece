package state

import (
	"bytes"
	"testing"
	"time"

	mesos "clusterd/api/mesos/v1"
)

// Every changed bit of a snapshot is noticed.
func TestSnapshotWithAFlippedBit(t *testing.T) {
	s := New()
	info := &mesos.MasterInfo{Id: new("m1"), Ip: new(uint32(1)), Port: new(uint32(5050))}
	for _, c := range Together(ElectMaster(info, "m1", "c1"), RemoveFramework("f1", time.Unix(7, 0))) {
		if refused, err := s.applyCommand(c); refused != nil || err != nil {
			t.Fatal(refused, err)
		}
	}
	var b bytes.Buffer
	if err := s.WriteSnapshot(&b, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSnapshot(bytes.NewReader(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	for i := range b.Len() * 8 {
		flipped := bytes.Clone(b.Bytes())
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := ReadSnapshot(bytes.NewReader(flipped)); err == nil {
			t.Errorf("bit %d of byte %d was flipped, and nobody minds", i%8, i/8)
		}
	}
}
