# SPDX-License-Identifier: Apache-2.0
"""settings: one file that a shell and Python read in the same way."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from cdi_hook.config import settings
from cdi_hook.generate.classes import CLASSES

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = "write one of " + ", ".join(key for key, _, _ in settings.KEYS)
NO_PATTERN = "is no pattern of vendor.com/class=device, and no condition (from= and namespace= are)"
NO_SOURCE = "is none of ANNOTATION_PREFIXES, DEVICE_ENV and DEVICE_MOUNTS, and not engine"


def load(tmp_path: Path, text: str) -> settings.Config:
    """Load a configuration with this text."""
    path = tmp_path / "cdi-hook.conf"
    path.write_bytes(text.encode())
    return settings.load({b"CDI_HOOK_CONFIG": os.fsencode(path)})


def test_a_missing_file_means_the_defaults(tmp_path: Path) -> None:
    """Without a file there are defaults and no problems."""
    loaded = settings.load({b"CDI_HOOK_CONFIG": os.fsencode(tmp_path / "none.conf")})
    assert loaded.values == {key: default for key, default, _ in settings.KEYS}
    assert loaded.problems == []
    assert set(loaded.origins.values()) == {"default"}


def test_a_value_has_its_origin(tmp_path: Path) -> None:
    """The origin of a value is its line."""
    loaded = load(tmp_path, "# comment\n\nRUNTIMES='crun runc' # first crun\nLOG_LEVEL=warning\n")
    assert loaded.words("RUNTIMES") == ["crun", "runc"]
    assert loaded.origins["RUNTIMES"] == f"{tmp_path}/cdi-hook.conf:3"
    assert loaded["LOG_LEVEL"] == "warning"
    assert loaded.origins["DENY"] == "default"


@pytest.mark.parametrize(
    "written",
    [
        "plain",
        "'a b'",
        '"a b"',
        '"a\\"b"',
        '"a\\\\b"',
        "a\\ b",
        "'a'\"b\"c",
        "''",
        "",
        '"\\$x \\`y"',
        "a#b",
        "x  # no",
        "x \t",
        "'a\\b$c'",
        "X",
    ],
)
def test_a_shell_reads_the_same(tmp_path: Path, written: str) -> None:
    """A value that is accepted is the same to a shell that sources the file."""
    path = tmp_path / "x.conf"
    path.write_text(f"RUNTIMES={written}\n")
    shell = subprocess.run(
        ["sh", "-c", f'. {path}; printf %s "$RUNTIMES"'], capture_output=True, text=True, check=True
    )
    loaded = settings.load({b"CDI_HOOK_CONFIG": os.fsencode(path)})
    assert (loaded["RUNTIMES"], loaded.problems) == (shell.stdout, [])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("NOPE=1", f"unknown key NOPE; {KNOWN}"),
        ("RUNTIMES", "not of the form KEY=value"),
        ("=runc", "not of the form KEY=value"),
        ("XLOG=/a", "unknown key XLOG; did you mean LOG?"),
        ("RUNTIMES=runc crun", "RUNTIMES: a value with spaces needs quotes"),
        ("RUNTIMES=runc X", "RUNTIMES: a value with spaces needs quotes"),
        ("RUNTIMES=runc \v", "RUNTIMES: a value with spaces needs quotes"),
        ("RUNTIMES=\vrunc", "RUNTIMES: '\\x0b' is neither a space nor a tab"),
        ("RUNTIMES=$(which runc)", "RUNTIMES: $ needs quotes"),
        ('RUNTIMES="`which runc`"', "RUNTIMES: ` needs a backslash"),
        ("RUNTIMES='runc", "RUNTIMES: the quote ' isn't closed"),
        ("DENY=a/b=\\", "DENY: ends in a backslash"),
        ("DENY=a/b=c;d", "DENY: ; needs quotes"),
        ("DENY=a/b", f'DENY: "a/b" {NO_PATTERN}'),
        ("DENY='*=c c=d'", f'DENY: "c=d" {NO_PATTERN}'),
        ("ALLOW_a='* form=cdi.k8s.io/'", f'ALLOW_a: "form=cdi.k8s.io/" {NO_PATTERN}'),
        ("ALLOW_a='* Namespace=b'", f'ALLOW_a: "Namespace=b" {NO_PATTERN}'),
        ("ALLOW_a='* namespace = b'", f'ALLOW_a: "namespace" {NO_PATTERN}'),
        ("DENY_a='* namespace='", "DENY_a: namespace= has no value"),
        ("DENY_a=from=cdi.k8s.io/", "DENY_a: names no device (* stands for all)"),
        ("DENY_a='* from=cdi.k8s.io'", f"DENY_a: from=cdi.k8s.io {NO_SOURCE}"),
        ("ALLOW_a='* from=CDI.k8s.io/'", f"ALLOW_a: from=CDI.k8s.io/ {NO_SOURCE}"),
        ("DENY_a='* from=GPU'", f"DENY_a: from=GPU {NO_SOURCE}"),
        ("ALLOW_=*", "unknown key ALLOW_; did you mean ALLOW?"),
        ("DENY_a-b=*", "unknown key DENY_a-b; did you mean DENY?"),
        ("allow_a=*", "unknown key allow_a; did you mean ALLOW?"),
        ("SPEC_DIRS=etc/cdi", 'SPEC_DIRS: "etc/cdi" is not an absolute path (dirs are separated by colons)'),
        ("SPEC_DIRS=/a:b", 'SPEC_DIRS: "b" is not an absolute path (dirs are separated by colons)'),
        ("SANDBOXES=maybe", 'SANDBOXES: "maybe" is none of skip, inject'),
        ("DEFAULT_KIND=gpu", 'DEFAULT_KIND: "gpu" is not of the form vendor/class'),
        ("DEVICE_ENV=A-B", 'DEVICE_ENV: "A-B" is not the name of an environment variable'),
        ("GENERATE=kmv", f'GENERATE: "kmv" is no class of devices; write one of {", ".join(CLASSES)}'),
        ("LOG=here.log", 'LOG: "here.log" is not an absolute path'),
        ("DEVICE_MOUNTS=a/b", 'DEVICE_MOUNTS: "a/b" is not an absolute path'),
        ("DEVICE_MOUNTS=/a//", 'DEVICE_MOUNTS: "/a//" has two slashes in a row'),
        ("ANNOTATION_PREFIXES=x/\ry/", "ANNOTATION_PREFIXES: '\\r' is neither a space nor a tab"),
        (
            "ANNOTATION_PREFIXES='a*/'",
            'ANNOTATION_PREFIXES: "*" is not allowed in it (letters, digits, and . _ - / are)',
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """A bad line is a problem with file and line, the other lines count, and some may hide that a container asks."""
    loaded = load(tmp_path, f"LOG_LEVEL=error\n{line}\n")
    assert loaded.problems == [f"{tmp_path}/cdi-hook.conf:2: {problem}"]
    assert loaded["LOG_LEVEL"] == "error"
    may_hide = problem.startswith(("unknown key", "not of the form", *settings.SOURCES))
    assert loaded.hiding == (loaded.problems if may_hide else [])


def test_a_key_has_one_line(tmp_path: Path) -> None:
    """Of two lines of a key that say different things, the second is a problem; of a list the words of both count."""
    path = f"{tmp_path}/cdi-hook.conf"
    loaded = load(tmp_path, "GENERATE=fuse\nLOG=/a\nLOG=/a\nGENERATE=kvm\nDENY_x=a.b/c=d\nDENY_x=*\n")
    assert loaded.problems == [
        f"{path}:4: GENERATE: {path}:1 says something else; write one line",
        f"{path}:6: DENY_x: {path}:5 says something else; write one line",
    ]
    assert (loaded["GENERATE"], loaded["LOG"], loaded["DENY_x"]) == ("fuse kvm", "/a", "*")
    assert loaded.hiding == []
    loaded = load(tmp_path, "DEVICE_ENV=A\nDEVICE_ENV=B\n")
    assert (loaded["DEVICE_ENV"], loaded.hiding) == ("A B", loaded.problems)


@pytest.mark.parametrize(
    ("text", "key", "value", "problem"),
    [
        ('DEVICE_ENV="GPU MY-VAR"\n', "DEVICE_ENV", "GPU",
         '1: DEVICE_ENV: "MY-VAR" is not the name of an environment variable'),
        ("DEVICE_ENV=GPU CARD\n", "DEVICE_ENV", "GPU CARD", "1: DEVICE_ENV: a value with spaces needs quotes"),
        ('DEVICE_ENV="GPU # gpus\n', "DEVICE_ENV", "GPU", "1: DEVICE_ENV: the quote \" isn't closed"),
        ("DEVICE_ENV=A,B\n", "DEVICE_ENV", "A B", "1: DEVICE_ENV: its words are separated by spaces"),
        ("ANNOTATION_PREFIXES=a.com/:b.com/\n", "ANNOTATION_PREFIXES", "a.com/ b.com/",
         "1: ANNOTATION_PREFIXES: its words are separated by spaces"),
        ("#\r\nRUNTIMES=crun\r\n", "RUNTIMES", "crun", "1: ends in a carriage return; save it with Unix line ends"),
        ("#\n#\r\nRUNTIMES=crun\r\n", "RUNTIMES", "crun", "2: ends in a carriage return; save it with Unix line ends"),
        ("\vRUNTIMES=crun\n", "RUNTIMES", "crun", "1: RUNTIMES: it must begin the line, with no spaces around the ="),
        ("LOG=/a$b\n", "LOG", "", "1: LOG: $ needs quotes"),
        ("DEVICE_ENV='A B\n", "DEVICE_ENV", "A B", "1: DEVICE_ENV: the quote ' isn't closed"),
        ("\ufeffRUNTIMES=crun\n", "RUNTIMES", "crun", "1: begins with a byte order mark; save it without"),
        ("export DEVICE_ENV=GPU\n", "DEVICE_ENV", "GPU",
         "1: DEVICE_ENV: it must begin the line, with no spaces around the ="),
        ('DENY = "a/b=* b/*"\n', "DENY", "a/b=* b/*", "1: DENY: it must begin the line, with no spaces around the ="),
        ("DEVICE_ENV=GPU\nDEVICE_ENV=$X\n", "DEVICE_ENV", "GPU", "2: DEVICE_ENV: $ needs quotes"),
        ("GENERATE=kvm,fuse\n", "GENERATE", "kvm fuse", "1: GENERATE: its words are separated by spaces"),
        ("ANNOTATION_PREFIXES='\n", "ANNOTATION_PREFIXES", "cdi.k8s.io/ cdi-hook.local/",
         "1: ANNOTATION_PREFIXES: the quote ' isn't closed"),
    ],
)  # fmt: skip
def test_what_can_be_used_counts(tmp_path: Path, text: str, key: str, value: str, problem: str) -> None:
    """Of a line with something wrong, the words that can be used are in force, and the rest is a problem."""
    loaded = load(tmp_path, text)
    assert (loaded[key], loaded.problems) == (value, [f"{tmp_path}/cdi-hook.conf:{problem}"])


def test_an_empty_value_may_have_a_comment(tmp_path: Path) -> None:
    """What follows the = may be a space and a comment."""
    loaded = load(tmp_path, "ALLOW= # nothing\n")
    assert (loaded["ALLOW"], loaded.problems) == ("", [])


def test_an_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    """A configuration that is a directory is a problem with its path, not a traceback."""
    loaded = settings.load({b"CDI_HOOK_CONFIG": os.fsencode(tmp_path)})
    assert loaded.problems == [f"{tmp_path}: not a regular file"]
    assert loaded.failure is None


@pytest.mark.parametrize(("name", "may_pass"), [("file/x", False), ("x" * 300, True)])
def test_what_may_pass_is_a_failure(tmp_path: Path, name: str, may_pass: bool) -> None:
    """An error that the next try might not have is kept, and one that stays isn't."""
    (tmp_path / "file").touch()
    loaded = settings.load({b"CDI_HOOK_CONFIG": os.fsencode(tmp_path / name)})
    assert len(loaded.problems) == 1
    assert (loaded.failure is not None) is may_pass


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes another user")
def test_a_file_that_the_user_cannot_read_is_a_problem(tmp_path: Path) -> None:
    """A configuration that may not be read is a problem, and doesn't count as none."""
    path = tmp_path / "cdi-hook.conf"
    path.write_text("LOG_LEVEL=warning\n")
    path.chmod(0)
    os.seteuid(65534)
    try:
        loaded = settings.load({b"CDI_HOOK_CONFIG": os.fsencode(path)})
    finally:
        os.seteuid(0)
    assert loaded.problems == [f"{path}: Permission denied"]


