# SPDX-License-Identifier: Apache-2.0
"""The life of a package: it is installed, works, is upgraded while containers run and start, and is removed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from cdi_hook import engines

from . import life
from .conftest import NEXT, TOOLS, VERSION
from .machine import BUNDLE, DEVICE

if TYPE_CHECKING:
    from .machine import Machine

pytestmark = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.xdist_group(kind)) for kind in TOOLS]
)

CONF = "/etc/cdi-hook/cdi-hook.conf"
FIRST, *OTHERS = engines.ENGINES
HINT = (
    f'cdi-hook: no engine uses it yet; "cdi-hook configure {FIRST}" (or {", ".join(OTHERS)}) changes that\n'
)
PLACES = ("/etc", "/usr", "/var", "/run")
# What dpkg, rpm and a runtime keep for themselves, and what other programs do on this machine meanwhile.
NOT_OURS = re.compile(
    r"/(var/lib/(dpkg|rpm)|var/log/dpkg.log|var/cache|var/tmp|run/board|run/runc|run/needrestart)(/.*)?"
)
IMPORT = "import cdi_hook; print(cdi_hook.__version__, cdi_hook.Cache(['/etc/cdi']).devices())"
LOOP = f"""\
cp -r {BUNDLE} /run/loop
until [ -e /run/enough ]; do
    cp {BUNDLE}/config.json /run/loop
    cdi-runtime run --bundle /run/loop loop && echo created
    cdi-hook precreate <{BUNDLE}/config.json >/run/loop/hooked && grep -q THING=one /run/loop/hooked && echo created
done
echo end
"""
# An engine's file, and its text before; "" for no file.
TOML = "version = 2\n"
BEFORE = {"docker": '{"log-level": "warn"}\n', "containerd": TOML, "k3s": TOML, "rke2": TOML}
# What k3s and RKE2 make of their template, which is edited.
MADE = {name: engines.ENGINES[name].file for name in ("k3s", "rke2")}
ENGINES = {
    name: (engine.file + (".tmpl" if name in MADE else ""), BEFORE.get(name, ""))
    for name, engine in engines.ENGINES.items()
}


def check(machine: Machine, version: str) -> None:
    """Check that a container gets its device, by the script and by a link, and that Python finds the package."""
    for runtime in ("cdi-runtime", "cdi-runc"):
        machine.create("checked", "sleep", "1000", runtime=runtime)
        pid = json.loads(machine.do(runtime, "state", "checked"))["pid"]
        assert "THING=one" in machine.read(f"/proc/{pid}/environ").split("\0")
        machine.do(runtime, "delete", "-f", "checked")
        machine.do("rm", "-r", "/run/checked")
    assert machine.do("python3", "-c", IMPORT) == f"{version} ['{DEVICE}']"
    assert machine.do("cdi-hook", "--version") == f"cdi-hook {version}"


def compiled(machine: Machine, manager: life.Manager) -> set[str]:
    """Return the Pythons that have byte-code of all modules."""
    found = machine.files(f"{manager.library}/cdi_hook")
    sources = {name for name in found if name.endswith(".py")}
    assert sources
    bytecode = {
        name for name in found if name.endswith(".pyc") and ".opt-2." not in name
    }  # that is bytecode.py's
    tags = {name.split(".")[-2] for name in bytecode}
    assert bytecode == {
        re.sub(r"([^/]*)\.py$", rf"__pycache__/\1.{tag}.pyc", name) for name in sources for tag in tags
    }
    return tags


def tag(machine: Machine) -> str:
    """Return the tag that byte-code for the machine's python3 has in its name."""
    return machine.do("python3", "-c", "import sys; print(sys.implementation.cache_tag)")


def ours(files: set[str]) -> set[str]:
    """Return files without those that other programs keep."""
    return {name for name in files if not NOT_OURS.fullmatch(name)}


def test_a_minute_later_it_runs(machine: Machine, manager: life.Manager) -> None:
    """Once installed, the package injects, has byte-code, prints one line on what to do, and has turned nothing on."""
    before = machine.files("/etc")
    said = manager.install()
    assert HINT in said
    assert machine.do("stat", "-c", "%U %a", "/run/cdi-hook") == "root 755"  # a create would make it too
    check(machine, VERSION)
    assert compiled(machine, manager) == {tag(machine)}
    units = {
        f"/etc/systemd/system/multi-user.target.wants/cdi-hook-{unit}"
        for unit in ("generate.path", "generate.service", "index.path", "index.service")
    } | {
        f"/etc/systemd/system/systemd-{one}.service.wants/cdi-hook-index.service"
        for one in ("confext", "sysext")
    }
    added = machine.files("/etc") - before
    assert added - units == {"/etc/cdi-hook", CONF, "/etc/logrotate.d/cdi-hook"}
    # on an rpm distribution, its presets decide whether they are enabled
    assert added & units == units or isinstance(manager, life.Rpm)


