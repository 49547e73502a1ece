package authn

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestOIDCClientSettings(t *testing.T) {
	p := newProvider(t)
	provider := OIDC{Issuer: p.URL, Audience: "clusterd", CAFile: p.ca}
	secret := file(t, "secret", "hunter2\n")
	for name, row := range map[string]struct {
		provider OIDC
		client   OIDCClient
		ok       bool
		login    bool
	}{
		"none":                         {provider, OIDCClient{}, true, false},
		"public":                       {provider, OIDCClient{ID: "c"}, true, true},
		"with a secret":                {provider, OIDCClient{ID: "c", SecretFile: secret, RedirectURL: "https://x/cb"}, true, true},
		"no provider":                  {OIDC{}, OIDCClient{ID: "c"}, false, false},
		"secret without an id":         {provider, OIDCClient{SecretFile: secret}, false, false},
		"redirect without an id":       {provider, OIDCClient{RedirectURL: "https://x/cb"}, false, false},
		"empty secret":                 {provider, OIDCClient{ID: "c", SecretFile: file(t, "empty", "\n")}, false, false},
		"redirect that is no URL":      {provider, OIDCClient{ID: "c", RedirectURL: "x/cb"}, false, false},
		"redirect of another protocol": {provider, OIDCClient{ID: "c", RedirectURL: "ftp://x/cb"}, false, false},
	} {
		set, err := New(Config{OIDC: row.provider, OIDCClient: row.client})
		if (err == nil) != row.ok || err != nil && (!errors.Is(err, ErrOIDC) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if err == nil && (set.Login != nil) != row.login {
			t.Errorf("%s: login is %v", name, set.Login)
		}
	}
	if _, err := New(Config{OIDC: provider, OIDCClient: OIDCClient{ID: "c", SecretFile: secret + "x"}}); err == nil {
		t.Error("a secret that is not there is taken")
	}
}

func TestSchemes(t *testing.T) {
	basic, bearer := &Basic{}, &Bearer{}
	for _, row := range []struct {
		in   []Authenticator
		want []string
	}{
		{nil, nil},
		{[]Authenticator{Certificate{}}, nil},
		{[]Authenticator{basic}, []string{"basic"}},
		{[]Authenticator{counted{Authenticator: Combined{bearer, basic, Certificate{}}}, basic}, []string{"basic", "token"}},
	} {
		if got := Schemes(row.in...); !slices.Equal(got, row.want) {
			t.Errorf("got %v, want %v", got, row.want)
		}
	}
}
