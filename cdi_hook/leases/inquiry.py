# SPDX-License-Identifier: Apache-2.0
"""Whether the containers that have leases are still there. Cold: who finds one in the way asks.

A container is gone if its runtime says so and its cgroup is empty: its first process may have ended while
others go on, and who deletes it may leave some. Both have to agree, and doubt holds the device:

    the runtime says     its cgroup is empty   no cgroup is known          whether it is can't be told
    no such container    gone                  gone                        there
    stopped              gone                  gone if `ps` says no more   there
    anything else        there                 there                       there

The cgroup is learnt while it has processes: from what runc or crun keep of the container, or else from the
pid in the answer to `state`. The lease keeps it with its inode, because its path may be used again. A
cgroup that the creator was in, or one above it, tells nothing. While a container's cgroup has processes,
no program is started to ask about it.
"""

from __future__ import annotations

import posix
import time

from cdi_hook.base import files, json_text
from cdi_hook.leases import claims, life, neighbours, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from cdi_hook.base.process import Answer
    from cdi_hook.leases.store import Lease

    Cgroup = list[Any]  # as store.py has it

CREATING, CREATED, RUNNING = "creating", "created", "running"
STATES = (CREATING, CREATED, RUNNING, "paused")  # of a container that is there for sure
NONE, _STOPPED = "no such container", "stopped"  # the words that can free a device
MOST_S, SHORT_S = 10.0, 2.0  # for all answers of runtimes: that a create waits for, and that a person does
_FEW = 3  # leases of a runtime; of more it is first asked which containers it has
_HASH = 64  # characters of an id that an engine chose
_BLIND = "its cgroup can't be looked at from here"
# What `state` says of a container that isn't there, by runtime: the end of the last line on stderr.
_GONE = (
    'msg="container does not exist"',  # runc
    "/{id}/status`: No such file or directory",  # crun
    "loading container: file does not exist",  # runsc
)
_ROOT = "/sys/fs/cgroup"
_HIERARCHIES = ("", "pids", "devices")  # cgroup v2, and v1 by controller
_FIFO = "exec.fifo"  # runc and crun keep it until they start the container, and tell by it whether they did


def ask(leases: Sequence[Lease], known: Sequence[Lease], most_s: float = MOST_S) -> None:
    """Find out how the container of each lease is, and which cgroup it has.

    ``known`` are all leases; runtimes have ``most_s`` seconds for all their answers.
    """
    end = time.monotonic() + most_s
    by_runtime: dict[tuple[Any, ...], list[Lease]] = {}
    named = neighbours.named(lease["id"] for lease in leases if "user" in lease.tree)
    for lease in leases:
        lease.how = _claimed(lease, named) if "user" in lease.tree else _seen(lease)
        if lease.how is None:
            by_runtime.setdefault((lease["xdg"], *lease["state"][:-2]), []).append(lease)
    for asked in by_runtime.values():
        ids = _listed(asked[0], end) if len(asked) > _FEW else None
        for lease in asked:
            is_listed = ids is None or lease["id"] in ids
            lease.how = _verdict(lease, _state(lease, known, end) if is_listed else NONE, end)


def living(directory: str, paths: Mapping[str, str] | None = None) -> list[Lease]:
    """Return the leases in a dir whose containers aren't known to be gone, and keep there what was found out.

    With ``paths``, as in neighbours.py, return those of other users too. Raises LeaseError.
    """
    leases = store.known(directory)
    ask(leases, leases, SHORT_S)
    store.keep(directory, leases)
    if paths is not None:
        own = claims.own(directory, posix.stat("/" if files.is_gone(directory) else directory))
        strangers = neighbours.leases(claims.strangers(own), paths)
        ask(strangers, ())
        leases += strangers
    return [lease for lease in leases if lease.how != ""]


def _claimed(lease: Lease, named: set[str]) -> str:
    """Return how a neighbour's container is, which an engine's id tells: ``named`` are those of processes."""
    if len(lease["id"]) != _HASH or not _sees_all(lease):
        return f"only {lease['user']} can ask its runtime"
    return RUNNING if lease["id"] in named else ""


