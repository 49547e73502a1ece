package httpapi

import (
	"net/http"
	"strings"
)

// otherOrigins finds requests that change something and that a page of another site sends
// through its reader's browser.
var otherOrigins http.CrossOriginProtection

// ownOrigin refuses what a page of another site does with a browser's name: browsers add
// passwords and certificates by themselves, and reach networks that the page's author does
// not. Programs are not concerned, for they say nothing of an origin. To follow a link to
// here, and to read it then, is no harm; but no other page may read it (JSONP), nor load it
// as an image (`/logging/toggle` changes something by GET, as Mesos's does).
func ownOrigin(r *http.Request) error {
	if otherOrigins.Check(r) != nil {
		return otherSite(r)
	}
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return Forbidden("Refused: the request comes from another site")
	}
	return nil
}

// FromHere says whether an Origin header, if there is one, names the host that the request is
// for. Browsers open websockets for pages of any site, by a method that only reads, and say
// there whose page it is; programs say nothing.
func FromHere(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	_, host, ok := strings.Cut(origin, "://")
	return ok && strings.EqualFold(host, r.Host)
}

// otherSite refuses what is asked for in another site's name.
func otherSite(r *http.Request) error {
	return Forbidden("Refused: the request comes from another site (%.100s), or what passes it on does not keep its Host", r.Header.Get("Origin"))
}
