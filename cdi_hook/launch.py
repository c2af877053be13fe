# SPDX-License-Identifier: Apache-2.0
"""What start.py starts: the runtime, what the door asks for, or a hook, with modules loaded from one file.

This module's own byte-code is in that file too (see bytecode.py), and may be older than its source.
"""

from __future__ import annotations

import gc
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_PROGRAMS = {"runtime": "cdi-runtime", "door": "cdi-runtime"}


def main(here: str, loaded: Any) -> None:
    """Do what the arguments say; ``here`` is our package's dir, ``loaded`` what bytecode.py wrote there."""
    gc.disable()  # a collection costs more than it could free: this lives for a few ms, or does one thing
    if loaded is not None:  # else it is there
        sys.path.insert(0, here[: -len("/cdi_hook")])
    mode = sys.argv[1]
    try:
        if mode == "door":
            from cdi_hook import door

            door.run()
        elif loaded is None:
            if _may_write(f"{here}/__pycache__"):
                from cdi_hook import bytecode

                bytecode.write(here)
        elif not _load(here, *loaded[2:]):
            from cdi_hook import launch  # noqa: PLW0406 # this is its byte-code, which may be older

            launch.main(here, None)
        if mode == "runtime":
            from cdi_hook import runtime

            runtime.run(sys.argv[2:])
        elif mode != "door":
            from cdi_hook import hook

            hook.enter(mode, sys.argv[2:])
    except Exception as error:  # as in a module that can't be loaded
        try:
            from cdi_hook import restart

            restart.restart_if_replaced()
        except (ImportError, OSError):  # it can't be loaded either
            pass
        if "--debug" in sys.argv:
            raise
        text = f"{_PROGRAMS.get(mode, 'cdi-hook')} can't go on: {type(error).__name__}: {error}\n"
        posix.write(2, text.encode("utf-8", "backslashreplace"))
        posix._exit(1)


def _may_write(directory: str) -> bool:
    """Say whether we can write to a dir, and it is our user's: root leaves nothing in a user's."""
    try:
        return posix.stat(directory).st_uid == posix.geteuid() and posix.access(directory, posix.W_OK)
    except OSError:
        return False


def _load(here: str, sources: Any, codes: Any) -> bool:
    """Make the modules from their byte-code, unless a source has changed since; say whether that was done."""
    try:
        for name, mtime_ns, size in sources:
            status = posix.stat(f"{here}/{name}.py")
            if (status.st_mtime_ns, status.st_size) != (mtime_ns, size):
                return False
    except OSError:
        return False
    package = sys.modules["cdi_hook"] = type(sys)("cdi_hook")
    package.__path__ = [here]
    for (name, _, _), code in zip(sources, codes):
        module = package
        if name != "__init__":
            module = sys.modules[f"cdi_hook.{name}"] = type(sys)(f"cdi_hook.{name}")
            setattr(package, name, module)
        module.__file__ = f"{here}/{name}.py"
        if isinstance(code, bytes):
            _load_when_used(module, code)
        else:
            exec(code, module.__dict__)  # noqa: S102 # as an import does
    return True


def _load_when_used(module: Any, data: Any) -> None:
    def load(name: str) -> Any:
        import marshal

        del module.__getattr__
        exec(marshal.loads(data), module.__dict__)  # noqa: S102, S302 # as above
        return getattr(module, name)

    module.__getattr__ = load  # which Python calls for a name that isn't there (PEP 562)
