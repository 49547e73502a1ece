// Package selftest holds the tests that look at the machine of internal/vmtest itself
// from inside: that it has what other tests rely on. There is nothing to import.
package selftest
