#!/bin/bash
# image-layouts.sh [DIR]: the images that pintle-image is tested and measured with, made once from Debian's packages into DIR
# (default: target/oracles/image-layouts of this checkout), by the programs of tests/image-oracles.sh:
#   deb    a Debian with compilers, 5 gzip layers, about 800 MiB; tags base, py, dev, edit, full. Layer 4 holds what is rare:
#          whiteouts, opaque folders, changed types, xattrs, links, nodes, odd names, times and owners
#   small  more than 50,000 small files in one gzip layer
#   zstd   3 zstd layers: deb's first two, and its fourth
#   zstd-docker.tar, zstd-oci.tar   the same by skopeo, as archives
# As container builders do, a layer is what overlayfs wrote, with the entries of the folders above. From the same packages
# come the same digests: times after a fixed day are that day. A second call does nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
day=1767225600 # 2026-01-01
suite=trixie
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
source_line="deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"

if [ "${1:-}" != --inside ]; then
	dir=$(realpath -m "${1:-$here/../target/oracles/image-layouts}")
	[ ! -e "$dir/complete" ] || exit 0
	[ "$(id -u)" = 0 ] || { echo "image-layouts: needs root: systems are bootstrapped" >&2; exit 1; }
	"$here/image-oracles.sh" >/dev/null
	mkdir -p "$dir"
	exec 9>"$dir/lock"
	flock 9
	[ ! -e "$dir/complete" ] || exit 0
	rm -rf "$dir/work"
	"$here/image-oracle" env DEBIAN_MIRROR="$mirror" bash "$(realpath "$0")" --inside "$dir" 9>&-
	rm -rf "$dir/work"
	touch "$dir/complete"
	exit 0
fi
dir=$2
work=$dir/work
start=$(date +%s)
umask 022

# merged LAYER…: an overlay of the named layers' folders (top last), at $work/merged; what is written goes into the last.
merged() {
	local lower='' name
	for name in "${@:1:$#-1}"; do lower=$work/$name${lower:+:$lower}; done
	mkdir -p "$work/${!#}" "$work/overlay" "$work/merged"
	mount -t overlay -o "lowerdir=$lower,upperdir=$work/${!#},workdir=$work/overlay,redirect_dir=off,metacopy=off,index=off" \
		overlay "$work/merged"
}

# install PACKAGE…: into merged, and nothing but the packages.
install() {
	local root=$work/merged
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	cp /run/resolv.conf "$root/etc/resolv.conf"
	(
		export DEBIAN_FRONTEND=noninteractive SOURCE_DATE_EPOCH=$day
		chroot "$root" apt-get -qq -o Acquire::Languages=none update
		chroot "$root" apt-get -qq -y --no-install-recommends install "$@"
	) >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
	umount -R "$root/proc" "$root/dev"
	clean "$root"
}

# What says when and where, and what can be fetched again.
clean() {
	rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/cache/ldconfig/* "$1"/var/log/* "$1"/var/lib/dpkg/*-old \
		"$1"/tmp/* "$1"/run/* "$1"/etc/resolv.conf
	find "$1/usr" -name '*.pyc' -newermt "@$day" -delete
}

# pack NAME: the layer that overlayfs left in a folder, as NAME.tar. Its marks become whiteouts, and no folder's time moves.
pack() {
	local upper=$work/$1 path
	find "$upper" -newermt "@$start" -exec touch -h -d "@$day" {} +
	find "$upper" -type c -printf '%h\0%p\0' | while IFS= read -r -d '' folder && IFS= read -r -d '' path; do
		[ "$(stat -c %t:%T "$path")" = 0:0 ] || continue
		touch -r "$folder" "$work/time"
		rm "$path"
		touch -d "@$day" "$folder/.wh.${path##*/}"
		touch -r "$work/time" "$folder"
	done
	# It fails because of all that is not opaque.
	{ getfattr -R -P -h --absolute-names -n trusted.overlay.opaque "$upper" 2>/dev/null || true; } | sed -n 's/^# file: //p' |
		while read -r path; do
			touch -r "$path" "$work/time"
			touch -d "@$day" "$path/.wh..wh..opq"
			touch -r "$work/time" "$path"
		done
	# After its neighbours, in one folder: the order must not matter.
	{
		# A whole system says what its root is like; a change of it does not.
		[ "$1" != base ] || echo .
		(cd "$upper" && find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort)
	} | awk '$0 == "etc/opaque-late/.wh..wh..opq" { late = $0; next } { print } END { if (late) print late }' >"$work/names"
	tar -C "$upper" --format=pax --pax-option=delete=atime,delete=ctime --numeric-owner --no-recursion \
		--xattrs --xattrs-include='user.*' --xattrs-include=security.capability \
		--verbatim-files-from -T "$work/names" -cf "$work/$1.tar"
}

