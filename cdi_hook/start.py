# SPDX-License-Identifier: Apache-2.0
"""Where cdi-runtime, and cdi-hook as a hook, enter Python: by path, so compiled anew, and small for that."""

import sys

sys.path.insert(0, __file__[: -len("/cdi_hook/start.py")])
try:
    if len(sys.argv) == 2:  # a hook has its stage for an argument, a runtime more
        from cdi_hook import hook  # found by the line before

        hook.enter(sys.argv[1])
    else:
        from cdi_hook import shim

        shim.run(sys.argv[1:])
except Exception:
    from cdi_hook import again

    again.start()
    raise
