# SPDX-License-Identifier: Apache-2.0
"""cdi-hook configure: the files that it writes, its messages, and what a removal restores."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.base.trust import untrusted
from cdi_hook.engines import ENGINES
from cdi_hook.engines.edit.file_change import FileChange
from cdi_hook.errors import CDIError
from tests.unit.cli.conftest import Shape

if TYPE_CHECKING:
    from tests.unit.cli.conftest import World

SHAPE = Shape(
    ("engine", "is_changed", "files", "notes", "reload", "is_reloaded"),
    "docker --dry-run --file SPECS/daemon.json",
    "docker --dry-run --file FILE",
)
PROGRAM = Path(__file__).resolve().parents[3] / "packaging/bin/cdi-runtime"
DAEMON = '{\n  "debug": true,\n  "default-runtime": "runc"\n}\n'
ADDED = f"""\
{{
  "debug": true,
  "default-runtime": "cdi",
  "runtimes": {{
    "cdi": {{
      "path": "{PROGRAM}"
    }}
  }}
}}
"""
RELOAD = "docker reads it after: systemctl reload docker\n"
STILL = f"cdi-hook: note: {ENGINES['docker'].help.still}\n"
V2 = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n'
V3 = 'version = 3\nimports = ["conf.d/*.toml"]\n[plugins."io.containerd.cri.v1.runtime"]\nkeep = 1\n'


def contents(directory: Path) -> dict[str, str]:
    """Return the files below a directory: the path of each and its text."""
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in sorted(directory.rglob("*"))
        if path.is_file() or path.is_symlink()
    }


@pytest.fixture
def etc(cdi_hook: World) -> Path:
    """Return a dir for engines' configurations. There are runtimes beside it, whether the machine has any or not."""
    for name in ("runc", "crun", "runsc"):
        (cdi_hook.root / name).touch(0o755)
    cdi_hook.environ["PATH"] = f"{cdi_hook.root}:{cdi_hook.environ['PATH']}"
    path = cdi_hook.root / "etc"
    path.mkdir()
    return path


