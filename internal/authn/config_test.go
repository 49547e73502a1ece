package authn

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

func TestNames(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, ",": nil, "basic": {"basic"}, "basic,jwt": {"basic", "jwt"}, "basic, jwt ,": {"basic", "jwt"},
	} {
		if got := Names(in); !slices.Equal(got, want) {
			t.Errorf("Names(%q) got %q, want %q", in, got, want)
		}
	}
}

// TestRealmsOfAnAgent says which of an agent's realms takes what, for all ways to
// name authenticators.
func TestRealmsOfAnAgent(t *testing.T) {
	credentials := file(t, "credentials", `{"principal":"ops","secret":"s"}`)
	executorKey := file(t, "executors", strings.Repeat("e", 32))
	userKey := file(t, "users", userSecret+"\n")
	user := tokenOf(t, jwt.SigningMethodHS256, []byte(userSecret), jwt.MapClaims{"sub": "u", "exp": in(time.Hour)}, "")
	realms := []Realm{AgentReadonly, AgentReadwrite, AgentExecutor, AgentResourceProvider}
	for _, row := range []struct {
		names string
		want  map[Realm]string // who gets in: b(asic), u(ser), e(xecutor)
	}{
		{"basic", map[Realm]string{AgentReadonly: "b", AgentReadwrite: "be", AgentExecutor: "e", AgentResourceProvider: "be"}},
		{"basic,jwt", map[Realm]string{AgentReadonly: "bue", AgentReadwrite: "bue", AgentExecutor: "e", AgentResourceProvider: "bue"}},
		{"jwt", map[Realm]string{AgentReadonly: "ue", AgentReadwrite: "ue", AgentExecutor: "e", AgentResourceProvider: "ue"}},
		{"certificate", map[Realm]string{AgentReadonly: "", AgentReadwrite: "e", AgentExecutor: "e", AgentResourceProvider: "e"}},
	} {
		t.Run(row.names, func(t *testing.T) {
			c := Config{
				Realms: map[Realm][]string{}, CredentialsFile: credentials,
				ExecutorKeyFile: executorKey, User: UserTokens{KeyFile: userKey},
			}
			for _, r := range realms {
				c.Realms[r] = Names(row.names)
			}
			set, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			shows := []struct{ who, header string }{
				{"b", showing("ops", "s")},
				{"u", "Bearer " + user},
				{"e", "Bearer " + must(set.ExecutorTokens.New("f", "e", "c"))},
			}
			for _, realm := range realms {
				got := ""
				for _, s := range shows {
					if p, err := set.Realms[realm].Authenticate(request(t, s.header), realm); err == nil {
						got += s.who
						if p.OnlyClaims() != (s.who == "e") {
							t.Errorf("%s: %s is %+v", realm, s.who, p)
						}
					}
				}
				if got != row.want[realm] {
					t.Errorf("%s lets in %q, want %q", realm, got, row.want[realm])
				}
			}
		})
	}
}

