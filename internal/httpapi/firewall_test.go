package httpapi

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseFirewall(t *testing.T) {
	paths, err := ParseFirewall([]byte(`{"disabled_endpoints":{"paths":["/files/browse","/master/state"]}}`))
	if diff := cmp.Diff([]string{"/files/browse", "/master/state"}, paths); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := ParseFirewall([]byte(`{"disabled_endpoint":{"paths":["/state"]}}`)); err == nil {
		t.Error("a misspelt member is silently nothing")
	}
}
