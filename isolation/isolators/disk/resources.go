package disk

import (
	"math"
	"strconv"

	mesos "clusterd/api/mesos/v1"
)

// isDisk says whether a resource is disk space.
func isDisk(r *mesos.Resource) bool {
	return r.GetName() == "disk" && r.GetType() == mesos.Value_SCALAR
}

// isMount says whether a disk is a file system of its own, which bounds itself.
func isMount(r *mesos.Resource) bool {
	source := r.GetDisk().GetSource()
	return source != nil && source.GetType() == mesos.Resource_DiskInfo_Source_MOUNT
}

// bytesOf adds up resources, which are in MB.
func bytesOf(resources ...*mesos.Resource) uint64 {
	var milli int64
	for _, r := range resources {
		milli += int64(math.Round(r.GetScalar().GetValue() * 1000))
	}
	return uint64(max(milli, 0)) * (1 << 20) / 1000
}

// formatBytes writes an amount as Mesos does: in the largest unit that loses nothing
// (3rdparty/stout/include/stout/bytes.hpp).
func formatBytes(n uint64) string {
	units := []string{"B", "KB", "MB", "GB", "TB"}
	for n != 0 && n%1024 == 0 && len(units) > 1 {
		n /= 1024
		units = units[1:]
	}
	return strconv.FormatUint(n, 10) + units[0]
}
