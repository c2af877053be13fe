# SPDX-License-Identifier: Apache-2.0
"""What start.py starts, with the modules of a create from one file.

To import them one by one would cost a create a third more. A module that only some need (packing.py says
which) is executed when something of it is first used, as with importlib.util.LazyLoader.

As other byte-code the file lies in __pycache__, is made by whoever starts first
and may write there, and counts while the sources are what they were. Where it
doesn't, the modules are imported. By marshal:

    (sys.hexversion, ((module, path below our dir, mtime in ns, size, code or a rare one's by marshal), ...))

The modules are all that shim.py and the rare ones import, in the order in which Python was done with
them. A new one, or one in a package, is there by itself.
"""

import gc
import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HERE = __file__[: -len("/bytecode.py")]
_FILE = f"/__pycache__/start.{sys.implementation.cache_tag}.opt-2.pyc"


def start(mode: str, *arguments: str) -> None:
    """Do what the arguments of start.py say."""
    gc.disable()  # a collection costs more than it could free: this lives for a few ms, or does one thing
    try:
        if mode == "configuration":
            from cdi_hook.config import shell

            shell.run()
        else:
            if not _load():
                write(HERE)
            if mode == "runtime":
                from cdi_hook.runtime import shim

                shim.run(arguments)
            else:
                from cdi_hook.hooks import entry

                entry.enter(mode, arguments)
    except Exception as error:  # as in a module that can't be loaded
        try:
            from cdi_hook.base import restart

            restart.restart_if_replaced(error)
        except (ImportError, OSError):  # it can't be loaded either
            pass
        if "--debug" in arguments:
            raise
        name = "cdi-runtime" if mode in ("runtime", "configuration") else "cdi-hook"
        text = f"{name} can't go on: {type(error).__name__}: {error}\n"
        posix.write(2, text.encode("utf-8", "backslashreplace"))
        posix._exit(1)  # without the rest of stdout: cdi-runtime takes no half


class _Rare(type(sys)):  # type: ignore[misc]  # mypy takes no such class; types.ModuleType costs an import
    """A module that isn't executed yet."""

    def __getattr__(self, name: str) -> object:
        """Execute it, which makes it a module like others, and return what it has by a name."""
        self.__class__ = type(sys)  # type: ignore[assignment]  # this is a subclass
        _, path, mtime, size, code = _rare.pop(str(self.__name__))
        self.__file__ = HERE + path
        if _holds(path, mtime, size):
            code = marshal.loads(code)  # noqa: S302 # as trusted as other byte-code
        else:
            with open(HERE + path, "rb") as source:
                code = compile(source.read(), HERE + path, "exec")
        exec(code, self.__dict__)  # noqa: S102 # as an import does
        return getattr(self, name)


_rare = {}  # type: dict[str, tuple[Any, ...]] # what the file has of such modules; __future__ costs a create 1 %


def _holds(path: str, mtime: int, size: int) -> bool:
    """Say whether a source is the one that was packed."""
    status = posix.stat(HERE + path)
    return bool(status.st_mtime_ns == mtime and status.st_size == size)


def _load() -> bool:
    """Make the modules from the file; say whether that was done."""
    try:
        file = posix.open(HERE + _FILE, posix.O_RDONLY)
        version, modules = marshal.loads(posix.read(file, 1 << 20))  # noqa: S302 # as trusted as other byte-code
        posix.close(file)
        if version != sys.hexversion:
            raise ImportError
        new: Any = type(sys)
        for packed in modules:
            name, path, mtime, size, code = packed
            parent, _, child = name.rpartition(".")
            if type(code) is bytes:
                module = _Rare(name)
                _rare[name] = packed
                if path.endswith("/__init__.py"):
                    module.__path__ = [f"{HERE}/{child}"]
            elif _holds(path, mtime, size):
                module = new(name)
                module.__file__ = HERE + path
                exec(code, module.__dict__)  # noqa: S102 # as an import does
            else:
                raise ImportError
            sys.modules[name] = module
            setattr(sys.modules[parent], child, module)
    except Exception:  # noqa: BLE001 # whatever is wrong with it, it isn't needed
        for name in _ours():
            del sys.modules[name]
            vars(sys.modules["cdi_hook"]).pop(name[len("cdi_hook.") :], None)
        return False
    return True


def write(directory: str, installed: str = "") -> None:
    """Write the file into a package's __pycache__; where that fails, the next start tries again.

    ``installed`` is where the dir will be, if that is elsewhere.
    """
    try:
        cache = f"{directory}/__pycache__"
        if not posix.access(cache, posix.W_OK) or posix.stat(cache).st_uid != posix.geteuid():
            return  # root leaves nothing in a user's dir
        from cdi_hook.base import files
        from cdi_hook.runtime import packing

        paths = {name: str(sys.modules[name].__file__)[len(HERE) :] for name in _ours()}
        del paths[packing.__name__]
        data = marshal.dumps((sys.hexversion, packing.pack(paths, directory, installed or directory)))
        files.replace(directory + _FILE, data, 0o644)
    except Exception:  # noqa: BLE001 # in the middle of an upgrade, say
        return


def _ours() -> list[str]:
    """Return the names of our modules that are there, without the package and this one."""
    return [name for name in sys.modules if name.startswith("cdi_hook.") and name != __name__]
