package portmapping

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	mesos "clusterd/api/mesos/v1"
)

// minSampling is the shortest interval between samples.
const minSampling = 20 * time.Millisecond

// RateStatistics are the flags --network_enable_rate_statistics (nothing is zero then),
// --network_rate_statistics_window and ..._interval.
type RateStatistics struct{ Window, Interval time.Duration }

func (r RateStatistics) validate() error {
	switch {
	case r == RateStatistics{}:
		return nil
	case r.Window == 0 || r.Interval == 0:
		return errors.New("--network_enable_rate_statistics needs --network_rate_statistics_window and --network_rate_statistics_interval")
	case r.Window <= r.Interval:
		return fmt.Errorf("--network_rate_statistics_window %v is not longer than the interval, %v", r.Window, r.Interval)
	case r.Interval < minSampling:
		return fmt.Errorf("--network_rate_statistics_interval %v is shorter than %v", r.Interval, minSampling)
	}
	return nil
}

// The counters that are sampled, in the order of the fields of RateStatistics.
const counters = 8

// series are the rates of one container in the window.
type series struct {
	last  [counters]uint64
	at    time.Time
	rates [][counters]uint64
	times []time.Time
}

// add takes what the container's link on the machine has carried: what that receives
// the container sends.
func (s *series) add(now time.Time, l *netlink.LinkStatistics, window time.Duration) {
	values := [counters]uint64{
		l.TxBytes, l.TxPackets, l.TxDropped, l.TxErrors, l.RxBytes, l.RxPackets, l.RxDropped, l.RxErrors,
	}
	if elapsed := now.Sub(s.at).Seconds(); !s.at.IsZero() && elapsed > 0 {
		var rates [counters]uint64
		for i := range values {
			rates[i] = uint64(float64(values[i]-min(values[i], s.last[i])) / elapsed)
		}
		s.rates, s.times = append(s.rates, rates), append(s.times, now)
	}
	s.last, s.at = values, now
	old := 0
	for old < len(s.times) && now.Sub(s.times[old]) > window {
		old++
	}
	s.rates, s.times = slices.Delete(s.rates, 0, old), slices.Delete(s.times, 0, old)
}

// percentiles are those of one counter's rates, nil as long as there are fewer than two.
func (s *series) percentiles(counter int) *mesos.ResourceStatistics_RatePercentiles {
	if len(s.rates) < 2 {
		return nil
	}
	values := make([]uint64, 0, len(s.rates))
	for _, r := range s.rates {
		values = append(values, r[counter])
	}
	slices.Sort(values)
	at := func(p float64) *uint64 {
		position := p * float64(len(values)-1)
		i := int(position)
		value := float64(values[i])
		if i+1 < len(values) {
			value += (position - float64(i)) * float64(values[i+1]-values[i])
		}
		return new(uint64(value))
	}
	return &mesos.ResourceStatistics_RatePercentiles{
		Min: &values[0], Max: &values[len(values)-1], P50: at(.5), P90: at(.9), P95: at(.95),
		P99: at(.99), P999: at(.999), P9999: at(.9999), Samples: new(uint64(len(values))),
	}
}

// sampler samples the links of all containers, as long as there are any.
type sampler struct {
	o  RateStatistics
	wg sync.WaitGroup

	mu sync.Mutex
	// what follows is guarded by mu.
	all    map[string]*series // by name of the link
	stop   context.CancelFunc
	closed bool
}

// watch samples a link from now on.
func (s *sampler) watch(link string) {
	if s.o.Interval == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[string]*series)
	}
	s.all[link] = &series{}
	if s.stop != nil || s.closed {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.wg.Go(func() { s.run(ctx) })
}

func (s *sampler) forget(link string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, link)
	if len(s.all) == 0 && s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// close ends the goroutine and waits for it.
func (s *sampler) close() {
	s.mu.Lock()
	s.closed = true
	if s.stop != nil {
		s.stop()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *sampler) run(ctx context.Context) {
	ticker := time.NewTicker(s.o.Interval)
	defer ticker.Stop()
	for {
		s.sample(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *sampler) sample(ctx context.Context) {
	s.mu.Lock()
	links := make([]string, 0, len(s.all))
	for link := range s.all {
		links = append(links, link)
	}
	s.mu.Unlock()
	for _, name := range links {
		link, err := netlink.LinkByName(name)
		if ctx.Err() != nil {
			return
		}
		if err != nil || link.Attrs().Statistics == nil {
			continue // it is on its way out
		}
		s.mu.Lock()
		if series := s.all[name]; series != nil {
			series.add(time.Now(), link.Attrs().Statistics, s.o.Window)
		}
		s.mu.Unlock()
	}
}

// addTo adds the rates of a link to a container's statistics.
func (s *sampler) addTo(stats *mesos.ResourceStatistics, link string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	series := s.all[link]
	if series == nil {
		return
	}
	stats.NetRateStatistics = &mesos.ResourceStatistics_RateStatistics{
		RxRate: series.percentiles(0), RxPacketRate: series.percentiles(1), RxDropRate: series.percentiles(2), RxErrorRate: series.percentiles(3),
		TxRate: series.percentiles(4), TxPacketRate: series.percentiles(5), TxDropRate: series.percentiles(6), TxErrorRate: series.percentiles(7),
		SamplingWindowSecs: new(s.o.Window.Seconds()), SamplingIntervalSecs: new(s.o.Interval.Seconds()),
	}
}

// Close ends what samples rates.
func (p *PortMapping) Close() error {
	p.sampler.close()
	return nil
}

// resume samples the link of a recovered container.
func (p *PortMapping) resume(own *container) {
	if own.connected {
		p.sampler.watch(own.veth())
	}
}
