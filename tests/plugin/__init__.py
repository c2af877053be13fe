# SPDX-License-Identifier: Apache-2.0
"""packaging/kubernetes/device-plugin against a kubelet's side of gRPC; tests/engine has it with containerd.

The anchor is Kubernetes' own test/e2e_node/device_plugin_test.go. Its cases, and where each is here:

- Can schedule a pod that requires a device: test_a_pod_gets_a_device
- can make a CDI device accessible in a container: test_an_engines_own_cdi_is_asked
- Keeps device plugin assignments across pod restarts, across kubelet restarts, across both:
  test_a_kubelet_starts_again (the ids are those of before; the assignments are the kubelet's own)
- Keeps device plugin assignments after the device plugin has restarted, after both have:
  test_an_instance_is_replaced, test_it_starts_before_the_kubelet
- will not attempt to admit the succeeded pod after the kubelet restart and device plugin removed,
  OrphanedPods, restartable init containers, node reboots: these are about the kubelet alone; tests/cluster
  has them as far as a pod with a device notices.
"""
