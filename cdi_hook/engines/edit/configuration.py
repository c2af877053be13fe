# SPDX-License-Identifier: Apache-2.0
"""What all files of an engine's configuration say together: most often the host's, then a user's own."""

from __future__ import annotations

import contextlib
import glob
import json
from typing import TYPE_CHECKING, Any

from cdi_hook.base import files
from cdi_hook.engines.client import dig
from cdi_hook.engines.edit import file_change
from cdi_hook.engines.edit.config_editor import is_ours
from cdi_hook.engines.edit.document import named
from cdi_hook.engines.engine import runs_us

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdi_hook.engines.edit.config_editor import Editor
    from cdi_hook.engines.engine import Engine


class Configuration:
    """An engine's runtimes and hooks. Raises CDIError, from an OSError if a file can't be read.

    ``editors`` are those of the texts, by path. ``programs`` has each runtime's program and the
    file that says so, by the runtime's name. ``default`` is the default runtime's name.
    """

    def __init__(self, engine: Engine, *places: str) -> None:
        self._engine = engine
        self.editors: dict[str, Editor] = {}
        self.programs: dict[str, tuple[str, str]] = {}
        self.default = ""
        places = places or (engine.file, engine.default_path())
        for path in dict.fromkeys(one for place in places for one in engine.editor.files(place).read):
            if (text := file_change.read(path)) is None:
                continue
            with named(path):
                self.editors[path] = editor = engine.edit(text)
                self.programs |= {name: (program, path) for name, program in editor.programs.items()}
                self.default = editor.default or self.default

    def program(self, runtime: str) -> str:
        """Return a runtime's program; "" if no file has the runtime."""
        return self.programs.get(runtime, ("", ""))[0]

    def ours(self) -> list[str]:
        """Return the names of the runtimes that are cdi-runtime."""
        return [name for name, (path, _) in self.programs.items() if runs_us(path) or is_ours(name, path)]

    def hooks(self) -> Iterator[tuple[str, str]]:
        """Yield the stage and the file of each of our hooks that the engine reads."""
        value: Any = None
        for editor in self.editors.values():
            value = editor.document.get(editor.hooks_key) or value
        for directory in value if isinstance(value, list) else self._engine.hooks_dirs:
            for path in sorted(glob.glob(f"{glob.escape(str(directory))}/*.json")):
                with contextlib.suppress(OSError, ValueError):
                    tree = json.loads(files.read(path))
                    if str(dig(tree, "hook", "path")).rpartition("/")[2] == "cdi-hook":
                        yield from ((str(stage), path) for stage in dig(tree, "stages") or ())
