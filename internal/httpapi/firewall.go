package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
)

// ParseFirewall reads the JSON of --firewall_rules: the paths of endpoints to refuse
// (src/messages/flags.proto, Firewall).
func ParseFirewall(text []byte) (paths []string, err error) {
	var f struct {
		DisabledEndpoints struct {
			Paths []string `json:"paths"`
		} `json:"disabled_endpoints"`
	}
	return f.DisabledEndpoints.Paths, StrictJSON(text, &f)
}

// StrictJSON decodes one JSON value and wants every member known: a misspelt one must not
// pass for a rule that is absent.
func StrictJSON(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("something follows the JSON value")
	}
	return nil
}
