package httpapi

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestGzipOfParts(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	text := make([]byte, 3<<20)
	for i := range text {
		text[i] = "abcdefgh"[rng.IntN(8)]
	}
	for name, sizes := range map[string][]int{
		"nothing":     nil,
		"one byte":    {1},
		"one chunk":   {gzipChunk},
		"chunk and 1": {gzipChunk + 1},
		"small ones":  slices.Repeat([]int{1000, 1}, 1500),
		"large ones":  {1 << 20, 3, 1 << 20, 700_000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var parts [][]byte
			rest := text
			for _, n := range sizes {
				parts, rest = append(parts, rest[:n]), rest[n:]
			}
			packed := bytes.NewReader(slices.Concat(Gzip(parts...)...))
			z, err := gzip.NewReader(packed)
			if err != nil {
				t.Fatal(err)
			}
			z.Multistream(false) // one member: not all clients read several
			got, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			if want := slices.Concat(parts...); !bytes.Equal(got, want) {
				t.Errorf("got %d bytes back of %d, or others", len(got), len(want))
			}
			if packed.Len() != 0 {
				t.Errorf("%d bytes follow the member", packed.Len())
			}
		})
	}
}
