package isolation_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/isolationtest"
)

// BenchmarkTrue runs /bin/true: bare, and in containers, from their launch to
// the removal of the last trace. "bare" and "containers" in one run compare.
func BenchmarkTrue(b *testing.B) {
	for _, workers := range []int{1, 4} {
		b.Run(fmt.Sprintf("bare/workers=%d", workers), func(b *testing.B) {
			each(b, workers, func(int) {
				pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
				if err != nil {
					b.Error(err)
					return
				}
				var ws syscall.WaitStatus
				if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil || ws != 0 {
					b.Error(ws, err)
				}
			})
		})
		for name, programs := range map[string]func(testing.TB) *isolation.Programs{"containers": isolationtest.Programs, "containers-whole-binary": wholePrograms} {
			b.Run(fmt.Sprintf("%s/workers=%d", name, workers), func(b *testing.B) {
				m := newMesos(b, programs(b), b.TempDir(), b.TempDir())
				defer m.Close()
				dir := b.TempDir()
				each(b, workers, func(i int) {
					config := &isolation.ContainerConfig{
						ID: &mesos.ContainerID{Value: new("c" + strconv.Itoa(i))}, Sandbox: dir,
						Command: &mesos.CommandInfo{Value: new("/bin/true"), Shell: new(false)},
						Stdout:  filepath.Join(dir, "o"), Stderr: filepath.Join(dir, "e"),
					}
					if err := m.Launch(b.Context(), config); err != nil {
						b.Error(err)
						return
					}
					if t, err := m.Wait(b.Context(), config.ID); err != nil || t.Status != 0 || !t.StatusKnown {
						b.Error(t, err)
					}
					if err := m.Remove(b.Context(), config.ID); err != nil {
						b.Error(err)
					}
				})
			})
		}
	}
}

func each(b *testing.B, workers int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	self, children := cpuTime(b, syscall.RUSAGE_SELF), cpuTime(b, syscall.RUSAGE_CHILDREN)
	b.ResetTimer()
	for range workers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				f(int(i))
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "containers/s")
	b.ReportMetric((cpuTime(b, syscall.RUSAGE_SELF)-self)*1000/float64(b.N), "self-cpu-ms/op")
	b.ReportMetric((cpuTime(b, syscall.RUSAGE_CHILDREN)-children)*1000/float64(b.N), "children-cpu-ms/op")
}

// cpuTime is that of this process, or of the children it has waited for, who
// have waited for theirs: what a container costs however busy the machine is.
func cpuTime(b *testing.B, who int) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
