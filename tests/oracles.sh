#!/bin/bash
# oracles.sh [DIR]: unpacks the newest runc and crun that any Debian suite has, with their libraries, into DIR (default:
# target/oracles of this checkout) and makes them runnable as DIR/bin/runc and DIR/bin/crun. They are real binaries, not
# wrappers: patchelf gives each the interpreter and libraries of its own folder, so argv[0], /proc/self/exe and timings are
# theirs. apt runs with a configuration and state of its own; the host's packages and lists are neither read nor changed.
# A second call does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath -m "${1:-target/oracles}")
suites="bookworm trixie forky sid experimental"
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

versions() {
	for name in runc crun; do
		printf '%s: %s (%s)\n' "$name" "$("$dir/bin/$name" --version | head -1)" "$(cat "$dir/$name.version")"
	done
}
# One call at a time makes them; who waited finds them made.
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9
if [ -e "$dir/complete" ]; then
	versions
	exit 0
fi
for tool in apt-get apt-cache dpkg-deb; do
	command -v "$tool" >/dev/null || { echo "oracles: $tool is missing: only a Debian-like host can unpack the oracles" >&2; exit 1; }
done
rm -rf "$dir"
mkdir -p "$dir"/{bin,root,debs/partial,apt/state/lists/partial,apt/cache}
touch "$dir/apt/status"

# The host's proxy, if it has one, is all that is taken from its configuration.
apt-config dump Acquire::http Acquire::https >"$dir/apt/apt.conf"
cat >>"$dir/apt/apt.conf" <<CONF
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "$dir/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "$dir/apt/preferences";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$dir/apt/state";
Dir::State::status "$dir/apt/status";
Dir::Cache "$dir/apt/cache";
Dir::Cache::archives "$dir/debs";
Dir::Log "$dir/apt";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Debug::NoLocking "true";
CONF
for suite in $suites; do
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >"$dir/apt/sources.list"
# experimental is never chosen by itself: here the highest version wins, wherever it stands.
printf 'Package: runc crun\nPin: release *\nPin-Priority: 990\n' >"$dir/apt/preferences"

export APT_CONFIG=$dir/apt/apt.conf
echo "oracles: reading the lists of $suites" >&2
apt-get -qq update
apt-get -qq -y --download-only install runc crun patchelf >"$dir/apt/log" 2>&1 || { cat "$dir/apt/log" >&2; exit 1; }
for deb in "$dir"/debs/*.deb; do
	case $(basename "$deb") in
	# What the three programs load, and nothing else that a whole system would need.
	runc_* | crun_* | patchelf_* | lib*) dpkg-deb -x "$deb" "$dir/root" ;;
	esac
done

loader=$(find "$dir/root" -name 'ld-linux-x86-64.so.2' | head -1)
libraries=$dir/root/usr/lib/x86_64-linux-gnu:$dir/root/lib/x86_64-linux-gnu
patchelf() { "$loader" --library-path "$libraries" "$dir/root/usr/bin/patchelf" "$@"; }
for name in runc crun; do
	binary=$(find "$dir/root" -type f -path "*bin/$name")
	# A DT_RPATH, not a DT_RUNPATH: it also serves the libraries' own dependencies.
	patchelf --force-rpath --set-interpreter "$loader" --set-rpath "$libraries" --output "$dir/bin/$name" "$binary"
	dpkg-deb -f "$dir"/debs/${name}_*.deb Version >"$dir/$name.version"
done
rm -rf "$dir/apt/state" "$dir/apt/cache" "$dir/debs"
versions
touch "$dir/complete"
