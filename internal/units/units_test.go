package units

import (
	"testing"
	"time"
)

func TestDurationText(t *testing.T) {
	for in, want := range map[string]string{
		"0ns": "0ns", "999ns": "999ns", "1us": "1us", "1500ns": "1500ns", "500ms": "500ms", "1500us": "1500us",
		"1secs": "1secs", "1.5secs": "1500ms", "60secs": "1mins", "90secs": "90secs", "15mins": "15mins",
		"90mins": "90mins", "24hrs": "1days", "36hrs": "36hrs", "10days": "10days", "14days": "2weeks",
		"100000weeks": "", "2weeks": "2weeks", "1000ns": "1us", "1001us": "1001us",
	} {
		d, err := ParseDuration(in)
		if want == "" {
			if err == nil {
				t.Errorf("ParseDuration(%q) = %v, want an error", in, d)
			}
			continue
		}
		if err != nil {
			t.Errorf("ParseDuration(%q): %v", in, err)
			continue
		}
		if got := FormatDuration(d); got != want {
			t.Errorf("%q is printed %q, want %q", in, got, want)
		}
	}
	// Neither the unit nor the one below gives a whole number: stout prints 15 digits.
	if got := FormatDuration(time.Hour + time.Nanosecond); got != "1.00000000000028hrs" {
		t.Errorf("1h+1ns is printed %q", got)
	}
	if got := FormatDuration(-90 * time.Second); got != "-90secs" {
		t.Errorf("-90s is printed %q", got)
	}
	for _, in := range []string{"", "5", "secs", "-1secs", "1 secs", "1sec", "..secs", "1e3secs", "NaNsecs"} {
		if d, err := ParseDuration(in); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", in, d)
		}
	}
}

func TestBytesText(t *testing.T) {
	for in, want := range map[string]string{"0B": "0B", "1024B": "1KB", "1025B": "1025B", "512mb": "512MB", "2048MB": "2GB", "1024GB": "1TB"} {
		n, err := ParseBytes(in)
		if err != nil {
			t.Errorf("ParseBytes(%q): %v", in, err)
			continue
		}
		if got := FormatBytes(n); got != want {
			t.Errorf("%q is printed %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{"", "5", "MB", "1PB", "-1B", "1.5MB", "99999999999999999999B", "18446744073709551615KB"} {
		if n, err := ParseBytes(in); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", in, n)
		}
	}
}

func TestParseRate(t *testing.T) {
	n, per, err := ParseRate("2/3hrs")
	if err != nil || n != 2 || per != 3*time.Hour {
		t.Errorf("ParseRate(2/3hrs) = %d, %v, %v", n, per, err)
	}
	for _, in := range []string{"", "1", "0/1secs", "-1/1secs", "x/1secs", "1/x", "1/0secs"} {
		if _, _, err := ParseRate(in); err == nil {
			t.Errorf("ParseRate(%q): no error", in)
		}
	}
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"500ms", "1.5hrs", "1weeks", "9223372036854775807ns", ".", "15250.284452471648weeks"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("ParseDuration(%q) = %d, negative", s, d)
		}
		text := FormatDuration(d)
		again, err := ParseDuration(text)
		if err != nil {
			// 15 digits may round the largest value up beyond int64.
			if d < 1<<62 {
				t.Fatalf("%q is printed %q, which does not parse: %v", s, text, err)
			}
			return
		}
		// 15 digits are what Mesos prints; more than that may be lost.
		if diff := (again - d).Abs(); float64(diff) > float64(d)*1e-14+1 {
			t.Fatalf("%q is printed %q, which is %d, not %d", s, text, again, d)
		}
	})
}

func FuzzBytes(f *testing.F) {
	for _, s := range []string{"512MB", "2GB", "1B", "0TB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseBytes(s)
		if err != nil {
			return
		}
		if again, err := ParseBytes(FormatBytes(n)); err != nil || again != n {
			t.Fatalf("%q is %d, printed %q, which is %d (%v)", s, n, FormatBytes(n), again, err)
		}
	})
}
