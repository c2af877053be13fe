# SPDX-License-Identifier: Apache-2.0
"""What the engine itself put into config.json: which devices of the specs a container may open unasked.

Imported only if the configuration has EXCLUSIVE, DENY, or ALLOW with from=engine.
"""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.config.rule import ENGINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Optional

    from cdi_hook.config.settings import Config
    from cdi_hook.inject.request import DeviceRequest, Facts
    from cdi_hook.leases.same import Hardware
    from cdi_hook.leases.stock import Stock

    Numbers = tuple[str, Optional[int], Optional[int]]  # a type ("a": any), major, minor (None: any)

EVERYTHING = (
    "the container may open every device of this host, so EXCLUSIVE and DENY don't judge its engine's"
)
# What engines let each container open: null, zero, full, random, urandom, tty, console, ptmx, pts.
_USUAL: set[Numbers] = {
    ("c", 1, 3), ("c", 1, 5), ("c", 1, 7), ("c", 1, 8), ("c", 1, 9), ("c", 5, 0), ("c", 5, 1), ("c", 5, 2),
    ("c", 136, None),
}  # fmt: skip
_TUN = ("c", 10, 200)  # by a rule some do so too; a container to which it was given has a node
_READ_WRITE = frozenset("rw")
_DEV, _S_IFMT, _TYPES = "/dev", 0o170000, {0o020000: "c", 0o060000: "b"}


def opened(oci: dict[str, Any], bundle: str, *, is_root: bool) -> set[Numbers] | None:
    """Return what a container may open that not every container may; None if that is every device.

    It is what rules allow to be read or written. In a user namespace there are none, or they don't hold:
    then it is what nodes and binds show. ``bundle`` is the container's dir; ``is_root``: we aren't in one.
    """
    linux = _object(oci.get("linux"))
    rules = _objects(_object(linux.get("resources")).get("devices"))
    nodes = _objects(linux.get("devices"))
    found = {_numbers(node) for node in nodes}
    if is_root and rules:
        allowed = _allowed(rules)
        all_of = {
            one[0] for one, access in allowed.items() if one[1:] == (None, None) and access == _READ_WRITE
        }
        if "a" in all_of or all_of == {"b", "c"}:
            return None
        found = {one for one, access in allowed.items() if access and (one != _TUN or _TUN in found)}
    else:
        binds = (
            {"type": "bind", "source": node.get("path")} for node in nodes
        )  # what runtimes make of nodes
        found.update(*(_bound(one, bundle) for one in (*binds, *_objects(oci.get("mounts")))))
    return found - _USUAL


def _object(node: Any) -> dict[str, Any]:
    return node if isinstance(node, dict) else {}


def _objects(node: Any) -> list[dict[str, Any]]:
    return [one for one in node if isinstance(one, dict)] if isinstance(node, list) else []


def _numbers(node: dict[str, Any]) -> Numbers:
    letter = {"b": "b", "c": "c", "u": "c", "p": "p"}.get(str(node.get("type")), "a")
    numbers = [node.get("major"), node.get("minor")] if letter != "a" else [None, None]
    major, minor = (one if isinstance(one, int) and one >= 0 else None for one in numbers)
    return letter, major, minor


def _allowed(rules: Sequence[dict[str, Any]]) -> dict[Numbers, frozenset[str]]:
    """Return what rules allow, and how. One that forbids counts against those of which it covers all.

    With cgroup v1 none makes a hole into another.
    """
    allowed: dict[Numbers, frozenset[str]] = {}
    for rule in rules:
        numbers, access = _numbers(rule), rule.get("access")
        if rule.get("allow") is True:
            ways = _READ_WRITE.intersection(access) if isinstance(access, str) else _READ_WRITE
            allowed[numbers] = allowed.get(numbers, frozenset()) | ways
        elif isinstance(access, str):
            allowed = {
                one: ways - {*access} if _covers(numbers, one) else ways for one, ways in allowed.items()
            }
    return allowed


