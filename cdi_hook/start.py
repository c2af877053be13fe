# SPDX-License-Identifier: Apache-2.0
"""Where cdi-runtime's door enters Python: run by path, so compiled anew each time, and small for that."""

import sys

sys.path.insert(0, __file__[: -len("/cdi_hook/start.py")])
try:
    from cdi_hook import shim  # found by the line before

    shim.run(sys.argv[1:])
except Exception:
    from cdi_hook import again

    again.start()
    raise
