package core

import "github.com/tidwall/btree"

// MapOf makes a Map, for tests and benchmarks of those who read views.
func MapOf[V any](entries map[string]V) Map[V] {
	m := btree.NewMap[string, V](0)
	for k, v := range entries {
		m.Set(k, v)
	}
	return Map[V]{m}
}
