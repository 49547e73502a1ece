package files

import (
	"errors"
	"mime"
	"net/http"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	mesos "clusterd/api/mesos/v1"
	"clusterd/internal/authn"
	"clusterd/internal/httpapi"
)

// Register adds the `/files/` endpoints to a router, in a realm.
func (f *Files) Register(rt *httpapi.Router, realm authn.Realm) {
	h := handlers{f}
	rt.Handle("/files/browse", httpapi.In(realm), h.browse)
	rt.Handle("/files/read", httpapi.In(realm), h.read)
	rt.Handle("/files/download", httpapi.In(realm), h.download)
	rt.Handle("/files/debug", httpapi.Access{Realm: realm, Endpoint: true}, h.debug)
}

type handlers struct {
	files *Files
}

func queryPath(r *http.Request) (string, error) {
	if path := r.URL.Query().Get("path"); path != "" {
		return path, nil
	}
	return "", httpapi.BadRequest("Expecting 'path=value' in query.\n")
}

func (h handlers) browse(w http.ResponseWriter, r *http.Request) error {
	path, err := queryPath(r)
	if err != nil {
		return err
	}
	list, err := h.files.Browse(r.Context(), path, httpapi.PrincipalOf(r))
	if err != nil {
		return err
	}
	b := []byte{'['}
	for i, info := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendFileInfo(b, info)
	}
	return httpapi.WriteJSON(w, r, append(b, ']'))
}

// appendFileInfo writes an entry of `/files/browse`, which differs from the
// FileInfo of the v1 API: mtime in seconds, mode as letters.
func appendFileInfo(b []byte, info *mesos.FileInfo) []byte {
	b = httpapi.AppendString(append(b, `{"gid":`...), info.GetGid())
	b = httpapi.AppendString(append(b, `,"mode":`...), modeText(info.GetMode()))
	b = httpapi.AppendDouble(append(b, `,"mtime":`...), float64(info.GetMtime().GetNanoseconds())/1e9)
	b = strconv.AppendInt(append(b, `,"nlink":`...), int64(info.GetNlink()), 10)
	b = httpapi.AppendString(append(b, `,"path":`...), info.GetPath())
	b = strconv.AppendUint(append(b, `,"size":`...), info.GetSize(), 10)
	b = httpapi.AppendString(append(b, `,"uid":`...), info.GetUid())
	return append(b, '}')
}

// modeText is the `-rw-r--r--` of a st_mode.
func modeText(mode uint32) string {
	kind := byte('-')
	switch mode & 0o170000 {
	case 0o040000:
		kind = 'd'
	case 0o020000:
		kind = 'c'
	case 0o060000:
		kind = 'b'
	case 0o010000:
		kind = 'p'
	case 0o120000:
		kind = 'l'
	case 0o140000:
		kind = 's'
	}
	text := []byte{kind}
	for i, c := range []byte("rwxrwxrwx") {
		if mode&(0o400>>i) == 0 {
			c = '-'
		}
		text = append(text, c)
	}
	return string(text)
}

// number parses an optional query parameter that may not be below -1.
func number(r *http.Request, name, adjective string) (value int64, given bool, err error) {
	query := r.URL.Query()
	if !query.Has(name) {
		return 0, false, nil
	}
	value, err = httpapi.Numify(query.Get(name))
	if err != nil {
		return 0, false, httpapi.BadRequest("Failed to parse %s: %v.\n", name, err)
	}
	if value < -1 {
		return 0, false, httpapi.BadRequest("Negative %s provided: %d.\n", adjective, value)
	}
	return value, true, nil
}

func (h handlers) read(w http.ResponseWriter, r *http.Request) error {
	path, err := queryPath(r)
	if err != nil {
		return err
	}
	offset, given, err := number(r, "offset", "offset")
	if err != nil {
		return err
	}
	if !given {
		offset = -1
	}
	n, given, err := number(r, "length", "length")
	if err != nil {
		return err
	}
	var length *uint64
	if given && n > -1 {
		length = new(uint64(n))
	}
	// Offset -1 asks for the size of the file only.
	sizeOnly := offset == -1
	if sizeOnly {
		offset, length = 0, new(uint64(0))
	}
	size, data, err := h.files.Read(r.Context(), path, uint64(offset), length, httpapi.PrincipalOf(r))
	if err != nil {
		return err
	}
	if sizeOnly {
		offset = int64(size)
	}
	if uint64(offset)+uint64(len(data)) < size {
		data = wholeRunes(data)
	}
	b := httpapi.AppendString([]byte(`{"data":`), string(data))
	b = strconv.AppendInt(append(b, `,"offset":`...), offset, 10)
	return httpapi.WriteJSON(w, r, append(b, '}'))
}

// wholeRunes cuts off a character that the end of a piece has split, so that it
// is not replaced twice in the JSON; the reader goes on where the data ends. A
// piece that is nothing but such a character is left alone.
func wholeRunes(data []byte) []byte {
	for i := 1; i < utf8.UTFMax && i < len(data); i++ {
		tail := data[len(data)-i:]
		if utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return data[:len(data)-i]
			}
			break
		}
	}
	return data
}

// contentTypes are the extensions that Mesos knows and sandboxes hold; all
// else is octets. (The system's MIME tables would make answers differ by host.)
var contentTypes = map[string]string{
	".css":  "text/css",
	".csv":  "text/csv",
	".gif":  "image/gif",
	".gz":   "application/x-gzip",
	".html": "text/html",
	".jpeg": "image/jpeg",
	".jpg":  "image/jpeg",
	".js":   "text/javascript",
	".json": "application/json",
	".pdf":  "application/pdf",
	".png":  "image/png",
	".tar":  "application/x-tar",
	".txt":  "text/plain",
	".xml":  "text/xml",
	".zip":  "application/zip",
}

func (h handlers) download(w http.ResponseWriter, r *http.Request) error {
	path, err := queryPath(r)
	if err != nil {
		return err
	}
	file, info, err := h.files.open(path, httpapi.PrincipalOf(r), "download")
	if err != nil {
		if e, ok := err.(*httpapi.Error); ok && e.Status == http.StatusNotFound { //nolint:errorlint // as returned by open
			return httpapi.StatusError(http.StatusNotFound)
		}
		return err
	}
	defer file.Close()
	name := filepath.Base(file.Name())
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	if t, ok := contentTypes[filepath.Ext(name)]; ok {
		header.Set("Content-Type", t)
	}
	disposition := mime.FormatMediaType("attachment", map[string]string{"filename": name})
	if disposition == "" {
		disposition = "attachment"
	}
	header.Set("Content-Disposition", disposition)
	http.ServeContent(w, r, name, info.ModTime(), file)
	return nil
}

func (h handlers) debug(w http.ResponseWriter, r *http.Request) error {
	attached := h.files.Attached()
	b := []byte{'{'}
	for _, virtual := range sortedAttached(attached) {
		// Mesos shows all. The paths tell of frameworks and executors that whoever may
		// not look into them may not know of either.
		if h.files.authorized(virtual, httpapi.PrincipalOf(r)) != nil {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(httpapi.AppendString(b, virtual), ':')
		b = httpapi.AppendString(b, attached[virtual])
	}
	return httpapi.WriteJSON(w, r, append(b, '}'))
}

// CallError is what the calls LIST_FILES and READ_FILE answer to an error: of what is not
// there they say no more than that.
func CallError(err error) error {
	if e, ok := errors.AsType[*httpapi.Error](err); ok && e.Status == http.StatusNotFound {
		return httpapi.NotFound("")
	}
	return err
}
