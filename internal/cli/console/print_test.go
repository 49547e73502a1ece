package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestPrintLists compares lists, which are written element by element, with the same encoded
// whole.
func TestPrintLists(t *testing.T) {
	type object = map[string]any
	for _, list := range [][]object{
		{},
		{{"a": "one"}},
		{
			{"name": "longer-text", "number": "12345678", "when": "2026-11-23", "yes": "true", "deep": []any{object{"x": 1.5, "y": []any{}}, "null"}},
			{"colon": "a: b", "hash": "a # b", "exp": "e1234567", "empty": "", "lines": "a\nb", "star": "*anchor", "inf": ".inf", "none": nil},
			{},
		},
	} {
		var whole bytes.Buffer
		b, err := json.Marshal(list)
		if err == nil {
			err = json.Indent(&whole, b, "", "  ")
		}
		if err != nil {
			t.Fatal(err)
		}
		var asJSON, asYAML bytes.Buffer
		if err := PrintValue(&asJSON, list, "json"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(whole.String()+"\n", asJSON.String()); diff != "" {
			t.Errorf("JSON (-want +got):\n%s", diff)
		}
		if err := PrintValue(&asYAML, list, "yaml"); err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := yaml.Unmarshal(asYAML.Bytes(), &got); err != nil {
			t.Fatalf("%v\n%s", err, &asYAML)
		}
		if err := yaml.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("YAML means something else (-want +got):\n%s\n%s", diff, &asYAML)
		}
	}
}

// FuzzYAML compares texts, as values and as keys, with what YAML reads.
func FuzzYAML(f *testing.F) {
	for _, text := range []string{
		"", " ", "a", "y", "No", "TRUE", "null", "~", "nan", ".inf", "-1", "0x1F", "1e3", "12:30:45", "2026-11-23", "=", "<<", "a b", " a", "a ", "a: b", "a:", ":a", "a #b", "#a", "- a",
		"-", "?", "!a", "&a", "*a", "{", "[a]", "a,b", "@a", "`a", "%a", "|", ">", "'a'", "\"a\"", "a\\b", "\x00", "\x1b[2J", "\x7f", "a\tb", "a\nb\n", "\r", "\u0085", "\u009b1m",
		"\u2028", "\ufeff", "\ufffe", "\uffff", "é", "😀", "</script>", "Command exited with status 0", "/a/b.c", "0ea7a272-d422-49f5-8d75-ecf45966e459-S0", "---", "...", "a/../b", "e1", "_", "_1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// JSON has no bytes that are no text.
		text = strings.ToValidUTF8(text, "?")
		want := []any{map[string]any{"text": text, "deep": []any{text, []any{[]any{text}}, map[string]any{text: map[string]any{}}}}}
		var out bytes.Buffer
		if err := PrintValue(&out, want, "yaml"); err != nil {
			t.Fatal(err)
		}
		var got []any
		if err := yaml.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%q: %v\n%s", text, err, &out)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s\n%s", text, diff, &out)
		}
	})
}

// BenchmarkPrint writes a large list.
func BenchmarkPrint(b *testing.B) {
	list := make([]map[string]any, 10_000)
	for i := range list {
		list[i] = map[string]any{
			"task_id": map[string]string{"value": fmt.Sprint("web.", i)}, "name": "web", "state": "TASK_RUNNING", "agent_id": map[string]string{"value": "0ea7a272-d422-49f5-8d75-ecf45966e459-S2"},
			"resources": []any{map[string]any{"name": "cpus", "type": "SCALAR", "scalar": map[string]float64{"value": 0.1}}},
		}
	}
	for _, format := range []string{"json", "yaml"} {
		b.Run(format, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := PrintValue(io.Discard, list, format); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
