package agent

import (
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"clusterd/internal/httpapi"
)

// What goes wrong with a file is told of the name that it was asked for by.
func TestFileError(t *testing.T) {
	for errno, want := range map[error]struct {
		status int
		text   string
	}{
		unix.ENOSPC:      {http.StatusInsufficientStorage, "'data/x': no space left on device"},
		unix.EIO:         {http.StatusInternalServerError, "'data/x': input/output error"},
		unix.ENOENT:      {http.StatusNotFound, "There is no 'data/x'"},
		unix.EACCES:      {http.StatusForbidden, "'data/x' may not be read or written by the user of the container"},
		unix.EXDEV:       {http.StatusForbidden, "'data/x' leads out of the sandbox"},
		fs.ErrPermission: {http.StatusForbidden, "'data/x' may not be read or written by the user of the container"},
	} {
		err := fileError("data/x", &fs.PathError{Op: "write", Path: "/proc/self/fd/23/./x", Err: errno})
		e, ok := errors.AsType[*httpapi.Error](err)
		if !ok || e.Status != want.status || !strings.Contains(e.Body, want.text) || strings.Contains(e.Body, "/proc/") {
			t.Errorf("%v: got %v", errno, err)
		}
	}
}
