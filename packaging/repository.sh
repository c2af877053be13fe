#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# repository.sh DIR URL KEY PACKAGE...: make DIR, the files that a web server has at URL: of
# a .deb a repository for apt, of an .rpm, which it signs, one for dnf; for each the file
# that makes a host use it; and the public part of KEY, which signs them.
set -eu
umask 022

dir=$1 url=$2 key=$3
shift 3
sign() { gpg --quiet --batch --yes --local-user "$key" --armor "$@"; }

rm -rf "$dir"
mkdir -p "$dir"
gpg --batch --armor --export-options export-minimal --export "$key" >"$dir/cdi-hook.asc"
for package; do
	case $package in
	*.deb)
		mkdir "$dir/apt"
		cp "$package" "$dir/apt/"
		(
			cd "$dir/apt"
			apt-ftparchive packages . >Packages
			release=$(apt-ftparchive -o APT::FTPArchive::Release::Origin=cdi-hook release .)
			echo "$release" | sign --clear-sign >InRelease
		)
		{
			printf '%s\n' 'Types: deb' "URIs: $url/apt" 'Suites: ./' 'Signed-By:'
			sed -e 's/^$/./' -e 's/^/ /' "$dir/cdi-hook.asc"
		} >"$dir/cdi-hook.sources"
		;;
	*.rpm)
		# Debian 12's rpmsign looks for gpg2
		rpmsign --define "__gpg $(command -v gpg)" --define "_gpg_name $key" --addsign "$package" >/dev/null
		mkdir "$dir/rpm"
		cp "$package" "$dir/rpm/"
		# dnf of older distributions can't read what is the default of newer createrepo_c
		createrepo_c --quiet --general-compress-type gz "$dir/rpm"
		sign --detach-sign "$dir/rpm/repodata/repomd.xml"
		printf '%s\n' '[cdi-hook]' 'name=cdi-hook' "baseurl=$url/rpm" 'gpgcheck=1' 'repo_gpgcheck=1' \
			"gpgkey=$url/cdi-hook.asc" >"$dir/cdi-hook.repo"
		;;
	esac
done
