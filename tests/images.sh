#!/bin/bash
# images.sh [TEST]: the tests of pintle-image, as root, beside umoci, skopeo, podman, containerd and docker-registry, which are
# unpacked into target/oracles first. Closes with one line, "N passed, N failed, N skipped": a test that lacks something
# says SKIP and why, and counts as skipped.
set -u
cd "$(dirname "$0")/.." || exit 1
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
[ "$(id -u)" = 0 ] || { echo "images: needs root: trees have owners" >&2; exit 1; }
.ci/need strace strace || true
if ! { tests/image-oracles.sh >/dev/null && tests/image-layouts.sh; }; then
	echo "SKIP comparisons with other programs: they can't be unpacked here" >&2
fi
cargo test --quiet --no-fail-fast -p pintle-image -- --show-output "$@" >"$log" 2>&1
status=$?
# What passed says nothing but why it was skipped.
grep -E '^SKIP ' "$log"
[ "$status" = 0 ] || sed -n '/^failures:$/,$p' "$log"
read -r passed failed skipped < <(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored;.*/\1 \2 \3/p' "$log" |
	awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }')
said=$(grep -cE '^SKIP ' "$log")
[ "$status" = 0 ] || [ "$failed" -gt 0 ] || { tail -40 "$log"; failed=1; }
echo "$((passed - said)) passed, $failed failed, $((skipped + said)) skipped"
exit "$status"
