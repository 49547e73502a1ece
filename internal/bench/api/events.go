package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/master"
	"clusterd/internal/bench/measure"
)

// benchEvents has many subscribers of the operator API's stream listen to tasks that change
// their states. Every subscriber gets the whole state first, hence the smaller cluster.
func benchEvents(ctx context.Context, s *settings) (_ []measure.Row, err error) {
	w, err := create(ctx, s, shape{
		name: "events", agents: max(s.agents/10, 1), frameworks: min(s.frameworks, 10), running: max(s.tasks/10, 1),
		masterFlags: []string{fmt.Sprintf("--max_operator_event_stream_subscribers=%d", s.subscribers)},
	})
	if err != nil {
		return nil, err
	}
	defer func() { w.stop(err) }()
	quiet, err := measure.RSS(w.c.Master.PID())
	if err != nil {
		return nil, err
	}
	a := new(audience)
	defer a.close()
	begin := time.Now()
	first, err := a.gather(ctx, w.c.Master.Addr, s.subscribers)
	if err != nil {
		return nil, err
	}
	gathered := time.Since(begin)
	open, err := measure.RSS(w.c.Master.PID())
	if err != nil {
		return nil, err
	}
	share, err := w.cpu()
	if err != nil {
		return nil, err
	}
	begin = time.Now()
	timed, stop := context.WithTimeout(ctx, s.length)
	sent, err := w.flip(timed, s.rate)
	stop()
	if err != nil {
		return nil, err
	}
	sending := time.Since(begin)
	a.settle(ctx, int64(sent)*int64(s.subscribers))
	took := a.last.Load() - begin.UnixNano()
	used, err := share()
	if err != nil {
		return nil, err
	}
	after, err := measure.RSS(w.c.Master.PID())
	if err != nil {
		return nil, err
	}
	received, cut := a.received.Load(), a.cut.Load()
	a.close()
	if len(a.delays) == 0 {
		err = errors.New("no event was measured")
		return nil, err
	}
	return []measure.Row{
		{
			What: fmt.Sprintf("%d subscribers get the state of %d tasks", s.subscribers, w.shape.running), Value: fmt.Sprintf("%.1f s", gathered.Seconds()),
			Note: fmt.Sprintf("%s each, protobuf; all at once", megabytes(float64(first))),
		},
		{
			What: "- task updates sent by agents", Value: fmt.Sprintf("%.0f/s for %.1f s", float64(sent)/sending.Seconds(), sending.Seconds()),
			Target: fmt.Sprintf("%d/s", s.rate),
		},
		{
			What: "- events delivered", Value: fmt.Sprintf("%.0f/s", float64(received)/(float64(took)/1e9)),
			Note: fmt.Sprintf("%d of %d; %d subscribers were cut off", received, int64(sent)*int64(s.subscribers), cut),
		},
		{What: "- update sent -> subscriber", Value: measure.Quantiles(a.delays, ms), Note: fmt.Sprintf("%d events", len(a.delays))},
		{What: "- processors used by the master", Value: fmt.Sprintf("%.2f", used), Note: "the subscribers and agents use the others"},
		{
			What: "- memory of the master", Value: megabytes(after),
			Note: fmt.Sprintf("resident; %s without subscribers, %s when they had just come", megabytes(quiet), megabytes(open)),
		},
	}, nil
}

// flip has tasks change their states so often a second, between two in turn, until the
// context ends, and returns how many updates were sent.
func (w *world) flip(ctx context.Context, rate int) (int, error) {
	const senders = 4
	var sent atomic.Int64
	var g errgroup.Group
	for k := range senders {
		g.Go(func() error {
			begin := time.Now()
			pulses := time.NewTicker(time.Millisecond)
			defer pulses.Stop()
			for n := 0; ; {
				select {
				case <-ctx.Done():
					return nil
				case <-pulses.C:
				}
				for due := int(time.Since(begin).Seconds() * float64(rate) / senders); n < due && ctx.Err() == nil; n++ {
					i := n*senders + k
					if err := w.flipOne(i%w.shape.running, i/w.shape.running); err != nil {
						return err
					}
					sent.Add(1)
				}
			}
		})
	}
	err := g.Wait()
	return int(sent.Load()), err
}

