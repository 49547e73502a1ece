package images

import (
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// reference is the name of an image, read as src/docker/spec.cpp does.
type reference struct {
	registry, repository, tag, digest string
}

// parseReference reads [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]. What it accepts is
// safe to be part of a path.
func parseReference(s string) (reference, error) {
	invalid := func(why string) error { return fmt.Errorf("%w %q: %s", ErrInvalidName, s, why) }
	if len(s) > 1024 {
		return reference{}, fmt.Errorf("%w: %d characters", ErrInvalidName, len(s))
	}
	var r reference
	rest, digest, ok := strings.Cut(s, "@")
	if ok {
		if _, err := v1.NewHash(digest); err != nil || !strings.HasPrefix(digest, "sha256:") {
			return r, invalid("the digest is not sha256:<64 hexadecimal digits>")
		}
		r.digest = digest
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		rest, r.tag = rest[:i], rest[i+1:]
		if r.tag == "" || len(r.tag) > 128 || strings.Trim(r.tag, letters+"._-") != "" || strings.ContainsAny(r.tag[:1], ".-") {
			return r, invalid("bad tag")
		}
	}
	r.repository = rest
	if first, after, ok := strings.Cut(rest, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		r.registry, r.repository = first, after
		if strings.Trim(first, letters+".-:[]") != "" || !strings.ContainsAny(first, letters+"[") {
			return r, invalid("bad registry")
		}
	}
	for part := range strings.SplitSeq(r.repository, "/") {
		if part == "" || part == "." || part == ".." || strings.Trim(part, letters+"._-") != "" {
			return r, invalid("bad repository")
		}
	}
	return r, nil
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// String is the name as Mesos writes it: what was left out stays out.
func (r reference) String() string {
	s := r.repository
	if r.registry != "" {
		s = r.registry + "/" + s
	}
	switch {
	case r.digest != "":
		s += "@" + r.digest
	case r.tag != "":
		s += ":" + r.tag
	}
	return s
}

// key is what the store knows the image by: the same for all ways to write a name.
func (r reference) key() string {
	if r.digest == "" && r.tag == "" {
		r.tag = "latest"
	}
	return r.String()
}

// version is what the registry is asked for.
func (r reference) version() string {
	switch {
	case r.digest != "":
		return r.digest
	case r.tag != "":
		return r.tag
	}
	return "latest"
}

// familiar is the repository without what the Docker hub's names may leave out.
func (r reference) familiar() string {
	s := r.repository
	if r.registry != "" && !strings.HasSuffix(r.registry, "docker.io") {
		s = r.registry + "/" + s
	}
	return strings.TrimPrefix(s, "library/")
}
