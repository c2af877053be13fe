# SPDX-License-Identifier: Apache-2.0
"""shim: the modules that a container's start imports, and its error messages."""

from __future__ import annotations

import json
import marshal
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cdi_hook.catalog import inventory
from cdi_hook.specs.versions import USABLE

ROOT = Path(__file__).parents[3]
START = ROOT / "cdi_hook" / "start.py"
PYTHON = sys.executable
SPEC = """cdiVersion: "0.6.0"
kind: vendor.com/thing
devices:
- {name: one, containerEdits: {env: [ONE=1], deviceNodes: [{path: /dev/null}]}}
- {name: gone, containerEdits: {deviceNodes: [{path: /dev/none-such}]}}
"""

# All modules that a create imports beyond an empty Python. Each more costs every
# container 0.1 ms, and one of the standard library rather 1 to 20.
OURS = ("base", "base.files", "base.json_text", "base.quoting", "base.volumes", "catalog", "catalog.index", "catalog.registry",
        "config", "config.settings", "edits", "edits.editor", "edits.kinds", "edits.target", "errors", "inject", "inject.bundle",
        "inject.pipeline", "inject.request", "names", "runtime", "runtime.argv",
        "runtime.shim", "version")  # fmt: skip
ROOMS = ("base", "catalog", "config", "edits", "inject", "runtime")
# What the one file has and no good create executes: what is in a room's own module, and this.
RARE = {f"cdi_hook.{name}" for name in (*ROOMS, "errors")}
BUDGET = {"_json", "_signal", "cdi_hook", "cdi_hook.bytecode", "gc", *(f"cdi_hook.{name}" for name in OURS)}


class Host:
    """A host with a spec, a configuration and a bundle of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("cdi", "run"):
            (directory / name).mkdir()
        (directory / "cdi" / "vendor.yaml").write_text(SPEC)
        (directory / "bundle").mkdir()
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write the configuration."""
        text = f"SPEC_DIRS={self.directory}/cdi\nSPEC_TRUST=none\n{more}"
        (self.directory / "conf").write_text(text)

    @property
    def config_json(self) -> Path:
        """The bundle's config.json."""
        return self.directory / "bundle" / "config.json"

    def ask(self, value: str) -> None:
        """Make a config.json that asks for value by an annotation."""
        self.config_json.write_text(
            json.dumps({"ociVersion": "1.0.2", "annotations": {"cdi.k8s.io/a": value}})
        )

    def run(
        self, *arguments: str, options: tuple[str, ...] = (), cwd: Path | None = None, start: Path = START
    ) -> subprocess.CompletedProcess[str]:
        """Run cdi_hook.runtime.shim as the door does, with a runtime that does nothing."""
        command = [PYTHON, "-IS", *options, str(start), "runtime", "/bin/true", "", "", *arguments]
        environment = {
            "CDI_HOOK_CONFIG": str(self.directory / "conf"),
            "XDG_RUNTIME_DIR": str(self.directory / "run"),
        }
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            cwd=cwd,
        )  # fmt: skip

    def create(
        self, *arguments: str, options: tuple[str, ...] = (), start: Path = START
    ) -> subprocess.CompletedProcess[str]:
        """Create the container."""
        create = (*arguments, "create", "--bundle", str(self.directory / "bundle"), "id")
        return self.run(*create, options=options, start=start)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Make a host."""
    return Host(tmp_path)


def copy(host: Host, *, has_cache: bool = True) -> Path:
    """Copy our package, with a dir for byte-code, if it is to have one."""
    library = host.directory / "library/cdi_hook"
    shutil.copytree(ROOT / "cdi_hook", library, ignore=shutil.ignore_patterns("__pycache__"))
    if has_cache:
        (library / "__pycache__").mkdir()
    return library


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the modules that -X importtime lists."""
    return {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }


INNER = "from cdi_hook.room import inner  # in a package\n"
# Stands in for start.py, and prints the modules that were executed when the runtime takes over.
MODULES_AT_EXEC = """
import posix, sys
def end(*_):
    executed = [name for name, module in sys.modules.items() if type(module).__name__ != "_Rare"]
    posix._exit(posix.write(1, " ".join(executed).encode()) and 0)
posix.execv = end
del sys.argv[0]
__file__ = sys.argv[0]
exec(compile(open(__file__).read(), __file__, "exec"))
"""


