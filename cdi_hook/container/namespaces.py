# SPDX-License-Identifier: Apache-2.0
"""A container that is being created, known by its first process: its namespaces, ids and rootfs.

That process is in the container's namespaces, but its root is still the host's
whole tree as the container's mount namespace has it. A process that joins a user or
mount namespace can't go back, so forked processes do the work inside.
"""

from __future__ import annotations

import errno
import os

from cdi_hook.base.quoting import quote
from cdi_hook.container import rootfs, syscalls
from cdi_hook.container.rootfs import Rootfs
from cdi_hook.errors import CDIError, InjectionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import ClassVar, NoReturn

_NAMESPACES = {
    "user": syscalls.CLONE_NEWUSER,
    "mnt": syscalls.CLONE_NEWNS,
    "net": syscalls.CLONE_NEWNET,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "pid": syscalls.CLONE_NEWPID,
}

_DIED = "the hook's own process died"


class Container:
    """The container whose first process is ``pid``.

    ``root_path`` is the rootfs's path on the host; ``rootfs`` is a descriptor of it
    in the container's mount namespace.
    """

    def __init__(self, pid: int, bundle: str, root_path: str) -> None:
        """Open what can't be opened from inside; raises InjectionError."""
        self.pid = pid
        self.bundle = bundle
        self.root_path = os.path.join(bundle, root_path)
        try:
            self._process = os.pidfd_open(pid)
            self._others = {name for name in _NAMESPACES if not self._is_ours(name)}
            root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise InjectionError(
                f"can't look into the container's process {pid}: {error.strerror}; "
                "cdi-runtime and the precreate hook don't have to"
            ) from error
        if "mnt" not in self._others:
            raise InjectionError(
                f"process {pid} is in the mount namespace of the hook itself: what would be done to the "
                "container would be done to the host"
            )
        try:
            self.rootfs = Rootfs(root).open(self.root_path)
        except FileNotFoundError as error:
            raise InjectionError(f"the container's rootfs {quote(self.root_path)} is not there") from error
        if not rootfs.is_rootfs(self.rootfs, str(pid)):
            raise InjectionError(f"{quote(self.root_path)} {rootfs.NOT_ITSELF}")
        os.close(root)

    @property
    def has_user_namespace(self) -> bool:
        """Whether the container has a user namespace of its own."""
        return "user" in self._others

    def namespace(self, name: str) -> int:
        """Return a descriptor of the container's namespace with this name in /proc/PID/ns."""
        return os.open(f"/proc/{self.pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)

    def host_id(self, which: str, number: int) -> int:
        """Return the host's id for a uid or gid of the container; ``which`` is "uid" or "gid"."""
        with open(f"/proc/{self.pid}/{which}_map", encoding="ascii") as lines:
            for line in lines:
                inside, outside, count = map(int, line.split())
                if inside <= number < inside + count:
                    return outside + number - inside
        raise InjectionError(
            f"{which} {number} is not mapped in its user namespace; map it, or have the CDI spec say another"
        )

    def join(self, *names: str) -> None:
        """Join those of the named namespaces that aren't ours, as root of the user namespace."""
        try:
            syscalls.setns(self._process, sum(_NAMESPACES[name] for name in names if name in self._others))
        except OSError as error:
            # Before Linux 5.8, setns doesn't take the descriptor of a process.
            reason = syscalls.TOO_OLD if error.errno == errno.EINVAL else error.strerror
            raise InjectionError(f"can't join the container's namespaces: {reason}") from error
        if "user" in names and self.has_user_namespace:
            try:
                os.setgroups([])
            except PermissionError:
                pass  # /proc/PID/setgroups says "deny", also to the container's own root
            try:
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
            except OSError as error:
                raise InjectionError(
                    f"can't be root in the container's user namespace: {error.strerror}; map uid 0 and gid 0"
                ) from error

    def _is_ours(self, name: str) -> bool:
        theirs, ours = os.stat(f"/proc/{self.pid}/ns/{name}"), os.stat(f"/proc/self/ns/{name}")
        return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


class Child:
    """A forked process that does something inside a container, and waits to hear whether to keep it.

    It undoes what it did if it doesn't hear that, because a later step failed or the
    hook died.
    """

    _keeps: ClassVar[list[int]] = []  # of all children: each closes the others', or those would wait forever

    def __init__(self, do: Callable[[], object], undo: Callable[[], object] = lambda: None) -> None:
        """Fork, and return when ``do`` has returned.

        Raises InjectionError if ``do`` raised CDIError or OSError, and RuntimeError for anything else.
        """
        done, done_write = os.pipe()
        keep_read, self._keep = os.pipe()
        self._keeps.append(self._keep)
        self._pid = os.fork()
        if self._pid == 0:
            _serve(do, undo, done_write, keep_read, (done, *self._keeps))
        os.close(done_write)
        os.close(keep_read)
        with open(done, "rb") as stream:
            answer, _, words = stream.read().decode("utf-8", "surrogateescape").partition(" ")
        if answer != "done":
            self.undo()
            if answer == "unforeseen":
                raise RuntimeError(words)
            raise InjectionError(words or _DIED)

    def keep(self) -> None:
        """Keep what was done; raises InjectionError if the process didn't hear that, and so undid it."""
        try:
            os.write(self._keep, b"k")
        except OSError:
            pass  # it is no longer there
        if self.undo():
            raise InjectionError(_DIED)

    def undo(self) -> int:
        """Make the process undo what it did, unless that was kept; return its wait status, 0 if it was."""
        self._keeps.remove(self._keep)
        try:
            os.close(self._keep)
        except OSError:
            pass  # close(2): it is closed all the same
        return os.waitpid(self._pid, 0)[1]


def _serve(
    do: Callable[[], object], undo: Callable[[], object], done: int, keep: int, others: Sequence[int]
) -> NoReturn:
    """Run as the child, without the hook's descriptors ``others``; this function never returns or raises."""
    status = 1
    try:
        for descriptor in others:
            os.close(descriptor)
        # Whoever shares the container's pid namespace mustn't get at what is open here.
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        os.setsid()  # Ctrl-C ends the hook, but not this process, which has to undo
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for descriptor in (1, 2):  # runc waits until they are closed, even after it has killed the hook
            os.dup2(null, descriptor)
        answer = "done"
        try:
            do()
        except (CDIError, OSError) as error:
            answer = f"refused {_words(error)}"
        except BaseException as error:  # noqa: BLE001  # the hook has to hear of every error
            answer = f"unforeseen {_words(error)}"
        try:
            try:
                os.write(done, answer.encode("utf-8", "surrogateescape"))
            finally:
                os.close(done)  # or the hook would wait for ever
        except OSError:
            pass  # the hook has died, or takes this process for dead
        try:
            is_kept = os.read(keep, 1) != b""
        except OSError:
            is_kept = False
        if is_kept:
            status = 0
        else:
            undo()
    finally:
        os._exit(status)


def _words(error: BaseException) -> str:
    if isinstance(error, CDIError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"
