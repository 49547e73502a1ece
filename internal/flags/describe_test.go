package flags

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDescribe(t *testing.T) {
	set := NewSet("test", nil, []Flag{
		{Name: "empty", EmptyDefault: true, Help: "Empty by default."},
		{Name: "gone", State: Rejected, Note: "was removed"},
		{Name: "patience", Type: Duration, Default: "15secs", Help: "How long."},
		{Name: "port", Type: Int, Default: "5050"},
		{Name: "same", Type: Duration, Default: "15secs"},
		{Name: "secret", Secret: true},
		{Name: "secret_default", Secret: true, Default: "x"},
		{Name: "unset", Type: Path},
	})
	v, err := set.Parse([]string{"--port=6000", "--secret=hush", "--same=15secs"}, []string{"CLUSTERD_PATIENCE=1mins"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Described{
		{Name: "empty", Type: "string", Help: "Empty by default.", Default: new(""), Value: new("")},
		{Name: "patience", Type: "duration", Help: "How long.", Default: new("15secs"), Value: new("1mins"), Changed: true, Source: "$CLUSTERD_PATIENCE"},
		{Name: "port", Type: "int", Default: new("5050"), Value: new("6000"), Changed: true, Source: "--port"},
		{Name: "same", Type: "duration", Default: new("15secs"), Value: new("15secs"), Source: "--same"},
		{Name: "secret", Type: "string", Secret: true, Value: new("(hidden)"), Changed: true, Source: "--secret"},
		{Name: "secret_default", Type: "string", Secret: true, Default: new("x"), Value: new("(hidden)")},
		{Name: "unset", Type: "path"},
	}
	if diff := cmp.Diff(want, v.Describe()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
