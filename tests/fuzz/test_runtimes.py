# SPDX-License-Identifier: Apache-2.0
"""argv and the door, held against the config.json that a real runtime opens, as strace has it.

No config.json here has a process: every runtime refuses it once it has read it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdi_hook.runtime import argv
from tests.runtime.lab import STANDARD_PATH

from .strategies import ARGUMENTS
from .test_door import ASKS, world

if TYPE_CHECKING:
    from pathlib import Path

PATH = f"{os.environ.get('CDI_HOOK_ENGINES', '/none')}/bin:{STANDARD_PATH}"
RUNTIMES = ("runc", "crun", "runsc", "youki")
CAN_RUN = [name for name in RUNTIMES if shutil.which("strace") and shutil.which(name, path=PATH)]
# "undle" is what getopt takes -bundle for.
PLACES = ("", "asks", "plain", "undle", "undle=asks", "=asks", "id", "-1")
CALL = re.compile(r'(chdir|open(?:at2?)?)\((?:AT_FDCWD, )?"((?:\\x[0-9a-f]{2})*)"(.*)')

_BUNDLE = st.builds(
    lambda form, place: form.format(place).split("|"),
    st.sampled_from(
        ["--bundle|{}", "--bundle={}", "-bundle|{}", "-bundle={}", "-b|{}", "-b{}", "-b={}", "-db{}", "--bund={}",
         " --bundle={}", "--bundle={}\t", "--pid-file|--bundle={}", "-r|--bundle|{}", "--config|{}/config.json",
         "-f{}/config.json", "-file-locks"]
    ),
    st.sampled_from(["asks", "plain"]),
)  # fmt: skip
_OTHERS = st.sampled_from(
    [["--no-pivot"], ["-d"], ["--pid-file", "p"], ["-1"], ["-"], ["--"], [" -- "], ["id"], ["-r"], ["--future"], [""]]
)  # fmt: skip
_BEFORE = st.sampled_from(
    [[], [], ["--debug"], [" --debug"], ["-log", "l"], ["-root=r"], ["--log", "create"], ["--network", "none"],
     ["-platform", "ptrace"], ["-file-access", "shared"], ["-log-fd=1"]]
)  # fmt: skip
CALLS = st.builds(
    lambda before, command, words, after: [
        *before,
        command,
        *(one for word in words for one in word),
        *after,
    ],
    _BEFORE,
    st.sampled_from(["create", "run", "restore"]),
    st.lists(_BUNDLE | _OTHERS, max_size=3),
    st.sampled_from([["id"], ["id"], ["-1"], ["-1", "--"], ["--", "-1"], ["-"], []]),
)


def opened(runtime: str, arguments: list[str], cwd: Path) -> set[str]:
    """Return the files that a runtime opens to read."""
    trace = cwd.parent / "trace"
    subprocess.run(
        ["strace", "-f", "-qq", "-xx", "-s", "4096", "--seccomp-bpf", "-e", "trace=chdir,open,openat,openat2",
         "-o", trace, shutil.which(runtime, path=PATH) or runtime, f"--root={cwd.parent}/state", *arguments],
        env={"PATH": PATH}, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20,
    )  # fmt: skip
    found, where = set(), os.fsencode(cwd)
    for call, escaped, rest in CALL.findall(trace.read_text("ascii")):
        path = os.path.join(where, bytes.fromhex(escaped.replace("\\x", "")))
        if call == "chdir" and os.path.isdir(path):
            where = path
        elif call != "chdir" and "O_RDONLY" in rest:
            found.add(os.path.realpath(os.fsdecode(path)))
    return found


@pytest.mark.skipif(not CAN_RUN, reason="strace or a runtime isn't installed")
@settings(max_examples=50)
@given(st.sampled_from(CAN_RUN or RUNTIMES), CALLS | ARGUMENTS)
@example("runc", ["run", "-1", "--"])
@example("runc", ["run", "--bundle", "asks", "-1", "--"])
@example("runc", ["run", "-basks", "--"])
@example("runc", ["run", "--log-level", "--bundle=asks", "--"])
@example("runc", ["run", "-r", "--bundle", "asks", "--"])
@example("runc", ["run", "-", "--bundle=asks"])
@example("runc", ["run", " --bundle=asks", "id"])
@example("runc", ["run", "--bundle=asks ", "id"])
@example("runc", ["run", "--pid-file", "--bundle=plain", "id"])
@example("crun", ["run", "--", "--bundle=plain"])
@example("crun", ["run", "-bundle=asks", "id"])
@example("crun", ["run", "-b=asks", "id"])
@example("crun", ["restore", "id", "--bundle=plain"])
@example("runsc", ["run", "-bundle", "asks", "--", "-1"])
@example("runsc", ["-platform", "ptrace", "run", "-bundle", "asks", "id"])
@example("runsc", ["-file-access", "shared", "run", "id"])
def test_what_a_runtime_reads_is_what_is_edited(runtime: str, arguments: list[str]) -> None:
    """A config.json that a runtime opens is the only one for us as well, or one of several: those are refused."""
    if runtime not in CAN_RUN:
        return
    here = world()
    cwd = here.cwd / "runtimes"
    shutil.rmtree(cwd, ignore_errors=True)
    for place in PLACES:
        (cwd / place).mkdir(parents=True, exist_ok=True)
        (cwd / place / "config.json").write_text("{}" if place == "plain" else ASKS, "utf-8")
    there = {os.path.realpath(cwd / place / "config.json") for place in PLACES}
    read = argv.parse(arguments)
    ours = read.configs if read.command in argv.BUNDLE_COMMANDS else ()
    looks = [here.call(shell, arguments, here.configurations[0], cwd)[0] for shell in here.shells]
    theirs = opened(runtime, arguments, cwd) & there
    assert theirs <= {os.path.realpath(cwd / one) for one in ours}
    if theirs - {os.path.realpath(cwd / "plain/config.json")}:
        assert all(looks)
