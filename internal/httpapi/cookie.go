package httpapi

import (
	"net/http"
	"strings"
)

// HostPrefix begins the names of our cookies where the browser speaks TLS. Browsers take a
// cookie with such a name from this very host alone, by TLS alone: neither another host of the
// same domain nor somebody between who answers in clear can put one of theirs in its place.
const HostPrefix = "__Host-"

// ownCookies is how the names of all our cookies begin.
const ownCookies = "clusterd_"

// forwardedProto is where a proxy says what the browser speaks.
const forwardedProto = "X-Forwarded-Proto"

// Encrypted says whether the browser that sends a request speaks TLS: with this server, or with
// a proxy before it. The page says so itself where the browser names it (Origin), and so does a
// cookie that it sends by TLS only; else the proxy is believed. Nothing but the names of cookies
// and the links that lead back here hang on it: who lies gets a cookie that its own browser
// refuses, and no page can have another's browser lie.
func Encrypted(r *http.Request) bool {
	if host, ok := strings.CutPrefix(r.Header.Get("Origin"), "https://"); ok && strings.EqualFold(host, r.Host) {
		return true
	}
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, HostPrefix+ownCookies) {
			return true
		}
	}
	if said := r.Header.Get(forwardedProto); said != "" {
		first, _, _ := strings.Cut(said, ",") // of the proxy that the browser speaks with
		return strings.EqualFold(strings.TrimSpace(first), "https")
	}
	return r.TLS != nil
}

// Forward tells the next server what the browser speaks: this one is a proxy for it.
func Forward(out http.Header, in *http.Request) {
	proto := "http"
	if Encrypted(in) {
		proto = "https"
	}
	out.Set(forwardedProto, proto)
}

// SetCookie sets a cookie of ours, or deletes it if its MaxAge is negative. Scripts do not see
// it; it is this host's alone, and by TLS alone where there is TLS.
func SetCookie(w http.ResponseWriter, r *http.Request, c *http.Cookie) {
	own := *c
	own.Path, own.HttpOnly = "/", true
	if Encrypted(r) {
		own.Name, own.Secure = HostPrefix+c.Name, true
	}
	http.SetCookie(w, &own)
}

// Cookie returns the value of a cookie that SetCookie has set. One that was set in clear does
// not count where the browser speaks TLS: anybody between could have set it.
func Cookie(r *http.Request, name string) (string, bool) {
	if Encrypted(r) {
		name = HostPrefix + name
	}
	c, err := r.Cookie(name)
	if err != nil {
		return "", false
	}
	return c.Value, true
}
