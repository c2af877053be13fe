#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# build.sh deb|rpm|wheel DIR: build this package of the tree and put it into DIR.
# The build runs in a copy of the tree, which has the files that git tracks and the
# new files that git doesn't ignore. The same tree gives the same bytes, wherever and
# whenever it is built. tests/setup.sh installs what this script needs.
set -eu
umask 022

kind=$1
mkdir -p "$2"
dist=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python

git() { command git -c safe.directory='*' "$@"; }
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' cdi_hook/version.py)
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

# Run a build command without the environment of this shell and of make. Its output
# is shown only if it fails.
build() {
	find "$copy" -exec touch -hd "@$epoch" {} +
	env -i PATH="$PATH" HOME="$work" LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH="$epoch" "$@" >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		exit 1
	}
}
# Print a package's script or spec file, with leave.sh and what fill.py knows in the places of their marks.
script() {
	sed 1,2d packaging/leave.sh >"$work/leave.sh"
	sed -e "/#LEAVE#/{r $work/leave.sh" -e 'd}' -e "s/@VERSION@/$version/" "$1" >"$work/script"
	python3 -B packaging/fill.py "$work/script"
}
changelog() { SOURCE_DATE_EPOCH=$epoch python3 packaging/changelog.py "$kind"; }

case $kind in
deb)
	cp -r packaging/deb "$copy/debian"
	for name in postinst prerm; do script "packaging/deb/cdi-hook.$name" >"$copy/debian/cdi-hook.$name"; done
	changelog >"$copy/debian/changelog"
	cd "$copy"
	build dpkg-buildpackage -b -d -us -uc
	package=$work/cdi-hook_${version}_all.deb
	;;
rpm)
	{ script packaging/rpm/cdi-hook.spec && changelog; } >"$work/cdi-hook.spec"
	find "$copy" -exec touch -hd "@$epoch" {} +
	tar -C "$work" --sort=name --owner=0 --group=0 -czf "$copy.tar.gz" "cdi-hook-$version"
	# --nodeps, because the packages that the build requires have other names on Debian. brp-compress must run under
	# bash, although rpm 4.18's first line of it says sh: under dash, it compresses no manual page and reports no error.
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