def _seen(lease: Lease) -> str | None:
    """Return how a container is, as far as processes and cgroups tell; None if its runtime has to."""
    has_state = bool(lease["state"])
    if not (has_state and lease.cgroup):  # else it was created
        creators = [one for one in lease["creators"] if life.is_there(one)]
        own = life.namespace()
        if creators and own != life.INITIAL and all(space != own for _, _, space in creators):
            return "the process that creates it is in another pid namespace"
        if creators:
            return CREATING if has_state else RUNNING
    directory, paths = _kept(lease)
    if paths and not lease.cgroup:
        lease.learnt = learn(lease, paths)
    is_empty = _is_empty(lease)
    if is_empty is False:
        return CREATED if directory and not files.is_gone(f"{directory}/{_FIFO}") else RUNNING
    if has_state:
        return None
    return "" if is_empty or not lease.cgroup else _BLIND


def _verdict(lease: Lease, word: str, end: float) -> str:
    """Return how a container is of which its runtime says this; "" if it is gone."""
    if word not in (NONE, _STOPPED):
        return word
    is_empty = _is_empty(lease)
    if is_empty or (word == NONE and not lease.cgroup):
        return ""
    if is_empty is False:
        return RUNNING
    if lease.cgroup or not _sees_all(lease):
        return _BLIND
    return of_ps(_run(lease, "ps", end, "--format", "json", lease["id"]))


# What its runtime says.


def _run(lease: Lease, command: str, end: float, *arguments: str) -> Answer:
    from cdi_hook.base import process  # 10 ms

    left_s = end - time.monotonic()
    if left_s <= 0:
        return process.Answer(None, "", "there was no time left to ask its runtime")
    environ = {name: value for name, value in posix.environ.items() if name != b"XDG_RUNTIME_DIR"}
    if lease["xdg"] is not None:
        environ[b"XDG_RUNTIME_DIR"] = lease["xdg"].encode("utf-8", "surrogateescape")
    return process.ask([*lease["state"][:-2], command, *arguments], environ, left_s)


def _listed(lease: Lease, end: float) -> frozenset[str] | None:
    """Return the ids that a lease's runtime has; None if that can't be told, or it complains of one."""
    answer = _run(lease, "list", end, "--quiet")
    return frozenset(answer.out.split()) if answer.status == 0 and not answer.err else None


def _state(lease: Lease, known: Iterable[Lease], end: float) -> str:
    """Return the runtime's word for a container, and learn its cgroup if it is there."""
    word, token, pid = of_state(_run(lease, "state", end, lease["id"]), lease["id"])
    if token not in (None, lease["token"]) and any(
        (one["id"], one["token"]) == (lease["id"], token) for one in known
    ):
        return NONE  # the id is that of another lease's container; any other token is no proof
    if token == lease["token"] and pid and word != _STOPPED and not lease.cgroup:
        lease.learnt = learn(lease, life.cgroups(pid))
    return word


def of_state(answer: Answer, container: str) -> tuple[str, object, int]:
    """Return what the answer to `state` means, the token in it, and the pid."""
    if answer.status is None:
        return answer.err, None, 0
    if not answer.out.strip():
        is_none = answer.err.strip().endswith(tuple(one.format(id=container) for one in _GONE))
        return NONE if is_none else answer.why, None, 0
    try:
        tree = json_text.loads_own(answer.out.strip().encode())
        token = (tree.get("annotations") or {}).get(store.TOKEN)
        return str(tree["status"])[:80] or "?", token, int(tree.get("pid") or 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SystemError):
        return f"its runtime's answer is no state: {answer.out[:80]}", None, 0


