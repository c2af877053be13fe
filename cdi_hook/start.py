# SPDX-License-Identifier: Apache-2.0
"""Where the shell scripts enter Python: start.py runtime ARGUMENT..., door, or the stage of a hook.

Python compiles a script that is run by path on every start, so this file is kept small.
"""

import gc
import sys

gc.disable()  # a collection costs more than it could free: this lives for a few ms, or does one thing
sys.path.insert(0, __file__[: -len("/cdi_hook/start.py")])
try:
    if sys.argv[1] == "runtime":
        from cdi_hook import runtime  # found by the line before

        runtime.run(sys.argv[2:])
    elif sys.argv[1] == "door":
        from cdi_hook import door

        door.run()
    else:
        from cdi_hook import hook

        hook.enter(sys.argv[1])
except Exception:
    from cdi_hook import restart

    restart.restart_if_replaced()
    raise
