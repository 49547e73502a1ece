package console

import (
	"context"
	"io"
)

// Input is in, until ctx ends: a Read that waits for a person or for another program would
// never hear of ^C. Who waits for in in vain is left behind, until the process ends.
func Input(ctx context.Context, in io.Reader) io.Reader { return &input{ctx, in} }

type input struct {
	ctx context.Context // of the command that reads
	in  io.Reader
}

// Read implements io.Reader.
func (i *input) Read(p []byte) (int, error) {
	if err := context.Cause(i.ctx); err != nil {
		return 0, err
	}
	type read struct {
		n   int
		err error
	}
	b := make([]byte, len(p)) // p is the caller's again when ctx ends
	done := make(chan read, 1)
	go func() {
		n, err := i.in.Read(b)
		done <- read{n, err}
	}()
	select {
	case r := <-done:
		return copy(p, b[:r.n]), r.err
	case <-i.ctx.Done():
		return 0, context.Cause(i.ctx)
	}
}