def test_a_user_has_spec_dirs_of_their_own(tmp_path: Path) -> None:
    """For a user, XDG's dirs follow the configured ones; for root they aren't used."""
    loaded = load(tmp_path, "SPEC_DIRS=/a:/b\n")
    environ = {b"HOME": b"/home/u", b"XDG_RUNTIME_DIR": b"/run/user/7"}
    assert settings.spec_dirs(loaded, environ, system=True) == ["/a", "/b"]
    assert settings.spec_dirs(loaded, environ, system=False) == [
        "/a",
        "/b",
        "/home/u/.config/cdi",
        "/run/user/7/cdi",
    ]
    own = {b"XDG_CONFIG_HOME": b"/c", b"HOME": b"/home/u"}
    assert settings.spec_dirs(loaded, own, system=False) == ["/a", "/b", "/c/cdi"]
    assert settings.spec_dirs(loaded, {}, system=False) == ["/a", "/b"]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A path keeps its bytes, in the environment and in the file."""
    path = os.fsencode(tmp_path) + b"/\xff.conf"
    with open(path, "wb") as file:
        file.write(b"LOG=/\xfe\n")
    loaded = settings.load({b"CDI_HOOK_CONFIG": path})
    assert (os.fsencode(loaded.path), os.fsencode(loaded["LOG"])) == (path, b"/\xfe")
    assert settings.path({}) == "/etc/cdi-hook/cdi-hook.conf"


def test_where_the_index_is() -> None:
    """Root's index is in /run, a user's in their own dir, if that is absolute."""
    environ = {b"XDG_RUNTIME_DIR": b"/run/user/7"}
    assert settings.state_dir(environ, system=True) == "/run/cdi-hook"
    assert settings.state_dir(environ, system=False) == "/run/user/7/cdi-hook"
    assert settings.state_dir({b"XDG_RUNTIME_DIR": b"run"}, system=False) == ""


def test_no_spec_dirs(tmp_path: Path) -> None:
    """An empty SPEC_DIRS means no dirs."""
    assert settings.spec_dirs(load(tmp_path, "SPEC_DIRS=\n"), {}, system=True) == []


def test_a_rule_has_its_line_and_conditions(tmp_path: Path) -> None:
    """ALLOW_NAME is a rule of its own; the default of ALLOW doesn't count beside it."""
    loaded = load(
        tmp_path,
        "DEVICE_ENV=GPU\nDEVICE_MOUNTS=/run/X/\nDENY=v?com/c\n"
        "ALLOW_all_of_ml='v.com/gpu=* *=1 namespace=ml-* from=GPU namespace=x from=/run/X/'\n",
    )
    assert loaded.problems == []
    [rule] = loaded.rules("ALLOW")
    assert (rule.key, rule.origin) == ("ALLOW_all_of_ml", f"{tmp_path}/cdi-hook.conf:4")
    assert (rule.patterns, rule.sources, rule.namespaces) == (
        ["v.com/gpu=*", "*=1"],
        ["GPU", "/run/X"],
        ["ml-*", "x"],
    )
    assert [(rule.key, rule.patterns) for rule in loaded.rules("DENY")] == [("DENY", ["v?com/c"])]


