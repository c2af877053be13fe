# SPDX-License-Identifier: Apache-2.0
"""The leases of this host, or of one user: a file that is replaced under a lock.

It lies in a dir that only its owner can enter, /run/cdi-hook-leases or for a user below XDG_RUNTIME_DIR.
Both go when the machine stops, as its containers do. The file is an object of JSON:

    {"format": 1, "leases": [{
        "token":    what `state` gives back as the annotation TOKEN, if it is this container,
        "id":       the container's, and "root" where its runtime keeps it ("": the runtime's default),
        "bundle":   its dir,
        "engine":   docker, ...; "" if that isn't known,
        "since":    seconds since the epoch, for people only,
        "creators": [[pid, start time, pid namespace], ...], the processes that create it,
        "state":    the command that asks the runtime; [] if the creators are the container's own process,
        "xdg":      the XDG_RUNTIME_DIR of that command, or null,
        "outside":  the cgroups that its creators were in,
        "cgroup":   its own, if somebody has seen it with processes: [where the hierarchy is mounted,
                    device and inode there, the path below that, its inode], or null,
        "devices":  [[name, keys, capabilities], ...], as in same.py}, ...]}

A field that isn't known is kept.
"""

from __future__ import annotations

import posix
import time

from cdi_hook import errors
from cdi_hook.base import files, json_text
from cdi_hook.base.quoting import quote
from cdi_hook.leases import claims
from cdi_hook.leases.same import Hardware

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

TOKEN = "cdi-hook.lease"  # noqa: S105 # the annotation's key; no secret
_FORMAT = 1
_LEASES, _LOCK = "leases", "lock"
_HEAD, _TAIL = b'{"format":%d,"leases":[' % _FORMAT, b"]}"  # as write() has them
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_WAIT_S, _POLL_S = 20.0, 0.005  # a lock is kept for some ms: who waits longer waits for a stopped process
_LAST = 1e11  # s, for a clock that is wrong: the year 5138
_SHAPE = {
    "token": str, "id": str, "root": str, "bundle": str, "engine": str, "since": (int, float),
    "creators": list, "state": list, "devices": list,
}  # fmt: skip
_CGROUP = [str, int, int, str, int]


class Lease:
    """One container's lease; ``tree`` is what the file has of it.

    inquiry.py finds out ``how`` the container is, in a word of the OCI specification or why that can't be
    told ("": it is gone; None: nobody asked), and which cgroup it has ("learnt").
    """

    __slots__ = ("_devices", "how", "learnt", "tree")

    def __init__(self, tree: dict[str, Any]) -> None:
        """Take what the file has; raises TypeError, KeyError or ValueError if it can't be a lease."""
        for name, kind in _SHAPE.items():
            if not isinstance(tree[name], kind):  # type: ignore[arg-type]  # mypy takes it for an object
                raise TypeError(name)
        for pid, start, space in tree["creators"]:
            if not (isinstance(pid, int) and isinstance(start, int) and isinstance(space, str)):
                raise TypeError("creators")
        for name, keys, capabilities in tree["devices"]:
            names = (name, *keys, *capabilities)
            if type(keys) is not list or type(capabilities) is not list or {*map(type, names)} != {str}:
                raise TypeError("devices")
        words = [*tree["state"], *([] if tree["xdg"] is None else [tree["xdg"]]), *tree.get("outside", ())]
        cgroup = tree.get("cgroup")
        if cgroup is not None and [*map(type, cgroup)] != _CGROUP:
            raise TypeError("cgroup")
        if not all(isinstance(one, str) for one in words) or not abs(tree["since"]) < _LAST:
            raise TypeError("state, xdg, outside or since")
        self.tree = tree
        self.how: str | None = None
        self.learnt: list[Any] | None = None
        self._devices: list[Hardware] | None = None

    def __getitem__(self, name: str) -> Any:
        return self.tree[name]

    @property
    def cgroup(self) -> list[Any] | None:
        """The container's own cgroup, if it is known."""
        return self.learnt or self.tree.get("cgroup")

    @property
    def devices(self) -> list[Hardware]:
        """The devices that it is for."""
        if self._devices is None:
            self._devices = [Hardware(*one) for one in self.tree["devices"]]
        return self._devices

    def has_any(self, keys: frozenset[str]) -> bool:
        """Say whether one of its devices has one of these keys."""
        return any(not keys.isdisjoint(one[1]) for one in self.tree["devices"])

    def cover(self, devices: Iterable[Hardware]) -> None:
        """Make it a lease for these devices too."""
        there = self.tree["devices"]
        wanted = ([one.name, sorted(one.keys), sorted(one.capabilities)] for one in devices)
        there += [one for one in wanted if one not in there]
        self._devices = None


