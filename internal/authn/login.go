package authn

import "slices"

// Ways to log in, as a login page offers them.
const (
	SchemeBasic = "basic"
	SchemeToken = "token"
	SchemeOIDC  = "oidc"
)

// Schemes returns the ways to log in that some authenticators have: by name and password,
// by a token. None of them is for certificates, which need no login.
func Schemes(all ...Authenticator) []string {
	var out []string
	add := func(scheme string) {
		if !slices.Contains(out, scheme) {
			out = append(out, scheme)
		}
	}
	for _, a := range all {
		switch a := a.(type) {
		case *Basic:
			add(SchemeBasic)
		case *Bearer:
			add(SchemeToken)
		case counted:
			for _, s := range Schemes(a.Authenticator) {
				add(s)
			}
		case Combined:
			for _, s := range Schemes(a...) {
				add(s)
			}
		}
	}
	slices.Sort(out)
	return out
}
