package render

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestAppendDouble(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.0", 1: "1.0", -1: "-1.0", 0.1: "0.1", 1e-6: "0.000001", 1e-7: "1e-07", 1e21: "1e+21", 123456789012: "123456789012.0",
		1795359924.218776: "1795359924.218776", 1795359922.7398493: "1795359922.7398493", 1795358782: "1795358782.0",
		4294967296.5: "4294967296.5", 1.0000001: "1.0000001", math.Inf(1): "0.0", 0.30000000000000004: "0.30000000000000004",
	} {
		if got := string(appendDouble(nil, v)); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
	// The shortcut must not be seen: always the shortest form that reads back.
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		v := rng.Float64() * math.Pow(10, float64(rng.IntN(12)))
		if rng.IntN(2) == 0 {
			v = math.Round(v*1e6) / 1e6
		}
		got := string(appendDouble(nil, v))
		want := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(want, ".") {
			want += ".0"
		}
		if v < 1e-6 && v != 0 {
			continue
		}
		if got != want {
			t.Fatalf("%b: got %s, want %s", v, got, want)
		}
	}
}

func TestAppendMilli(t *testing.T) {
	for v, want := range map[int64]string{
		0: "0.0", 1: "0.001", 10: "0.01", 100: "0.1", 1000: "1.0", 1001: "1.001", 2048000: "2048.0", -1500: "-1.5", 3300: "3.3", 120: "0.12", 123: "0.123",
	} {
		if got := string(appendMilli(nil, v)); got != want {
			t.Errorf("%d: got %s, want %s", v, got, want)
		}
	}
}

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"": `""`, "plain": `"plain"`, "a/b": `"a/b"`, `q"b\s`: `"q\"b\\s"`, "\b\f\n\r\t\x01\x1f": `"\b\f\n\r\t\u0001\u001f"`,
		"é€😀": `"é€😀"`, "bad\xffbyte": "\"bad\uFFFDbyte\"", "exactly8": `"exactly8"`, "1234567\"": `"1234567\""`, "12345678\\": `"12345678\\"`, "1234567\x00": `"1234567\u0000"`,
	} {
		if got := string(appendString(nil, in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	f.Add("abcdefgh\"ij\\kl\x1fmn\xc3\x28")
	f.Add("\x7f\x80\x20\x21\x22\x5c\x5b\x5d")
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(appendString(nil, s), &back); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); utf8.ValidString(s) && back != want {
			t.Fatalf("%q: got %q", s, back)
		}
	})
}

func TestSeconds(t *testing.T) {
	if got := string(appendSeconds(nil, time.Time{})); got != "0.0" {
		t.Errorf("got %s for the zero time", got)
	}
	if got := string(appendSeconds(nil, time.Unix(1795359924, 218776064))); !strings.HasPrefix(got, "1795359924.218776") {
		t.Errorf("got %s", got)
	}
}