def of_ps(answer: Answer) -> str:
    """Return what the answer to `ps` about a stopped container means: "" if nothing of it runs."""
    if answer.status == 0 and "".join(answer.out.split()) in ("[]", "null"):
        return ""
    if (
        answer.status
        and answer.err.startswith(f"open `{_ROOT}/")
        and answer.err.strip().endswith("`: No such file or directory")
    ):
        return ""  # crun, once the cgroup is gone
    said = answer.out if answer.status == 0 else answer.why
    return f"it has stopped, and `ps` says of its processes: {' '.join(said.split())[:80]}"


# What its cgroup says.


def _kept(lease: Lease) -> tuple[str, Mapping[str, str]]:
    """Return where runc or crun keep a container, and its cgroups by hierarchy; "" and {} if they don't."""
    bases = [f"{base}/{name}" for base in ("/run", lease["xdg"]) if base for name in ("runc", "crun")]
    for base in [lease["root"]] if lease["root"] else bases:
        directory = f"{base}/{lease['id']}"
        for name, tokens in (("state.json", "state.json"), ("status", "config.json")):
            try:
                if lease["token"].encode() in files.read(f"{directory}/{tokens}"):
                    tree = json_text.loads_own(files.read(f"{directory}/{name}").strip())
                    path = tree.get("cgroup-path")
                    return directory, dict.fromkeys(_HIERARCHIES, path) if path else tree["cgroup_paths"]
            except (OSError, ValueError, KeyError, AttributeError, RecursionError, SystemError):
                pass
    return "", {}


def learn(lease: Lease, paths: Mapping[str, str]) -> Cgroup | None:
    """Return the cgroup that is the container's own, of those that it is in; None without processes there."""
    outside = lease.tree.get("outside") or ()
    for name in _HIERARCHIES if outside else ():
        top = f"{_ROOT}/{name}" if name else _ROOT
        if not name and files.is_gone(f"{_ROOT}/cgroup.controllers"):
            top = f"{_ROOT}/unified"
        path = paths.get(name, "").removeprefix(top)
        is_creators = any(f"{one}/".startswith(f"{path}/") for one in outside)
        if is_creators or len(path) < 2 or "/.." in path:
            continue
        try:
            mount, own = posix.stat(top), posix.stat(f"{top}{path}")
        except OSError:
            continue
        cgroup = [top, mount.st_dev, mount.st_ino, path, own.st_ino]
        if _is_cgroup_empty(cgroup, sees_all=True) is False:
            return cgroup
    return None


def _is_empty(lease: Lease) -> bool | None:
    """Say whether the cgroup of a lease is empty; None if it has none, or that can't be told."""
    return _is_cgroup_empty(lease.cgroup, sees_all=_sees_all(lease)) if lease.cgroup else None


def _sees_all(lease: Lease) -> bool:
    """Say whether we see all processes of a container: those in pid namespaces below ours."""
    own = life.namespace()
    return own == life.INITIAL or all(space == own for _, _, space in lease["creators"])


def _is_cgroup_empty(cgroup: Cgroup, *, sees_all: bool) -> bool | None:
    top, device, top_inode, path, inode = cgroup
    directory = f"{top}{path}"
    try:
        mount = posix.stat(top)
        if (mount.st_dev, mount.st_ino) != (device, top_inode):
            return None  # another hierarchy is here
        if files.is_gone(directory) or posix.stat(directory).st_ino != inode:
            return True
        if not files.is_gone(f"{directory}/cgroup.events"):
            return b"populated 0" in files.read(f"{directory}/cgroup.events")
        counter = f"{directory}/pids.current"
        if not files.is_gone(counter) and int(files.read(counter)) == 0:
            return True
        # An unreaped zombie counts too. A process may move while we look.
        if _has_process(directory) or _has_process(directory):
            return False
    except (OSError, ValueError):
        return None
    return True if sees_all else None


def _has_process(directory: str) -> bool:
    """Say whether a cgroup of v1, or one below it, has a process."""
    if files.read(f"{directory}/cgroup.procs"):
        return True
    with posix.scandir(directory) as entries:
        return any(_has_process(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
