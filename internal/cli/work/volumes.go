package work

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/cli/console"
	"clusterd/internal/units"
)

// persistent is a persistent volume that a task is to have.
type persistent struct {
	id, path string
	// size to create it with, in megabytes; 0: it must be there.
	size float64
}

// volume is one --volume: either part of the container, or a resource.
type volume struct {
	mount      *mesos.Volume
	persistent *persistent
}

const volumeHint = "HOST:CONTAINER[:ro], or key=value with commas: type=host|sandbox|persistent|secret|image|docker, path=IN_CONTAINER, and " +
	"source=DIR (host, sandbox), id=ID and size=1GB (persistent), file=FILE or name=NAME[,key=KEY] (secret), image=NAME (image), driver=D,name=N (docker), ro"

// parseVolume reads HOST:CONTAINER[:ro] or key=value pairs.
func parseVolume(text string) (*volume, error) {
	fail := func(why string) error {
		return console.Hint(fmt.Errorf("%w: --volume %q: %s", console.ErrUsage, text, why), "%s", volumeHint)
	}
	if !strings.HasPrefix(text, "type=") && !strings.Contains(text, ",type=") {
		parts := strings.Split(text, ":")
		mode := mesos.Volume_RW
		switch {
		case len(parts) == 3 && parts[2] == "ro":
			mode = mesos.Volume_RO
		case len(parts) == 3 && parts[2] == "rw":
		case len(parts) != 2:
			return nil, fail("neither HOST:CONTAINER[:ro] nor key=value")
		}
		if parts[0] == "" || parts[1] == "" {
			return nil, fail("a path is missing")
		}
		return &volume{mount: hostVolume(parts[0], parts[1], mode)}, nil
	}
	keys := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		k, v, _ := strings.Cut(part, "=")
		if _, twice := keys[k]; twice || k == "" {
			return nil, fail(fmt.Sprintf("%q", part))
		}
		keys[k] = v
	}
	kind := keys["type"]
	known, ok := volumeKeys[kind]
	if !ok {
		return nil, fail(fmt.Sprintf("no type %q", kind))
	}
	for k := range keys {
		if !slices.Contains(known, k) && !slices.Contains([]string{"type", "path", "ro"}, k) {
			return nil, fail(fmt.Sprintf("a volume of type %s has no %s", kind, k))
		}
	}
	if keys["path"] == "" {
		return nil, fail("path is missing")
	}
	v, why := makeVolume(kind, keys)
	if why != "" {
		return nil, fail(why)
	}
	return v, nil
}

// volumeKeys are the keys of each type, besides type, path and ro.
var volumeKeys = map[string][]string{
	"host": {"source", "propagation"}, "sandbox": {"source", "parent"}, "persistent": {"id", "size"},
	"secret": {"file", "name", "key"}, "image": {"image"}, "docker": {"driver", "name"},
}

func hostVolume(source, path string, mode mesos.Volume_Mode) *mesos.Volume {
	v := &mesos.Volume{Mode: mode.Enum(), ContainerPath: &path}
	if strings.HasPrefix(source, "/") {
		v.Source = &mesos.Volume_Source{Type: mesos.Volume_Source_HOST_PATH.Enum(), HostPath: &mesos.Volume_Source_HostPath{Path: &source}}
		return v
	}
	// Relative paths are those of the sandbox, as Mesos has it.
	v.Source = &mesos.Volume_Source{Type: mesos.Volume_Source_SANDBOX_PATH.Enum(), SandboxPath: &mesos.Volume_Source_SandboxPath{
		Type: mesos.Volume_Source_SandboxPath_SELF.Enum(), Path: &source,
	}}
	return v
}

