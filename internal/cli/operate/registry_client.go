package operate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client"
	"clusterd/internal/cli/console"
	"clusterd/internal/registryapi"
)

// registryPatience bounds one request about the registry, from the first byte to
// the last; a change of members waits for a majority of them.
const registryPatience = 60 * time.Second

// registryClient speaks to the registry's endpoints at any of several masters.
type registryClient struct {
	c    *cliv2.Context
	cl   *console.Cluster
	api  *client.Client // reads addresses
	http *http.Client
	err  error // in the flags
}

func newRegistryClient(c *cliv2.Context) *registryClient {
	rc := &registryClient{c: c}
	if rc.cl, rc.err = console.Connect(c); rc.err != nil {
		return rc
	}
	rc.api, rc.http = client.New(rc.cl.DirectOptions()), rc.cl.Direct()
	return rc
}

// status asks the masters that were named, one after the other, until one answers.
func (rc *registryClient) status(ctx context.Context) (*registryapi.Status, error) {
	body, err := rc.do(ctx, http.MethodGet, "", "", nil)
	if err != nil {
		return nil, err
	}
	return decodeStatus(body)
}

// change has the leader change the group.
func (rc *registryClient) change(ctx context.Context, what string, change registryapi.Change, force bool) (*registryapi.Status, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return nil, err
	}
	if body, err = rc.do(ctx, http.MethodPost, "/"+what+forceQuery(force), "application/json", body); err != nil {
		return nil, err
	}
	return decodeStatus(body)
}

func forceQuery(force bool) string {
	if force {
		return "?force=true"
	}
	return ""
}

func decodeStatus(body []byte) (*registryapi.Status, error) {
	st := new(registryapi.Status)
	if err := json.Unmarshal(body, st); err != nil {
		return nil, fmt.Errorf("the answer is not that of a clusterd master: %w", err)
	}
	return st, nil
}

// do sends a request and reads the answer; redirects to the leader are followed.
func (rc *registryClient) do(ctx context.Context, method, path, media string, body []byte) ([]byte, error) {
	var answer bytes.Buffer
	err := rc.stream(ctx, method, path, media, body, func(r io.Reader) error {
		answer.Reset()
		_, err := answer.ReadFrom(io.LimitReader(r, registryapi.MaxSnapshot))
		return err
	})
	return answer.Bytes(), err
}

// stream sends a request and hands the body of the answer on. Another master is
// asked when one cannot be reached or knows no leader: then nothing was done.
func (rc *registryClient) stream(ctx context.Context, method, path, media string, body []byte, read func(io.Reader) error) error {
	if rc.err != nil {
		return rc.err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, registryPatience, fmt.Errorf("no answer within %s", registryPatience))
	defer cancel()
	last := console.Hint(errors.New("no address of a master given"), "--master=HOST:PORT names one")
	for _, address := range rc.cl.Masters() {
		u, err := rc.api.ParseAddress(address)
		if err != nil {
			return err
		}
		err = rc.ask(ctx, method, u.JoinPath(registryapi.Path).String()+path, media, body, read)
		switch op, dial := errors.AsType[*net.OpError](err); {
		case err == nil:
			return nil
		case client.StatusCode(err) == http.StatusServiceUnavailable:
			err = console.Hint(fmt.Errorf("%s: %w", address, err), "clusterd registry peers shows the masters; without a majority of them nobody leads")
		case dial && op.Op == "dial":
			err = rc.cl.Explain(err)
		default:
			return rc.explain(err, address)
		}
		last = err
	}
	return last
}

// explain adds advice to the answers that need it.
func (rc *registryClient) explain(err error, address string) error {
	switch status, _ := errors.AsType[*client.StatusError](err); {
	case status == nil:
		return rc.cl.Explain(fmt.Errorf("%s: %w", address, err))
	case status.Code == http.StatusConflict && strings.Contains(status.Body, "?force=true"):
		return console.Hint(errors.New(strings.ReplaceAll(strings.TrimSpace(status.Body), "?force=true", "--force")), "--force does it all the same; be sure that this is what you want")
	case status.Code == http.StatusConflict:
		return errors.New(strings.TrimSpace(status.Body))
	case status.Code == http.StatusNotFound && strings.Contains(status.Body, "member"):
		return console.Hint(errors.New(strings.TrimSpace(status.Body)), "clusterd registry peers lists them")
	default:
		return rc.cl.Explain(fmt.Errorf("%s: %w", address, err))
	}
}

func (rc *registryClient) ask(ctx context.Context, method, url, media string, body []byte, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	rc.cl.Authorize(req)
	res, err := rc.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // the status is the error; a body that cannot be read adds nothing
		return &client.StatusError{Code: res.StatusCode, Body: string(text), Header: res.Header}
	}
	return read(res.Body)
}
