#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# release.sh ready VERSION: report everything that keeps VERSION from being released.
# release.sh finish VERSION DIR: put an SBOM (CycloneDX) and checksums beside the
# packages in DIR.
# `make release` runs `ready`, then the tests, builds the packages, and runs `finish`.
set -eu

task=$1 version=$2
cd "$(dirname "$0")/.."

git() { command git -c safe.directory='*' "$@"; }

ready() {
	wrong=0
	say() {
		echo "release: $*" >&2
		wrong=1
	}
	case $version in
	'') say 'say which: make release VERSION=X.Y.Z' ;;
	*[!0-9.]* | *.*.*.* | *..* | .* | *.) say "VERSION=$version is not of the form X.Y.Z" ;;
	*.*.*)
		grep -Fqx "__version__ = \"$version\"" cdi_hook/__init__.py ||
			say "cdi_hook/__init__.py has another __version__ than $version"
		grep -Eqx "## \[$version\] - 20[0-9]{2}-[0-9]{2}-[0-9]{2}" CHANGELOG.md ||
			say "CHANGELOG.md has no line \"## [$version] - YYYY-MM-DD\""
		! git rev-parse -q --verify "refs/tags/v$version" >/dev/null || say "there is a tag v$version already"
		;;
	*) say "VERSION=$version is not of the form X.Y.Z" ;;
	esac
	[ -z "$(git status --porcelain)" ] || say 'there are changes that are not committed (git status shows them)'
	return $wrong
}

finish() {
	dist=$1
	venv=.venv/release
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	wheel=cdi_hook-$version-py3-none-any.whl
	sbom=cdi-hook-$version.cdx.json
	# the pins make pip install the wheel's dependencies at the releases that were tested
	sed -n '/^dev = \[/,/^\]/s/^ *"\([^"]*\)".*/\1/p' pyproject.toml >"$work/pins"
	sed "s/^dynamic = \[\"version\"\]/version = \"$version\"/" pyproject.toml >"$work/pyproject.toml"
	"$venv/bin/python" -m venv --without-pip "$work/venv"
	"$venv/bin/python" -m pip -q --disable-pip-version-check --python "$work/venv/bin/python" \
		install -c "$work/pins" "$dist/$wheel"
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) "$venv/bin/cyclonedx-py" environment --output-reproducible \
		--no-validate --pyproject "$work/pyproject.toml" -o "$dist/$sbom" "$work/venv/bin/python" 2>"$work/log" || {
		cat "$work/log" >&2
		exit 1
	}
	(cd "$dist" && sha256sum "cdi-hook_${version}_all.deb" "cdi-hook-$version-1.noarch.rpm" "$wheel" "$sbom" >SHA256SUMS)
	cat "$dist/SHA256SUMS"
	echo "release: now git tag -s v$version && git push origin v$version, and upload $dist/SHA256SUMS with what it lists"
}

case $task in
ready) ready ;;
finish) finish "$3" ;;
esac
