# SPDX-License-Identifier: Apache-2.0
"""Files are written in few places, and a bundle only by replacing it."""

from __future__ import annotations

import ast

import pytest

from .tree import modules

# module.function, and the file it writes
WRITERS = {
    "base.files._open": "a new file beside the old one: a config.json, an index, a spec, an engine's configuration",
    "live.device_rules._allow_v1": "a cgroup's devices.allow",
    "container.idmaps._user_namespace": "the maps of a user namespace of its own",
    "container.namespaces._serve": "/dev/null, in its stdout's place",
    "base.selinux.refused": "a question to SELinux's policy",
    "catalog.lock.Turn": "nothing, but it makes the lock",
    "leases.store.Store": "nothing, but it makes the lock",
    "leases.claims.publish": "what other users may know of leases: a new file each time",
    "base.log.add": "the runtime's --log, and LOG",
}
FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"}
CALLS = {
    "FileHandler",
    "NamedTemporaryFile",
    "copy2",
    "copyfile",
    "copytree",
    "ftruncate",
    "mkstemp",
    "pwrite",
    "truncate",
    "write_bytes",
    "write_text",
}


def writes(node: ast.AST) -> bool:
    """Say whether this node itself opens a file for writing, or writes a file by name."""
    if isinstance(node, ast.Attribute):
        return node.attr in FLAGS
    if not isinstance(node, ast.Call):
        return False
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name not in ("open", "fdopen"):
        return name in CALLS
    if ast.unparse(node.func) in ("os.open", "posix.open"):
        return False  # flags, which are checked above
    at = 0 if name == "open" and isinstance(node.func, ast.Attribute) else 1  # Path.open has no path argument
    modes = [*node.args[at : at + 1], *(word.value for word in node.keywords if word.arg == "mode")]
    return any(isinstance(mode, ast.Constant) and set("wxa+") & set(str(mode.value)) for mode in modes)


def writers(text: str, module: str) -> set[str]:
    """Return the outermost functions of a module that write a file, as module.function."""
    found = set()
    for outer in ast.parse(text).body:
        if any(writes(node) for node in ast.walk(outer)):
            found.add(f"{module}.{getattr(outer, 'name', '')}")
    return found


def test_files_are_written_in_known_places_only() -> None:
    """Exactly the listed functions open a file for writing."""
    found = set()
    for name, path in modules().items():
        found |= writers(path.read_text("utf-8"), name.partition(".")[2])
    assert found == WRITERS.keys()


def test_no_file_is_truncated() -> None:
    """No file is opened in a way that loses its old content before the new content is there."""
    truncating = [
        name for name, path in modules().items()
        if {"O_TRUNC", "ftruncate", "truncate", "write_text", "write_bytes"}
        & {node.attr for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)}
    ]  # fmt: skip
    assert truncating == []


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("open(path, 'w')", True),
        ("open(path, mode='ab')", True),
        ("path.open('r+')", True),
        ("os.fdopen(3, 'wb')", True),
        ("posix.open(path, posix.O_WRONLY | posix.O_CREAT)", True),
        ("path.write_text(text)", True),
        ("open(path)", False),
        ("open(path, 'rb')", False),
        ("open('war')", False),
        ("posix.open('wax', posix.O_RDONLY)", False),
    ],
)
def test_the_lint_sees(line: str, is_found: bool) -> None:
    """A line that opens a file for writing is found, one that reads is not."""
    assert writers(f"def function():\n    {line}\n", "m") == ({"m.function"} if is_found else set())
