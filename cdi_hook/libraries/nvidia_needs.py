# SPDX-License-Identifier: Apache-2.0
"""What NVIDIA's driver needs in a container beside its libraries.

An image may have libraries of a newer CUDA, made for older drivers: compatible() says whether they
go with the host's driver. The driver's libraries change device nodes where /proc/driver/nvidia/params
lets them: keep_nodes() says there that they must not. EGL and Vulkan show every GPU of the host, unless
an application profile names those that the container has: limit_gpus() writes that.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_hook.base import json_text
from cdi_hook.base.quoting import quote
from cdi_hook.container import rootfs, syscalls
from cdi_hook.container.rootfs import by
from cdi_hook.errors import InjectionError
from cdi_hook.libraries import elf, texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_hook.container.rootfs import Rootfs

_COMPAT_DIR = "/usr/local/cuda/compat"
_COMPAT_LIBRARY = "libcuda.so."
_COMPAT_NOTE = ".note.cuda.fwd_compatibility", "NVIDIA Corporation"
_PARAMS = "/proc/driver/nvidia/params"
_MODIFY, _KEEP = "ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0"
_PROFILE = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"
_PROFILE_MODE = 0o444
_NODE = "nvidia"
_MOST_GPUS = 64  # the profile has a bit for each


def compatible(root: Rootfs, version: str) -> list[str]:
    """Return the dir of an image's CUDA compatibility libraries, if they go with a driver of this version."""
    try:
        directory, entries = texts.listed(root, _COMPAT_DIR)
    except (OSError, InjectionError):
        return []
    os.close(directory)
    found = [
        name[len(_COMPAT_LIBRARY) :]
        for name, _, is_file in entries
        if is_file and name.startswith(_COMPAT_LIBRARY) and "." in name[len(_COMPAT_LIBRARY) :]
    ]
    if len(found) != 1:
        return []
    theirs, ours = _numbers(found[0]), _numbers(version)
    descriptor = texts.open_file(root, f"{_COMPAT_DIR}/{_COMPAT_LIBRARY}{found[0]}")
    if not theirs or not ours or descriptor is None:
        return []
    try:
        said = elf.note(descriptor, _COMPAT_NOTE[0])
    finally:
        os.close(descriptor)
    if said and said[0] == _COMPAT_NOTE[1]:
        try:
            majors = json_text.loads(said[1].decode("utf-8"))["Driver"]
            fits = ours[0] in majors and theirs > ours
        except (ValueError, KeyError, TypeError):
            fits = False
    else:
        fits = theirs[0] > ours[0]
    real = root.real(_COMPAT_DIR)
    return [real] if fits and real.isprintable() else []


def keep_nodes(root: Rootfs) -> None:
    """Hide from the container that the driver's libraries may change device nodes; raises InjectionError."""
    try:
        with open(_PARAMS, encoding="ascii") as stream:
            text = stream.read()
    except OSError:
        return  # no driver
    if _MODIFY in text.splitlines():
        hide(root, _PARAMS, text.replace(_MODIFY, _KEEP))


def hide(root: Rootfs, path: str, text: str) -> None:
    """Mount a file that says text over one in the container's procfs; raises InjectionError."""
    opened: list[int] = []
    try:
        for place in (path, "/proc"):
            try:
                opened.append(root.whole.open(place, in_proc=True))
            except FileNotFoundError:
                return  # the container has no procfs
            if syscalls.fstatfs(opened[-1]) != syscalls.PROC_SUPER_MAGIC:
                return  # it is hidden already
        target, proc = opened
        if rootfs.mount_of(target) != rootfs.mount_of(proc):
            return  # somebody has mounted a part of another procfs there, such as the host's
        # Where it is the host's own procfs, what is mounted there must not come to the host.
        syscalls.mount("none", by(proc), syscalls.MS_PRIVATE)
        before = rootfs.mounts()
        # The file's own filesystem is mounted over all of /proc for a moment, as no dir is made for it.
        syscalls.mount(
            "tmpfs", by(proc), syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC, "tmpfs"
        )
        tmpfs = root.whole.open("/proc")
        opened.append(tmpfs)
        if rootfs.mount_of(tmpfs) in before:
            raise OSError(errno.EBUSY, "/proc has been moved")
        try:
            texts.fill(tmpfs, "params", text)
            source = os.open("params", os.O_PATH | os.O_CLOEXEC, dir_fd=tmpfs)
            opened.append(source)
            syscalls.mount(by(source), by(target), syscalls.MS_BIND)
        finally:
            syscalls.umount2(by(tmpfs), syscalls.MNT_DETACH)
        hidden = root.whole.open(path)
        opened.append(hidden)
        if not os.path.samestat(os.fstat(hidden), os.fstat(source)):
            raise OSError(errno.EBUSY, "/proc has been moved")
        flags = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        syscalls.mount("none", by(hidden), syscalls.MS_REMOUNT | syscalls.MS_BIND | flags)
    except OSError as error:
        raise InjectionError(
            f"can't mount a file over {quote(path)} in the container: {error.strerror}"
        ) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def limit_gpus(root: Rootfs) -> None:
    """Tell EGL and Vulkan which GPUs the container has; raises InjectionError."""
    mask = 0
    try:
        devices = root.whole.open("/dev")
    except FileNotFoundError:
        return
    for number in range(_MOST_GPUS):
        try:
            status = os.stat(f"{_NODE}{number}", dir_fd=devices, follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISCHR(status.st_mode) and os.minor(status.st_rdev) < _MOST_GPUS:
            mask |= 1 << os.minor(status.st_rdev)
    os.close(devices)
    if mask:
        profile = (
            f'{{"profiles":[{{"name":"_container_","settings":["EGLVisibleDGPUDevices",0x{mask:x}]}}],'
            '"rules":[{"pattern":[],"profile":"_container_"}]}'
        )
        before = os.umask(0o222)  # the dirs on the way are not to be written to either
        texts.write(root, _PROFILE, profile, _PROFILE_MODE)
        os.umask(before)


def _numbers(version: str) -> list[int]:
    """Return a version's numbers; [] if it has anything else."""
    parts = version.split(".")
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else []
