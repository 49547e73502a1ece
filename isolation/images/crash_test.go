package images

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rs/zerolog"

	mesos "clusterd/api/mesos/v1"
)

// crashVariable makes of a test binary one that pulls, provisions, destroys and prunes
// in this directory until it is killed.
const crashVariable = "CLUSTERD_IMAGES_CRASH"

func crashOptions(dir, backend string) Options {
	return Options{
		WorkDir: filepath.Join(dir, "work"), StoreDir: filepath.Join(dir, "store"), Registry: filepath.Join(dir, "registry"),
		Backend: backend, Limits: Limits{ReserveBytes: 1},
	}
}

func crashMain(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	p, err := New(ctx, crashOptions(dir, os.Getenv(crashVariable+"_BACKEND")), zerolog.Nop())
	fail(err)
	fail(p.Recover(ctx, nil))
	fmt.Println("started")
	for {
		id := &mesos.ContainerID{Value: new("c")}
		nested := &mesos.ContainerID{Value: new("n"), Parent: id}
		for _, id := range []*mesos.ContainerID{id, nested} {
			_, err := p.Provision(ctx, id, dockerImageNamed("img"))
			fail(err)
		}
		fail(p.Destroy(ctx, nested))
		fail(p.Destroy(ctx, id))
		fail(p.Prune(ctx, nil))
		fmt.Println("round")
	}
}

func mountCount(tb testing.TB, dir string) int {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Count(string(b), dir)
}

// TestKilled kills it at some moment, again and again, and looks at what is left.
func TestKilled(t *testing.T) {
	needRoot(t)
	for _, backend := range []string{BackendOverlay, BackendCopy} {
		t.Run(backend, func(t *testing.T) { testKilled(t, backend) })
	}
}

func testKilled(t *testing.T, backend string) {
	base := threeLayers(t)
	layers, err := base.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var many []file
	want := make(map[string]string)
	for i := range 200 {
		f := reg(fmt.Sprintf("many-%d", i), fmt.Sprint(i))
		many = append(many, f)
		want[f.Name] = fmt.Sprintf(`100644 0:0 "%d" @1600000000`, i)
	}
	maps.Copy(want, threeLayersTree)
	img := imageOfLayers(t, v1.Config{}, append(layers, layerOf(t, compression.GZip, many...))...)
	dir := t.TempDir()
	if err := os.Rename(writeLayout(t, img), filepath.Join(dir, "registry")); err != nil {
		t.Fatal(err)
	}
	o := crashOptions(dir, backend)
	cycle := 100 * time.Millisecond
	for run := range 5 {
		c := exec.CommandContext(t.Context(), "/proc/self/exe")
		c.Env = append(os.Environ(), crashVariable+"="+dir, crashVariable+"_BACKEND="+backend)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if run == 0 { // how long does one round take?
			text := ""
			for b := make([]byte, 256); !strings.Contains(text, "round"); {
				n, err := out.Read(b)
				if err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				text += string(b[:n])
			}
			cycle = time.Since(start)
		}
		<-time.After(rand.N(cycle + cycle/2)) // the moment is chance, on purpose
		_ = c.Process.Kill()
		if err := c.Wait(); err == nil || c.ProcessState.Exited() {
			t.Fatalf("run %d ended by itself: %v", run, err)
		}
		checkCrashed(t, o, want, dir)
	}
}

func checkCrashed(t *testing.T, o Options, want map[string]string, dir string) {
	t.Helper()
	p := newRecovered(t, o, nil)
	if rest := leftovers(t, filepath.Join(o.WorkDir, "provisioner", "containers")); len(rest) != 0 {
		t.Errorf("left behind: %v", rest)
	}
	eventually(t, "the store is swept", func() bool {
		return len(leftovers(t, filepath.Join(o.StoreDir, stagingDir)))+len(leftovers(t, filepath.Join(o.StoreDir, gcDir))) == 0
	})
	stored(t, o.StoreDir)
	id := newID()
	got, err := p.Provision(testContext(t), id, dockerImageNamed("img"))
	if err != nil {
		t.Fatal(err)
	}
	mounted(t, got, func(root string) error {
		have, err := tree(root)
		if d := cmp.Diff(want, have); d != "" {
			t.Errorf("root: %s", d)
		}
		return err
	})
	if n := mountCount(t, dir); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
	if err := p.Destroy(testContext(t), id); err != nil {
		t.Fatal(err)
	}
	if rand.N(2) == 0 {
		if err := p.Prune(testContext(t), nil); err != nil {
			t.Fatal(err)
		}
		if l, n, rest := stored(t, o.StoreDir); len(l)+len(n)+len(rest) != 0 {
			t.Errorf("pruned: layers %v, names %v, %v", l, n, rest)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}