@pytest.fixture
def system_toml() -> None:
    """Skip the test if the program's own Python can't read TOML."""
    program = "try: import tomllib\nexcept ImportError: import tomli"
    done = subprocess.run(["/usr/bin/python3", "-Ic", program], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("/usr/bin/python3 is older than 3.11 and has no tomli (python3-tomli)")


def test_a_default_that_may_vanish(cdi_hook: World, etc: Path) -> None:
    """A program of a clone, of pip's, or that others can replace becomes no default, unless --force says so."""
    file = etc / "daemon.json"
    lib = cdi_hook.root / "lib/python3.99/site-packages"
    program = cdi_hook.root / "bin/cdi-hook"
    program.parent.mkdir()
    shutil.copytree(
        PROGRAM.parents[2] / "cdi_hook", lib / "cdi_hook", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("cdi-hook", "cdi-runtime"):
        shutil.copy(PROGRAM.with_name(name), program.parent)
    (program.parent / "python3").symlink_to(sys.executable)
    ours = program.with_name("cdi-runtime")
    end = "; install the package, or add --force"

    def refusal(called: Path, path: Path) -> str:
        words = ("configure", "docker", "--file", str(file), "--set-default")
        done = subprocess.run(
            [called, *words], env=cdi_hook.environ, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, file.exists()) == (1, "", False)
        start, after = "cdi-hook: --set-default: ", f", and without {path} no container would start{end}\n"
        assert done.stderr.startswith(start)
        assert done.stderr.endswith(after)
        return done.stderr[len(start) : -len(after)]

    if os.geteuid() == 0:
        program.parent.chmod(0o777)
        assert refusal(program, ours) == f"{program.parent} is writable by others than root (mode 0777)"
        program.parent.chmod(0o755)
    (lib / "cdi_hook-1.0.dist-info").mkdir()
    pip = "`pip uninstall` removes it without changing the engine's configuration back"
    assert refusal(program, ours) == pip
    if os.geteuid() != 0 or not untrusted(str(PROGRAM))[0]:
        assert refusal(PROGRAM.with_name("cdi-hook"), PROGRAM) == f"{PROGRAM} is in a clone of the source"
    assert cdi_hook("configure", "docker", "--file", file, "--set-default", "--force")[0] == 0


def test_add_again_and_remove(cdi_hook: World, etc: Path) -> None:
    """The file changes once, with a copy beside it, and --remove restores the file and removes the copy."""
    file = etc / "daemon.json"
    file.write_text(DAEMON)
    add = ("configure", "docker", "--file", file, "--set-default", "--force")
    copy = f"{file}.before-cdi-hook"
    assert cdi_hook(*add) == (0, f"{file}: changed; as it was: {copy}\n{RELOAD}", "")
    assert contents(etc) == {"daemon.json": ADDED, "daemon.json.before-cdi-hook": DAEMON}
    identity = [(path.name, path.stat().st_ino, path.stat().st_ctime_ns) for path in sorted(etc.iterdir())]
    assert cdi_hook(*add) == (0, f"{file}: nothing to change\n", "")
    assert [
        (path.name, path.stat().st_ino, path.stat().st_ctime_ns) for path in sorted(etc.iterdir())
    ] == identity
    assert cdi_hook("configure", "docker", "--file", file, "--remove") == (
        0,
        f"{file}: changed\n{RELOAD}",
        STILL,
    )
    assert contents(etc) == {"daemon.json": DAEMON}
    assert cdi_hook("configure", "docker", "--file", file, "--remove") == (
        0,
        f"{file}: nothing to change\n",
        "",
    )


def test_a_file_that_wasnt_there_goes_again(cdi_hook: World, etc: Path) -> None:
    """A new file has no copy, and --remove removes the file."""
    (etc / "new").mkdir()
    file = etc / "new/daemon.json"
    assert cdi_hook("configure", "docker", "--file", file) == (0, f"{file}: written\n{RELOAD}", "")
    assert [*contents(etc)] == ["new/daemon.json"]
    assert file.stat().st_mode & 0o777 == 0o644
    assert cdi_hook("configure", "docker", "--file", file, "--remove") == (
        0,
        f"{file}: removed\n{RELOAD}",
        STILL,
    )
    assert contents(etc) == {}


def test_dry_run(cdi_hook: World, etc: Path) -> None:
    """--dry-run prints a unified diff; it writes nothing and prints nothing else."""
    file = etc / "daemon.json"
    file.write_text(DAEMON[:-1])
    lines = (
        f'--- {file}\n+++ {file}\n@@ -1,4 +1,9 @@\n {{\n   "debug": true,\n-  "default-runtime": "runc"\n'
        f'+  "default-runtime": "cdi",\n+  "runtimes": {{\n+    "cdi": {{\n+      "path": "{PROGRAM}"\n+    }}\n+  }}\n }}\n'
        "\\ No newline at end of file\n"
    )
    assert cdi_hook(
        "configure", "docker", "--file", file, "--set-default", "--force", "--dry-run", "--reload"
    ) == (
        0,
        lines,
        "",
    )
    assert contents(etc) == {"daemon.json": DAEMON[:-1]}
    new = etc / "new.json"
    status, out, err = cdi_hook("configure", "docker", "--file", new, "--dry-run")
    assert (status, out.splitlines()[:2], err) == (0, ["--- /dev/null", f"+++ {new}"], "")


def test_a_diff_can_be_applied(cdi_hook: World, etc: Path) -> None:
    """The diff in --json has the file's bytes, also tabs, so that `patch` can apply it."""
    file = etc / "daemon.json"
    file.write_text('{\n\t"a": 1\n}')
    (one,) = cdi_hook.json("configure", "docker", "--file", file, "--dry-run", "--json")[0]["files"]
    subprocess.run(["patch", "-s", file], input=one["diff"] + "\n", text=True, check=True)
    assert (
        file.read_text()
        == f'{{\n\t"a": 1,\n\t"runtimes": {{\n\t\t"cdi": {{\n\t\t\t"path": "{PROGRAM}"\n\t\t}}\n\t}}\n}}'
    )


def test_json(cdi_hook: World, etc: Path) -> None:
    """--json has what was changed, the path of the copy, and the command that reloads the engine."""
    file = etc / "daemon.json"
    file.write_text("{}")
    said = cdi_hook.json("configure", "docker", "--file", file, "--json")[0]
    assert [*said["files"][0]] == ["path", "diff", "backup"]
    assert (said["files"][0]["path"], said["files"][0]["backup"]) == (str(file), f"{file}.before-cdi-hook")
    del said["files"]
    reload = ["systemctl", "reload", "docker"]
    assert said == {
        "engine": "docker",
        "is_changed": True,
        "notes": [],
        "reload": reload,
        "is_reloaded": False,
    }
    assert cdi_hook.json("configure", "docker", "--file", file, "--json")[0] == {
        "engine": "docker", "is_changed": False, "files": [], "notes": [], "reload": reload, "is_reloaded": False,
    }  # fmt: skip


def test_links_modes_and_owners_stay(cdi_hook: World, etc: Path) -> None:
    """A link stays a link, and its target and the copy have the mode and owner that the file had."""
    real = etc / "real.json"
    real.write_text(DAEMON)
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 12, 34)
    before = real.stat()
    (etc / "d").mkdir()
    file = etc / "d/daemon.json"
    file.symlink_to("../real.json")
    assert cdi_hook("configure", "docker", "--file", file)[0] == 0
    assert file.is_symlink()
    for path in (real, etc / "d/daemon.json.before-cdi-hook"):
        after = path.lstat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [*contents(etc)] == ["d/daemon.json", "d/daemon.json.before-cdi-hook", "real.json"]


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return an ACL, whose entries are (tag, permissions, uid), as the kernel's linux/posix_acl_xattr.h has it."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_acls_and_attributes_stay(cdi_hook: World, etc: Path) -> None:
    """The file and its copy keep ACL and attributes, so its group gets no right, and get none from the dir's default ACL."""
    none = 0xFFFFFFFF
    # Owner rw, uid 1234 rw, group none, mask rw, others none: the mask is what mode shows for the group.
    one = acl((1, 6, none), (2, 6, 1234), (4, 0, none), (0x10, 6, none), (0x20, 0, none))
    other = acl((1, 7, none), (2, 7, 4321), (4, 5, none), (0x10, 7, none), (0x20, 5, none))
    access = "system.posix_acl_access"
    names: dict[str, dict[str, bytes]] = {"with": {access: one, "user.note": b"kept"}, "without": {}}
    for name, attributes in names.items():
        file = etc / name
        file.write_text(DAEMON)
        file.chmod(0o640)
        try:
            for key, value in attributes.items():
                os.setxattr(file, key, value)
            os.setxattr(etc, "system.posix_acl_default", other)
        except OSError as error:
            pytest.skip(f"{etc} has no ACLs: {error}")
        mode = file.stat().st_mode
        assert cdi_hook("configure", "docker", "--file", file)[0] == 0
        for path in (file, etc / f"{name}.before-cdi-hook"):
            found = {
                key: os.getxattr(path, key) for key in os.listxattr(path) if not key.startswith("security.")
            }
            assert (found, path.stat().st_mode) == (attributes, mode)
        os.removexattr(etc, "system.posix_acl_default")


def test_an_attribute_that_cant_be_kept_is_an_error(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing changes where an attribute can't be given to the new file."""
    file = etc / "daemon.json"
    file.write_text(DAEMON)
    real = os.listxattr

    def none(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "listxattr", lambda of: ["user.x"] if of == str(file) else real(of))
    monkeypatch.setattr(os, "getxattr", lambda *_: b"x")
    monkeypatch.setattr(os, "setxattr", none)
    with pytest.raises(CDIError) as caught:
        FileChange(str(file), DAEMON, ADDED, backup=f"{file}.before-cdi-hook").make()
    assert str(caught.value) == (
        f"can't write \"{file}.before-cdi-hook\": its extended attribute user.x can't be kept: {os.strerror(errno.EPERM)}"
    )
    assert contents(etc) == {"daemon.json": DAEMON}


def test_a_link_that_led_nowhere_does_so_again(cdi_hook: World, etc: Path) -> None:
    """--remove removes the file that a link leads to, which was made for it, and leaves the link."""
    (etc / "d").mkdir()
    file = etc / "d/daemon.json"
    file.symlink_to("../real.json")
    assert cdi_hook("configure", "docker", "--file", file)[0] == 0
    assert (etc / "real.json").exists()
    assert cdi_hook("configure", "docker", "--file", file, "--remove")[0] == 0
    assert (os.readlink(file), (etc / "real.json").exists()) == ("../real.json", False)


def test_the_default_before_the_last_switch_is_remembered(cdi_hook: World, etc: Path) -> None:
    """If the default had changed before --set-default, --remove restores the changed one."""
    file = etc / "daemon.json"
    file.write_text('{"default-runtime": "runc"}')
    add = ("configure", "docker", "--file", file)
    cdi_hook(*add)
    chosen = {**json.loads(file.read_text()), "default-runtime": "io.containerd.runsc.v1"}
    file.write_text(json.dumps(chosen))
    cdi_hook(*add, "--set-default", "--force")
    assert json.loads(file.read_text())["default-runtime"] == "cdi"
    cdi_hook(*add, "--remove")
    assert json.loads(file.read_text()) == {"default-runtime": "io.containerd.runsc.v1"}


def test_what_doesnt_parse_is_untouched(cdi_hook: World, etc: Path) -> None:
    """A file that isn't text is refused with line and column, also by --remove, and nothing is written."""
    file = etc / "daemon.json"
    file.write_bytes(b'{\n"\xff"')
    message = f"cdi-hook: {file}: not UTF-8: byte 0xff at line 2 column 2\n"
    for more in ((), ("--remove",)):
        assert cdi_hook("configure", "docker", "--file", file, *more) == (1, "", message)
    assert [path.name for path in etc.iterdir()] == ["daemon.json"]
    assert file.read_bytes() == b'{\n"\xff"'


def test_a_low_level_runtime(cdi_hook: World, etc: Path) -> None:
    """--runtime NAME adds an entry cdi-NAME that runs the link cdi-NAME, which must exist."""
    programs = cdi_hook.root / "bin"
    programs.mkdir()
    (programs / "cdi-runtime").touch(0o755)
    (programs / "cdi-crun").symlink_to("cdi-runtime")
    file = etc / "daemon.json"
    add = ("configure", "docker", "--file", file, "--path", programs / "cdi-runtime")
    assert cdi_hook(*add, "--runtime", "crun")[::2] == (0, "")
    assert json.loads(file.read_text()) == {"runtimes": {"cdi-crun": {"path": f"{programs}/cdi-crun"}}}
    status, _, err = cdi_hook(*add, "--runtime", "runsc", "--dry-run")
    assert (status, err) == (0, f"cdi-hook: warning: there is no {programs}/cdi-runsc here\n")
    status, _, err = cdi_hook(*add[:-2], "--runtime", "nobody")
    beside = PROGRAM.parent / "cdi-nobody"
    assert (status, err) == (
        1,
        f"cdi-hook: there is no {beside}; make it with `ln -s cdi-runtime {beside}`\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--runtime", "../x"), '--runtime: "../x" is not a name for a low-level runtime'),
        (("--runtime", "hook"), '--runtime: "hook" is not a name for a low-level runtime'),
        (("--path", "/x/runc"), '--path: "/x/runc" is not an absolute path that ends in /cdi-runtime'),
        (
            ("--remove", "--set-default"),
            "--remove takes out all that was added; it can't be used with options that add something",
        ),
    ],
)
def test_refused(cdi_hook: World, etc: Path, arguments: tuple[str, ...], message: str) -> None:
    """Arguments that make no sense are refused, and nothing is written."""
    assert cdi_hook("configure", "docker", "--file", etc / "d.json", *arguments) == (
        1,
        "",
        f"cdi-hook: {message}\n",
    )
    assert contents(etc) == {}


