package events

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// BenchmarkAnnounce is what an event costs the core.
func BenchmarkAnnounce(b *testing.B) {
	for _, listeners := range []int{0, 100} {
		b.Run(strconv.Itoa(listeners), func(b *testing.B) {
			h := newHouse(b, 1, func(o *Options) { o.Logger = zerolog.Nop() })
			for range listeners {
				_ = h.subscribe(b, formats["mesos-protobuf"], "")
			}
			e := taskEvent()
			b.ReportAllocs()
			serial := uint64(0)
			for b.Loop() {
				serial++
				next := *e
				next.Serial = serial
				h.hub.Announce(&next)
			}
		})
	}
}

func taskEvent() *core.Event {
	t := &core.Task{ID: "task-00017", FrameworkID: leader + "-0000", AgentID: leader + "-S12", State: mesos.TaskState_TASK_RUNNING}
	return &core.Event{Type: core.TaskUpdated, Task: t, Status: status(t), FrameworkInfo: &mesos.FrameworkInfo{User: new("root")}}
}

// BenchmarkEncode is what an event costs once, however many listen.
func BenchmarkEncode(b *testing.B) {
	e := taskEvent()
	for name, f := range formats {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = f.payload(leader, e, whole)
			}
		})
	}
}

// BenchmarkFanout has 1,000 subscribers on loopback sockets listen to 5,000 task updates
// a second for a few seconds. The clients are part of the process, hence of the processor
// time told. Run it with -benchtime=1x.
func BenchmarkFanout(b *testing.B) {
	for _, name := range []string{"mesos-protobuf", "mesos-json"} {
		for _, subscribers := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, subscribers), func(b *testing.B) {
				for range b.N {
					fanout(b, formats[name], subscribers, 5000, 5*time.Second)
				}
			})
		}
	}
}

func fanout(b *testing.B, f format, subscribers, rate int, length time.Duration) {
	h := newHouse(b, 1, func(o *Options) { o.Logger, o.MaxSubscribers = zerolog.Nop(), subscribers })
	sent := make([]atomic.Int64, int(length.Seconds()*float64(rate))+1)
	var wg sync.WaitGroup
	latencies := make([][]time.Duration, subscribers)
	var received atomic.Int64
	for i := range subscribers {
		c := h.dial(b)
		_, _ = io.WriteString(c, "POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAccept: "+f.media.String()+"\r\n\r\n")
		in := bufio.NewReaderSize(c, 64<<10)
		//nolint:bodyclose // chunks are read from the connection
		if res, err := http.ReadResponse(in, &http.Request{Method: http.MethodPost}); err != nil || res.StatusCode != http.StatusOK {
			b.Fatal(res, err)
		}
		wg.Go(func() { latencies[i] = listen(in, sent, &received) })
	}
	before, begin := usage(b), time.Now()
	pulses := time.NewTicker(time.Millisecond)
	defer pulses.Stop()
	for n := 0; n < len(sent)-1; {
		<-pulses.C
		for due := min(int(time.Since(begin).Seconds()*float64(rate)), len(sent)-1); n < due; n++ {
			e := *taskEvent()
			e.Serial = uint64(n + 1)
			sent[n].Store(time.Now().UnixNano())
			h.hub.Announce(&e)
		}
	}
	all := int64(subscribers) * int64(len(sent)-1)
	for end := time.Now().Add(patience); received.Load() < all && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	took, used := time.Since(begin), usage(b)-before
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if received.Load() != all {
		b.Errorf("%d of %d events have come", received.Load(), all)
	}
	h.hub.Close(nil)
	wg.Wait()
	every := slices.Concat(latencies...)
	slices.Sort(every)
	if len(every) > 0 {
		b.ReportMetric(float64(every[len(every)/2])/1e6, "p50-ms")
		b.ReportMetric(float64(every[len(every)*99/100])/1e6, "p99-ms")
		b.ReportMetric(float64(every[len(every)-1])/1e6, "max-ms")
	}
	b.ReportMetric(used.Seconds()/took.Seconds()*100, "cpu-%")
	b.ReportMetric(float64(m.HeapAlloc)/1e6, "heap-MB")
	b.ReportMetric(float64(m.StackInuse)/1e6, "stack-MB")
	b.ReportMetric(float64(received.Load())/took.Seconds(), "events/s")
}

// listen counts the events of a stream by its chunks, and measures one of a hundred.
func listen(in *bufio.Reader, sent []atomic.Int64, received *atomic.Int64) []time.Duration {
	var measured []time.Duration
	n := -2 // SUBSCRIBED and HEARTBEAT
	for {
		line, err := in.ReadSlice('\n')
		if err != nil || len(line) < 3 || line[0] == '0' {
			return measured
		}
		size, err := strconv.ParseInt(string(line[:len(line)-2]), 16, 64)
		if err != nil {
			return measured
		}
		if _, err := in.Discard(int(size) + 2); err != nil {
			return measured
		}
		if n >= 0 && n < len(sent)-1 {
			if n%100 == 50 {
				measured = append(measured, time.Duration(time.Now().UnixNano()-sent[n].Load()))
			}
			received.Add(1)
		}
		n++
	}
}

func usage(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReconnect has 1,000 subscribers come at once to a large cluster, as after a
// failover, and get their snapshots.
func BenchmarkReconnect(b *testing.B) {
	if os.Getenv("CLUSTERD_BENCH_LARGE") == "" {
		b.Skip("takes gigabytes of loopback traffic: set CLUSTERD_BENCH_LARGE=1")
	}
	const subscribers, tasks = 1000, 10_000
	h := newHouse(b, 1, func(o *Options) { o.Logger = zerolog.Nop() })
	h.step()
	for range tasks {
		h.mu.Lock()
		h.launchLocked()
		h.mu.Unlock()
	}
	for b.Loop() {
		h.views = 0
		var wg sync.WaitGroup
		var bytes atomic.Int64
		for range subscribers {
			c := h.dial(b)
			wg.Go(func() {
				_, _ = io.WriteString(c, "POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
				in := bufio.NewReader(c)
				//nolint:bodyclose // likewise
				if _, err := http.ReadResponse(in, &http.Request{Method: http.MethodPost}); err != nil {
					b.Error(err)
					return
				}
				size := recordSize(in)
				if n, err := io.CopyN(io.Discard, httputil.NewChunkedReader(in), size); err != nil {
					b.Error(n, err)
				}
				bytes.Add(size)
				_ = c.Close()
			})
		}
		wg.Wait()
		b.ReportMetric(float64(h.views), "snapshots")
		b.ReportMetric(float64(bytes.Load())/1e6, "MB")
	}
}

// recordSize peeks at the length of the first chunk.
func recordSize(in *bufio.Reader) int64 {
	for n := 3; ; n++ {
		b, err := in.Peek(n)
		if err != nil {
			return 0
		}
		if b[n-1] == '\n' {
			size, _ := strconv.ParseInt(string(b[:n-2]), 16, 64)
			return size
		}
	}
}
