# SPDX-License-Identifier: Apache-2.0
"""Injection into a container that is being created, from a createRuntime or prestart hook.

The runtime has read config.json, made the container's namespaces, and mounted
its rootfs; it hasn't entered it yet. late.py says which edits can't be made any
more, plan.py sorts the changes. Then carryout.py has them done, in this order:

    rules        what the container may do with its devices     rules.py, bpf.py
    mounts       and device nodes, by a process forked for it   mounts.py, nodes.py
    hooks        the spec's own, of the stages that are now     hooks.py
    net devices  last: the virtual ones die with a container    net.py
    config.json  so that whoever reads it later sees all this

When one fails, what was done and would outlive the container is taken back.
"""