def test_config_before_the_engine_is_our_own(cdi_hook: World, etc: Path) -> None:
    """--config before the engine's name is cdi-hook's own: an engine's file there is refused, not ignored."""
    file = etc / "daemon.json"
    file.write_text("{}")
    message = f"the configuration can't be used: {file}:1: not of the form KEY=value"
    assert cdi_hook("configure", "--config", file, "docker") == (1, "", f"cdi-hook: {message}\n")


def test_wrong_arguments(cdi_hook: World) -> None:
    """Without an engine, or with another engine's option, the status is 2."""
    assert cdi_hook("configure") == (
        2, "", "cdi-hook: the following arguments are required: ENGINE; see cdi-hook configure --help\n",
    )  # fmt: skip
    assert cdi_hook("configure", "docker", "--pod-annotations")[0] == 2


def test_reload(cdi_hook: World, etc: Path) -> None:
    """--reload runs the command that is otherwise printed, after the file is written, and reports a failure."""
    programs = cdi_hook.root / "bin"
    programs.mkdir()
    systemctl = programs / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >>{cdi_hook.root}/called\n')
    systemctl.chmod(0o755)
    file = etc / "daemon.json"
    path = f"{programs}:{cdi_hook.environ['PATH']}"
    add = ("configure", "docker", "--file", file)
    assert cdi_hook(*add, PATH=path) == (0, f"{file}: written\n{RELOAD}", "")
    assert not (cdi_hook.root / "called").exists()
    assert cdi_hook(*add, "--remove", "--reload", PATH=path) == (0, f"{file}: removed\n", STILL)
    assert (cdi_hook.root / "called").read_text() == "reload docker\n"
    systemctl.write_text("#!/bin/sh\necho no such unit >&2; exit 5\n")
    message = "the configuration is written, but systemctl reload docker failed: no such unit"
    assert cdi_hook(*add, "--reload", PATH=path) == (1, "", f"cdi-hook: {message}\n")
    assert file.exists()
    systemctl.unlink()
    path = str(programs)
    message = (
        "the configuration is written, but systemctl reload docker can't be run: No such file or directory; "
        "reload docker as this host does it without systemd"
    )
    assert cdi_hook(*add, "--runtime", "crun", "--reload", PATH=path)[2] == f"cdi-hook: {message}\n"


