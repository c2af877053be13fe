#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# short.sh IMPORT...: the short form of the walk, on a cluster of one node that kubectl reaches. IMPORT is a command
# that takes an archive of an image as its last argument, and gives the image to the node. ON_NODE is a command that
# runs another on the node; it is empty where this machine is the node.
#
# The workflow `cluster` runs it with k3s and kind. Nobody has run it yet.
set -eux

cd "$(dirname "$0")/../.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
registry=registry.test

on_node() {
	# shellcheck disable=SC2086 # words
	${ON_NODE:-} "$@"
}
is_offered() { [ "$(kubectl get node -o 'jsonpath={.items[0].status.allocatable.host\.local/fuse}')" = 1 ]; }
until_so() {
	for _ in $(seq 60); do
		! "$@" || return 0
		sleep 2
	done
	return 1
}

cp -R packaging "$place"
sed -i "s|REGISTRY|$registry|; s|VERSION|1.0|" "$place"/packaging/kubernetes/kustomization.yaml \
	"$place"/packaging/kubernetes/device-plugin/kustomization.yaml
sed -i 's|value: "false"|value: "true"|' "$place/packaging/kubernetes/install.yaml"
for part in installer: device-plugin:device-plugin/; do
	image=$registry/cdi-hook-${part%%:*}:1.0
	podman build -f "packaging/kubernetes/${part#*:}Containerfile" -t "$image" .
	podman save -o "$place/${part%%:*}.tar" "$image"
	"$@" "$place/${part%%:*}.tar"
done

kubectl apply -k "$place/packaging/kubernetes"
kubectl -n cdi-hook rollout status daemonset/cdi-hook --timeout=300s
on_node /opt/cdi-hook/current/bin/cdi-hook generate fuse --output /etc/cdi
kubectl apply -f packaging/kubernetes/pod.yaml
kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/cdi-example --timeout=120s
kubectl logs cdi-example | grep '^c.* 10, 229 '
on_node /opt/cdi-hook/current/bin/cdi-hook doctor

kubectl apply -k "$place/packaging/kubernetes/device-plugin"
kubectl -n cdi-hook-device-plugin rollout status daemonset/cdi-hook-device-plugin --timeout=300s
until_so is_offered
kubectl apply -f - <<'END'
apiVersion: v1
kind: Pod
metadata: {name: wants}
spec:
  runtimeClassName: cdi
  restartPolicy: Never
  containers:
    - {name: one, image: "docker.io/library/busybox:1.37", command: [ls, -l, /dev/fuse], resources: {limits: {host.local/fuse: 1}}}
END
kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/wants --timeout=120s

kubectl delete pod wants cdi-example
kubectl delete -k "$place/packaging/kubernetes/device-plugin"
kubectl delete runtimeclass cdi
kubectl -n cdi-hook set env daemonset/cdi-hook ACTION=remove
kubectl -n cdi-hook rollout status daemonset/cdi-hook --timeout=300s
kubectl delete namespace cdi-hook
! on_node test -e /opt/cdi-hook || exit 1
