package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
)

// maxHops is how many redirects in a row are followed.
const maxHops = 5

// Masters is a group of masters of which one leads. Any of them may be asked:
// the others answer 307 with the address of the leader, which is then kept
// until it fails.
type Masters struct {
	client *Client

	// mu guards the fields below.
	mu     sync.Mutex
	urls   []*url.URL
	next   int
	leader *url.URL
}

// NewMasters returns the group of masters at the addresses, each host:port or a URL,
// whose API is at path.
func NewMasters(c *Client, addresses []string, path string) (*Masters, error) {
	if len(addresses) == 0 {
		return nil, errors.New("no address of a master given")
	}
	m := &Masters{client: c}
	for _, a := range addresses {
		u, err := c.ParseAddress(a)
		if err != nil {
			return nil, err
		}
		m.urls = append(m.urls, u.JoinPath(path))
	}
	return m, nil
}

// ParseAddress turns host:port, which means http, or an http or https URL into a URL.
func ParseAddress(address string) (*url.URL, error) { return parseAddress(address, "http") }

func parseAddress(address, scheme string) (*url.URL, error) {
	full := address
	if !strings.Contains(full, "://") {
		full = scheme + "://" + full
	}
	u, err := url.Parse(full)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("address %q: want host:port, or a URL with http or https and no more than a path", address)
	}
	return u, nil
}

// Call is [Client.Call] at the leader. Another master is tried when one cannot
// be reached or answers 503; a call that may have been carried out is
// not repeated.
func (m *Masters) Call(ctx context.Context, header http.Header, req, resp proto.Message) (found bool, err error) {
	elsewhere := func(err error) bool {
		return unsent(err) || errors.Is(err, ErrRedirects) || StatusCode(err) == http.StatusServiceUnavailable
	}
	err = m.follow(ctx, elsewhere, func(u *url.URL) error {
		found, err = m.client.Call(ctx, u, header, req, resp)
		return err
	})
	return found, err
}

// Stream is [Client.Stream] at the leader. Another master is tried unless the
// request was refused for good.
func (m *Masters) Stream(ctx context.Context, header http.Header, req proto.Message) (stream *Stream, err error) {
	elsewhere := func(err error) bool { return !Permanent(err) }
	err = m.follow(ctx, elsewhere, func(u *url.URL) error {
		stream, err = m.client.Stream(ctx, u, header, req)
		return err
	})
	return stream, err
}

// Watch is [Client.Watch] at the leader. Another master is tried like for Stream.
func (m *Masters) Watch(ctx context.Context, query url.Values) (stream *Stream, err error) {
	elsewhere := func(err error) bool { return !Permanent(err) }
	err = m.follow(ctx, elsewhere, func(u *url.URL) error {
		stream, err = m.client.Watch(ctx, u, query)
		return err
	})
	return stream, err
}

// Failed forgets u as the leader, so that the next request asks another
// configured address.
func (m *Masters) Failed(u *url.URL) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leader != nil && *m.leader == *u {
		m.leader = nil
	}
	if *m.urls[m.next] == *u {
		m.next = (m.next + 1) % len(m.urls)
	}
}

// current returns the address to ask now, and how many there are to ask at most.
func (m *Masters) current() (u *url.URL, attempts int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leader != nil {
		return m.leader, len(m.urls) + 1
	}
	return m.urls[m.next], len(m.urls)
}

// follow calls do with the leader's address, as far as it is known, and goes on
// to others as long as elsewhere says so of the error: to each configured address
// once, after the leader that was known before.
func (m *Masters) follow(ctx context.Context, elsewhere func(error) bool, do func(*url.URL) error) error {
	start, attempts := m.current()
	var last error
	for range attempts {
		u, err := m.hop(start, do)
		if err == nil {
			m.mu.Lock()
			m.leader = u
			m.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil || !elsewhere(err) {
			return err
		}
		last = err
		m.Failed(start)
		start, _ = m.current()
	}
	return last
}

// hop calls do with u and with the addresses it is redirected to.
func (m *Masters) hop(u *url.URL, do func(*url.URL) error) (*url.URL, error) {
	for range maxHops {
		err := do(u)
		status, ok := errors.AsType[*StatusError](err)
		if !ok || status.Code != http.StatusTemporaryRedirect {
			return u, err
		}
		// Mesos leaves the scheme out: "//leader:5050/api/v1/scheduler".
		to, err := u.Parse(status.Header.Get("Location"))
		if err != nil || to.Host == "" {
			return nil, fmt.Errorf("%s redirects to %q: %w", u.Host, status.Header.Get("Location"), status)
		}
		if u.Scheme == "https" && to.Scheme != "https" {
			return nil, fmt.Errorf("%s redirects to %s without TLS: %w", u.Host, to.Redacted(), status)
		}
		if *to == *u {
			break
		}
		u = to
	}
	return nil, fmt.Errorf("find the leader from %s: %w", u.Host, ErrRedirects)
}
