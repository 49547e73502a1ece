package allocator

import (
	"fmt"
	"strconv"
	"strings"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// parseScript reads a line of resources: as --resources has them, or a JSON
// list, and behind an "@" what all of them are made:
//
//	static=ROLE dynamic=ROLE   reserved, in this order; may be repeated
//	principal=P                of the dynamic reservations before it
//	volume=ID                  a persistent volume
//	shared, revocable
//	mount=ROOT path=ROOT       disk of this source
//	provider=ID                of a resource provider
func parseScript(line string) (resources.Resources, error) {
	text, flags, _ := strings.Cut(line, " @ ")
	var r resources.Resources
	var err error
	if strings.HasPrefix(text, "[") {
		r, err = anyJSON(text)
	} else {
		r, err = resources.Parse(text, "*")
	}
	if err != nil || flags == "" {
		return r, err
	}
	items := r.Proto()
	for _, it := range items {
		for flag := range strings.FieldsSeq(flags) {
			if err := applyFlag(it, flag); err != nil {
				return r, fmt.Errorf("%q: %w", line, err)
			}
		}
	}
	return resources.FromProto(items)
}

func applyFlag(it *mesos.Resource, flag string) error {
	name, value, _ := strings.Cut(flag, "=")
	disk := func() *mesos.Resource_DiskInfo {
		if it.Disk == nil {
			it.Disk = &mesos.Resource_DiskInfo{}
		}
		return it.Disk
	}
	switch name {
	case "static", "dynamic":
		it.Reservations = append(it.Reservations, resources.Reservation{Dynamic: name == "dynamic", Role: value}.Proto())
	case "principal":
		for _, e := range it.GetReservations() {
			if e.GetType() == mesos.Resource_ReservationInfo_DYNAMIC {
				e.Principal = &value
			}
		}
	case "volume":
		disk().Persistence = &mesos.Resource_DiskInfo_Persistence{Id: &value}
		disk().Volume = &mesos.Volume{ContainerPath: new("data"), Mode: mesos.Volume_RW.Enum()}
	case "mount":
		disk().Source = &mesos.Resource_DiskInfo_Source{
			Type:  mesos.Resource_DiskInfo_Source_MOUNT.Enum(),
			Mount: &mesos.Resource_DiskInfo_Source_Mount{Root: &value},
		}
	case "path":
		disk().Source = &mesos.Resource_DiskInfo_Source{
			Type: mesos.Resource_DiskInfo_Source_PATH.Enum(),
			Path: &mesos.Resource_DiskInfo_Source_Path{Root: &value},
		}
	case "shared":
		it.Shared = &mesos.Resource_SharedInfo{}
	case "revocable":
		it.Revocable = &mesos.Resource_RevocableInfo{}
	case "provider":
		it.ProviderId = &mesos.ResourceProviderID{Value: &value}
	default:
		return fmt.Errorf("unknown flag %s", strconv.Quote(flag))
	}
	return nil
}
