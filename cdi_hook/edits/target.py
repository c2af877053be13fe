# SPDX-License-Identifier: Apache-2.0
"""An OCI runtime specification that edits go into, the changes made to it, and what its shape has to be.

Each step that alters the tree is a Change, in the words of JSON Patch (RFC 6902). The list of changes,
carried out one after another on the tree as it was, gives the tree as it is.
"""

from __future__ import annotations

from cdi_hook import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cdi_hook.errors import Source

    OCI = dict[str, Any]
    Edits = dict[str, Any]  # one containerEdits object, after a spec's own schema
    Part = tuple[Source, Edits]  # what one device, or a spec for all its devices, asks for
    CanMapIds = Callable[[str, bool], bool]  # of a mount's source, and whether of all below it
    Place = tuple[Any, ...]  # the keys and indexes that lead to something in a tree
    Shape = Callable[[Any, Place], None]  # raises InjectionError for what isn't of the shape

# Of mounts, or of device nodes, that an OCI specification may have: each edit looks through them, and
# no container has a tenth of that.
_MOST_ITEMS = 8192


class Wanted:
    """An edit (None: what others go into), what it becomes in the OCI specification, and who asks for it."""

    __slots__ = ("edit", "item", "key", "kind", "sources")

    def __init__(self, kind: str, edit: Any, key: Any, item: Any, sources: dict[Source, None]) -> None:
        self.kind = kind
        self.edit = edit
        self.key = key
        self.item = item
        self.sources = sources


class Change:
    """One step of an injection (RFC 6902, section 4), with who asked for it.

    ``op`` is add, remove, replace or move; ``place`` is where, as it is when the
    changes before this one are made; ``value`` is what was put there, ``was`` what
    was there, or was moved, and ``origin`` where a moved thing was.

    ``kind`` is the kind of edit; ``edit`` is the edit itself, as the CDI spec has
    it, or None for an object or a list that was made for others to go into, and
    for what made room for others. ``sources`` is who asked for it.
    """

    __slots__ = ("_wanted", "op", "origin", "place", "value", "was")

    origin: Place  # only a move has it

    def __init__(self, op: str, place: Place, wanted: Wanted, value: Any = None, was: Any = None) -> None:
        self.op = op
        self.place = place
        self.value = value
        self.was = was
        self._wanted = wanted

    @property
    def kind(self) -> str:
        """The name of the kind of edit."""
        return self._wanted.kind

    @property
    def edit(self) -> Any:
        """The edit, as the CDI spec has it."""
        return self._wanted.edit

    @property
    def sources(self) -> list[Source]:
        """Who asked for it."""
        return list(self._wanted.sources)

    @property
    def is_put(self) -> bool:
        """Whether this puts there what an edit becomes; other steps make room for it."""
        return self.edit is not None and self.op in ("add", "replace")


class Target:
    """An OCI specification that edits go into, and the changes that were made to it.

    ``can_map_ids`` is None if no mount is to be id-mapped.
    """

    __slots__ = ("can_map_ids", "changes", "keep_present", "oci", "user")

    def __init__(self, oci: OCI, keep_present: bool, can_map_ids: CanMapIds | None) -> None:
        self.oci = oci
        self.keep_present = keep_present
        self.user: OCI = (oci.get("process") or {}).get("user") or {}
        namespaces = (oci.get("linux") or {}).get("namespaces") or ()
        has_users = can_map_ids and any(one.get("type") == "user" for one in namespaces)
        self.can_map_ids = can_map_ids if has_users else None
        self.changes: list[Change] = []

    def open(self, place: Place, kind: Callable[[], Any], wanted: Wanted) -> Any:
        """Return the object or list at a place, and make what is missing. Null counts as missing."""
        node: Any = self.oci
        for depth, name in enumerate(place, 1):
            child = node.get(name)
            if child is None:
                make = kind if depth == len(place) else _new_process if name == "process" else dict
                op = "replace" if name in node else "add"
                parent = Wanted(wanted.kind, None, None, None, wanted.sources)
                self.changes.append(Change(op, place[:depth], parent, make()))
                child = node[name] = make()
            node = child
        return node

    def append(self, place: Place, items: list[Any], wanted: Wanted, item: Any) -> None:
        """Put an item at the end of the list at a place."""
        self.changes.append(Change("add", (*place, len(items)), wanted, item))
        items.append(item)

    def put(self, place: Place, node: Any, key: Any, wanted: Wanted) -> None:
        """Put an item at a key of the object, or an index of the list, at a place, unless it is there."""
        item = wanted.item
        if isinstance(node, dict) and key not in node:
            self.changes.append(Change("add", (*place, key), wanted, item))
        elif node[key] != item:
            self.changes.append(Change("replace", (*place, key), wanted, item, node[key]))
        else:
            return
        node[key] = item

    def remove(self, place: Place, items: list[Any], index: int, wanted: Wanted) -> None:
        """Take an item out of the list at a place."""
        self.changes.append(Change("remove", (*place, index), wanted, was=items.pop(index)))


def _new_process() -> OCI:
    return {"user": {"uid": 0, "gid": 0}, "cwd": ""}


def require(oci: OCI, place: Place, shape: Shape) -> None:
    """Raise InjectionError unless what is at a place, if anything, is of a shape, and objects lead there."""
    node: Any = oci
    for depth, name in enumerate(place):
        an_object(node, place[:depth])
        node = node.get(name)
        if node is None:
            return
    shape(node, place)


def an_object(node: Any, place: Place) -> None:
    """Require an object."""
    if not isinstance(node, dict):
        raise _misshapen(place, "is not an object")


def strings(node: Any, place: Place) -> None:
    """Require a list of strings."""
    _items(node, place, str, "a string")


def anything(node: Any, place: Place) -> None:
    """Require a list."""
    _items(node, place, object, "")


def objects(node: Any, place: Place) -> None:
    """Require a list of objects."""
    _items(node, place, dict, "an object")


def objects_with(field: str) -> Shape:
    """Return the shape of a list, of not too many objects, in which this field is a string."""

    def shape(node: Any, place: Place) -> None:
        objects(node, place)
        if not all(isinstance(one.get(field) or "", str) for one in node):
            raise _misshapen(place, f"has an item whose {field} is not a string")
        if len(node) > _MOST_ITEMS:
            raise _misshapen(place, f"has more than {_MOST_ITEMS} items")

    return shape


def lists_of_objects(node: Any, place: Place) -> None:
    """Require an object of lists of objects."""
    an_object(node, place)
    for name, there in node.items():
        if there is not None:
            objects(there, (*place, name))


def a_user(node: Any, place: Place) -> None:
    """Require an object with ids."""
    an_object(node, place)
    for name in ("uid", "gid"):
        number = node.get(name) or 0
        if not isinstance(number, int) or not 0 <= number < 1 << 32:
            raise _misshapen((*place, name), "is not a number from 0 to 4294967295")


def _items(node: Any, place: Place, item: type, what: str) -> None:
    if not isinstance(node, list):
        raise _misshapen(place, "is not a list")
    if not all(isinstance(one, item) for one in node):
        raise _misshapen(place, f"has an item that is not {what}")


def _misshapen(place: Place, reason: str) -> errors.InjectionError:
    return errors.InjectionError(f"the OCI spec's .{'.'.join(place)} {reason}")