def test_a_default_that_docker_keeps(cdi_hook: World, etc: Path) -> None:
    """If daemon.json named no default before, --remove needs a restart, or two reloads, the first with runc as the default."""
    file = etc / "daemon.json"
    file.write_text("{}")
    add = ("configure", "docker", "--file", file)
    cdi_hook(*add, "--set-default", "--force")
    configured = file.read_text()
    note = (
        "docker keeps the old default runtime until it is restarted, because its file names no other; --reload does "
        "without a restart, which ends containers unless live-restore is on"
    )
    assert cdi_hook(*add, "--remove") == (
        0,
        f"{file}: changed\ndocker reads it after: systemctl restart docker\n",
        f"{STILL}cdi-hook: note: {note}\n",
    )
    assert file.read_text() == "{}"
    cdi_hook(*add, "--set-default", "--force")
    systemctl = cdi_hook.root / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$1" >>{etc}/called; cat {file} >>{etc}/called\n')
    systemctl.chmod(0o755)
    path = f"{cdi_hook.root}:/usr/bin:/bin"
    assert cdi_hook(*add, "--remove", "--reload", PATH=path) == (0, f"{file}: changed\n", STILL)
    first = configured.replace('"default-runtime": "cdi"', '"default-runtime": "runc"')
    assert (etc / "called").read_text() == f"reload\n{first}reload\n{{}}"


def test_an_unwritable_place_is_named(cdi_hook: World, etc: Path) -> None:
    """If a file can't be written or read, the message names it."""
    (etc / "file").touch()
    file = etc / "link.json"
    file.symlink_to("none/such.json")
    assert cdi_hook("configure", "docker", "--file", file) == (
        1, "", f'cdi-hook: can\'t write "{etc}/none/such.json": No such file or directory\n',
    )  # fmt: skip
    status, out, err = cdi_hook("configure", "docker", "--file", etc / "file/daemon.json")
    assert (status, out, err) == (1, "", f'cdi-hook: can\'t read "{etc}/file/daemon.json": Not a directory\n')
    assert cdi_hook("configure", "docker", "--file", etc) == (
        1, "", f'cdi-hook: can\'t read "{etc}": not a regular file\n',
    )  # fmt: skip


