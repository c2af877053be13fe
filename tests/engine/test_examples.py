# SPDX-License-Identifier: Apache-2.0
"""The examples of the README, of the manual pages and of --help, run as they stand where cdi-hook is installed.

A line that begins with "$ " is a command, what begins with "> " goes on with it, and other lines are what it prints.
CDI_HOOK_SESSION=write writes what the README's sessions really print into the README.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import textwrap
from typing import TYPE_CHECKING

import pytest
import yaml

from cdi_hook.cli import commands

from . import image
from .box import ENGINES_PATH, LAYOUT, ROOT, STANDARD_PATH, need
from .docker import ANNOTATIONS, Docker, without_help
from .podman import Podman
from .test_docker_reload import SYSTEMCTL

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .box import Box

README = ROOT / "README.md"
PAGES = sorted((ROOT / "packaging/man").iterdir())
SESSION = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
PROGRAMS = "(?:sudo )?(?:cdi-hook|docker|podman|echo|mkdir)"
# What needs something that the box doesn't have, and what tries it instead.
ELSEWHERE = {
    r"v4l|video0": "a camera: tests/unit/generate",
    r"nvidia": "a GPU: tests/gpu/run",
}
# What a machine with a serial stick has after the README's command: a spec of the names that the class gives it.
STICK = "usb-FTDI_FT232R_A50285BI-if00-port0"
NODES = [
    {"path": path, "hostPath": "/run/board/ttyUSB0"}
    for path in ("/dev/ttyUSB0", f"/dev/serial/by-id/{STICK}")
]
SERIAL = {
    "cdiVersion": "0.5.0",
    "kind": "host.local/serial",
    "devices": [{"name": STICK, "containerEdits": {"deviceNodes": NODES}}],
}
INSTEAD = {
    "sudo cdi-hook generate serial --output /etc/cdi": "mknod /run/board/ttyUSB0 c 188 0\n"
    f"cat >/etc/cdi/host.local-serial.yaml <<'END'\n{json.dumps(SERIAL)}\nEND"
}
# What is another each time: in a refusal who has the device, and since when; in LOG how long it took.
_VARIES = r"(?<= is in use by\n)[0-9a-f]{12}(?= \(docker, since )|(?<=\(docker, since )\d\d:\d\d|(?<=\"ms\":)\d+\.\d+"
_WIDTH = 118  # of lines in the README
HAS_PODMAN = shutil.which("podman", path=ENGINES_PATH)


def plain(text: str) -> str:
    """Return the text of a manual page, without roff's escapes."""
    return re.sub(r"\\f[A-Z]", "", text.replace("\\-", "-").replace("\\e", "\\").replace("\\&", ""))


def commands_in(lines: str) -> str:
    """Return the commands among lines of a page, as a session that says nothing of what they print."""
    return "".join(f"$ {line}\n" for line in re.findall(rf"^ +({PROGRAMS} \S.*)$", lines, re.MULTILINE))


def examples() -> dict[str, str]:
    """Return the examples of each page, as a session."""
    readme = README.read_text("utf-8")
    session = "".join(SESSION.findall(readme))
    found = {"README.md": session + commands_in("".join(re.findall(r"^    \S.*\n", readme, re.MULTILINE)))}
    for path in PAGES:
        section = path.read_text("utf-8").partition("\n.SH EXAMPLES\n")[2].partition("\n.SH ")[0]
        blocks = re.findall(r"^\.EX\n(.*?)^\.EE$", plain(section), re.MULTILINE | re.DOTALL)
        found[path.name] = "".join(block for block in blocks if block.startswith("$ "))
    for name in commands.COMMANDS:
        text = importlib.import_module(commands.COMMANDS[name][0]).HELP
        found[f"{name} --help"] = commands_in(text)
    return {page: session for page, session in found.items() if session or page[-1].isdigit()}


EXAMPLES = examples()


