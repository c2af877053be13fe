#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run.sh KIND [ARGUMENT...]: run `make test`, or make with these arguments, in a clone of the
# tree on another machine than this one, which mmdebstrap makes of Debian's packages:
#
#   bare      Debian 13 with git and make, by root, in /root
#   sudo      the same, by a user who may use sudo
#   person    Debian 13 with docker and podman as apt installs them, and a user with uid 1000, by root
#   bookworm  Debian 12, bare, by root
#   engines   Debian 12 with its docker, containerd, podman and buildah
#   sid       Debian's next release, bare, by root
#   3.9       a release of Debian's or Ubuntu's that has this Python, or another up to 3.15; by root, make python
#
# It is a root dir in namespaces of its own, with this machine's kernel and network. Roots are kept in
# .pytest_cache/elsewhere. It takes root, and mmdebstrap.
set -eu
umask 022

kinds='bare, sudo, person, bookworm, engines, sid, 3.9 to 3.15'
kind=${1:?$kinds}
shift
tree=$(cd "$(dirname "$0")/../.." && pwd)
list=$kind components=main
case $kind in
bare) suite=trixie more='' ;;
sudo) suite=trixie more='sudo' ;;
person) suite=trixie more='sudo docker.io podman systemd python3-yaml' ;;
bookworm | sid) suite=$kind more='' ;;
engines) suite=bookworm more='docker.io podman buildah uidmap' ;;
3.9) suite=bullseye ;;
3.10) suite=jammy components=main,universe ;;
3.11) suite=bookworm ;;
3.12) suite=noble components=main,universe ;;
3.13) suite=trixie ;;
3.14 | 3.15) suite=sid ;;
*)
	echo "run.sh: $kind is none of $kinds" >&2
	exit 2
	;;
esac
case $kind in
3.*)
	more="python$kind-venv python3-yaml runc crun patch binutils busybox-static gcc libc6-dev strace" list=''
	[ "$#" -gt 0 ] || set -- python "PYTHON=/usr/bin/python$kind"
	;;
esac
[ "$#" -gt 0 ] || set -- test
cache=$tree/.pytest_cache/elsewhere
base=$cache/$kind
packages="git make ca-certificates $more"
if [ "$(cat "$base.made" 2>/dev/null)" != "$suite $components $packages" ]; then
	rm -rf "$base"
	mkdir -p "$cache"
	recommends=false
	[ "$kind" != person ] || recommends=true
	# A mirror may be behind; sid's list of releases is valid for a week only. It is signed all the same.
	mmdebstrap --quiet --mode=root --variant=minbase --components="$components" --aptopt="APT::Install-Recommends $recommends" \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--include="$packages" "$suite" "$base"
	# A proxy's certificates, and how pip gets its packages here.
	cp /etc/ssl/certs/ca-certificates.crt "$base/etc/ssl/certs/"
	for file in /etc/pip.conf /etc/apt/apt.conf.d/*proxy*; do
		[ ! -f "$file" ] || cp "$file" "$base$file"
	done
	echo "$suite $components $packages" >"$base.made"
fi

work=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' HUP INT TERM
cp -a "$base" "$work/root"
cp /etc/resolv.conf "$work/root/etc/resolv.conf"
home=/root user=root
if [ "$kind" = sudo ] || [ "$kind" = person ]; then
	chroot "$work/root" useradd -m -s /bin/bash -u 1000 ann
fi
if [ "$kind" = sudo ]; then
	home=/home/ann user=ann
	echo 'ann ALL=(ALL) NOPASSWD: ALL' >"$work/root/etc/sudoers.d/ann"
fi
[ "$kind" != person ] || chroot "$work/root" systemd-machine-id-setup 2>/dev/null
chmod 700 "$work/root/root"
git -c safe.directory='*' clone -q "$tree" "$work/root$home/cdi-hook"
chroot "$work/root" chown -R "$user:" "$home/cdi-hook"

# shellcheck disable=SC2016 # the new shell expands it
unshare --mount --pid --fork --kill-child --propagation private sh -ec '
root=$1 home=$2 user=$3 list=$4
shift 4
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -m 1777 "$root/run/lock"
# Not a chroot: in one, nobody can make a user namespace.
cd "$root"
mkdir -p mnt/old
busybox pivot_root . mnt/old
exec chroot . sh -ec "umount -l /mnt/old; rmdir /mnt/old; exec \"\$@\"" sh setpriv --reuid "$user" --regid "$user" --init-groups \
	env -i HOME="$home" USER="$user" LOGNAME="$user" TERM=dumb CDI_HOOK_MACHINE="$list" \
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	sh -c "cd ~/cdi-hook && exec make \"\$@\"" make "$@"
' sh "$work/root" "$home" "$user" "$list" "$@"