def test_rules_beside_a_line_that_is_written(tmp_path: Path) -> None:
    """ALLOW counts beside its rules if it is written, also as the default; the last line of a key counts."""
    loaded = load(tmp_path, "ALLOW_a=a/*\nALLOW='b/* c/*'\nALLOW=*\nALLOW_a=d/*\n")
    assert [(rule.key, rule.patterns) for rule in loaded.rules("ALLOW")] == [
        ("ALLOW", ["*"]),
        ("ALLOW_a", ["d/*"]),
    ]
    assert [rule.patterns for rule in load(tmp_path, "").rules("ALLOW")] == [["*"]]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("nvidia.com/gpu=* host.local/v4l=*", ""),
        ("*", ""),
        (
            "gpu",
            '"gpu" is no pattern of vendor.com/class=device, and no condition (from= and namespace= are)',
        ),
        ("v.com/gpu=* namespace=x", "it takes patterns of devices, and no conditions"),
        ("v.com/gpu=* from=GPU", "it takes patterns of devices, and no conditions"),
        (
            "v.com/gpu=[01]",
            '"v.com/gpu=[01]": "[" isn\'t known in a pattern, only * and ? are; write several patterns '
            "with spaces between them, such as v.com/gpu=0 v.com/gpu=1",
        ),
    ],
)
def test_exclusive_takes_patterns(tmp_path: Path, value: str, problem: str) -> None:
    """Patterns of devices, as a rule has them, and nothing else."""
    problems = [f"{tmp_path}/cdi-hook.conf:1: EXCLUSIVE: {problem}"] if problem else []
    assert load(tmp_path, f"EXCLUSIVE='{value}'\n").problems == problems
