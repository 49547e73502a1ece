package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// TestExampleScheduler runs mesos-go's example framework as it is: it serves its
// own executor by HTTP, has it fetched, launches tasks with it and ends when all
// have finished.
func TestExampleScheduler(t *testing.T) {
	for _, codec := range []string{"protobuf", "json"} {
		t.Run(codec, func(t *testing.T) {
			api := "http://" + startCluster(t) + "/api/v1/scheduler"
			if codec == "json" {
				api = withoutQuotaV2(t, api)
			}
			// Its exit code says nothing: it ends by cancelling its own context.
			out, _ := runProgram(t, "example-scheduler",
				"-url", api, "-codec", codec, "-user", "root",
				"-executor", filepath.Join(bin, "example-executor"), "-exec.image", "",
				"-server.address", "127.0.0.1", "-server.port", freePort(t), "-metrics.port", freePort(t),
				"-tasks", "7", "-cpu", "0.5", "-memory", "64", "-exec.cpu", "0.1", "-exec.memory", "32",
				"-maxRefuseSeconds", "1s")
			if !strings.Contains(out, "mission accomplished") {
				t.Errorf("the framework did not finish its tasks:\n%s", out)
			}
		})
	}
}

// TestMsh runs mesos-go's shell: one command task with a role of its own, a
// group of the default executor being for later.
func TestMsh(t *testing.T) {
	master := startCluster(t)
	out, err := runProgram(t, "msh", "-master", master, "-user", "root", "-cpus", "0.1", "-memory", "32",
		"--", "echo", "hello from msh")
	if err != nil || strings.Contains(out, "TASK_FAILED") || strings.Contains(out, "TASK_LOST") {
		t.Errorf("msh: %v\n%s", err, out)
	}
}

func runProgram(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(bin, name), args...).CombinedOutput()
	return string(out), err
}

// ports counts those that were given away. They are below those that Linux gives to who asks
// for any port or opens a connection: who is given one listens some time later.
var ports atomic.Int32

// freePort is a port that is not given twice.
func freePort(t *testing.T) string {
	t.Helper()
	const first, last = 12000, 20000 // above are those of internal/testcluster
	for range last - first {
		port := first + (os.Getpid()*100+int(ports.Add(1)))%(last-first)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return strconv.Itoa(port)
		}
	}
	t.Fatal("no port is free")
	return ""
}

// withoutQuotaV2 puts a proxy before the scheduler API that leaves the master
// capability QUOTA_V2 out of SUBSCRIBED. mesos-go's JSON decoder does not know
// the name and gives up, on a real Mesos too.
func withoutQuotaV2(t *testing.T, api string) string {
	t.Helper()
	target, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL = target; r.Out.Host = target.Host },
		FlushInterval: -1,
		ModifyResponse: func(res *http.Response) error {
			if res.StatusCode == http.StatusOK && res.Header.Get("Mesos-Stream-Id") != "" {
				r, w := io.Pipe()
				go func(body io.ReadCloser) {
					defer body.Close()
					w.CloseWithError(filterStream(w, body))
				}(res.Body)
				res.Body = r
			}
			return nil
		},
	}
	srv := httptest.NewServer(proxy)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL + target.Path
}

func filterStream(w io.Writer, body io.Reader) error {
	r := bufio.NewReader(body)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return err
		}
		record := make([]byte, n)
		if _, err := io.ReadFull(r, record); err != nil {
			return err
		}
		if bytes.Contains(record, []byte("QUOTA_V2")) {
			if record, err = dropQuotaV2(record); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(w, "%d\n%s", len(record), record); err != nil {
			return err
		}
	}
}

func dropQuotaV2(record []byte) ([]byte, error) {
	var event map[string]any
	if err := json.Unmarshal(record, &event); err != nil {
		return nil, err
	}
	info := event["subscribed"].(map[string]any)["master_info"].(map[string]any)
	var keep []any
	for _, c := range info["capabilities"].([]any) {
		if c.(map[string]any)["type"] != "QUOTA_V2" {
			keep = append(keep, c)
		}
	}
	info["capabilities"] = keep
	return json.Marshal(event)
}
