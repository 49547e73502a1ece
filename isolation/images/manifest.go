package images

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// source gives the parts of images: a repository of a registry, or a layout in a
// folder. Nothing that it gives is believed.
type source interface {
	// manifest gets a manifest, or a list of them, by tag or digest, and the media
	// type that it is said to have.
	manifest(ctx context.Context, version string) (raw []byte, mediaType string, err error)
	// config gets a small blob whole.
	config(ctx context.Context, digest string) ([]byte, error)
	// blob opens a large one.
	blob(ctx context.Context, digest string, size int64) (io.ReadCloser, error)
}

// image is what has to be known of an image before its layers are there.
type image struct {
	// config is the content, configDigest the name of what says how to run it.
	config       *v1.ConfigFile
	raw          []byte
	configDigest string
	layers       []layer
}

// layer is one layer of an image that can be had.
type layer struct {
	// diffID is the digest of the layer's uncompressed archive, digest that of the
	// archive as it comes; empty if that is not known.
	diffID, digest string
	// size is that of the archive as it comes; -1 if that is not known.
	size int64
	open func(ctx context.Context) (io.ReadCloser, error)
}

// maxIndexes is how many lists of manifests may refer to each other.
const maxIndexes = 4

// resolve finds the image of a version for the platform.
func resolve(ctx context.Context, o *Options, src source, version string) (*image, error) {
	for range maxIndexes {
		raw, mediaType, err := src.manifest(ctx, version)
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", version, err)
		}
		if _, err := v1.NewHash(version); err == nil && digestOf(raw) != version {
			return nil, fmt.Errorf("manifest %s: %w: got %s", version, ErrDigest, digestOf(raw))
		}
		switch kind(raw, mediaType) {
		case types.OCIImageIndex, types.DockerManifestList:
			if version, err = choose(raw, o.Platform); err != nil {
				return nil, err
			}
		case types.OCIManifestSchema1, types.DockerManifestSchema2:
			return imageOf(ctx, o, src, raw)
		case types.DockerManifestSchema1, types.DockerManifestSchema1Signed:
			return nil, fmt.Errorf("manifest %s: schema 1: %w", version, ErrUnsupported)
		default:
			return nil, fmt.Errorf("manifest %s: media type %q: %w", version, mediaType, ErrUnsupported)
		}
	}
	return nil, fmt.Errorf("manifest %s: lists of lists of manifests: %w", version, ErrUnsupported)
}

// kind finds the media type: the manifest itself knows it best.
func kind(raw []byte, said string) types.MediaType {
	var probe struct {
		MediaType     types.MediaType   `json:"mediaType"`
		SchemaVersion int               `json:"schemaVersion"`
		Manifests     []json.RawMessage `json:"manifests"`
		Layers        []json.RawMessage `json:"layers"`
	}
	if json.Unmarshal(raw, &probe) != nil {
		return types.MediaType(said)
	}
	switch {
	case probe.MediaType != "":
		return probe.MediaType
	case probe.SchemaVersion == 1:
		return types.DockerManifestSchema1
	case probe.Manifests != nil:
		return types.OCIImageIndex
	case probe.Layers != nil:
		return types.OCIManifestSchema1
	}
	return types.MediaType(said)
}

// choose picks the manifest for a platform out of a list.
func choose(raw []byte, want Platform) (string, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return "", fmt.Errorf("list of manifests: %w", err)
	}
	best, bestScore := "", 0
	var offered []string
	for _, d := range index.Manifests {
		score := 1 // one that does not say is better than none
		if p := d.Platform; p != nil {
			offered = append(offered, p.String())
			if score = fits(Platform{p.OS, p.Architecture, p.Variant}, want); score == 0 {
				continue
			}
		} else if !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
			continue
		}
		if score > bestScore {
			best, bestScore = d.Digest.String(), score
		}
	}
	if best == "" {
		return "", fmt.Errorf("%w for %s/%s (there are %q)", ErrNotFound, want.OS, want.Architecture, offered)
	}
	return best, nil
}

// fits says how well an image for one platform runs on another; 0: not at all.
func fits(have, want Platform) int {
	if have.OS != want.OS || have.Architecture != want.Architecture {
		return 0
	}
	switch {
	case have.Variant == want.Variant:
		return 100
	case have.Variant == "" || want.Variant == "":
		return 99
	case len(have.Variant) == 2 && len(want.Variant) == 2 && have.Variant[0] == 'v' && want.Variant[0] == 'v' && have.Variant[1] <= '9' && have.Variant < want.Variant:
		return 2 + int(have.Variant[1]) // an older one, the youngest of them
	}
	return 0
}

// imageOf reads a manifest and the configuration it names.
func imageOf(ctx context.Context, o *Options, src source, raw []byte) (*image, error) {
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	digest := m.Config.Digest.String()
	config, err := src.config(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("configuration of the image: %w", err)
	}
	if digestOf(config) != digest {
		return nil, fmt.Errorf("configuration of the image: %w: got %s, want %s", ErrDigest, digestOf(config), digest)
	}
	layers := make([]layer, 0, len(m.Layers))
	for _, d := range m.Layers {
		layers = append(layers, layer{
			digest: d.Digest.String(), size: d.Size,
			open: func(ctx context.Context) (io.ReadCloser, error) { return src.blob(ctx, d.Digest.String(), d.Size) },
		})
	}
	return newImage(o, config, layers)
}

// newImage puts a configuration and its layers together.
func newImage(o *Options, config []byte, layers []layer) (*image, error) {
	c, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, fmt.Errorf("configuration of the image: %w", err)
	}
	if len(c.RootFS.DiffIDs) != len(layers) {
		return nil, fmt.Errorf("image has %d layers, and its configuration %d: %w", len(layers), len(c.RootFS.DiffIDs), ErrUnsupported)
	}
	if len(layers) == 0 {
		return nil, fmt.Errorf("image without layers: %w", ErrUnsupported)
	}
	if len(layers) > o.Limits.Layers {
		return nil, fmt.Errorf("%w: %d layers", ErrTooLarge, len(layers))
	}
	if c.OS != "" && c.OS != o.Platform.OS {
		return nil, fmt.Errorf("image for %s/%s: %w", c.OS, c.Architecture, ErrUnsupported)
	}
	for i := range layers {
		layers[i].diffID = c.RootFS.DiffIDs[i].String()
	}
	return &image{config: c, raw: config, configDigest: digestOf(config), layers: layers}, nil
}
