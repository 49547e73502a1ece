package policy

import (
	"math"
	"time"
)

// growth is by how much one bucket of a histogram is wider than the one before: its
// figures are right to one per cent.
const growth = 1.02

// histogram counts durations in buckets that grow.
type histogram struct {
	n       int
	sum     float64 // seconds
	max     time.Duration
	buckets []uint32
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.n++
	h.sum += d.Seconds()
	h.max = max(h.max, d)
	i := int(math.Log1p(float64(d)/1e3) / math.Log(growth))
	for len(h.buckets) <= i {
		h.buckets = append(h.buckets, 0)
	}
	h.buckets[i]++
}

func (h *histogram) merge(o *histogram) {
	h.n += o.n
	h.sum += o.sum
	h.max = max(h.max, o.max)
	for len(h.buckets) < len(o.buckets) {
		h.buckets = append(h.buckets, 0)
	}
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
}

// quantile is the duration that the part q of all does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	left := int(math.Ceil(q * float64(h.n)))
	for i, n := range h.buckets {
		if left -= int(n); left <= 0 {
			middle := (math.Pow(growth, float64(i)+0.5) - 1) * 1e3
			return min(time.Duration(middle), h.max)
		}
	}
	return h.max
}

// Quantiles are what is told of many durations.
type Quantiles struct {
	Count int           `json:"count"`
	Mean  time.Duration `json:"mean_ns"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}

func (h *histogram) quantiles() Quantiles {
	if h.n == 0 {
		return Quantiles{}
	}
	return Quantiles{
		Count: h.n, Mean: time.Duration(h.sum / float64(h.n) * 1e9),
		P50: h.quantile(0.5), P90: h.quantile(0.9), P99: h.quantile(0.99), Max: h.max,
	}
}
