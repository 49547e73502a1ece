package gpu

import (
	"os"
	"slices"
	"strings"

	"clusterd/isolation"
)

// writeFile replaces a file as a whole.
func writeFile(path, text string) error {
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// imageEnv reads a variable of an image.
func imageEnv(image *isolation.ImageConfig, name string) string {
	for _, e := range image.Env {
		if n, v, ok := strings.Cut(e, "="); ok && n == name {
			return v
		}
	}
	return ""
}

// appendPath adds directories to a list of them, unless they are in it.
func appendPath(list string, dirs ...string) string {
	var parts []string
	if list != "" {
		parts = strings.Split(list, ":")
	}
	for _, d := range dirs {
		if !slices.Contains(parts, d) {
			parts = append(parts, d)
		}
	}
	return strings.Join(parts, ":")
}
