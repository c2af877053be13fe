# SPDX-License-Identifier: Apache-2.0
"""The devices in some spec dirs: by the index while it is fresh, else by reading the specs."""

from __future__ import annotations

import posix

from cdi_hook.base import files, volumes
from cdi_hook.catalog import index
from cdi_hook.edits import editor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cdi_hook.catalog.cache import Cache
    from cdi_hook.catalog.index import DeviceParts
    from cdi_hook.catalog.inventory import Inventory, Problems
    from cdi_hook.edits.target import CanMapIds, Change, Part


def _look(directory: str) -> None:
    """Read all in a dir, to no end but to find out whether that can be done."""
    for name in posix.listdir(directory):
        try:
            files.read(f"{directory}/{name}")
        except OSError:
            pass


class Registry:
    """The devices in some spec dirs."""

    def __init__(
        self,
        spec_dirs: Sequence[str],
        directory: str,
        *,
        strict: bool,
        can_map_ids: CanMapIds | None = None,
        keep_index: bool = True,
    ) -> None:
        """Look devices up in spec_dirs, with an index in ``directory`` ("": there is no place for one).

        ``can_map_ids`` is for editor.apply. Without ``keep_index`` an index is read and never written.
        """
        name = "-".join(spec_dir.strip("/").replace("/", "-") for spec_dir in spec_dirs)[:200]
        path = f"{directory}/{name}{'.strict' if strict else ''}.index" if directory else ""
        self.index = index.Index(path, spec_dirs, strict)
        self._keeps_index = keep_index
        self._can_map_ids = can_map_ids
        self._cache: Cache | None = None
        self._asked: dict[str, DeviceParts] = {}  # of each device looked up

    @property
    def spec_dirs(self) -> list[str]:
        """The dirs, in rising priority."""
        return self.index.spec_dirs

    @property
    def cache(self) -> Cache:
        """The specs themselves, read when first asked for."""
        if self._cache is None:
            from cdi_hook.base import packages

            packages.enable()
            from cdi_hook.catalog import cache, index_writer  # 20 ms, and the YAML of the specs that changed

            remembered = index_writer.read(self.index.path)[1] if self.index.path else {}
            self._cache = cache.Cache(
                self.spec_dirs, strict=self.index.strict, remembered=remembered, silent=self.silent()
            )
        return self._cache

    def silent(self) -> list[str]:
        """Return the spec dirs that can't be read because they don't answer."""
        path = self.index.path
        return volumes.silent(self.spec_dirs, path[: path.rfind("/")] or "/", _look)

    def inventory(self) -> Inventory:
        """Return all devices and problems: by the specs if they have been read, or the index isn't fresh."""
        from cdi_hook.catalog import inventory

        found = self.index.inventory() if self._cache is None and self.index.path else None
        return inventory.of_record(*found) if found else self.cache.snapshot().inventory()

    @property
    def problems(self) -> Problems:
        """What is wrong with the specs, by path, in words that anybody may read."""
        return self.inventory().for_everybody

    @property
    def errors(self) -> dict[str, list[str]]:
        """The same as text."""
        return {path: [str(one) for one in found] for path, found in self.problems.items()}

    def devices(self) -> list[str]:
        """Return the qualified names of all devices, sorted."""
        return list(self.inventory().devices)

    def specs_of_devices(self) -> dict[str, str]:
        """Return the path of each device's spec, by the device's name, in the order of the names."""
        found = self.index.inventory() if self._cache is None and self.index.path else None
        if found:  # without typing, which costs 6 ms
            paths, record = found
            return {name: paths[spec] for name, spec, *_ in record["devices"]}
        return {name: place.spec for name, place in self.inventory().devices.items()}

    def parts(self, names: Sequence[str]) -> list[Part]:
        """Return what these devices ask for, as Cache.parts does.

        A device is looked up once: what a lease was taken for is what is injected.
        """
        missing = [name for name in names if name not in self._asked]
        for common, own in self._look_up(missing) if missing else ():
            self._asked[str(own[0][0])] = common, own
        return index.in_order([self._asked[name] for name in names])

    def _look_up(self, names: Sequence[str]) -> list[DeviceParts]:
        asked = self.index.look_up(names) if self.index.path else None
        if asked is None and self.index.path and self._keeps_index:
            from cdi_hook.catalog.lock import Turn

            with Turn(self.index.path):
                asked = self.index.look_up(names)  # it may be there now
                if asked is None:
                    cache = self.cache
                    from cdi_hook.catalog import index_writer  # the cache is there, so it is no cost

                    index_writer.write(self.index, cache)
        return self.cache.look_up(names) if asked is None else asked

    def apply(self, oci: dict[str, Any], parts: Sequence[Part]) -> list[Change]:
        """Edit oci as these parts ask, adding nothing that is there already; return the changes."""
        return editor.apply(oci, parts, keep_present=True, can_map_ids=self._can_map_ids)
