#!/usr/bin/env bash
# Makes ready what the tests of the Docker containerizer run: Debian's docker.io is
# installed where dockerd is missing (root only). The engine of the package is not
# started: the tests start their own. A second call does nothing.
set -euo pipefail
command -v dockerd >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "scripts/docker.sh: tests of the Docker containerizer are skipped without docker.io" >&2
	exit ${CI:+1}
fi
# Where services would be started at once, this one is not.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	trap 'rm -f $policy' EXIT
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends docker.io iptables >/dev/null
