package allocator

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	scenarioScript = regexp.MustCompile(`\b(mesos|sorter)/[a-z_]+`)
	scenarioTitle  = regexp.MustCompile(`(?m)^# \w+Test\w*\.(\w+)`)
)

// TestScenarios holds SCENARIOS.md against the scripts: those that it names are
// there, and each scenario that retells a test has its row, which says where.
func TestScenarios(t *testing.T) {
	table, err := os.ReadFile("SCENARIOS.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(string(table), "\n")
	for _, row := range rows {
		for _, script := range scenarioScript.FindAllString(row, -1) {
			if _, err := os.Stat(filepath.Join("testdata", script)); err != nil {
				t.Errorf("%q: %v", row, err)
			}
		}
	}
	scripts, err := filepath.Glob("testdata/mesos/*")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, title := range scenarioTitle.FindAllStringSubmatch(string(text), -1) {
			test := regexp.MustCompile(`\b` + title[1] + `\b`)
			if !slices.ContainsFunc(rows, func(row string) bool {
				return test.MatchString(row) && strings.Contains(row, "mesos/"+filepath.Base(path))
			}) {
				t.Errorf("SCENARIOS.md has no row for %s in %s", title[1], path)
			}
		}
	}
}