def test_what_fails_leaves_no_copy(cdi_hook: World, etc: Path) -> None:
    """If the file can't be replaced, here because its name is too long, nothing has changed."""
    real = etc / ("a" * 252)
    real.write_text(DAEMON)
    file = etc / "daemon.json"
    file.symlink_to(real)
    before = contents(etc)
    assert cdi_hook("configure", "docker", "--file", file) == (
        1, "", f'cdi-hook: can\'t write "{real}": File name too long\n',
    )  # fmt: skip
    assert contents(etc) == before


@pytest.mark.usefixtures("system_toml")
def test_containerd_2_is_edited_in_place(cdi_hook: World, etc: Path) -> None:
    """config.toml of version 2 gets the entry itself, with the configured annotation prefixes."""
    cdi_hook.configure(ANNOTATION_PREFIXES="cdi.k8s.io/ a.b/")
    file = etc / "config.toml"
    file.write_text(V2)
    status, out, err = cdi_hook("configure", "containerd", "--file", file)
    reload = "containerd reads it after: systemctl restart containerd\n"
    assert (status, out, err) == (0, f"{file}: changed; as it was: {file}.before-cdi-hook\n{reload}", "")
    assert 'container_annotations = ["cdi.k8s.io/*", "a.b/*"]\n' in file.read_text()


@pytest.mark.usefixtures("system_toml")
def test_containerd_3_has_a_drop_in(cdi_hook: World, etc: Path) -> None:
    """If config.toml of version 3 imports a dir's files, a drop-in is added, and config.toml isn't changed."""
    (etc / "config.toml").write_text(V3)
    before = contents(etc)
    add = ("configure", "containerd", "--file", etc / "config.toml")
    cdi_hook(*add, "--set-default", "--force")
    drop_in = "conf.d/99-cdi-hook.toml"
    assert contents(etc) == {**before, drop_in: (etc / drop_in).read_text()}
    assert (etc / drop_in).read_text().splitlines()[:2] == [
        "# Written by `cdi-hook configure containerd`; --remove removes it and its dir.", "version = 3",
    ]  # fmt: skip
    assert cdi_hook(*add, "--set-default", "--force") == (0, f"{etc}/{drop_in}: nothing to change\n", "")
    assert cdi_hook(*add, "--remove")[1].splitlines()[0] == f"{etc}/{drop_in}: removed"
    assert contents(etc) == before


@pytest.mark.usefixtures("system_toml")
def test_containerd_3_that_imports_no_dir_is_edited_in_place(cdi_hook: World, etc: Path) -> None:
    """Without such an import the entry goes into config.toml, and stays there if an import is added later."""
    file = etc / "config.toml"
    file.write_text(V3.replace("conf.d/*.toml", "one.toml"))
    add = ("configure", "containerd", "--file", file)
    cdi_hook(*add)
    assert [*contents(etc)] == ["config.toml", "config.toml.before-cdi-hook"]
    file.write_text(file.read_text().replace("one.toml", "conf.d/*.toml"))
    assert cdi_hook(*add) == (0, f"{file}: nothing to change\n", "")
    cdi_hook(*add, "--remove")
    assert contents(etc) == {"config.toml": V3}


@pytest.mark.usefixtures("system_toml")
def test_containerd_without_a_file(cdi_hook: World, etc: Path) -> None:
    """A new config.toml has version 2, which every containerd reads, and a drop-in that nothing reads is named, but not imported."""
    file = etc / "config.toml"
    add = ("configure", "containerd", "--file", file)
    cdi_hook(*add)
    assert file.read_text().splitlines()[1] == "version = 2"
    cdi_hook(*add, "--remove")
    assert contents(etc) == {}
    (etc / "conf.d").mkdir()
    (etc / "conf.d/a.toml").write_text("version = 3\n")
    _, _, err = cdi_hook(*add)
    unread = f"containerd doesn't read {etc}/conf.d/a.toml, and still won't: {file} imports no file"
    assert err == f"cdi-hook: note: {unread}\n"
    assert [*contents(etc)] == ["conf.d/a.toml", "config.toml"]
    assert file.read_text().splitlines()[1] == "version = 2"
    assert "imports" not in file.read_text()
    cdi_hook(*add, "--remove")
    assert contents(etc) == {"conf.d/a.toml": "version = 3\n"}


@pytest.mark.usefixtures("system_toml")
def test_toml_that_doesnt_parse_is_untouched(cdi_hook: World, etc: Path) -> None:
    """The file at fault is named, even if it isn't the file that is edited."""
    file = etc / "crio.conf.d/50-own.conf"
    file.parent.mkdir()
    file.write_text("[crio]\nx = \n")
    drop_in = file.with_name("99-cdi-hook.conf")
    for config in (file, drop_in):
        status, out, err = cdi_hook("configure", "crio", "--file", config)
        assert (status, out) == (1, "")
        assert err == f"cdi-hook: {file}: not valid TOML: Invalid value (at line 2, column 5)\n"
    assert contents(etc) == {"crio.conf.d/50-own.conf": "[crio]\nx = \n"}


