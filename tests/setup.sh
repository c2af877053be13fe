#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# setup.sh demo|check|unit|test|machine|elsewhere|fuzz|coverage|mutation|bench|deb|rpm|wheel|release: install
# what the make target of that name needs, if it is missing. Programs are installed with
# apt-get. Python tools are installed into .venv, at the releases that tests/pins
# has; `test` makes a second environment, .venv/3.X, for every other Python that it
# tests on. With CI=true, an optional package that can't be installed is an error.
set -eu

cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
pythons='3.11 3.13' # `test` tests on those that are installed

say() { echo "setup: $*" >&2; }
die() {
	say "$*"
	exit 1
}
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "not root, and no sudo: can't run $*"
	fi
}

is_new() { "$1" -c 'import tomllib' 2>/dev/null; }
# Whether a Python runs (a version manager's stub may not), can make virtual environments, and is new enough.
works() {
	"$1" -c 'import ensurepip, sys, tomllib, venv; sys.exit(sys.argv[1:] not in ([], ["%d.%d" % sys.version_info[:2]]))' \
		${2:+"$2"} 2>/dev/null
}
find_python() {
	for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
		works "$python" && return
	done
	return 1
}

# Whether a package is present; the argument is Debian's name for it.
present() {
	case $1 in
	apt-utils) command -v apt-ftparchive >/dev/null ;;
	busybox-static) busybox true 2>/dev/null && ! ldd "$(command -v busybox)" 2>/dev/null | grep -q '=>' ;;
	libcriu2) ldconfig -p | grep -q 'libcriu\.so\.2' ;;
	libc6-dev) [ -e /usr/include/stdio.h ] ;;
	createrepo-c) command -v createrepo_c >/dev/null ;;
	debhelper) command -v dh >/dev/null ;;
	dh-python) command -v dh_python3 >/dev/null ;;
	docker.io) command -v dockerd >/dev/null ;;
	docker-cli) command -v docker >/dev/null ;;
	docker-compose) docker compose version >/dev/null 2>&1 ;;
	e2fsprogs) command -v mke2fs >/dev/null ;;
	erofs-utils) command -v mkfs.erofs >/dev/null ;;
	groff-base) command -v groff >/dev/null ;;
	qemu-system-arm) command -v qemu-system-aarch64 >/dev/null ;;
	qemu-system-x86) command -v qemu-system-x86_64 >/dev/null ;;
	qemu-utils) command -v qemu-img >/dev/null ;;
	rpm) command -v rpmbuild >/dev/null ;;
	squashfs-tools) command -v mksquashfs >/dev/null ;;
	systemd) command -v systemd-analyze >/dev/null ;;
	systemd-container) command -v systemd-nspawn >/dev/null ;;
	iproute2) command -v ip >/dev/null ;;
	ubuntu-keyring) [ -e /usr/share/keyrings/ubuntu-archive-keyring.gpg ] ;;
	udev) command -v udevadm >/dev/null ;;
	uidmap) command -v newuidmap >/dev/null ;;
	python3) /usr/bin/python3 -c '' 2>/dev/null ;;
	python3-venv) works /usr/bin/python3 || { ! is_new /usr/bin/python3 && { find_python || present python3; }; } ;;
	python3-yaml) /usr/bin/python3 -c 'import yaml' 2>/dev/null ;;
	python3-tomli) ! present python3 || is_new /usr/bin/python3 || /usr/bin/python3 -c 'import tomli' 2>/dev/null ;;
	python3-pythonjsonlogger) /usr/bin/python3 -c 'import pythonjsonlogger' 2>/dev/null ;;
	*) command -v "$1" >/dev/null ;;
	esac
}
missing_of() {
	for package; do
		present "$package" || printf ' %s' "$package"
	done
}
known() { apt-cache show "$1" >/dev/null 2>&1; }
apt() {
	as_root env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes \
		apt-get -qq -o DPkg::Lock::Timeout=300 "$@" </dev/null >/dev/null
}
no_lists() { ! find /var/lib/apt/lists -name '*_Packages*' 2>/dev/null | grep -q .; }
install_packages() {
	say "installing $*"
	apt install --no-install-recommends "$@" 2>/dev/null && return
	# the package lists may be old or missing
	apt update && apt install --no-install-recommends "$@"
}

