// Package api is the root of the public contract. It holds no code: the .proto
// files and the Go generated from them lie in the folders below it.
package api

//go:generate go -C ../internal/tools run ./protogen ../../api
