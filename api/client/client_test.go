package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBackoff(t *testing.T) {
	b := Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	check := func(limit time.Duration) {
		t.Helper()
		if d := b.Next(); d < limit/2 || d > limit {
			t.Errorf("got %v, want %v to %v", d, limit/2, limit)
		}
	}
	for _, limit := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		check(limit * time.Millisecond)
	}
	b.Reset()
	check(100 * time.Millisecond)
	var zero Backoff
	for range 100 {
		if d := zero.Next(); d <= 0 || d > 15*time.Second {
			t.Errorf("got %v", d)
		}
	}
}

func TestBackoffWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{Min: time.Hour, Max: time.Hour}
		start := time.Now()
		if err := b.Wait(t.Context()); err != nil || time.Since(start) < time.Hour/2 {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if err := b.Wait(ctx); !errors.Is(err, why) {
			t.Errorf("cancelled: got %v", err)
		}
	})
}

func TestPermanent(t *testing.T) {
	for code, want := range map[int]bool{
		0: false, 307: false, 400: true, 401: true, 403: true, 404: true, 408: false, 409: true, 415: true, 429: false, 500: false, 501: true, 503: false,
	} {
		err := errors.New("other")
		if code != 0 {
			err = fmt.Errorf("call: %w", &StatusError{Code: code})
		}
		if got := Permanent(err); got != want || StatusCode(err) != code {
			t.Errorf("%d: got %v, %d", code, got, StatusCode(err))
		}
	}
}

func TestStatusErrorText(t *testing.T) {
	for want, e := range map[string]*StatusError{
		"404 Not Found":        {Code: http.StatusNotFound},
		"400 Bad Request: why": {Code: http.StatusBadRequest, Body: "why\n"},
		"599":                  {Code: 599},
	} {
		if e.Error() != want {
			t.Errorf("got %q, want %q", e.Error(), want)
		}
	}
}
