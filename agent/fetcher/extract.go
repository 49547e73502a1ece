package fetcher

import (
	"archive/tar"
	"archive/zip"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ulikunitz/xz"
)

// maxLinkTarget is PATH_MAX: no link target is longer.
const maxLinkTarget = 4096

// archiveKind is told by the name alone, as in Mesos (fetcher.cpp, extract).
func archiveKind(name string) string {
	for _, suffixes := range [][]string{
		{"tar.gz", ".tgz", ".tar.gz"},
		{"tar.bz2", ".tbz2", ".tar.bz2"},
		{"tar.xz", ".txz", ".tar.xz"},
		{"tar", ".tar"},
		{"zip", ".zip"},
		{"gz", ".gz"},
	} {
		for _, s := range suffixes[1:] {
			if strings.HasSuffix(name, s) {
				return suffixes[0]
			}
		}
	}
	return ""
}

// extract unpacks a file into the sandbox, if its name says that it is an archive, and
// says whether it was one. The archive stays.
func (j *job) extract(ctx context.Context, in *os.File, name string) (archive bool, err error) {
	kind := archiveKind(name)
	if kind == "" {
		j.logf("'%s' is copied, not extracted: its name is not that of an archive", name)
		return false, nil
	}
	x := extractor{j: j, ctx: ctx, left: j.f.opts.MaxBytes, entries: j.f.opts.MaxEntries}
	r := io.Reader(contextReader{ctx, in})
	switch kind {
	case "tar":
		err = x.tar(r)
	case "tar.gz":
		var z *gzip.Reader
		if z, err = gzip.NewReader(r); err == nil {
			err = x.tar(z)
		}
	case "tar.bz2":
		err = x.tar(bzip2.NewReader(r))
	case "tar.xz":
		err = x.tarXZ(in, r)
	case "zip":
		err = x.zip(in)
	case "gz":
		err = x.gunzip(r, strings.TrimSuffix(filepath.Base(name), ".gz"))
	}
	if err != nil {
		return true, fmt.Errorf("extract '%s': %w", name, err)
	}
	j.logf("extracted '%s'", name)
	return true, nil
}

// extractor unpacks one archive.
type extractor struct {
	j       *job
	ctx     context.Context //nolint:containedctx // lives for one archive
	left    int64           // bytes that may still be written
	entries int             // entries that may still come
}

func (x *extractor) tarXZ(in io.Seeker, r io.Reader) error {
	if err := checkXZ(r); err != nil {
		return err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	z, err := xz.NewReader(r)
	if err != nil {
		return err
	}
	return x.tar(z)
}

// entry is what an archive says about one member.
type entry struct {
	name string
	mode os.FileMode // permission bits
	time time.Time
}

func (x *extractor) tar(r io.Reader) error {
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			// The checksum of a compressed archive is behind what tar reads.
			_, err := io.Copy(io.Discard, io.LimitReader(r, x.left))
			return err
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		e := entry{name: h.Name, mode: os.FileMode(h.Mode) & 0o777, time: h.ModTime} //nolint:gosec // masked
		ok, err := x.begin(&e)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse:
			err = x.file(e, archive)
		case tar.TypeDir:
			err = x.dir(e)
		case tar.TypeSymlink:
			err = x.symlink(e, h.Linkname)
		case tar.TypeLink:
			err = x.hardlink(e, h.Linkname)
		default:
			err = fmt.Errorf("%w: '%s' is of type %q, not a file, directory or link", ErrUnsafeArchive, e.name, h.Typeflag)
		}
		if err != nil {
			return err
		}
	}
}

func (x *extractor) zip(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	archive, err := zip.NewReader(file, info.Size())
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are judged below
		return err
	}
	for _, member := range archive.File {
		mode := member.Mode()
		e := entry{name: member.Name, mode: mode.Perm(), time: member.Modified}
		ok, err := x.begin(&e)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := x.zipMember(member, mode, e); err != nil {
			return err
		}
	}
	return nil
}

func (x *extractor) zipMember(member *zip.File, mode os.FileMode, e entry) error {
	if mode.IsDir() {
		return x.dir(e)
	}
	if !mode.IsRegular() && mode.Type() != os.ModeSymlink {
		return fmt.Errorf("%w: '%s' is not a file, directory or link", ErrUnsafeArchive, e.name)
	}
	r, err := member.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if mode.IsRegular() {
		return x.file(e, r)
	}
	target, err := io.ReadAll(io.LimitReader(r, maxLinkTarget+1))
	if err != nil {
		return err
	}
	return x.symlink(e, string(target))
}

