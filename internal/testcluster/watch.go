package testcluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// watchScript ends what lives below the folders that it was told of when it is told no more:
// when the test is gone. It leaves files alone, among them may be mounts of other folders.
// What is found twice is found by its command line and its environment.
const watchScript = `
dirs=' '
while read -r verb dir; do
	case $verb in
	watch) dirs="$dirs$dir " ;;
	unwatch) dirs="${dirs%% $dir *} ${dirs#* $dir }" ;;
	esac
done
for round in 1 2 3; do # one may just fork
	for dir in $dirs; do
		for file in $(grep -alsF "$dir/" /proc/[0-9]*/cmdline /proc/[0-9]*/environ); do
			pid=${file#/proc/}
			pid=${pid%/*}
			[ "$pid" = $$ ] || kill -9 "$pid" 2>/dev/null
		done
	done
done
`

// watcher is the process that outlives this one.
var watcher struct {
	sync.Mutex
	tell io.WriteCloser
}

// Watch has the processes that live below a folder, containers included, killed should this
// process end without having called Unwatch: by a test's time-out, a panic or a SIGKILL.
func Watch(dir string) error {
	if dir == "" || strings.ContainsAny(dir, " \t\n*?[\\") {
		return fmt.Errorf("watch %q: not the name of a folder for tests", dir)
	}
	watcher.Lock()
	defer watcher.Unlock()
	if watcher.tell == nil {
		cmd := exec.CommandContext(context.Background(), "sh", "-c", watchScript)
		cmd.Dir = "/"
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		// Whoever ends the test's session or group must not end this too.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		tell, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		watcher.tell = tell // and nobody closes it
	}
	_, err := fmt.Fprintf(watcher.tell, "watch %s\n", dir)
	return err
}

// Unwatch takes back what Watch has asked for.
func Unwatch(dir string) {
	watcher.Lock()
	defer watcher.Unlock()
	if watcher.tell != nil {
		_, _ = fmt.Fprintf(watcher.tell, "unwatch %s\n", dir)
	}
}
