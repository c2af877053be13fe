# SPDX-License-Identifier: Apache-2.0
"""packaging/kubernetes on a real Kubernetes of one node, by `make cluster`, as its README says it.

CDI_HOOK_CLUSTER is a dir: ``bin`` in it has kubelet, kube-apiserver, kube-controller-manager and kube-scheduler,
``containerd-2`` may have containerd, containerd-shim-runc-v2 and ctr of a 2.x, and ``crio`` crio, pinns and crictl. All else is Debian's:
mmdebstrap makes the node's root dir, and podman builds the images, from base images of Debian's packages. The
tests run in the order of the file, and each walk leaves the node as it was.
"""
