#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# release.sh ready VERSION KEY: report everything that keeps VERSION from being released.
# release.sh finish VERSION KEY DIR: put beside the packages in DIR an SBOM (CycloneDX),
# repositories for apt and dnf, which KEY signs, or else gpg's default key, the image
# that installs on Kubernetes' nodes, and checksums.
# `make release` runs `ready`, then the tests, builds the packages, and runs `finish`.
set -eu

task=$1 version=$2 key=$3
cd "$(dirname "$0")/.."

git() { command git -c safe.directory='*' "$@"; }
# Sign something, and print the fingerprint of the key that did.
signer() {
	gpg --quiet --batch --yes --status-fd 1 ${key:+--local-user "$key"} --output /dev/null --detach-sign /dev/null |
		sed -n 's/^\[GNUPG:\] SIG_CREATED .* //p'
}
# Print where the repositories are published: CONTRIBUTING.md's lines to install have it.
url() { sed -n 's|^    .* \(https://.*\)/cdi-hook\.sources$|\1|p' CONTRIBUTING.md; }

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
		grep -Fqx "__version__ = \"$version\"" cdi_hook/version.py ||
			say "cdi_hook/version.py has another __version__ than $version"
		grep -Eqx "## \[$version\] - 20[0-9]{2}-[0-9]{2}-[0-9]{2}" CHANGELOG.md ||
			say "CHANGELOG.md has no line \"## [$version] - YYYY-MM-DD\""
		! git rev-parse -q --verify "refs/tags/v$version" >/dev/null || say "there is a tag v$version already"
		;;
	*) say "VERSION=$version is not of the form X.Y.Z" ;;
	esac
	places=$(grep -lw OWNER CONTRIBUTING.md pyproject.toml packaging/deb/control packaging/rpm/cdi-hook.spec) &&
		say "put the account that publishes in the place of OWNER in $(echo "$places" | tr '\n' ' ')and the lines to install in README.md in place of that nothing is published"
	[ "$(signer 2>/dev/null)" ] ||
		say "gpg has no key${key:+ $key} to sign with: import yours, make one with \"gpg --quick-generate-key 'NAME <MAIL>' rsa4096 sign never\", or name one with KEY="
	[ -z "$(git status --porcelain)" ] || say 'there are changes that are not committed (git status shows them)'
	return $wrong
}

finish() {
	dist=$1
	venv=.venv/release
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	wheel=cdi_hook-$version-py3-none-any.whl
	deb=cdi-hook_${version}_all.deb
	rpm=cdi-hook-$version-1.noarch.rpm
	sbom=cdi-hook-$version.cdx.json
	image=cdi-hook-installer-$version.$(uname -m).oci.tar
	epoch=$(git log -1 --format=%ct)
	# the pins make pip install the wheel's dependencies at the releases that were tested
	sed "s/^dynamic = \[\"version\"\]/version = \"$version\"/" pyproject.toml >"$work/pyproject.toml"
	"$venv/bin/python" -m venv --without-pip "$work/venv"
	"$venv/bin/python" -m pip -q --disable-pip-version-check --python "$work/venv/bin/python" \
		install -c tests/pins/dev.txt "$dist/$wheel"
	SOURCE_DATE_EPOCH=$epoch "$venv/bin/cyclonedx-py" environment --output-reproducible \
		--no-validate --pyproject "$work/pyproject.toml" -o "$dist/$sbom" "$work/venv/bin/python" 2>"$work/log" || {
		cat "$work/log" >&2
		exit 1
	}
	sh packaging/repository.sh "$dist/repository" "$(url)" "$(signer)" "$dist/$deb" "$dist/$rpm"
	rm -f "$dist/$image"
	# as chroot, the steps need no runtime, and have this machine's network
	buildah build --quiet --isolation chroot --pull=newer --timestamp "$epoch" -f packaging/kubernetes/Containerfile \
		-t "oci-archive:$dist/$image:cdi-hook-installer:$version" . >/dev/null
	(cd "$dist" && sha256sum "$deb" "$rpm" "$wheel" "$sbom" "$image" >SHA256SUMS)
	cat "$dist/SHA256SUMS"
	echo "release: now git tag -s v$version && git push origin v$version, upload $dist/SHA256SUMS with what it lists," \
		"and publish $dist/repository as $(url)"
}

case $task in
ready) ready ;;
finish) finish "$4" ;;
esac
