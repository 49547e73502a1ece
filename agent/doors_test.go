package agent

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"clusterd/agent/core"
	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authz"
)

// container is the id of a pod's task as the doors take it.
func container(executor, task string) string { return executor + "." + task }

// console is a client of a terminal.
type console struct {
	t    *testing.T
	ws   *websocket.Conn
	out  [3]bytes.Buffer
	last control
}

// terminal opens one, or returns the status of who refuses.
func (p *pod) terminal(query url.Values, header http.Header) (c *console, refused int) {
	p.t.Helper()
	ws, resp, err := websocket.Dial(p.t.Context(), "ws://"+p.a.Addr()+terminalPath+"?"+query.Encode(), &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		if resp == nil {
			p.t.Fatal(err)
		}
		resp.Body.Close()
		return nil, resp.StatusCode
	}
	p.t.Cleanup(func() { _ = ws.CloseNow() })
	return &console{t: p.t, ws: ws}, 0
}

// until reads until f, and returns false when the terminal has ended.
func (c *console) until(f func() bool) bool {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for !f() {
		typ, b, err := c.ws.Read(ctx)
		if err != nil {
			return false
		}
		if typ == websocket.MessageText {
			if err := json.Unmarshal(b, &c.last); err != nil {
				c.t.Fatalf("%s: %v", b, err)
			}
			continue
		}
		c.out[b[0]].Write(b[1:])
	}
	return true
}

func (c *console) says(text string) {
	c.t.Helper()
	if !c.until(func() bool { return strings.Contains(c.out[1].String(), text) }) {
		c.t.Fatalf("the terminal has ended with %+v, and said %q, not %q", c.last, c.out[1].String(), text)
	}
}

