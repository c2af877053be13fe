# SPDX-License-Identifier: Apache-2.0
"""Have a container's dynamic linker find libraries: ld.so.conf, links of SONAMEs, and ld.so.cache.

This does for the container's root filesystem what ldconfig(8) does for a system. It doesn't run
one: the container's own may be anything, and the host's may be for another C library or missing.
A container with musl, whose linker has no cache, gets the dirs in its path file.

Of what is mounted in the container only the spec's own libraries are read (Mounted). The cache keeps
what the image's had of other volumes.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_hook.base import files
from cdi_hook.base.quoting import quote
from cdi_hook.container.rootfs import OnVolume, TooMuch, mount_of
from cdi_hook.errors import InjectionError
from cdi_hook.libraries import elf, ldcache, links, texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cdi_hook.container.rootfs import Rootfs

    Inode = tuple[int, int]  # device and inode

_CONF = "/etc/ld.so.conf"
_CONF_DIR = "/etc/ld.so.conf.d"
_CACHE = "/etc/ld.so.cache"
# Our files there. They sort as those of NVIDIA's own hook do: an image's 00-cuda-compat.conf comes
# first, the system's dirs come last.
_COMPAT, _OURS, _SYSTEM = (
    f"{_CONF_DIR}/{name}-cdi-hook.conf" for name in ("00-compat", "00-nvcr", "zz-nvcr")
)
_DEBIAN, _ALPINE = "/etc/debian_version", "/etc/alpine-release"
_HWCAPS = "glibc-hwcaps"
_MOST_INCLUDED = 200  # files, one including the next at worst, and as many patterns
_MOST_LINKS = 40  # the kernel's limit
_USUAL_TABLE = 1024  # bytes of an ELF file's table that count with its file; larger ones count by themselves

_MUSL_DEFAULTS = ("/lib", "/usr/local/lib", "/usr/lib")


class Mounted:
    """The libraries that the spec mounts in a container: each is a file of the host's."""

    def __init__(self, root: Rootfs, paths: Sequence[str] = (), driver_root: str = "") -> None:
        """Find them; raises InjectionError if something else is there."""
        self._root = root
        # By the path without links: the path, and what is there.
        self._found: dict[str, tuple[str, os.stat_result]] = {}
        for path in paths:
            try:
                status = _status(root, path)
                if not _is_of_host(status, root, path, f"{driver_root}{path}"):
                    wanted = quote(driver_root + path)
                    raise InjectionError(
                        f"{quote(path)} in the container isn't {wanted}, which the spec mounts"
                    )
            except OSError as error:
                raise InjectionError(f"can't find the mounted {quote(path)}: {error.strerror}") from error
            self._found[self._real(path)] = path, status

    def names(self, directory: str) -> list[str]:
        """Return the names of those in a dir."""
        real = self._real(f"{directory}/.")[:-1]
        return [path[len(real) :] for path in self._found if path.rpartition("/")[0] == real[:-1]]

    def open(self, path: str) -> int:
        """Return an O_PATH descriptor of a file that is the image's or one of these.

        Nothing else that is mounted is looked at: it might not answer. Raises OSError and InjectionError.
        """
        try:
            return self._root.open(path)
        except OnVolume:
            for _ in range(_MOST_LINKS):
                place, status = self._found.get(self._real(path), ("", None))
                if status:
                    descriptor = self._root.whole.open(place)
                    if os.path.samestat(os.fstat(descriptor), status):
                        return descriptor
                    os.close(descriptor)
                    break
                path = self._target(path)
                if not path:
                    break
            raise

    def _real(self, path: str) -> str:
        """Return a path whose dir has no links, if it is the image's; else the path as it is."""
        directory, _, name = path.rpartition("/")
        try:
            return f"{self._root.real(directory)}/{name}"
        except (OSError, InjectionError):
            return f"{files.clean(directory)}/{name}"

    def _target(self, path: str) -> str:
        """Return where a link of the image's leads, "" if it is none."""
        directory, _, name = path.rpartition("/")
        try:
            place = self._root.open(directory)
        except (OSError, InjectionError):
            return ""
        try:
            return files.clean(os.path.join(directory, os.readlink(name, dir_fd=place)))
        except OSError:
            return ""
        finally:
            os.close(place)


