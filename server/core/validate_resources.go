package core

import (
	"strings"

	"clusterd/allocator/resources"
	mesos "clusterd/api/mesos/v1"
)

// minExecutorCPUs and minExecutorMem are what an executor of a task group needs
// at least, in thousandths (Mesos: MIN_CPUS and MIN_MEM).
const (
	minExecutorCPUs = 10
	minExecutorMem  = 32_000
)

// validateResources checks resources that a client names (Mesos:
// src/master/validation.cpp, resource::validate).
func validateResources(rs []*mesos.Resource) error {
	if err := resources.ValidateAll(rs); err != nil {
		return within("Invalid resources: ", err)
	}
	var gpus int64
	for _, r := range rs {
		if r.GetName() == "gpus" {
			gpus += resources.ToMilli(r.GetScalar().GetValue())
		}
	}
	if gpus%1000 != 0 {
		return invalidf("Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer")
	}
	for _, r := range rs {
		if err := validateDisk(r); err != nil {
			return within("Invalid DiskInfo: ", err)
		}
	}
	for _, r := range rs {
		if r.Revocable != nil && dynamicallyReserved(r) {
			return invalidf("Invalid ReservationInfo: Dynamically reserved resource %s "+
				"cannot be created from revocable resources", resources.Text(r))
		}
	}
	return nil
}

func dynamicallyReserved(r *mesos.Resource) bool {
	n := len(r.Reservations)
	return n > 0 && r.Reservations[n-1].GetType() == mesos.Resource_ReservationInfo_DYNAMIC
}

func reservationRole(r *mesos.Resource) string {
	if n := len(r.Reservations); n > 0 {
		return r.Reservations[n-1].GetRole()
	}
	return "*"
}

func validateDisk(r *mesos.Resource) error {
	d := r.Disk
	switch {
	case d == nil:
		return nil
	case d.Persistence == nil && d.Volume != nil:
		return invalidf("Non-persistent volume not supported")
	case d.Persistence == nil && d.Source == nil:
		return invalidf("DiskInfo is set but empty")
	case d.Persistence == nil:
		return nil
	case r.Revocable != nil:
		return invalidf("Persistent volumes cannot be created from revocable resources")
	case len(r.Reservations) == 0:
		return invalidf("Persistent volumes cannot be created from unreserved resources")
	case d.Volume == nil:
		return invalidf("Expecting 'volume' to be set for persistent volume")
	case d.Volume.HostPath != nil:
		return invalidf("Expecting 'host_path' to be unset for persistent volume")
	}
	return within("Invalid persistence ID for persistent volume: ", validateID(d.Persistence.GetId()))
}

// validateUniquePersistence checks that volume ids are unique in each role.
func validateUniquePersistence(r resources.Resources) error {
	seen := map[[2]string]bool{}
	volumes := r.PersistentVolumes()
	for i := range volumes.Len() {
		it := volumes.At(i)
		key := [2]string{it.ReservationRole(), it.PersistenceID()}
		if seen[key] {
			return invalidf("Persistence ID '%s' is not unique", it.PersistenceID())
		}
		seen[key] = true
	}
	return nil
}

// validateSingleAllocation checks that resources are allocated to one role.
func validateSingleAllocation(rs []*mesos.Resource) error {
	role := ""
	for i, r := range rs {
		if r.GetAllocationInfo().GetRole() == "" {
			return invalidf("The resources are not allocated to a role")
		}
		if have := r.AllocationInfo.GetRole(); i > 0 && have != role {
			return invalidf("The resources have multiple allocation roles ('%s' and '%s') "+
				"but only one allocation role is allowed", have, role)
		}
		role = r.AllocationInfo.GetRole()
	}
	return nil
}

// validateRevocable checks that no name is used both ways. Like all checks of
// resources it takes one pass: a client may send a million of them.
func validateRevocable(r resources.Resources) error {
	revocable := map[string]bool{}
	for i := range r.Len() {
		it := r.At(i)
		if before, ok := revocable[it.Name()]; ok && before != it.Revocable() {
			return invalidf("Cannot use both revocable and non-revocable '%s' at the same time", it.Name())
		}
		revocable[it.Name()] = it.Revocable()
	}
	return nil
}

// validateSingleProvider checks that resources come from one provider; those of
// the agent itself have none.
func validateSingleProvider(rs []*mesos.Resource) error {
	var ids []string
	seen := map[string]bool{}
	agent := false
	for _, r := range rs {
		if r.ProviderId == nil {
			agent = true
		} else if id := r.ProviderId.GetValue(); !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	switch {
	case len(ids) == 0 && agent, len(ids) == 1 && !agent:
		return nil
	case agent:
		return invalidf("Some resources have a resource provider and some do not")
	}
	return invalidf("The resources have multiple resource providers: %s", strings.Join(ids, ", "))
}

func validatePersistentVolumes(rs []*mesos.Resource) error {
	for _, r := range rs {
		switch {
		case r.Disk == nil:
			return invalidf("Resource %s does not have DiskInfo", resources.Text(r))
		case r.Disk.Persistence == nil:
			return invalidf("'persistence' is not set in DiskInfo")
		case r.Disk.Volume == nil:
			return invalidf("Expecting 'volume' to be set for persistent volume")
		case r.Disk.Volume.GetMode() == mesos.Volume_RO:
			return invalidf("Read-only persistent volume not supported")
		}
	}
	return nil
}

// overlapping reports whether parts have ports, or members of sets, in common.
func overlapping(parts ...resources.Resources) bool {
	var total resources.Resources
	sum := map[string]uint64{}
	for _, p := range parts {
		total = total.Add(p)
		for name, n := range widths(p) {
			sum[name] += n
		}
	}
	for name, n := range widths(total) {
		if sum[name] != n {
			return true
		}
	}
	return false
}

// widths counts the members of each set and range in r.
func widths(r resources.Resources) map[string]uint64 {
	byName := map[string][]resources.Item{}
	for i := range r.Len() {
		it := r.At(i)
		byName[it.Name()] = append(byName[it.Name()], it)
	}
	out := map[string]uint64{}
	for name, items := range byName {
		same := resources.Of(items...)
		n := uint64(len(same.Set(name)))
		for _, rg := range same.Ranges(name) {
			n += rg.End - rg.Begin + 1
		}
		out[name] = n
	}
	return out
}

// allocateTo gives the resources of an operation the role of its offers, where
// the framework has not done so itself.
func allocateTo(role string, lists ...[]*mesos.Resource) {
	for _, rs := range lists {
		for _, r := range rs {
			if r.AllocationInfo == nil {
				r.AllocationInfo = &mesos.Resource_AllocationInfo{}
			}
			if r.AllocationInfo.Role == nil {
				r.AllocationInfo.Role = &role
			}
		}
	}
}
