# SPDX-License-Identifier: Apache-2.0
"""Do in a container all that its libraries need, in an order in which each step finds what it uses."""

from __future__ import annotations

import os
import resource

from cdi_hook.base.quoting import quote
from cdi_hook.container import syscalls
from cdi_hook.container.rootfs import NOT_ITSELF, Rootfs, TooMuch, by, is_rootfs
from cdi_hook.errors import BundleError, InjectionError
from cdi_hook.libraries import ldconfig, links, nvidia_needs, texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_hook.libraries.needs import Needs

_MOST_CPU_S, _MOST_MEMORY = 30, 1 << 29
# Options of a mount as statvfs(3) tells them, and as mount(2) takes them.
_FLAGS = {
    os.ST_RDONLY: syscalls.MS_RDONLY,
    os.ST_NOSUID: syscalls.MS_NOSUID,
    os.ST_NODEV: syscalls.MS_NODEV,
    os.ST_NOEXEC: syscalls.MS_NOEXEC,
    os.ST_NOATIME: syscalls.MS_NOATIME,
    os.ST_NODIRATIME: syscalls.MS_NODIRATIME,
    os.ST_RELATIME: syscalls.MS_RELATIME,
}


def prepare(needs: Needs, path: str) -> None:
    """Prepare the rootfs at a path; raises InjectionError, and BundleError if it is the host's."""
    os.umask(0o022)  # crun runs hooks with 0
    # An image's files say how much there is to do, and no limit of the container counts here yet.
    for what, most in ((resource.RLIMIT_CPU, _MOST_CPU_S), (resource.RLIMIT_AS, _MOST_MEMORY)):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InjectionError(f"can't open the container's rootfs {quote(path)}: {error.strerror}") from error
    if os.path.samestat(os.fstat(descriptor), os.stat("/")):
        raise BundleError("the rootfs of the container's state on stdin is that of the host")
    if not is_rootfs(descriptor):
        raise InjectionError(f"{quote(path)} {NOT_ITSELF}")
    was = _make_writable(descriptor, path)
    try:
        _prepare(needs, Rootfs(descriptor, owns=True))
    except TooMuch as error:  # which nothing on the way takes for a file that is missing
        raise InjectionError(str(error)) from error
    except MemoryError:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        raise InjectionError(
            f"to read the image's files takes more than {_MOST_MEMORY >> 20} MiB of memory"
        ) from None
    finally:
        if was is not None:
            syscalls.mount("none", by(descriptor), was)


def _prepare(needs: Needs, root: Rootfs) -> None:
    links.make(root, needs.links)
    if needs.driver_version:
        nvidia_needs.keep_nodes(root)
        nvidia_needs.limit_gpus(root)
    if needs.dirs:
        if needs.driver_version and not needs.libraries:
            _refuse_unnamed(root, needs)
        before = nvidia_needs.compatible(root, needs.driver_version) if needs.driver_version else ()
        mounted = ldconfig.Mounted(root, needs.libraries, needs.driver_root)
        ldconfig.update(root, needs.dirs, before, mounted)


def _refuse_unnamed(root: Rootfs, needs: Needs) -> None:
    """Refuse a spec whose hook doesn't name the libraries that it mounts, as those made before --library."""
    for directory in needs.dirs:
        for path in texts.matching(root, f"{directory}/lib*.so.{needs.driver_version}"):
            if texts.is_on_volume(root, path):
                raise InjectionError(
                    f"the CDI spec mounts {quote(path)}, but its hook doesn't name it with --library; "
                    "make the spec again with cdi-hook generate"
                )


def _make_writable(descriptor: int, path: str) -> int | None:
    """Make a mount that is read-only writable: crun has made the rootfs so before it runs hooks, runc hasn't.

    Return the flags that make it as it was, or None if nothing was changed.
    """
    options = os.fstatvfs(descriptor).f_flag
    if not options & os.ST_RDONLY:
        return None
    flags = syscalls.MS_REMOUNT | syscalls.MS_BIND
    flags |= sum(flag for option, flag in _FLAGS.items() if options & option)
    try:
        syscalls.mount("none", by(descriptor), flags & ~syscalls.MS_RDONLY)
    except OSError as error:
        raise InjectionError(
            f"the container's rootfs {quote(path)} is read-only, and that can't be changed: {error.strerror}"
        ) from error
    return flags
