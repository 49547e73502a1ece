package events

import (
	"errors"
	"strconv"
	"strings"
)

// errToken means that a token is none of ours.
var errToken = errors.New("the token is malformed")

// maxToken is longer than every token.
const maxToken = 256

// token is a place in the stream of events: behind an event of one leadership.
type token struct {
	master string
	serial uint64
}

// String is how clients see it.
func (t token) String() string { return string(t.append(nil)) }

func (t token) append(dst []byte) []byte {
	dst = append(append(dst, t.master...), ':')
	return strconv.AppendUint(dst, t.serial, 10)
}

// parseToken reads a token that a client gives back.
func parseToken(s string) (token, error) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 || len(s) > maxToken {
		return token{}, errToken
	}
	serial, err := strconv.ParseUint(s[i+1:], 10, 64)
	if err != nil || strconv.FormatUint(serial, 10) != s[i+1:] {
		return token{}, errToken
	}
	return token{s[:i], serial}, nil
}

// Token is the place behind an event of one leadership, as `resume` takes it: with the
// serial [core.View.Events] of a view the stream goes on where the view ends.
func Token(master string, serial uint64) string { return token{master, serial}.String() }
