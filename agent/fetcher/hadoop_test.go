package fetcher

import (
	"strings"
	"testing"
)

// TestHadoopWithoutFile: a program that says that all is well but leaves nothing, or what is no
// file, is told apart from an error of the agent's.
func TestHadoopWithoutFile(t *testing.T) {
	for script, want := range map[string]string{
		"exit 0":      "hadoop has ended well, but left no file",
		`mkdir "$4"`:  "is no file",
		`mkfifo "$4"`: "is no file",
	} {
		dir := t.TempDir()
		f := New(Options{HadoopHome: fakeHadoop(t, script)})
		err := fetch(t, f, dir, uri("hdfs://name:9000/file"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", script, err, want)
		}
		if got := files(t, dir); len(got) != 0 {
			t.Errorf("%s: got %v left in the sandbox", script, got)
		}
	}
}
