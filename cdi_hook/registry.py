# SPDX-License-Identifier: Apache-2.0
"""The devices in some spec dirs: by the compiled index while it holds, else by reading the specs."""

from __future__ import annotations

import posix

from cdi_hook import edits, errors, files, index, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cdi_hook.edits import Change, Part
    from cdi_hook.specs.cache import Cache


def _look(directory: str) -> None:
    """Read all in a dir, to no end but to find out whether that can be done."""
    for name in posix.listdir(directory):
        try:
            files.read(f"{directory}/{name}")
        except OSError:
            pass


class Registry:
    """The devices in some spec dirs, by the index while it holds, else by reading the specs."""

    __slots__ = ("_cache", "_may_map_ids", "path", "spec_dirs", "strict")

    def __init__(
        self, spec_dirs: Sequence[str], directory: str, *, strict: bool, may_map_ids: bool = True
    ) -> None:
        """Look devices up in spec_dirs; keep the index in directory ("" for none).

        ``may_map_ids`` is for edits.apply. ``path`` is the index's, "" for none.
        """
        self.spec_dirs = list(spec_dirs)
        self.strict = strict
        self._may_map_ids = may_map_ids
        name = "-".join(one.strip("/").replace("/", "-") for one in self.spec_dirs)[:200]
        self.path = f"{directory}/{name}{'.strict' if strict else ''}.index" if directory else ""
        self._cache: Cache | None = None

    @property
    def cache(self) -> Cache:
        """The specs themselves, read when first asked for."""
        if self._cache is None:
            from cdi_hook import site_packages

            site_packages.enable()
            from cdi_hook.specs import cache, compiled  # 20 ms, and the YAML of the specs that changed

            remembered = compiled.read(self.path)[1] if self.path else {}
            self._cache = cache.Cache(
                self.spec_dirs, strict=self.strict, remembered=remembered, silent=self.silent()
            )
        return self._cache

    def silent(self) -> list[str]:
        """Return the spec dirs that can't be read because they don't answer."""
        return mounts.silent(self.spec_dirs, self.path[: self.path.rfind("/")] or "/", _look)

    @property
    def errors(self) -> dict[str, list[str]]:
        """What is wrong with the specs, by path, in words that anybody may read."""
        from cdi_hook import explain

        problems = explain.for_everybody(self.cache.problems)
        return {path: [one.message for one in found] for path, found in problems.items()}

    def devices(self) -> list[str]:
        """Return the qualified names of all devices, sorted."""
        return self.cache.devices()

    def parts(self, names: Sequence[str]) -> list[Part]:
        """Return what these devices ask for, as Cache.parts does."""
        if not self.path:
            return self.cache.parts(names)
        found = index.look_up(self.path, self.spec_dirs, self.strict, names)
        if found is None:
            from cdi_hook.specs.turn import Turn

            with Turn(self.path):
                found = index.look_up(self.path, self.spec_dirs, self.strict, names)  # it may be there now
                if found is None:
                    found = self.cache.parts(names)
                    from cdi_hook.specs import compiled  # the cache is there, so it is no cost

                    compiled.write(self)
        return found

    def apply(self, oci: dict[str, Any], parts: Sequence[Part]) -> list[Change]:
        """Edit oci as these parts ask, adding nothing that is there already; return the changes."""
        try:
            return edits.apply(oci, parts, keep_present=True, may_map_ids=self._may_map_ids)
        except errors.InjectionError as error:
            raise errors.InjectionError(f"failed to inject devices: {error}", error.source) from error

    def inject(self, oci: dict[str, Any], names: Sequence[str]) -> list[Change]:
        """Edit oci so that it has these devices, adding nothing that is there already; return the changes."""
        return self.apply(oci, self.parts(names))
