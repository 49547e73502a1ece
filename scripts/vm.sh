#!/usr/bin/env bash
# Makes ready what internal/vmtest boots: qemu and mkfs.xfs are installed where
# they are missing (root only), Debian's cloud kernel and a static busybox are
# unpacked into bin/vm and not installed. A second call does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$PWD/bin/vm

if ! command -v apt-get >/dev/null; then
	echo "scripts/vm.sh: tests in a virtual machine are skipped: there is no apt-get" >&2
	exit ${CI:+1}
fi

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		echo "scripts/vm.sh: tests in a virtual machine are skipped; root could: $*" >&2
		exit ${CI:+1}
	fi
}

updated=
update_once() {
	[ -n "$updated" ] || as_root apt-get -qq update
	updated=yes
}

missing=()
command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
command -v mkfs.xfs >/dev/null || missing+=(xfsprogs)
command -v mke2fs >/dev/null || [ -x /sbin/mke2fs ] || missing+=(e2fsprogs)
if [ ${#missing[@]} -gt 0 ]; then
	update_once
	DEBIAN_FRONTEND=noninteractive as_root apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
fi

if [ -e "$dir/vmlinuz" ] && [ -e "$dir/busybox" ] && [ -d "$dir/modules" ]; then
	exit 0
fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/clusterd-vm.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"
cd "$tmp"
# The package without a version depends on the newest kernel.
kernel() { apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1; }
fetch() { apt-get -qq download "$(kernel)" busybox-static; }
[ -n "$(kernel)" ] || update_once
fetch 2>/dev/null || { update_once; fetch; }
for deb in ./*.deb; do dpkg -x "$deb" root; done
release=$(basename root/boot/vmlinuz-*)
release=${release#vmlinuz-}
mkdir -p "$dir"
rm -rf "$dir/modules"
mv "root/boot/vmlinuz-$release" "$dir/vmlinuz"
mv root/bin/busybox "$dir/busybox"
# The folder comes last, under its name at once: who sees it sees all of it.
mv "root/lib/modules/$release" "$dir/.modules"
mv "$dir/.modules" "$dir/modules"