def modules(*command: str, environment: dict[str, str] | None = None) -> set[str]:
    """Return the modules that a program prints."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("has_file", [True, False], ids=["from one file", "one by one"])
def test_a_create_imports_what_the_budget_allows(host: Host, has_file: bool) -> None:
    """With an index, an injection executes only modules that are on the list, and the file of byte-code has ours."""
    library = copy(host, has_cache=has_file)
    start = str(library / "start.py")
    time.sleep(0.06)  # a new spec isn't indexed
    environment = {
        "CDI_HOOK_CONFIG": str(host.directory / "conf"),
        "XDG_RUNTIME_DIR": str(host.directory / "run"),
    }
    more = ("runtime", "/bin/true", "", "", "create", "--bundle", str(host.directory / "bundle"), "id")
    for _ in range(2):
        host.ask("vendor.com/thing=one")
        found = modules(PYTHON, "-IS", "-B", "-c", MODULES_AT_EXEC, start, *more, environment=environment)
        assert "ONE=1" in host.config_json.read_text()
    empty = modules(PYTHON, "-IS", "-c", "import sys; print(*sys.modules)")
    of_39 = {"_bootlocale", "_locale"}  # with which it opens a file
    assert found - empty - of_39 == (BUDGET - RARE if has_file else BUDGET | {"__future__"}) - empty


def damage(library: Path, how: str) -> None:
    """Have the file of byte-code not hold."""
    (file,) = (library / "__pycache__").glob("start.*")
    if how == "another source":
        with (library / "room/inner.py").open("a") as source:
            source.write("# more\n")
    elif how == "another time":
        os.utime(library / "names.py", ns=(1, 1))
    elif how == "a source gone":
        (library / "room/inner.py").unlink()
        (library / "runtime/shim.py").write_text((library / "runtime/shim.py").read_text().replace(INNER, ""))
    elif how == "half":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        version, modules = marshal.loads(file.read_bytes())
        new = (version + 1, modules) if how == "another Python" else (version, modules[::-1])
        file.write_bytes(marshal.dumps(new))


@pytest.mark.parametrize(
    "how", ["another source", "another time", "a source gone", "half", "another Python", "another order"]
)
def test_modules_come_from_one_file_while_it_holds(host: Host, how: str) -> None:
    """What runtime.py imports is in the file, packages too; if the file doesn't hold, it is made again."""
    library = copy(host)
    (library / "room").mkdir()
    (library / "room/__init__.py").write_text("from cdi_hook.room import second\n")
    (library / "room/second.py").write_text("NAME = __name__\n")
    (library / "room/inner.py").write_text("import cdi_hook.room\nfirst = cdi_hook.room.second.NAME\n")
    with (library / "runtime/shim.py").open("a") as file:
        file.write(INNER)

    def start() -> set[str]:
        """Create a container; return the modules of ours that were imported."""
        host.ask("vendor.com/thing=one")
        found = imported(host.create(options=("-B", "-X", "importtime"), start=library / "start.py"))
        assert "ONE=1" in host.config_json.read_text()
        return {name for name in found if name.startswith("cdi_hook")}

    time.sleep(0.06)  # a new spec isn't indexed
    assert {"cdi_hook.runtime.shim", "cdi_hook.room.inner"} <= start()
    assert start() == {"cdi_hook", "cdi_hook.bytecode"}
    damage(library, how)
    assert "cdi_hook.runtime.shim" in start()
    assert start() == {"cdi_hook", "cdi_hook.bytecode"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a dir away")
def test_root_leaves_no_byte_code_in_a_dir_of_another_user(host: Host) -> None:
    """A file that a user could replace afterwards isn't made."""
    library = copy(host)
    os.chown(library / "__pycache__", 1234, 1234)
    host.ask("vendor.com/thing=one")
    assert host.create(options=("-B",), start=library / "start.py").returncode == 0
    assert list((library / "__pycache__").iterdir()) == []


def test_importing_the_package_costs_nothing() -> None:
    """`import cdi_hook` imports nothing of ours until a name is used, and then what it needs."""
    program = (
        "import sys, cdi_hook; print(*sorted(name for name in sys.modules if name.startswith('cdi_hook')))\n"
        "cdi_hook.parse_qualified_name; print('cdi_hook.names' in sys.modules, 'yaml' in sys.modules)\n"
        "print(cdi_hook.Cache.__name__, set(cdi_hook.__all__) <= set(dir(cdi_hook)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "cdi_hook\nTrue False\nCache True\n"


FAILED = "CDI device injection failed: "
ASKED = '(asked for by annotation "cdi.k8s.io/a")'


@pytest.mark.parametrize(
    ("value", "configuration", "message"),
    [
        ("vendor.com/thing=two", "",
         f"{FAILED}unresolvable CDI devices vendor.com/thing=two {ASKED}; no usable CDI spec in @/cdi "
         'defines it; did you mean vendor.com/thing=one or vendor.com/thing=gone?; "cdi-hook list" shows the known '
         'devices, "cdi-hook validate" what is wrong with specs'),
        ("vendor.com/thing=gone", "",
         f'{FAILED}failed to stat CDI host device "/dev/none-such": does not exist; device '
         f"vendor.com/thing=gone {ASKED} is defined by @/cdi/vendor.yaml; if the host's devices or drivers "
         "have changed, generate that spec again"),
        ("one", "",
         f'{FAILED}annotation "cdi.k8s.io/a": invalid CDI device name "one" (unqualified device "one", missing '
         "vendor); a device is written vendor.com/class=name, several with commas and no spaces between, or set "
         "DEFAULT_KIND in the configuration"),
        ("vendor.com/thing=one", "DENY=vendor.com/*\n",
         f"{FAILED}device vendor.com/thing=one {ASKED} is not allowed on this host: DENY=vendor.com/* "
         "(@/conf:3) refuses it"),
        ("vendor.com/thing=one", "SANBOXES=skip\n",
         f"{FAILED}the configuration can't be used: @/conf:3: unknown key SANBOXES; did you mean SANDBOXES?"),
    ],
)  # fmt: skip
def test_what_the_person_is_told(host: Host, value: str, configuration: str, message: str) -> None:
    """An error is one line, in --log and on stderr, with status 1, and config.json isn't changed."""
    host.configure(configuration)
    host.ask(value)
    before = host.config_json.read_bytes()
    log = host.directory / "log.json"
    done = host.create("--log", str(log), "--log-format", "json")
    expected = message.replace("@/", f"{host.directory}/")
    if os.geteuid() != 0:
        pytest.skip("needs root: a user has spec dirs of their own in the message")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{expected}\n")
    assert [(line["level"], line["msg"]) for line in map(json.loads, log.read_text().splitlines())] == [
        ("error", expected)
    ]
    assert host.config_json.read_bytes() == before


def test_a_refused_spec_is_named_and_logged(host: Host) -> None:
    """A broken spec file is in the message with its error, and before that in the log as a warning."""
    (host.directory / "cdi" / "vendor.yaml").write_text('cdiVersion: "9"\n')
    host.ask("vendor.com/thing=one")
    log = host.directory / "log"
    done = host.create("--log", str(log), "--log-format", "json")
    reason = f'.cdiVersion: invalid version "9", not one of {", ".join(USABLE)}; this spec needs 0.3.0 (and 2 more)'
    assert f"refused: {host.directory}/cdi/vendor.yaml: {reason}" in done.stderr
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["level"], line.get("error")) for line in lines] == [
        ("warning", f"{host.directory}/cdi/vendor.yaml: {reason}"),
        ("error", None),
    ]
    assert lines[0]["msg"] == "Refreshing the CDI registry generated errors"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("DEVICE_ENV='GPU MY-VAR'", 'DEVICE_ENV: "MY-VAR" is not the name of an environment variable'),
        ("DEVICE_MOUNTS=run/d", 'DEVICE_MOUNTS: "run/d" is not an absolute path'),
        ("OTHER", "not of the form KEY=value"),
        ("SPEC_TRUST=no", ""),
    ],
)
def test_who_may_have_asked_is_told(host: Host, line: str, problem: str) -> None:
    """A bad line about who asks is a warning in --log and LOG where nobody asks; stderr is the container's."""
    own, log = host.directory / "own.log", host.directory / "log"
    host.configure(f"LOG={own}\n{line}\n")
    host.config_json.write_text("{}")
    for options in ((), ("--log", str(log), "--log-format", "json")):
        done = host.create(*options)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    said = "the container may have asked for a CDI device by what the configuration can't say: "
    expected = [("warning", f"{said}{host.directory}/conf:4: {problem}")] if problem else []
    lines = [json.loads(one) for one in (log.read_text().splitlines() if log.exists() else ())]
    assert [(one["level"], one["msg"]) for one in lines] == expected
    lines = [json.loads(one) for one in (own.read_text().splitlines() if own.exists() else ())]
    assert [(one["level"].lower(), one["msg"]) for one in lines] == expected * 2


