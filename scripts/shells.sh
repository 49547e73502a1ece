#!/usr/bin/env bash
# Makes ready what the tests of completion run: zsh and fish are installed where they are
# missing (root only). A second call does nothing.
set -euo pipefail
missing=()
command -v zsh >/dev/null || missing+=(zsh)
command -v fish >/dev/null || missing+=(fish)
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "scripts/shells.sh: tests of completion are skipped without ${missing[*]}" >&2
	exit ${CI:+1}
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