func TestRealmsOfAMaster(t *testing.T) {
	credentials := file(t, "credentials", `{"principal":"ops","secret":"s"}`)
	type failed struct {
		Realm Realm
		Kind  Kind
	}
	var failures []failed
	set, err := New(Config{
		Realms: map[Realm][]string{
			MasterReadwrite: {NameBasic}, MasterScheduler: {NameCertificate, NameBasic}, MasterAgent: {NameBasic},
		},
		CredentialsFile: credentials,
		OnFailure:       func(r Realm, k Kind) { failures = append(failures, failed{r, k}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, asks := set.Realms[MasterReadonly]; asks || len(set.Realms) != 3 {
		t.Errorf("realms that ask: %v", set.Realms)
	}
	if len(set.Warnings) > 0 || set.ExecutorTokens != nil {
		t.Errorf("got warnings %q, tokens %v", set.Warnings, set.ExecutorTokens)
	}
	for realm, a := range set.Realms {
		if p, err := a.Authenticate(request(t, showing("ops", "s")), realm); err != nil || p.Value != "ops" {
			t.Errorf("%s: got %v, %v", realm, p, err)
		}
	}
	if len(failures) > 0 {
		t.Errorf("failures %v are none", failures)
	}
	for _, header := range []string{"", "Basic", showing("ops", "x")} {
		if _, err := set.Realms[MasterReadwrite].Authenticate(request(t, header), MasterReadwrite); err == nil {
			t.Errorf("header %q is let in", header)
		}
	}
	want := []failed{{MasterReadwrite, Missing}, {MasterReadwrite, Malformed}, {MasterReadwrite, Rejected}}
	if diff := cmp.Diff(want, failures); diff != "" {
		t.Errorf("failures: -want +got:\n%s", diff)
	}
	for _, f := range failures {
		if !slices.Contains(Kinds(), f.Kind) {
			t.Errorf("kind %q is not among all", f.Kind)
		}
	}
}

func TestConfigThatMakesNoSense(t *testing.T) {
	credentials := file(t, "credentials", `{"principal":"ops","secret":"s"}`)
	secret := file(t, "secret", userSecret+"\n")
	one := func(names ...string) map[Realm][]string { return map[Realm][]string{MasterReadonly: names} }
	for _, row := range []struct {
		name   string
		config Config
		err    error
		says   string
	}{
		{"unknown", Config{Realms: one("crammd5")}, ErrConfig, `no authenticator "crammd5"; known are basic, jwt, certificate, oidc`},
		{"twice", Config{Realms: one("basic", "basic"), CredentialsFile: credentials}, ErrConfig, `"basic" is named twice`},
		{"none", Config{Realms: one()}, ErrConfig, "no authenticator is named"},
		{"no credentials", Config{Realms: one("basic")}, ErrConfig, "--credentials"},
		{"no key", Config{Realms: one("jwt")}, ErrConfig, "--user_jwt_key"},
		{"no provider", Config{Realms: one("oidc")}, ErrConfig, "--oidc_issuer"},
		{"no executor key", Config{Realms: map[Realm][]string{AgentExecutor: nil}}, ErrConfig, "--jwt_secret_key"},
		{"realm is named", Config{Realms: one("x")}, ErrConfig, string(MasterReadonly)},
		{"bad provider", Config{OIDC: OIDC{Issuer: "https://x"}}, ErrOIDC, "audience"},
		{"bad credentials", Config{CredentialsFile: secret}, ErrCredentials, secret},
		{"bad key", Config{User: UserTokens{KeyFile: file(t, "k", "short")}}, ErrKey, "5 bytes"},
		{"no such file", Config{CredentialsFile: secret + "x"}, fs.ErrNotExist, ""},
		{"no such key", Config{ExecutorKeyFile: secret + "x"}, fs.ErrNotExist, ""},
		{"one secret for both", Config{ExecutorKeyFile: secret, User: UserTokens{KeyFile: secret}}, ErrConfig, "different secrets"},
	} {
		t.Run(row.name, func(t *testing.T) {
			set, err := New(row.config)
			if !errors.Is(err, row.err) || !strings.Contains(fmt.Sprint(err), row.says) {
				t.Errorf("got %v, %v, want %v with %q", set, err, row.err, row.says)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	open := file(t, "open", `{"principal":"ops","secret":"s"}`)
	public := file(t, "public", pairs()["ECDSA"].pem)
	for _, path := range []string{open, public} {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set, err := New(Config{
		Realms:          map[Realm][]string{AgentReadwrite: {NameBasic}},
		CredentialsFile: open,
		User:            UserTokens{KeyFile: public}, // may be read by all, but is not used
		OIDC:            OIDC{Issuer: "https://issuer", Audience: "a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{open + " holds secrets", "a key of user tokens is set", "an OpenID provider is set", "cannot launch nested containers"}
	if len(set.Warnings) != len(want) {
		t.Fatalf("got %q, want %q", set.Warnings, want)
	}
	for i, w := range want {
		if !strings.Contains(set.Warnings[i], w) {
			t.Errorf("warning %q does not say %q", set.Warnings[i], w)
		}
	}
	var names []string
	for _, s := range set.Sources {
		names = append(names, s.Name)
		if changed, err := s.Reload(); changed || err != nil {
			t.Errorf("%s: got %t, %v", s.Name, changed, err)
		}
	}
	if !slices.Equal(names, []string{"credentials", "user_jwt_key"}) {
		t.Errorf("sources are %q", names)
	}
}

// TestUserKeysAreReplaced has keys replaced in the file: both count while both are
// there.
func TestUserKeysAreReplaced(t *testing.T) {
	all := pairs()
	a, b := all["RSA"], all["Ed25519"]
	path := file(t, "keys", a.pem)
	set, err := New(Config{Realms: map[Realm][]string{MasterReadonly: {NameJWT}}, User: UserTokens{KeyFile: path}})
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{"sub": "u", "exp": in(time.Hour)}
	tokens := []string{tokenOf(t, a.method, a.private, claims, ""), tokenOf(t, b.method, b.private, claims, "")}
	for _, step := range []struct {
		keys string
		want []bool
	}{{a.pem, []bool{true, false}}, {a.pem + b.pem, []bool{true, true}}, {b.pem, []bool{false, true}}, {"broken", []bool{false, true}}} {
		if err := os.WriteFile(path, []byte(step.keys), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := set.Sources[0].Reload(); (err != nil) != (step.keys == "broken") {
			t.Errorf("reload: %v", err)
		}
		for i, token := range tokens {
			if got := ask(t, set.Realms[MasterReadonly], request(t, "Bearer "+token)); (got.Principal != nil) != step.want[i] {
				t.Errorf("token %d: got %+v, want %t", i, got, step.want[i])
			}
		}
	}
}