# blob LAYOUT: standard input becomes a blob; its digest and size go to standard output.
blob() {
	local path=$dir/$1.part/blobs/sha256 sum
	sum=$(tee "$path/part" | sha256sum | cut -d' ' -f1)
	mv "$path/part" "$path/$sum"
	echo "sha256:$sum $(stat -c %s "$path/$sum")"
}

descriptor() { printf '{"mediaType":"application/vnd.oci.image.%s","digest":"%s","size":%s%s}' "$@"; }

# image LAYOUT TAG gzip|zstd LAYER…: adds an image of packed layers to a layout.
image() {
	local layout=$1 tag=$2 with=$3 name layers='' ids='' history='' config manifest
	mkdir -p "$dir/$layout.part/blobs/sha256"
	echo '{"imageLayoutVersion":"1.0.0"}' >"$dir/$layout.part/oci-layout"
	for name in "${@:4}"; do
		local known=$work/$layout-$name.descriptor
		if [ ! -e "$known" ]; then
			local compress=(gzip -n -6)
			[ "$with" = gzip ] || compress=(zstd -q -3)
			# shellcheck disable=SC2046 # two words
			descriptor "layer.v1.tar+$with" $("${compress[@]}" <"$work/$name.tar" | blob "$layout") '' >"$known"
			sha256sum "$work/$name.tar" | cut -d' ' -f1 >"$work/$name.id"
		fi
		layers+=${layers:+,}$(cat "$known")
		ids+=${ids:+,}\"sha256:$(cat "$work/$name.id")\"
		history+=${history:+,}'{"created":"2026-01-01T00:00:00Z","created_by":"'$name'"}'
	done
	config=$(printf '{"created":"2026-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{%s},"rootfs":{"type":"layers","diff_ids":[%s]},"history":[%s]}' \
		'"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","LANG=C.UTF-8"],"Cmd":["/bin/bash"],"WorkingDir":"/root","Labels":{"name":"'"$layout"'"}' \
		"$ids" "$history" | blob "$layout")
	# shellcheck disable=SC2086 # two words
	manifest=$(printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
		"$(descriptor config.v1+json $config '')" "$layers" | blob "$layout")
	# shellcheck disable=SC2086 # two words
	descriptor manifest.v1+json $manifest ',"annotations":{"org.opencontainers.image.ref.name":"'"$tag"'"}' >>"$work/$layout.index"
	echo >>"$work/$layout.index"
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}\n' \
		"$(paste -sd, "$work/$layout.index")" >"$dir/$layout.part/index.json"
}

done_with() {
	rm -rf "${dir:?}/$1"
	mv "$dir/$1.part" "$dir/$1"
}

say() { echo "image-layouts: $*" >&2; }

