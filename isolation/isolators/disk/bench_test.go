package disk

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// BenchmarkMeasure measures how fast a directory of many small files is counted.
func BenchmarkMeasure(b *testing.B) {
	const files = 20000
	dir := b.TempDir()
	for i := range files {
		sub := filepath.Join(dir, strconv.Itoa(i/1000))
		if i%1000 == 0 {
			if err := os.Mkdir(sub, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(sub, strconv.Itoa(i)), nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := measure(b.Context(), dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*files/b.Elapsed().Seconds(), "files/s")
}
