package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	mesos "clusterd/api/mesos/v1"
	"clusterd/isolation"
	"clusterd/isolation/cgroups"
)

// Errors of handles.
var (
	// ErrBadHandle says that a flag does not hold a handle, or two.
	ErrBadHandle = errors.New("bad net_cls handle")
	// ErrNoHandle says that all handles are taken.
	ErrNoHandle = errors.New("no net_cls handle is free")
)

// netCls is cgroups/net_cls: each container gets a handle that traffic control can tell
// it by (src/slave/containerizer/mesos/isolators/cgroups/subsystems/net_cls.cpp).
type netCls struct {
	nothing
	// handles is nil when the operator gives them out himself.
	handles *handles
}

// handles are the ones of one primary handle.
type handles struct {
	primary, low, high uint16

	mu sync.Mutex
	// used is guarded by mu.
	used map[uint16]bool
}

func newNetCls(s *Set) (controller, error) {
	h, err := parseHandles(s.options.NetClsPrimaryHandle, s.options.NetClsSecondaryHandles)
	return &netCls{handles: h}, err
}

func parseHandles(primary, secondary string) (*handles, error) {
	if primary == "" {
		return nil, nil
	}
	h := &handles{low: 1, high: 0xffff, used: make(map[uint16]bool)}
	var err error
	if h.primary, err = parseUint16(primary); err != nil {
		return nil, fmt.Errorf("--cgroups_net_cls_primary_handle: %w: %q", ErrBadHandle, primary)
	}
	if secondary == "" {
		return h, nil
	}
	low, high, ok := strings.Cut(secondary, ",")
	var errLow, errHigh error
	h.low, errLow = parseUint16(strings.TrimSpace(low))
	h.high, errHigh = parseUint16(strings.TrimSpace(high))
	if !ok || errLow != nil || errHigh != nil || h.low == 0 || h.high < h.low {
		return nil, fmt.Errorf("--cgroups_net_cls_secondary_handles: %w: %q is no range from 1 on", ErrBadHandle, secondary)
	}
	return h, nil
}

// take finds the lowest handle that is free.
func (h *handles) take() (uint32, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := uint32(h.low); n <= uint32(h.high); n++ {
		if !h.used[uint16(n)] {
			h.used[uint16(n)] = true
			return uint32(h.primary)<<16 | n, nil
		}
	}
	return 0, fmt.Errorf("%w: 0x%x:0x%x-0x%x", ErrNoHandle, h.primary, h.low, h.high)
}

// note says that a container of an earlier run has a handle. One that the flags no
// longer name, or that another has too, is left as it is.
func (h *handles) note(handle uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if uint16(handle>>16) == h.primary {
		h.used[uint16(handle)] = true
	}
}

func (h *handles) give(handle uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if uint16(handle>>16) == h.primary {
		delete(h.used, uint16(handle))
	}
}

const classID = "net_cls.classid"

func (n *netCls) prepare(c *container, _ *isolation.ContainerConfig) (*isolation.Preparation, error) {
	if n.handles == nil {
		return nil, nil
	}
	handle, err := n.handles.take()
	if err != nil {
		return nil, err
	}
	c.state = handle
	return nil, cgroups.Write(filepath.Join(c.dirs[0], classID), strconv.FormatUint(uint64(handle), 10))
}

func (n *netCls) recover(c *container, _ *isolation.ContainerState) error {
	handle, err := cgroups.ReadUint(filepath.Join(c.dirs[0], classID))
	if err != nil || handle == 0 {
		return err
	}
	c.state = uint32(handle)
	if n.handles != nil {
		n.handles.note(uint32(handle))
	}
	return nil
}

func (n *netCls) status(c *container, status *mesos.ContainerStatus) error {
	if handle, ok := c.state.(uint32); ok {
		if status.CgroupInfo == nil {
			status.CgroupInfo = &mesos.CgroupInfo{}
		}
		status.CgroupInfo.NetCls = &mesos.CgroupInfo_NetCls{Classid: new(handle)}
	}
	return nil
}

func (n *netCls) cleanup(c *container) {
	if handle, ok := c.state.(uint32); ok && n.handles != nil {
		n.handles.give(handle)
	}
	c.state = nil
}