# What the fourth layer changes, in the merged tree. Times and owners are set last where a change would move them.
edit() {
	local long name
	cd "$work/merged"
	# Gone: a folder of each layer below, files, a link; a folder that comes back, and a file that the next layer brings back.
	rm -r usr/share/bug usr/share/lintian usr/lib/git-core/mergetools usr/share/gdb 2>/dev/null || true
	rm usr/bin/git-shell etc/debian_version usr/bin/pdebuild 2>/dev/null || true
	rm -r etc/skel
	# Opaque: removed with all that it held, and made anew.
	for name in early late; do
		rm -r "etc/opaque-$name"
		mkdir -m 750 "etc/opaque-$name" "etc/opaque-$name/folder"
		echo new >"etc/opaque-$name/new"
		echo "again, in another way" >"etc/opaque-$name/both"
	done
	# Other types: folder to file, file to folder, folder to link, link to folder, file to link, link to file, file to fifo.
	cd opt/types
	rm -r folder-file folder-link file-folder file-link file-fifo link-folder link-file
	echo "a folder before" >folder-file
	mkdir file-folder link-folder
	echo inside | tee file-folder/inside >link-folder/inside
	ln -s /usr folder-link
	ln -s kept file-link
	echo "a link before" >link-file
	mkfifo -m 640 file-fifo
	cd ../..
	mkdir -p opt/odd/nodes
	cd opt/odd
	# Capabilities and xattrs: of new files, of a file and a folder of the layers below.
	cp ../../usr/bin/true capable
	setcap cap_net_raw,cap_net_bind_service+ep capable
	setcap cap_chown+ei ../../usr/bin/tac
	echo text >attributes
	setfattr -n user.text -v 'with = and
a line' attributes
	setfattr -n user.binary -v 0x00ff3d0a00 attributes
	setfattr -n user.empty attributes
	setfattr -n user.folder -v one ../../etc/default
	# Links: among new files, to a link, and a second name for a file of the first layer.
	echo three >links-1
	ln links-1 links-2
	ln links-1 nodes/links-3
	ln -s ../nowhere symbolic-1
	ln symbolic-1 symbolic-2
	ln ../../usr/bin/perl perl-by-another-name
	# Content: zeros in full, nothing at all.
	dd if=/dev/zero of=zeros bs=1M count=64 status=none
	: >empty
	# Nodes.
	mkfifo -m 622 nodes/fifo
	mknod -m 640 nodes/character c 1 3
	mknod -m 600 nodes/block b 7 200
	# Names: more than 300 characters, 255 bytes, no text, what a shell would mind, what looks like an option.
	long=$(printf 'a-name-of-forty-characters-and-a-number-')
	name=long
	for i in 1 2 3 4 5 6 7 8; do name+=/$long$i; done
	mkdir -p "$name"
	echo deep >"$name/file"
	ln "$name/file" "$name/link-by-a-long-name"
	ln -s "$name/file" long-target
	echo wide >"$(printf 'w%.0s' {1..255})"
	echo bytes >$'latin-1-\xe9'
	echo text >'größe-日本語'
	echo quoted >'$HOME "and" \n *'
	echo option >-rf
	# Modes.
	mkdir sticky closed
	for mode in 0000 0444 2755 4755 6711; do
		echo "$mode" >"mode-$mode"
		chmod "$mode" "mode-$mode"
	done
	chmod 1777 sticky
	chmod 000 closed
	# Owners, of links too, and numbers beyond what octal digits hold; a change of owner alone, and of mode alone.
	echo own >owner-daemon
	echo own >owner-large
	ln -s owner-daemon owner-link
	chown 1:65534 owner-daemon
	chown 3000000:4000000 owner-large
	chown -h 1000:100 owner-link
	chown 33:33 ../../var/mail
	chmod 700 ../../usr/share/perl
	chmod 6755 mode-6711
	# Times: to the nanosecond, before 1970, after 2038, of a link and of a folder.
	echo time >time-ns
	echo time >time-early
	echo time >time-late
	ln -s time-ns time-link
	mkdir time-folder
	echo time >time-folder/file
	touch -d '2025-03-04 05:06:07.123456789 UTC' time-ns
	touch -h -d '2025-03-04 05:06:07.000000001 UTC' time-link
	touch -d '1969-12-31 23:59:58.25 UTC' time-early
	touch -d '2106-02-07 06:28:17.5 UTC' time-late
	touch -d '2024-02-29 00:00:00.999999999 UTC' time-folder ../../usr/share/perl
	cd "$work"
}

