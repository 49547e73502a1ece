package authn

import (
	"net/http"
	"strings"
)

// shown is what a request shows in its header Authorization.
type shown struct {
	// absent says that there is no such header.
	absent bool
	// scheme and credentials are empty if the header is not of the form
	// "scheme credentials".
	scheme, credentials string
}

// authorization reads the header Authorization. Two of them are as bad as one
// that cannot be read: what stands between us and the client may have looked at
// the other one.
func authorization(h http.Header) shown {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return shown{absent: true}
	}
	if len(values) > 1 {
		return shown{}
	}
	scheme, credentials, ok := strings.Cut(values[0], " ")
	credentials = strings.Trim(credentials, " ")
	if !ok || !isToken(scheme) || credentials == "" || strings.ContainsAny(credentials, " \t") {
		return shown{}
	}
	return shown{scheme: scheme, credentials: credentials}
}

// isToken says whether a scheme has the form of one (RFC 9110, 5.6.2), so that it
// may be quoted in an answer.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != "" && len(s) <= 64
}
