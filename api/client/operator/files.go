package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"clusterd/api/client"
	mesos "clusterd/api/mesos/v1"
	"clusterd/api/mesos/v1/agent"
	"clusterd/api/mesos/v1/master"
)

// ReadSize is how much of a file is asked for at a time.
const ReadSize = 1 << 20

// Files reads the files that a server shows: sandboxes and logs. Both [Master]
// and [Agent] do.
type Files interface {
	// ReadFile returns up to length bytes of the file from offset on, and how
	// long the whole file is at that moment.
	ReadFile(ctx context.Context, path string, offset, length uint64) (data []byte, size uint64, err error)
	// ListFiles returns what is in a directory.
	ListFiles(ctx context.Context, path string) ([]*mesos.FileInfo, error)
}

var (
	_ Files = (*Master)(nil)
	_ Files = (*Agent)(nil)
)

// errEmpty is returned when an answer lacks the part that was asked for.
var errEmpty = errors.New("the answer is empty")

// ReadFile implements [Files].
func (m *Master) ReadFile(ctx context.Context, path string, offset, length uint64) ([]byte, uint64, error) {
	res, err := m.Call(ctx, &master.Call{
		Type:     master.Call_READ_FILE.Enum(),
		ReadFile: &master.Call_ReadFile{Path: &path, Offset: &offset, Length: &length},
	})
	if err == nil && res.GetReadFile() == nil {
		err = errEmpty
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", path, err)
	}
	return res.GetReadFile().GetData(), res.GetReadFile().GetSize(), nil
}

// ListFiles implements [Files].
func (m *Master) ListFiles(ctx context.Context, path string) ([]*mesos.FileInfo, error) {
	res, err := m.Call(ctx, &master.Call{
		Type:      master.Call_LIST_FILES.Enum(),
		ListFiles: &master.Call_ListFiles{Path: &path},
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	return res.GetListFiles().GetFileInfos(), nil
}

// ReadFile implements [Files].
func (a *Agent) ReadFile(ctx context.Context, path string, offset, length uint64) ([]byte, uint64, error) {
	res, err := a.Call(ctx, &agent.Call{
		Type:     agent.Call_READ_FILE.Enum(),
		ReadFile: &agent.Call_ReadFile{Path: &path, Offset: &offset, Length: &length},
	})
	if err == nil && res.GetReadFile() == nil {
		err = errEmpty
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", path, err)
	}
	return res.GetReadFile().GetData(), res.GetReadFile().GetSize(), nil
}

// ListFiles implements [Files].
func (a *Agent) ListFiles(ctx context.Context, path string) ([]*mesos.FileInfo, error) {
	res, err := a.Call(ctx, &agent.Call{
		Type:      agent.Call_LIST_FILES.Enum(),
		ListFiles: &agent.Call_ListFiles{Path: &path},
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	return res.GetListFiles().GetFileInfos(), nil
}

// CopyFile writes the file from offset on to w until its present end. It returns
// the offset of that end.
func CopyFile(ctx context.Context, f Files, w io.Writer, path string, offset uint64) (uint64, error) {
	for {
		data, size, err := f.ReadFile(ctx, path, offset, ReadSize)
		if err != nil {
			return offset, err
		}
		if _, err := w.Write(data); err != nil {
			return offset, err
		}
		offset += uint64(len(data))
		if len(data) == 0 || offset >= size {
			return offset, nil
		}
	}
}

// Follow yields the file from offset on as it grows, looking every interval,
// until ctx is done or the loop's body breaks. A file that became shorter is
// read from its beginning; one that does not exist yet is waited for.
func Follow(ctx context.Context, f Files, path string, offset uint64, interval time.Duration) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			data, size, err := f.ReadFile(ctx, path, offset, ReadSize)
			if err != nil && (ctx.Err() != nil || client.StatusCode(err) != 404) {
				yield(nil, err)
				return
			}
			if err == nil && size < offset {
				offset = 0
				continue
			}
			if len(data) > 0 {
				offset += uint64(len(data))
				if !yield(data, nil) {
					return
				}
				continue
			}
			if err := client.Sleep(ctx, interval); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}
