// Package posix has the isolators that need neither root nor cgroups: they measure
// containers and link volumes, and limit nothing.
//
// NewFilesystem and NewUsage make them; both are safe for concurrent use.
// isolation/setup imports it.
package posix
