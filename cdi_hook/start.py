# SPDX-License-Identifier: Apache-2.0
"""Where the shell scripts enter Python: start.py runtime ARGUMENT..., door, or the stage of a hook.

Python compiles a script on every start, so this one is small. launch.py has the rest.
"""

import marshal
import posix
import sys

HERE = __file__[: -len("/start.py")]
try:
    file = posix.open(f"{HERE}/__pycache__/start.{sys.implementation.cache_tag}.opt-2.pyc", posix.O_RDONLY)
    loaded = marshal.loads(posix.read(file, 1 << 20))  # noqa: S302 # as trusted as other byte-code
    posix.close(file)
    if loaded[0] != sys.hexversion:
        raise ValueError
    exec(loaded[1])  # noqa: S102 # launch.py's own
except Exception:  # noqa: BLE001 # whatever is wrong with it, it isn't needed
    loaded = None
    sys.path.insert(0, HERE[: -len("/cdi_hook")])
    from cdi_hook.launch import main
main(HERE, loaded)