func (c *console) send(typ websocket.MessageType, data string) {
	c.t.Helper()
	if err := c.ws.Write(c.t.Context(), typ, []byte(data)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *console) typed(text string) { c.t.Helper(); c.send(websocket.MessageBinary, "\x00"+text) }

// ends wants the terminal to end in a way.
func (c *console) ends(want control) {
	c.t.Helper()
	c.until(func() bool { return false })
	got, _ := json.Marshal(c.last)
	expected, _ := json.Marshal(want)
	if !bytes.Equal(got, expected) {
		c.t.Errorf("the terminal ended with %s, want %s (output %q, %q)", got, expected, c.out[1].String(), c.out[2].String())
	}
}

func (p *pod) containers() int { return len(p.a.runner.Containers()) }

// TestTerminalDoor: who opens one types into a command of his, in the container, sees what it
// prints, and how it ends; and nothing of it is left.
func TestTerminalDoor(t *testing.T) {
	p := newPod(t)
	executor, task, sandbox := p.onePod()
	id := container(executor, task)
	before := p.containers()
	session := func(cmd ...string) url.Values {
		return url.Values{"container_id": {id}, "cmd": {cmd[0]}, "arg": cmd[1:]}
	}

	c, _ := p.terminal(session("sh", "-c", "echo $COLOUR $0 \"$1\"; echo oops >&2; cat; exit 7", "a b", "c*"), nil)
	c.typed("typed\n")
	c.says("typed\n")
	c.send(websocket.MessageText, `{"eof":true}`)
	c.ends(control{Exit: &exitStatus{Status: 7}})
	if got := c.out[1].String(); got != "blue a b c*\ntyped\n" || c.out[2].String() != "oops\n" {
		t.Errorf("got %q and %q", got, c.out[2].String())
	}

	q := session("sh", "-c", "stty size; echo $TERM; read x; stty size; echo got $x; kill -9 $$")
	q.Set("tty", "1")
	q.Set("rows", "30")
	q.Set("cols", "90")
	c, _ = p.terminal(q, nil)
	c.says("30 90\r\nxterm-256color")
	c.send(websocket.MessageText, `{"resize":{"rows":41,"columns":132}}`)
	c.typed("it\n")
	c.ends(control{Exit: &exitStatus{Status: 137, Signal: 9, Message: "Terminated with signal killed"}})
	if got := c.out[1].String(); !strings.Contains(got, "41 132") || !strings.Contains(got, "got it") {
		t.Errorf("got %q", got)
	}

	c, _ = p.terminal(session("no-such-program"), nil)
	c.until(func() bool { return false })
	if c.last.Error == "" && (c.last.Exit == nil || c.last.Exit.Status == 0) {
		t.Errorf("a program that there is not ended with %+v", c.last)
	}

	// Much output arrives whole.
	c, _ = p.terminal(session("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"), nil)
	c.ends(control{Exit: &exitStatus{}})
	if n := c.out[1].Len(); n != 3000000 {
		t.Errorf("got %d bytes", n)
	}

	// Without its client a command ends.
	c, _ = p.terminal(session("sh", "-c", "echo $$; exec sleep 1000"), nil)
	c.says("\n")
	pid := strings.TrimSpace(c.out[1].String())
	_ = c.ws.CloseNow()
	eventually(t, "the command has ended", func() bool {
		b, err := os.ReadFile("/proc/" + pid + "/cmdline")
		return err != nil || !strings.HasPrefix(string(b), "sleep")
	})
	eventually(t, "nothing is left of the terminals", func() bool {
		left, err := os.ReadDir(filepath.Join(sandbox, "containers", task, "containers"))
		return p.containers() == before && (len(left) == 0 && err == nil || errors.Is(err, os.ErrNotExist)) && p.a.doors.open.Load() == 0
	})
	if s := p.m.states("t"); s[len(s)-1] != "RUNNING" {
		t.Errorf("the task: got %v", s)
	}
}

// TestTerminalAttach: who attaches to a container sees what it prints and how it ends.
func TestTerminalAttach(t *testing.T) {
	p := newPod(t)
	task := commandTask("t", "while ! test -e go; do sleep 0.01; done; echo out; exit 3")
	p.m.send(runGroup(framework("F"), defaultExecutor("d"), true, task))
	id := p.m.waitState("t", "RUNNING").GetContainerStatus().GetContainerId()
	_, sandbox := p.only()
	c, _ := p.terminal(url.Values{"container_id": {containerText(id)}}, nil)
	eventually(t, "the first has the input", func() bool {
		p.a.nested.mu.Lock()
		defer p.a.nested.mu.Unlock()
		return len(p.a.nested.inputs) == 1
	})
	second, _ := p.terminal(url.Values{"container_id": {containerText(id)}}, nil)
	second.until(func() bool { return second.last.Error != "" })
	if !strings.Contains(second.last.Error, "Multiple input connections") {
		t.Errorf("a second one who types: got %+v", second.last)
	}
	reader, _ := p.terminal(url.Values{"container_id": {containerText(id)}, "input": {"0"}}, nil)
	if err := os.WriteFile(filepath.Join(sandbox, "containers", id.GetValue(), "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*console{c, reader} {
		c.ends(control{Exit: &exitStatus{Status: 3}})
		if c.out[1].String() != "out\n" {
			t.Errorf("got %q", c.out[1].String())
		}
	}
}

// TestTerminalRefuses: what is no good request gets a status.
func TestTerminalRefuses(t *testing.T) {
	p := newPod(t)
	executor, task, _ := p.onePod()
	id := container(executor, task)
	for name, c := range map[string]struct {
		query  url.Values
		header http.Header
		want   int
	}{
		"nothing":        {nil, nil, http.StatusBadRequest},
		"no id":          {url.Values{"container_id": {"a/b"}}, nil, http.StatusBadRequest},
		"not there":      {url.Values{"container_id": {"nobody"}}, nil, http.StatusNotFound},
		"not there, too": {url.Values{"container_id": {executor + ".nobody"}}, nil, http.StatusNotFound},
		"empty command":  {url.Values{"container_id": {id}, "cmd": {""}}, nil, http.StatusBadRequest},
		"size":           {url.Values{"container_id": {id}, "cmd": {"sh"}, "rows": {"70000"}}, nil, http.StatusBadRequest},
		"other site":     {url.Values{"container_id": {id}, "cmd": {"sh"}}, http.Header{"Origin": {"http://evil.example"}}, http.StatusForbidden},
	} {
		if _, got := p.terminal(c.query, c.header); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
	if status, _, out := request(t, p.a, "GET", terminalPath+"?container_id="+id, jsonType, ""); status != http.StatusUpgradeRequired {
		t.Errorf("without websocket: got %d %s", status, out)
	}
}

// TestDoorsAsk: doors ask for what calls do that do the same.
func TestDoorsAsk(t *testing.T) {
	p := newPod(t)
	executor, task, _ := p.onePod()
	id := container(executor, task)
	all := []string{
		"launch_nested_container_sessions_as_user", "launch_nested_container_sessions_under_parent_with_user",
		"attach_containers_input", "attach_containers_output", "access_sandboxes",
	}
	for name, c := range map[string]struct {
		method, path string
		needs        []string
	}{
		"session":      {"GET", terminalPath + "?cmd=true", all[:3]},
		"as a user":    {"GET", terminalPath + "?cmd=true&user=root", all[:3]},
		"attach":       {"GET", terminalPath + "?", all[2:4]},
		"read along":   {"GET", terminalPath + "?input=0", all[3:4]},
		"forward":      {"GET", forwardPath + "?port=1", all[:2]},
		"sandbox":      {"GET", archivePath + "?path=stdout", all[4:]},
		"file":         {"GET", archivePath + "?path=/etc/hostname", all[:2]},
		"file of root": {"GET", archivePath + "?path=/etc/hostname&user=root", all[:2]},
		"into sandbox": {"PUT", archivePath + "?path=.", all[:2]},
	} {
		rules := func(without string) {
			text := `{"permissive":true`
			for _, list := range all {
				if list == without || !slices.Contains(c.needs, list) {
					text += fmt.Sprintf(`,%q:[{"principals":{"type":"ANY"},"users":{"type":"NONE"}}]`, list)
				}
			}
			acls, err := authz.Parse([]byte(text + "}"))
			if err != nil {
				t.Fatal(err)
			}
			p.a.SetPolicy(acls)
		}
		ask := func() int {
			sep := map[bool]string{true: "", false: "&"}[strings.HasSuffix(c.path, "?")]
			status, _, _ := request(t, p.a, c.method, c.path+sep+"container_id="+id, "application/x-tar", "")
			return status
		}
		rules("")
		if got := ask(); got == http.StatusForbidden {
			t.Errorf("%s: refused, with all that it needs", name)
		}
		for _, need := range c.needs {
			rules(need)
			if got := ask(); got != http.StatusForbidden {
				t.Errorf("%s without %s: got %d", name, need, got)
			}
		}
	}
	p.a.SetPolicy(nil)
}

// TestForwardDoor: bytes go both ways, and each end by itself.
func TestForwardDoor(t *testing.T) {
	p := newPod(t)
	executor, task, _ := p.onePod()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c)
			_, _ = fmt.Fprintf(c, "you said %s", b)
			_ = c.Close()
		}
	}()
	defer func() { l.Close(); <-served }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	dial := func(port string) (net.Conn, *bufio.Reader, int) {
		nc, err := net.Dial("tcp", p.a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		fmt.Fprintf(nc, "GET %s?container_id=%s&port=%s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", forwardPath, container(executor, task), port)
		br := bufio.NewReader(nc)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return nc, br, resp.StatusCode
	}
	nc, br, status := dial(port)
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("got %d", status)
	}
	fmt.Fprint(nc, "hello")
	_ = nc.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(br); err != nil || string(b) != "you said hello" {
		t.Errorf("got %q %v", b, err)
	}
	nc, _, _ = dial(port)
	_ = nc.Close()
	eventually(t, "all are closed", func() bool { return p.a.doors.open.Load() == 0 })
	l.Close()
	if _, _, status := dial(port); status != http.StatusBadGateway {
		t.Errorf("nobody listens: got %d", status)
	}
	if _, _, status := dial("0"); status != http.StatusBadRequest {
		t.Errorf("no port: got %d", status)
	}
}

