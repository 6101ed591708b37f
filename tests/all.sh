#!/bin/bash
# all.sh [everything]: the tests of pintle: format, lints, unit tests, conformance of target/release/pintle, images beside other
# programs, the shim under a private containerd, runc's own suite, in part natively and in part in the test machine; or everything that there is. A check of the first two kinds counts as
# one test. Each part says its seconds. Closes with one line, "N passed, N failed, N skipped", and fails if anything did.
set -u
cd "$(dirname "$0")/.." || exit 1
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0
everything=${1:-}

# A check: cargo's subcommand has to be there, and to be content.
check() {
	local start=$SECONDS
	echo "== cargo $*"
	if ! cargo "$1" --version >/dev/null 2>&1; then
		skip "cargo $1 is not installed: rustup component add rustfmt clippy"
	elif cargo "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
	echo "   $((SECONDS - start)) s"
}

skip() {
	echo "SKIP $*"
	skipped=$((skipped + 1))
}

# Tests that count themselves, in a closing line like ours or in libtest's. What fails without a count, as a build does, is
# one failure.
tests() {
	local before=$failed start=$SECONDS status counts
	echo "== $*"
	"$@" 2>&1 | tee "$log" | sed 's/^\([0-9]* passed, .*\)/   \1/'
	status=${PIPESTATUS[0]}
	counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped.*/\1 \2 \3/p' "$log")
	if [ -z "$counts" ]; then
		counts=$(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored;.*/\1 \2 \3/p' "$log")
		# libtest takes a test for passed that said SKIP and ended. Dots may stand before the word.
		counts+=$'\n'$(sed -nE 's/^[.]*SKIP .*/-1 0 1/p' "$log")
	fi
	while read -r p f s; do
		passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	done <<<"$counts"
	[ "$status" = 0 ] || [ "$failed" -gt "$before" ] || failed=$((failed + 1))
	echo "   $((SECONDS - start)) s"
}

# What must say nothing but that all is well.
program() {
	local start=$SECONDS
	echo "== $*"
	if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
	echo "   $((SECONDS - start)) s"
}

# The test machine's command: built by whoever calls, run as root.
vm() { "${as_root[@]}" target/x86_64-unknown-linux-gnu/debug/pintle-vm "$@"; }

# runc's files that want controllers which a hybrid host lacks in cgroup v2, or a raised hard limit: the fixed list for the
# machine. Everything else of runc's suite needs no more than this host's kernel.
in_machine="cgroups delete dev events exec rlimits run scheduler update"
# Of pintle's own tests, those that touch cgroups, and those for which the newer kernel makes a difference.
subjects="cgroup events exec lifecycle limits lsm mounts namespaces net_devices update"
# What depends on who makes the cgroup, once more with systemd: of pintle's own tests, and of runc's files.
by_systemd="systemd cgroup lifecycle"
units="cgroup_delegation delete dev pause"
natively() {
	local file
	for file in "${PINTLE_VM_CACHE:-target/vm}"/root/opt/suites/runc/tests/integration/*.bats; do
		file=$(basename "$file" .bats)
		[[ " $in_machine checkpoint cgroup_delegation " == *" $file "* ]] || echo "$file"
	done
}

machine_tests() {
	local start=$SECONDS
	echo "== cargo vm build"
	if ! { cargo build --quiet --package pintle-vm --package pintle-cgroups && vm build; }; then
		failed=$((failed + 1))
		return
	fi
	echo "   $((SECONDS - start)) s"
	if ! integration/suites/pintle/build; then
		failed=$((failed + 1))
		return
	fi
	tests vm suite pintle --user tester rootless
	tests "${as_root[@]}" integration/engines/run --machine
	tests "${as_root[@]}" integration/selinux/run
	if [ -z "$everything" ]; then
		# shellcheck disable=SC2046,SC2086 # lists of words
		{
			tests vm suite pintle $subjects
			tests vm suite runc --native $(natively)
			tests vm suite runc $in_machine
			tests vm suite pintle --driver systemd $by_systemd
			tests vm suite runc --driver systemd $units
			program "${as_root[@]}" integration/cgroups/run quick-cgroupfs quick-systemd
		}
		return
	fi
	local driver
	for driver in cgroupfs systemd; do
		tests vm suite pintle --driver $driver
		tests vm suite runc --driver $driver
	done
}

# A private containerd, of the host's suite and the newest; the Go shim beside ours only when everything is asked for.
engines() {
	local containerd
	for containerd in host newest; do
		tests "${as_root[@]}" integration/engines/run --threads 2 --containerd $containerd
		[ -z "$everything" ] || tests "${as_root[@]}" integration/engines/run --threads 2 --containerd $containerd --shim runc
	done
}

for need in "ip iproute2" "ps procps" "unshare util-linux" "strace strace" "busybox busybox-static"; do
	# Without them the tests that want them are skipped.
	.ci/need $need || true
done
image=runtime/init/image/Cargo.toml
check fmt --all --check
check fmt --manifest-path $image --check
check fmt --manifest-path fuzz/Cargo.toml --check
check clippy --quiet --workspace --all-targets -- -D warnings
# Its own harness is no test target of cargo test, and so not in the line above.
check clippy --quiet -p pintle-engines --test engines -- -D warnings
# What only init's image uses: the package outside the workspace, and the start of a program without libc.
check clippy --quiet --manifest-path $image --target-dir target/image -- -D warnings
check clippy --quiet -p pintle-sys --features entry -- -D warnings
check clippy --quiet --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -- -D warnings
tests cargo test --quiet --no-fail-fast --workspace --exclude pintle-tests --exclude pintle-image
tests fuzz/run --short
if [ "$(id -u)" = 0 ]; then
	as_root=()
	tests tests/run.sh pintle
	tests tests/undefended/run
	tests tests/images.sh
	engines
	machine_tests
elif sudo -n true 2>/dev/null; then
	as_root=(sudo -n env "PATH=$PATH" "HOME=$HOME")
	tests "${as_root[@]}" CARGO_TARGET_DIR=target/root tests/run.sh pintle
	tests "${as_root[@]}" CARGO_TARGET_DIR=target/root tests/undefended/run
	tests "${as_root[@]}" CARGO_TARGET_DIR=target/root tests/images.sh
	as_root+=(CARGO_TARGET_DIR=target/root)
	engines
	machine_tests
else
	skip "conformance, images, the machine: need root, or sudo without a password"
	tests cargo test --quiet --no-fail-fast -p pintle-image --lib
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