func (w *world) flipOne(i, round int) error {
	state := mesos.TaskState_TASK_STARTING
	if round%2 == 1 {
		state = mesos.TaskState_TASK_RUNNING
	}
	task := w.mix(i)
	info := w.infos[task%len(w.infos)]
	return w.agents[i%w.shape.agents].Update(info.Id, w.taskID(task, mesos.TaskState_TASK_RUNNING), state)
}

// audience is many subscribers. They look into few events, so as to leave the processors
// to the master.
type audience struct {
	conns    []net.Conn
	wg       sync.WaitGroup
	received atomic.Int64
	last     atomic.Int64 // when something came, in nanoseconds
	cut      atomic.Int64 // streams that the master has ended
	closed   atomic.Bool

	mu sync.Mutex
	// mu guards what follows.
	delays []time.Duration
}

// measured of so many events one is looked into.
const measured = 200

// least is how large an event about a task is; a heartbeat is smaller.
const least = 32

// gather opens n streams, and waits until each has got its first event, the state.
func (a *audience) gather(ctx context.Context, addr string, n int) (size int64, err error) {
	g, gctx := errgroup.WithContext(ctx)
	var mu sync.Mutex // guards a.conns and size
	for i := range n {
		g.Go(func() error {
			in, conn, err := subscribeEvents(gctx, addr)
			if conn != nil {
				mu.Lock()
				a.conns = append(a.conns, conn)
				mu.Unlock()
			}
			if err != nil {
				return err
			}
			first, err := skip(in)
			if err != nil {
				return fmt.Errorf("first event: %w", err)
			}
			mu.Lock()
			size = first
			mu.Unlock()
			a.wg.Go(func() { a.listen(in, i) })
			return nil
		})
	}
	err = g.Wait()
	return size, err
}

// subscribeEvents opens a stream, without what net/http spends on a connection.
func subscribeEvents(ctx context.Context, addr string) (*bufio.Reader, net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	const body = `{"type":"SUBSCRIBE"}`
	_, err = fmt.Fprintf(conn, "POST /api/v1 HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAccept: application/x-protobuf\r\n"+
		"Content-Length: %d\r\n\r\n%s", addr, len(body), body)
	if err != nil {
		return nil, conn, err
	}
	//nolint:bodyclose // the body ends with the connection
	res, err := http.ReadResponse(bufio.NewReaderSize(conn, 64<<10), &http.Request{Method: http.MethodPost})
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("SUBSCRIBE: %s", res.Status)
	}
	if err != nil {
		return nil, conn, err
	}
	return bufio.NewReaderSize(res.Body, 64<<10), conn, nil
}

// size reads what stands before a record.
func size(in *bufio.Reader) (int64, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(line[:len(line)-1]), 10, 64)
}

// skip reads a record, and returns its size.
func skip(in *bufio.Reader) (int64, error) {
	n, err := size(in)
	if err == nil {
		_, err = in.Discard(int(n))
	}
	return n, err
}

// listen counts events until the stream ends. Subscribers do not look into the same ones.
func (a *audience) listen(in *bufio.Reader, number int) {
	var delays []time.Duration
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.delays = append(a.delays, delays...)
		if !a.closed.Load() {
			a.cut.Add(1)
		}
	}()
	buf := make([]byte, 64<<10)
	for n := number; ; {
		length, err := size(in)
		if err != nil {
			return
		}
		if length < least || n%measured != 0 || length > int64(len(buf)) {
			_, err = in.Discard(int(length))
		} else if _, err = io.ReadFull(in, buf[:length]); err == nil {
			now := time.Now()
			var e master.Event
			if proto.Unmarshal(buf[:length], &e) == nil && e.GetTaskUpdated() != nil {
				sent := time.Unix(0, int64(e.GetTaskUpdated().GetStatus().GetTimestamp()*1e9))
				delays = append(delays, now.Sub(sent))
			}
			a.last.Store(now.UnixNano())
		}
		if err != nil {
			return
		}
		if length >= least {
			n++
			a.received.Add(1)
		}
	}
}

// settle waits until all events have come, or nothing comes any more.
func (a *audience) settle(ctx context.Context, all int64) {
	for last, quiet := int64(-1), 0; quiet < 50 && a.received.Load() < all && ctx.Err() == nil; {
		wait(ctx, 100*time.Millisecond)
		if now := a.received.Load(); now == last {
			quiet++
		} else {
			last, quiet = now, 0
		}
	}
}

// close ends the streams; it may be called again.
func (a *audience) close() {
	a.closed.Store(true)
	for _, c := range a.conns {
		c.Close()
	}
	a.wg.Wait()
}
