# SPDX-License-Identifier: Apache-2.0
"""cdi-hook as a program: help, wrong arguments, streams that fail, how it finds its package."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook import __version__
from cdi_hook.cli import commands

if TYPE_CHECKING:
    from tests.unit.cli.conftest import World

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "packaging/bin/cdi-hook"


def test_version(cdi_hook: World) -> None:
    """--version is the package's."""
    assert cdi_hook("--version") == (0, f"cdi-hook {__version__}\n", "")


def test_help_names_every_command(cdi_hook: World) -> None:
    """--help lists each command, those that engines call apart, and the exit statuses."""
    status, out, err = cdi_hook("--help")
    assert (status, err) == (0, "")
    named = [line.split()[0] for line in out.splitlines() if line.startswith("    ") and line[4] != " "]
    assert named == [name for name in commands.COMMANDS if name not in commands.STAGES]
    assert all(f"\n  {name} " in out for name in commands.STAGES)
    assert "\nexit status:\n  0 " in out


def test_no_command_is_a_wrong_call(cdi_hook: World) -> None:
    """Without a command, the help goes to stderr."""
    status, out, err = cdi_hook()
    assert (status, out) == (2, "")
    assert err.startswith("usage: cdi-hook ")


def test_generate_loads_nothing_to_inject() -> None:
    """To make a spec, no module is loaded that only injects or compiles the index."""
    program = "import sys; from cdi_hook import cli; cli.main(['generate', 'kvm']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    )
    loaded = {*done.stdout.splitlines()[-1].split()}
    assert "cdi_hook.generate.classes.plain" in loaded
    for name in ("injection", "driver", "registry", "request", "bundle", "index", "specs.compiled"):
        assert f"cdi_hook.{name}" not in loaded


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_each_command_explains_itself(cdi_hook: World, command: str) -> None:
    """COMMAND --help has the options that all commands have, and the exit statuses."""
    status, out, err = cdi_hook(command, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: cdi-hook {command} ")
    for text in ("exit status:", "--config FILE ", "--debug "):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "--nonsense"], "unrecognized arguments: --nonsense; see cdi-hook list --help"),
        (["index", "more"], "unrecognized arguments: more; see cdi-hook index --help"),
        (["inject", "--dev", "x"], "unrecognized arguments: --dev; did you mean --device?"),
        (["inject", "--device"], "argument -d/--device: expected one argument; see cdi-hook inject --help"),
        (["--config"], "argument --config: expected one argument; see cdi-hook --help"),
    ],
)
def test_wrong_arguments(cdi_hook: World, arguments: list[str], message: str) -> None:
    """Wrong arguments are one line and status 2; options can't be abbreviated."""
    assert cdi_hook(*arguments) == (2, "", f"cdi-hook: {message}\n")


def test_unknown_command(cdi_hook: World) -> None:
    """An unknown command is refused, and the message names one that is near."""
    assert cdi_hook("lst") == (2, "", 'cdi-hook: there is no command "lst"; did you mean list?\n')
    assert cdi_hook("xyz") == (2, "", 'cdi-hook: there is no command "xyz"; see cdi-hook --help\n')


def test_help_and_version_are_commands_too(cdi_hook: World) -> None:
    """`help`, `help COMMAND` and `version` are --help and --version."""
    assert cdi_hook("help") == cdi_hook("--help")
    assert cdi_hook("help", "list") == cdi_hook("list", "--help")
    assert cdi_hook("version") == cdi_hook("--version")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("configure", "docker", "--set-as-default"), "--set-default"),
        (("generate", "--class", "kvm"), "CLASS"),
        (("configure", "docker", "--config", "x"), "--file"),
        (("cdi", "list"), "generate or list"),
    ],
)
def test_words_of_other_tools(cdi_hook: World, arguments: tuple[str, ...], meant: str) -> None:
    """Who types what nvidia-ctk calls it is told the word here."""
    status, out, err = cdi_hook(*arguments)
    assert (status, out) == (2, "")
    assert f"; did you mean {meant}?" in err


