#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What a package does before its programs are removed (not when they are upgraded): it
# restores the engines that `cdi-hook configure` changed, says what it couldn't
# restore, and removes the specs of GENERATE. build.sh puts this into the packages' scripts,
# and fill.py what stands between @s.
# Without tomli `configure` can't have written a TOML file; the search below finds what somebody else wrote.
# An engine whose default runtime this was starts no container before it has read its file again.
reload=''
! [ -d /run/systemd/system ] || reload=--reload
{ cdi-hook configure all --remove $reload 2>&1 >&3 | grep -v 'reading it needs Python 3.11 or tomli' >&2 || :; } 3>&1
conf=$(mktemp)
{ cat /etc/cdi-hook/cdi-hook.conf 2>/dev/null || :; printf '\nGENERATE=\n'; } >"$conf"
CDI_HOOK_CONFIG=$conf cdi-hook generate --configured 2>/dev/null || : # what it can't remove is gone after the next boot
rm -f "$conf"
rmdir /run/cdi 2>/dev/null || : # other specs are there, or it never was
# Other files that name cdi-runtime or cdi-hook: files that somebody wrote, and files that an engine was started with.
named() {
	grep -EIls --exclude='*.before-cdi-hook' '["/=]cdi-(runtime|hook|runc|crun)([^-./a-z]|$)' "$@"
}
# The files among the arguments of root's daemons: not those of a user's or of a container's, which has another root
# dir. Only a regular file is opened.
started_with() {
	for pid in $(pgrep -U 0 '^(@DAEMONS@)$' 2>/dev/null); do
		# shellcheck disable=SC3013 # -ef is POSIX since 2024, and older in all of them
		! [ "/proc/$pid/root/" -ef / ] || tr '\0=' '[\n*]' <"/proc/$pid/cmdline" || :
	done | grep ^/ | while IFS= read -r file; do
		! [ -f "$file" ] || named "$file" || :
	done
}
{
	named -r /etc/cdi @DIRS@ /etc/default /etc/systemd/system || : # a dir may be missing
	started_with
} | LC_ALL=C cat -v | sed 's/.*/cdi-hook: & still names cdi-runtime or cdi-hook; without it, containers fail/' >&2
if grep -Eqs '["/]cdi-' @OPTIONS@ ||
	pgrep -f '^[^ ]*conmon(rs)? .*-r(untime)? [^ ]*/cdi-' >/dev/null 2>&1; then
	echo 'cdi-hook: containers that cdi-runtime started are running; without it, their engine cannot stop them' >&2
fi
