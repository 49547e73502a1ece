package browser

import (
	"io"
	"log" //nolint:depguard // the type that net/http wants its logger in
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/security"
)

// TestBehindProxy reaches the UI by a proxy that ends TLS, says nothing of that, and has the UI
// below a path: what is streamed, a terminal, a file, logging in and out.
func TestBehindProxy(t *testing.T) {
	master, w := guarded(t, newProvider(t))
	to, err := url.Parse(master)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // as docs/web-ui.md asks for
	}}
	front := httptest.NewUnstartedServer(http.StripPrefix("/tools/clusterd", proxy))
	front.Config.ErrorLog = log.New(io.Discard, "", 0) // the browser complains of the certificate
	proxy.ErrorLog = front.Config.ErrorLog             // and leaves in the midst of streams
	front.StartTLS()
	t.Cleanup(front.Close)

	b := blank(t, front.URL+"/tools/clusterd")
	call(b, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
	task := "#/tasks/" + w.framework + "/" + w.task
	b.goTo(task)
	b.allow("status of 401")
	b.fill("Name", "ops")
	b.fill("Password", "ops-secret")
	b.press("Log in")
	b.sees("secret-work", "running")
	cookies := call(b, network.GetCookies, network.GetCookiesParams{}).Cookies
	if len(cookies) != 1 || cookies[0].Name != "__Host-clusterd_session" || !cookies[0].Secure {
		t.Errorf("got the cookies %+v, want one that goes by TLS only", cookies)
	}
	b.wait("it is live", live)

	b.goTo(task + "?tab=terminal")
	b.press("Open terminal")
	b.sees("Connected.")
	screen := `document.querySelector('.xterm-rows')?.innerText`
	b.wait("the shell is ready", screen+`.trim().length > 0`)
	b.keys("seq 100000 > numbers; echo he$((1+1))llo\r")
	b.wait("the shell answers", screen+`.includes('he2llo')`)
	b.keys("exit\r") // a page with an open terminal asks before it is left
	b.sees("Run again")

	b.goTo("#/agents/" + w.agent + "/frameworks/" + w.framework + "/executors/" + w.executor + "/browse")
	b.sees("stdout", "numbers")
	if got := eval[string](b, `fetch(document.querySelector('a[download=numbers]').href).then((r) => r.text())`); !strings.HasSuffix(got, "\n99999\n100000\n") {
		t.Errorf("the file ends with %q", got[max(0, len(got)-40):])
	}

	b.press("Session of ops")
	b.press("Log out")
	b.sees("Log in to see this cluster")
	if cookies := call(b, network.GetCookies, network.GetCookiesParams{}).Cookies; len(cookies) != 0 {
		t.Errorf("after the logout: %+v", cookies)
	}
}
