package isolation

import (
	"google.golang.org/protobuf/proto"

	mesos "clusterd/api/mesos/v1"
)

// withoutSecrets is what may be written to a disk of what a framework asked for: a
// container that runs needs its secrets no more.
func withoutSecrets(info *mesos.ContainerInfo) *mesos.ContainerInfo {
	if info == nil {
		return nil
	}
	info = proto.CloneOf(info)
	forget := func(s *mesos.Secret) {
		if s.GetValue() != nil {
			s.Value = &mesos.Secret_Value{Data: []byte{}}
		}
	}
	images := []*mesos.Image{info.GetMesos().GetImage()}
	for _, v := range info.GetVolumes() {
		forget(v.GetSource().GetSecret())
		images = append(images, v.GetImage())
	}
	for _, i := range images {
		forget(i.GetDocker().GetConfig())
	}
	return info
}

// mapImage lets what an image's root file system is mounted of show the ids of a user
// namespace.
func mapImage(mounts []Mount, namespace string) {
	for i := range mounts {
		mounts[i].IDMap = namespace
	}
}