// makeVolume makes the volume of a type; why says what is wrong.
func makeVolume(kind string, keys map[string]string) (v *volume, why string) {
	path := keys["path"]
	mode := mesos.Volume_RW
	if ro, ok := keys["ro"]; ok && ro != "false" {
		mode = mesos.Volume_RO
	}
	m := &mesos.Volume{Mode: &mode, ContainerPath: &path}
	switch kind {
	case "host":
		if !strings.HasPrefix(keys["source"], "/") {
			return nil, "source is an absolute path on the host"
		}
		m = hostVolume(keys["source"], path, mode)
		if p, ok := keys["propagation"]; ok {
			mp, known := mesos.MountPropagation_Mode_value[strings.ToUpper(strings.ReplaceAll(p, "-", "_"))]
			if !known {
				return nil, "propagation is host-to-container or bidirectional"
			}
			m.Source.HostPath.MountPropagation = &mesos.MountPropagation{Mode: mesos.MountPropagation_Mode(mp).Enum()}
		}
	case "sandbox":
		source, from := keys["source"], mesos.Volume_Source_SandboxPath_SELF
		if source == "" {
			return nil, "source is missing: a path in the sandbox"
		}
		if p, ok := keys["parent"]; ok && p != "false" {
			from = mesos.Volume_Source_SandboxPath_PARENT
		}
		m.Source = &mesos.Volume_Source{Type: mesos.Volume_Source_SANDBOX_PATH.Enum(), SandboxPath: &mesos.Volume_Source_SandboxPath{
			Type: from.Enum(), Path: &source,
		}}
	case "persistent":
		return persistentVolume(keys)
	case "secret":
		secret, why := secretOf(keys)
		if why != "" {
			return nil, why
		}
		m.Source = &mesos.Volume_Source{Type: mesos.Volume_Source_SECRET.Enum(), Secret: secret}
	case "image":
		if keys["image"] == "" {
			return nil, "image is missing"
		}
		m.Image = imageOf(keys["image"])
	case "docker":
		if keys["name"] == "" {
			return nil, "name is missing"
		}
		m.Source = &mesos.Volume_Source{Type: mesos.Volume_Source_DOCKER_VOLUME.Enum(), DockerVolume: &mesos.Volume_Source_DockerVolume{
			Name: new(keys["name"]),
		}}
		if d := keys["driver"]; d != "" {
			m.Source.DockerVolume.Driver = &d
		}
	}
	return &volume{mount: m}, ""
}

func persistentVolume(keys map[string]string) (*volume, string) {
	p := &persistent{id: keys["id"], path: keys["path"]}
	if p.id == "" {
		return nil, "id is missing"
	}
	if _, ro := keys["ro"]; ro {
		return nil, "a persistent volume is never read only"
	}
	if strings.HasPrefix(p.path, "/") {
		return nil, "path of a persistent volume is relative to the sandbox"
	}
	if text, ok := keys["size"]; ok {
		mb, err := megabytes(text)
		if err != nil || mb <= 0 {
			return nil, "size is a number of megabytes, or the likes of 10GB"
		}
		p.size = mb
	}
	return &volume{persistent: p}, ""
}

func secretOf(keys map[string]string) (*mesos.Secret, string) {
	file, name := keys["file"], keys["name"]
	switch {
	case file != "" && name != "" || file == "" && name == "":
		return nil, "a secret has either a file, or a name"
	case file != "":
		// It travels with the task, and is not written to the disk of any master.
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err.Error()
		}
		return &mesos.Secret{Type: mesos.Secret_VALUE.Enum(), Value: &mesos.Secret_Value{Data: b}}, ""
	}
	ref := &mesos.Secret_Reference{Name: &name}
	if key := keys["key"]; key != "" {
		ref.Key = &key
	}
	return &mesos.Secret{Type: mesos.Secret_REFERENCE.Enum(), Reference: ref}, ""
}

func imageOf(name string) *mesos.Image {
	return &mesos.Image{Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: &name}}
}

// megabytes reads a number of megabytes, or the likes of 10GB.
func megabytes(text string) (float64, error) {
	if v, err := strconv.ParseFloat(text, 64); err == nil {
		return v, nil
	}
	b, err := units.ParseBytes(text)
	return float64(b) / (1 << 20), err
}
