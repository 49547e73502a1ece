package state

import (
	"bufio"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	clusterdv1 "clusterd/api/clusterd/v1"
)

// maxSnapshotRecord bounds one record of a snapshot that is read.
const maxSnapshotRecord = 64 << 20

// NewerFormatError refuses a snapshot that a newer build wrote.
type NewerFormatError struct {
	Format uint32
	Build  string
}

// Error says which format is needed and what to do.
func (e *NewerFormatError) Error() string {
	return fmt.Sprintf("snapshot has format %d (written by build %q), this build knows formats up to %d: run a build at least as new",
		e.Format, e.Build, Format)
}

// WriteSnapshot writes the state as a stream of length-delimited SnapshotRecords:
// a header, the records in a fixed order, a trailer that counts them. The same
// state gives the same bytes.
func (s *State) WriteSnapshot(w io.Writer, build string) error {
	sw := snapshotWriter{w: bufio.NewWriterSize(w, 64<<10), sum: crc64.New(crcTable)}
	sw.record(&clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Header{Header: &clusterdv1.SnapshotHeader{
		Format: proto.Uint32(Format), ClusterId: new(s.clusterID), MasterInfo: s.master,
		Epoch: new(s.epoch), ServerId: new(s.serverID), BuildVersion: new(build),
	}}})
	s.agents.Scan(func(_ string, raw []byte) bool { return sw.agent(raw) })
	for v := range s.Unreachable() {
		sw.record(&clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Unreachable{Unreachable: v}})
	}
	for v := range s.Gone() {
		sw.record(&clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Gone{Gone: v}})
	}
	for v := range s.Frameworks() {
		sw.record(&clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Framework{Framework: v}})
	}
	for v := range s.RemovedFrameworks() {
		sw.record(&clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_RemovedFramework{RemovedFramework: v}})
	}
	for v := range s.Weights() {
		sw.record(&clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Weight{Weight: v}})
	}
	for v := range s.Quotas() {
		sw.record(&clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Quota{Quota: v}})
	}
	for _, v := range s.windows {
		sw.record(&clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Window{Window: v}})
	}
	for v := range s.Machines() {
		sw.record(&clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Machine{Machine: &clusterdv1.MachineRecord{MachineInfo: v}}})
	}
	sw.record(&clusterdv1.SnapshotRecord{Record: &clusterdv1.SnapshotRecord_Trailer{Trailer: &clusterdv1.SnapshotTrailer{
		Records: new(sw.records - 1), Checksum: new(sw.sum.Sum64()),
	}}})
	if sw.err == nil {
		sw.err = sw.w.Flush()
	}
	if sw.err != nil {
		return fmt.Errorf("write snapshot: %w", sw.err)
	}
	return nil
}

type snapshotWriter struct {
	w       *bufio.Writer
	sum     hash.Hash64
	buf     []byte
	records uint64
	err     error // the first; nothing is written after it
}

var crcTable = crc64.MakeTable(crc64.ECMA)

func (w *snapshotWriter) record(r *clusterdv1.SnapshotRecord) {
	if w.err == nil {
		opts := protodelim.MarshalOptions{MarshalOptions: proto.MarshalOptions{Deterministic: true}}
		_, w.err = opts.MarshalTo(io.MultiWriter(w.w, w.sum), r)
	}
	w.records++
}

// agent writes an agent's record around its wire form, without decoding it.
func (w *snapshotWriter) agent(raw []byte) bool {
	field := protowire.SizeTag(fieldAgent) + protowire.SizeBytes(len(raw))
	w.buf = protowire.AppendVarint(w.buf[:0], uint64(field))
	w.buf = protowire.AppendTag(w.buf, fieldAgent, protowire.BytesType)
	w.buf = protowire.AppendBytes(w.buf, raw)
	if w.err == nil {
		_, _ = w.sum.Write(w.buf) // never fails
		_, w.err = w.w.Write(w.buf)
	}
	w.records++
	return w.err == nil
}

// fieldAgent is the number of SnapshotRecord.agent.
const fieldAgent = 2

