package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"clusterd/internal/units"
)

// newRand makes the random numbers of one part of the simulation: parts do not
// disturb each other, so that a framework asks for the same in every policy.
func newRand(seed uint64, part string) *rand.Rand {
	h := uint64(14695981039346656037)
	for i := range len(part) {
		h = (h ^ uint64(part[i])) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed, h))
}

// The distributions that a [Distribution] names.
const (
	Fixed       = "fixed"       // always Mean
	Exponential = "exponential" // of Mean
	Lognormal   = "lognormal"   // of Mean; Sigma is that of the logarithm
	Uniform     = "uniform"     // from Min to Max
)

// Distribution is where random numbers come from.
type Distribution struct {
	Kind     string
	Mean     float64
	Sigma    float64 // of Lognormal; 0 means 1
	Min, Max float64 // of Uniform; of the others bounds, where not 0
}

// average is the mean, but for the effect of bounds.
func (d *Distribution) average() float64 {
	if d.Kind == Uniform {
		return (d.Min + d.Max) / 2
	}
	return d.Mean
}

// draw takes a number.
func (d *Distribution) draw(r *rand.Rand) float64 {
	v := d.Mean
	switch d.Kind {
	case Exponential:
		v *= r.ExpFloat64()
	case Lognormal:
		v *= math.Exp(d.Sigma*r.NormFloat64() - d.Sigma*d.Sigma/2)
	case Uniform:
		return d.Min + (d.Max-d.Min)*r.Float64()
	}
	v = max(v, d.Min)
	if d.Max > 0 {
		v = min(v, d.Max)
	}
	return v
}

// validate checks what was read, and fills in what may be left out.
func (d *Distribution) validate() error {
	for _, v := range []float64{d.Mean, d.Sigma, d.Min, d.Max} {
		if math.IsNaN(v) || v < 0 || v > 1e12 {
			return errors.New("numbers must be between 0 and 1e12")
		}
	}
	if d.Max > 0 && d.Min > d.Max {
		return errors.New("min is greater than max")
	}
	switch d.Kind {
	case "":
		d.Kind = Fixed
	case Fixed, Exponential, Uniform:
	case Lognormal:
		if d.Sigma == 0 {
			d.Sigma = 1
		}
		if d.Sigma > 10 {
			return errors.New("sigma is greater than 10")
		}
	default:
		return fmt.Errorf("no distribution %q (%s, %s, %s, %s)", d.Kind, Fixed, Exponential, Lognormal, Uniform)
	}
	if d.average() <= 0 {
		return errors.New("the mean must be greater than 0")
	}
	return nil
}

// distributionJSON is how a distribution is written when it is more than a number.
type distributionJSON struct {
	Distribution   string          `json:"distribution"`
	Mean, Min, Max json.RawMessage `json:",omitempty"`
	Sigma          float64         `json:"sigma"`
}

// unmarshal reads a number, which is fixed, or an object.
func (d *Distribution) unmarshal(b []byte, number func([]byte) (float64, error)) error {
	*d = Distribution{}
	if len(b) == 0 || b[0] != '{' {
		mean, err := number(b)
		d.Mean = mean
		return err
	}
	var j distributionJSON
	if err := strictUnmarshal(b, &j); err != nil {
		return err
	}
	d.Kind, d.Sigma = j.Distribution, j.Sigma
	for _, m := range []struct {
		name string
		raw  json.RawMessage
		to   *float64
	}{{"mean", j.Mean, &d.Mean}, {"min", j.Min, &d.Min}, {"max", j.Max, &d.Max}} {
		if len(m.raw) == 0 {
			continue
		}
		v, err := number(m.raw)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		*m.to = v
	}
	return nil
}

// Durations is a distribution of durations, in seconds.
type Durations struct{ Distribution }

// UnmarshalJSON reads "10mins" or {"distribution": "exponential", "mean": "10mins"}.
func (d *Durations) UnmarshalJSON(b []byte) error { return d.unmarshal(b, durationNumber) }

func (d *Durations) drawDuration(r *rand.Rand) time.Duration {
	return time.Duration(min(d.draw(r), 1e9) * float64(time.Second))
}

// Numbers is a distribution of whole numbers, at least 1.
type Numbers struct{ Distribution }

// UnmarshalJSON reads 10 or {"distribution": "uniform", "min": 1, "max": 20}.
func (c *Numbers) UnmarshalJSON(b []byte) error {
	return c.unmarshal(b, func(b []byte) (float64, error) {
		var v float64
		err := json.Unmarshal(b, &v)
		return v, err
	})
}

func (c *Numbers) drawCount(r *rand.Rand) int { return max(1, int(math.Round(min(c.draw(r), 1e7)))) }

// Duration is a length of time in a workload.
type Duration time.Duration

// UnmarshalJSON reads "5secs", "2h30m" or a number of seconds.
func (d *Duration) UnmarshalJSON(b []byte) error {
	s, err := durationNumber(b)
	*d = Duration(s * float64(time.Second))
	return err
}

func durationNumber(b []byte) (float64, error) {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		var v float64
		if json.Unmarshal(b, &v) != nil {
			return 0, fmt.Errorf("%s is no duration, such as \"5secs\"", b)
		}
		return v, nil
	}
	d, err := ParseDuration(s)
	return d.Seconds(), err
}

// maxDuration is longer than anybody simulates.
const maxDuration = 10 * 365 * 24 * time.Hour

// ParseDuration reads a duration as Mesos's flags have it (90secs, 1.5hrs) or as Go
// writes it (1m30s).
func ParseDuration(s string) (time.Duration, error) {
	d, err := units.ParseDuration(s)
	if err != nil {
		if d, err = time.ParseDuration(s); err != nil {
			return 0, fmt.Errorf("%q is no duration, such as 30secs, 10mins, 2hrs or 2h30m", s)
		}
	}
	if d < 0 || d > maxDuration {
		return 0, fmt.Errorf("duration %q is not between 0 and ten years", s)
	}
	return d, nil
}
