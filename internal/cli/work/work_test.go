package work_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"clusterd/internal/cli"
	"clusterd/internal/cli/scripttest"
	"clusterd/internal/testcluster"
)

func TestMain(m *testing.M) {
	testscript.Main(cleaning{m}, scripttest.With(map[string]func(){
		"clusterd":      func() { os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) },
		"mesos-execute": func() { os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) },
		// What runs in tasks, and what calls them.
		"serve": func() {
			fmt.Fprintln(os.Stderr, serve())
			os.Exit(1)
		},
		"dial": func() { os.Exit(dial(os.Args[1], os.Args[2])) },
	}))
}

// cleaning removes the binary that tests may have built.
type cleaning struct{ *testing.M }

// Run implements testscript.TestingM.
func (c cleaning) Run() int {
	defer testcluster.RemoveBinary()
	return c.M.Run()
}

// serve prints the port that it listens on, answers each line with itself behind "echo ", and
// ends a connection that has ended with "bye".
func serve() error {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				fmt.Fprintln(conn, "echo", lines.Text())
			}
			fmt.Fprintln(conn, "bye")
		}()
	}
}

// dial sends a line, says that there are no more, and prints what comes back.
func dial(address, line string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err == nil {
		_, err = fmt.Fprintln(conn, line)
	}
	if err == nil {
		err = conn.(*net.TCPConn).CloseWrite()
	}
	if err == nil {
		_, err = io.Copy(os.Stdout, conn)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// agentFlags are those of the agent that tests run tasks on.
var agentFlags = []string{"--resources=cpus:8;mem:8192;disk:8192;ports:[31000-31100]", "--attributes=rack:r1;level:7"}

// hadoopHome has a hadoop program that knows what Mesos's tool and fetcher ask for, and keeps
// its files in a directory.
func hadoopHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	const program = `#!/bin/sh
files=$(dirname "$0")/../files
case "$1 $2" in
"version "*) echo "Hadoop 0" ;;
"fs -test") [ -e "$files$4" ] ;;
"fs -rm") rm "$files$3" ;;
"fs -copyFromLocal") mkdir -p "$(dirname "$files$4")" && cp "$3" "$files$4" ;;
"fs -copyToLocal") cp "$files${3#hdfs://name:9000}" "$4" ;;
*) echo "unknown command: $*" >&2; exit 255 ;;
esac
`
	if err := os.WriteFile(filepath.Join(home, "bin", "hadoop"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	return home
}

// TestScripts runs the scripts of testdata/script against one real master and agent.
func TestScripts(t *testing.T) {
	hadoop := hadoopHome(t)
	c := testcluster.Start(t, testcluster.Options{AgentFlags: append([]string{"--hadoop_home=" + hadoop}, agentFlags...)})
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("CLUSTERD_MASTER", c.Master.Addr)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("NO_COLOR", "1")
			e.Setenv("HADOOP", filepath.Join(hadoop, "bin", "hadoop"))
			return nil
		},
	})
}
