#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# install.sh: install cdi-runtime on this node, and make it the handler "cdi" of the node's
# container engine. With ACTION=remove, remove both.
#
# The script runs in a privileged init container that sees the node's processes. It
# reaches the node's files through the root dir of the node's first process, and runs the
# node's programs with nsenter. When it has ended, a container without any rights keeps
# the pod running.
#
# The end of the pod removes nothing. A pod also ends when the node restarts or the
# DaemonSet changes, but the engine still needs cdi-runtime to kill and delete the
# containers that it started long before. So only ACTION=remove removes, and it waits
# until no container needs cdi-runtime any more. Meanwhile it names the pods.
#
# Each version has a dir of its own in /opt/cdi-hook. The link "current" changes in
# one step. The previous version stays for the calls that are still running.
#
# The engine is the one that runs this pod. ENGINE names another, and CONFIG is its
# configuration, if that isn't in the usual place. POD_ANNOTATIONS=true lets pods'
# annotations name devices under containerd; under CRI-O they always do. Then the node's
# /etc/cdi-hook/cdi-hook.conf should say which namespaces may have which devices.
#
# Each of these variables says how the node is to be, whatever it was before: what another
# value made is taken out again.
#
# GENERATE in that file works as where a package is installed: at boot, when hardware or
# a driver changes, and now. For this the node gets links to systemd's units and udev's rules.
set -eu

home=/opt/cdi-hook
program=$home/current/bin/cdi-runtime
record=$home/.engine # which engine has the handler, and its configuration, if CONFIG names it
lock=/run/cdi-hook-install
ours=$home/current/lib/systemd/system
units="cdi-hook-generate.path cdi-hook-generate.service"
rules=/etc/udev/rules.d/90-cdi-hook.rules
stage=/stage # the files in the image that go to the node
node=/proc/1/root

say() { echo "cdi-hook: $*"; }
die() {
	say "$*" >&2
	exit 1
}
pause() {
	sleep "$1" &
	wait $!
}
on_node() {
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin nsenter -t 1 -m -- "$@"
}
configure() { # an engine and its configuration as in $record; options
	of=$1 file=${1#* }
	shift
	on_node "$home/current/bin/cdi-hook" configure "${of%% *}" ${file:+--file "$file"} "$@"
}

# The parent of a container's first process is its engine's shim or monitor. k3s, RKE2 and
# MicroK8s have shims of their own. A shim of docker has another namespace.
find_engine() {
	parent=$(tr '\0' ' ' <"/proc/$PPID/cmdline")
	case $parent in
	/var/lib/rancher/k3s/*' -namespace k8s.io '*) echo k3s ;;
	/var/lib/rancher/rke2/*' -namespace k8s.io '*) echo rke2 ;;
	/snap/microk8s/*' -namespace k8s.io '*) echo microk8s ;;
	*' -namespace k8s.io '*' -address /run/containerd/containerd.sock '*) echo containerd ;;
	*/conmon*) echo crio ;;
	*) die "can't tell this node's engine by what runs this pod, $parent: set ENGINE to containerd, crio, k3s, rke2 or microk8s, and CONFIG to its configuration" ;;
	esac
}

# A version's name is a hash of its files. Its programs contain the path with that name.
put_files() {
	version=$(cd "$stage$home/current" && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c 1-16)
	place=$node$home/$version
	if ! [ -d "$place" ]; then
		rm -rf "$node$home/.new"
		mkdir -p "$node$home"
		cp -R "$stage$home/current" "$node$home/.new"
		sed -i "s|^cdi_lib='$home/current/|cdi_lib='$home/$version/|" \
			"$node$home/.new/bin/cdi-runtime" "$node$home/.new/bin/cdi-hook"
		mv "$node$home/.new" "$place"
	fi
	on_node /usr/bin/python3 -m compileall -q "$home/$version/lib"
	before=$(readlink "$node$home/current") || before=''
	if [ "$before" != "$version" ]; then
		rm -f "$node$home/.link"
		ln -s "$version" "$node$home/.link"
		mv -T "$node$home/.link" "$node$home/current"
		for place in "$node$home"/*; do
			case ${place##*/} in current | "$version" | "$before") ;; *) rm -rf "$place" ;; esac
		done
	fi
}

# The engine is restarted only if its configuration changes. If the restart fails, the
# engine gets its old configuration back.
add_handler() {
	of_this="$engine ${CONFIG:-}"
	[ "$(holder)" = "$of_this" ] || remove_handler || die "$(holder) still has the handler: see above"
	# shellcheck disable=SC2086 # words
	if ! change=$(configure "$of_this" $handler --dry-run 2>/dev/null); then # its notes come when it is done
		configure "$of_this" $handler --dry-run >/dev/null || die "$engine can't have the handler: see above"
	fi
	echo "$of_this" >"$node$record"
	[ "$change" ] || return 0
	# shellcheck disable=SC2086
	configure "$of_this" $handler --reload && return
	remove_handler || :
	die "$engine didn't come up with the handler, and no longer has it: see above"
}
holder() { cat "$node$record" 2>/dev/null || echo "$engine ${CONFIG:-}"; }
remove_handler() {
	change=$(configure "$(holder)" --remove --dry-run) || return
	[ -z "$change" ] || configure "$(holder)" --remove --reload
}

