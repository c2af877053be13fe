# SPDX-License-Identifier: Apache-2.0
"""Device rules of an OCI specification -> the container's device cgroup.

See the OCI runtime specification, "Allowed Device list". With cgroup v1 a rule is a
line in devices.allow. With v2, BPF programs decide, and all of them have to agree.
Each is replaced by a program that first allows what our rules allow, and otherwise
decides as before. bpf.py makes these programs. systemd makes its own again at any
time; so it is told of our rules first, see systemd.py.
"""

from __future__ import annotations

import ctypes
import os
import struct
import zlib

from cdi_hook.base import files
from cdi_hook.base.quoting import quote
from cdi_hook.container import syscalls
from cdi_hook.errors import InjectionError
from cdi_hook.live import bpf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_MOUNTINFO = "/proc/self/mountinfo"
_ATTR_SIZE = 256  # more than any union bpf_attr; the kernel writes into some of it
_MAX_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS
_TRIES = 5
_SYSTEMD_S = b"sd_devices"  # the name of systemd's own program (src/core/bpf-devices.c), from 249 on


def allow(pid: int, rules: Sequence[dict[str, Any]], warn: Callable[[str], None]) -> None:
    """Add OCI rules, which all allow something, for the container of a process; raises InjectionError.

    ``warn`` is told if root's container has no cgroup of its own, or if a user may
    not change the rules; runtimes go on then too. A user's container without a
    cgroup of its own has no rules.
    """
    allowed = _merged(rules)
    if not allowed:
        return
    is_v1, cgroups = _cgroups(pid)
    if not cgroups and files.is_system_root():
        warn("the container is in the hook's own cgroup: its device rules stay as they are")
    is_told = False
    scope = os.path.basename(cgroups[0]) if cgroups else ""
    if scope.endswith(".scope") and files.is_system_root():
        from cdi_hook.live import systemd  # subprocess: 10 ms

        is_told = systemd.allow(scope.removeprefix("_"), allowed, warn)
    for cgroup in cgroups:
        try:
            if is_v1:
                _allow_v1(cgroup, allowed)
            else:
                _allow_v2(cgroup, bpf.allowing(allowed), [_SYSTEMD_S] if is_told else [])
        except OSError as error:
            if not isinstance(error, PermissionError) or files.is_system_root():
                raise _error(cgroup, str(error.strerror)) from error
            warn(f"the device rules of cgroup {quote(cgroup)} stay as they are: {error.strerror}")
            break


def _error(cgroup: str, reason: str) -> InjectionError:
    return InjectionError(
        f"can't add device rules to cgroup {quote(cgroup)}: {reason}; "
        "use cdi-runtime as the engine's runtime: then the runtime itself makes these rules"
    )


def _merged(rules: Sequence[dict[str, Any]]) -> bpf.Rules:
    """Return one rule for each device: to open it for reading and writing, one rule must allow both."""
    merged: dict[tuple[str, int | None, int | None], str] = {}
    for rule in rules:
        major, minor = (None if rule.get(name, -1) == -1 else rule[name] for name in ("major", "minor"))
        is_one = all(number is None or 0 <= number < 1 << 31 for number in (major, minor))
        if rule.get("access") and is_one:
            key = rule["type"], major, minor
            merged[key] = "".join(sorted({*merged.get(key, ""), *rule["access"]}))
    return merged


# Find the cgroup: /proc/PID/cgroup has its path in the hierarchy, /proc/self/mountinfo the mount of that.


def _cgroups(pid: int) -> tuple[bool, list[str]]:
    """Return whether devices are in cgroup v1, and the container's cgroups, the outer one first.

    Cgroups that the hook itself is in are left out.
    """
    mounts = _mounts()
    is_v1 = any(of_v1 for of_v1, _, _ in mounts)
    path, own = (_path(process, "devices" if is_v1 else "") for process in (pid, "self"))
    # With systemd, crun makes a cgroup within the scope, but attaches its program to the scope.
    scope = os.path.dirname(path)
    paths = [scope, path] if scope.endswith(".scope") else [path]
    paths = [path for path in paths if not f"{own}/".startswith(f"{path.rstrip('/')}/")]
    if not paths:
        return is_v1, []
    for of_v1, root, place in mounts:
        if of_v1 == is_v1 and _holds(_directory(path, root, place), pid):
            directories = (_directory(path, root, place) for path in paths)
            return is_v1, [directory for directory in directories if directory]
    raise InjectionError(
        f"can't add device rules to the container's cgroup {quote(path)}: no mount here shows it; "
        "the engine has to run in the host's mount and cgroup namespaces"
    )


def _mounts() -> list[tuple[bool, str, str]]:
    """Return the mounts of devices' cgroups: whether it is v1, the cgroup at its root, its path."""
    mounts = []
    with open(_MOUNTINFO, "rb") as lines:
        for line in lines:
            fields, _, filesystem = line.rstrip(b"\n").partition(b" - ")
            fstype, _, options = filesystem.split(b" ", 2)
            of_v1 = fstype == b"cgroup" and b"devices" in options.split(b",")
            if of_v1 or fstype == b"cgroup2":
                root, place = (_unescaped(field) for field in fields.split(b" ")[3:5])
                mounts.append((of_v1, root.rstrip("/"), place))
    return mounts


def _unescaped(field: bytes) -> str:
    return os.fsdecode(field.decode("unicode_escape").encode("latin-1"))