def _status(root: Rootfs, path: str) -> os.stat_result:
    """Return the status of what is at a path, mounted or not; raises OSError and InjectionError."""
    place = root.whole.open(path)
    try:
        return os.fstat(place)
    finally:
        os.close(place)


def _is_of_host(status: os.stat_result, root: Rootfs, path: str, on_host: str) -> bool:
    """Say whether a file is the host's; if we may not look at that, whether it is mounted."""
    try:
        return os.path.samestat(status, os.stat(on_host))
    except PermissionError:  # root of a user namespace
        place, directory = root.whole.open(path), root.whole.open(path.rpartition("/")[0])
        try:
            return mount_of(place) != mount_of(directory)
        finally:
            os.close(place)
            os.close(directory)


def update(root: Rootfs, dirs: Sequence[str], before: Sequence[str], mounted: Mounted) -> None:
    """Add dirs to those that a container's libraries are searched in, and ``before`` as the first of all.

    Raises InjectionError.
    """
    if not texts.is_on_volume(root, _CONF) and texts.read(root, _CONF) is None:
        texts.write(root, _CONF, f"include {_CONF_DIR}/*.conf\n")
    system = _system_dirs(root)
    known = {*system, *_configured(root, ignore={_COMPAT, _OURS, _SYSTEM})}
    added = [directory for directory in dirs if directory not in known]
    for path, listed in ((_COMPAT, before), (_OURS, added), (_SYSTEM, system)):
        if listed:
            texts.write(root, path, "".join(f"{directory}\n" for directory in listed))
        else:
            texts.remove(root, path)
    if texts.read(root, _ALPINE) is not None:
        _write_musl_path(root, added, system)
    entries: list[ldcache.Entry] = []
    seen: set[Inode] = set()
    # An image without debian_version may have Debian's dirs all the same, as small ones do.
    # A configuration on a volume isn't read, and one need not include our files.
    for directory in dict.fromkeys([*_configured(root), *before, *dirs, *_debians_dirs()]):
        for place, hwcaps in _with_hwcaps(root, directory, seen, mounted):
            entries += _Dir(root, place, hwcaps, mounted).entries()
    texts.write(root, _CACHE, ldcache.build([*entries, *_of_volumes(root, entries)]))


def _system_dirs(root: Rootfs) -> list[str]:
    """Return the dirs that the container's own ldconfig searches whatever its configuration says."""
    if texts.read(root, _DEBIAN) is not None:
        return [*_debians_dirs(), "/lib", "/usr/lib"]
    x32 = ["/libx32", "/usr/libx32"] if os.uname().machine == "x86_64" else []
    return ["/lib", "/usr/lib", "/lib64", "/usr/lib64", *x32]


def _debians_dirs() -> list[str]:
    return [f"{directory}/{os.uname().machine}-linux-gnu" for directory in ("/lib", "/usr/lib")]


def _configured(root: Rootfs, ignore: Iterable[str] = ()) -> list[str]:
    """Return the dirs that ld.so.conf and the files it includes name, in their order."""
    found: dict[str, None] = {}
    _read_conf(root, _CONF, {*ignore}, set(), found)
    return list(found)


def _read_conf(root: Rootfs, path: str, read: set[str], patterns: set[str], found: dict[str, None]) -> None:
    """Add the dirs that a file names; ``read`` and ``patterns`` are the files and includes that are done."""
    if path in read:
        return
    _add(path, read)
    for line in (texts.read(root, path) or "").splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for word in words[1:]:
                pattern = os.path.join(os.path.dirname(path), word)
                if pattern in patterns:
                    continue
                _add(pattern, patterns)
                for included in texts.matching(root, pattern):
                    _read_conf(root, included, read, patterns, found)
        elif words and words[0].startswith("/"):
            root.spend(1, 0, path)
            found[files.clean(" ".join(words))] = None


