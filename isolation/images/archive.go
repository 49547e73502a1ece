package images

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// files are the files of an archive or a folder, by their names in it.
type files interface {
	// open opens a file and tells its size.
	open(name string) (io.ReadCloser, int64, error)
	Close() error
}

// openLocal finds an image in a folder: an archive NAME.tar where Mesos looks for it
// (src/slave/containerizer/mesos/provisioner/docker/image_tar_puller.cpp), or an OCI
// layout NAME, or an OCI layout that is the folder itself. The caller closes it.
func openLocal(ctx context.Context, o *Options, ref reference, staging string) (*image, io.Closer, error) {
	bare := ref
	bare.digest = ""
	names := []string{ref.String(), ref.key(), bare.String(), bare.key()}
	for _, name := range names {
		p := filepath.Join(o.Registry, name+".tar")
		if _, err := os.Stat(p); err == nil {
			return openArchive(ctx, o, p, ref, staging)
		}
	}
	bare.tag = ""
	for _, name := range append(names, bare.String()) {
		p := filepath.Join(o.Registry, name)
		if _, err := os.Stat(filepath.Join(p, "oci-layout")); err == nil {
			return openLayout(ctx, o, folder(p), ref)
		}
	}
	if _, err := os.Stat(filepath.Join(o.Registry, "oci-layout")); err == nil {
		return openLayout(ctx, o, folder(o.Registry), ref)
	}
	return nil, nil, fmt.Errorf("%w: %s in %s", ErrNotFound, names[0]+".tar", o.Registry)
}

// openArchive opens a tar archive, which may be compressed.
func openArchive(ctx context.Context, o *Options, p string, ref reference, staging string) (*image, io.Closer, error) {
	a, err := indexArchive(ctx, o, p, staging)
	if err != nil {
		return nil, nil, fmt.Errorf("archive %s: %w", p, err)
	}
	var img *image
	manifests, err := readWhole(a, "manifest.json", maxManifest)
	switch {
	case err == nil:
		img, err = dockerImage(o, a, manifests, ref)
	case errors.Is(err, fs.ErrNotExist) && a.has("oci-layout"):
		img, _, err = openLayout(ctx, o, a, ref)
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("no manifest.json, as `docker save` writes it since 1.10: %w", ErrUnsupported)
	}
	if err != nil {
		_ = a.Close()
		return nil, nil, fmt.Errorf("archive %s: %w", p, err)
	}
	return img, a, nil
}

// dockerImage finds an image in the manifest.json of `docker save`.
func dockerImage(o *Options, f files, manifests []byte, ref reference) (*image, error) {
	var entries []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(manifests, &entries); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	found := -1
	for i, e := range entries {
		if slices.ContainsFunc(e.RepoTags, ref.matches) || len(entries) == 1 && (len(e.RepoTags) == 0 || ref.digest != "") {
			found = i
		}
	}
	if found < 0 {
		return nil, fmt.Errorf("%w: %s is not in manifest.json", ErrNotFound, ref)
	}
	e := entries[found]
	config, err := readWhole(f, e.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration of the image: %w", err)
	}
	var layers []layer
	for _, name := range e.Layers {
		layers = append(layers, layer{size: -1, open: func(context.Context) (io.ReadCloser, error) {
			r, _, err := f.open(name)
			return r, err
		}})
	}
	return newImage(o, config, layers)
}

// matches says whether a name in an archive is this image's.
func (r reference) matches(name string) bool {
	other, err := parseReference(name)
	if err != nil {
		return false
	}
	return other.familiar() == r.familiar() && other.version() == r.version()
}

// layoutSource is the source of an OCI image layout.
type layoutSource struct {
	files files
	index []byte
}

func openLayout(ctx context.Context, o *Options, f files, ref reference) (*image, io.Closer, error) {
	raw, err := readWhole(f, "index.json", maxManifest)
	if err != nil {
		return nil, nil, fmt.Errorf("layout: %w", err)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, fmt.Errorf("layout: index.json: %w", err)
	}
	version := ref.digest
	if version == "" {
		if version, err = layoutVersion(index, ref); err != nil {
			return nil, nil, err
		}
	}
	img, err := resolve(ctx, o, &layoutSource{files: f, index: raw}, version)
	if err != nil {
		return nil, nil, fmt.Errorf("layout: %w", err)
	}
	return img, f, nil
}

// layoutVersion finds what a name stands for in a layout: what is annotated with it,
// else all that is there when nothing is annotated.
func layoutVersion(index *v1.IndexManifest, ref reference) (string, error) {
	named := false
	for _, d := range index.Manifests {
		name := d.Annotations["org.opencontainers.image.ref.name"]
		if name == "" {
			name = d.Annotations["io.containerd.image.name"]
		}
		named = named || name != ""
		if name != "" && (name == ref.version() || ref.matches(name)) {
			return d.Digest.String(), nil
		}
	}
	if named || len(index.Manifests) == 0 {
		return "", fmt.Errorf("layout: %w: nothing is annotated %q", ErrNotFound, ref.version())
	}
	return layoutRoot, nil
}

