package metrics

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// System is what `/system/stats.json` and the `system/` metrics show.
type System struct {
	Load1, Load5, Load15 float64
	CPUs                 int
	MemTotalBytes        uint64
	MemFreeBytes         uint64
}

// ReadSystem reads load, processors and memory from /proc and /sys.
func ReadSystem() (System, error) { return readSystem("/") }

func readSystem(root string) (System, error) {
	var s System
	load, err := os.ReadFile(root + "proc/loadavg")
	if err != nil {
		return s, fmt.Errorf("read load: %w", err)
	}
	if _, err := fmt.Sscan(string(load), &s.Load1, &s.Load5, &s.Load15); err != nil {
		return s, fmt.Errorf("parse load %q: %w", load, err)
	}
	mem, err := os.ReadFile(root + "proc/meminfo")
	if err != nil {
		return s, fmt.Errorf("read memory: %w", err)
	}
	for scan := bufio.NewScanner(bytes.NewReader(mem)); scan.Scan(); {
		name, rest, _ := strings.Cut(scan.Text(), ":")
		var into *uint64
		switch name {
		case "MemTotal":
			into = &s.MemTotalBytes
		case "MemFree":
			into = &s.MemFreeBytes
		default:
			continue
		}
		kb, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
		if err != nil {
			return s, fmt.Errorf("parse memory line %q: %w", scan.Text(), err)
		}
		*into = kb << 10
	}
	if s.MemTotalBytes == 0 {
		return s, fmt.Errorf("read memory: no MemTotal in %sproc/meminfo", root)
	}
	s.CPUs = onlineCPUs(root)
	return s, nil
}

// onlineCPUs counts the processors that are switched on, as
// sysconf(_SC_NPROCESSORS_ONLN) does; runtime.NumCPU would count only those
// this process may use.
func onlineCPUs(root string) int {
	data, err := os.ReadFile(root + "sys/devices/system/cpu/online")
	if err != nil {
		return runtime.NumCPU()
	}
	n := 0
	for part := range strings.SplitSeq(strings.TrimSpace(string(data)), ",") {
		low, high, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(low)
		if err != nil {
			return runtime.NumCPU()
		}
		last := first
		if isRange {
			if last, err = strconv.Atoi(high); err != nil || last < first {
				return runtime.NumCPU()
			}
		}
		n += last - first + 1
	}
	return n
}

// CollectSystem publishes the `system/` values.
func (r *Registry) CollectSystem() {
	r.Collect("system", func(emit func(Sample)) {
		s, err := ReadSystem()
		if err != nil {
			return // as in Mesos, a gauge without a value is left out
		}
		emit(Sample{Name: "system/cpus_total", Value: float64(s.CPUs)})
		emit(Sample{Name: "system/load_1min", Value: s.Load1})
		emit(Sample{Name: "system/load_5min", Value: s.Load5})
		emit(Sample{Name: "system/load_15min", Value: s.Load15})
		emit(Sample{Name: "system/mem_total_bytes", Value: float64(s.MemTotalBytes)})
		emit(Sample{Name: "system/mem_free_bytes", Value: float64(s.MemFreeBytes)})
	})
}