def _add(included: str, done: set[str]) -> None:
    done.add(included)
    if len(done) > _MOST_INCLUDED:
        raise TooMuch(f"{_MOST_INCLUDED} includes", included)


def _write_musl_path(root: Rootfs, added: Sequence[str], system: Sequence[str]) -> None:
    """Write the dirs that musl searches; a file that isn't there yet takes the place of its defaults."""
    path = f"/etc/ld-musl-{os.uname().machine}.path"
    present = texts.read(root, path)
    dirs = _MUSL_DEFAULTS if present is None else present.replace(":", "\n").split()
    texts.write(root, path, "".join(f"{one}\n" for one in dict.fromkeys([*added, *dirs, *system])))


def _with_hwcaps(
    root: Rootfs, directory: str, seen: set[Inode], mounted: Mounted
) -> Iterator[tuple[str, str]]:
    """Yield a dir and the dirs for some processors below it, each with its processors' name."""
    try:
        descriptor = root.open(directory)
    except OnVolume:
        if mounted.names(directory):
            yield directory, ""
        return
    except (FileNotFoundError, InjectionError):
        return  # as many a directory in a configuration is
    status = os.fstat(descriptor)
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode) and _identity(status) not in seen:
        seen.add(_identity(status))
        yield directory, ""
        for place in texts.matching(root, f"{directory}/{_HWCAPS}/*"):
            yield place, place.rpartition("/")[2]


def _of_volumes(root: Rootfs, entries: Iterable[ldcache.Entry]) -> list[ldcache.Entry]:
    """Return what the image's cache has on volumes, which aren't read, and ``entries`` don't have."""
    known = {(one.name, one.flags, one.hwcaps) for one in entries}
    found = []
    try:
        for one in ldcache.parse(texts.read_bytes(root, _CACHE) or b""):
            root.spend(1, len(one.name) + len(one.path), _CACHE)  # strings that entries share, too
            if (one.name, one.flags, one.hwcaps) not in known and texts.is_on_volume(root, one.path):
                found.append(one)
    except ValueError:
        return []
    return found


def _identity(status: os.stat_result) -> Inode:
    return status.st_dev, status.st_ino


class _Library:
    """A library's file in a dir."""

    __slots__ = ("flags", "is_link", "is_mounted", "name", "soname")

    def __init__(self, name: str, soname: str, flags: int, is_link: bool, is_mounted: bool) -> None:
        self.name = name
        self.soname = soname
        self.flags = flags
        self.is_link = is_link
        self.is_mounted = is_mounted

    def replaces(self, other: _Library) -> bool:
        """Say whether this is the one to use, of two with one SONAME: the spec's, a file, a newer one."""
        if self.is_mounted != other.is_mounted:
            return self.is_mounted
        if self.is_link != other.is_link:
            return other.is_link
        return ldcache.is_newer(self.name, other.name)


