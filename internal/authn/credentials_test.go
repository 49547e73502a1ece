package authn

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"
)

// hashOf makes a cheap bcrypt hash of a version: "2a", "2b", "2y".
func hashOf(t testing.TB, version, secret string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return "$" + version + "$" + strings.TrimPrefix(string(h), "$2a$")
}

func TestParseCredentials(t *testing.T) {
	hash := hashOf(t, "2a", "hunter2")
	for _, row := range []struct {
		name, in string
		want     []string // principals
		err      string   // part of the error
	}{
		{"list", `{"credentials":[{"principal":"a","secret":"x"},{"principal":"b","secret":"y"}]}`, []string{"a", "b"}, ""},
		{"one", ` {"principal":"a","secret":"x"}` + "\n", []string{"a"}, ""},
		{"nobody", `{"credentials":[]}`, nil, ""},
		{"hash", `{"credentials":[{"principal":"a","secret":"` + hash + `"}]}`, []string{"a"}, ""},
		{"same secret twice", `{"credentials":[{"principal":"a","secret":"x"},{"principal":"b","secret":"x"}]}`, []string{"a", "b"}, ""},
		{"empty", "", nil, "the file is empty"},
		{"blank", " \n", nil, "the file is empty"},
		{"text of old", "alice hunter2\n", nil, `{"credentials": [{"principal": "p", "secret": "s"}]}`},
		{"array", `[{"principal":"a","secret":"hunter2"}]`, nil, "want {"},
		{"empty object", `{}`, nil, `neither "credentials" nor`},
		{"unknown key", `{"credentials":[{"principal":"a","secret":"hunter2","role":"x"}]}`, nil, `unknown key "role"`},
		{"unknown key above", `{"credential":[]}`, nil, `unknown key "credential"`},
		{"key in other letters", `{"Principal":"a","secret":"hunter2"}`, nil, `unknown key "Principal"`},
		{"key twice", `{"principal":"a","secret":"hunter2","secret":"hunter2"}`, nil, `key "secret" is there twice`},
		{"list twice", `{"credentials":[],"credentials":[]}`, nil, `key "credentials" is there twice`},
		{"one and a list", `{"credentials":[],"principal":"a","secret":"hunter2"}`, nil, "both one credential and a list"},
		{"no principal", `{"credentials":[{"secret":"hunter2"}]}`, nil, "number 1: no principal"},
		{"empty principal", `{"principal":"","secret":"hunter2"}`, nil, "no principal"},
		{"no secret", `{"principal":"a"}`, nil, `principal "a" has no secret`},
		{"empty secret", `{"principal":"a","secret":""}`, nil, `principal "a" has no secret`},
		{"twice", `{"credentials":[{"principal":"a","secret":"hunter2"},{"principal":"a","secret":"y"}]}`, nil, `principal "a" is there twice`},
		{"colon", `{"principal":"a:b","secret":"hunter2"}`, nil, "has a colon"},
		{"control", `{"principal":"a\nb","secret":"hunter2"}`, nil, "control character"},
		{"number", `{"principal":"a","secret":4711}`, nil, "all of them strings"},
		{"object", `{"principal":"a","secret":{"hunter2":1}}`, nil, "all of them strings"},
		{"null", `{"credentials":null}`, nil, "all of them strings"},
		{"cut off", `{"credentials":[{"principal":"a","secret":"hunter2`, nil, "not JSON"},
		{"bad escape", `{"principal":"a","secret":"hunter2\x"}`, nil, "not JSON"},
		{"more", `{"principal":"a","secret":"hunter2"} hunter2`, nil, "more after the end"},
		{"not UTF-8", "{\"principal\":\"a\",\"secret\":\"hunter2\xff\"}", nil, "not UTF-8"},
		{"no hash", `{"principal":"a","secret":"$2a$hunter2"}`, nil, "looks like a bcrypt hash and is none"},
		{"costly hash", `{"principal":"a","secret":"` + strings.Replace(hash, "$04$", "$15$", 1) + `"}`, nil, "cost of 15"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := ParseCredentials([]byte(row.in))
			if row.err != "" {
				if err == nil || !errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), row.err) {
					t.Fatalf("ParseCredentials(%s) got error %v, want one with %q", row.in, err, row.err)
				}
				for _, secret := range []string{"hunter2", "4711", hash} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("error shows a secret: %v", err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Len() != len(row.want) {
				t.Errorf("got %d principals, want %v", c.Len(), row.want)
			}
			for _, p := range row.want {
				if _, ok := c.secrets[p]; !ok {
					t.Errorf("principal %q is missing", p)
				}
			}
		})
	}
}