# What the first layer gets for the fourth to change.
prepare() {
	local name
	for name in early late; do
		mkdir -p "etc/opaque-$name/lower/deep"
		echo lower | tee "etc/opaque-$name/lower/deep/file" "etc/opaque-$name/both" >"etc/opaque-$name/old"
	done
	mkdir -p opt/types/{folder-file,folder-link}/with/content
	cd opt/types
	echo file | tee folder-file/with/content/file folder-link/file file-folder file-link file-fifo >kept
	ln -s folder-file link-folder
	ln -s kept link-file
	cd ../..
	echo first >opt/returns
}

make_deb() {
	say "deb: base"
	mmdebstrap --quiet --variant=minbase --format=directory --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
		--include=ca-certificates,netbase,passwd,tzdata $suite "$work/base" "$source_line"
	(cd "$work/base" && prepare)
	clean "$work/base"
	pack base
	say "deb: py"
	merged base py
	install git python3-pip python3-venv perl
	umount "$work/merged"
	pack py
	say "deb: dev"
	merged base py dev
	install build-essential gdb cmake valgrind
	umount "$work/merged"
	pack dev
	say "deb: edit"
	merged base py dev edit
	(edit)
	rm "$work/merged/opt/returns"
	umount "$work/merged"
	pack edit
	say "deb: full"
	merged base py dev edit full
	echo back >"$work/merged/opt/returns"
	install vim curl strace
	umount "$work/merged"
	pack full
	say "deb: layout"
	image deb base gzip base
	image deb py gzip base py
	image deb dev gzip base py dev
	image deb edit gzip base py dev edit
	image deb full gzip base py dev edit full
	done_with deb
}

make_small() {
	say "small"
	mkdir -p "$work/small/usr/share/small" "$work/debs/lists/partial" "$work/debs/archives/partial"
	cd "$work/debs"
	echo "$source_line" >sources.list
	local options=(-qq -o "Dir::State=$work/debs" -o "Dir::State::lists=$work/debs/lists" -o "Dir::Cache=$work/debs"
		-o "Dir::Etc::sourcelist=$work/debs/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Acquire::Languages=none
		-o APT::Sandbox::User=root)
	apt-get "${options[@]}" update
	apt-get "${options[@]}" download golang-1.24-src rust-src libboost1.83-dev \
		"$(apt-cache "${options[@]}" search --names-only '^linux-headers-6.*-common$' | cut -d' ' -f1 | sort -V | tail -1)"
	for deb in *.deb; do
		mkdir -p "$work/small/usr/share/small/${deb%%_*}"
		dpkg-deb --fsys-tarfile "$deb" | tar -C "$work/small/usr/share/small/${deb%%_*}" -x
	done
	cd "$work"
	find "$work/small" -type f -size +4k -delete
	find "$work/small" -type d -empty -delete
	pack small
	image small latest gzip small
	done_with small
}

make_zstd() {
	say "zstd"
	image zstd latest zstd base py edit
	done_with zstd
	skopeo copy --quiet "oci:$dir/zstd:latest" "docker-archive:$dir/zstd-docker.tar:pintle.test/zstd:latest"
	skopeo copy --quiet "oci:$dir/zstd:latest" "oci-archive:$dir/zstd-oci.tar:latest"
}

mkdir -p "$work"
cd "$work"
rm -rf "$dir"/{deb,small,zstd}.part "$dir"/zstd-{docker,oci}.tar
make_deb
make_small
make_zstd