// gunzip unpacks a single compressed file.
func (x *extractor) gunzip(r io.Reader, name string) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	e := entry{name: name, mode: 0o644}
	if ok, err := x.begin(&e); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%w: no name is left for the contents", ErrUnsafeArchive))
	}
	return x.file(e, z)
}

// begin counts an entry, checks its name and makes its parents. It reports
// false for the root of the archive itself.
func (x *extractor) begin(e *entry) (ok bool, err error) {
	if err := context.Cause(x.ctx); err != nil {
		return false, err
	}
	if x.entries--; x.entries < 0 {
		return false, fmt.Errorf("%w: more than %d entries", ErrTooLarge, x.j.f.opts.MaxEntries)
	}
	given := e.name
	e.name = filepath.Clean(given)
	if e.name == "." && given != "" {
		return false, nil
	}
	if given == "" || strings.ContainsRune(given, 0) || !filepath.IsLocal(given) || hasDotDot(given) {
		return false, fmt.Errorf("%w: name '%s'", ErrUnsafeArchive, given)
	}
	return true, x.parents(e.name)
}

func hasDotDot(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

// parents makes the directories above name. None of them may be a symbolic
// link: only then is the place of a link in the archive's names its place on
// disk, which the check of its target relies on.
func (x *extractor) parents(name string) error {
	dir := filepath.Dir(name)
	if dir == "." {
		return nil
	}
	at := ""
	for part := range strings.SplitSeq(dir, "/") {
		at = filepath.Join(at, part)
		info, err := x.j.root.Lstat(at)
		switch {
		case errors.Is(err, os.ErrNotExist):
			if err := x.j.root.Mkdir(at, 0o755); err != nil {
				return err
			}
		case err != nil:
			return err
		case !info.IsDir():
			return fmt.Errorf("%w: '%s' lies below '%s', which is not a directory", ErrUnsafeArchive, name, at)
		}
	}
	return nil
}

func (x *extractor) dir(e entry) error {
	info, err := x.j.root.Lstat(e.name)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		if err := x.j.root.Remove(e.name); err != nil {
			return err
		}
	}
	// The owner must be able to fill it.
	return x.j.root.Mkdir(e.name, e.mode|0o700)
}

func (x *extractor) file(e entry, r io.Reader) error {
	if err := x.clear(e.name); err != nil {
		return err
	}
	file, err := x.j.root.OpenFile(e.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, e.mode)
	if err != nil {
		return err
	}
	n, err := io.Copy(file, io.LimitReader(contextReader{x.ctx, r}, x.left+1))
	x.left -= n
	if err == nil && x.left < 0 {
		err = fmt.Errorf("%w: the archive unpacks to more than %d bytes", ErrTooLarge, x.j.f.opts.MaxBytes)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("'%s': %w", e.name, err)
	}
	if !e.time.IsZero() {
		// Times are a courtesy; odd ones in an archive are no failure.
		_ = x.j.root.Chtimes(e.name, e.time, e.time)
	}
	return nil
}

// clear removes a file or link that has the name already; archives may hold a
// name twice, and the last one counts.
func (x *extractor) clear(name string) error {
	if err := x.j.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// symlink creates a link whose target stays inside. `..` may stand only at the
// beginning of the target: behind a name that is itself a link it would lead
// elsewhere than the text says.
func (x *extractor) symlink(e entry, target string) error {
	inside := target != "" && len(target) <= maxLinkTarget && !strings.ContainsRune(target, 0) && !filepath.IsAbs(target) &&
		filepath.IsLocal(filepath.Join(filepath.Dir(e.name), target))
	named := false
	for part := range strings.SplitSeq(target, "/") {
		if part == ".." && named {
			inside = false
		}
		named = named || (part != ".." && part != "." && part != "")
	}
	if !inside {
		return fmt.Errorf("%w: link '%s' leads to '%s', outside of the sandbox", ErrUnsafeArchive, e.name, target)
	}
	if err := x.clear(e.name); err != nil {
		return err
	}
	return x.j.root.Symlink(target, e.name)
}

// hardlink links to an earlier regular file of the sandbox.
func (x *extractor) hardlink(e entry, target string) error {
	if !filepath.IsLocal(target) || hasDotDot(target) {
		return fmt.Errorf("%w: link '%s' leads to '%s', outside of the sandbox", ErrUnsafeArchive, e.name, target)
	}
	target = filepath.Clean(target)
	if target == e.name {
		return nil
	}
	if err := x.parents(target); err != nil {
		return err
	}
	info, err := x.j.root.Lstat(target)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: hard link '%s' to '%s', which is not a file", ErrUnsafeArchive, e.name, target)
	}
	if err := x.clear(e.name); err != nil {
		return err
	}
	return x.j.root.Link(target, e.name)
}
