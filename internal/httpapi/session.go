package httpapi

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
)

// SessionCookie is the name of the cookie that stands for the Authorization header of who
// has logged in with a browser. It holds that header and nothing else, so that every master
// takes it, and so that it ends with the credential. What is longer than a browser takes
// goes on in cookies of that name with .1, .2 and so on. Where the browser speaks TLS the
// name has [HostPrefix].
const SessionCookie = "clusterd_session"

const (
	// sessionPart is how much of a session one cookie holds: browsers take 4,096 bytes with
	// the name and the attributes.
	sessionPart = 3500
	// maxSessionParts bounds what a session may be: a token of 16 KiB, in base64.
	maxSessionParts = 8
)

// SetSession has a browser show a value of the Authorization header from now on. It
// reports false if that is too long.
func SetSession(w http.ResponseWriter, r *http.Request, authorization string) bool {
	text := base64.RawURLEncoding.EncodeToString([]byte(authorization))
	if len(text) > sessionPart*maxSessionParts {
		return false
	}
	for i := range maxSessionParts {
		part := text[:min(len(text), sessionPart)]
		text = text[len(part):]
		if part != "" {
			setSessionPart(w, r, i, part)
		} else if _, ok := Cookie(r, sessionPartName(i)); ok {
			setSessionPart(w, r, i, "") // of an earlier, longer one
		}
	}
	endInClear(w, r)
	return true
}

// EndSession has a browser forget its session.
func EndSession(w http.ResponseWriter, r *http.Request) {
	for i := range maxSessionParts {
		if _, ok := Cookie(r, sessionPartName(i)); ok || i == 0 {
			setSessionPart(w, r, i, "")
		}
	}
	endInClear(w, r)
}

// endInClear has a browser that speaks TLS forget a session of before it did, or of a version
// that called it the same in both cases. It does not count any more.
func endInClear(w http.ResponseWriter, r *http.Request) {
	if !Encrypted(r) {
		return
	}
	for i := range maxSessionParts {
		if _, err := r.Cookie(sessionPartName(i)); err == nil {
			http.SetCookie(w, &http.Cookie{
				Name: sessionPartName(i), Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: true,
			})
		}
	}
}

func sessionPartName(i int) string {
	if i == 0 {
		return SessionCookie
	}
	return SessionCookie + "." + strconv.Itoa(i)
}

// setSessionPart sets a cookie, or deletes it if there is nothing for it to hold. Other sites
// do not have it sent, and browsers forget it when they end.
func setSessionPart(w http.ResponseWriter, r *http.Request, i int, value string) {
	c := &http.Cookie{Name: sessionPartName(i), Value: value, SameSite: http.SameSiteStrictMode}
	if value == "" {
		c.MaxAge = -1
	}
	SetCookie(w, r, c)
}

// Session returns the Authorization header that a request's session stands for, empty
// without one.
func Session(r *http.Request) string {
	var text strings.Builder
	for i := range maxSessionParts {
		part, ok := Cookie(r, sessionPartName(i))
		if !ok {
			break
		}
		text.WriteString(part)
	}
	b, err := base64.RawURLEncoding.DecodeString(text.String())
	if err != nil {
		return ""
	}
	return string(b)
}

// hasSession says whether a request is made by a browser with a session.
func hasSession(r *http.Request) bool {
	_, ok := Cookie(r, SessionCookie)
	return ok
}

// WithSession returns a request with the Authorization header of its session, unless it has
// one of its own: then the session does not count. Browsers send cookies by themselves, also
// for pages of other ports of this host; so what comes with one and may do harm must show
// that it is of our own pages.
func WithSession(r *http.Request) (*http.Request, error) {
	if r.Header.Get("Authorization") != "" {
		return r, nil
	}
	show := Session(r)
	if show == "" {
		return r, nil
	}
	if err := ownPage(r); err != nil {
		return r, err
	}
	// The context is the same, so that what is noted there of the request stays one.
	own := r.WithContext(r.Context())
	own.Header = r.Header.Clone()
	own.Header.Set("Authorization", show)
	return own, nil
}

// ownPage refuses a request with a session that another page may have sent. That of other
// sites is refused for everybody before (see ownOrigin); a session must also be safe from
// pages of the same host, and from programs that say nothing of an origin.
func ownPage(r *http.Request) error {
	refuse := func() error {
		return Forbidden("Refused: a session is good for requests of its own pages only")
	}
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "" && site != "same-origin" && site != "none" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return refuse()
	}
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	upgrades := r.Header.Get("Upgrade") != ""
	if safe && !upgrades {
		return nil
	}
	if said := r.Header.Get("Origin") != "" || site == "same-origin"; !said || !FromHere(r) {
		return refuse()
	}
	return nil
}

// byScript says whether a request was made by a script in a browser, as far as that can be
// told. The browser would ask its user for a password in a window of its own if the answer
// had a challenge, over the login page.
func byScript(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return mode != "" && mode != "navigate" || r.Header.Get("X-Requested-With") != "" ||
		r.Header.Get("Accept") == "text/event-stream" || Session(r) != ""
}
