# What the recipes share: the mirror and apt's words for suites newer than the host's. Sourced by qemu and root.
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
# deb SUITE: a line of sources.list.
deb() { echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main"; }
# Lists of a moving suite may be past their date where the clock is ahead of the mirror.
apt=(
	--aptopt='Acquire::Check-Valid-Until "false"'
	--aptopt='Acquire::Languages "none"'
	--aptopt='APT::Install-Recommends "false"'
)
"$(dirname "${BASH_SOURCE[0]}")/../../../.ci/need" mmdebstrap mmdebstrap
