package images

import (
	"archive/tar"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// benchLayers makes layers of the files of this machine's /usr: what images are like.
// They hold size bytes together.
func benchLayers(b *testing.B, c compression.Compression, size int64, count int) (layers []v1.Layer, archives []string) {
	b.Helper()
	dir := b.TempDir()
	var w *tar.Writer
	var out *os.File
	var have, total int64
	finish := func() {
		if w == nil {
			return
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		if err := out.Close(); err != nil {
			b.Fatal(err)
		}
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return os.Open(out.Name()) }, tarball.WithCompression(c), tarball.WithCompressionLevel(6))
		if err != nil {
			b.Fatal(err)
		}
		compressed, err := l.Compressed()
		if err != nil {
			b.Fatal(err)
		}
		// Kept compressed, so that the registry has nothing to do.
		packed := out.Name() + ".packed"
		f, err := os.Create(packed)
		if err == nil {
			_, err = io.Copy(f, compressed)
		}
		if err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
		_ = compressed.Close()
		layers, archives, w = append(layers, l), append(archives, packed), nil
	}
	err := filepath.Walk("/usr", func(p string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() && !info.IsDir() || info.Size() > 32<<20 {
			return nil //nolint:nilerr // one less
		}
		if w == nil {
			if out, err = os.Create(filepath.Join(dir, fmt.Sprint(len(layers)))); err != nil {
				return err
			}
			w, have = tar.NewWriter(out), 0
		}
		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		h.Name = p[1:]
		var content []byte
		if info.Mode().IsRegular() {
			if content, err = os.ReadFile(p); err != nil {
				return nil //nolint:nilerr // one less
			}
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
		have, total = have+h.Size, total+h.Size
		if have >= size/int64(count) {
			finish()
		}
		if total >= size {
			return filepath.SkipAll
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	finish()
	return layers, archives
}

// benchRegistry serves layers from files.
func benchRegistry(b *testing.B, img v1.Image, layers []v1.Layer, archives []string) string {
	b.Helper()
	r := newRegistry(b)
	raw, err := img.RawManifest()
	if err != nil {
		b.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		b.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		b.Fatal(err)
	}
	files := map[string]string{}
	for i, l := range layers {
		d, err := l.Digest()
		if err != nil {
			b.Fatal(err)
		}
		files["/v2/img/blobs/"+d.String()] = archives[i]
	}
	r.interfere(func(w http.ResponseWriter, req *http.Request) bool {
		switch p := req.URL.Path; {
		case p == "/v2/img/manifests/latest":
			w.Header().Set("Content-Type", string(m.MediaType))
			_, _ = w.Write(raw)
		case p == "/v2/img/blobs/"+m.Config.Digest.String():
			_, _ = w.Write(config)
		case files[p] != "":
			http.ServeFile(w, req, files[p])
		default:
			return false
		}
		return true
	})
	return r.host + "/img"
}

// processorTime is that of this process, or of the children that it has waited for.
func processorTime(who int) time.Duration {
	var u unix.Rusage
	if unix.Getrusage(who, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPull pulls and unpacks an image of 500 MB (50 with -short), and unpacks the
// same layers with tar beside: MB/s of what is unpacked, and tar's; and the processor
// time of both, which says more on a busy machine. The registry is part of ours.
func BenchmarkPull(b *testing.B) {
	needRoot(b)
	size := int64(500 << 20)
	if testing.Short() {
		size /= 10
	}
	for _, c := range []struct {
		name        string
		compression compression.Compression
		layers      int
		tar         string
	}{
		{"gzip-1", compression.GZip, 1, "-xzf"},
		{"gzip-5", compression.GZip, 5, "-xzf"},
		{"zstd-5", compression.ZStd, 5, "--zstd -xf"},
		{"none-5", compression.None, 5, "-xf"},
	} {
		b.Run(c.name, func(b *testing.B) {
			layers, archives := benchLayers(b, c.compression, size, c.layers)
			name := benchRegistry(b, imageOfLayers(b, v1.Config{}, layers...), layers, archives)
			var ours, theirs, ourCPU, theirCPU time.Duration
			for b.Loop() {
				p := newProvisioner(b, testOptions(b))
				start, cpu := time.Now(), processorTime(unix.RUSAGE_SELF)
				id := newID()
				if _, err := p.Provision(testContext(b), id, dockerImageNamed(name)); err != nil {
					b.Fatal(err)
				}
				ours, ourCPU = ours+time.Since(start), ourCPU+processorTime(unix.RUSAGE_SELF)-cpu
				if err := p.Close(); err != nil { // the sync, too
					b.Fatal(err)
				}
				to := b.TempDir()
				start, cpu = time.Now(), processorTime(unix.RUSAGE_CHILDREN)
				for _, a := range archives {
					if out, err := exec.Command("sh", "-c", "tar -C "+to+" "+c.tar+" "+a).CombinedOutput(); err != nil {
						b.Fatalf("%v: %s", err, out)
					}
				}
				theirs, theirCPU = theirs+time.Since(start), theirCPU+processorTime(unix.RUSAGE_CHILDREN)-cpu
				_ = exec.Command("sync", "-f", to).Run()
				_ = os.RemoveAll(to)
				_ = os.RemoveAll(p.o.StoreDir)
			}
			megabytes := float64(b.N) * float64(size) / 1e6
			b.ReportMetric(megabytes/ours.Seconds(), "MB/s")
			b.ReportMetric(megabytes/theirs.Seconds(), "tar-MB/s")
			b.ReportMetric(ourCPU.Seconds()*1000/float64(b.N), "cpu-ms")
			b.ReportMetric(theirCPU.Seconds()*1000/float64(b.N), "tar-cpu-ms")
		})
	}
}

// BenchmarkProvision makes roots of an image that is there, and removes them.
func BenchmarkProvision(b *testing.B) {
	needRoot(b)
	r := newRegistry(b)
	name := r.push(b, "img", threeLayers(b))
	p := newProvisioner(b, testOptions(b))
	for b.Loop() {
		id := newID()
		if _, err := p.Provision(b.Context(), id, dockerImageNamed(name)); err != nil {
			b.Fatal(err)
		}
		if err := p.Destroy(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}
