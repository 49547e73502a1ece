// Package images makes root file systems for containers of Docker and OCI images.
//
//	name ─▶ registry | archive | layout ─▶ store ─▶ backend ─▶ rootfs
//	        (manifest, config, layers)     (layers) (overlay, copy, bind)
//
// Provisioner is the main type: the isolation.Provisioner of an agent. Its store
// keeps every layer once, unpacked, under the digest of its content; a container's
// root is an overlay over layers, which is mounted in the container's own mount
// namespace only, or a copy. Every step can be cut off at any moment: what counts
// comes into being by a rename, and Recover clears away the rest
// (src/slave/containerizer/mesos/provisioner of Mesos).
//
// All methods of exported types are safe for concurrent use. isolation/setup
// imports it; the small programs that run in containers never do.
package images
