#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What a package does before its programs are removed, not upgraded: engines that
# `cdi-hook configure` made use them are put back, and what can't be is said.
# build.sh puts this into the packages' scripts.
for engine in docker containerd crio podman; do
	if said=$(cdi-hook configure "$engine" --remove 2>&1); then
		case $said in *'nothing to change') ;; *) echo "$said" ;; esac
	else
		echo "cdi-hook: $engine may still be configured to use cdi-runtime: $said" >&2
	fi
done
if grep -Eqs '["/]cdi-' /run/containerd/io.containerd.runtime.v2.task/*/*/options.json ||
	pgrep -f '^[^ ]*conmon .*-r [^ ]*/cdi-' >/dev/null 2>&1; then
	echo 'cdi-hook: containers that cdi-runtime started are running; without it their engine cannot stop them' >&2
fi