// file is one of an archive.
type file struct {
	name, content string
	typ           byte
	mode          int64
}

func makeTar(t *testing.T, files ...file) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Typeflag: f.typ, Mode: f.mode, Uid: 4711, Gid: 4711}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		switch f.typ {
		case 0:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(f.content))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = f.content
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			_, _ = io.WriteString(w, f.content)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// listTar is what an archive holds: "name", "name/" or "name -> link", and the contents.
func listTar(t *testing.T, archive string) (names []string, contents map[string]string) {
	t.Helper()
	contents = map[string]string{}
	r := tar.NewReader(strings.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		name := h.Name
		if h.Linkname != "" {
			name += " -> " + h.Linkname
		}
		names = append(names, name)
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		contents[h.Name] = string(b)
	}
}

func (p *pod) archive(method, id, path, body string, more ...string) (int, string) {
	p.t.Helper()
	q := url.Values{"container_id": {id}, "path": {path}}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	status, _, out := request(p.t, p.a, method, archivePath+"?"+q.Encode(), "application/x-tar", body)
	return status, out
}

// TestArchiveDoor: files come out of a sandbox and into it, and nothing leads elsewhere.
func TestArchiveDoor(t *testing.T) {
	p := newPod(t)
	executor, task, root := p.onePod()
	id, sandbox := container(executor, task), filepath.Join(root, "containers", task)
	status, out := p.archive("PUT", id, ".", makeTar(
		t, file{name: "d/", typ: tar.TypeDir, mode: 0o755}, file{name: "d/a", content: "one", mode: 0o4755}, file{name: "e/f/g", content: "two"},
		file{name: "d/l", content: "a", typ: tar.TypeSymlink}, file{name: "out", content: "/etc/passwd", typ: tar.TypeSymlink},
		file{name: "up", content: "../../..", typ: tar.TypeSymlink},
	))
	if status != http.StatusOK || out != `{"files":6,"bytes":6}` {
		t.Fatalf("got %d %s", status, out)
	}
	if st, err := os.Lstat(filepath.Join(sandbox, "d/a")); err != nil || st.Mode() != 0o755 {
		t.Errorf("got %v %v: set-user-id must not come in", st, err)
	}
	status, out = p.archive("GET", id, "d", "")
	names, contents := listTar(t, out)
	if status != http.StatusOK || !slices.Equal(names, []string{"d/", "d/a", "d/l -> a"}) || contents["d/a"] != "one" {
		t.Errorf("got %d %q %q", status, names, contents)
	}
	for _, path := range []string{".", "./", "d/.."} {
		status, out = p.archive("GET", id, path, "")
		if names, _ = listTar(t, out); status != http.StatusOK || !slices.Contains(names, "e/f/g") || !slices.Contains(names, "out -> /etc/passwd") {
			t.Errorf("%s: got %d %q", path, status, names)
		}
	}
	_, out = p.archive("GET", id, "d/l", "")
	if names, contents = listTar(t, out); !slices.Equal(names, []string{"l"}) || contents["l"] != "one" {
		t.Errorf("got %q %q", names, contents)
	}
	for path, want := range map[string]int{"out": 403, "up": 403, "../stdout": 403, "nothing": 404, "d/a/b": 404, "": 400} {
		if status, out = p.archive("GET", id, path, ""); status != want {
			t.Errorf("%q: got %d %s, want %d", path, status, out, want)
		}
	}
	for name, c := range map[string]struct {
		at    string
		files []file
		want  int
	}{
		"up":           {".", []file{{name: "../x", content: "x"}}, 400},
		"absolute":     {".", []file{{name: "/tmp/clusterd-x", content: "x"}}, 400},
		"by a link":    {".", []file{{name: "up/x", content: "x"}}, 403},
		"two steps":    {".", []file{{name: "k", content: "/tmp", typ: tar.TypeSymlink}, {name: "k/x", content: "x"}}, 403},
		"into a link":  {"up", []file{{name: "x", content: "x"}}, 403},
		"not there":    {"nothing", []file{{name: "x", content: "x"}}, 404},
		"hard link":    {".", []file{{name: "x", content: "/etc/passwd", typ: tar.TypeLink}}, 400},
		"device":       {".", []file{{name: "x", typ: tar.TypeChar}}, 400},
		"on directory": {".", []file{{name: "d", content: "x"}}, 500},
		"replaces":     {".", []file{{name: "out", content: "mine"}}, 200},
	} {
		if status, out = p.archive("PUT", id, c.at, makeTar(t, c.files...)); status != c.want {
			t.Errorf("%s: got %d %s, want %d", name, status, out, c.want)
		}
	}
	if status, out = p.archive("PUT", id, ".", "this is no tar, but is as long as the header of one "+strings.Repeat("x", 1000)); status != http.StatusBadRequest {
		t.Errorf("no tar: got %d %s", status, out)
	}
	whole := makeTar(t, file{name: "part", content: strings.Repeat("x", 10000)})
	if status, out = p.archive("PUT", id, ".", whole[:5000]); status != http.StatusBadRequest {
		t.Errorf("half a tar: got %d %s", status, out)
	}
	// A path of the container is the host's where it has no root of its own.
	hostname, err := os.ReadFile("/etc/hostname")
	if err != nil {
		t.Skip(err)
	}
	status, out = p.archive("GET", id, "/etc/hostname", "")
	if _, contents = listTar(t, out); status != http.StatusOK || contents["hostname"] != string(hostname) {
		t.Errorf("got %d %q", status, contents)
	}
	for _, path := range []string{"/proc/self/environ", "/proc", "/sys/kernel", "/proc/1/root/etc/hostname"} {
		if status, _ = p.archive("GET", id, path, ""); status != http.StatusForbidden && status != http.StatusNotFound {
			t.Errorf("%s: got %d", path, status)
		}
	}
	if status, out = p.archive("PUT", id, "/", makeTar(t, file{name: "sys/fs/cgroup/clusterd-door/x", content: "x"})); status != http.StatusForbidden {
		t.Errorf("a cgroup: got %d %s", status, out)
	}
	if status, out = p.archive("GET", id, "/dev/null", ""); status != http.StatusBadRequest {
		t.Errorf("a device: got %d %s", status, out)
	}
}

