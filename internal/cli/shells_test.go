package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"clusterd/internal/testcluster"
)

// shellSetups are how people have their shells complete: files of the home directory with what
// belongs there, and the arguments of a shell that reads them. At each prompt there is a file
// called ready.
var shellSetups = []struct {
	name  string
	args  []string
	files map[string]string
}{
	{"bash", []string{"--rcfile", "rc", "-i"}, map[string]string{
		"rc": "source <(clusterd completion bash)\nPROMPT_COMMAND=': > $HOME/ready'\n",
	}},
	{"zsh", []string{"-i"}, map[string]string{
		".zshrc": "autoload -Uz compinit && compinit -u\nsource <(clusterd completion zsh)\nprecmd() { : > $HOME/ready }\n",
	}},
	{"zsh with fpath", []string{"-i"}, map[string]string{
		".zshrc": "mkdir -p $HOME/functions && clusterd completion zsh > $HOME/functions/_clusterd\nfpath=($HOME/functions $fpath)\n" +
			"autoload -Uz compinit && compinit -u\nprecmd() { : > $HOME/ready }\n",
	}},
	{"fish", []string{"-i"}, map[string]string{
		".config/fish/config.fish": "set -g fish_greeting\nclusterd completion fish | source\nfunction fish_prompt; echo -n > $HOME/ready; echo '> '; end\n",
		// Without it fish reads all manual pages of the machine first.
		".local/share/fish/generated_completions/none.fish": "",
	}},
}

// shell is one at a terminal. What it calls clusterd completes with the real one, and keeps
// what it is told to do in a file.
type shell struct {
	t    *testing.T
	home string
	tty  *os.File

	mu  sync.Mutex // mu guards out.
	out bytes.Buffer
}

func (s *shell) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

func startShell(t *testing.T, program string, args []string, files map[string]string, master string) *shell {
	t.Helper()
	s := &shell{t: t, home: t.TempDir()}
	clusterd, err := exec.LookPath("clusterd")
	if err != nil {
		t.Fatal(err) // testscript.Main has put it there
	}
	write := func(name, text string, mode os.FileMode) {
		path := filepath.Join(s.home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		write(name, text, 0o644)
	}
	write("backup.registry", "", 0o644)
	write("bin/clusterd", fmt.Sprintf("#!/bin/sh\ncase $1 in\n__complete|completion) exec '%s' \"$@\" ;;\nesac\nfor word; do printf '[%%s]' \"$word\"; done >> '%s/said'\necho >> '%[2]s/said'\n", clusterd, s.home), 0o755)
	cmd := exec.CommandContext(context.Background(), program, args...)
	cmd.Dir = s.home
	cmd.Env = []string{"PATH=" + filepath.Join(s.home, "bin") + ":/usr/bin:/bin", "HOME=" + s.home, "TERM=xterm", "LANG=C.UTF-8", "CLUSTERD_MASTER=" + master, "CLUSTERD_COMPLETION_TIMEOUT=30s"}
	if s.tty, err = pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 160}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(s, s.tty) // ends with the shell
		_ = cmd.Wait()           // it was killed
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = s.tty.Close()
		if t.Failed() {
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Logf("at the terminal:\n%q", s.out.String())
		}
	})
	s.await("a prompt", func() bool {
		_, err := os.Stat(filepath.Join(s.home, "ready"))
		return err == nil
	})
	return s
}

func (s *shell) await(what string, holds func() bool) {
	s.t.Helper()
	if err := testcluster.Poll(func() error {
		if !holds() {
			return errors.New("there is not: " + what)
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
}

// completes types a line, in which \t asks for completion, until the shell has run what is
// wanted: a shell that is slow to start may drop what is typed too early, and a cluster that
// does not answer soon enough completes nothing.
func (s *shell) completes(line, want string) {
	s.t.Helper()
	said := func() string {
		b, err := os.ReadFile(filepath.Join(s.home, "said"))
		if err != nil {
			return ""
		}
		return string(b)
	}
	for end := time.Now().Add(testcluster.Patience); ; {
		before := said()
		if _, err := s.tty.WriteString("\x15" + line + "\r"); err != nil {
			s.t.Fatal(err)
		}
		for again := time.Now().Add(10 * time.Second); time.Now().Before(again) && said() == before; {
			time.Sleep(20 * time.Millisecond)
		}
		if strings.HasSuffix(said(), "\n"+want+"\n") || said() == want+"\n" {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%q: got\n%s\nwant at the end %s", line, said(), want)
		}
	}
}

// TestShells presses the tab key in real shells.
func TestShells(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{AgentFlags: []string{"--hostname=left"}})
	// One whose id has what shells split words at.
	file := filepath.Join(t.TempDir(), "task.json")
	if err := os.WriteFile(file, []byte(`{"name": "split", "task_id": "a:b=c.1", "command": "sleep 1000", "resources": "cpus:0.1;mem:32"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for name, args := range map[string][]string{
		"finish-one": {"--name", "finish-one", "--", "sleep", "1000"},
		"finish-two": {"--name", "finish-two", "--", "sleep", "1000"},
		"split":      {"--task", file},
	} {
		ids[name] = strings.TrimSpace(mustRun(t, append([]string{"run", "-q", "-d", "--master", c.Master.Addr}, args...)...))
	}
	await(t, "the tasks run", func() bool {
		return strings.Count(mustRun(t, "task", "list", "--master", c.Master.Addr), "RUNNING") == len(ids)
	})
	for _, setup := range shellSetups {
		t.Run(setup.name, func(t *testing.T) {
			program, err := exec.LookPath(strings.Fields(setup.name)[0])
			if err != nil {
				if os.Getenv("CI") != "" {
					t.Fatal(err)
				}
				t.Skip("the shell is not installed (scripts/shells.sh)")
			}
			s := startShell(t, program, setup.args, setup.files, c.Master.Addr)
			s.completes("clusterd tas\tli\t--no-h\t", "[task][list][--no-headers]")
			s.completes("clusterd task kill finish-o\t", "[task][kill]["+ids["finish-one"]+"]")
			s.completes("clusterd task kill finish\tt\t-y", "[task][kill]["+ids["finish-two"]+"][-y]")
			s.completes("clusterd task show a:\t", "[task][show][a:b=c.1]")
			s.completes("clusterd agent drain le\t--gr\t3s", "[agent][drain][left][--grace][3s]")
			s.completes("clusterd task list -o ya\t--sort-by=cpus", "[task][list][-o][yaml][--sort-by=cpus]")
			s.completes("clusterd task list --output=ya\t", "[task][list][--output=yaml]")
			s.completes("clusterd task show --master="+c.Master.Addr+" a:b\t", "[task][show][--master="+c.Master.Addr+"][a:b=c.1]")
			s.completes("clusterd exec a:b=\t", "[exec][a:b=c.1]")
			s.completes("clusterd master --wor\t", "[master][--work_dir=]")
			// Where no word fits, a file is meant.
			s.completes("clusterd registry inspect back\t", "[registry][inspect][backup.registry]")
		})
	}
}