@pytest.fixture
def box(boxes: Callable[[str, str], Box]) -> Generator[Box]:
    """A machine with docker, which doesn't know cdi-runtime, and, if it is installed, podman."""
    need(*ANNOTATIONS)
    made = boxes("dockerd", LAYOUT)
    Docker(made, runtimes={}, features={"cdi": True})
    made.do("docker", "tag", image.NAME, "busybox")
    made.do("rm", "-r", "/etc/cdi")  # which a new machine doesn't have
    made.write("/etc/cdi-hook/cdi-hook.conf", "")
    made.write("/run/board/bin/sudo", '#!/bin/sh\nexec "$@"\n', "755")
    made.write("/run/board/bin/systemctl", SYSTEMCTL, "755")
    if HAS_PODMAN:
        podman = Podman(made, LAYOUT, rootless=False)
        podman.do("podman", "tag", image.NAME, "docker.io/library/busybox")
    yield made
    made.close()


def steps(session: str) -> list[tuple[str, str]]:
    """Return a session's commands, each with what it is said to print."""
    return re.findall(r"^(\$ .*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", session, re.MULTILINE)


def can_run(command: str) -> bool:
    """Return whether the box has what a command needs."""
    podman = re.match(r"\$ (sudo )?podman ", command)
    return (not podman or bool(HAS_PODMAN)) and not any(re.search(one, command) for one in ELSEWHERE)


def run(box: Box, command: str, said: str) -> str:
    """Run a command, which must succeed unless it is said to show an error; return what it prints."""
    line = re.sub(r"^[$>] ", "", command, flags=re.MULTILINE)
    environ = {"PATH": f"/run/board/bin:{STANDARD_PATH}", "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    done = box.call("sh", "-c", INSTEAD.get(line.strip(), line), environ=environ)
    assert (done.returncode != 0) == said.startswith("docker: "), f"{command}{done.stdout}{done.stderr}"
    return done.stdout if done.returncode == 0 else without_help(done.stderr)


def shown(printed: str) -> str:
    """Return what is printed as a page has it, where a line that is too long is several."""
    lines = [
        line
        for long in printed.splitlines()
        for line in (textwrap.wrap(long, _WIDTH, break_on_hyphens=False) if len(long) > _WIDTH else [long])
    ]
    return "".join(f"{line}\n" for line in lines)


def same(text: str) -> str:
    """Return a text without what is another each time."""
    return re.sub(_VARIES, "", text)


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("page", EXAMPLES)
def test_examples(box: Box, page: str) -> None:
    """A page's commands succeed one after the other, and print what the page says, if it says something."""
    ran = [
        (command, said, run(box, command, said))
        for command, said in steps(EXAMPLES[page])
        if can_run(command)
    ]
    if page == "README.md" and os.environ.get("CDI_HOOK_SESSION") == "write":
        text = README.read_text("utf-8")
        for command, said, printed in ran:
            text = text.replace(command + said, command + shown(printed)) if said else text
        README.write_text(text, "utf-8")
    else:
        told = [(command, said, printed) for command, said, printed in ran if said]
        assert [(command, same(said)) for command, said, _ in told] == [
            (command, same(shown(printed))) for command, _, printed in told
        ]


@pytest.mark.xdist_group("docker")
def test_compose(box: Box) -> None:
    """The README's file for docker compose is what `cdi-hook show` says, with a name, an image and a command."""
    box.do("cdi-hook", "generate", "fuse", "--output", "/etc/cdi")
    said = box.do("cdi-hook", "show", "host.local/fuse=fuse")
    (text,) = re.findall(r"^compose:\n((?:  .*\n)+)", said, re.MULTILINE)
    expected = yaml.safe_load(text.replace("NAME", "app").replace("IMAGE", "busybox"))
    (block,) = re.findall(r"^```yaml\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    file = yaml.safe_load(block)
    assert file["services"]["app"].pop("command") == "ls /dev/fuse"
    assert file == expected


def test_pages_have_examples() -> None:
    """The README shows what its commands print, and every manual page has commands among its examples."""
    assert [path.name for path in PAGES if not EXAMPLES[path.name].startswith("$ ")] == []
    first, *more = SESSION.findall(README.read_text("utf-8"))
    assert re.match(r"\$ .*\n[^$]", first)
    assert all(re.search(r"^\$ .*\n[^$]", session, re.MULTILINE) for session in more)
