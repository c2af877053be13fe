# SPDX-License-Identifier: Apache-2.0
"""What libraries that were mounted into a container need there: links, the linker's cache, a driver's files.

All of it is done by one process, as a createContainer hook, in the container's namespaces and before its
first process runs. Nothing of the container is executed, and no path leads out of its root filesystem
(container/rootfs.py).
"""
