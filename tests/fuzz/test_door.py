# SPDX-License-Identifier: Apache-2.0
"""The door, by each shell that /bin/sh may be, held against what Python reads: argv.py, request.py, config.py.

Both what it may start, the real runtime and Python, are the spy of tests/runtime here. It
records its arguments.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import hypothesis
from hypothesis import example, given
from hypothesis import strategies as st

from cdi_hook.base import files
from cdi_hook.config import settings, shell
from cdi_hook.errors import CDIError
from cdi_hook.inject import request
from cdi_hook.runtime import argv
from tests.runtime.lab import CDI_RUNTIME, STANDARD_PATH
from tests.runtime.spy import Spy

from .strategies import ARGUMENTS

SHELLS = ("dash", "bash", "busybox")
CONFIGURATIONS = (
    "",
    "SANDBOXES=inject\n",
    "ANNOTATION_PREFIXES='cdi.k8s.io/ devices.example/gpu/'\nDEFAULT_KIND=v.com/c\n",
    "ANNOTATION_PREFIXES=\nDEVICE_ENV='GPU X'\n",
    "DEVICE_MOUNTS=/var/run/device-plugins/cdi\n",
    "ANNOTATION_PREFIXES=-e/\nDEVICE_MOUNTS=/\n",
    "DEVICE_ENV='GPU MY-VAR'\nDEVICE_MOUNTS=/d\n",
    "ALLOW=\nFUTURE=1\n",
)


class World:
    """A dir with bundles, configurations, the door and what it starts; removed when the process ends."""

    def __init__(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="cdi-hook-fuzz-"))
        atexit.register(self.remove, os.getpid())
        compiled = self.top / "compiled"
        subprocess.run(
            ["cc", "-O1", "-o", compiled, CDI_RUNTIME.parents[2] / "tests/runtime/spy.c"], check=True
        )
        spy = Spy(compiled, self.top)
        self.python, self.runtime = spy.install(self.top / "python"), spy.install(self.top / "bin/runc")
        self.door = self.top / "cdi-runtime"
        lines = CDI_RUNTIME.read_text("utf-8").splitlines(keepends=True)
        at = next(number for number, line in enumerate(lines) if line.startswith("cdi_lib='' cdi_python="))
        lines[at] = f"cdi_lib=/lib cdi_python={self.python}\n"  # as `make install` does
        self.door.write_text("".join(lines), "utf-8")
        self.shells = []
        for name in SHELLS:
            if program := shutil.which(name):
                link = self.top / "shells" / name / "sh"
                link.parent.mkdir(parents=True)
                link.symlink_to(program)
                self.shells.append(link)
        assert self.shells
        self.cwd = self.top / "cwd"
        for name in ("asks", "plain"):
            (self.cwd / name).mkdir(parents=True)
        self.state = settings.state_dir(os.environb, files.is_system_root())
        self.configurations = [self.configure(number, text) for number, text in enumerate(CONFIGURATIONS)]

    def configure(self, number: int, text: str) -> settings.Config:
        """Make a configuration, and have the door find the lines that Python makes of it."""
        path = self.top / f"conf{number}/cdi-hook.conf"
        path.parent.mkdir()
        path.write_text(text, "utf-8")
        config = settings.load({b"CDI_HOOK_CONFIG": bytes(path)})
        identities = files.identify(str(path)), files.identify(str(path.parent))
        assert identities[0]
        assert identities[1]
        shell._keep(
            f"{self.state}/conf{path}",
            shell._lines(config),
            path.read_bytes(),
            (identities[0], identities[1]),
        )
        return config

    def remove(self, pid: int) -> None:
        """Remove it, unless this is a child of who made it."""
        if os.getpid() == pid:
            shutil.rmtree(self.top, ignore_errors=True)
            shell.prune(self.state)

    def call(
        self, shell: Path, arguments: list[str], settings: settings.Config, cwd: Path | None = None
    ) -> tuple[bool, list[bytes]]:
        """Call the door; return whether it started Python, and the arguments that were passed on."""
        done = subprocess.run(
            [shell, self.door, *arguments],
            env={"PATH": f"{self.runtime.parent}:{STANDARD_PATH}", "CDI_HOOK_CONFIG": settings.path,
                 "XDG_RUNTIME_DIR": self.state.removesuffix("/cdi-hook")},
            cwd=cwd or self.cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        by_python, by_runtime = (Spy.record(one).get("argument", []) for one in (self.python, self.runtime))
        assert bool(by_python) != bool(by_runtime)
        if by_runtime:
            return False, by_runtime[1:]
        assert by_python[1:5] == [b"-ISB", b"/lib/cdi_hook/start.py", b"runtime", bytes(self.runtime)]
        return True, by_python[7:]


@functools.cache
def world() -> World:
    """Return the world of this process."""
    return World()


def asks(text: str, settings: settings.Config, container: str) -> bool:
    """Say whether a config.json asks for a device, or may, whichever of two values a key has that appears twice."""
    for twice in (dict, lambda pairs: dict(reversed(pairs))):
        try:
            tree = json.loads(text, object_pairs_hook=twice)
            if isinstance(tree, dict) and request.collect(tree, settings, container).device_ids:
                return True
        except CDIError:
            return True
        except ValueError:
            pass
    return False


def must_look(arguments: list[str], cwd: Path, settings: settings.Config) -> bool:
    """Say whether Python would find a request, or something to say about one, and the runtime not just print its help."""
    read = argv.parse(arguments)
    command = next((at for at, one in enumerate(arguments) if one in argv.BUNDLE_COMMANDS), 0)
    if arguments[command + 1 : command + 2] in (["-h"], ["--help"]):
        return False
    if read.command not in argv.BUNDLE_COMMANDS:
        return False
    for path in read.configs:
        try:
            text = (cwd / path).read_bytes().decode("utf-8")
        except (OSError, ValueError):
            continue
        if settings.hiding or asks(text, settings, read.container_id):
            return True
    return False


@st.composite
def written(draw: st.DrawFn) -> str:
    """Draw a config.json, with names and characters written in any way that JSON has."""

    def string(text: str) -> str:
        one = draw(st.sampled_from(["", "", "/", "/", *text]))
        how = draw(st.sampled_from(["\\u{:04x}", "\\u{:04X}"] + ["\\/"] * (one == "/")))
        return '"' + json.dumps(text)[1:-1].replace(one or "\0", how.format(ord(one or "\0"))) + '"'

    def members(*pairs: tuple[str, str]) -> str:
        kept = [pair for pair in pairs if draw(st.integers(0, 3))]
        return "{" + ",".join(f"{string(name)}:{value}" for name, value in kept) + "}"

    name = draw(st.sampled_from(["v.com/c=1", "gpu", "", "none"]))
    keys = ["cdi.k8s.io/x", "devices.example/gpu/0", "-e/x", "e", "cdi.k8s", "CDI.K8S.IO/x", "\u0130"]
    annotations = [(key, string(name)) for key in draw(st.lists(st.sampled_from(keys), max_size=2))]
    if draw(st.booleans()):
        annotations += [
            ("io.kubernetes.cri.container-type", '"sandbox"'),
            ("io.kubernetes.cri.sandbox-id", '"id"'),
        ]
    env = draw(st.sampled_from(["GPU", "X", "MY-VAR", "Y"]))
    place = draw(st.sampled_from(["/var/run/device-plugins/cdi", "/d", "//d", "/x"]))
    mounts = "[" + members(("destination", string(f"{place}/v.com/c/1"))) + "]"
    return members(
        (draw(st.sampled_from(["annotations", "annotations", "Annotations", "annotation\u017f"])), members(*annotations)),
        (draw(st.sampled_from(["process", "Process"])), members(("env", f"[{string(f'{env}={name}')}]"))),
        ("mounts", mounts),
        ("annotations", members(*annotations)),
    )  # fmt: skip


_PLACES = st.sampled_from(["asks", "asks/", "./asks", "plain", ""])
_FILES = st.sampled_from(["asks/config.json", "./asks/config.json", "config.json"])
_BUNDLE = st.builds(lambda form, place: form.format(place).split(" "), st.sampled_from(
    ["--bundle {}", "--bundle={}", "-bundle {}", "-bundle={}", "--b {}", "--bund={}", "-b {}", "-b{}", "-b={}",
     "-db {}", "-db{}", "-sb {}", "-bb {}"]), _PLACES)  # fmt: skip
_CONFIG = st.builds(lambda form, file: form.format(file).split(" "), st.sampled_from(
    ["--config {}", "--config={}", "--conf {}", "--conf={}", "-f {}", "-f{}", "-df{}", "-sf {}", "-bplain -f {}"]),
    _FILES)  # fmt: skip
_OTHERS = st.sampled_from(
    [
        "--root /r",
        "--debug",
        "--log=l",
        "--log create",
        "--future v",
        "-h",
        "--pid-file -h",
        "--",
        "id",
        "create",
        "--help",
    ]
).map(str.split)
CALLS = st.builds(
    lambda before, command, options, after: [
        *before,
        command,
        *(word for one in options for word in one),
        "id",
        *after,
    ],
    st.just([]) | _OTHERS,
    st.sampled_from(["create", "run", "restore"]),
    st.lists(_BUNDLE | _CONFIG | _OTHERS, min_size=1, max_size=2),
    st.just([]) | _OTHERS | _BUNDLE,
)
ASKS = '{"annotations":{"cdi.k8s.io/x":"v.com/c=1"}}'
FEWER = hypothesis.settings(max_examples=60)  # each is three processes and more


@FEWER
@given(CALLS | ARGUMENTS, st.booleans())
@example(["create", "-sfasks/config.json", "id"], False)
@example(["create", "--bund", "asks", "id"], False)
@example(["create", "--conf=asks/config.json", "id"], False)
@example(["run", "-1"], True)
@example(["run", "--bundle", "asks", "-1", "--"], False)
@example(["run", "-", "--bundle=asks"], True)
@example(["run", "-basks", "--"], True)
@example(["run", " --bundle=asks", "id"], False)
@example(["run", "\u00a0--bundle=asks", "id"], False)
@example(["run", "--bundle=asks ", "id"], False)
@example(["run", "--pid-file", "--bundle=plain", "id"], True)
@example(["run", "--", "--bundle=plain"], True)
@example(["restore", "id", "--bundle=plain"], True)
def test_no_argument_hides_a_request(arguments: list[str], here_asks: bool) -> None:
    """By every shell the door starts Python where Python finds a request, and passes the arguments on as they came."""
    here = world()
    for place, text in (("", ASKS if here_asks else "{}"), ("asks", ASKS), ("plain", "{}")):
        (here.cwd / place / "config.json").write_text(text, "utf-8")
    must = must_look(arguments, here.cwd, here.configurations[0])
    for program in here.shells:
        looks, passed = here.call(program, arguments, here.configurations[0])
        assert passed == [os.fsencode(one) for one in arguments]
        assert looks or not must, program


@FEWER
@given(written(), st.integers(0, len(CONFIGURATIONS) - 1))
@example('{"annotations":{"cdi.k8s.i\\u006f/x":"v.com/c=1"}}', 0)
def test_no_spelling_hides_a_request(text: str, configuration: int) -> None:
    """However a config.json is written, and whatever is configured, the door starts Python where Python finds a request."""
    here = world()
    settings_ = here.configurations[configuration]
    (here.cwd / "plain/config.json").write_text(text, "utf-8")
    arguments = ["create", "--bundle", "plain", "id"]
    must = must_look(arguments, here.cwd, settings_)
    for program in here.shells:
        looks, passed = here.call(program, arguments, settings_)
        assert passed == [os.fsencode(one) for one in arguments]
        assert looks or not must, program


@FEWER
@given(
    st.sampled_from([["state", "id"], ["kill", "--all", "id", "9"], ["create", "--bundle", "plain", "id"]]),
    st.lists(st.sampled_from(["--root=/r", "--debug", "--log=/l"]), max_size=2),
    st.integers(0, 3),
)
def test_what_python_need_not_see_is_passed_on(
    command: list[str], options: list[str], configuration: int
) -> None:
    """Where nothing is asked for, in plain words, no shell starts Python: a command without a bundle, or a create."""
    here = world()
    (here.cwd / "plain/config.json").write_text(
        '{"process":{"env":["A=1"]},"annotations":{"a":"b"}}', "utf-8"
    )
    for program in here.shells:
        assert here.call(program, [*options, *command], here.configurations[configuration])[0] is False, (
            program
        )