def test_any_python(machine: Machine, manager: life.Manager) -> None:
    """If python3 is another version than the usual, or changes to another, the package works.

    rpm's package makes byte-code itself when python3 changes; on Debian, root's first create makes it.
    """
    usual = machine.do("readlink", "-f", "/usr/bin/python3")
    found = machine.do("sh", "-c", "ls /usr/bin/python3.*[0-9]").split()
    others = [path for path in found if path != usual]
    if not others:
        pytest.skip("there is no second /usr/bin/python3.X")
    machine.do("ln", "-sf", others[0], "/usr/bin/python3")
    manager.install()
    check(machine, VERSION)
    if isinstance(manager, life.Rpm):
        assert compiled(machine, manager) == {tag(machine)}
    machine.do("ln", "-sf", usual, "/usr/bin/python3")
    if isinstance(manager, life.Rpm):
        manager.upgrade_python()
        assert compiled(machine, manager) == {tag(machine)}
    check(machine, VERSION)


def test_upgrade_under_load(machine: Machine, manager: life.Manager) -> None:
    """While it is upgraded no create fails, a container goes on running, and the configuration stays as edited."""
    manager.install()
    machine.write(CONF, "LOG_LEVEL=warning\n")
    machine.create("old", "sleep", "1000")
    machine.write("/run/loop.sh", LOOP)
    log = machine.daemon("sh", "/run/loop.sh", ready=("test", "-e", "/run/loop/config.json"))
    manager.upgrade(NEXT)
    machine.write("/run/enough", "")
    machine.wait(lambda: log.read_text("utf-8").endswith("end\n"))
    *said, end = log.read_text("utf-8").splitlines()
    assert (set(said), end) == ({"created"}, "end")
    assert len(said) > 3
    assert machine.status("old") == "running"
    machine.do("cdi-runtime", "kill", "old", "KILL")
    machine.do("cdi-runtime", "delete", "-f", "old")
    assert machine.read(CONF) == "LOG_LEVEL=warning\n"
    assert machine.read(manager.config_beside).endswith("# Another line.\n")
    check(machine, NEXT)


def test_upgrade_takes_a_configuration_nobody_edited(machine: Machine, manager: life.Manager) -> None:
    """A configuration that wasn't edited is replaced by the next version's."""
    manager.install()
    manager.upgrade(NEXT)
    assert machine.read(CONF).endswith("# Another line.\n")


def test_leases_stay(machine: Machine, manager: life.Manager) -> None:
    """A container keeps its device to itself while the package is upgraded, removed, and installed again in an older version."""
    settings = f"EXCLUSIVE={DEVICE}\n"
    manager.install()
    machine.write(CONF, settings)
    machine.create("holder", "sleep", "1000")
    machine.do("cp", "-r", BUNDLE, "/run/other")
    create = ("cdi-runtime", "create", "--bundle", "/run/other", "other")
    manager.upgrade(NEXT)
    assert f"{DEVICE} is in use by holder" in machine.call(*create).stderr
    manager.remove()
    manager.install()
    machine.write(CONF, settings)
    assert f"{DEVICE} is in use by holder" in machine.call(*create).stderr
    machine.do("cdi-runtime", "kill", "holder", "KILL")
    machine.do("cdi-runtime", "delete", "-f", "holder")
    machine.do(*create)
    machine.do("cdi-runtime", "delete", "-f", "other")


def test_an_upgrade_names_hooks_that_an_image_could_take_over(
    machine: Machine, manager: life.Manager
) -> None:
    """An upgrade says which spec in /etc/cdi has a hook without variables, and nothing of others."""
    hook = {"hookName": "createContainer", "path": "/bin/true"}
    for name, more in (("old", {}), ("new", {"env": ["A=1"]})):
        devices = [{"name": "a", "containerEdits": {"hooks": [{**hook, **more}]}}]
        spec = {"cdiVersion": "0.5.0", "kind": f"{name}.com/x", "devices": devices}
        machine.write(f"/etc/cdi/{name}.json", json.dumps(spec))
    manager.install()
    (line,) = [line for line in manager.upgrade(NEXT).splitlines() if "CVE-" in line]
    assert line.startswith(
        "/etc/cdi/old.json: warning: .devices[0].containerEdits.hooks[0]: the createContainer hook"
    )


def test_nothing_is_left(machine: Machine, manager: life.Manager) -> None:
    """Removed and purged, the package leaves nothing behind, in /run neither, and restores the engines that it configured."""
    for path, text in ENGINES.values():
        machine.do("rm", "-rf", path.rpartition("/")[0])
        if text:
            machine.write(path, text)
    for path in MADE.values():
        machine.write(path, TOML)
    before = ours(machine.files(*PLACES))
    manager.install()
    machine.write("/var/log/cdi-hook.log", "{}\n")
    machine.write("/srv/fuse.conf", "GENERATE=fuse")
    generate = ("cdi-hook", "--config", "/srv/fuse.conf", "generate", "--configured")
    assert machine.do(*generate) == "/var/run/cdi/host.local-fuse.yaml: host.local/fuse, 2 devices, CDI 0.3.0"
    check(machine, VERSION)
    for engine, (path, _) in ENGINES.items():
        machine.do("cdi-hook", "configure", engine, "--set-default")
        assert "cdi-runtime" in machine.read(path)
    # of a module that no longer exists, by a create in the middle of an upgrade
    machine.do("touch", f"{manager.library}/cdi_hook/__pycache__/old.cpython-313.pyc")
    said = manager.remove()
    for engine, (path, text) in ENGINES.items():
        assert machine.read(path) == text
        assert path in said
        assert f"{engine} reads it " in said
    if isinstance(manager, life.Dpkg):
        assert machine.read(CONF)
        manager.purge()
        assert not machine.files("/var/log/cdi-hook.log")
    else:
        machine.do("rm", "/var/log/cdi-hook.log")  # rpm has no purge
    assert ours(machine.files(*PLACES)) - before == set()


