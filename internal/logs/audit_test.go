package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"clusterd/internal/authz"
	"clusterd/internal/httpapi"
)

func audited(t *testing.T, a *Audit, x httpapi.Audited) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1?secret=1", nil)
	r.RemoteAddr = "192.0.2.1:1234"
	a.Record(r, x)
}

// records are the lines of an audit log without their times.
func records(t *testing.T, text string) (out []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if _, err := time.Parse(TimeFormat, fmt.Sprint(m["time"])); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		delete(m, "time")
		out = append(out, m)
	}
	return out
}

func TestAudit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "audit.log")
	a, err := OpenAudit(AuditOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	audited(t, a, httpapi.Audited{Principal: &authz.Principal{Value: "ops"}, Action: "DRAIN_AGENT", Fields: []string{"agent_id", "S1"}})
	audited(t, a, httpapi.Audited{Action: "TEARDOWN", Err: httpapi.Forbidden("not yours")})
	audited(t, a, httpapi.Audited{Action: "RESERVE_RESOURCES", Err: fmt.Errorf("around: %w", httpapi.Conflict("no\nroom"))})
	audited(t, a, httpapi.Audited{Action: "UPDATE_QUOTA", Err: errors.New("broken")})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	base := func(more map[string]any) map[string]any {
		m := map[string]any{"remote": "192.0.2.1:1234", "method": "POST", "path": "/api/v1", "message": "audit"}
		maps.Copy(m, more)
		return m
	}
	want := []map[string]any{
		base(map[string]any{"action": "DRAIN_AGENT", "principal": "ops", "agent_id": "S1", "result": "ok"}),
		base(map[string]any{"action": "TEARDOWN", "result": "refused", "status": 403.0, "reason": "403: not yours"}),
		base(map[string]any{"action": "RESERVE_RESOURCES", "result": "refused", "status": 409.0, "reason": "around: 409: no\nroom"}),
		base(map[string]any{"action": "UPDATE_QUOTA", "result": "failed", "status": 500.0, "reason": "broken"}),
	}
	if d := cmp.Diff(want, records(t, read(t, path))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("others may read it: %v, %v", info.Mode(), err)
	}
	// The next run goes on with the same file.
	a, err = OpenAudit(AuditOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	audited(t, a, httpapi.Audited{Action: "LATER"})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got := records(t, read(t, path)); len(got) != 5 || got[4]["action"] != "LATER" {
		t.Errorf("after another run: %v", got)
	}
}

func TestAuditWithoutFile(t *testing.T) {
	var b bytes.Buffer
	// Records come through whatever the level of the log is.
	l := open(t, Options{Stderr: &b, Level: "ERROR"})
	a, err := OpenAudit(AuditOptions{Log: l.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	audited(t, a, httpapi.Audited{Action: "TEARDOWN"})
	if err := errors.Join(a.Reopen(), a.Close()); err != nil {
		t.Fatal(err)
	}
	got := records(t, b.String())
	if len(got) != 1 || got[0]["action"] != "TEARDOWN" || got[0]["component"] != "audit" {
		t.Errorf("got %v", got)
	}
}

// TestAuditRotates keeps records in order over several files of one name.
func TestAuditRotates(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	a, err := OpenAudit(AuditOptions{Path: path, MaxSize: 2 << 10, MaxTotal: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		audited(t, a, httpapi.Audited{Action: "X", Fields: []string{"n", fmt.Sprint(i)}})
	}
	if err := os.Rename(path, path+".by-logrotate"); err != nil {
		t.Fatal(err)
	}
	if err := a.Reopen(); err != nil {
		t.Fatal(err)
	}
	audited(t, a, httpapi.Audited{Action: "X", Fields: []string{"n", "100"}})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 5 {
		t.Fatalf("files %v, %v", files, err)
	}
	seen := make(map[any]bool)
	for _, f := range files {
		last := -1
		for _, r := range records(t, read(t, f)) {
			var n int
			_, _ = fmt.Sscan(r["n"].(string), &n)
			if n <= last {
				t.Errorf("%s: %d comes after %d", f, n, last)
			}
			last = n
			seen[n] = true
		}
	}
	if len(seen) != 101 {
		t.Errorf("%d records of 101", len(seen))
	}
	if got := records(t, read(t, path)); len(got) != 1 {
		t.Errorf("the present file has %d records", len(got))
	}
}

// TestAuditFails is loud, once, and says when it is well again.
func TestAuditFails(t *testing.T) {
	var b bytes.Buffer
	path := filepath.Join(t.TempDir(), "audit.log")
	a, err := OpenAudit(AuditOptions{Path: path, Log: zerolog.New(&b)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	good := a.file.f
	a.file.f = full
	a.file.checked = time.Now().Add(time.Hour) // not noticed that it is another
	audited(t, a, httpapi.Audited{Action: "ONE"})
	audited(t, a, httpapi.Audited{Action: "TWO"})
	if n := strings.Count(b.String(), "records of the audit log are being lost"); n != 1 || !strings.Contains(b.String(), "no space left") {
		t.Errorf("said %d times: %s", n, b.String())
	}
	if a.failed.Load() != 2 {
		t.Errorf("%d failures counted", a.failed.Load())
	}
	a.file.f = good
	full.Close()
	audited(t, a, httpapi.Audited{Action: "THREE"})
	if !strings.Contains(b.String(), "written again") {
		t.Errorf("not said that it is well: %s", b.String())
	}
	got := records(t, read(t, path))
	if len(got) != 2 || got[0]["lines"] != 2.0 || got[1]["action"] != "THREE" {
		t.Errorf("got %v", got)
	}
	if _, err := OpenAudit(AuditOptions{Path: "/dev/null/audit"}); err == nil {
		t.Error("a path that cannot be is taken")
	}
}
