package sim

import (
	"time"
	"unsafe"
)

// wallTime is what time.Now returns on a host whose wall clock shows wall and whose
// monotonic clock has run for mono: the wall clock can be set, the monotonic one
// runs on. Cores meet both, since what they compare within one process follows the
// monotonic reading and what they write down is the wall's.
//
// The runtime gives nobody such a value of its own making, so it is put together
// from the documented parts of a time.Time; [TestWallTime] notices if they change.
func wallTime(wall time.Time, mono time.Duration) time.Time {
	const (
		hasMonotonic = 1 << 63
		secondsAt    = 30 // above the nanoseconds
	)
	var t time.Time
	parts := (*struct {
		wall uint64
		ext  int64
		loc  unsafe.Pointer
	})(unsafe.Pointer(&t))
	parts.wall = hasMonotonic | uint64(wall.Unix()-wallEpoch)<<secondsAt | uint64(wall.Nanosecond())
	parts.ext = int64(mono)
	return t
}

// wallEpoch is where the seconds of such a time begin.
var wallEpoch = time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
