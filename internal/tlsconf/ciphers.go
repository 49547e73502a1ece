package tlsconf

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNoCipher says that none of the ciphers asked for can be served.
var ErrNoCipher = errors.New("no cipher is left that clusterd can serve")

// suite is a cipher suite of TLS 1.2 that Go serves.
type suite struct {
	id   uint16
	name string   // OpenSSL's
	tags []string // OpenSSL's words for sets that it belongs to
}

func (s *suite) has(tag string) bool { return slices.Contains(s.tags, tag) }

// knownSuites are in Go's order of preference.
var knownSuites = []suite{
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256", tags("ECDHE ECDSA AES128 AESGCM AEAD SHA256")},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256", tags("ECDHE aRSA AES128 AESGCM AEAD SHA256")},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384", tags("ECDHE ECDSA AES256 AESGCM AEAD SHA384")},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384", tags("ECDHE aRSA AES256 AESGCM AEAD SHA384")},
	{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305", tags("ECDHE ECDSA CHACHA20 AEAD SHA256")},
	{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305", tags("ECDHE aRSA CHACHA20 AEAD SHA256")},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, "ECDHE-ECDSA-AES128-SHA", tags("ECDHE ECDSA AES128 SHA1 CBC")},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, "ECDHE-RSA-AES128-SHA", tags("ECDHE aRSA AES128 SHA1 CBC")},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "ECDHE-ECDSA-AES256-SHA", tags("ECDHE ECDSA AES256 SHA1 CBC")},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "ECDHE-RSA-AES256-SHA", tags("ECDHE aRSA AES256 SHA1 CBC")},
	{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, "AES128-GCM-SHA256", tags("kRSA aRSA AES128 AESGCM AEAD SHA256")},
	{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, "AES256-GCM-SHA384", tags("kRSA aRSA AES256 AESGCM AEAD SHA384")},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA, "AES128-SHA", tags("kRSA aRSA AES128 SHA1 CBC")},
	{tls.TLS_RSA_WITH_AES_256_CBC_SHA, "AES256-SHA", tags("kRSA aRSA AES256 SHA1 CBC")},
}

func tags(s string) []string { return append(strings.Fields(s), "ALL", "HIGH", "TLSv1.2") }

// synonyms are other words of OpenSSL for the same sets.
var synonyms = map[string]string{
	"EECDH": "ECDHE", "kEECDH": "ECDHE", "kECDHE": "ECDHE", "aECDSA": "ECDSA", "RSA": "aRSA", "SHA": "SHA1",
	"AES-GCM": "AESGCM",
}

// ParseCiphers reads a list of ciphers as OpenSSL writes it: names and words for
// sets of them, between colons, with ! or - before what is left out. What Go has
// not, which is all that is weak, is returned as unknown.
func ParseCiphers(list string) (suites []uint16, unknown []string, err error) {
	var banned []uint16 // for good, by !
	for token := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ':' || r == ',' || r == ' ' || r == ';' }) {
		sign := byte(0)
		if c := token[0]; c == '!' || c == '-' || c == '+' || c == '@' {
			sign, token = c, token[1:]
		}
		if sign == '@' || token == "" {
			continue // the order is Go's
		}
		got, ok := match(token)
		switch sign {
		case '!':
			banned = append(banned, got...)
			suites = slices.DeleteFunc(suites, func(id uint16) bool { return slices.Contains(got, id) })
		case '-':
			suites = slices.DeleteFunc(suites, func(id uint16) bool { return slices.Contains(got, id) })
		case '+': // it only moves them to the end
		default:
			if !ok {
				unknown = append(unknown, token)
			}
			for _, id := range got {
				if !slices.Contains(suites, id) && !slices.Contains(banned, id) {
					suites = append(suites, id)
				}
			}
		}
	}
	if len(suites) == 0 {
		return nil, unknown, fmt.Errorf("%q: %w", list, ErrNoCipher)
	}
	return suites, unknown, nil
}

// match returns the suites that a token of a list stands for; false if OpenSSL or
// nobody knows something under it that Go has not.
func match(token string) ([]uint16, bool) {
	if strings.HasPrefix(token, "TLS_") {
		for _, s := range tls.CipherSuites() {
			if s.Name == token && slices.Contains(s.SupportedVersions, tls.VersionTLS13) {
				return nil, true // always there with TLS 1.3
			}
		}
	}
	var ids []uint16
	if token == "DEFAULT" { // what Go takes by itself
		for _, s := range knownSuites {
			if s.has("ECDHE") {
				ids = append(ids, s.id)
			}
		}
		return ids, true
	}
	for _, s := range knownSuites {
		if s.name == token || token == tls.CipherSuiteName(s.id) {
			return []uint16{s.id}, true
		}
	}
	words := strings.Split(token, "+")
	for _, s := range knownSuites {
		all := true
		for _, w := range words {
			if syn, ok := synonyms[w]; ok {
				w = syn
			}
			// AES stands for both lengths.
			all = all && (s.has(w) || w == "AES" && (s.has("AES128") || s.has("AES256")))
		}
		if all {
			ids = append(ids, s.id)
		}
	}
	return ids, len(ids) > 0
}

// curves are OpenSSL's names of those that Go has.
var curves = map[string]tls.CurveID{
	"prime256v1": tls.CurveP256, "secp256r1": tls.CurveP256, "p-256": tls.CurveP256,
	"secp384r1": tls.CurveP384, "p-384": tls.CurveP384,
	"secp521r1": tls.CurveP521, "p-521": tls.CurveP521,
	"x25519": tls.X25519, "x25519mlkem768": tls.X25519MLKEM768,
}

// ParseCurves reads a list of curves as OpenSSL writes it, auto for Go's choice.
func ParseCurves(list string) (ids []tls.CurveID, unknown []string, err error) {
	if list == "" || strings.EqualFold(list, "auto") {
		return nil, nil, nil
	}
	for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ':' || r == ',' || r == ' ' }) {
		id, ok := curves[strings.ToLower(name)]
		if !ok {
			unknown = append(unknown, name)
			continue
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, unknown, fmt.Errorf("%q: no curve is left that clusterd can serve", list)
	}
	return ids, unknown, nil
}