def test_json_of_what_fails(cdi_hook: World) -> None:
    """With --json, errors and warnings are in the object too; stderr has them all the same."""
    cdi_hook.configure(SANDBOXES="maybe")
    for arguments in (("show", "v.com/c=x"), ("list", "--spec"), ("show",)):
        status, out, err = cdi_hook(*arguments, "--json")
        said = json.loads(out)
        assert (status != 0, said["version"], said["items"], len(said["errors"])) == (True, 1, [], 1)
        assert f"cdi-hook: {said['errors'][0]}\n" in err
        assert all(f"cdi-hook: warning: {one}\n" in err for one in said["warnings"])


@pytest.mark.parametrize("place", [0, 1])
def test_config_before_and_after_the_command(cdi_hook: World, place: int) -> None:
    """--config may stand before the command and after it, and overrides CDI_HOOK_CONFIG."""
    path = cdi_hook.spec("vendor.json")
    other = cdi_hook.root / "other.conf"
    cdi_hook.config.rename(other)
    arguments = ["list"]
    arguments[place:place] = ["--config", str(other)]
    expected = f"vendor.com/gpu=gpu0  {path}\nvendor.com/gpu=gpu1  {path}\n"
    assert cdi_hook(*arguments, CDI_HOOK_CONFIG="/nowhere") == (0, expected, "")


