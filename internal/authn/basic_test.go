package authn

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"clusterd/internal/authz"
)

const basicChallenge = `Basic realm="mesos-master-readonly"`

func basicFor(t testing.TB, text string) *Basic {
	t.Helper()
	c, err := ParseCredentials([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return NewBasic(func() *Credentials { return c })
}

func showing(principal, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(principal+":"+secret))
}

func TestBasic(t *testing.T) {
	b := basicFor(t, `{"credentials":[
		{"principal":"plain","secret":"pa:ss"},
		{"principal":"hash-a","secret":"`+hashOf(t, "2a", "sa")+`"},
		{"principal":"hash-b","secret":"`+hashOf(t, "2b", "sb")+`"},
		{"principal":"hash-y","secret":"`+hashOf(t, "2y", "sy")+`"}]}`)
	refused := func(k Kind) answer { return answer{Status: 401, Challenge: basicChallenge, Kind: k} }
	is := func(p string) answer { return answer{Principal: &authz.Principal{Value: p}} }
	for _, row := range []struct {
		name, header string
		want         answer
	}{
		{"plain, with a colon", showing("plain", "pa:ss"), is("plain")},
		{"2a", showing("hash-a", "sa"), is("hash-a")},
		{"2b", showing("hash-b", "sb"), is("hash-b")},
		{"2y", showing("hash-y", "sy"), is("hash-y")},
		{"scheme in small letters", "basic" + strings.TrimPrefix(showing("plain", "pa:ss"), "Basic"), is("plain")},
		{"nothing", "", refused(Missing)},
		{"another scheme", "Bearer abc", refused(Missing)},
		{"scheme alone", "Basic", refused(Malformed)},
		{"scheme and blank", "Basic ", refused(Malformed)},
		{"no base64", "Basic %%%", refused(Malformed)},
		{"no colon", "Basic " + base64.StdEncoding.EncodeToString([]byte("plain")), refused(Malformed)},
		{"two words", showing("plain", "pa:ss") + " x", refused(Malformed)},
		{"scheme that is none", `"Basic" abc`, refused(Malformed)},
		{"wrong secret", showing("plain", "pa:s"), refused(Rejected)},
		{"empty secret", showing("plain", ""), refused(Rejected)},
		{"empty", showing("", ""), refused(Rejected)},
		{"unknown", showing("mallory", "pa:ss"), refused(Rejected)},
		{"secret of another", showing("hash-a", "sb"), refused(Rejected)},
		{"hash as the secret", showing("hash-a", string(b.credentials().secrets["hash-a"].hash)), refused(Rejected)},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, ask(t, b, request(t, row.header))); diff != "" {
				t.Errorf("%q: -want +got:\n%s", row.header, diff)
			}
		})
	}
	t.Run("two headers", func(t *testing.T) {
		r := request(t, showing("plain", "pa:ss"))
		r.Header.Add("Authorization", showing("hash-a", "sa"))
		if diff := cmp.Diff(refused(Malformed), ask(t, b, r)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
	t.Run("reasons hold no secret", func(t *testing.T) {
		for _, header := range []string{showing("plain", "hunter2"), showing("mallory", "hunter2"), "hunter2", "hunter2 hunter2"} {
			if _, err := b.Authenticate(request(t, header), MasterReadonly); err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: got %v", header, err)
			}
		}
	})
}

// TestChallengesOfMesos compares challenges with those recorded from a Mesos.
func TestChallengesOfMesos(t *testing.T) {
	files, err := filepath.Glob("../../../shared/golden/auth/*unauthenticated.json")
	if err != nil || len(files) == 0 {
		t.Skip("recorded answers (../shared/golden) are not here")
	}
	realms := map[string]Realm{
		"/state": MasterReadonly, "/api/v1": MasterReadwrite, "/api/v1/scheduler": MasterScheduler,
	}
	b := basicFor(t, `{"credentials":[]}`)
	for _, path := range files {
		var recorded struct {
			Request  struct{ Path string }
			Response struct {
				Status  int
				Headers []string
			}
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &recorded); err != nil {
			t.Fatal(err)
		}
		realm, ok := realms[recorded.Request.Path]
		if !ok {
			t.Fatalf("%s: path %q has no realm here", path, recorded.Request.Path)
		}
		_, err = b.Authenticate(request(t, ""), realm)
		f, ok := errors.AsType[*Failure](err)
		if !ok {
			t.Fatal(err)
		}
		want := strings.TrimPrefix(recorded.Response.Headers[0], "WWW-Authenticate: ")
		if f.Status != recorded.Response.Status || len(f.Challenges) != 1 || f.Challenges[0] != want {
			t.Errorf("%s: got %d %q, want %d %q", path, f.Status, f.Challenges, recorded.Response.Status, want)
		}
	}
}

// TestHashesAreComparedOnce says how often a hash is computed: that is what a
// request costs.
func TestHashesAreComparedOnce(t *testing.T) {
	b := basicFor(t, `{"credentials":[
		{"principal":"plain","secret":"p"},
		{"principal":"hash","secret":"`+hashOf(t, "2a", "s")+`"}]}`)
	want := int64(0)
	for _, row := range []struct {
		name, principal, secret string
		runs                    int64
	}{
		{"first", "hash", "s", 1},
		{"again", "hash", "s", 0},
		{"plain", "plain", "p", 0},
		{"wrong", "hash", "x", 1},
		{"wrong again", "hash", "x", 0},
		{"unknown costs as much as wrong", "nobody", "x", 1},
		{"plain and wrong costs as much as wrong", "plain", "x", 1},
		{"good after wrong", "hash", "s", 0},
	} {
		ask(t, b, request(t, showing(row.principal, row.secret)))
		if want += row.runs; b.hashes.runs.Load() != want {
			t.Fatalf("%s: hashes were computed %d times, want %d", row.name, b.hashes.runs.Load(), want)
		}
	}
}

func TestNewHashEndsTheOldSecret(t *testing.T) {
	path := file(t, "credentials", `{"principal":"a","secret":"`+hashOf(t, "2a", "old")+`"}`)
	set, err := New(Config{CredentialsFile: path, Realms: map[Realm][]string{MasterReadonly: {NameBasic}}})
	if err != nil {
		t.Fatal(err)
	}
	a := set.Realms[MasterReadonly]
	status := func(secret string) int { return ask(t, a, request(t, showing("a", secret))).Status }
	if got := []int{status("old"), status("new")}; !cmp.Equal(got, []int{0, 401}) {
		t.Fatalf("before: got %v", got)
	}
	if err := os.WriteFile(path, []byte(`{"principal":"a","secret":"`+hashOf(t, "2a", "new")+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := set.Sources[0].Reload(); err != nil || !changed {
		t.Fatalf("got %t, %v", changed, err)
	}
	if got := []int{status("old"), status("new")}; !cmp.Equal(got, []int{401, 0}) {
		t.Errorf("after: got %v", got)
	}
	if err := os.WriteFile(path, []byte(`{"principal":"a"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := set.Sources[0].Reload(); !errors.Is(err, ErrCredentials) {
		t.Errorf("got %v", err)
	}
	if got := []int{status("old"), status("new")}; !cmp.Equal(got, []int{401, 0}) {
		t.Errorf("after a bad file: got %v", got)
	}
}

func TestSameSecretIsComparedOnceForAll(t *testing.T) {
	b := basicFor(t, `{"principal":"agent","secret":"`+hashOf(t, "2a", "s")+`"}`)
	b.hashes.turns, b.hashes.wait = make(chan struct{}, 1), time.Minute
	b.hashes.turns <- struct{}{}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if _, err := b.Authenticate(request(t, showing("agent", "s")), MasterAgent); err != nil {
				t.Error(err)
			}
		})
	}
	<-b.hashes.turns
	wg.Wait()
	if n := b.hashes.runs.Load(); n != 1 {
		t.Errorf("hashes were computed %d times for 64 requests", n)
	}
}

// TestBusyIsNotWrong has all turns taken: who cannot be compared is told to come
// again, and who is remembered, or has a plain secret, is let in.
func TestBusyIsNotWrong(t *testing.T) {
	b := basicFor(t, `{"credentials":[{"principal":"p","secret":"p"},{"principal":"h","secret":"`+hashOf(t, "2a", "s")+`"}]}`)
	if got := ask(t, b, request(t, showing("h", "s"))); got.Principal == nil {
		t.Fatalf("got %+v", got)
	}
	for range cap(b.hashes.turns) {
		b.hashes.turns <- struct{}{}
	}
	b.hashes.wait = 1
	want := answer{Status: http.StatusServiceUnavailable, Kind: Unavailable}
	if diff := cmp.Diff(want, ask(t, b, request(t, showing("h", "x")))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, who := range [][2]string{{"h", "s"}, {"p", "p"}} {
		if got := ask(t, b, request(t, showing(who[0], who[1]))); got.Principal == nil {
			t.Errorf("%s: got %+v", who[0], got)
		}
	}
	<-b.hashes.turns
	b.hashes.wait = hashWait
	if got := ask(t, b, request(t, showing("h", "x"))); got.Kind != Rejected {
		t.Errorf("with a turn: got %+v", got)
	}
}

func TestRecentIsBounded(t *testing.T) {
	h := newHashes()
	h.good.limit = 8
	sum := func(i int) [32]byte { return h.sum(fmt.Append(nil, i)) }
	for i := range 100 {
		h.good.add(sum(i))
		if !h.good.has(sum(i)) || !h.good.has(sum(0)) {
			t.Fatalf("after %d: forgot one that was asked for", i)
		}
		if n := len(h.good.now) + len(h.good.before); n > 9 {
			t.Fatalf("remembers %d, want at most 8 and one", n)
		}
	}
	if h.good.has(sum(50)) {
		t.Error("remembers one that nobody asked for")
	}
	if h.sum([]byte("a\x00\x00\x00\x00\x00\x00\x00\x00b")) == h.sum([]byte("a"), []byte("b")) {
		t.Error("sums of different parts are the same")
	}
}

func FuzzAuthorization(f *testing.F) {
	f.Add("Basic YTpi")
	f.Add("Bearer a.b.c")
	f.Add(" ")
	c, err := ParseCredentials([]byte(`{"principal":"a","secret":"b"}`))
	if err != nil {
		f.Fatal(err)
	}
	tokens, err := NewExecutorTokens([]byte("key"), 0)
	if err != nil {
		f.Fatal(err)
	}
	all := Combined{NewBasic(func() *Credentials { return c }), tokens.Authenticator()}
	f.Fuzz(func(t *testing.T, header string) {
		r := request(t, "")
		r.Header["Authorization"] = []string{header}
		got := ask(t, all, r)
		if strings.ContainsAny(got.Challenge, "\r\n\\") {
			t.Errorf("challenge %q", got.Challenge)
		}
		if p := got.Principal; p != nil && p.Value != "a" {
			t.Errorf("principal %+v", p)
		}
	})
}