add_units() {
	! [ -e "$node/usr/lib/systemd/system/cdi-hook-generate.service" ] || return 0 # a package's are there
	# shellcheck disable=SC2086 # words
	if ! { on_node mkdir -p "${rules%/*}" &&
		on_node ln -sfn "$home/current/lib/udev/rules.d/${rules##*/}" "$rules" &&
		on_node systemctl --quiet enable "$ours/cdi-hook-generate.path" "$ours/cdi-hook-generate.service" &&
		on_node systemctl --no-block start $units; }; then
		say "GENERATE does nothing on this node, which can't have the units: see above" >&2
	fi
}
remove_units() {
	on_node test -L "$rules" || return 0
	on_node rm -f "$rules"
	# shellcheck disable=SC2086 # words
	on_node systemctl --quiet disable --now $units || :
	# and the specs that it made
	{ on_node cat /etc/cdi-hook/cdi-hook.conf 2>/dev/null || :; printf '\nGENERATE=\n'; } >"$node$lock/conf"
	CDI_HOOK_CONFIG=$lock/conf on_node "$home/current/bin/cdi-hook" generate --configured || :
	rm -f "$node$lock/conf"
}

# Print the pods whose containers need cdi-runtime. containerd's shim keeps the path of
# the program that it calls in a file; CRI-O's conmon has it among its arguments, and so
# has conmonrs, which has the pod's dir, but not its name.
users() {
	for file in "$node"/run/containerd/io.containerd.runtime.v2.task/*/*/runtime \
		"$node"/run/k3s/containerd/io.containerd.runtime.v2.task/*/*/runtime \
		"$node"/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/*/*/runtime; do
		case $(cat "$file" 2>/dev/null) in "$home"/*) ;; *) continue ;; esac
		bundle=${file%/*}
		name=$(sed -n 's|.*"io.kubernetes.cri.sandbox-name":"\([^"]*\)","io.kubernetes.cri.sandbox-namespace":"\([^"]*\)".*|\2/\1|p' \
			"$bundle/config.json" 2>/dev/null) || :
		echo "${name:-${bundle##*/}}"
	done
	for process in /proc/[0-9]*; do
		# root's own: a user's isn't, and a container's has another root dir
		# shellcheck disable=SC3013,SC3067 # this is busybox's shell
		if [ -O "$process" ] && [ "$process/root/" -ef "$node/" ]; then
			{ tr '\0' ' ' <"$process/cmdline" && echo; } 2>/dev/null
		fi
	done | sed -n -e "s|^[^ ]*conmon .* -n \([^ ]*\) .* $home/.*|\1|p" \
		-e "s|^[^ ]*conmonrs .*--runtime $home/[^ ]* --runtime-dir \([^ ]*\) .*|\1|p" |
		sed 's|^k8s_[^_]*_\([^_]*\)_\([^_]*\)_.*|\2/\1|' # CRI-O's k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT
}
wait_for_users() {
	told=''
	while :; do
		names=$(users | sort -u | LC_ALL=C tr -c '!-~\n' '?' | paste -sd ' ' -)
		[ "$names" ] || break
		[ "$names" = "$told" ] || say "not removed while there are containers of $names"
		told=$names
		pause 5
	done
}

install() {
	on_node /usr/bin/python3 -IS -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
		die "cdi-runtime needs /usr/bin/python3, 3.9 or newer, and this node has none"
	put_files
	add_units
	add_handler
	say "installed $version for $engine"
}
remove() {
	if [ -e "$node$home/current" ]; then
		wait_for_users
		remove_handler
		wait_for_users # containers that started before the engine lost the handler
	fi
	remove_units
	on_node grep -rls "$home/" /etc/cdi | while IFS= read -r spec; do
		say "$spec still names a program in $home; without it, containers fail"
	done
	rm -rf "${node:?}$home" "$node/run/cdi-hook" # also what an interrupted install or removal left
	say "removed"
}

engine=${ENGINE:-$(find_engine)}
handler="--path $program"
case $engine:${POD_ANNOTATIONS:-false} in crio:*) ;; *:true) handler="$handler --pod-annotations" ;; *:false) ;;
*) die "POD_ANNOTATIONS is true or false, not $POD_ANNOTATIONS" ;; esac
trap 'exit 0' TERM
# Only one pod works on a node at a time: a pod that was replaced by force may still be running.
# Only root can open this dir, and so lock it. It stays until the node restarts: another pod may be waiting for it.
[ -d "$node$lock" ] || mkdir -m 700 "$node$lock"
exec 9<"$node$lock"
on_node /usr/bin/python3 -IS -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' 2>/dev/null &
wait $! || : # without Python, `install` below reports the error
case ${ACTION:-install} in
install) install ;;
remove) remove ;;
*) die "ACTION is install or remove, not $ACTION" ;;
esac
