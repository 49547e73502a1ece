#!/usr/bin/env bash
# Makes ready what the tests of the web UI run: Debian's chromium is installed where it
# is missing (root only). A second call does nothing.
set -euo pipefail
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "scripts/chromium.sh: tests of the web UI are skipped without chromium" >&2
	exit ${CI:+1}
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium fonts-dejavu-core >/dev/null