class _Dir:
    """One dir of a container's libraries."""

    def __init__(self, root: Rootfs, path: str, hwcaps: str, mounted: Mounted) -> None:
        self._root = root
        self._path = path
        self._hwcaps = hwcaps
        self._mounted = mounted
        self._files: dict[str, Inode] = {}  # a name and what it is in the end
        self._read: dict[Inode, tuple[elf.Machine, str] | None] = {}
        self._links: dict[str, bool] = {}  # whether each name in it is one
        self._of_spec: set[str] = set()

    def entries(self) -> list[ldcache.Entry]:
        """Make the links that are missing; return the entries of the cache."""
        try:
            directory, entries = texts.listed(self._root, self._path)
        except (OSError, InjectionError):
            directory, entries = -1, []  # on a volume, or a user namespace's root may not read it
        self._links = {name: is_link for name, is_link, _ in entries}
        self._of_spec = set(filter(_is_library, self._mounted.names(self._path)))
        names = {
            name: is_link for name, is_link, is_file in entries if _is_library(name) and is_link | is_file
        }
        names.update(dict.fromkeys(self._of_spec, False))
        found: dict[str, _Library] = {}
        for is_link, name in sorted((is_link, name) for name, is_link in names.items()):  # files come first
            library = self._library(directory, name, is_link)
            if library and (library.soname not in found or library.replaces(found[library.soname])):
                found[library.soname] = library
        made = [
            ldcache.Entry(
                library.soname,
                f"{self._path}/{self._name(directory, library)}",
                library.flags,
                self._hwcaps,
            )
            for library in found.values()
        ]
        if directory >= 0:
            os.close(directory)
        return made

    def _library(self, directory: int, name: str, is_link: bool) -> _Library | None:
        try:
            content = self._content(directory, name, is_link)
        except (OSError, InjectionError) as error:
            cause = error.__cause__ or error
            leads_nowhere = isinstance(cause, OSError) and cause.errno in (errno.ENOENT, errno.ELOOP)
            if is_link and ".so." in name and leads_nowhere:  # ldconfig removes it too
                self._remove(directory, name)
            return None
        if content is None or content[0] not in ldcache.FLAGS:
            return None
        soname = content[1]
        if not soname or "/" in soname:
            soname = name
        # A link is another name of its library, if that is its SONAME or what programs are linked with.
        # Any other link is a file to find the library by.
        if is_link and (name == soname or (name.endswith(".so") and soname.startswith(name))):
            soname = name
        else:
            is_link = False
        return _Library(name, soname, ldcache.FLAGS[content[0]], is_link, name in self._of_spec)

    def _content(self, directory: int, name: str, is_link: bool) -> tuple[elf.Machine, str] | None:
        """Return what is in a file or behind a link, which is noted in _files."""
        if is_link:
            target = os.readlink(name, dir_fd=directory)
            if target in self._files:
                self._files[name] = self._files[target]
                return self._read[self._files[name]]
        descriptor = texts.open_regular(self._mounted.open(f"{self._path}/{name}"))
        if descriptor is None:
            return None
        try:
            status = os.fstat(descriptor)
            identity = _identity(status)
            if identity not in self._read:
                self._root.spend(1, len(self._path) + len(name), f"{self._path}/{name}")
                self._read[identity] = elf.library(descriptor, self._pread)
            self._files[name] = identity
            return self._read[identity]
        finally:
            os.close(descriptor)

    def _pread(self, descriptor: int, size: int, offset: int) -> bytes:
        data = os.pread(descriptor, size, offset)
        self._root.spend(0, max(0, len(data) - _USUAL_TABLE), self._path)
        return data

    def _remove(self, directory: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=directory)
        except OSError:
            pass  # a dir that is read-only

    def _name(self, directory: int, library: _Library) -> str:
        """Return the name in the dir by which a library will be found, a link that may have to be made."""
        if self._hwcaps:
            return library.name
        if library.is_link or self._files.get(library.soname) == self._files[library.name]:
            return library.soname
        if directory < 0:
            return library.name
        if self._links.get(library.soname) is False:
            return library.soname  # something else than a link
        self._root.spend(4, 0, f"{self._path}/{library.soname}")
        try:
            links.put(directory, library.soname, library.name)
        except OSError:
            return library.name  # a dir that is read-only: it is found by its own name
        return library.soname


def _is_library(name: str) -> bool:
    """Say whether ldconfig would look into a file of this name."""
    if not name.isascii() or name.endswith(("-gdb.py", ".dpkg-new", ".dpkg-tmp", files.TEMPORARY)):
        return False
    if name.startswith(("lib", "ld-")):
        return ".so" in name
    return name.startswith(("ld.so.", "ld64.so."))
