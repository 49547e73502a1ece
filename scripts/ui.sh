#!/usr/bin/env bash
# Builds the web UI into ui/dist, which the binary embeds, if its sources are newer than
# what is there. Without npm nothing is built: the master then serves a page that says so.
set -euo pipefail
cd "$(dirname "$0")/../ui"
stamp=dist/.built
if [ -e $stamp ] && [ -z "$(find . -path ./node_modules -prune -o -path ./dist -prune -o -type f -newer $stamp -print -quit)" ]; then
	exit 0
fi
if ! command -v npm >/dev/null; then
	echo "scripts/ui.sh: the web UI is not built without npm (Node 20.19 or newer)" >&2
	exit ${CI:+1}
fi
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
fi
npm run --silent build
touch $stamp