// ReadSnapshot reads what WriteSnapshot wrote, of this format or an older one.
func ReadSnapshot(r io.Reader) (*State, error) {
	br := &summingReader{Reader: bufio.NewReaderSize(r, 64<<10), sum: crc64.New(crcTable)}
	h, err := readHeader(br)
	if err != nil {
		return nil, err
	}
	s := New()
	s.clusterID, s.master, s.serverID, s.epoch = h.GetClusterId(), h.MasterInfo, h.GetServerId(), h.GetEpoch()
	for n := uint64(0); ; n++ {
		sum := br.sum.Sum64()
		rec, err := readRecord(br)
		if err != nil {
			return nil, err
		}
		if t := rec.GetTrailer(); t != nil {
			if t.GetRecords() != n {
				return nil, corrupt("snapshot has %d records, its trailer says %d", n, t.GetRecords())
			}
			if t.Checksum != nil && t.GetChecksum() != sum { // older builds wrote none
				return nil, corrupt("snapshot was changed: its checksum is %016x, its trailer says %016x", sum, t.GetChecksum())
			}
			if t.Checksum == nil && len(t.ProtoReflect().GetUnknown()) > 0 {
				return nil, corrupt("snapshot's trailer is damaged")
			}
			if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
				return nil, corrupt("snapshot goes on after its trailer")
			}
			return s, nil
		}
		if err := s.restore(rec); err != nil {
			return nil, err
		}
	}
}

// Succeed returns s as it takes the place of another state in a running cluster:
// leaderships are counted on from whichever has seen more, and the leader of the
// moment is that of the cluster.
func (s *State) Succeed(running *State) *State {
	c := s.clone()
	c.master, c.serverID, c.epoch = running.master, running.serverID, max(s.epoch, running.epoch)
	return c
}

// CheckSnapshot reads only the header of a snapshot and says whether this build
// can restore it.
func CheckSnapshot(r io.Reader) error {
	_, err := readHeader(bufio.NewReader(r))
	return err
}

// summingReader adds up what is read of a snapshot.
type summingReader struct {
	*bufio.Reader
	sum hash.Hash64
}

// Read reads and adds up.
func (r *summingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	_, _ = r.sum.Write(b[:n]) // never fails
	return n, err
}

// ReadByte reads and adds up.
func (r *summingReader) ReadByte() (byte, error) {
	b, err := r.Reader.ReadByte()
	if err == nil {
		_, _ = r.sum.Write([]byte{b}) // never fails
	}
	return b, err
}

func readHeader(br protodelim.Reader) (*clusterdv1.SnapshotHeader, error) {
	rec, err := readRecord(br)
	if err != nil {
		return nil, err
	}
	h := rec.GetHeader()
	if h == nil {
		return nil, corrupt("snapshot does not begin with a header")
	}
	if h.GetFormat() > Format {
		return nil, &NewerFormatError{Format: h.GetFormat(), Build: h.GetBuildVersion()}
	}
	return h, nil
}

func readRecord(br protodelim.Reader) (*clusterdv1.SnapshotRecord, error) {
	rec := new(clusterdv1.SnapshotRecord)
	err := protodelim.UnmarshalOptions{MaxSize: maxSnapshotRecord}.UnmarshalFrom(br, rec)
	if errors.Is(err, io.EOF) {
		return nil, corrupt("snapshot ends before its trailer")
	}
	if err != nil {
		return nil, corrupt("snapshot: %w", err)
	}
	if err := proto.CheckInitialized(rec); err != nil { // see decode
		return nil, corrupt("snapshot: %w", err)
	}
	return rec, nil
}

// restore adds one record between header and trailer.
func (s *State) restore(rec *clusterdv1.SnapshotRecord) error {
	switch r := rec.Record.(type) {
	case *clusterdv1.SnapshotRecord_Agent:
		return s.putAgent(r.Agent.AgentInfo.GetId().GetValue(), r.Agent)
	case *clusterdv1.SnapshotRecord_Unreachable:
		s.unreachable.Set(r.Unreachable.AgentId.GetValue(), r.Unreachable)
	case *clusterdv1.SnapshotRecord_Gone:
		s.gone.Set(r.Gone.AgentId.GetValue(), r.Gone)
	case *clusterdv1.SnapshotRecord_Framework:
		s.frameworks.Set(r.Framework.FrameworkInfo.GetId().GetValue(), r.Framework)
	case *clusterdv1.SnapshotRecord_RemovedFramework:
		s.removed.Set(r.RemovedFramework.FrameworkId.GetValue(), r.RemovedFramework)
	case *clusterdv1.SnapshotRecord_Weight:
		s.weights.Set(r.Weight.GetRole(), r.Weight)
	case *clusterdv1.SnapshotRecord_Quota:
		s.quotas.Set(r.Quota.GetRole(), r.Quota)
	case *clusterdv1.SnapshotRecord_Window:
		s.windows = append(s.windows, r.Window)
	case *clusterdv1.SnapshotRecord_Machine:
		s.machines.Set(machineKey(r.Machine.MachineInfo.GetId()), r.Machine.MachineInfo)
	default: // a newer format would have been refused
		return corrupt("snapshot holds a record of an unknown type")
	}
	return nil
}