// TestArchiveRights: what is read and written outside of a sandbox, is by the container's user.
func TestArchiveRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	p := newPod(t, func(o *Options) { o.SwitchUser = true })
	dir := t.TempDir()
	for at := dir; at != "/" && at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "open"), []byte("o"), 0o644); err != nil {
		t.Fatal(err)
	}
	open := func(path string) {
		for at := path; at != "/" && at != os.TempDir(); at = filepath.Dir(at) {
			if st, err := os.Stat(at); err == nil {
				_ = os.Chmod(at, st.Mode()|0o055)
			}
		}
	}
	open(p.h.work)
	open(p.h.run)
	task := commandTask("t", "sleep 1000")
	task.Command.User = new("nobody")
	p.m.send(runTasks(framework("F"), task))
	id := p.m.waitState("t", "RUNNING").GetContainerStatus().GetContainerId().GetValue()
	if status, out := p.archive("GET", id, filepath.Join(dir, "secret"), ""); status != http.StatusForbidden {
		t.Errorf("what nobody may read: got %d %q", status, out)
	}
	if status, _ := p.archive("GET", id, filepath.Join(dir, "secret"), "", "user", "root"); status != http.StatusOK {
		t.Errorf("what root may read: got %d", status)
	}
	status, out := p.archive("GET", id, dir, "")
	if names, _ := listTar(t, out); status != http.StatusOK || !slices.Equal(names, []string{filepath.Base(dir) + "/", filepath.Base(dir) + "/open"}) {
		t.Errorf("got %d %q", status, names)
	}
	if status, out := p.archive("PUT", id, dir, makeTar(t, file{name: "x", content: "x"})); status != http.StatusForbidden {
		t.Errorf("where nobody may write: got %d %q", status, out)
	}
	if status, out := p.archive("PUT", id, ".", makeTar(t, file{name: "mine", content: "x", mode: 0o600})); status != http.StatusOK {
		t.Errorf("the sandbox: got %d %q", status, out)
	}
	_, sandbox := p.only()
	st, err := os.Stat(filepath.Join(sandbox, "mine"))
	if err != nil || !strings.Contains(fmt.Sprintf("%+v", st.Sys()), "Uid:65534") {
		t.Errorf("got %+v %v", st, err)
	}
	if b, err := os.ReadFile("/proc/self/status"); err != nil || strings.Contains(string(b), "Uid:\t0\t0\t0\t65534") {
		t.Errorf("this process is not what it was: %v", err)
	}
}