@pytest.mark.usefixtures("system_toml")
def test_a_runtime_that_only_the_engine_finds(cdi_hook: World, etc: Path) -> None:
    """If none of RUNTIMES is here, a warning says so, with the line that names the engine's own runtime if it has one."""
    cdi_hook.configure(RUNTIMES="no-such nor-this")
    program = cdi_hook.root / "libexec/crun"
    (etc / "crio.conf").write_text(
        '[crio.runtime.runtimes.crun]\nruntime_path = "/nonexistent"\n'
        f'[crio.runtime.runtimes.runc]\nruntime_path = "{program}"\n'
    )
    drop_in = etc / "crio.conf.d/99-cdi-hook.conf"
    warning = (
        "cdi-hook: warning: no runtime of RUNTIMES (no-such nor-this) is on PATH or in the standard dirs, so no "
        "container will start; {}\n"
    )
    _, _, err = cdi_hook("configure", "crio", "--file", drop_in)
    assert err.startswith(warning.format("install one, or give a path in RUNTIMES"))
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    _, _, err = cdi_hook("configure", "crio", "--file", drop_in)
    assert err.startswith(warning.format(f"write the line RUNTIMES={program} into {cdi_hook.config}"))


@pytest.mark.usefixtures("system_toml")
def test_crio_copies_and_keeps_no_copy_where_all_is_read(cdi_hook: World, etc: Path) -> None:
    """The entry copies what another file has, and no copy of a file is put into the dir whose every file CRI-O reads."""
    (etc / "crio.conf.d").mkdir()
    (etc / "crio.conf").write_text('[crio.runtime.runtimes.runc]\nruntime_root = "/run/runc"\n')
    file = etc / "crio.conf.d/50-own.conf"
    file.write_text('[crio.runtime]\ndefault_runtime = "runc"\n')
    before = contents(etc)
    drop_in = file.with_name("99-cdi-hook.conf")
    cdi_hook("configure", "crio", "--file", drop_in)
    assert 'runtime_root = "/run/runc"\n' in drop_in.read_text()
    cdi_hook("configure", "crio", "--file", drop_in, "--remove")
    assert contents(etc) == before
    cdi_hook("configure", "crio", "--file", file, "--set-default", "--force")
    assert [*contents(etc)] == ["50-own.conf.before-cdi-hook", "crio.conf", "crio.conf.d/50-own.conf"]
    cdi_hook("configure", "crio", "--file", file, "--remove")
    assert contents(etc) == before


# A dir whose files are read in the order of their names, and the line in one of them that sets the default runtime.
DEFAULTS = {
    "containerd": ("conf.d/{}.toml", f'{V3}[plugins."io.containerd.cri.v1.runtime".containerd]\ndefault_runtime_name = '),
    "crio": ("crio.conf.d/{}.conf", "[crio.runtime]\ndefault_runtime = "),
    "podman": ("containers.conf.d/{}.conf", "[engine]\nruntime = "),
}  # fmt: skip


def beside(etc: Path, engine: str, name: str, default: str) -> tuple[Path, Path, tuple[str | Path, ...]]:
    """Let another file set the default runtime; return it, our file's path, and the command that edits ours."""
    names, text = DEFAULTS[engine]
    (etc / "config.toml").write_text(V3)
    ours, other = etc / names.format("99-cdi-hook"), etc / names.format(name)
    other.parent.mkdir(exist_ok=True)
    other.write_text(f'{text}"{default}"\n')
    file = etc / "config.toml" if engine == "containerd" else ours
    return other, ours, ("configure", engine, "--file", file)


@pytest.mark.usefixtures("system_toml")
@pytest.mark.parametrize("engine", DEFAULTS)
def test_a_default_that_comes_later_is_not_overlooked(cdi_hook: World, etc: Path, engine: str) -> None:
    """--set-default is refused exactly if a file that is read later sets another default."""
    other, ours, add = beside(etc, engine, "99-nvidia", "nvidia")
    before = contents(etc)
    message = (
        f"{other}, which {engine} reads after {ours}, makes nvidia the default runtime: "
        "remove that, or leave out --set-default"
    )
    assert cdi_hook(*add, "--set-default", "--force") == (1, "", f"cdi-hook: {message}\n")
    assert contents(etc) == before
    assert cdi_hook(*add)[0] == 0
    other.unlink()
    beside(etc, engine, "98-nvidia", "nvidia")
    assert cdi_hook(*add, "--set-default", "--force")[0] == 0


@pytest.mark.usefixtures("system_toml")
@pytest.mark.parametrize("engine", DEFAULTS)
def test_the_default_of_another_file_is_not_taken_away(cdi_hook: World, etc: Path, engine: str) -> None:
    """If another file makes ours the default, a removal is refused, because the engine would have no default."""
    other, _, command = beside(etc, engine, "10-own", "cdi")
    assert cdi_hook(*command)[0] == 0
    before = contents(etc)
    message = f"{other} makes cdi the default runtime: set another one there first"
    assert cdi_hook(*command, "--remove") == (1, "", f"cdi-hook: {message}\n")
    assert contents(etc) == before
    beside(etc, engine, "10-own", "runc")
    assert cdi_hook(*command, "--remove")[0] == 0