func TestCredentialsDoNotPrint(t *testing.T) {
	c, err := ParseCredential([]byte(`{"principal":"alice","secret":"hunter2"}`))
	if err != nil {
		t.Fatal(err)
	}
	all, err := ParseCredentials([]byte(`{"principal":"alice","secret":"hunter2"}`))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := NewExecutorTokens([]byte("hunter2"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{c, *c, all, tokens, struct{ C Credential }{*c}} {
			got := fmt.Sprintf(verb, value)
			for _, secret := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), "104 117 110 116 101 114 50"} {
				if strings.Contains(got, secret) {
					t.Errorf("%s of %T shows the secret: %s", verb, value, got)
				}
			}
		}
	}
}

func TestCredentialIsShown(t *testing.T) {
	path := file(t, "credential", `{"principal":"alice","secret":"hunter2"}`)
	c, warning, err := LoadCredential(path)
	if err != nil || warning != "" {
		t.Fatalf("got warning %q, error %v", warning, err)
	}
	r := request(t, "")
	c.Apply(r)
	if p, s, ok := r.BasicAuth(); !ok || p != "alice" || s != "hunter2" {
		t.Errorf("got %q, %q, %t", p, s, ok)
	}
	if got := c.Header().Get("Authorization"); got != r.Header.Get("Authorization") {
		t.Errorf("header is %q, request has %q", got, r.Header.Get("Authorization"))
	}
	var nobody *Credential
	if h := nobody.Header(); len(h) > 0 {
		t.Errorf("nobody shows %v", h)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, warning, err = LoadCredential(path); err != nil || !strings.Contains(warning, "0644") {
		t.Errorf("got warning %q, error %v, want one that says 0644", warning, err)
	}
	for name, content := range map[string]string{
		"list of two": `{"credentials":[{"principal":"a","secret":"x"},{"principal":"b","secret":"y"}]}`,
		"hash":        `{"principal":"a","secret":"` + hashOf(t, "2b", "hunter2") + `"}`,
		"text":        `alice hunter2`,
	} {
		if _, _, err := LoadCredential(file(t, "credential", content)); !errors.Is(err, ErrCredentials) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	if _, _, err := LoadCredential(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

func TestDecoyIsNobodysHash(t *testing.T) {
	h := decoyHash(bcrypt.MinCost)
	if cost, err := bcrypt.Cost(h); err != nil || cost != bcrypt.MinCost || !hashForm.Match(h) {
		t.Fatalf("%s is no hash: %v", h, err)
	}
	if err := bcrypt.CompareHashAndPassword(h, []byte("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		t.Errorf("got %v, want a mismatch", err)
	}
}

func FuzzParseCredentials(f *testing.F) {
	f.Add([]byte(`{"credentials":[{"principal":"a","secret":"x"}]}`))
	f.Add([]byte(`{"principal":"a","secret":"$2a$04$"}`))
	f.Add([]byte("a b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCredentials(data)
		if err != nil {
			if c != nil || !errors.Is(err, ErrCredentials) {
				t.Fatalf("got %v, %v", c, err)
			}
			return
		}
		list, err := decodeCredentials(data)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, one := range list {
			got = append(got, one.Principal)
			s := c.secrets[one.Principal]
			if s.hash == nil && !s.is(one.Secret) {
				t.Errorf("principal %q does not know its secret", one.Principal)
			}
		}
		if len(got) != c.Len() {
			t.Error(cmp.Diff(got, c.secrets))
		}
	})
}
