package checks

import "testing"

func TestResolve(t *testing.T) {
	for _, c := range [][3]string{
		{"http://h:1/a/b?q", "c", "http://h:1/a/c"},
		{"http://h:1/a/b", "/c?d", "http://h:1/c?d"},
		{"http://h:1", "c", "http://h:1/c"},
		{"http://h:1?q", "c", "http://h:1/c"},
		{"https://h:1/a", "//other/x", "https://other/x"},
		{"http://h:1/a", "https://z/", "https://z/"},
	} {
		if got := resolve(c[0], c[1]); got != c[2] {
			t.Errorf("resolve(%q, %q): got %q, want %q", c[0], c[1], got, c[2])
		}
	}
}
