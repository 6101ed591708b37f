#!/bin/bash
# all.sh: every test of pintle: format, lints, unit tests, conformance of target/release/pintle. A check of the first two
# kinds counts as one test. Closes with one line, "N passed, N failed, N skipped", and fails if anything did.
set -u
cd "$(dirname "$0")/.." || exit 1
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0

# A check: cargo's subcommand has to be there, and to be content.
check() {
	echo "== cargo $*"
	if ! cargo "$1" --version >/dev/null 2>&1; then
		skip "cargo $1 is not installed: rustup component add rustfmt clippy"
	elif cargo "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
}

skip() {
	echo "SKIP $*"
	skipped=$((skipped + 1))
}

# Tests that count themselves, in a closing line like ours or in libtest's. What fails without a count, as a build does, is
# one failure.
tests() {
	local before=$failed status counts
	echo "== $*"
	"$@" 2>&1 | tee "$log" | sed 's/^\([0-9]* passed, .*\)/   \1/'
	status=${PIPESTATUS[0]}
	counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped.*/\1 \2 \3/p' "$log")
	[ -n "$counts" ] ||
		counts=$(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored;.*/\1 \2 \3/p' "$log")
	while read -r p f s; do
		passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	done <<<"${counts:-0 0 0}"
	[ "$status" = 0 ] || [ "$failed" -gt "$before" ] || failed=$((failed + 1))
}

for need in "ip iproute2" "ps procps" "unshare util-linux"; do
	# Without them the tests that want them are skipped.
	.ci/need $need || true
done
image=runtime/init/image/Cargo.toml
check fmt --all --check
check fmt --manifest-path $image --check
check clippy --quiet --workspace --all-targets -- -D warnings
# What only init's image uses: the package outside the workspace, and the start of a program without libc.
check clippy --quiet --manifest-path $image --target-dir target/image -- -D warnings
check clippy --quiet -p pintle-sys --features entry -- -D warnings
tests cargo test --quiet --no-fail-fast --workspace --exclude pintle-tests
if [ "$(id -u)" = 0 ]; then
	tests tests/run.sh pintle
elif sudo -n true 2>/dev/null; then
	tests sudo -n env "PATH=$PATH" "HOME=$HOME" CARGO_TARGET_DIR=target/root tests/run.sh pintle
else
	skip "conformance: needs root, or sudo without a password"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
