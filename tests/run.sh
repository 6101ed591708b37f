#!/bin/bash
# run.sh [pintle|runc|crun] [TEST…]: the conformance tests on one runtime, then the tests that compare the whole machine,
# and a closing line that counts behaviours. pintle runs on the host as it is; the oracles need the private view of pure
# cgroup v2. The comparing tests always run in a view of their own, and one by one.
set -u
cd "$(dirname "$0")/.."
runtime=${1:-pintle}
shift
export RUNTIME_UNDER_TEST=$runtime RUST_BACKTRACE=0 PINTLE_TESTS_VERDICTS
PINTLE_TESTS_VERDICTS=$(mktemp) || exit 1
trap 'rm -f "$PINTLE_TESTS_VERDICTS"' EXIT

cargo test --quiet -p pintle-tests --no-run || exit 1
case $runtime in
pintle) view=() ;;
runc | crun) make --quiet oracles && view=(bench/private-v2) || exit 1 ;;
*) echo "run.sh: $runtime: pintle, runc or crun" >&2; exit 2 ;;
esac

status=0
# Nothing that a test leaves may hold the streams of whoever reads the result.
"${view[@]}" cargo test --quiet -p pintle-tests --test conformance -- "$@" || status=1
tests/alone cargo test --quiet -p pintle-tests --test leaks -- --test-threads=1 "$@" || status=1

count() { grep -c "^$1 " "$PINTLE_TESTS_VERDICTS"; }
grep -E '^(FAIL|SKIP) ' "$PINTLE_TESTS_VERDICTS"
echo "$("target/oracles/bin/$runtime" --version 2>/dev/null | head -1 || true)" | grep . || echo "$runtime"
echo "$(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped, $(count DIFFERS) differ as listed"
exit $status
