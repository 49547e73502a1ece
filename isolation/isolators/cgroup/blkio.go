package cgroup

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
)

// blkio is cgroups/blkio (src/slave/containerizer/mesos/isolators/cgroups/subsystems/
// blkio.cpp): statistics by device, and on v2 limits (io.max) if the options have any. On
// v1 kernels since 6.10 count for a device from the first limit on that is set on it.
type blkio struct {
	nothing
	options *Options
	version int
	// throttle, scheduler and schedulerRecursive are the files of v1 that the kernel has.
	throttle, scheduler, schedulerRecursive []ioFile
}

// ioFile is a file of statistics of v1.
type ioFile struct{ name, kind string }

func newBlkio(s *Set) (controller, error) {
	k := &blkio{options: &s.options, version: s.tree.Version("blkio")}
	root, err := s.tree.Root("blkio")
	if err != nil || k.version == 2 {
		return k, err
	}
	there := func(name string) bool { return cgroups.Exists(filepath.Join(root, name)) }
	for _, kind := range [...]string{"io_serviced", "io_service_bytes"} {
		// The recursive ones count nested containers too; old kernels lack them.
		name := "blkio.throttle." + kind
		if there(name + "_recursive") {
			name += "_recursive"
		}
		k.throttle = append(k.throttle, ioFile{name, kind})
	}
	// CFQ, which kernels have had until 5.0, or BFQ, which has taken its place.
	prefix := "blkio."
	if !there(prefix + "io_serviced") {
		prefix = "blkio.bfq."
	}
	for _, kind := range [...]string{"time", "sectors", "io_service_bytes", "io_serviced", "io_service_time", "io_wait_time", "io_merged", "io_queued"} {
		if there(prefix + kind) {
			k.scheduler = append(k.scheduler, ioFile{prefix + kind, kind})
		}
		if there(prefix + kind + "_recursive") {
			k.schedulerRecursive = append(k.schedulerRecursive, ioFile{prefix + kind + "_recursive", kind})
		}
	}
	return k, nil
}