# have "needed packages" "optional packages"
have() {
	# shellcheck disable=SC2086 # words
	needed=$(missing_of $1) wished=$(missing_of $2)
	[ "$needed$wished" ] || return 0
	command -v apt-get >/dev/null || die "no apt-get to install these packages of Debian's:$needed$wished"
	if [ "$wished" ] && no_lists; then
		apt update || say "can't update the list of packages"
	fi
	for package in $wished; do
		if known "$package"; then
			needed="$needed $package"
		elif [ "$package" = docker-cli ]; then
			: # before Debian 13, docker.io contains it
		elif [ "${CI:-}" = true ]; then
			die "CI is set, and there is no package $package here"
		else
			say "there is no package $package here: tests that need it are skipped"
		fi
	done
	[ "$needed" ] || return 0
	# shellcheck disable=SC2086
	install_packages $needed
	# shellcheck disable=SC2086
	still=$(missing_of $needed)
	[ -z "$still" ] || die "still missing after the installation:$still"
}

# make_venv PYTHON DIRECTORY [NAMES]: make a virtual environment with exactly the packages that tests/pins/NAME.txt
# have ("dev" if there are no names)
make_venv() {
	pins=$("$1" -c 'import sys; print("#", *sys.version.split())' &&
		for name in ${3:-dev}; do sed 's/ *#.*//; /^$/d' "tests/pins/$name.txt"; done)
	[ "$pins" = "$(cat "$2/pins" 2>/dev/null)" ] && "$2/bin/python" -c '' 2>/dev/null && return
	say "making $2"
	"$1" -m venv --clear "$2"
	echo "$pins" >"$2/pins.new"
	"$2/bin/python" -m pip install -q --disable-pip-version-check --no-deps -r "$2/pins.new"
	"$2/bin/python" -m pip check --disable-pip-version-check >/dev/null || die "$2: the pinned packages don't fit"
	mv "$2/pins.new" "$2/pins"
}
main_venv() {
	find_python || die "there is no Python 3.11 or newer that can make virtual environments"
	make_venv "$python" "${1:-.venv}" "${2:-dev}"
}

case ${1:-} in
demo)
	have 'python3 python3-yaml runc busybox-static' ''
	;;
check)
	have 'python3-venv shellcheck' ''
	main_venv
	;;
unit)
	have 'python3 python3-yaml python3-venv git busybox-static gcc libc6-dev patch' ''
	main_venv
	;;
deb)
	have 'git python3 python3-yaml debhelper dh-python' ''
	;;
rpm)
	have 'git python3 python3-yaml rpm' ''
	;;
wheel)
	have 'git python3-venv' ''
	main_venv
	;;
release)
	have 'python3-venv apt-utils buildah createrepo-c gpg gpg-agent rpm' ''
	main_venv .venv/release release
	;;
fuzz | coverage | mutation)
	have 'python3 python3-yaml python3-venv gcc libc6-dev' 'busybox-static runc crun runsc strace'
	main_venv .venv/deep 'dev deep'
	;;
bench)
	have 'python3 python3-yaml python3-pythonjsonlogger python3-venv gcc libc6-dev git' 'busybox-static'
	main_venv .venv/bench 'dev bench'
	;;
test)
	# Installing a container engine starts services, so only CI's machines get engines.
	engines=
	[ "${CI:-}" != true ] || engines='containerd docker.io docker-cli docker-compose podman buildah uidmap criu libcriu2'
	have 'python3 python3-yaml python3-pythonjsonlogger python3-tomli python3-venv git runc crun busybox-static gcc libc6-dev iproute2 patch' \
		"runsc debhelper dh-python lintian rpm rpmlint gpg gpg-agent apt-utils createrepo-c dnf curl groff-base systemd systemd-container mmdebstrap udev logrotate strace valgrind zsh fish \
e2fsprogs erofs-utils rsync squashfs-tools $engines"
	main_venv
	for version in $pythons; do
		works .venv/bin/python "$version" && continue
		for python in "/usr/bin/python$version" "python$version"; do
			if works "$python" "$version"; then
				make_venv "$python" ".venv/$version"
				break
			fi
		done
	done
	;;
machine)
	have 'python3 python3-yaml python3-venv git debhelper dh-python busybox-static e2fsprogs mmdebstrap qemu-system-arm qemu-system-x86 qemu-utils' ''
	main_venv
	;;
elsewhere)
	have 'git mmdebstrap busybox-static' 'ubuntu-keyring'
	;;
*)
	die "usage: setup.sh demo|check|unit|test|machine|elsewhere|fuzz|coverage|mutation|bench|deb|rpm|wheel|release"
	;;
esac
