#!/usr/bin/env bash
# Makes ready what the tests of networks run: the real CNI plugins, iptables and ip are
# installed where they are missing (root only). A second call does nothing.
set -euo pipefail
missing=()
[ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
command -v iptables >/dev/null || [ -x /usr/sbin/iptables ] || missing+=(iptables)
command -v ip >/dev/null || [ -x /sbin/ip ] || missing+=(iproute2)
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "scripts/cni.sh: tests of networks are skipped without ${missing[*]}" >&2
	exit ${CI:+1}
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
