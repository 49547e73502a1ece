package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// content is what a URI stands for, while it comes.
type content struct {
	io.Reader
	// ctx ends with the cause when it stalls.
	ctx   context.Context //nolint:containedctx // lives for one download
	close func()
	// size in bytes; -1: unknown.
	size int64
	// validator tells this content from what the URI stands for later; empty: nothing
	// does.
	validator string
	// unchanged says that the validator given to open still holds: there is nothing to
	// read.
	unchanged bool
}

func (c *content) Close() {
	if c.close != nil {
		c.close()
	}
}

// open asks for the job's content. Validator is that of an earlier answer, or empty.
func (j *job) open(ctx context.Context, validator string) (*content, error) {
	local, isLocal, err := j.f.localPath(j.source)
	switch {
	case err != nil:
		return nil, err
	case isLocal:
		return j.openLocal(ctx, local, validator)
	case strings.HasPrefix(j.source, "http://") || strings.HasPrefix(j.source, "https://"):
		return j.openHTTP(ctx, validator)
	}
	return j.openHadoop(ctx)
}

func (j *job) openLocal(ctx context.Context, source, validator string) (*content, error) {
	// What /proc shows depends on who asks; the agent's memory and environment
	// are nobody's business.
	resolved, err := filepath.EvalSymlinks(source)
	if err != nil {
		return nil, err
	}
	if resolved == "/proc" || strings.HasPrefix(resolved, "/proc/") {
		return nil, fmt.Errorf("%w: files of /proc cannot be fetched", ErrInvalidURI)
	}
	in, err := openRegular(resolved)
	if err != nil {
		return nil, err
	}
	info, err := in.Stat()
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	c := &content{
		Reader: contextReader{ctx, in}, ctx: ctx, close: func() { _ = in.Close() }, size: info.Size(),
		validator: fmt.Sprintf("%d %d %s", info.Size(), info.ModTime().UnixNano(), resolved),
	}
	c.unchanged = validator == c.validator
	return c, nil
}

// Validators of HTTP: an entity tag is sent back in If-None-Match, a date in
// If-Modified-Since (RFC 9110, section 13.1).
const (
	tagMark  = "etag "
	dateMark = "date "
)

func validatorOf(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" {
		return tagMark + tag
	}
	if date := h.Get("Last-Modified"); date != "" {
		return dateMark + date
	}
	return ""
}

func (j *job) openHTTP(ctx context.Context, validator string) (c *content, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timeout := j.f.opts.StallTimeout
	stall := time.AfterFunc(timeout, func() { cancel(fmt.Errorf("%w: nothing came for %s", ErrStalled, timeout)) })
	end := func() {
		stall.Stop()
		cancel(nil)
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.source, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidURI, err)
	}
	if tag, ok := strings.CutPrefix(validator, tagMark); ok {
		req.Header.Set("If-None-Match", tag)
	}
	if date, ok := strings.CutPrefix(validator, dateMark); ok {
		req.Header.Set("If-Modified-Since", date)
	}
	resp, err := j.f.client.Do(req) //nolint:bodyclose // content.Close does it
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	c = &content{
		Reader: progressReader{resp.Body, stall, timeout}, ctx: ctx, size: resp.ContentLength, validator: validatorOf(resp.Header),
		close: func() {
			_ = resp.Body.Close()
			end()
		},
	}
	switch {
	case resp.StatusCode == http.StatusNotModified && validator != "":
		c.unchanged = true
	case resp.StatusCode != http.StatusOK:
		_ = resp.Body.Close()
		return nil, fmt.Errorf("error downloading resource, received HTTP return code %d", resp.StatusCode)
	case resp.ContentLength > j.f.opts.MaxBytes:
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, resp.ContentLength)
	}
	return c, nil
}

// progressReader puts the stall timer off whenever data comes.
type progressReader struct {
	r       io.Reader
	stall   *time.Timer
	timeout time.Duration
}

func (p progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.stall.Reset(p.timeout)
	}
	return n, err
}

// openHadoop brings a file in by the hadoop program, to a name of its own in the
// sandbox first (src/hdfs/hdfs.cpp, copyToLocal).
func (j *job) openHadoop(ctx context.Context) (*content, error) {
	temp := ".fetch-" + randomName()
	remove := func() { _ = j.root.Remove(temp) }
	if err := j.hadoop(ctx, "fs", "-copyToLocal", j.source, filepath.Join(j.sandbox, temp)); err != nil {
		remove()
		return nil, err
	}
	in, err := j.root.OpenFile(temp, os.O_RDONLY|syscall.O_NONBLOCK, 0) // never a pipe to wait for
	var info os.FileInfo
	if err == nil {
		info, err = in.Stat()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = errors.New("hadoop has ended well, but left no file")
	case err == nil && !info.Mode().IsRegular():
		err = fmt.Errorf("%w: '%s' is no file", ErrInvalidURI, j.source)
	}
	if err != nil {
		if in != nil {
			_ = in.Close()
		}
		remove()
		return nil, err
	}
	return &content{Reader: contextReader{ctx, in}, ctx: ctx, size: info.Size(), close: func() {
		_ = in.Close()
		remove()
	}}, nil
}