def _covers(wide: Numbers, one: Numbers) -> bool:
    return wide[0] in ("a", one[0]) and wide[1] in (None, one[1]) and wide[2] in (None, one[2])


def _bound(mount: dict[str, Any], bundle: str) -> Iterator[Numbers]:
    """Find the nodes that a bind mount shows: its source, or what is below that in /dev."""
    import os  # 1 ms

    options, source = mount.get("options"), mount.get("source")
    options = options if isinstance(options, list) else []
    if not isinstance(source, str) or not (
        mount.get("type") == "bind" or "bind" in options or "rbind" in options
    ):
        return
    source = os.path.realpath(os.path.join(bundle, source).partition("\0")[0])
    is_nodev = [one for one in options if one in ("dev", "nodev")][-1:] == ["nodev"]
    try:
        top, of_dev = os.stat(source).st_dev, os.stat(_DEV).st_dev
        paths = [source]
        within = source if f"{source}/".startswith(f"{_DEV}/") else _DEV
        if within.startswith(source) and os.path.isdir(source) and os.stat(within).st_dev == of_dev:
            for where, directories, names in os.walk(within):
                paths += (f"{where}/{name}" for name in names)
                directories[:] = [one for one in directories if os.lstat(f"{where}/{one}").st_dev == of_dev]
        for path in paths:
            status = os.lstat(path)
            letter = _TYPES.get(status.st_mode & _S_IFMT)
            # A bind's options are those of its own file system; without rbind it shows no other.
            if letter and (not is_nodev if status.st_dev == top else "rbind" in options):
                yield letter, os.major(status.st_rdev), os.minor(status.st_rdev)
    except OSError:
        return  # it is gone


def find(
    oci: dict[str, Any], wanted: DeviceRequest, config: Config, call: Facts, stock: Stock, *, is_root: bool
) -> list[Hardware]:
    """Return the devices of specs and leases that can be opened, and not because of a request.

    Each has only those keys; common ones don't count. The request says who gave them. Raises InvalidRequest
    for the first that the rules forbid.
    """
    found = opened(oci, call.bundle, is_root=is_root)
    if not found:
        call.note = EVERYTHING if found is None else ""
        return []
    from cdi_hook.inject import policy, request
    from cdi_hook.leases import choice, same

    def is_open(key: str) -> bool:
        letter, _, numbers = key.partition(" ")
        if letter not in ("b", "c"):
            return False
        major, minor = map(int, numbers.split(":"))
        node = letter, major, minor
        return node not in _USUAL and any(_covers(one, node) for one in found)

    try:
        leased = stock.leased()
        every = [*stock.hardware(stock.specs), *leased]
        keys = {key for one in every for key in one.keys if is_open(key)}
        if not keys:
            return []
        common = stock.common(leased)
        keys -= common.union(*(one.keys for one in stock.asked(wanted.device_ids)))
    except (errors.CDIError, OSError, ImportError) as error:  # who asks for a device hears of it
        call.doubt = f"what the engine gave to the container can't be judged: {error}"
        return []
    # What is several together counts as such if all of it is given.
    near = [
        one
        for one in every
        if one.keys & keys and (one.keys - common <= keys or not same.is_union(one, every))
    ]
    near.sort(key=lambda one: (not one.keys - common <= keys, choice.order(one.name)))
    given: list[Hardware] = []
    names: dict[str, list[str]] = {}
    gift = request.DeviceRequest()
    for device in near:
        part = device.keys & keys
        if part:
            given.append(device.part(part))
            names[device.name] = list({one.name: None for one in near if one.keys & part})
            wanted.origins[device.name] = f"the engine, which lets it open {min(part)}"
        keys -= part
    gift.asked = [(name, wanted.origins[name], (ENGINE,)) for name in names]
    policy.check(gift, config, *request.namespaces(oci, call.bundle if call.may_be_pod else ""), names)
    return given