// TestOfEngine: what stands for a container of a Docker engine is a process of the agent's on
// the host, which no door may lead into.
func TestOfEngine(t *testing.T) {
	docker, own := &mesos.ContainerInfo{Type: mesos.ContainerInfo_DOCKER.Enum()}, &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum()}
	id := &mesos.ContainerID{Value: new("C")}
	for name, c := range map[string]struct {
		e    core.ExecutorView
		want bool
	}{
		"nothing said": {core.ExecutorView{Info: &mesos.ExecutorInfo{}}, false},
		"ours":         {core.ExecutorView{Info: &mesos.ExecutorInfo{Container: own}, Launched: []*mesos.Task{{Container: own}}}, false},
		"executor":     {core.ExecutorView{Info: &mesos.ExecutorInfo{Container: docker}}, true},
		"queued":       {core.ExecutorView{Info: &mesos.ExecutorInfo{}, Queued: []*mesos.TaskInfo{{Container: docker}}}, true},
		"launched":     {core.ExecutorView{Info: &mesos.ExecutorInfo{}, Launched: []*mesos.Task{{}, {Container: docker}}}, true},
		"over":         {core.ExecutorView{Info: &mesos.ExecutorInfo{}, Terminated: []*mesos.Task{{Container: docker}}}, true},
	} {
		c.e.ContainerID = id
		v := &core.View{Frameworks: []*core.FrameworkView{{Executors: []*core.ExecutorView{&c.e}}}}
		for _, asked := range []*mesos.ContainerID{id, {Value: new("child"), Parent: id}} {
			if got := ofEngine(v, asked); got != c.want {
				t.Errorf("%s: got %v", name, got)
			}
		}
	}
}