@pytest.mark.usefixtures("system_toml")
def test_nothing_is_removed_from_a_containerd_of_version_1(cdi_hook: World, etc: Path) -> None:
    """A config.toml such as Docker's packages install has nothing of ours to remove, though nothing can be added to it."""
    file = etc / "config.toml"
    file.write_text('disabled_plugins = ["cri"]\n')
    command = ("configure", "containerd", "--file", file)
    assert cdi_hook(*command)[0] == 1
    assert cdi_hook(*command, "--remove") == (0, f"{file}: nothing to change\n", "")


@pytest.mark.usefixtures("system_toml")
def test_podman_reads_it_anyway(cdi_hook: World, etc: Path) -> None:
    """podman has no daemon to reload, and --reload has nothing to do."""
    file = etc / "containers.conf.d/99-cdi-hook.conf"
    status, out, err = cdi_hook("configure", "podman", "--file", file, "--reload")
    assert (status, out, err) == (
        0,
        f"{file}: written\npodman reads it the next time it is called\n",
        "",
    )
    assert cdi_hook.json("configure", "podman", "--file", file, "--json")[0]["reload"] is None


def test_where_tomli_is_missing(cdi_hook: World, etc: Path) -> None:
    """daemon.json needs no tomli, and for TOML the message says what to install."""
    program = (
        "import sys; sys.modules.update(tomllib=None, tomli=None)\n"
        "from cdi_hook import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    file = etc / "x"
    results = {}
    for engine in ("podman", "docker"):
        done = subprocess.run(
            ["/usr/bin/python3", "-c", program, "configure", engine, "--file", file],
            cwd=PROGRAM.parents[2], env=cdi_hook.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        results[engine] = (done.returncode, done.stderr)
    needs = "reading it needs Python 3.11 or tomli: install python3-tomli (or pip install tomli)"
    assert results == {"podman": (1, f"cdi-hook: {file}: {needs}\n"), "docker": (0, "")}


def everywhere(cdi_hook: World, etc: Path, *arguments: str | Path) -> tuple[int, str, str]:
    """Run the program with every engine's file below a dir of ours; return its exit status, stdout and stderr."""
    program = (
        "import sys\n"
        "from cdi_hook import cli, engines\n"
        "root = sys.argv.pop(1)\n"
        "for one in engines.ENGINES.values(): one.file, one.user_file = root + one.file, ''\n"
        "cli.run()\n"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-Bc", program, etc, *arguments],
        cwd=PROGRAM.parents[2], env=cdi_hook.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def configured(cdi_hook: World, etc: Path) -> dict[str, str]:
    """Make every engine use cdi-runtime, in files below a dir of ours; return what was there before."""
    for name, text in {"docker": DAEMON, "containerd": V2, "k3s": V3, "rke2": V2, "microk8s": V2}.items():
        path = Path(f"{etc}{ENGINES[name].file}")
        path.parent.mkdir(parents=True)
        path.write_text(text)
    before = contents(etc)
    for name in ENGINES:
        assert everywhere(cdi_hook, etc, "configure", name)[0] == 0
    assert len(contents(etc)) == len(ENGINES) + len(before)
    return before


@pytest.mark.usefixtures("system_toml")
def test_all_are_put_back(cdi_hook: World, etc: Path, configured: dict[str, str]) -> None:
    """`configure all --remove` restores every engine, prints the files and reloads, and then has nothing to do."""
    expected = ""
    for name, engine in ENGINES.items():
        place = engine.editor.files(f"{etc}{engine.file}").place.removeprefix(str(etc))
        expected += f"{etc}{place}: {'changed' if place[1:] in configured else 'removed'}\n"
        reload = engine.reload_command(engine.file)
        when = f"after: {' '.join(reload)}" if reload else "the next time it is called"
        expected += f"{name} reads it {when}\n"
    assert everywhere(cdi_hook, etc, "configure", "all", "--remove") == (0, expected, STILL)
    assert contents(etc) == configured
    assert everywhere(cdi_hook, etc, "configure", "all", "--remove") == (0, "", "")
    assert everywhere(cdi_hook, etc, "configure", "all", "--remove", "--json")[::2] == (0, "")


@pytest.mark.usefixtures("system_toml", "configured")
def test_all_that_run_read_it(cdi_hook: World, etc: Path) -> None:
    """With --reload, `configure all` has those engines read their files that run."""
    systemctl = cdi_hook.root / "systemctl"
    called = cdi_hook.root / "called"
    systemctl.write_text(
        f'#!/bin/sh\n[ $1 = is-active ] || echo "$@" >>{called}\n! [ "$*" = "is-active --quiet crio" ] || exit 3\n'
    )
    systemctl.chmod(0o755)
    cdi_hook.environ["PATH"] = f"{cdi_hook.root}:/usr/bin:/bin"
    status, out, _ = everywhere(cdi_hook, etc, "configure", "all", "--remove", "--reload")
    assert (status, "crio doesn't run: it reads it when it starts\n" in out) == (0, True)
    daemons = [engine for name, engine in ENGINES.items() if engine.daemon and name != "crio"]
    assert called.read_text() == "".join(f"{engine.reload} {engine.units[0]}\n" for engine in daemons)
    assert called.read_text().startswith("reload docker\nrestart containerd\n")


@pytest.mark.usefixtures("system_toml")
def test_one_that_cant_be_put_back_stops_no_other(
    cdi_hook: World, etc: Path, configured: dict[str, str]
) -> None:
    """An engine whose file can't be used is named, the others are restored, and the exit status is 1."""
    (etc / "etc/docker/daemon.json").write_text("{")
    status, out, err = everywhere(cdi_hook, etc, "configure", "all", "--remove")
    assert (status, "docker" in out) == (1, False)
    assert err.startswith(
        "cdi-hook: docker may still be configured to use cdi-runtime: "
        f"{etc}/etc/docker/daemon.json: not valid JSON: "
    )
    copy = {"etc/docker/daemon.json.before-cdi-hook": DAEMON}
    assert contents(etc) == {**configured, "etc/docker/daemon.json": "{", **copy}


@pytest.mark.usefixtures("system_toml", "configured")
def test_all_can_be_looked_at_first(cdi_hook: World, etc: Path) -> None:
    """With --dry-run nothing is written, and with --json there is an object for each engine that would change."""
    before = contents(etc)
    status, out, err = everywhere(cdi_hook, etc, "configure", "all", "--remove", "--dry-run", "--json")
    assert (status, err) == (0, "")
    assert [(one["engine"], one["is_changed"]) for one in json.loads(out)["items"]] == [
        (name, False) for name in ENGINES
    ]
    assert contents(etc) == before


def test_all_is_for_removing(cdi_hook: World, etc: Path) -> None:
    """For all engines at once, only --remove is possible."""
    message = "the following arguments are required: --remove; see cdi-hook configure all --help"
    assert everywhere(cdi_hook, etc, "configure", "all") == (2, "", f"cdi-hook: {message}\n")
    assert everywhere(cdi_hook, etc, "configure", "all", "--remove", "--set-default", "--force")[0] == 2
    assert contents(etc) == {}


def test_enable_cdi(cdi_hook: World, etc: Path) -> None:
    """--enable-cdi turns on docker's own CDI, for which docker has to be restarted; --remove takes all back."""
    file = etc / "daemon.json"
    file.write_text(DAEMON)
    restart = (
        "docker turns its own CDI on when it starts, not at a reload. --reload doesn't restart it: "
        "a restart ends containers, unless live-restore is on"
    )
    done = cdi_hook.json("configure", "docker", "--file", file, "--enable-cdi", "--json")[0]
    assert json.loads(file.read_text())["features"] == {"cdi": True}
    assert (done["notes"], done["reload"]) == ([restart], ["systemctl", "restart", "docker"])
    assert (
        cdi_hook("configure", "docker", "--file", file, "--enable-cdi")[1] == f"{file}: nothing to change\n"
    )
    assert cdi_hook("configure", "docker", "--file", file, "--remove")[0] == 0
    assert contents(etc) == {"daemon.json": DAEMON}


def test_own_cdi_stays_on_if_others_edited_the_file(cdi_hook: World, etc: Path) -> None:
    """Whoever else edited the file may want the engine's own CDI: --remove leaves it on and says so."""
    file = etc / "daemon.json"
    file.write_text(DAEMON)
    assert cdi_hook("configure", "docker", "--file", file, "--enable-cdi")[0] == 0
    file.write_text(file.read_text().replace('"debug": true', '"debug": false'))
    note = f"cdi-hook: note: the CDI of docker itself is still on, by {file}\n"
    status, _, err = cdi_hook("configure", "docker", "--file", file, "--remove")
    assert (status, err) == (0, note + STILL)
    assert json.loads(file.read_text()) == {**json.loads(DAEMON), "debug": False, "features": {"cdi": True}}


def test_a_dir_that_does_not_exist(cdi_hook: World, etc: Path) -> None:
    """No dir is made for a file that is named, because that is a typo; a dir near it is shown."""
    (etc / "docker").mkdir()
    advice = f"did you mean {etc}/docker?", "make it first, if the path is right"
    for name, told in zip(("dokcer", "none"), advice):
        message = f'cdi-hook: --file: there is no dir "{etc}/{name}"; {told}\n'
        assert cdi_hook("configure", "docker", "--file", etc / name / "daemon.json") == (1, "", message)
    assert [one.name for one in etc.iterdir()] == ["docker"]


def test_own_cdi_that_was_on_before(cdi_hook: World, etc: Path) -> None:
    """docker's own CDI that was on before stays on, and nothing is said of it."""
    file = etc / "daemon.json"
    before = '{"features": {"cdi": true}}\n'
    file.write_text(before)
    assert cdi_hook("configure", "docker", "--file", file, "--enable-cdi")[::2] == (0, "")
    status, _, said = cdi_hook("configure", "docker", "--file", file, "--remove")
    assert status == 0
    assert "CDI" not in said
    assert file.read_text() == before
