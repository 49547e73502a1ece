package images

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// credentials are those of a docker config.json, by host.
type credentials map[string]authn.AuthConfig

// authEntry is one entry of "auths".
type authEntry struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// parseCredentials reads the content of a config.json, or of the older .dockercfg,
// which is the inner object alone. Programs that it names (credsStore, credHelpers)
// are not run.
func parseCredentials(config string) (credentials, error) {
	if strings.TrimSpace(config) == "" {
		return nil, nil
	}
	// The error of the decoder may quote what it read, which is secret.
	var outer map[string]json.RawMessage
	if err := json.Unmarshal([]byte(config), &outer); err != nil {
		return nil, fmt.Errorf("docker config: %w", errNoJSON)
	}
	auths := make(map[string]authEntry)
	if inner, ok := outer["auths"]; ok {
		if err := json.Unmarshal(inner, &auths); err != nil {
			return nil, fmt.Errorf("docker config: auths: %w", errNoJSON)
		}
	} else {
		for host, raw := range outer {
			var e authEntry
			if json.Unmarshal(raw, &e) == nil && e != (authEntry{}) {
				auths[host] = e
			}
		}
	}
	c := make(credentials, len(auths))
	for host, e := range auths {
		a := authn.AuthConfig{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
		if e.Auth != "" {
			raw, err := base64.StdEncoding.DecodeString(e.Auth)
			if err != nil {
				raw, err = base64.RawURLEncoding.DecodeString(e.Auth)
			}
			user, password, ok := strings.Cut(strings.TrimRight(string(raw), "\x00"), ":")
			if err != nil || !ok {
				return nil, fmt.Errorf("docker config: auth of %q is not base64 of user:password", host)
			}
			a.Username, a.Password = user, password
		}
		c[registryHost(host)] = a
	}
	return c, nil
}

var errNoJSON = fmt.Errorf("%w: malformed JSON", ErrUnsupported)

// registryHost makes one name of all that stand for a registry:
// "https://index.docker.io/v1/" and "docker.io" are the same.
func registryHost(s string) string {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	s, _, _ = strings.Cut(s, "/")
	switch s {
	case "docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return "index.docker.io"
	}
	return strings.TrimSuffix(s, ":443")
}

// For returns what to say to a registry.
func (c credentials) For(host string) authn.Authenticator {
	if a, ok := c[registryHost(host)]; ok {
		return authn.FromConfig(a)
	}
	return authn.Anonymous
}
