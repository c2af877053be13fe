#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# `make demo` runs one container with a CDI device, and the same container without. It
# needs root, runc, a static busybox and PyYAML, and exits with 1 if a result isn't as
# expected. It works in a temporary dir, which it removes at the end.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
runtime=${here%/*}/bin/cdi-runtime
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

if [ "$(id -u)" -ne 0 ]; then
	echo "A container of plain runc needs root, so this calls sudo."
	exec sudo -- sh "$here/run.sh"
fi

fail() {
	echo "demo: $*" >&2
	exit 1
}
step() { printf '\n%s\n' "$*"; }
indent() { sed 's/^/    /' "$@"; }

work=$(mktemp -d -t cdi-demo.XXXXXX)
bundle=$work/bundle specs=$work/cdi log=$work/log
cleanup() {
	runc --root "$work/state" delete --force cdi-demo >/dev/null 2>&1 || :
	rm -rf "$work"
	rm -rf "/run/cdi-hook/"*"${work##*/}"* "/run/cdi-hook/conf$work" /run/cdi-hook/lock # what was compiled of the removed dirs
	rmdir /run/cdi-hook/conf/tmp /run/cdi-hook/conf 2>/dev/null || :
	rmdir /run/cdi-hook 2>/dev/null || :
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# Can this machine run containers at all, and open the demo's device?
mkdir -p "$bundle/rootfs/bin" "$bundle/rootfs/etc" "$bundle/rootfs/tmp" "$specs"
cp "$(command -v busybox)" "$bundle/rootfs/bin/busybox"
cp "$here/look" "$bundle/rootfs/look"
chroot "$bundle/rootfs" /bin/busybox true 2>/dev/null ||
	fail "busybox can't run in $work: is it a static busybox (Debian: busybox-static), and may programs run there?"
(: >/dev/kmsg) 2>/dev/null || fail "the device of the demo is /dev/kmsg, and root can't open it here"
sed -e 's|, "sh", "/look"|, "true"|' -e /cdi.k8s.io/d "$here/config.json" >"$bundle/config.json"
runc --root "$work/state" --log "$log" run --bundle "$bundle" cdi-demo </dev/null >/dev/null 2>&1 || {
	tail -n 1 "$log" >&2
	fail "runc alone can't run a container here, so cdi-runtime can't either (inside another container?)"
}

cat >"$work/cdi-hook.conf" <<EOF
RUNTIMES=runc
SPEC_DIRS=$specs
EOF
export CDI_HOOK_CONFIG="$work/cdi-hook.conf"

# container: run the container, show its output, and compare that with what is expected
container() {
	"$runtime" --root "$work/state" --log "$log" run --bundle "$bundle" cdi-demo \
		</dev/null >"$work/said" 2>&1 || {
		cat "$work/said" "$log" >&2
		fail "cdi-runtime failed"
	}
	indent "$work/said"
	diff "$work/expected" "$work/said" >&2 || fail "the container's output isn't as expected (<: expected, >: output)"
}

step "1. A CDI spec says what a container needs for a device. This one goes to $specs:"
cp "$here/example.yaml" "$specs/example.yaml"
sed '/^#/d' "$here/example.yaml" | indent

step "2. An engine writes a bundle. This one runs busybox, and only this annotation asks for a device:"
cp "$here/config.json" "$bundle/config.json"
grep cdi.k8s.io "$bundle/config.json" | sed 's/^ *//' | indent

step "3. The engine calls cdi-runtime in the place of runc. It injects the device, then executes runc:"
echo "cdi-runtime run --bundle $bundle cdi-demo" | indent
cat >"$work/expected" <<EOF
environment: SENSOR_NAME is demo
mount: /etc/sensor.conf is there, $(wc -c </usr/lib/os-release) bytes, and can't be written
device: /dev/sensor can be opened
EOF
container

step "4. The same container without the annotation. cdi-runtime leaves it alone:"
rm "$bundle/rootfs/etc/sensor.conf" # the file that runc made to mount on
sed /cdi.k8s.io/d "$here/config.json" >"$bundle/config.json"
cat >"$work/expected" <<EOF
environment: SENSOR_NAME is not set
mount: there is no /etc/sensor.conf
device: there is no /dev/sensor; making one, as root may
device: /dev/sensor can't be opened: Operation not permitted
EOF
container

step "Everything is as expected."
