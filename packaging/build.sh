#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# build.sh deb|rpm|wheel DIR: build that package of the tree, as git has it and
# with what is new and not ignored, in a copy, and put it into DIR. The same tree
# gives the same bytes, wherever and whenever. tests/setup.sh installs what it needs.
set -eu
umask 022

kind=$1
mkdir -p "$2"
dist=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python

git() { command git -c safe.directory='*' "$@"; }
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' cdi_hook/__init__.py)
epoch=$(git log -1 --format=%ct)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
copy=$work/cdi-hook-$version
mkdir "$copy"
{
	git ls-files -z --cached --others --exclude-standard
	git ls-files -z --deleted
} | sort -z | uniq -zu | tar -c --null -T - | tar -x -C "$copy"
chmod -R u=rwX,go=rX "$copy"

# Without this shell's environment, and make's; what is said, only when it fails.
build() {
	find "$copy" -exec touch -hd "@$epoch" {} +
	env -i PATH="$PATH" HOME="$work" LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH="$epoch" "$@" >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		exit 1
	}
}
# With what a package's removal does in its place, and the changelog.
script() {
	sed 1,2d packaging/leave.sh >"$work/leave.sh"
	sed -e "/#LEAVE#/{r $work/leave.sh" -e 'd}' -e "s/@VERSION@/$version/" "$1"
}
changelog() { SOURCE_DATE_EPOCH=$epoch python3 packaging/changelog.py "$kind"; }

case $kind in
deb)
	cp -r packaging/deb "$copy/debian"
	script packaging/deb/cdi-hook.prerm >"$copy/debian/cdi-hook.prerm"
	changelog >"$copy/debian/changelog"
	cd "$copy"
	build dpkg-buildpackage -b -d -us -uc
	package=$work/cdi-hook_${version}_all.deb
	;;
rpm)
	{ script packaging/rpm/cdi-hook.spec && changelog; } >"$work/cdi-hook.spec"
	find "$copy" -exec touch -hd "@$epoch" {} +
	tar -C "$work" --sort=name --owner=0 --group=0 -czf "$copy.tar.gz" "cdi-hook-$version"
	# --nodeps: what it needs goes by other names where Debian's rpm runs. brp-compress is bash's, though rpm 4.18's
	# own first line says sh: under dash it compresses no manual page, and is content.
	build rpmbuild -bb --nodeps --define "_topdir $work/rpm" --define "_sourcedir $work" \
		--define '_buildhost localhost' --define 'source_date_epoch_from_changelog 0' \
		--define '__brp_compress bash %{_rpmconfigdir}/brp-compress' \
		--define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' \
		"$work/cdi-hook.spec"
	package=$work/rpm/RPMS/noarch/cdi-hook-$version-1.noarch.rpm
	;;
wheel)
	build "$python" -m build --wheel --no-isolation --outdir "$work" "$copy"
	package=$work/cdi_hook-$version-py3-none-any.whl
	;;
esac
cp "$package" "$dist/"
echo "$dist/${package##*/}"