// layoutRoot is the version that index.json itself has.
const layoutRoot = "index.json"

func (l *layoutSource) manifest(_ context.Context, version string) ([]byte, string, error) {
	if version == layoutRoot {
		return l.index, "application/vnd.oci.image.index.v1+json", nil
	}
	b, err := readWhole(l.files, blobPath(version), maxManifest)
	return b, "", err
}

func (l *layoutSource) config(_ context.Context, digest string) ([]byte, error) {
	return readWhole(l.files, blobPath(digest), maxConfig)
}

func (l *layoutSource) blob(_ context.Context, digest string, _ int64) (io.ReadCloser, error) {
	r, _, err := l.files.open(blobPath(digest))
	return r, err
}

func blobPath(digest string) string {
	algorithm, hex, _ := strings.Cut(digest, ":")
	return "blobs/" + algorithm + "/" + hex
}

// folder is a folder of files.
type folder string

func (f folder) open(name string) (io.ReadCloser, int64, error) {
	root, err := os.OpenRoot(string(f))
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = root.Close() }()
	file, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := regular(file)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", name, err)
	}
	return file, st.Size(), nil
}

// Close does nothing.
func (folder) Close() error { return nil }

// archive is a tar archive whose files were found once and for all.
type archive struct {
	file    *os.File
	entries map[string]archiveEntry
}

type archiveEntry struct {
	offset, size int64
	// target is where a link leads.
	target string
}

// indexArchive finds the files of an archive. One that is compressed is unpacked
// into staging first.
func indexArchive(ctx context.Context, o *Options, p, staging string) (*archive, error) {
	file, err := openFile(p)
	if err != nil {
		return nil, err
	}
	plain, err := uncompressed(ctx, o, file, staging)
	if plain != file {
		_ = file.Close()
	}
	if err != nil {
		return nil, err
	}
	a := &archive{file: plain, entries: make(map[string]archiveEntry)}
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if err == io.EOF { //nolint:errorlint // the reader returns it bare
			return a, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && len(a.entries) > 100_000 {
			err = ErrTooLarge
		}
		if err != nil {
			_ = a.Close()
			return nil, err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := plain.Seek(0, io.SeekCurrent) // the reader reads no further than it says
			if err != nil {
				_ = a.Close()
				return nil, err
			}
			a.entries[name] = archiveEntry{offset: at, size: h.Size}
		case tar.TypeSymlink:
			a.entries[name] = archiveEntry{target: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			a.entries[name] = archiveEntry{target: path.Clean(h.Linkname)}
		}
	}
}

// openFile opens a regular file. A pipe that nobody writes into would be waited for as long
// as the agent runs, and longer.
func openFile(p string) (*os.File, error) {
	file, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if _, err := regular(file); err != nil {
		return nil, err
	}
	return file, nil
}

// regular closes what is no regular file.
func regular(file *os.File) (fs.FileInfo, error) {
	st, err := file.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	if err != nil {
		_ = file.Close()
	}
	return st, err
}

// uncompressed returns the file itself if it is not compressed.
func uncompressed(ctx context.Context, o *Options, file *os.File, staging string) (*os.File, error) {
	var magic [4]byte
	if _, err := file.ReadAt(magic[:], 0); err != nil {
		return file, noEOF(err)
	}
	if magic[0] != 0x1f && magic[0] != 0x28 {
		return file, nil
	}
	r, _, err := decompress(interruptible{ctx, file})
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	out, err := os.OpenFile(filepath.Join(staging, "archive"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(out, io.LimitReader(r, o.Limits.ImageBytes+1))
	if err == nil && n > o.Limits.ImageBytes {
		err = ErrTooLarge
	}
	if err == nil {
		_, err = out.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	return out, nil
}

func (a *archive) has(name string) bool {
	_, ok := a.entries[name]
	return ok
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	for range 8 { // older engines save layers that are equal as links
		e, ok := a.entries[name]
		if !ok {
			break
		}
		if e.target == "" {
			return io.NopCloser(io.NewSectionReader(a.file, e.offset, e.size)), e.size, nil
		}
		name = e.target
	}
	return nil, 0, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

// Close closes the archive.
func (a *archive) Close() error { return a.file.Close() }

func readWhole(f files, name string, limit int64) ([]byte, error) {
	r, size, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if size > limit {
		return nil, fmt.Errorf("%s: %w", name, ErrTooLarge)
	}
	return io.ReadAll(io.LimitReader(r, limit))
}
