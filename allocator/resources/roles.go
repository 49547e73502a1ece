package resources

import "strings"

// IsStrictSubrole reports whether role lies below ancestor in the tree of
// roles, as "eng/web" does below "eng".
func IsStrictSubrole(role, ancestor string) bool {
	return len(role) > len(ancestor) && role[len(ancestor)] == '/' && strings.HasPrefix(role, ancestor)
}

// Ancestors returns the roles above role, the nearest first.
func Ancestors(role string) []string {
	var out []string
	for i := len(role) - 1; i >= 0; i-- {
		if role[i] == '/' {
			out = append(out, role[:i])
		}
	}
	return out
}

// ValidateRole checks the name of a role (src/common/roles.cpp). The error's
// text is that of Mesos, for it goes to clients.
func ValidateRole(role string) error {
	switch {
	case role == "*":
		return nil
	case strings.HasPrefix(role, "/"):
		return invalidf("Role '%s' cannot start with a slash", role)
	case strings.HasSuffix(role, "/"):
		return invalidf("Role '%s' cannot end with a slash", role)
	case strings.Contains(role, "//"):
		return invalidf("Role '%s' cannot contain two adjacent slashes", role)
	case role == "":
		return invalidf("Role names cannot be the empty string")
	}
	for component := range strings.SplitSeq(role, "/") {
		switch {
		case component == "." || component == ".." || component == "*":
			return invalidf("Role '%s' cannot include '%s' as a component", role, component)
		case strings.HasPrefix(component, "-"):
			return invalidf("Role component '%s' is invalid because it starts with a dash", component)
		case strings.ContainsAny(component, "\t\n\v\f\r \x7f"):
			return invalidf("Role component '%s' is invalid because it contains backspace or whitespace", component)
		}
	}
	return nil
}

// ParseRoles splits a comma separated list of roles and checks each.
func ParseRoles(text string) ([]string, error) {
	var roles []string
	for role := range strings.SplitSeq(text, ",") {
		if role == "" {
			continue
		}
		if err := ValidateRole(role); err != nil {
			return nil, err
		}
		roles = append(roles, role)
	}
	return roles, nil
}
