# SPDX-License-Identifier: Apache-2.0
"""Where the shell scripts enter Python: start.py runtime ARGUMENT..., configuration, or the stage of a hook.

Python compiles a script on every start, so this one is small. bytecode.py has the rest.
"""

import sys

sys.path.insert(0, __file__[: -len("/cdi_hook/start.py")])
try:
    from cdi_hook import bytecode
except Exception as error:  # noqa: BLE001 # whatever it is, an engine shows one line
    sys.exit(f"cdi-hook can't start: {type(error).__name__}: {error}")

bytecode.start(*sys.argv[1:])
