package authn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what is read of an OpenID provider.
const (
	// documentEvery is the least time between two questions for one document: tokens
	// with made-up keys must not have us ask more.
	documentEvery = 10 * time.Second
	// maxDocument is how long a document may be.
	maxDocument = 1 << 20
	// maxDocuments is how many are remembered: there are two of them.
	maxDocuments = 8
)

var (
	errAskedOften = errors.New("asked a moment ago, in vain")
	errNotHTTPS   = errors.New("not an https URL")
)

// documents is a way to JSON documents on the web that asks for each only so often,
// and gives what it got last while it cannot get more. It follows no redirects.
type documents struct {
	next http.RoundTripper
	now  func() time.Time

	mu sync.Mutex
	// mu guards all, not what is in each.
	all map[string]*document
}

type document struct {
	mu sync.Mutex
	// mu guards what follows, and is held while the document is asked for.
	asked  time.Time
	body   []byte // empty: never got
	failed error  // what came of asking last

	broken atomic.Bool // failed is not nil
}

// RoundTrip implements [http.RoundTripper].
func (d *documents) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet || r.URL.Scheme != "https" {
		return nil, errNotHTTPS
	}
	doc := d.document(r.URL.String())
	doc.mu.Lock()
	defer doc.mu.Unlock()
	if now := d.now(); doc.asked.IsZero() || now.Sub(doc.asked) >= documentEvery {
		doc.asked = now
		var body []byte
		if body, doc.failed = d.get(r); doc.failed == nil {
			doc.body = body
		}
		doc.broken.Store(doc.failed != nil)
		if doc.failed != nil && len(doc.body) == 0 {
			return nil, doc.failed
		}
	}
	if len(doc.body) == 0 {
		return nil, fmt.Errorf("%w: %w", errAskedOften, doc.failed)
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(bytes.NewReader(doc.body)), ContentLength: int64(len(doc.body)), Request: r,
	}, nil
}

// get asks for a document.
func (d *documents) get(r *http.Request) ([]byte, error) {
	res, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", r.URL.Redacted(), res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxDocument:
		return nil, fmt.Errorf("%s is longer than %d bytes", r.URL.Redacted(), maxDocument)
	case !json.Valid(body):
		return nil, fmt.Errorf("%s is not JSON", r.URL.Redacted())
	}
	return body, nil
}

// document returns the entry of a URL.
func (d *documents) document(url string) *document {
	d.mu.Lock()
	defer d.mu.Unlock()
	doc, ok := d.all[url]
	if !ok {
		if d.all == nil || len(d.all) >= maxDocuments {
			d.all = map[string]*document{}
		}
		doc = &document{}
		d.all[url] = doc
	}
	return doc
}

// failing says whether a document could not be got when it was asked for last.
func (d *documents) failing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, doc := range d.all {
		if doc.broken.Load() {
			return true
		}
	}
	return false
}
