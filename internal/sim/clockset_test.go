package sim

import (
	"testing"
	"time"

	"clusterd/allocator"
	clusterdv1 "clusterd/api/clusterd/v1"
	mesos "clusterd/api/mesos/v1"
	"clusterd/server/core"
)

// TestClockSet: a host's clock that is set back does not prolong what a master has
// taken over from the registry, nor does one that is set forward shorten it.
func TestClockSet(t *testing.T) {
	for _, set := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		rec := core.Recovered{Frameworks: []core.RecoveredFramework{{
			Info: &mesos.FrameworkInfo{
				User: new("u"), Name: new("f"), Id: &mesos.FrameworkID{Value: new("F")}, FailoverTimeout: new(7200.0),
			},
			Deadline: time.Unix(0, start.Add(2*time.Hour).UnixNano()),
		}}}
		cfg := NewConfig(1).Core
		cfg.MasterInfo = &mesos.MasterInfo{Id: new("M"), Ip: new(uint32(1)), Port: new(uint32(5050))}
		c := core.New(cfg, rec, allocator.New(allocator.DefaultOptions()), wallTime(start, 0))
		removed := func(passed time.Duration) bool {
			for _, e := range c.Handle(wallTime(start.Add(set+passed), passed), core.Tick{}) {
				if p, ok := e.(core.Propose); ok && p.Commands[0].GetKind() == clusterdv1.Command_REMOVE_FRAMEWORK {
					return true
				}
			}
			return false
		}
		if removed(119 * time.Minute) {
			t.Errorf("clock set by %s: the framework is removed before its time", set)
		}
		if !removed(121 * time.Minute) {
			t.Errorf("clock set by %s: the framework is not removed in time", set)
		}
	}
}
