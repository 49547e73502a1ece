package console

import (
	"context"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/creack/pty"
	cliv2 "github.com/urfave/cli/v2"

	"clusterd/api/client"
)

// ^C ends what waits for an answer.
func TestConfirmInterrupted(t *testing.T) {
	screen, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	defer terminal.Close()
	ctx, interrupt := context.WithCancelCause(t.Context())
	c := cliv2.NewContext(nil, flag.NewFlagSet("", flag.ContinueOnError), &cliv2.Context{Context: ctx})
	e := Env{In: terminal, Out: terminal, Err: terminal}
	why := errors.New("interrupted")
	asked := make(chan error, 1)
	go func() { asked <- Confirm(e, c, "kill it") }()
	for seen, b := "", make([]byte, 64); !strings.Contains(seen, "[y/N]"); {
		n, err := screen.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		seen += string(b[:n])
	}
	interrupt(why)
	if err := <-asked; !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if err := Confirm(e, c, "kill it"); !errors.Is(err, why) {
		t.Errorf("asked after the end: got %v", err)
	}
}

// What is read is what came, to its end and no further.
func TestInput(t *testing.T) {
	text := strings.Repeat("0123456789", 10_000)
	got, err := io.ReadAll(Input(t.Context(), strings.NewReader(text)))
	if err != nil || string(got) != text {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	never, _ := io.Pipe()
	defer never.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := io.ReadAll(Input(ctx, never)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// What is refused is not always a matter of the cluster's rules.
func TestExplainedForbidden(t *testing.T) {
	for body, want := range map[string]string{
		"":                                  "--acls do not allow",
		"'../x' leads out of the sandbox":   "absolute path",
		"'../x' leads out of the directory": "absolute path",
		"'x' may not be read or written by the user of the container":                        "--user",
		"What the kernel shows as files (/proc, /sys and the like) is no part of an archive": "clusterd exec",
	} {
		err := explain(&client.StatusError{Code: 403, Body: body}, nil)
		if hint := HintOf(err); !strings.Contains(hint, want) || Code(err) != ExitDenied {
			t.Errorf("%q: got %q, code %d", body, hint, Code(err))
		}
	}
}

// Refusals that are JSON are told as text.
func TestExplainedJSON(t *testing.T) {
	err := explain(&client.StatusError{Code: 503, Body: `{"error":{"message":"No leader elected","status":503}}`}, nil)
	if text := err.Error(); !strings.Contains(text, "503") || !strings.Contains(text, "No leader elected") || strings.Contains(text, "{") {
		t.Errorf("got %q", text)
	}
	if Code(err) != ExitUnreachable {
		t.Errorf("got code %d", Code(err))
	}
}
