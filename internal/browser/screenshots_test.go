package browser

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"

	"clusterd/internal/testcluster"
)

var pictures = flag.String("screenshots", "", "folder where TestScreenshots puts pictures of the pages, for the documentation")

// TestScreenshots makes the pictures of the documentation, of a cluster in which much goes on.
func TestScreenshots(t *testing.T) {
	if *pictures == "" {
		t.Skip("makes pictures only with -screenshots=FOLDER")
	}
	c := shared(t)
	if err := os.MkdirAll(*pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	base := "http://" + follower(t, c).Addr
	w := busy(t, c)
	db := agentNamed(t, c, "node2")
	b := open(t, base, "#/roles")
	scene(b, db)
	for _, colours := range []string{"light", "dark"} {
		b := blank(t, base)
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: colours}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		b.goTo("#/")
		take := func(name string) {
			eval[bool](b, `new Promise((done) => setTimeout(() => done(true), 2500))`) // measured twice, charts are drawn
			b.picture(filepath.Join(*pictures, name+"-"+colours+".png"))
		}
		task := "#/tasks/" + w.framework + "/" + w.task
		for _, p := range []struct{ name, path string }{
			{"agents", "#/agents"},
			{"agent", "#/agents/" + w.agent},
			{"frameworks", "#/frameworks"},
			{"framework", "#/frameworks/" + w.framework},
			{"tasks", "#/tasks"},
			{"task", task},
			{"roles", "#/roles"},
			{"offers", "#/offers"},
			{"maintenance", "#/maintenance"},
			{"registry", "#/registry"},
			{"metrics", "#/metrics?q=master/"},
			{"flags", "#/flags"},
			{"log", task + "?tab=output"},
			{"reservations", "#/agents/" + db + "?tab=reservations"},
			{"overview", "#/"},
		} {
			b.follow(place{path: p.path})
			take(p.name)
		}
		b.follow(place{path: task + "?tab=terminal"})
		b.press("Open terminal")
		b.sees("Connected.")
		b.keys("ls -l; ps\r")
		take("terminal")
		b.press("Disconnect")
		b.follow(place{path: "#/agents/" + w.agent})
		b.choose("Actions", "Drain…")
		take("drain")
	}
}

// busy runs tasks of many kinds, and returns one that writes a log and uses a processor.
func busy(t *testing.T, c *testcluster.Cluster) ids {
	t.Helper()
	service := `i=0; while true; do i=$((i+1)); printf '\033[2m%s\033[0m \033[32mINFO\033[0m  request %d GET /api/orders/%d 200 in %d ms\n' $(date +%T) $i $((i*7919%1000)) $((i*31%90)); test $((i%17)) = 0 && printf '\033[2m%s\033[0m \033[33mWARN\033[0m  request %d was slow: 1207 ms\n' $(date +%T) $i; sleep 0.15; done`
	w := work(t, c, "orders-api", service, "--role=web", "--cpus=1", "--mem=128")
	for i, name := range []string{"checkout", "search", "frontend"} {
		work(t, c, name, service, "--role=web", fmt.Sprintf("--cpus=0.%d", i+3), "--mem=192")
	}
	work(t, c, "postgres", "while true; do sleep 0.5; done", "--role=data", "--cpus=1.5", "--mem=512")
	work(t, c, "kafka", "while true; do sleep 0.2; done", "--role=data", "--cpus=1", "--mem=384")
	for i := range 4 {
		work(t, c, fmt.Sprintf("train-%d", i), "while true; do i=$((i+1)); test $((i%200)) = 0 && sleep 0.1; done", "--role=batch", "--cpus=0.5", "--mem=96")
	}
	return w
}

// scene gives roles quotas and weights, reserves something, and schedules maintenance.
func scene(b *tab, agent string) {
	for role, cpus := range map[string]string{"web": "4", "data": "6"} {
		b.choose("Acts on "+role, "Set a quota…")
		b.fill("CPUs: limit", cpus)
		b.press("Set the quota")
		b.wait("the dialog is closed", `document.querySelector('dialog[open]') === null`)
	}
	b.choose("Acts on web", "Change the weight…")
	b.fill("Weight", "3")
	b.press("Set the weight")
	b.wait("the dialog is closed", `document.querySelector('dialog[open]') === null`)
	b.follow(place{path: "#/agents/" + agent + "?tab=reservations"})
	b.press("Reserve")
	b.fill("Role", "data")
	b.fill("Disk (MB)", "4096")
	b.press("Reserve")
	b.choose("Actions on 4 GiB disk of data", "Create volume…")
	b.fill("Id", "pg-data")
	b.fill("Size (MB)", "2048")
	b.press("Create the volume")
	b.sees("pg-data")
	for _, host := range []string{"node3", "node1"} {
		b.follow(place{path: "#/maintenance"})
		b.press("Schedule maintenance")
		b.fill(host, "")
		b.fill("Lasts", "3h")
		b.press("Schedule")
		b.sees(host)
		b.wait("the dialog is closed", `document.querySelector('dialog[open]') === null`)
	}
}

// picture keeps a small picture of the page: 256 colours are enough for it.
func (b *tab) picture(file string) {
	b.t.Helper()
	res := call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{})
	img, err := png.Decode(bytes.NewReader(res.Data))
	if err != nil {
		b.t.Fatal(err)
	}
	var out bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestCompression}
	if err := enc.Encode(&out, fewColours(img)); err != nil {
		b.t.Fatal(err)
	}
	if out.Len() > 150_000 {
		b.t.Errorf("%s has %d bytes", file, out.Len())
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil { //nolint:gosec // everybody may read it
		b.t.Fatal(err)
	}
}

// fewColours gives a picture the 256 colours that it has most of, the others the nearest.
func fewColours(img image.Image) *image.Paletted {
	n := make(map[color.RGBA]int)
	size := img.Bounds()
	rgba := image.NewRGBA(size)
	draw.Draw(rgba, size, img, size.Min, draw.Src)
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			n[rgba.RGBAAt(x, y)]++
		}
	}
	all := make([]color.RGBA, 0, len(n))
	for c := range n {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b color.RGBA) int {
		if n[a] != n[b] {
			return n[b] - n[a]
		}
		return (int(a.R)<<16 | int(a.G)<<8 | int(a.B)) - (int(b.R)<<16 | int(b.G)<<8 | int(b.B))
	})
	palette := make(color.Palette, 0, 256)
	for _, c := range all[:min(256, len(all))] {
		palette = append(palette, c)
	}
	index := make(map[color.RGBA]uint8, len(n))
	for _, c := range all {
		index[c] = uint8(palette.Index(c)) //nolint:gosec // at most 255
	}
	out := image.NewPaletted(size, palette)
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			out.SetColorIndex(x, y, index[rgba.RGBAAt(x, y)])
		}
	}
	return out
}
