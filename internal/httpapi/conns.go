package httpapi

import (
	"net"
	"net/http"
	"sync/atomic"
	"syscall"

	"github.com/rs/zerolog"
)

// Conns bounds the connections of an http.Server: what comes above the bound is closed at
// once, so that those who are there go on being served. Connections that were taken over,
// such as agents' links, do not count. Its Watch is for http.Server.ConnState.
type Conns struct {
	limit int64
	log   zerolog.Logger

	open, refused atomic.Int64
}

// NewConns bounds connections; a limit of zero is half of the files that this process may
// have open.
func NewConns(limit int, log zerolog.Logger) *Conns {
	c := &Conns{limit: int64(limit), log: log}
	if limit == 0 {
		c.limit = 1 << 15
		var files syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil && files.Cur/2 < 1<<30 {
			c.limit = max(16, int64(files.Cur/2))
		}
	}
	return c
}

// Watch is told of each connection's states.
func (c *Conns) Watch(nc net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if c.open.Add(1) <= c.limit {
			return
		}
		_ = nc.Close() // net/http finds out, and says StateClosed
		if n := c.refused.Add(1); n&(n-1) == 0 {
			c.log.Warn().Int64("limit", c.limit).Int64("refused", n).Msg("too many connections: new ones are closed")
		}
	case http.StateClosed, http.StateHijacked:
		c.open.Add(-1)
	default:
	}
}

// Open is how many connections there are, Refused how many were closed for being too many.
func (c *Conns) Open() int64 { return c.open.Load() }

// Refused is how many connections were closed for being too many.
func (c *Conns) Refused() int64 { return c.refused.Load() }