def test_who_asks_by_what_is_left_is_told(host: Host) -> None:
    """A container that asks by a word of a bad line that can be used gets the error, not its default."""
    host.configure("DEVICE_ENV='GPU MY-VAR'\n")
    host.config_json.write_text(json.dumps({"process": {"env": ["GPU=vendor.com/thing=one"]}}))
    done = host.create()
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"{FAILED}the configuration can't be used: {host.directory}/conf:3: DEVICE_ENV: "
    )


GONE = {
    "mount": ({"mounts": [{"hostPath": "/none/such", "containerPath": "/x", "options": ["ro", "rbind"]}]}, "mounts"),
    "bind type": ({"mounts": [{"hostPath": "/none/such", "containerPath": "/x", "type": "bind"}]}, "mounts"),
    "below a file": ({"mounts": [{"hostPath": "/dev/null/such", "containerPath": "/x", "options": ["bind"]}]}, "mounts"),
    "hook": ({"hooks": [{"hookName": "createContainer", "path": "/none/such"}]}, "hooks"),
    "in the container": ({"hooks": [{"hookName": "startContainer", "path": "/none/such"}]}, ""),
    "no bind": ({"mounts": [{"hostPath": "/none/such", "containerPath": "/x", "type": "tmpfs"}]}, ""),
    "relative": ({"mounts": [{"hostPath": "none/such", "containerPath": "/x", "options": ["bind"]}]}, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", GONE)
def test_a_stale_spec_is_named(host: Host, case: str) -> None:
    """If the source of a bind mount or a hook's program is gone, the error names it, the device, the spec, and the cure."""
    edits, kind = GONE[case]
    (host.directory / "cdi/vendor.yaml").unlink()
    device = {"name": "one", "containerEdits": edits}
    spec = {"cdiVersion": "0.6.0", "kind": "vendor.com/thing", "devices": [device]}
    path = host.directory / "cdi/stale.json"
    path.write_text(json.dumps(spec))
    host.ask("vendor.com/thing=one")
    before = host.config_json.read_bytes()
    done = host.create()
    assert (done.returncode, host.config_json.read_bytes() == before) == ((1, True) if kind else (0, False))
    if kind:
        such = "/dev/null/such" if case == "below a file" else "/none/such"
        assert done.stderr == (
            f'{FAILED}the host has no "{such}", needed by the spec\'s {kind}; device vendor.com/thing=one {ASKED} is '
            f"defined by {path}; if the host's devices or drivers have changed, generate that spec again\n"
        )


def test_who_claims_to_be_a_sandbox_gets_its_device(host: Host) -> None:
    """An annotation that calls a container a pod's sandbox loses no device; the sandbox that an engine made has none."""
    for sandbox, has_it in (({}, True), ({"io.kubernetes.cri.sandbox-id": "x"}, True),
                            ({"io.kubernetes.cri.sandbox-id": "id"}, False)):  # fmt: skip
        annotations = {"cdi.k8s.io/a": "vendor.com/thing=one", "io.kubernetes.cri.container-type": "sandbox"}
        host.config_json.write_text(json.dumps({"annotations": {**annotations, **sandbox}}))
        assert host.create().returncode == 0
        assert ("ONE=1" in host.config_json.read_text()) is has_it


@pytest.mark.parametrize("text", ["cdiVersion: 'secret'\n", "secret: [\n", '{"secret":', "secret"])
@pytest.mark.parametrize("file_mode", [0o600, 0o644])
@pytest.mark.parametrize("dir_mode", [0o700, 0o755])
def test_what_not_everybody_may_read_is_not_quoted(
    host: Host, text: str, file_mode: int, dir_mode: int
) -> None:
    """Whoever starts a container isn't told what a spec says that they may not read, but that it can't be used."""
    spec = host.directory / "cdi/private.yaml"
    spec.write_text(text)
    spec.chmod(file_mode)
    spec.parent.chmod(dir_mode)
    host.ask("vendor.com/thing=none")
    log = host.directory / "log"
    done = host.create("--log", str(log))
    private = f"{spec}: {inventory.PRIVATE}"
    is_public = (file_mode, dir_mode) == (0o644, 0o755)
    assert [private in done.stderr, private.replace('"', '\\"') in log.read_text()] == [not is_public] * 2
    if not is_public:
        assert "secret" not in done.stderr + log.read_text()


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_name_controls_a_terminal(host: Host, log_format: str) -> None:
    """What can't be printed in the names of spec files and devices is escaped, in --log, also decoded, and on stderr."""
    (host.directory / "cdi" / "\x1b[31m\x9b.yaml").write_text('cdiVersion: "\\e]0;"\nkind: v.com/d\n')
    host.ask("vendor.com/thing=none")
    log = host.directory / "log"
    done = host.create("--log", str(log), "--log-format", log_format)
    said = log.read_text()
    if log_format == "json":
        lines = map(json.loads, said.splitlines())
        said = "".join(line["msg"] + line.get("error", "") for line in lines)
    for text in (done.stderr, said):
        assert text.replace("\n", "").isprintable()
        assert "\\x1b[31m" in text


def test_a_conflict_is_told_as_one(host: Host) -> None:
    """A device that two files of a dir define is unresolvable for that reason, and for no other."""
    (host.directory / "cdi" / "other.yaml").write_text(SPEC)
    host.ask("vendor.com/thing=one")
    said = host.create().stderr
    assert said.count('conflicting device "vendor.com/thing=one": two files of one dir define it') == 1
    assert "no usable CDI spec" not in said
    host.ask("vendor.com/thing=one,vendor.com/thing=none")
    assert "/cdi defines vendor.com/thing=none; " in host.create().stderr


def test_many_unknown_devices_are_told_in_short(host: Host) -> None:
    """A message names the first of many devices and counts the rest, and near names are sought for these alone."""
    (host.directory / "cdi" / "many.json").write_text(
        json.dumps(
            {
                "cdiVersion": "0.3.0",
                "kind": "vendor.com/many",
                "devices": [{"name": f"d{n}", "containerEdits": {"env": ["A=1"]}} for n in range(1000)],
            }
        )
    )
    host.ask(",".join(f"vendor.com/many=x{n}" for n in range(4096)))
    start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = host.create("--log", str(host.directory / "log"))
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - start < 10  # 0.3 s; for all of them, 50 s
    first = ", ".join(f"vendor.com/many=x{n}" for n in range(5))
    assert done.stderr.startswith(
        f"CDI device injection failed: unresolvable CDI devices {first} and 4091 more ("
    )
    assert (host.directory / "log").stat().st_size < 1000


@pytest.mark.parametrize("how", ["<&-", "2>&-", "2</dev/null", ">&- 2>&-"])
def test_a_closed_or_read_only_stderr_changes_nothing(host: Host, how: str) -> None:
    """With stderr closed or read-only, the error is still in --log and the status is right."""
    host.ask("vendor.com/thing=two")
    log = host.directory / "log"
    command = f'exec "$0" "$@" {how}'
    arguments = ["--log", str(log), "create", "--bundle", str(host.directory / "bundle"), "id"]
    done = subprocess.run(
        ["sh", "-c", command, PYTHON, "-IS", str(START), "runtime", "/bin/true", "", "", *arguments],
        env={"CDI_HOOK_CONFIG": str(host.directory / "conf")}, check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert log.read_text().count("level=error") == 1


def test_a_stderr_that_nobody_reads_holds_nothing_up(host: Host) -> None:
    """If an error is too long, stderr and --log have its beginning, and stderr no more than a pipe takes."""
    key = "cdi.k8s.io/" + "\u20ac" * 40000
    host.config_json.write_text(json.dumps({"annotations": {key: "vendor.com/thing=two"}}))
    log = host.directory / "log"
    reader, writer = os.pipe()
    arguments = ["--log", str(log), "create", "--bundle", str(host.directory / "bundle"), "id"]
    done = subprocess.run(
        [PYTHON, "-IS", str(START), "runtime", "/bin/true", "", "", *arguments],
        env={"CDI_HOOK_CONFIG": str(host.directory / "conf")}, check=False, stderr=writer, timeout=20,
    )  # fmt: skip
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode("utf-8", "ignore")
    name = f'vendor.com/thing=two (asked for by annotation "{key}"'
    beginning = f"CDI device injection failed: unresolvable CDI devices {name}"
    assert done.returncode == 1
    assert said == beginning.encode()[:4000].decode("utf-8", "ignore") + "...\n"
    assert f"{beginning[:4000]}...".replace('"', '\\"') in log.read_text()


def test_a_success_is_silent_and_logged_where_configured(host: Host) -> None:
    """A success prints nothing, and with LOG a JSON line names the devices."""
    own = host.directory / "own.log"
    host.configure(f"LOG={own}\n")
    host.ask("vendor.com/thing=one")
    done = host.create()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    line = json.loads(own.read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line.pop("time"))
    assert 0 < line.pop("ms") < 60_000
    assert line == {
        "level": "INFO",
        "msg": "CDI devices injected",
        "container": "id",
        "bundle": str(host.directory / "bundle"),
        "devices": [{"name": "vendor.com/thing=one", "source": 'annotation "cdi.k8s.io/a"'}],
        "specs": [str(host.directory / "cdi/vendor.yaml")],
        "changes": {"env": 1, "deviceNodes": 1},
    }


@pytest.mark.parametrize(
    ("arguments", "container"),
    [
        (["run", "--bundle", "bundle", "-1", "--"], "-1"),
        (["run", "--bundle", "bundle", "-1"], "-1"),
        (["run", "--bundle", "bundle", "--", "-1"], "-1"),
        (["run", "--bundle", "bundle", "-"], "-"),
        (["run", " --bundle=bundle", "id"], " --bundle=bundle"),
        ([" --debug", "run", "--bundle", "bundle", "id"], ""),
    ],
)
def test_an_id_may_look_like_an_option(host: Host, arguments: list[str], container: str) -> None:
    """What some runtime takes for the id of a container, or for a bundle, gets its devices."""
    own = host.directory / "own.log"
    host.configure(f"LOG={own}\n")
    host.ask("vendor.com/thing=one")
    done = host.run(*arguments, cwd=host.directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "ONE=1" in host.config_json.read_text()
    assert json.loads(own.read_text()).get("container", "") == container


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "-", "--bundle=bundle"],
        ["run", " --bundle=bundle", "id"],
        ["run", "-bbundle", "--"],
        ["run", "--pid-file", "--bundle=bundle", "id"],
        ["restore", "id", "--bundle", "bundle"],
    ],
)
@pytest.mark.parametrize("who", ["bundle", ".", ""])
def test_two_readings_are_no_reading(host: Host, arguments: list[str], who: str) -> None:
    """If runtimes may read this config.json or that, and one of them asks for a device, the container doesn't start."""
    texts = {}
    for place in ("bundle", "."):
        path = host.directory / place / "config.json"
        texts[path] = json.dumps(
            {"annotations": {"cdi.k8s.io/a": "vendor.com/thing=one"} if place == who else {}}
        )
        path.write_text(texts[path])
    done = host.run(*arguments, cwd=host.directory)
    assert {path: path.read_text() for path in texts} == texts
    if who:
        assert done.returncode == 1
        assert re.fullmatch(
            r"CDI device injection failed: runtimes read these arguments in different ways and may take "
            r'"[a-z./]+" or "[a-z./]+", of which one may ask for a CDI device; write .*\n',
            done.stderr,
        )
    else:
        assert (done.returncode, done.stderr) == (0, "")


def test_a_refusal_is_logged_with_who_asked(host: Host) -> None:
    """A container that doesn't get its device leaves one line that says which, asked for by what, and why."""
    own = host.directory / "own.log"
    host.configure(f"LOG={own}\nDENY=*\n")
    host.ask("vendor.com/thing=one")
    done = host.create("--root", "/run/docker/runtime-runc/moby")
    line = json.loads(own.read_text())
    assert (line["level"], f"{line['msg']}\n", line["engine"]) == ("ERROR", done.stderr, "docker")
    assert line["devices"] == [{"name": "vendor.com/thing=one", "source": 'annotation "cdi.k8s.io/a"'}]
    assert "changes" not in line


def test_logging_an_injection_imports_no_logging(host: Host) -> None:
    """With LOG, a create imports what writes one line, and neither logging nor python-json-logger."""
    time.sleep(0.06)
    host.configure(f"LOG={host.directory}/own.log\n")
    for _ in range(2):  # the first makes the index
        host.ask("vendor.com/thing=one")
        done = host.run(
            "create", "--bundle", str(host.directory / "bundle"), "id", options=("-X", "importtime")
        )
    found = imported(done)
    assert len((host.directory / "own.log").read_text().splitlines()) == 2
    assert "_json" in found
    assert not found & {"logging", "pythonjsonlogger", "json", "re", "cdi_hook.inject.audit"}


def test_a_log_on_a_full_disk_stops_nothing(host: Host) -> None:
    """If LOG can't be written, a container gets its device all the same, without a message."""
    host.configure("LOG=/dev/full\n")
    host.ask("vendor.com/thing=one")
    done = host.create()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_defect_has_no_traceback_without_debug(host: Host) -> None:
    """An unforeseen error is one line; with the runtime's own --debug it has a traceback."""
    host.config_json.write_text(json.dumps({"annotations": {"cdi.k8s.io/a": "vendor.com/thing=one"}}))
    broken = host.directory / "broken"
    broken.mkdir()
    (broken / "cdi_hook").symlink_to(ROOT / "cdi_hook")
    (broken / "yaml.py").write_text("raise RuntimeError('broken install')\n")
    (broken / "start.py").write_text(
        f"import sys; sys.path[:0] = [{str(broken)!r}, {str(ROOT)!r}]\n"
        "from cdi_hook.runtime import shim\nshim.run(sys.argv[1:])\n"
    )
    command = [PYTHON, "-IS", str(broken / "start.py"), "/bin/true", "0", "", "--debug", "create", "-b"]
    command.append(str(host.directory / "bundle"))
    environment = {"CDI_HOOK_CONFIG": str(host.directory / "conf")}
    for debug in (True, False):
        arguments = [one for one in [*command, "id"] if debug or one != "--debug"]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        assert ("Traceback" in done.stderr) is debug
        assert "broken install" in done.stderr
        assert done.returncode == 1


@pytest.mark.parametrize("old", ["from cdi_hook.runtime import argv", "pipeline.inject("])
def test_modules_that_are_being_replaced(host: Host, old: str) -> None:
    """If modules don't fit each other, as in the middle of an upgrade, the create restarts until they do."""
    library = host.directory / "library/cdi_hook"
    shutil.copytree(ROOT / "cdi_hook", library, ignore=shutil.ignore_patterns("__pycache__"))
    module = library / "runtime/shim.py"
    text = module.read_text("utf-8")
    module.write_text(
        text.replace(old, old.replace("argv", "missing").replace("inject(", "missing("), 1), "utf-8"
    )
    host.ask("vendor.com/thing=one")
    command = [
        PYTHON,
        "-IS",
        str(library / "start.py"),
        "runtime",
        "/bin/echo",
        "0",
        "",
        "create",
        "-b",
        "bundle",
        "id",
    ]
    environment = {"CDI_HOOK_CONFIG": str(host.directory / "conf")}
    started = subprocess.Popen(
        command, env=environment, cwd=host.directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(0.4)
    module.with_suffix(".new").write_text(text, "utf-8")
    module.with_suffix(".new").rename(module)
    assert (started.communicate()[0], started.returncode) == ("create -b bundle id\n", 0)
    assert "ONE=1" in host.config_json.read_text()


def test_a_refused_spec_of_the_vendor_comes_first(host: Host) -> None:
    """A refusal of the vendor's own spec file comes before similar names, and those of other files after."""
    (host.directory / "cdi" / "vendor2.yaml").write_text('cdiVersion: "9"\nkind: vendor2.com/thing\n')
    (host.directory / "cdi" / "other.yaml").write_text('cdiVersion: "8"\nkind: other.com/thing\n')
    host.ask("vendor2.com/thing=one")
    known = f"not one of {', '.join(USABLE)}; this spec needs 0.3.0 (and 1 more)"
    assert (
        f'defines it; refused: {host.directory}/cdi/vendor2.yaml: .cdiVersion: invalid version "9", {known}; did you '
        f"mean vendor.com/thing=one or vendor.com/thing=gone?; also refused: {host.directory}/cdi/other.yaml: "
        f'.cdiVersion: invalid version "8", {known}; "cdi-hook list"'
    ) in host.create().stderr
