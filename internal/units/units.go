// Package units reads and writes durations, bytes, percentages and rates in
// Mesos's syntax (stout's Duration and Bytes). It is pure and may be imported by
// everything, the cores included.
package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// durationUnits are the suffixes that stout's Duration knows, smallest first.
var durationUnits = []struct {
	suffix string
	unit   time.Duration
}{
	{"ns", time.Nanosecond},
	{"us", time.Microsecond},
	{"ms", time.Millisecond},
	{"secs", time.Second},
	{"mins", time.Minute},
	{"hrs", time.Hour},
	{"days", day},
	{"weeks", week},
}

// ParseDuration parses Mesos's duration syntax: a decimal number followed at
// once by ns, us, ms, secs, mins, hrs, days or weeks (stout's duration.hpp).
func ParseDuration(s string) (time.Duration, error) {
	end := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end < 0 {
		return 0, fmt.Errorf("Invalid duration '%s'", s) //nolint:staticcheck // Mesos's own text, clients see it.
	}
	number, unit := s[:end], s[end:]
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("Failed to convert '%s' to number", number) //nolint:staticcheck // Mesos's own text.
	}
	for _, u := range durationUnits {
		if u.suffix != unit {
			continue
		}
		// A whole number is multiplied exactly; a float64 would lose nanoseconds of long durations.
		if n, err := strconv.ParseInt(number, 10, 64); err == nil && n <= math.MaxInt64/int64(u.unit) {
			return time.Duration(n) * u.unit, nil
		}
		nanos := value * float64(u.unit)
		if nanos >= math.MaxInt64 {
			return 0, fmt.Errorf("Argument out of the range that a Duration can represent due to int64_t's size limit") //nolint:staticcheck // Mesos's own text.
		}
		return time.Duration(nanos), nil
	}
	return 0, fmt.Errorf("Unknown duration unit '%s'; supported units are 'ns', 'us', 'ms', 'secs', 'mins', 'hrs', 'days', and 'weeks'", unit) //nolint:staticcheck // Mesos's own text.
}

// FormatDuration prints a duration the way Mesos does in `/flags` and in its
// messages: the unit of its magnitude, or the next smaller one if only that
// gives a whole number ("10days" rather than "1.42857142857143weeks").
func FormatDuration(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign = "-"
		if d == math.MinInt64 {
			d = math.MaxInt64
		} else {
			d = -d
		}
	}
	i := 0
	for i+1 < len(durationUnits) && d >= durationUnits[i+1].unit {
		i++
	}
	if i > 0 {
		this, below := durationUnits[i].unit, durationUnits[i-1].unit
		if d%this != 0 && d%below == 0 {
			i--
		}
	}
	u := durationUnits[i]
	if d%u.unit == 0 {
		return sign + strconv.FormatInt(int64(d/u.unit), 10) + u.suffix
	}
	return sign + strconv.FormatFloat(float64(d)/float64(u.unit), 'g', 15, 64) + u.suffix
}

// byteUnits are stout's byte suffixes, largest first; all are powers of 1024.
var byteUnits = []struct {
	suffix string
	unit   uint64
}{
	{"TB", 1 << 40},
	{"GB", 1 << 30},
	{"MB", 1 << 20},
	{"KB", 1 << 10},
	{"B", 1},
}

// ParseBytes parses Mesos's byte syntax: a whole number followed at once by B,
// KB, MB, GB or TB in any case (stout's bytes.hpp).
func ParseBytes(s string) (uint64, error) {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		return 0, fmt.Errorf("Invalid bytes '%s'", s) //nolint:staticcheck // Mesos's own text.
	}
	if s[end] == '.' {
		return 0, fmt.Errorf("Fractional bytes '%s'", s) //nolint:staticcheck // Mesos's own text.
	}
	value, err := strconv.ParseUint(s[:end], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("Failed to convert '%s' to number", s[:end]) //nolint:staticcheck // Mesos's own text.
	}
	unit := strings.ToUpper(s[end:])
	for _, u := range byteUnits {
		if u.suffix != unit {
			continue
		}
		if value > math.MaxUint64/u.unit {
			return 0, fmt.Errorf("bytes '%s' exceed 64 bits", s)
		}
		return value * u.unit, nil
	}
	return 0, fmt.Errorf("Unknown bytes unit '%s'", unit) //nolint:staticcheck // Mesos's own text.
}

// FormatBytes prints a byte count in the largest unit that loses nothing.
func FormatBytes(n uint64) string {
	for _, u := range byteUnits {
		if n != 0 && n%u.unit == 0 {
			return strconv.FormatUint(n/u.unit, 10) + u.suffix
		}
	}
	return "0B"
}

// ParsePercent parses "100%" or "12.5%" and returns the fraction (1, 0.125).
func ParsePercent(s string) (float64, error) {
	number, ok := strings.CutSuffix(s, "%")
	if !ok {
		return 0, fmt.Errorf("percentage '%s' lacks '%%'", s)
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > 100 {
		return 0, fmt.Errorf("percentage '%s' is not between 0%% and 100%%", s)
	}
	return f / 100, nil
}

// ParseRate parses "N/DURATION", such as "1/10mins" (`--agent_removal_rate_limit`).
func ParseRate(s string) (n int, per time.Duration, err error) {
	count, interval, ok := strings.Cut(s, "/")
	if !ok {
		return 0, 0, fmt.Errorf("rate '%s' is not of the form N/DURATION, such as 1/10mins", s)
	}
	n, err = strconv.Atoi(count)
	if err != nil || n < 1 {
		return 0, 0, fmt.Errorf("rate '%s': '%s' is not a positive number", s, count)
	}
	per, err = ParseDuration(interval)
	if err != nil {
		return 0, 0, fmt.Errorf("rate '%s': %w", s, err)
	}
	if per <= 0 {
		return 0, 0, fmt.Errorf("rate '%s': the duration must be positive", s)
	}
	return n, per, nil
}
