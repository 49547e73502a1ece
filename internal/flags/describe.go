package flags

// Described is a flag with what a reader of its value wants to know.
type Described struct {
	Name string `json:"name"`
	// Value is what is in force, absent if there is none; that of a secret is hidden.
	Value *string `json:"value,omitempty"`
	// Default is what would be in force if it had not been given, absent if nothing would.
	Default *string `json:"default,omitempty"`
	// Type is the syntax of the value: string, bool, int, number, duration, bytes, percent, path or json.
	Type string `json:"type"`
	Help string `json:"help"`
	// Note says what happens instead where clusterd does the job another way, or nothing yet.
	Note string `json:"note,omitempty"`
	// Source is where the value was given: the flag on the command line or the name of the
	// environment variable; empty if it was not.
	Source string `json:"source,omitempty"`
	// Changed says that the value is not the default.
	Changed bool `json:"changed"`
	// Secret values are not shown.
	Secret bool `json:"secret,omitempty"`
}

// typeNames are the types as [Described] names them.
var typeNames = [...]string{
	String: "string", Bool: "bool", Int: "int", Float: "number", Duration: "duration",
	Bytes: "bytes", Percent: "percent", Path: "path", JSON: "json",
}

// Describe returns every flag that this build takes, sorted by name, those without a value
// too.
func (v *Values) Describe() []Described {
	all := make([]Described, 0, len(v.set.flags))
	for i, f := range v.set.flags {
		if f.State == Rejected {
			continue
		}
		d := Described{Name: f.Name, Type: typeNames[f.Type], Help: f.Help, Note: f.Note, Source: v.given[i], Secret: f.Secret}
		if f.Default != "" || f.EmptyDefault {
			text := f.Default
			if parsed, err := parseValue(f, f.Default); err == nil {
				text = parsed.Text
			}
			d.Default = &text
		}
		if val, ok := v.values[i]; ok {
			text := val.Text
			d.Changed = d.Default == nil || *d.Default != text
			if f.Secret && text != "" {
				text = hidden
			}
			d.Value = &text
		}
		all = append(all, d)
	}
	return all
}
