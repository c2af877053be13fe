# SPDX-License-Identifier: Apache-2.0
"""What an image may hold for whoever runs on the host with its variables and in its root: see CVE-2025-23266.

A runtime that runs a hook with the container's variables has the rootfs as the hook's working dir. So each
variable that a loader, a shell, Python or we ourselves read leads to files of the image, by CWD. Whatever of
them is used on the host leaves something beside OWNED, which only the host has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.runtime.glibc import compile_to

if TYPE_CHECKING:
    from pathlib import Path

CWD = "/proc/self/cwd/evil"
_LIBRARY = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void own(void) {
    int file = open(OWNED, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (file >= 0 && write(file, program_invocation_name, strlen(program_invocation_name)) >= 0) close(file);
}
unsigned la_version(unsigned version) { own(); return version; }
"""
# The C library's own is not among them: a program that can't start owns nothing.
_LIBRARIES = (
    "preload.so",
    "audit.so",
    "libm.so.6",
    "libz.so.1",
    "libexpat.so.1",
    "libtinfo.so.6",
    "UTF-16.so",
)
_PROGRAMS = ("readlink", "grep", "env", "date", "sh", "python3", "ldconfig")
_MODULES = (
    "sitecustomize.py",
    "usercustomize.py",
    "posix.py",
    "os.py",
    "gc.py",
    "marshal.py",
    "encodings.py",
    "yaml.py",
)


def files(place: Path, owned: str) -> dict[str, tuple[bytes, int]]:
    """Return the image's files with their modes, by their paths; ``place`` is for what has to be compiled."""
    lines = f"echo owned >>{owned}"
    python = f"open({owned!r}, 'a').write('owned')\n"
    evil = compile_to(place / "evil.so", _LIBRARY, "-shared", "-fPIC", f'-DOWNED="{owned}"').read_bytes()
    texts = {
        **dict.fromkeys(_PROGRAMS, f"#!/bin/sh\n{lines}\n"),
        **dict.fromkeys(_MODULES, python),
        "startup.sh": f"{lines}\n",
        "startup.py": python,
        "cdi-hook.conf": f"LOG={owned}.log\nRUNTIMES={CWD}/sh\n",
        "gconv-modules": "module UTF-8// INTERNAL UTF-16 1\n",
    }
    found = {f"evil/{name}": (text.encode(), 0o755) for name, text in texts.items()}
    return found | {f"evil/{name}": (evil, 0o755) for name in _LIBRARIES}


def variables(owned: str) -> dict[str, dict[str, str]]:
    """Return the variables, by who reads them."""
    python = ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "PYTHONPYCACHEPREFIX")
    return {
        "loader": {
            "LD_PRELOAD": f"{CWD}/preload.so",
            "LD_AUDIT": f"{CWD}/audit.so",
            "LD_DEBUG": "all",
            "LD_DEBUG_OUTPUT": f"{owned}.debug",
            "LD_PROFILE": "libc.so.6",
            "LD_PROFILE_OUTPUT": owned.rpartition("/")[0],
            "GLIBC_TUNABLES": "glibc.malloc.check=3",
            "MALLOC_TRACE": f"{owned}.malloc",
        },
        "libraries": {"LD_LIBRARY_PATH": CWD, "LD_BIND_NOW": "1"},
        "locale": {
            "LOCPATH": CWD, "GCONV_PATH": CWD, "NLSPATH": f"{CWD}/%N", "TZDIR": CWD, "TZ": ":evil",
            "LC_ALL": "evil.UTF-16", "LANG": "evil.UTF-16", "LANGUAGE": "evil", "CHARSET": "UTF-16",
        },
        "shell": {
            "PATH": f"{CWD}:/bin",
            "ENV": f"{CWD}/startup.sh",
            "BASH_ENV": f"{CWD}/startup.sh",
            "SHELLOPTS": "xtrace",
            "PS4": f"$(echo owned >>{owned})",
            "BASH_FUNC_readlink%%": f"() {{ echo owned >>{owned}; }}",
            "CDPATH": CWD,
            "IFS": "/",
            "cdi_lib": CWD,
            "cdi_python": f"{CWD}/python3",
        },
        "python": {
            **dict.fromkeys(python, CWD),
            "PYTHONSTARTUP": f"{CWD}/startup.py",
            "PYTHONINSPECT": "1",
            "PYTHONBREAKPOINT": "startup.main",
            "PYTHONWARNINGS": "error",
            "PYTHONEXECUTABLE": f"{CWD}/python3",
            "PYTHONDEBUG": "9",
            "PYTHONMALLOCSTATS": "1",
            "PYTHONCASEOK": "1",
        },
        "ours": {
            "CDI_HOOK_CONFIG": f"{CWD}/cdi-hook.conf",
            "HOME": CWD,
            "XDG_CONFIG_HOME": CWD,
            "XDG_RUNTIME_DIR": CWD,
            "LOG": f"{owned}.log",
        },
    }  # fmt: skip
