package server

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"clusterd/server/core"
)

// whitelistInterval is how often the file of --whitelist is read (Mesos:
// WHITELIST_WATCH_INTERVAL in src/master/constants.hpp).
const whitelistInterval = 5 * time.Second

// readWhitelist reads host names, one a line. An empty file lists nobody.
func readWhitelist(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("whitelist: %w", err)
	}
	names := []string{}
	for line := range strings.Lines(string(b)) {
		if name := strings.TrimSpace(line); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// openWhitelist reads the whitelist for the first time and then keeps reading
// it. A file that cannot be read at the start ends the start: to go on would offer
// every agent. Later the last list stays (src/watcher/whitelist_watcher.cpp).
func (s *Server) openWhitelist() error {
	if s.opts.Whitelist == "" {
		return nil
	}
	names, err := readWhitelist(s.opts.Whitelist)
	if err != nil {
		return err
	}
	s.whitelist.Store(&names)
	s.wg.Go(s.watchWhitelist)
	return nil
}

func (s *Server) watchWhitelist() {
	ticker := time.NewTicker(s.opts.whitelistInterval)
	defer ticker.Stop()
	var told *term // knows the list
	failed := ""
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		names, err := readWhitelist(s.opts.Whitelist)
		switch {
		case err != nil:
			if failed != err.Error() {
				failed = err.Error()
				s.log.Error().Err(err).Msg("the whitelist stays as it was last read")
			}
		case !slices.Equal(names, *s.whitelist.Load()):
			s.log.Info().Int("hostnames", len(names)).Msg("whitelist changed")
			s.whitelist.Store(&names)
			told, failed = nil, ""
		default:
			failed = ""
		}
		// A new term begins with the list that it finds; one that began while the
		// list changed has the older one.
		if t := s.term.Load(); t != nil && t != told {
			if t.submit(s.ctx, envelope{in: s.whitelistInput()}) == nil {
				told = t
			}
		}
	}
}

func (s *Server) whitelistInput() core.Whitelist {
	if names := s.whitelist.Load(); names != nil {
		return core.Whitelist{Hostnames: *names}
	}
	return core.Whitelist{}
}

// beginWhitelist makes the list the first input of a term: no agent is offered
// before.
func (t *term) beginWhitelist() {
	if t.s.whitelist.Load() != nil {
		_ = t.submit(context.Background(), envelope{in: t.s.whitelistInput()}) // the queue is empty
	}
}
