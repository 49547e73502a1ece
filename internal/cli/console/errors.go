package console

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"clusterd/api/client"
	"clusterd/internal/flags"
)

// Exit codes of clusterd: the one place that says them. `clusterd run` and `exec`
// pass on the exit code of their command instead, 128+n if signal n ended it.
const (
	ExitOK          = 0   // done
	ExitFailed      = 1   // it failed; the message says why
	ExitUsage       = 2   // the command line or the config file was wrong
	ExitNotFound    = 3   // what was named does not exist
	ExitUnreachable = 4   // no master was reached, or none leads
	ExitDenied      = 5   // who asks is not known, or not allowed to
	ExitTimeout     = 124 // what was waited for did not come in the time given
)

// ExitCodes explains the exit codes, for the reference.
var ExitCodes = []struct {
	Code    int
	Meaning string
}{
	{ExitOK, "done"},
	{ExitFailed, "it failed; the message says why. Of several objects, one at least"},
	{ExitUsage, "the command line or the config file was wrong; nothing was done"},
	{ExitNotFound, "what was named does not exist"},
	{ExitUnreachable, "no master was reached, or none leads"},
	{ExitDenied, "who asks is not known to the cluster, or not allowed to"},
	{ExitTimeout, "what was waited for did not come in the time given by --timeout"},
}

// Kinds of errors that have an exit code of their own. Wrap them.
var (
	// ErrUsage marks a wrong command line.
	ErrUsage = errors.New("usage")
	// ErrNotFound marks what is not there.
	ErrNotFound = errors.New("not found")
	// ErrTimeout marks what did not come in time.
	ErrTimeout = errors.New("timed out")
	// ErrUnreachable marks that no master was reached, or that none leads.
	ErrUnreachable = errors.New("no master answers")
)

// marked is an error of a kind that its text does not say.
type marked struct {
	error
	kind error
}

func (m marked) Unwrap() []error { return []error{m.error, m.kind} }

// Mark makes err one of a kind, say [ErrNotFound], without changing what it says.
func Mark(kind, err error) error { return marked{err, kind} }

// hinted is an error with advice for the person at the keyboard.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint adds advice to an error.
func Hint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// HintOf returns the advice of an error, empty if it has none.
func HintOf(err error) string {
	h, _ := errors.AsType[hinted](err)
	return h.hint
}

// Usagef is an [ErrUsage] with a text.
func Usagef(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUsage, fmt.Errorf(format, args...))
}

// ExitError is an error that only sets the exit code: all was said already.
type ExitError int

// Error says the code.
func (e ExitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Report says what went wrong, once, and gives the exit code.
func Report(err error, w io.Writer) int {
	if err == nil {
		return ExitOK
	}
	if code, ok := errors.AsType[ExitError](err); ok {
		return int(code)
	}
	say(err, w)
	return Code(err)
}

func say(err error, w io.Writer) {
	// That it is a matter of usage the exit code says. Names in it are those that tasks and
	// frameworks have given themselves.
	text := strings.TrimPrefix(err.Error(), ErrUsage.Error()+": ")
	fmt.Fprintf(w, "clusterd: error: %s\n", plainText(text))
	if h := HintOf(err); h != "" {
		fmt.Fprintf(w, "hint: %s\n", plainText(h))
	}
}

// usageErrors are what a wrong command line is reported as.
var usageErrors = []error{
	ErrUsage, flags.ErrUnknownFlag, flags.ErrInvalidValue, flags.ErrDuplicateFlag, flags.ErrMissingFlag, flags.ErrUnexpectedArgument,
}

// Code is the exit code for an error.
func Code(err error) int {
	if err == nil {
		return ExitOK
	}
	if code, ok := errors.AsType[ExitError](err); ok {
		return int(code)
	}
	for _, usage := range usageErrors {
		if errors.Is(err, usage) {
			return ExitUsage
		}
	}
	switch client.StatusCode(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ExitDenied
	case http.StatusNotFound, http.StatusGone:
		return ExitNotFound
	case http.StatusServiceUnavailable:
		return ExitUnreachable
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return ExitNotFound
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return ExitTimeout
	case errors.Is(err, ErrUnreachable):
		return ExitUnreachable
	}
	return ExitFailed
}

// explain adds advice to errors that say that a server was not reached, or did not
// take who asked. masters is where was asked.
func explain(err error, masters []string) error {
	if err == nil || HintOf(err) != "" {
		return err
	}
	if status, ok := errors.AsType[*client.StatusError](err); ok {
		return explainStatus(err, status)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return Hint(Mark(ErrUnreachable, err), "--tls_ca or $CLUSTERD_TLS_CA names the file of the authority that has signed it, or tls.ca of a context")
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return Hint(Mark(ErrUnreachable, err), "use a name or address that the certificate has (clusterd tls show FILE lists them), or say --tls_server_name")
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return Hint(Mark(ErrUnreachable, err), "it does not speak TLS: http:// in --master speaks in clear")
	}
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case !ok:
		return err
	case op.Op == "remote error": // an alert of TLS
		return Hint(Mark(ErrUnreachable, err), "is a certificate asked for, or that of --tls_cert not taken? clusterd tls init makes them for operators, too")
	}
	return Hint(Mark(ErrUnreachable, err), "is a master running at %s? --master, $CLUSTERD_MASTER or a context says where to look", strings.Join(masters, ","))
}

func explainStatus(err error, status *client.StatusError) error {
	status.Body = message([]byte(status.Body)) // for people
	switch {
	case status.Code == http.StatusUnauthorized:
		return Hint(err, "--credential FILE or --token says who you are, or --principal with --secret; a context can keep it: clusterd context set --help")
	case status.Code == http.StatusForbidden && strings.Contains(status.Body, " leads out of the "):
		return Hint(err, "a relative path is one in the task's sandbox, and a link out of that is not followed; the absolute path is as the task sees it")
	case status.Code == http.StatusForbidden && strings.Contains(status.Body, "may not be read or written by the user"):
		return Hint(err, "its mode and owner in the container do not allow it; --user names another user, if the cluster's --acls let you be that")
	case status.Code == http.StatusForbidden && strings.Contains(status.Body, "is no part of an archive"):
		return Hint(err, "clusterd exec TASK -- cat PATH shows it")
	case status.Code == http.StatusForbidden:
		return Hint(err, "the cluster's --acls do not allow it to whom you are; clusterd context show --rights lists what they allow")
	case status.Code == http.StatusBadRequest && strings.Contains(status.Body, "speaks TLS"):
		return Hint(err, "--tls_ca FILE or https:// in --master")
	case status.Code == http.StatusServiceUnavailable:
		return Hint(err, "clusterd registry peers shows the masters; without a majority of them nobody leads")
	}
	return err
}