func (k *blkio) prepare(c *container, _ *isolation.ContainerConfig) (*isolation.Preparation, error) {
	if k.version != 2 {
		return nil, nil
	}
	for _, line := range k.options.IOMax {
		if err := cgroups.Write(filepath.Join(c.dirs[0], "io.max"), line); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (k *blkio) usage(c *container, stats *mesos.ResourceStatistics) error {
	s := &mesos.CgroupInfo_Blkio_Statistics{}
	stats.BlkioStatistics = s
	if k.version == 2 {
		b, err := cgroups.Read(filepath.Join(c.dirs[0], "io.stat"))
		if err != nil {
			return err
		}
		s.Throttling = throttling2(b)
	} else {
		var err error
		if s.Throttling, err = throttling1(c.dirs[0], k.throttle); err != nil {
			return err
		}
		if s.Cfq, err = cfq(c.dirs[0], k.scheduler); err != nil {
			return err
		}
		if s.CfqRecursive, err = cfq(c.dirs[0], k.schedulerRecursive); err != nil {
			return err
		}
	}
	if k.version == 2 {
		// Mesos always has an entry for the whole, be it empty.
		s.Cfq, s.CfqRecursive = []*mesos.CgroupInfo_Blkio_CFQ_Statistics{{}}, []*mesos.CgroupInfo_Blkio_CFQ_Statistics{{}}
	}
	return nil
}

// ioValue is one line of a file of blkio.
type ioValue struct {
	device string // "8:0"; empty for all
	op     mesos.CgroupInfo_Blkio_Operation
	n      uint64
}

// parseIO reads lines "8:0 Read 4096", "8:0 4096" and "Total 4096".
func parseIO(b []byte) []ioValue {
	var values []ioValue
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseUint(f[len(f)-1], 10, 64)
		if err != nil {
			continue
		}
		v := ioValue{n: n}
		if strings.Contains(f[0], ":") {
			v.device = f[0]
		}
		if len(f) == 3 || v.device == "" {
			op := f[len(f)-2]
			v.op = mesos.CgroupInfo_Blkio_Operation(mesos.CgroupInfo_Blkio_Operation_value[strings.ToUpper(op)])
		}
		values = append(values, v)
	}
	return values
}

func (v ioValue) proto() *mesos.CgroupInfo_Blkio_Value {
	return &mesos.CgroupInfo_Blkio_Value{Op: v.op.Enum(), Value: new(v.n)}
}

// deviceOf reads "8:0".
func deviceOf(s string) *mesos.Device_Number {
	major, minor, ok := strings.Cut(s, ":")
	a, errA := strconv.ParseUint(major, 10, 64)
	b, errB := strconv.ParseUint(minor, 10, 64)
	if !ok || errA != nil || errB != nil {
		return nil
	}
	return &mesos.Device_Number{MajorNumber: new(a), MinorNumber: new(b)}
}

// byDevice keeps one T for each device, and hands them out in order, that of all last.
type byDevice[T any] map[string]*T

func (m byDevice[T]) at(device string) *T {
	t := m[device]
	if t == nil {
		t = new(T)
		m[device] = t
	}
	return t
}

func (m byDevice[T]) list(number func(*T, *mesos.Device_Number)) []*T {
	whole := m.at("")
	delete(m, "")
	names := make([]string, 0, len(m))
	for d := range m {
		names = append(names, d)
	}
	slices.Sort(names)
	var all []*T
	for _, d := range names {
		number(m[d], deviceOf(d))
		all = append(all, m[d])
	}
	return append(all, whole)
}

func throttling1(dir string, files []ioFile) ([]*mesos.CgroupInfo_Blkio_Throttling_Statistics, error) {
	all := byDevice[mesos.CgroupInfo_Blkio_Throttling_Statistics]{}
	for _, file := range files {
		b, err := cgroups.Read(filepath.Join(dir, file.name))
		if err != nil {
			return nil, err
		}
		for _, v := range parseIO(b) {
			if s := all.at(v.device); file.kind == "io_serviced" {
				s.IoServiced = append(s.IoServiced, v.proto())
			} else {
				s.IoServiceBytes = append(s.IoServiceBytes, v.proto())
			}
		}
	}
	return listThrottling(all), nil
}

func listThrottling(all byDevice[mesos.CgroupInfo_Blkio_Throttling_Statistics]) []*mesos.CgroupInfo_Blkio_Throttling_Statistics {
	return all.list(func(s *mesos.CgroupInfo_Blkio_Throttling_Statistics, d *mesos.Device_Number) { s.Device = d })
}

// throttling2 turns lines "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6" into what
// v1 would say.
func throttling2(b []byte) []*mesos.CgroupInfo_Blkio_Throttling_Statistics {
	type kind struct {
		op    mesos.CgroupInfo_Blkio_Operation
		bytes bool
	}
	kinds := map[string]kind{
		"rbytes": {mesos.CgroupInfo_Blkio_READ, true}, "wbytes": {mesos.CgroupInfo_Blkio_WRITE, true}, "dbytes": {mesos.CgroupInfo_Blkio_DISCARD, true},
		"rios": {mesos.CgroupInfo_Blkio_READ, false}, "wios": {mesos.CgroupInfo_Blkio_WRITE, false}, "dios": {mesos.CgroupInfo_Blkio_DISCARD, false},
	}
	all := byDevice[mesos.CgroupInfo_Blkio_Throttling_Statistics]{}
	add := func(s *mesos.CgroupInfo_Blkio_Throttling_Statistics, bytes bool, v ioValue) {
		if bytes {
			s.IoServiceBytes = append(s.IoServiceBytes, v.proto())
		} else {
			s.IoServiced = append(s.IoServiced, v.proto())
		}
	}
	var bytes, ios uint64
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || deviceOf(f[0]) == nil {
			continue
		}
		var deviceBytes, deviceIOs uint64
		for _, pair := range f[1:] {
			name, text, _ := strings.Cut(pair, "=")
			n, err := strconv.ParseUint(text, 10, 64)
			k, ok := kinds[name]
			if err != nil || !ok {
				continue
			}
			add(all.at(f[0]), k.bytes, ioValue{op: k.op, n: n})
			if k.bytes {
				deviceBytes += n
			} else {
				deviceIOs += n
			}
		}
		add(all.at(f[0]), true, ioValue{op: mesos.CgroupInfo_Blkio_TOTAL, n: deviceBytes})
		add(all.at(f[0]), false, ioValue{op: mesos.CgroupInfo_Blkio_TOTAL, n: deviceIOs})
		bytes, ios = bytes+deviceBytes, ios+deviceIOs
	}
	add(all.at(""), true, ioValue{op: mesos.CgroupInfo_Blkio_TOTAL, n: bytes})
	add(all.at(""), false, ioValue{op: mesos.CgroupInfo_Blkio_TOTAL, n: ios})
	return listThrottling(all)
}

// cfq reads the files of the scheduler.
func cfq(dir string, files []ioFile) ([]*mesos.CgroupInfo_Blkio_CFQ_Statistics, error) {
	all := byDevice[mesos.CgroupInfo_Blkio_CFQ_Statistics]{}
	for _, file := range files {
		b, err := cgroups.Read(filepath.Join(dir, file.name))
		if err != nil {
			return nil, err
		}
		for _, v := range parseIO(b) {
			addCFQ(all.at(v.device), file.kind, v)
		}
	}
	return all.list(func(s *mesos.CgroupInfo_Blkio_CFQ_Statistics, d *mesos.Device_Number) { s.Device = d }), nil
}

func addCFQ(s *mesos.CgroupInfo_Blkio_CFQ_Statistics, kind string, v ioValue) {
	switch kind {
	case "time":
		s.Time = new(v.n)
	case "sectors":
		s.Sectors = new(v.n)
	case "io_service_bytes":
		s.IoServiceBytes = append(s.IoServiceBytes, v.proto())
	case "io_serviced":
		s.IoServiced = append(s.IoServiced, v.proto())
	case "io_service_time":
		s.IoServiceTime = append(s.IoServiceTime, v.proto())
	case "io_wait_time":
		s.IoWaitTime = append(s.IoWaitTime, v.proto())
	case "io_merged":
		s.IoMerged = append(s.IoMerged, v.proto())
	case "io_queued":
		s.IoQueued = append(s.IoQueued, v.proto())
	}
}