class Store:
    """The leases in a dir. Within a with statement nobody else reads or changes them."""

    __slots__ = ("_directory", "_lock", "_rest", "claim", "path", "start_of_claims")

    def __init__(self, directory: str) -> None:
        """Open the dir, and make it if it is missing; raises LeaseError if it isn't ours alone."""
        self.path = f"{directory}/{_LEASES}"
        self._lock = -1
        self._rest = b""
        try:
            try:
                self._directory = posix.open(directory, _DIRECTORY)
            except FileNotFoundError:
                _make(directory)
                self._directory = posix.open(directory, _DIRECTORY)
            status = posix.fstat(self._directory)
        except OSError as error:
            raise errors.LeaseError(
                f"there is no place for leases: {quote(directory)}: {error.strerror}"
            ) from error
        if status.st_uid != posix.geteuid() or status.st_mode & 0o077:
            posix.close(self._directory)
            raise errors.LeaseError(
                f"{quote(directory)} is no place for leases, because others own it or may enter it "
                f"(uid {status.st_uid}, mode {status.st_mode & 0o7777:04o}); remove it"
            )
        self.start_of_claims, self.claim = claims.own(directory, status), ""

    def close(self) -> None:
        """Close the dir."""
        posix.close(self._directory)

    def __enter__(self) -> None:
        flags = posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK
        try:
            self._lock = posix.open(_LOCK, flags, 0o600, dir_fd=self._directory)
        except OSError as error:
            raise self._failure(_LOCK, error) from error
        end = 0.0
        while True:
            try:
                posix.lockf(self._lock, posix.F_TLOCK, 0)
            except (BlockingIOError, PermissionError):
                end = end or time.monotonic() + _WAIT_S
                if time.monotonic() < end:
                    time.sleep(_POLL_S)
                    continue
                self.__exit__()
                raise errors.LeaseError(
                    f"another process has locked {quote(self._beside(_LOCK))} for {_WAIT_S:g} s; "
                    "`fuser -v` on that file shows it"
                ) from None
            except OSError as error:
                self.__exit__()
                raise self._failure(_LOCK, error) from error
            break
        if not (
            _is_at(self._directory, self.path.rpartition("/")[0]) and _is_at(self._lock, self._beside(_LOCK))
        ):
            self.__exit__()  # others may have made new ones, with a lock of their own
            raise errors.LeaseError(f"somebody has just removed {quote(self._beside(_LOCK))}", "try again")

    def __exit__(self, *_: object) -> None:
        posix.close(self._lock)

    def read(self, about: Sequence[str] = ()) -> list[Lease]:
        """Return the leases; raises LeaseError if the file can't be read or is damaged.

        Where no lease has any of the texts that they are to be ``about``, none is returned, and write()
        keeps them all unread: reading 64 leases costs a fifth of a container's start.
        """
        self._rest = b""
        try:
            descriptor = posix.open(_LEASES, files.READ | posix.O_NOFOLLOW, dir_fd=self._directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failure(_LEASES, error) from error
        try:
            data, status = files.read_open(descriptor, self.path)
            if status.st_uid != posix.geteuid():
                raise ValueError(f"it belongs to uid {status.st_uid}")
            is_plain = about and data.startswith(_HEAD) and data.endswith(_TAIL)
            if is_plain and not any(json_text.dumps(text).encode() in data for text in about):
                self._rest = data[len(_HEAD) : -len(_TAIL)]
                return []
            tree = json_text.loads_own(data)
            if tree["format"] != _FORMAT:
                raise ValueError("another version of cdi-hook wrote it")
            return [Lease(one) for one in tree["leases"]]
        except OSError as error:
            raise self._failure(_LEASES, error) from error
        except (ValueError, SystemError, TypeError, KeyError, RecursionError) as error:
            raise errors.LeaseError(
                f"{quote(self.path)} is damaged ({error}), so which container has which exclusive "
                "device isn't known; stop the containers that have one, then remove that file"
            ) from error

    def write(self, leases: Sequence[Lease]) -> None:
        """Put these leases in the file's place; raises LeaseError, and then it is as it was."""
        trees = [{**one.tree, "cgroup": one.learnt} if one.learnt else one.tree for one in leases]
        own = json_text.dumps(trees)[1:-1].encode()
        text = _HEAD + b",".join(filter(None, (self._rest, own))) + _TAIL
        try:
            self.claim = claims.publish(self.start_of_claims, text)
        except OSError as error:
            raise errors.LeaseError(
                f"other users can't be told of a lease: {quote(error.filename)}: {error.strerror}"
            ) from error
        try:
            files.replace(_LEASES, text, 0o600, directory=self._directory, is_alone=True)
        except OSError as error:
            raise self._failure(_LEASES, error) from error

    def _failure(self, name: str, error: OSError) -> errors.LeaseError:
        return errors.LeaseError(
            f"no lease can be taken for an exclusive device: {quote(self._beside(name))}: "
            f"{error.strerror or error}"
        )

    def _beside(self, name: str) -> str:
        return f"{self.path[: -len(_LEASES)]}{name}"


def _is_at(descriptor: int, path: str) -> bool:
    """Say whether what is open is still what has a path."""
    here = posix.fstat(descriptor)
    try:
        there = posix.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _make(directory: str) -> None:
    try:
        posix.mkdir(directory, 0o700)
    except FileExistsError:  # another process has just made it
        pass


def settle(leases: Sequence[Lease], asked: Iterable[Lease]) -> tuple[list[Lease], bool]:
    """Say of leases what was found out of the same ones before.

    Return those that aren't known to be gone, and whether the file lacks what was found out.
    """
    by_token: dict[str, list[Lease]] = {}
    for lease in asked:
        by_token.setdefault(lease["token"], []).append(lease)
    for lease in leases:
        for same in by_token.get(lease["token"], ()):
            if same.tree == lease.tree:
                lease.how, lease.learnt = same.how, same.learnt
    there = [lease for lease in leases if lease.how != ""]
    return there, len(there) < len(leases) or any(lease.learnt for lease in there)


def keep(directory: str, asked: Sequence[Lease]) -> None:
    """Write what was found out of leases, if that is news; raises LeaseError."""
    if not settle(asked, ())[1]:
        return
    store = Store(directory)
    try:
        with store:
            there, is_news = settle(store.read(), asked)
            if is_news:
                store.write(there)
    finally:
        store.close()


def known(directory: str) -> list[Lease]:
    """Return the leases as they are, for those who only look; none where there is no such dir."""
    if not directory or files.is_gone(directory):
        return []
    store = Store(directory)
    try:
        return store.read()
    finally:
        store.close()
