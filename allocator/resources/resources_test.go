package resources

import "testing"

func TestParseAndText(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "{}"},
		{"cpus:0", "{}"},
		{"cpus:1.5;mem:1024", "cpus:1.5; mem:1024"},
		{" cpus : 1 ; cpus : 2.0005 ", "cpus:3.001"},
		{"ports:[31000-31005, 31006-31010,32000-32000]", "ports:[31000-31010, 32000-32000]"},
		{"bugs:{b,a}", "bugs:{a, b}"},
		{"cpus(eng):1;cpus:1", "cpus(reservations: [(STATIC,eng)]):1; cpus:1"},
		{"cpus:1e3", "cpus:1000"},
		{`[{"name":"cpus","type":"SCALAR","scalar":{"value":4},"role":"x"}]`, "cpus(reservations: [(STATIC,x)]):4"},
		{`[{"name":"disk","type":"SCALAR","scalar":{"value":4},"disk":{"source":{"type":"MOUNT","mount":{"root":"/d"}}}}]`, "disk[MOUNT:/d]:4"},
	}
	for _, tt := range tests {
		got, err := Parse(tt.text, "*")
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.text, err)
			continue
		}
		if got.String() != tt.want {
			t.Errorf("Parse(%q) = %s, want %s", tt.text, got, tt.want)
		}
	}
}
