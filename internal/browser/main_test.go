package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"golang.org/x/sys/unix"

	"clusterd/internal/testcluster"
)

// chrome is the one browser of all tests; each opens tabs of its own.
var chrome context.Context

func TestMain(m *testing.M) {
	if err := leaveNetwork(); err != nil {
		panic(err)
	}
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

// leaveNetwork begins this program anew in a network of its own, where only its loopback is, if
// it may: chromium gives up what it loads with ERR_NETWORK_CHANGED when an interface comes or
// goes anywhere in its network, as they do while containers start in other tests.
func leaveNetwork() error {
	const mark = "CLUSTERD_BROWSER_NETWORK=own"
	if os.Geteuid() != 0 || slices.Contains(os.Environ(), mark) {
		return nil
	}
	runtime.LockOSThread() // until the program is another
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network: %w", err)
	}
	if err := raiseLoopback(); err != nil {
		return fmt.Errorf("raise the loopback: %w", err)
	}
	return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), mark))
}

func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