def test_specs_that_stay(machine: Machine, manager: life.Manager) -> None:
    """Specs that a person made stay, and are named: on removal those with a hook that goes, on a purge all of ours."""
    manager.install()
    generate = ("cdi-hook", "generate", "--output", "/etc/cdi", "--device", "a=/dev/null", "--kind")
    machine.do(*generate, "one.com/plain")
    machine.do(*generate, "two.com/hooked", "--hook", "createContainer:/usr/bin/cdi-hook createContainer")
    machine.write("/etc/cdi/other.yaml", "kind: other.com/x\n")
    said = manager.remove()
    assert [line for line in said.splitlines() if "/etc/cdi/" in line] == [
        "cdi-hook: /etc/cdi/two.com-hooked.yaml still names cdi-runtime or cdi-hook; without it, containers fail"
    ]
    if isinstance(manager, life.Dpkg):
        assert [line for line in manager.purge().splitlines() if "/etc/cdi/" in line] == [
            f"cdi-hook: /etc/cdi/{name}.yaml, which cdi-hook generate made, stays"
            for name in ("one.com-plain", "two.com-hooked")
        ]
    machine.do("rm", "-r", "/etc/cdi")


def test_removal_warns(machine: Machine, manager: life.Manager) -> None:
    """Files that only their writer can restore, and running containers, don't stop a removal, but are named."""
    manager.install()
    machine.write("/etc/docker/daemon.json", "{")
    hook = "/etc/containers/oci/hooks.d/cdi-hook.json"
    machine.do("install", "-D", "/usr/share/cdi-hook/hooks.d/precreate/cdi-hook.json", hook)
    podman = "/etc/containers/containers.conf.d/own.conf"
    machine.write(podman, '[engine.runtimes]\ncdi = ["/usr/bin/cdi-runtime"]\n')
    machine.do("cdi-hook", "configure", "crio", "--file", "/srv/crio.conf")
    machine.write("/run/crio", "#!/bin/sh\nsleep 1000\n", "755")
    machine.do("mkfifo", "/run/crio.log")  # a reader of it waits for ever
    machine.daemon("/run/crio", "--config=/srv/crio.conf", "--log=/run/crio.log", ready=("pgrep", "crio"))
    # a user's process of that name, a container's, and a name that controls a terminal
    machine.write("/run/dockerd", "#!/bin/sh\nsleep 1000\n", "755")
    machine.write("/srv/theirs", "/usr/bin/cdi-runtime")
    machine.do("install", "-D", "/bin/busybox", "/srv/root/bin/busybox")
    machine.write("/srv/root/containerd", "#!/bin/busybox sh\n/bin/busybox sleep 1000\n", "755")
    user = ("setpriv", "--reuid=1000", "--clear-groups", "/run/dockerd", "--config-file=/srv/theirs")
    machine.daemon(*user, ready=("pgrep", "-U", "1000", "dockerd"))
    container = ("chroot", "/srv/root", "/containerd", "--config=/srv/theirs")
    machine.daemon(*container, ready=("pgrep", "-x", "containerd"))
    escape = "/etc/docker/\x1b[31m\\033.conf"
    machine.write(escape, "/usr/bin/cdi-runtime")
    machine.write(
        "/run/containerd/io.containerd.runtime.v2.task/k8s.io/x/options.json",
        '{"binary_name":"cdi-runtime"}',
    )
    # as with Python 3.9 and without tomli, with Docker's containerd.io
    machine.write("/etc/containerd/config.toml", "version = 2\n")
    program = "from importlib.util import find_spec as find\nfor name in 'tomllib', 'tomli': find(name) and print(find(name).origin)"
    for parser in machine.do("python3", "-c", program).split():
        machine.write(parser, "raise ImportError\n")
    said = manager.remove()
    assert "containerd may still" not in said
    assert "cdi-hook: docker may still be configured to use cdi-runtime: /etc/docker/daemon.json: " in said
    named = re.findall(
        "cdi-hook: (.*) still names cdi-runtime or cdi-hook; without it, containers fail\n", said
    )
    assert sorted(named) == [podman, hook, "/etc/docker/^[[31m\\033.conf", "/srv/crio.conf"]
    assert "cdi-hook: containers that cdi-runtime started are running; " in said
    assert machine.call("cdi-hook", "--version").returncode == 127
    assert machine.read("/etc/docker/daemon.json") == "{"
