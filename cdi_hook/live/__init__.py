# SPDX-License-Identifier: Apache-2.0
"""Carry out changes in a container that is being created, or none of them.

The runtime has read config.json, made the container's namespaces and mounted its
rootfs, but hasn't entered the rootfs yet. too_late.py finds the edits that come too
late, steps.py sorts the changes, and carryout.py carries them out in this order:

    rules        the devices that the container may use         device_rules.py, bpf.py, systemd.py
    mounts       and device nodes, in a forked process          mounts.py, nodes.py
    hooks        the spec's own, of the stages that run now     hook_calls.py
    net devices  last: virtual ones are deleted with a netns    net.py
    config.json  so that its later readers see the changes

If one fails, everything that would outlive the container is undone.
"""
