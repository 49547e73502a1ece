#!/usr/bin/env bash
# Fuzzes every Fuzz function of the repository for the given time each
# (default 30s). New inputs that fail are left in the package's testdata.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}
grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do
  dir=$(dirname "$file")
  grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | awk '{print $2}' | while read -r name; do
    echo "== $dir $name"
    go test "$dir" -run='^$' -fuzz="^$name\$" -fuzztime="$time"
  done
done
