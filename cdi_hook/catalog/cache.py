# SPDX-License-Identifier: Apache-2.0
"""Spec dirs -> devices: priority, conflicts, errors by file (CDI specification, "Spec directories").

This reads every spec that has changed. A container's start uses index.py, which stores
what this module finds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cdi_hook.base import patience, volumes
from cdi_hook.base.files import Identity, clean, content, identify, text
from cdi_hook.base.quoting import quote
from cdi_hook.base.trust import Untrusted, trusted
from cdi_hook.catalog.index import in_order
from cdi_hook.catalog.inventory import Definition, Inventory, Problems
from cdi_hook.edits import editor
from cdi_hook.errors import ERROR, CDIError, Finding, InjectionError, InvalidSpec, UnresolvableDevices
from cdi_hook.names import as_list
from cdi_hook.specs import specfile
from cdi_hook.specs.model import SPEC_EXTENSIONS, Device, Spec, spec_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cdi_hook.catalog.index import DeviceParts
    from cdi_hook.edits.target import Change, Part

    Remembered = Mapping[str, tuple[str, dict[str, Any]]]  # by path: a valid spec's text and data

DEFAULT_SPEC_DIRS = ("/etc/cdi", "/var/run/cdi")
# A file that changed a moment ago may change again without a new time stamp. Some file systems keep
# whole seconds, and FAT every other one.
SETTLED_NS = 50_000_000
SETTLED_WHOLE_NS = 2_100_000_000
SILENT = f"its file system doesn't answer within {patience.PATIENCE_S} s, so this dir isn't read"
UNMOUNT = "fix or unmount that file system, or take the dir out of SPEC_DIRS"
# Reading it again would end the same way: it is no regular file (as files.read says it), or we may not.
_STAYS = ("EACCES", "EINVAL", "EISDIR", "ELOOP", "ENOENT", "ENOTDIR", "ENXIO", "EPERM")


class Snapshot(NamedTuple):
    """What a cache holds at one moment."""

    specs: list[Spec]
    devices: dict[str, Device]
    problems: Problems
    identities: dict[str, Identity | None]
    images: dict[str, str | None]
    remembered: Remembered

    def inventory(self) -> Inventory:
        """Return the devices with their places, and the problems."""
        everywhere: dict[str, list[str]] = {}
        for spec in self.specs:
            for device in spec.devices.values():
                everywhere.setdefault(device.qualified_name, []).append(spec.path)
        devices = {}
        for name, device in sorted(self.devices.items()):
            winner = device.spec.path
            devices[name] = Definition(winner, [one for one in everywhere[name] if one != winner])
        return Inventory(devices, dict(sorted(self.problems.items())))


class Cache:
    """The devices that the CDI specs in some dirs define (CDI specification, "CDI JSON Specification").

    ``spec_dirs`` are in rising priority. Each call notices files that have changed.
    With ``strict``, a spec file counts only if nobody but root could have written it.
    A spec that can't be used raises nothing: ``errors`` has it.

    ``identities`` has what is watched, by path; ``images`` the contents of what can change and keep its
    identity, because it is an image's. ``remembered`` are the specs that need not be parsed again while
    their files have the same content. ``silent`` are the dirs that aren't read because they don't answer.

    >>> import tempfile
    >>> cache = Cache([tempfile.mkdtemp()])
    >>> path = cache.write_spec({
    ...     "cdiVersion": "0.3.0",
    ...     "kind": "vendor.com/device",
    ...     "devices": [{"name": "d0", "containerEdits": {"env": ["DEVICE=0"]}}],
    ... })
    >>> cache.devices()
    ['vendor.com/device=d0']
    >>> oci = {}
    >>> changes = cache.inject(oci, ["vendor.com/device=d0"])
    >>> oci["process"]["env"]
    ['DEVICE=0']
    >>> cache.remove_spec("vendor.com-device")
    >>> cache.devices()
    []
    """

    def __init__(
        self,
        spec_dirs: Sequence[str] = DEFAULT_SPEC_DIRS,
        *,
        strict: bool = False,
        remembered: Remembered | None = None,
        silent: Sequence[str] = (),
    ) -> None:
        self.spec_dirs = [clean(os.fspath(directory)) for directory in as_list(spec_dirs, "spec_dirs")]
        self._strict = strict
        self._specs: list[Spec] = []
        self._devices: dict[str, Device] = {}
        self._problems: Problems = {}
        self.identities: dict[str, Identity | None] = {}
        self.images: dict[str, str | None] = {}
        self.remembered = remembered or {}
        self._texts: dict[str, str] = {}
        self.silent = [clean(directory) for directory in silent]
        self._read_ns = 0
        self._is_whole = True
        self.refresh()

    @property
    def errors(self) -> dict[str, list[str]]:
        """What is wrong, by path of a file or dir; a conflict is listed for both files."""
        return {path: [str(one) for one in problems] for path, problems in self.problems.items()}

    @property
    def problems(self) -> Problems:
        """The same as findings."""
        self._refresh_if_changed()
        return {path: list(problems) for path, problems in self._problems.items()}

    @property
    def specs(self) -> list[Spec]:
        """The valid specs: the lowest priority first, the files of a dir in byte order of their names."""
        self._refresh_if_changed()
        return list(self._specs)

    def snapshot(self) -> Snapshot:
        """Return all that the specs say now, each part of it of the same moment; nobody alters it."""
        self._refresh_if_changed()
        return Snapshot(
            self._specs, self._devices, self._problems, self.identities, self.images, self.remembered
        )

    def devices(self) -> list[str]:
        """Return the qualified names of all devices, sorted."""
        self._refresh_if_changed()
        return sorted(self._devices)

    def device(self, name: str) -> Device | None:
        """Return the device with this qualified name, if there is one."""
        return self.by_name().get(name)

    def by_name(self) -> dict[str, Device]:
        """Return all devices by their qualified names."""
        self._refresh_if_changed()
        return dict(self._devices)

    def parts(self, names: Sequence[str]) -> list[Part]:
        """Return the parts that these devices ask for, in the order in which they apply.

        A spec's own edits come once, before those of its first device. Raises
        UnresolvableDevices if a device isn't known.
        """
        return in_order(self.look_up(names))

    def look_up(self, names: Sequence[str]) -> list[DeviceParts]:
        """Return what each of these devices asks for, as Index.look_up does."""
        names = as_list(names, "names")
        self._refresh_if_changed()
        unresolved = [name for name in names if name not in self._devices]
        if unresolved:
            raise UnresolvableDevices(unresolved)
        devices = [(name, device, device.spec) for name in names for device in [self._devices[name]]]
        return [
            (((None, spec.path), spec.container_edits), ((name, spec.path), device.edits))
            for name, device, spec in devices
        ]

    def inject(self, oci: dict[str, Any] | None, names: Sequence[str]) -> list[Change]:
        """Add these devices to an OCI runtime specification, in place, and return the changes.

        Raises UnresolvableDevices or InjectionError; oci is unchanged then.
        """
        if oci is None:
            raise InjectionError("can't inject devices, nil OCI Spec")
        return editor.apply(oci, self.parts(names))

    def write_spec(self, data: dict[str, Any], name: str | None = None) -> str:
        """Write a spec to the dir of the highest priority and return its path.

        ``name`` is the file's; without the extension .json or .yaml it gets .yaml. It is
        vendor-class if it isn't given. A file of that name is replaced, in one step.
        Raises InvalidSpec if data isn't a spec, and CDIError if the file can't be written.
        """
        written = Spec(data)
        written.path = self._path(specfile.name_for(data) if name is None else name)
        specfile.write(written)
        return written.path

    def remove_spec(self, name: str) -> None:
        """Remove what write_spec writes by this name, if it is there.

        Raises CDIError if it can't be removed.
        """
        specfile.remove(self._path(name))

    def _path(self, name: str) -> str:
        if not self.spec_dirs:
            raise CDIError("no Spec directories to write to")
        return spec_path(f"{self.spec_dirs[-1]}/{name}")

    def refresh(self) -> None:
        """Read the specs again, and parse those whose content has changed since they were read."""
        self._read_ns = time.time_ns()
        self._is_whole = True
        self._specs, self._devices, self._problems, self.identities = [], {}, {}, {}
        self.images, self._images = {}, volumes.images()
        conflicts = set()
        for priority, directory in enumerate(self.spec_dirs):
            for path in self._spec_files(directory):
                self._watch(path)
                loaded = self._load(path, priority)
                if loaded is None:
                    continue
                self._specs.append(loaded)
                for device in loaded.devices.values():
                    name = device.qualified_name
                    other = self._devices.get(name)
                    if other is None or other.spec.priority < priority:
                        self._devices[name] = device
                        continue
                    paths = (path, other.spec.path)
                    for one in paths:
                        both = f"{quote(paths[0])}, {quote(paths[1])}"
                        message = f"conflicting device {quote(name)}: two files of one dir define it ({both})"
                        fix = "neither counts, so rename or remove one"
                        self._add_problem(one, Finding(ERROR, message, fix, kind="conflict", device=name))
                    conflicts.add(name)
        for name in conflicts:
            del self._devices[name]
        self.remembered = {spec.path: (self._texts[spec.path], spec.data) for spec in self._specs}

    def _watch(self, path: str) -> None:
        self.identities[path] = identify(path)
        try:
            if self._images and volumes.number(path) in self._images:
                self.images[path] = content(path)
        except OSError as error:
            self._note_failure(error)

    @property
    def is_settled(self) -> bool:
        """Say whether everything was read, and was so old then that no change since goes unseen."""
        return self._is_whole and all(one is None or self._is_old(one) for one in self.identities.values())

    def _is_old(self, identity: Identity) -> bool:
        latest = max(identity[3:5])
        return latest <= self._read_ns - (SETTLED_NS if latest % 1_000_000_000 else SETTLED_WHOLE_NS)

    def _refresh_if_changed(self) -> None:
        if any(identify(path) != identity for path, identity in self.identities.items()):
            self.refresh()

    def _spec_files(self, directory: str) -> list[str]:
        if directory in self.silent:
            self._is_whole = False
            self._add_problem(directory, Finding(ERROR, SILENT, UNMOUNT, kind="unreadable"))
            return []
        self._watch(directory)
        try:
            with os.scandir(directory) as entries:
                names = [
                    entry.name
                    for entry in entries
                    if entry.name.endswith(SPEC_EXTENSIONS) and not entry.is_dir(follow_symlinks=False)
                ]
        except FileNotFoundError:
            return []
        except OSError as error:
            self._note_failure(error)
            reason = (error.strerror or str(error)).lower()
            self._add_problem(directory, Finding(ERROR, f"can't read this dir: {reason}", kind=_kind(error)))
            return []
        return [clean(f"{directory}/{name}") for name in sorted(names, key=os.fsencode)]

    def _load(self, path: str, priority: int) -> Spec | None:
        try:
            with trusted(os.path.abspath(path)) if self._strict else contextlib.nullcontext(path) as source:
                data = specfile.read_file(path, source)
            self._texts[path] = text(data)
            known, value = self.remembered.get(path, (None, {}))
            if known == self._texts[path]:
                return Spec(value, path, priority, is_valid=True)
            return specfile.parse(data, path, priority)
        except OSError as error:
            self._note_failure(error)
            reason = (error.strerror or str(error)).lower()
            self._add_problem(path, Finding(ERROR, f"can't read it: {reason}", kind=_kind(error)))
        except InvalidSpec as error:
            self._note_failure(error.__cause__)
            first, more = error.findings[0], len(error.findings) - 1
            fix = f"{first.fix}{f' (and {more} more)' if more else ''}".strip()
            self._add_problem(path, Finding(ERROR, first.message, fix, first.place, _kind(error.__cause__)))
        except Untrusted as error:
            message = f"refused by SPEC_TRUST=strict: {error}"
            self._add_problem(path, Finding(ERROR, message, f"to fix it: {error.remedy}", kind="untrusted"))
        return None

    def _note_failure(self, error: BaseException | None) -> None:
        """Note that something couldn't be read, unless reading it again would end the same way."""
        if isinstance(error, OSError) and errno.errorcode.get(error.errno or 0) not in _STAYS:
            self._is_whole = False

    def _add_problem(self, path: str, problem: Finding) -> None:
        self._problems.setdefault(path, []).append(problem)


def _kind(error: BaseException | None) -> Literal["invalid", "denied", "unreadable"]:
    """Return the kind of a file whose reading failed with an error, or that could be read."""
    if isinstance(error, PermissionError):
        return "denied"
    return "unreadable" if isinstance(error, OSError) else "invalid"
