#!/bin/bash
# image-oracles.sh [DIR]: what pintle-image is compared with: umoci, skopeo, podman, containerd and docker-registry of
# Debian's newest suite that installs, in a root folder of their own, DIR/root (default: target/oracles/images of this
# checkout), with what test images are made with. tests/image-oracle runs a program in it. Nothing of the host changes.
# A second call does nothing; what an interrupted one left is thrown away.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(realpath -m "${1:-target/oracles/images}")
suites="sid forky"
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
packages=(umoci skopeo podman containerd docker-registry ca-certificates openssl apache2-utils)
# For tests/image-layouts.sh and bench/images: what a minimal system lacks.
packages+=(mmdebstrap attr libcap2-bin jq zstd procps util-linux e2fsprogs strace)

versions() { cat "$dir/versions"; }
[ ! -e "$dir/complete" ] || { versions; exit 0; }
[ "$(id -u)" = 0 ] || { echo "image-oracles: needs root: a root folder is bootstrapped" >&2; exit 1; }
.ci/need mmdebstrap mmdebstrap
mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
# Whoever had the lock before may have made it.
[ ! -e "$dir/complete" ] || { versions; exit 0; }

without=()
for path in man doc locale info; do without+=(--dpkgopt="path-exclude=/usr/share/$path/*"); done
bootstrap() {
	rm -rf "$dir/root.part"
	mmdebstrap --quiet --variant=minbase --format=directory "${without[@]}" \
		--aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Languages "none"' \
		--aptopt='APT::Install-Recommends "false"' --include="$(IFS=,; echo "${packages[*]}")" \
		"$1" "$dir/root.part" "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main" 9>&-
}
rm -rf "$dir/root"
for suite in $suites; do
	echo "image-oracles: Debian $suite into $dir/root" >&2
	if bootstrap "$suite"; then break; fi
	suite=
done
[ -n "$suite" ] || { echo "image-oracles: none of $suites installs" >&2; exit 1; }
rm -rf "$dir"/root.part/var/cache/apt/* "$dir"/root.part/var/lib/apt/lists/*
# Every image is taken, unsigned; the loopback registry may speak plain HTTP. Podman's own files go where tests say.
mkdir -p "$dir/root.part/etc/containers"
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$dir/root.part/etc/containers/policy.json"
for name in umoci skopeo podman containerd docker-registry; do
	chroot "$dir/root.part" dpkg-query -W -f '${Package} ${Version}\n' "$name"
done >"$dir/versions"
mv "$dir/root.part" "$dir/root"
touch "$dir/complete"
versions
