package browser

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"clusterd/internal/testcluster"
)

// chrome is the one browser of all tests; each opens tabs of its own.
var chrome context.Context

func TestMain(m *testing.M) {
	code := run(m)
	testcluster.RemoveBinary()
	os.Exit(code)
}

func run(m *testing.M) int {
	profile, err := os.MkdirTemp("", "clusterd-browser-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(profile)
	ctx, stop := chromedp.NewExecAllocator(context.Background(), append(options(profile), chromedp.Flag("hide-scrollbars", true))...)
	defer stop()
	chrome = ctx //nolint:fatcontext // made once, for all tests
	defer stopShared()
	return m.Run()
}

// options start a browser with a profile of its own.
func options(profile string) []chromedp.ExecAllocatorOption {
	return []chromedp.ExecAllocatorOption{
		chromedp.ExecPath("chromium"),
		chromedp.NoFirstRun,
		chromedp.Flag("headless", true),
		chromedp.Flag("no-sandbox", true),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("force-color-profile", "srgb"),
		chromedp.UserDataDir(profile),
		chromedp.WSURLReadTimeout(2 * testcluster.Patience),
	}
}

// need skips the test, or fails it under CI=1, if it cannot be run here.
func need(t *testing.T) {
	t.Helper()
	lacks := ""
	if _, err := exec.LookPath("chromium"); err != nil {
		lacks = "chromium is not installed (scripts/chromium.sh)"
	} else if _, err := os.Stat(filepath.Join("..", "..", "ui", "dist", "index.html")); err != nil {
		lacks = "the web UI is not built (make ui)"
	}
	if lacks == "" {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(lacks)
	}
	t.Skip(lacks)
}

// first opens the browser itself, whose first tab stays for as long as it does.
var first = sync.OnceValues(func() (context.Context, error) {
	ctx, _ := chromedp.NewContext(chrome) // ends with the browser
	return ctx, chromedp.Do(ctx)
})