def test_closed_pipe_is_silent(cdi_hook: World) -> None:
    """If the reader of stdout goes away, the program ends without a message, as others do."""
    long = "d" * 200
    devices = [{"name": f"d{n}{long}", "containerEdits": {"env": ["A=1"]}} for n in range(1000)]
    cdi_hook.spec("v.json", {"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": devices})
    program = subprocess.Popen(
        [PROGRAM, "list"], env=cdi_hook.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.read(10) == b"v.com/c=d0"
        program.stdout.close()
        assert program.stderr.read() == b""
    assert program.returncode == -signal.SIGPIPE


def test_interrupt_is_silent(cdi_hook: World) -> None:
    """An interrupt ends the program by that signal, without a message."""
    program = subprocess.Popen(
        [PROGRAM, "inject", "-d", "v.com/c=d"],
        env=cdi_hook.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with program:
        _wait_for_blocking_read(program.pid)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
    assert (program.returncode, out, err) == (-signal.SIGINT, b"", b"")


def _wait_for_blocking_read(pid: int) -> None:
    """Wait until the program has started and waits for its stdin."""
    deadline = time.monotonic() + 30
    while not _reads_stdin(pid):
        assert time.monotonic() < deadline, "it never read"
        time.sleep(0.01)


def _reads_stdin(pid: int) -> bool:
    """Say whether a process is Python, has set its signals, and sleeps."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    caught = int(status["SigCgt"], 16) | int(status["SigIgn"], 16)
    fresh = caught & (1 << signal.SIGINT - 1 | 1 << signal.SIGPIPE - 1)
    return "python" in status["Name"] and not fresh and status["State"].startswith("S")


def test_full_disk(cdi_hook: World) -> None:
    """Output that can't be written is an error, printed once."""
    cdi_hook.spec("vendor.json")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [PROGRAM, "list"], env=cdi_hook.environ, stdout=full, stderr=subprocess.PIPE, check=False
        )
    message = b"cdi-hook: can't write to stdout: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.parametrize(
    ("arguments", "closed", "expected"),
    [
        (["list"], "1", (1, "", "cdi-hook: can't write to stdout: it is closed\n")),
        (["inject"], "0", (1, "", "cdi-hook: can't read an OCI spec from stdin: it is closed\n")),
        (["inject", "bundle"], "2", (1, "", "")),
    ],
)
def test_closed_streams(
    cdi_hook: World, arguments: list[str], closed: str, expected: tuple[int, str, str]
) -> None:
    """A closed stream is an error if it is needed; a message isn't written anywhere else."""
    cdi_hook.spec("vendor.json")
    command = f'exec "$@" {closed}{"<" if closed == "0" else ">"}&-'
    done = subprocess.run(
        ["sh", "-c", command, "sh", PROGRAM, *arguments],
        env=cdi_hook.environ,
        cwd=cdi_hook.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == expected


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1", "nowhere.UTF-8"])
def test_any_locale_and_any_name(cdi_hook: World, locale: str) -> None:
    """A path that isn't UTF-8 is escaped in a line, exact in JSON, and independent of the locale."""
    _compile_locale(cdi_hook)
    path = os.fsencode(cdi_hook.specs) + b"/\xff\n\x1b[31m\xe2\x82\xac.yaml"
    Path(os.fsdecode(path)).write_text("kind: 1\n")
    status, out, err = cdi_hook("validate", LC_ALL=locale)
    shown = f"{cdi_hook.specs}/\\xff\\n\\x1b[31m€.yaml"
    assert (status, err) == (1, "")
    assert out.splitlines()[0] == f"{shown}: .cdiVersion: there is no cdiVersion; this spec needs 0.3.0"
    status, out, err = cdi_hook("validate", "--json", path, LC_ALL=locale)
    assert (status, err) == (1, "")
    assert '/\\udcff\\n\\u001b[31m\\u20ac.yaml"' in out


def _compile_locale(cdi_hook: World) -> None:
    """Make a locale with another encoding if possible, or else use C."""
    if shutil.which("localedef"):
        target = str(cdi_hook.root / "en_US.ISO-8859-1")
        command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", target]
        subprocess.run(command, capture_output=True, check=False)
        cdi_hook.environ["LOCPATH"] = str(cdi_hook.root)


def test_debug_shows_where(cdi_hook: World) -> None:
    """--debug gives a traceback in place of the one line."""
    status, out, err = cdi_hook("inject", stdin="{")
    assert (status, out, err.count("\n")) == (1, "", 1)
    status, out, debug = cdi_hook("inject", "--debug", stdin="{")
    assert (status, out) == (1, "")
    assert debug.startswith("Traceback (most recent call last):\n")
    assert err.removeprefix("cdi-hook: ") in debug


@pytest.mark.parametrize("command", ["list", "validate"])
def test_without_pyyaml(tmp_path: Path, command: str) -> None:
    """If PyYAML is missing, any command that needs it says so in one line."""
    (tmp_path / "v.yaml").write_text("kind: v.com/d\n")
    modules = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules['yaml'] = None"
    program = f"{modules}; from cdi_hook import cli; cli.run()"
    arguments = [sys.executable, "-IS", "-c", program, command, "--spec-dir", str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    message = (
        "PyYAML is missing, which reads CDI specs: install python3-yaml (Debian, Ubuntu), python3-pyyaml "
        "(Fedora, RHEL), or with pip PyYAML"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"cdi-hook: {message}\n")


def test_finds_itself_through_a_link(cdi_hook: World) -> None:
    """A link to the program, on PATH under another name, works like the program."""
    link = cdi_hook.root / "linked"
    link.symlink_to(PROGRAM)
    command = ["sh", "-c", "linked --version"]
    environ = {**cdi_hook.environ, "PATH": f"{cdi_hook.root}:/usr/bin:/bin"}
    done = subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"cdi-hook {__version__}\n", "")


@pytest.mark.parametrize("layout", ["installed", "venv"])
def test_runs_where_it_is_installed(cdi_hook: World, layout: str) -> None:
    """The program works with the lib dir that an installer writes into it, and from a venv's bin."""
    root = cdi_hook.root / "a dir"
    lib = root / {"installed": "share/cdi-hook", "venv": "lib/python3.99/site-packages"}[layout]
    program = root / "bin/cdi-hook"
    program.parent.mkdir(parents=True)
    shutil.copytree(ROOT / "cdi_hook", lib / "cdi_hook", ignore=shutil.ignore_patterns("__pycache__"))
    (lib / "cdi_hook/version.py").write_text(
        (ROOT / "cdi_hook/version.py").read_text().replace(f'"{__version__}"', '"9.9.9"')
    )
    text = PROGRAM.read_text()
    if layout == "installed":
        assert text.count("\ncdi_lib='' ") == 1
        text = text.replace("\ncdi_lib='' ", f"\ncdi_lib='{lib}' ")
    else:
        (root / "bin/python3").symlink_to(sys.executable)
    program.write_text(text)
    program.chmod(0o755)
    assert subprocess.check_output([program, "--version"], env=cdi_hook.environ) == b"cdi-hook 9.9.9\n"


def test_any_umask(cdi_hook: World) -> None:
    """Called with the umask 0, as by crun or dockerd, no program leaves a dir that others can write to."""
    lib, bins = cdi_hook.root / "lib", cdi_hook.root / "bin"
    bins.mkdir()
    cdi_hook.oci({"annotations": {"cdi.k8s.io/x": "v.com/c=none"}})
    calls = [("cdi-hook", "createRuntime"), ("cdi-hook", "precreate"), ("cdi-hook", "list")]
    for name, *arguments in (*calls, ("cdi-runtime", "create", "--bundle", str(cdi_hook.bundle), "x")):
        shutil.copytree(ROOT / "cdi_hook", lib / "cdi_hook", ignore=shutil.ignore_patterns("__pycache__"))
        text = (PROGRAM.parent / name).read_text().replace("\ncdi_lib='' ", f"\ncdi_lib='{lib}' ", 1)
        (bins / name).write_text(text)
        (bins / name).chmod(0o755)
        text = json.dumps({"id": "x", "pid": os.getpid(), "bundle": str(cdi_hook.bundle)})
        done = subprocess.run(
            [bins / name, *arguments],
            input=text,
            text=True,
            env=cdi_hook.environ,
            capture_output=True,
            check=False,
            umask=0,
        )
        assert "Traceback" not in done.stderr
        made = [path for path in lib.rglob("*") if path.is_dir() and path.stat().st_mode & 0o022]
        assert made == [], name
        shutil.rmtree(lib)


def test_environment_does_not_lead_python_astray(cdi_hook: World) -> None:
    """Neither PYTHONPATH nor the cwd affects what is imported."""
    for name in ("json", "yaml", "argparse", "cdi_hook"):
        (cdi_hook.root / f"{name}.py").write_text("raise SystemExit('led astray')\n")
    path = cdi_hook.spec("vendor.json")
    expected = (0, f"vendor.com/gpu=gpu0  {path}\nvendor.com/gpu=gpu1  {path}\n", "")
    assert cdi_hook("list", PYTHONPATH=str(cdi_hook.root), PYTHONSTARTUP="/nowhere") == expected


@pytest.mark.parametrize("program", ["cdi-hook list", "cdi-hook precreate", "cdi-runtime create id"])
def test_a_module_that_cannot_be_loaded_is_one_line(tmp_path: Path, program: str) -> None:
    """If Python can't load a module of ours, the user gets one line and not a traceback, unless --debug asks for it."""
    (tmp_path / "packaging/bin").mkdir(parents=True)
    for room in ("cli", "hooks", "runtime"):
        (tmp_path / "cdi_hook" / room).mkdir(parents=True)
    name, *arguments = program.split()
    path = Path(shutil.copy(PROGRAM.with_name(name), tmp_path / "packaging/bin"))
    for module in ("__init__", "start", "bytecode"):
        shutil.copy(ROOT / f"cdi_hook/{module}.py", tmp_path / "cdi_hook")
    for module in ("cli/__init__", "hooks/entry", "runtime/shim"):
        (tmp_path / f"cdi_hook/{module}.py").write_text("import none_such\n")
    (tmp_path / "config.json").write_text('{"annotations": {"cdi.k8s.io/a": "v.com/c=d"}}')
    environ = {"PATH": "/usr/bin:/bin", "CDI_HOOK_CONFIG": str(tmp_path / "none/conf")}

    def run(*more: str) -> tuple[int, str]:
        done = subprocess.run(
            [path, *arguments, *more], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert done.stdout == ""
        return done.returncode, done.stderr

    status, message = run()
    assert status == 1
    assert message.startswith((f"{name} can't go on: Module", "cdi-hook: can't start: Module"))
    assert (message.count("\n"), "none_such" in message) == (1, True)
    if name == "cdi-runtime" or arguments == ["list"]:
        assert "Traceback" in run("--debug")[1]
    if arguments == ["list"]:
        (tmp_path / "cdi_hook/cli/__init__.py").write_text("")
        assert run()[1].startswith("cdi-hook: can't start: ImportError: cannot import name 'run'")
    else:
        (tmp_path / "cdi_hook/bytecode.py").write_text("import none_such\n")
        assert run() == (1, "cdi-hook can't start: ModuleNotFoundError: No module named 'none_such'\n")
