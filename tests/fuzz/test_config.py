# SPDX-License-Identifier: Apache-2.0
"""config and door: any text as the configuration, and what a real shell makes of the same."""

from __future__ import annotations

import shutil
import subprocess

import hypothesis
from hypothesis import example, given
from hypothesis import strategies as st

from cdi_hook.config import settings, shell

SHELLS = tuple(program for program in map(shutil.which, ("dash", "bash", "busybox")) if program)
FEWER = hypothesis.settings(max_examples=50)  # each starts some shells
KEYS = [key for key, _, _ in settings.KEYS]
VALUES = st.sampled_from(
    ["runc", "'a b'", '"a b"', "/a:/b", "x/ y/", "GPU,X", "v.com/gpu", "debug", "skip", "'a''b'", '"a\\$b"', "a\\ b"]
)  # fmt: skip
BITS = st.text("ab/.'\"\\ \t$`#;&=:,*~é\r\u3000", max_size=8)
LINES = st.one_of(
    st.builds("{}={}".format, st.sampled_from(KEYS), VALUES | BITS),
    st.builds("{}{}{}{}".format, st.sampled_from(["", "export ", " ", "x "]), st.sampled_from([*KEYS, "NOPE"]),
              st.sampled_from(["=", " = ", " =", "= ", ""]), VALUES | BITS),
    st.builds("{}{}".format, st.sampled_from(["#", " # ", ""]), BITS),
)  # fmt: skip
FILES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "\ufeff"]),
    st.lists(LINES, max_size=5).flatmap(
        lambda lines: st.sampled_from(["\n", "\n", "\r\n"]).map(lambda end: end.join(lines))
    ),
    st.sampled_from(["\n", ""]),
)


def parsed(text: str) -> settings.Config:
    """Read a configuration's text."""
    made = settings.Config("/c")
    settings.parse(text, made)
    return made


def shown(shell: str, script: str, names: list[str]) -> list[str]:
    """Return the values that variables have after a shell has run a script."""
    script += "".join(f'\nprintf "%s\\0" "${{{name}}}"' for name in names)
    applet = ["sh"] if shell.endswith("busybox") else []
    done = subprocess.run(
        [shell, *applet, "-c", script], capture_output=True, check=False, env={"LC_ALL": "C"}
    )
    assert (done.returncode, done.stderr) == (0, b""), script
    return done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]


@given(FILES | st.text())
def test_any_text_is_read(text: str) -> None:
    """Whatever is in the file, each value is valid, and each problem is one line that names file and line."""
    made = parsed(text)
    for key, value in made.values.items():
        kind = settings._KINDS[key]
        for one in made.words(key) if kind in settings._LISTS else (value,):
            settings._CHECKS[kind](one, kind)
        assert made.origins[key] == "default" or made.origins[key].startswith("/c:")
    for problem in made.problems:
        path, number, _ = problem.split(":", 2)
        assert path == "/c"
        assert 1 <= int(number) <= text.count("\n") + 1
    assert {*made.hiding} <= {*made.problems}


@FEWER
@given(st.lists(st.builds("{}={}".format, st.sampled_from(KEYS), VALUES | BITS), max_size=4).map("\n".join))
@example("RUNTIMES=a\u3000b")
@example("RUNTIMES=a \r")
def test_a_shell_reads_the_same(text: str) -> None:
    """A file without problems is read by every shell to the same values."""
    made = parsed(text)
    if made.problems:
        return
    given_keys = [key for key in KEYS if made.origins[key] != "default"]
    for program in SHELLS:
        values = shown(program, text, given_keys)
        for key, value in zip(given_keys, values):
            read = " ".join(value.split()) if settings._KINDS[key] in settings._LISTS else value
            assert made[key] == read, program


@FEWER
@given(FILES, st.text("a'\"\\$`\n \0é\udcff", max_size=6))
def test_the_doors_lines_are_the_configuration(text: str, runtimes: str) -> None:
    """Every shell takes from the door's lines the runtimes that are configured, and what has to be searched for."""
    made = parsed(text)
    if runtimes:
        made.values["RUNTIMES"] = runtimes
    script = shell._lines(made).decode("utf-8", "surrogateescape")
    for program in SHELLS:
        found, sources, odd = shown(program, script, ["cdi_runtimes", "cdi_sources", "cdi_odd"])
        assert found == made["RUNTIMES"].replace("\0", "")
        words = [
            word for key in ("ANNOTATION_PREFIXES", "DEVICE_ENV", "DEVICE_MOUNTS") for word in made.words(key)
        ]
        patterns = sources.removeprefix("-e ").split(" -e ")
        for word in words:  # JSON may have a slash as "\\/", so the pattern has none
            assert any(pattern in part for pattern in patterns for part in word.split("/"))
        assert odd == ("1" if made.problems else "")