def _path(process: int | str, controller: str) -> str:
    """Return a process's cgroup in the hierarchy of a controller ("": v2's hierarchy)."""
    try:
        with open(f"/proc/{process}/cgroup", "rb") as lines:
            for line in lines:
                _, controllers, path = os.fsdecode(line.rstrip(b"\n")).split(":", 2)
                if controller in controllers.split(","):
                    return path
    except OSError as error:
        raise InjectionError(f"can't find the cgroup of process {process}: {error.strerror}") from error
    raise InjectionError(f"process {process} is in no cgroup that could have device rules")


def _directory(path: str, root: str, place: str) -> str:
    """Return a cgroup's dir below a mount, or ""; both paths may start above our cgroup namespace."""
    rest = path[len(root) :]
    is_below = f"{path}/".startswith(f"{root}/") and "/../" not in f"{rest}/"
    return place + rest if is_below else ""


def _holds(cgroup: str, pid: int) -> bool:
    try:
        with open(f"{cgroup}/cgroup.procs", encoding="ascii") as lines:
            return str(pid) in lines.read().split()
    except OSError:
        return False  # another mount hides it


# Change what the cgroup allows.


def _allow_v1(cgroup: str, rules: bpf.Rules) -> None:
    descriptor = os.open(f"{cgroup}/devices.allow", os.O_WRONLY | os.O_CLOEXEC)
    try:
        for (kind, *numbers), access in rules.items():
            major, minor = ("*" if number is None else str(number) for number in numbers)
            os.write(descriptor, f"{kind} {major}:{minor} {access}".encode("ascii"))
    finally:
        os.close(descriptor)


def _allow_v2(cgroup: str, allowing: bytes, but: Sequence[bytes]) -> None:
    descriptor = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            try:
                return _put_first(descriptor, allowing, but)
            except FileNotFoundError:
                continue  # somebody else replaced a program meanwhile
            except ValueError as error:
                raise _error(cgroup, f"a program that decides there {error}") from error
        raise _error(cgroup, "a program that decides there is a link's, or is replaced all the time")
    finally:
        os.close(descriptor)


def _put_first(cgroup: int, allowing: bytes, but: Sequence[bytes]) -> None:
    """Put instructions before those of each program of a cgroup, unless the program has them.

    Programs with the names ``but`` stay. No program is attached before all are loaded.
    """
    name = b"cdi_%08x" % zlib.crc32(allowing)  # a second run finds it
    numbers, flags = _attached(cgroup)
    opened = []
    replacements = []
    try:
        for number in numbers:
            opened.append(old := syscalls.bpf(syscalls.BPF_PROG_GET_FD_BY_ID, _attr("I", number)))
            its_name, program = _program(old)
            if its_name not in (name, *but):
                opened.append(new := _load(allowing + bpf.loadable(program), name))
                replacements.append((old, new))
        for old, new in replacements:
            how = (flags | syscalls.BPF_F_REPLACE, old) if flags & syscalls.BPF_F_ALLOW_MULTI else (flags, 0)
            syscalls.bpf(syscalls.BPF_PROG_ATTACH, _attr("5I", cgroup, new, syscalls.BPF_CGROUP_DEVICE, *how))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _attr(layout: str, *values: Any) -> bytearray:
    return bytearray(struct.pack(layout, *values)).ljust(_ATTR_SIZE, b"\0")


def _attached(cgroup: int) -> tuple[Sequence[int], int]:
    """Return the ids of a cgroup's own device programs, and the flags of their attachment."""
    numbers = (ctypes.c_uint32 * _MAX_PROGRAMS)()
    attr = _attr("4IQI", cgroup, syscalls.BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(numbers), _MAX_PROGRAMS)
    syscalls.bpf(syscalls.BPF_PROG_QUERY, attr)
    *_, flags, _, count = struct.unpack_from("4IQI", attr)
    return numbers[:count], flags


def _program(descriptor: int) -> tuple[bytes, bytes]:
    """Return a program's name and its instructions as the kernel has translated them."""
    length = _info(descriptor, 0, 0)[0]
    instructions = ctypes.create_string_buffer(length)
    _, is_shown, maps, name = _info(descriptor, length, ctypes.addressof(instructions))
    if maps:
        raise ValueError("uses maps")
    if not is_shown:
        raise ValueError("has its constants blinded, and the kernel doesn't show us how")
    return name, instructions.raw


def _info(descriptor: int, length: int, instructions: int) -> tuple[int, int, int, bytes]:
    """Return xlated_prog_len, xlated_prog_insns, nr_map_ids and name of a struct bpf_prog_info."""
    layout = struct.Struct("20xI8xQ12xI8x16s")
    info = ctypes.create_string_buffer(layout.pack(length, instructions, 0, b""), layout.size)
    syscalls.bpf(
        syscalls.BPF_OBJ_GET_INFO_BY_FD, _attr("2IQ", descriptor, layout.size, ctypes.addressof(info))
    )
    length, instructions, maps, name = layout.unpack(info.raw)
    return length, instructions, maps, name.rstrip(b"\0")


def _load(program: bytes, name: bytes) -> int:
    instructions, licence = (ctypes.create_string_buffer(text) for text in (program, b"Apache-2.0"))
    addresses = ctypes.addressof(instructions), ctypes.addressof(licence)
    kind, count = syscalls.BPF_PROG_TYPE_CGROUP_DEVICE, len(program) // 8
    attr = _attr("2I2Q2IQ2I16s", kind, count, *addresses, 0, 0, 0, 0, 0, name)
    try:
        return syscalls.bpf(syscalls.BPF_PROG_LOAD, attr)
    except OSError as error:
        raise ValueError(f"can't be loaded again, with {count} instructions: {error.strerror}") from error
