package work

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"clusterd/api/client"
	"clusterd/api/client/operator"
	"clusterd/internal/cli/console"
)

const (
	// A followed file is looked at this often, the less often the longer it is quiet.
	lookShortest, lookLongest = 50 * time.Millisecond, time.Second
	// patience is how long a file of a task that has ended is tried for when its agent does
	// not answer; one that lives is waited for.
	patience = 15 * time.Second
	// worry is how long an agent may be silent before something is said of it.
	worry = 3 * time.Second
)

// tail copies a file of a sandbox as it grows.
type tail struct {
	files  operator.Files
	path   string
	to     io.WriteCloser
	offset uint64
}

// drain copies what is there and was not copied yet, and tells whether there was any. A
// file that has become shorter was begun anew: what is left of the old one stands in the
// older file beside it, if the output is rotated.
func (t *tail) drain(ctx context.Context) (some bool, err error) {
	for {
		data, size, err := t.files.ReadFile(ctx, t.path, t.offset, operator.ReadSize)
		if err != nil {
			return some, err
		}
		if size < t.offset {
			if err := t.older(ctx); err != nil {
				return some, err
			}
			some = true
			continue
		}
		if len(data) == 0 {
			return some, nil
		}
		some = true
		t.offset += uint64(len(data))
		if _, err := t.to.Write(data); err != nil {
			return some, &writeError{err}
		}
	}
}

// writeError says that the reader of the output has gone.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// older copies the rest of the file that was rotated away, and goes back to the beginning.
func (t *tail) older(ctx context.Context) error {
	before := t.path + ".1"
	for {
		data, size, err := t.files.ReadFile(ctx, before, t.offset, operator.ReadSize)
		if err != nil || size < t.offset || len(data) == 0 {
			// There is none, or it is another one: then nothing of it is known to be missing.
			if client.StatusCode(err) == http.StatusNotFound {
				err = nil
			}
			if err == nil {
				t.offset = 0
			}
			return err
		}
		t.offset += uint64(len(data))
		if _, err := t.to.Write(data); err != nil {
			return &writeError{err}
		}
	}
}

// last moves on so that only the last n lines are copied.
func (t *tail) last(ctx context.Context, n int) error {
	_, size, err := t.files.ReadFile(ctx, t.path, 0, 1)
	if err != nil {
		return err
	}
	const step = 64 << 10
	var seen []byte
	at := size
	for at > 0 {
		from := at - min(at, step)
		data, _, err := t.files.ReadFile(ctx, t.path, from, at-from)
		if err != nil {
			return err
		}
		seen = slices.Concat(data, seen)
		at = from
		// The end of the last line is none that separates two.
		if bytes.Count(bytes.TrimSuffix(seen, []byte("\n")), []byte("\n")) >= n {
			break
		}
	}
	body := bytes.TrimSuffix(seen, []byte("\n"))
	cut := 0
	for i, left := len(body), n; left > 0; left-- {
		i = bytes.LastIndexByte(body[:i], '\n')
		cut = i + 1
		if i < 0 {
			break
		}
	}
	if n == 0 {
		cut = len(seen)
	}
	t.offset = at + uint64(cut)
	return nil
}

// follower copies files of one task until it ends.
type follower struct {
	tails []*tail
	agent string
	say   func(format string, args ...any)
}

// transient tells whether an error may pass: an agent that starts again, a leader that
// changes, a sandbox that is not there yet.
func transient(err error) bool {
	if _, gone := errors.AsType[*writeError](err); gone {
		return false
	}
	code := client.StatusCode(err)
	return code == 0 || code == http.StatusNotFound || code >= 500 || !client.Permanent(err)
}

// follow copies until ended is closed and all was copied, ctx is done, or it fails for good.
func (f *follower) follow(ctx context.Context, ended <-chan struct{}) error {
	defer f.close()
	wait := lookShortest
	var silent, over time.Time
	told := false
	for {
		last := false
		select {
		case <-ended:
			last = true
			if over.IsZero() {
				over = time.Now()
			}
		default:
		}
		some, err := f.drain(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // ^C is how one stops to follow
		case err == nil:
			if told {
				f.say("the output of agent %s goes on", f.agent)
			}
			silent, told = time.Time{}, false
			if last {
				return nil
			}
		case !transient(err):
			return err
		case last && (time.Since(over) > patience || client.StatusCode(err) == http.StatusNotFound && time.Since(over) > lookLongest):
			return err
		default:
			if silent.IsZero() {
				silent = time.Now()
			}
			if !told && time.Since(silent) > worry && client.StatusCode(err) != http.StatusNotFound {
				told = true
				f.say("waiting for agent %s: %v", f.agent, err)
			}
		}
		wait = min(wait*2, lookLongest)
		if some {
			wait = lookShortest
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			// Once more at once, then at leisure.
			if last {
				_ = client.Sleep(ctx, wait) // ends with ctx, which the next round sees
			}
		case <-time.After(wait):
		}
	}
}

// drain copies what there is now of all files. A file that is not there is left alone as
// long as another one is.
func (f *follower) drain(ctx context.Context) (some bool, err error) {
	missing := 0
	for _, t := range f.tails {
		more, e := t.drain(ctx)
		some = some || more
		if client.StatusCode(e) == http.StatusNotFound {
			missing++
		}
		if e != nil && (err == nil || client.StatusCode(err) == http.StatusNotFound) {
			err = e
		}
	}
	if missing > 0 && missing < len(f.tails) && client.StatusCode(err) == http.StatusNotFound {
		err = nil
	}
	return some, err
}

func (f *follower) close() {
	for _, t := range f.tails {
		_ = t.to.Close() // who reads has gone, or has it all
	}
}

// sandboxOf is where a task's own files are, among those of its agent: of a task in a group,
// whose executor has others, below the executor's.
func sandboxOf(ctx context.Context, files operator.Files, t *console.Task) (string, error) {
	if t.GetExecutorId().GetValue() == "" {
		return t.Sandbox(), nil // its executor is its own
	}
	own := t.Sandbox() + "/tasks/" + t.GetTaskId().GetValue()
	_, err := files.ListFiles(ctx, own)
	switch {
	case err == nil:
		return own, nil
	case client.StatusCode(err) == http.StatusNotFound:
		return t.Sandbox(), nil
	}
	return "", fmt.Errorf("look for the sandbox: %w", err)
}
