#!/bin/bash
# engine-oracles.sh [DIR]: the containerds that integration/engines starts, in DIR (default: target/oracles/engines of this
# checkout): DIR/host/bin of the host's own Debian suite, DIR/newest/bin the newest that any suite has; each with its ctr and
# its containerd-shim-runc-v2, and DIR/busybox, a static one for images. The packages are unpacked, never installed; apt
# runs with a configuration and lists of its own. A second call does nothing; what an interrupted one left is thrown away.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath -m "${1:-target/oracles/engines}")
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
# shellcheck source=/dev/null
host=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
suites="$host forky sid experimental"

versions() { cat "$dir/versions"; }
[ ! -e "$dir/complete" ] || { versions; exit 0; }
.ci/need dpkg-deb dpkg
.ci/need apt-get apt
mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
# Whoever had the lock before may have made it.
[ ! -e "$dir/complete" ] || { versions; exit 0; }

work=$dir/part
rm -rf "$work" "$dir/host" "$dir/newest" "$dir/busybox"
mkdir -p "$work"/{state/lists/partial,cache,debs}
touch "$work/status"
# The host's proxy, if it has one, is all that is taken from its configuration.
apt-config dump Acquire::http Acquire::https >"$work/apt.conf"
cat >>"$work/apt.conf" <<CONF
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "$work/preferences";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$work/state";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Log "$work";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Debug::NoLocking "true";
CONF
for suite in $suites; do
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >"$work/sources.list"
# experimental is never chosen by itself: here the highest version wins, wherever it stands.
printf 'Package: containerd\nPin: release *\nPin-Priority: 990\n' >"$work/preferences"
export APT_CONFIG=$work/apt.conf
echo "engine-oracles: reading the lists of $suites" >&2
apt-get -qq update 9>&-

# fetch NAME PACKAGE: its package as DIR/part/NAME.deb, its tree as DIR/part/NAME.
fetch() {
	(cd "$work/debs" && apt-get -qq download "$2" 9>&-)
	mv "$work"/debs/*.deb "$work/$1.deb"
	dpkg-deb -x "$work/$1.deb" "$work/$1"
}
fetch host "containerd/$host"
fetch newest containerd
fetch busybox "busybox-static/$host"
cp "$(find "$work/busybox" -type f -path "*bin/busybox" -print -quit)" "$dir/busybox"
for name in host newest; do
	mkdir -p "$dir/$name/bin"
	cp "$work/$name"/usr/bin/{containerd,ctr,containerd-shim-runc-v2} "$dir/$name/bin/"
	# Programs of a newer suite may want a newer C library than the host's.
	"$dir/$name/bin/containerd" --version >/dev/null ||
		{ echo "engine-oracles: the $name containerd does not run on this host" >&2; exit 1; }
	echo "$name: containerd $(dpkg-deb -f "$work/$name.deb" Version)"
done >"$work/versions"
mv "$work/versions" "$dir/versions"
rm -rf "$work"
touch "$dir/complete"
versions
