# SPDX-License-Identifier: Apache-2.0
"""Containers get their devices while they are created: cdi-hook as a createRuntime or prestart hook of real runtimes."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .lab import BUSYBOX, DEVICE, NATIVE, ROOT, STANDARD_PATH, Bundle, Completed, Lab

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

pytestmark = pytest.mark.parametrize("runtime", NATIVE, indirect=True)
each_stage = pytest.mark.parametrize("stage", ["createRuntime", "prestart"])
user_namespace = pytest.mark.parametrize("userns", [False, True], ids=["", "userns"])

CDI_HOOK = ROOT / "packaging/bin/cdi-hook"
NO_OPENAT2 = Path(__file__).with_name("no_openat2.py")
FIRST_ID = 100000  # what root of a user namespace is outside
NODE = "/dev/cdi/node"
OPEN = f"(: <{NODE}) && echo read; (: <>{NODE}) && echo write; true"


class Live:
    """A lab whose runtime knows nothing of CDI: the bundles name the hook."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.log = lab.directory / "hook.log"
        self.data = lab.directory / "data"
        self.data.mkdir()
        (self.data / "file").write_text("of the host\n", "utf-8")
        self.configure()

    def configure(self, **values: str) -> None:
        """Configure the hook, which logs to a file: crun shows nothing of what a hook says."""
        self.lab.configure(LOG=str(self.log), **values)

    def hook(self, stage: str, *before: str) -> dict[str, Any]:
        """Return the hook as a bundle names it; ``before`` is a program that runs it."""
        args = [*before, str(CDI_HOOK), stage]
        environ = [f"PATH={STANDARD_PATH}", f"CDI_HOOK_CONFIG={self.lab.configuration}"]
        return {"path": args[0], "args": args, "env": environ, "timeout": 20}

    def bundle(
        self,
        script: str,
        edits: dict[str, Any],
        *,
        stage: str = "createRuntime",
        userns: bool = False,
        before: Sequence[str] = (),
    ) -> Bundle:
        """Make a bundle that asks for one device with these edits, and has the hook."""
        bundle = self.lab.bundle(script, [self.lab.spec(edits)])
        bundle.config["hooks"] = {stage: [self.hook(stage, *before)]}
        if userns:
            _unshare_users(bundle)
        bundle.write()
        return bundle

    def call(
        self, command: str, bundle: Bundle, container: str = "", within: Sequence[str] = ()
    ) -> Completed:
        """Run or create a container by the runtime itself, called by what makes its surroundings."""
        options = ("--bundle", str(bundle.path), container or self.lab.container())
        words = self.lab.command(command, *options, program=self.lab.runtime.name)
        at = len(self.lab.runtime.prefix)
        words[at:at] = within
        # What is its stdin crun gives to root of a user namespace: it has to be a file of ours.
        stdin, out, err = (self.lab.directory / name for name in ("stdin", "stdout", "stderr"))
        stdin.touch()
        with stdin.open("rb") as source, out.open("wb") as stdout, err.open("wb") as stderr:
            status = subprocess.run(
                words, env=self.lab.environ, cwd=self.lab.directory, timeout=30, check=False,
                stdin=source, stdout=stdout, stderr=stderr,
            ).returncode  # fmt: skip
        return subprocess.CompletedProcess(words, status, out.read_text("utf-8"), err.read_text("utf-8"))

    def run(self, bundle: Bundle, within: Sequence[str] = ()) -> str:
        """Run a container to its end, which has to be silent; return its output."""
        completed = self.call("run", bundle, within=within)
        assert (completed.returncode, completed.stderr, self.logged()) == (0, "", [])
        return completed.stdout

    def refused(self, bundle: Bundle) -> str:
        """Have the hook stop a container; return its error, which runc shows and which is logged."""
        completed = self.call("run", bundle)
        assert completed.returncode != 0
        [line] = self.logged()
        assert line["level"] == "ERROR"
        message: str = line["msg"]
        if self.lab.runtime.name == "runc":
            assert json.dumps(f"stderr: {message}\n")[1:-1] in completed.stderr
        return message

    def logged(self) -> list[dict[str, Any]]:
        """Return the lines of the hook's log."""
        return (
            [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]
            if self.log.exists()
            else []
        )


def _unshare_users(bundle: Bundle) -> None:
    """Give a bundle a user namespace, whose root owns the rootfs."""
    linux = bundle.config["linux"]
    linux["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        linux[name] = [{"containerID": 0, "hostID": FIRST_ID, "size": 65536}]
    for directory, _, _ in os.walk(bundle.rootfs):
        os.chown(directory, FIRST_ID, FIRST_ID)
    bundle.path.chmod(0o755)
    for parent in bundle.path.parents:
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)


@pytest.fixture
def live(lab: Lab) -> Generator[Live]:
    """A lab for live injection."""
    yield Live(lab)
    assert _identity(Path("/dev/null")) == (0o666, 0, 0)


def _identity(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mode & 0o7777, status.st_uid, status.st_gid


def vendor_hook(stage: str, log: Path) -> dict[str, Any]:
    """Return a vendor's hook that writes down where it runs, with which environment and which state."""
    script = f'{{ echo "{stage}"; $B pwd; $B readlink /proc/self/ns/mnt; echo "$STAGE,$HOME"; $B cat; echo; }} >>{log}'
    return {
        "hookName": stage, "path": str(BUSYBOX), "args": ["busybox", "sh", "-c", script],
        "env": [f"STAGE={stage}", f"B={BUSYBOX}"], "timeout": 10,
    }  # fmt: skip


@each_stage
@user_namespace
def test_all_at_once(live: Live, stage: str, userns: bool) -> None:
    """A container gets node, rule, mounts and hooks, in a rootfs that is read-only to it; nothing is said."""
    log = live.lab.directory / "vendor.log"
    log.touch(0o666)
    log.chmod(0o666)
    edits = {
        "deviceNodes": [
            {"path": NODE, "hostPath": str(DEVICE), "permissions": "r", "fileMode": 0o646, "uid": 5, "gid": 6}
        ],
        "mounts": [
            {"hostPath": str(live.data), "containerPath": "/opt/data", "options": ["rbind", "ro", "nosuid"]},
            {"hostPath": str(live.data / "file"), "containerPath": "/etc/file", "options": ["bind"]},
            {
                "hostPath": "tmpfs",
                "containerPath": "/opt/tmp",
                "type": "tmpfs",
                "options": ["size=64k", "mode=1750"],
            },
        ],
        "hooks": [vendor_hook(name, log) for name in ("createContainer", "createRuntime", "prestart")],
    }
    script = (
        f"stat -c '%F %t:%T %a %u %g' {NODE}; {OPEN}; cat /opt/data/file /etc/file; stat -c %u /opt/data/file; (: >/opt/data/new);"
        "stat -c '%a %u' /opt/tmp; echo 1 >/opt/tmp/new && cat /opt/tmp/new; readlink /proc/self/ns/mnt; (: >/new)"
    )
    bundle = live.bundle(script, edits, stage=stage, userns=userns)
    bundle.config["root"]["readonly"] = True
    bundle.write()
    completed = live.call("run", bundle)
    *lines, inside, refused = completed.stdout.splitlines()
    assert (completed.stderr, live.logged()) == ("", [])
    assert lines == [
        "character special file a:e5 646 5 6",
        "read",
        f"sh: can't create {NODE}: Operation not permitted",
        "of the host",
        "of the host",
        "0",
        "sh: can't create /opt/data/new: Read-only file system",
        "1750 0",
        "1",
    ]
    assert refused == "sh: can't create /new: Read-only file system"
    words = log.read_text("utf-8").splitlines()
    by_stage = [words[start : start + 5] for start in range(0, len(words), 5)]
    assert [one[0] for one in by_stage] == ["prestart", "createRuntime", "createContainer"]
    assert [one[1] for one in by_stage] == [str(bundle.path), str(bundle.path), str(bundle.rootfs)]
    assert [one[2] == inside for one in by_stage] == [False, False, True]
    assert [one[3] for one in by_stage] == ["prestart,", "createRuntime,", "createContainer,"]
    states = [json.loads(one[4]) for one in by_stage]
    assert states[0] == states[1] == states[2]
    assert (states[0]["bundle"], states[0]["annotations"]["org.example.keep"]) == (str(bundle.path), "this")
    config = bundle.injected()
    assert [mount["destination"] for mount in config["mounts"][-3:]] == ["/opt/data", "/etc/file", "/opt/tmp"]
    assert config["linux"]["devices"][-1]["path"] == NODE
    assert config["x-nobody-knows"] == {"kept": [1.50, "as it is"]}


@pytest.mark.parametrize(
    ("permissions", "output"),
    [
        (None, "read\nwrite\n"),
        ("rw", "read\nwrite\n"),
        ("r", f"read\nsh: can't create {NODE}: Operation not permitted\n"),
        (
            "w",
            f"sh: can't open {NODE}: Operation not permitted\nsh: can't create {NODE}: Operation not permitted\n",
        ),
        (
            "none",
            f"sh: can't open {NODE}: Operation not permitted\nsh: can't create {NODE}: Operation not permitted\n",
        ),
    ],
)
def test_device_opens_as_its_rule_says(live: Live, permissions: str | None, output: str) -> None:
    """A device opens for what the spec's permissions allow, and no other device with it."""
    node = {"path": NODE, "hostPath": str(DEVICE)} | ({"permissions": permissions} if permissions else {})
    other = "(: </dev/other) && echo too much"
    bundle = live.bundle(f"{OPEN}; {other}; true", {"deviceNodes": [node]})
    bundle.config["linux"]["devices"] += [{"path": "/dev/other", "type": "c", "major": 10, "minor": 237}]
    bundle.write()
    assert live.run(bundle) == f"{output}sh: can't open /dev/other: Operation not permitted\n"


@user_namespace
def test_same_device_is_there(live: Live, userns: bool) -> None:
    """A node of the same device is taken as it is."""
    bundle = live.bundle(
        f"stat -c %t:%T {DEVICE}",
        {"deviceNodes": [{"path": str(DEVICE)}]},
        userns=userns,
    )
    assert live.run(bundle) == "a:e5\n"


@user_namespace
def test_another_device_is_there(live: Live, userns: bool) -> None:
    """Where a node of another device is, the container isn't started."""
    bundle = live.bundle(
        "true", {"deviceNodes": [{"path": "/dev/null", "hostPath": str(DEVICE)}]}, userns=userns
    )
    assert live.refused(bundle) == (
        'CDI device injection failed: can\'t make device node "/dev/null" in the container: something else is there '
        'already; asked for by annotation "cdi.k8s.io/test"'
    )


@user_namespace
def test_mount_options(live: Live, userns: bool) -> None:
    """Each option of the OCI runtime specification does to a mount what it says, the recursive ones to those below."""
    with_mount = live.lab.directory / "tree"
    (with_mount / "below").mkdir(parents=True)
    host = str(with_mount)
    mounts = {
        "/m/plain": ["bind"],
        "/m/ro": ["rbind", "ro"],
        "/m/rro": ["rbind", "rro"],
        "/m/flags": ["rbind", "nosuid", "nodev", "noexec", "noatime", "nodiratime"],
        "/m/recursive": ["rbind", "rnosuid", "rnodev", "rnoexec", "rstrictatime"],
        "/m/undone": ["rbind", "ro", "rw", "nosuid", "suid"],
        "/m/both": ["rbind", "bind", "rro", "rw"],
        "/m/shared": ["rbind", "rshared"],
        "/m/slave": ["rbind", "rslave"],
        "/m/private": ["rbind", "rprivate"],
        "/m/unbindable": ["bind", "unbindable"],
    }
    edits = {
        "mounts": [
            {"hostPath": host, "containerPath": path, "options": options} for path, options in mounts.items()
        ]
    }
    bundle = live.bundle("cat /proc/self/mountinfo", edits, userns=userns)
    mounted = (
        "unshare",
        "-m",
        "--propagation",
        "shared",
        "sh",
        "-ec",
        f'mount -t tmpfs t {host}/below; exec "$@"',
        "sh",
    )
    output = live.run(bundle, mounted)
    found = {}
    for line in output.splitlines():
        fields = line.split()
        if fields[4].startswith("/m/"):
            options = [one for one in fields[5].split(",") if one not in ("rw", "idmapped")]
            tags = [tag.partition(":")[0] for tag in fields[6 : fields.index("-")]]
            found[fields[4]] = ",".join(options + tags)
    # In the end crun makes all mounts private, whoever made them.
    shared, slave, unbindable = (
        ("", "", "") if live.lab.runtime.name == "crun" else (",shared,master", ",master", ",unbindable")
    )
    assert found == {
        "/m/plain": "relatime",
        "/m/ro": "ro,relatime",
        "/m/ro/below": "relatime",
        "/m/rro": "ro,relatime",
        "/m/rro/below": "ro,relatime",
        "/m/flags": "nosuid,nodev,noexec,noatime,nodiratime",
        "/m/flags/below": "relatime",
        "/m/recursive": "nosuid,nodev,noexec",
        "/m/recursive/below": "nosuid,nodev,noexec",
        "/m/undone": "relatime",
        "/m/undone/below": "relatime",
        "/m/both": "ro,relatime",
        "/m/both/below": "ro,relatime",
        "/m/shared": f"relatime{shared}",
        "/m/shared/below": f"relatime{shared}",
        "/m/slave": f"relatime{slave}",
        "/m/slave/below": f"relatime{slave}",
        "/m/private": "relatime",
        "/m/private/below": "relatime",
        "/m/unbindable": f"relatime{unbindable}",
    }


@user_namespace
def test_tmpfs_has_the_mode_of_the_dir(live: Live, userns: bool) -> None:
    """A tmpfs on a dir of the image has that dir's mode, unless the spec says one, as from the runtimes."""
    mounts = {"/private": [], "/said": ["mode=711"], "/new": []}
    edits = {
        "mounts": [
            {"hostPath": "tmpfs", "containerPath": path, "type": "tmpfs", "options": options}
            for path, options in mounts.items()
        ]
    }
    bundle = live.bundle("stat -c '%n %a %u' /private /said /new", edits, userns=userns)
    for name in ("private", "said"):
        (bundle.rootfs / name).mkdir(mode=0o700)
    assert live.run(bundle) == "/private 700 0\n/said 711 0\n/new 1777 0\n"


@user_namespace
def test_mount_hides_nothing_that_lies_deeper(live: Live, userns: bool) -> None:
    """A mount above one of the container's own comes to lie under it, as it would in the specification's order."""
    deeper = live.lab.directory / "deeper"
    deeper.mkdir()
    (deeper / "own").write_text("of the container\n", "utf-8")
    (live.data / "deeper").mkdir()
    edits = {"mounts": [{"hostPath": str(live.data), "containerPath": "/m", "options": ["bind", "ro"]}]}
    bundle = live.bundle("cat /m/file /m/deeper/own", edits, userns=userns)
    own = {"destination": "/m/deeper", "source": str(deeper), "type": "bind", "options": ["bind", "ro"]}
    bundle.config["mounts"].append(own)
    bundle.write()
    assert live.run(bundle) == "of the host\nof the container\n"
    destinations = [mount["destination"] for mount in bundle.injected()["mounts"]]
    assert [path for path in destinations if path.startswith("/m")] == ["/m", "/m/deeper"]


@pytest.mark.parametrize("before", [(), (sys.executable, str(NO_OPENAT2))], ids=["openat2", "walk"])
@user_namespace
def test_links_in_the_image_lead_nowhere(live: Live, userns: bool, before: Sequence[str]) -> None:
    """Links in a rootfs, however they are written, lead to places in it, and the host's own stay as they are."""
    outside = live.lab.directory / "outside"
    outside.mkdir()
    bundle = live.bundle(
        "cat /in/data/file /target; stat -c %t:%T /in/nodes/made/node; readlink /up/x >&2; true",
        {
            "mounts": [
                {"hostPath": str(live.data), "containerPath": "/absolute/data", "options": ["bind"]},
                {"hostPath": str(live.data / "file"), "containerPath": "/dangling", "options": ["bind"]},
            ],
            "deviceNodes": [{"path": "/up/made/node", "hostPath": str(DEVICE)}],
        },
        userns=userns, before=before,
    )  # fmt: skip
    (bundle.rootfs / "absolute").symlink_to("/in")
    (bundle.rootfs / "dangling").symlink_to("../../../../../../../../../../target")
    (bundle.rootfs / "up").symlink_to(f"..{outside}/../../../../../../../../../../in/nodes")
    for made in ("in", f".{outside}"):
        (bundle.rootfs / made).mkdir(parents=True)
    if userns:
        for directory, _, _ in os.walk(bundle.rootfs):
            os.chown(directory, FIRST_ID, FIRST_ID)
    assert live.run(bundle) == "of the host\nof the host\na:e5\n"
    assert (list(outside.iterdir()), Path("/target").exists(), Path("/in").exists()) == ([], False, False)


@pytest.mark.parametrize("before", [(), (sys.executable, str(NO_OPENAT2))], ids=["openat2", "walk"])
@pytest.mark.parametrize("link", ["/proc/self/root", "/proc/1/root"])
def test_magic_links_lead_nowhere(live: Live, before: Sequence[str], link: str) -> None:
    """A link of procfs to the host's root stops the container; the walk takes the second for one to the container's own."""
    path = str(live.data)  # which the host has, too
    mount = {"hostPath": path, "containerPath": f"/magic{path}", "options": ["bind"]}
    bundle = live.bundle(f"cat {path}/file", {"mounts": [mount]}, before=before)
    (bundle.rootfs / "magic").symlink_to(link)
    is_taken = before and link == "/proc/1/root"
    assert live.call("run", bundle).stdout == ("of the host\n" if is_taken else "")


@pytest.mark.parametrize("before", [(), (sys.executable, str(NO_OPENAT2))], ids=["openat2", "walk"])
@pytest.mark.parametrize(
    ("path", "link", "message"),
    [
        ("/proc/sys/x", None, 'can\'t make "/proc/sys/x" in the container: '),
        ("/proc/version", None, '"/proc/version" is in the container\'s procfs, where nothing is injected'),
        ("/loop/x", "loop", 'can\'t reach "/loop/x" in the container: Too many levels of symbolic links'),
        ("/bin/busybox/x", None, 'can\'t reach "/bin/busybox/x" in the container: no directory'),
    ],
)
def test_places_that_are_none(
    live: Live, before: Sequence[str], path: str, link: str | None, message: str
) -> None:
    """What can't be a mount point, or must not be one, stops the container."""
    edits = {"mounts": [{"hostPath": str(live.data / "file"), "containerPath": path, "options": ["bind"]}]}
    bundle = live.bundle("true", edits, before=before)
    if link:
        (bundle.rootfs / link).symlink_to(link)
    assert live.refused(bundle).startswith(f"CDI device injection failed: {message}")


LATE = {
    "env": ["A=1", "B=2"],
    "additionalGids": [44],
    "hooks": [{"hookName": "startContainer", "path": "/bin/x"}, {"hookName": "poststop", "path": "/bin/y"}],
    "deviceNodes": [{"path": NODE, "hostPath": str(DEVICE)}],
}
TOO_LATE = (
    'device vendor.com/device=one ({}/one.json) needs variable "A=1", variable "B=2", startContainer hook "/bin/x", '
    'poststop hook "/bin/y", additional group 44: too late for a container that is being created'
)


def test_too_late_is_refused(live: Live) -> None:
    """What can't be given to a container that is being created is named, with its device, and nothing is done."""
    bundle = live.bundle(OPEN, LATE)
    before = bundle.identity()
    assert live.refused(bundle) == (
        f"CDI device injection failed: {TOO_LATE.format(live.lab.specs)}; use cdi-runtime or the precreate hook, which come "
        'earlier, or set HOOK_UNSUPPORTED=warn to have it left out; asked for by annotation "cdi.k8s.io/test"'
    )
    assert bundle.identity() == before


def test_too_late_is_left_out(live: Live) -> None:
    """With HOOK_UNSUPPORTED=warn the rest is done, and a warning says what is not."""
    live.configure(HOOK_UNSUPPORTED="warn")
    bundle = live.bundle(f"{OPEN}; echo $A; id -G", LATE)
    completed = live.call("run", bundle)
    assert completed.stdout == "read\nwrite\n\n0\n"
    assert [(line["level"], line["msg"]) for line in live.logged()] == [
        ("WARNING", f"{TOO_LATE.format(live.lab.specs)}, and left out because of HOOK_UNSUPPORTED=warn")
    ]
    config = bundle.injected()
    assert config["process"] == bundle.config["process"]
    assert config["hooks"] == bundle.config["hooks"]


def test_failure_when_the_specs_are_compiled(live: Live) -> None:
    """An error is the same when the specs needn't be read any more, as from the second container on."""
    bundle = live.bundle("true", {"deviceNodes": [{"path": "/dev/null", "hostPath": str(DEVICE)}]})
    message = live.refused(bundle)
    live.log.unlink()
    assert live.refused(bundle) == message


@user_namespace
def test_failure_leaves_nothing(live: Live, userns: bool) -> None:
    """When a later step fails, what was made in the rootfs and what was mounted there is gone again."""
    failing = {
        "hookName": "createContainer", "path": str(BUSYBOX),
        "args": ["busybox", "sh", "-c", "$B ls made; echo no luck >&2; exit 3"], "env": [f"B={BUSYBOX}"],
    }  # fmt: skip
    edits = {
        "mounts": [
            {"hostPath": str(live.data), "containerPath": "/made/dir", "options": ["bind"]},
            {"hostPath": str(live.data / "file"), "containerPath": "/made/file", "options": ["bind"]},
        ],
        "deviceNodes": [{"path": "/made/nodes/node", "hostPath": str(DEVICE)}],
        "hooks": [failing],
    }
    bundle = live.bundle("true", edits, userns=userns)
    before, identity = sorted(bundle.rootfs.rglob("*")), bundle.identity()
    assert live.refused(bundle) == (
        f'CDI device injection failed: the createContainer hook "{BUSYBOX}" failed with exit status 3: dir file nodes '
        'no luck; asked for by annotation "cdi.k8s.io/test"'
    )
    made_by_the_runtime = {"proc", "dev", "sys"}
    after = sorted(path for path in bundle.rootfs.rglob("*") if path.name not in made_by_the_runtime)
    assert after == [path for path in before if path.name not in made_by_the_runtime]
    assert bundle.identity() == identity


def test_vendor_hook_that_hangs(live: Live) -> None:
    """A spec's hook that takes longer than its timeout is ended, with what it started, and the container isn't started."""
    started = live.lab.directory / "started"
    script = f"{BUSYBOX} sleep 60 & echo $! >{started}; wait"
    hook = {
        "hookName": "createRuntime",
        "path": str(BUSYBOX),
        "args": ["busybox", "sh", "-c", script],
        "timeout": 1,
    }
    assert live.refused(live.bundle("true", {"hooks": [hook]})) == (
        f'CDI device injection failed: the createRuntime hook "{BUSYBOX}" ran longer than its timeout of 1 s; asked for by '
        'annotation "cdi.k8s.io/test"'
    )
    begin = time.monotonic()
    while Path(f"/proc/{started.read_text('utf-8').strip()}").exists():  # until somebody reaps it
        assert time.monotonic() - begin < 15
        time.sleep(0.01)


def test_vendor_hook_with_all_the_time(live: Live) -> None:
    """A spec's hook may have a timeout of years."""
    hook = {
        "hookName": "createRuntime",
        "path": str(BUSYBOX),
        "args": ["busybox", "true"],
        "timeout": (1 << 63) - 1,
    }
    assert live.run(live.bundle("echo alone", {"hooks": [hook]})) == "alone\n"


@pytest.mark.parametrize("stage", ["createRuntime", "createContainer"])
def test_hook_that_is_killed(live: Live, stage: str) -> None:
    """When the hook's own time is over, the runtime doesn't wait for a spec's hook, and all is taken back."""
    started = live.lab.directory / "started"
    script = f": >{started}; exec {BUSYBOX} sleep 25"
    edits = {
        "mounts": [{"hostPath": str(live.data), "containerPath": "/made/dir", "options": ["bind"]}],
        "deviceNodes": [{"path": "/made/nodes/node", "hostPath": str(DEVICE)}],
        "hooks": [{"hookName": stage, "path": str(BUSYBOX), "args": ["busybox", "sh", "-c", script]}],
    }
    bundle = live.bundle("true", edits)
    bundle.config["hooks"]["createRuntime"][0]["timeout"] = 2
    bundle.write()
    identity = bundle.identity()
    begin = time.monotonic()
    assert live.call("run", bundle).returncode != 0
    assert (time.monotonic() - begin < 15, started.exists()) == (True, True)
    while (bundle.rootfs / "made").exists():  # crun doesn't wait until that is done
        assert time.monotonic() - begin < 15
        time.sleep(0.01)
    assert bundle.identity() == identity


def test_vendor_hook_has_the_umask_of_the_hook(live: Live) -> None:
    """What a spec's hook makes has the mode that it would have if the runtime itself had run it."""
    made = live.lab.directory / "made"
    hook = {
        "hookName": "createContainer",
        "path": str(BUSYBOX),
        "args": ["busybox", "sh", "-c", f": >{made}"],
    }
    live.run(live.bundle("true", {"hooks": [hook]}))
    native = live.lab.directory / "native"
    bundle = live.lab.bundle("true", name="native-bundle")
    del hook["hookName"]
    bundle.config["hooks"] = {"createContainer": [hook | {"args": ["busybox", "sh", "-c", f": >{native}"]}]}
    bundle.write()
    live.run(bundle)
    assert _identity(made) == _identity(native)


@user_namespace
def test_source_in_the_bundle(live: Live, userns: bool) -> None:
    """A mount's relative source is found in the bundle, whatever else the device brings."""
    edits = {
        "mounts": [{"hostPath": "rootfs/bin", "containerPath": "/m", "options": ["bind"]}],
        "deviceNodes": [{"path": NODE, "hostPath": str(DEVICE)}],
    }
    bundle = live.bundle(f"stat -c %t:%T {NODE}; readlink /m/sh", edits, userns=userns)
    assert live.run(bundle) == "a:e5\nbusybox\n"


def test_many_mounts_with_few_descriptors(live: Live) -> None:
    """How many descriptors a process may have by default doesn't limit what can be injected."""
    mounts = [
        {"hostPath": str(live.data / "file"), "containerPath": f"/m/{number}/file", "options": ["bind"]}
        for number in range(40)
    ]
    few = ("/bin/sh", "-c", 'ulimit -Sn 64; exec "$@"', "sh")
    assert live.run(live.bundle("cat /m/39/file", {"mounts": mounts}, before=few)) == "of the host\n"


@pytest.mark.parametrize(
    ("source", "path", "message"),
    [
        ("/none/x", "/m", 'can\'t mount "/none/x" on "/m" while the container is created: "/none/x": '),
        (
            "/bin\0",
            "/m",
            'can\'t mount "/bin\\x00" on "/m" while the container is created: "/bin\\x00": Invalid',
        ),
        ("/bin", "/m\0", 'can\'t reach "/m\\x00" in the container: Invalid argument; '),
        (
            "/",
            "/..",
            'can\'t mount "/" on "/.." while the container is created: it would hide the whole rootfs',
        ),
        (
            "/",
            "/bin/busybox",
            'can\'t mount "/" on "/bin/busybox" while the container is created: it is a dir, and ',
        ),
        (
            "/bin/sh",
            "/bin",
            'can\'t mount "/bin/sh" on "/bin" while the container is created: a dir is there, and ',
        ),
    ],
)
def test_mounts_that_are_refused(live: Live, source: str, path: str, message: str) -> None:
    """A mount that can't be made is named."""
    edits = {"mounts": [{"hostPath": source, "containerPath": path, "options": ["bind"]}]}
    assert live.refused(live.bundle("true", edits)).startswith(f"CDI device injection failed: {message}")


def test_owner_that_is_not_mapped(live: Live) -> None:
    """A node whose owner the container's user namespace doesn't have is named."""
    node = {"path": NODE, "hostPath": str(DEVICE), "uid": 70000}
    assert live.refused(live.bundle("true", {"deviceNodes": [node]}, userns=True)).startswith(
        f'CDI device injection failed: can\'t make device node "{NODE}" in the container: uid 70000 is not mapped in its '
        "user namespace; map it, or have the CDI spec say another"
    )


def test_numbers_that_no_device_has(live: Live) -> None:
    """A node whose numbers are too large is named."""
    node = {"path": NODE, "type": "c", "major": 1 << 32, "minor": 0}
    assert live.refused(live.bundle("true", {"deviceNodes": [node]})).startswith(
        f'CDI device injection failed: can\'t make device node "{NODE}" in the container: no device has the numbers '
        "4294967296:0; "
    )


@pytest.mark.parametrize("dev", ["of its own", "in the rootfs"])
def test_nodes_of_the_host_stay_as_they_are(live: Live, dev: str) -> None:
    """A node in a volume is the host's: it is used, and its mode and owner are left alone, as runtimes do."""
    node = live.data / "node"
    os.mknod(node, 0o600 | stat.S_IFCHR, DEVICE.stat().st_rdev)
    edits = {
        "deviceNodes": [{"path": "/data/node", "hostPath": str(DEVICE), "fileMode": 0o666, "uid": 7}],
    }
    bundle = live.bundle("stat -c %t:%T /data/node", edits)
    volume = {"destination": "/data", "source": str(live.data), "type": "bind", "options": ["rbind"]}
    if dev == "in the rootfs":  # which is on the volume's filesystem here
        own = [mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")]
        bundle.config["mounts"] = own
        (bundle.rootfs / "dev").mkdir()
    bundle.config["mounts"].append(volume)
    bundle.write()
    assert live.run(bundle) == "a:e5\n"
    assert _identity(node) == (0o600, 0, 0)


def test_present_node_gets_mode_and_owner(live: Live) -> None:
    """A node that the runtime has made in the container's own /dev gets the mode and the owner of the CDI spec."""
    edits = {"deviceNodes": [{"path": str(DEVICE), "fileMode": 0o640, "uid": 7, "gid": 8}]}
    host = _identity(DEVICE)
    assert live.run(live.bundle(f"stat -c '%a %u %g' {DEVICE}", edits)) == "640 7 8\n"
    assert _identity(DEVICE) == host


@pytest.mark.parametrize(("userns", "text"), [(False, ""), (True, "of the image")], ids=["empty", "userns"])
def test_file_of_the_image(live: Live, userns: bool, text: str) -> None:
    """An image gets no node of the host's bound by an empty file: root in the container could chmod that; nor by another."""
    node = {"path": "/node", "hostPath": str(DEVICE)}
    bundle = live.bundle("true", {"deviceNodes": [node]}, userns=userns)
    (bundle.rootfs / "node").write_text(text, "utf-8")
    assert 'can\'t make device node "/node" in the container: something else is' in live.refused(bundle)


def test_host_that_may_not_make_nodes(live: Live) -> None:
    """Where root may not make nodes, as within a container itself, the host's is bound, and its rule is there."""
    setpriv = shutil.which("setpriv")
    assert setpriv  # of util-linux, as unshare
    edits = {"deviceNodes": [{"path": NODE, "hostPath": str(DEVICE), "permissions": "r"}]}
    before = (setpriv, "--bounding-set=-mknod", "--inh-caps=-mknod")
    bundle = live.bundle(
        f"{OPEN}; grep -c ' /{DEVICE.name} {NODE} ' /proc/self/mountinfo", edits, before=before
    )
    assert live.run(bundle) == f"read\nsh: can't create {NODE}: Operation not permitted\n1\n"


@user_namespace
def test_second_run_changes_nothing(live: Live, userns: bool) -> None:
    """The hook again on the same container, and the same bundle again, do nothing that has been done."""
    log = live.lab.directory / "vendor.log"
    edits = {
        "mounts": [{"hostPath": str(live.data), "containerPath": "/data", "options": ["bind"]}],
        "deviceNodes": [{"path": NODE, "hostPath": str(DEVICE)}],
        "hooks": [vendor_hook("createRuntime", log)],
    }
    bundle = live.bundle(f"{OPEN}; grep -c /data /proc/self/mountinfo", edits, userns=userns)
    container = live.lab.container()
    assert live.call("create", bundle, container).returncode == 0, live.logged()
    config, ran = bundle.identity(), log.read_text("utf-8")
    state = live.lab.state(container) | {"bundle": str(bundle.path)}
    environ = {"PATH": STANDARD_PATH, "CDI_HOOK_CONFIG": str(live.lab.configuration)}
    again = subprocess.run(
        [CDI_HOOK, "createRuntime"],
        input=json.dumps(state),
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert (bundle.identity(), log.read_text("utf-8")) == (config, ran)
    assert live.lab.call("delete", "--force", container).returncode == 0
    if userns:
        return  # there a runtime itself binds the host's node of that path, and there is none
    assert live.run(bundle) == "read\nwrite\n1\n"
    assert bundle.identity() == config


def test_bundle_as_written_again(live: Live) -> None:
    """A container that is made again in the same rootfs from a fresh config.json gets all of it again."""
    edits = {
        "mounts": [{"hostPath": str(live.data), "containerPath": "/data", "options": ["bind"]}],
        "deviceNodes": [{"path": "/nodes/node", "hostPath": str(DEVICE)}],
    }
    bundle = live.bundle("stat -c %t:%T /nodes/node; cat /data/file", edits)
    for _ in range(2):
        bundle.write()
        assert live.run(bundle) == "a:e5\nof the host\n"


def test_nothing_is_asked_for(live: Live) -> None:
    """A container that asks for nothing is left alone, also its bundle."""
    bundle = live.bundle("echo alone", {"env": ["A=1"]})
    del bundle.config["annotations"]["cdi.k8s.io/test"]
    bundle.write()
    before = bundle.identity()
    assert live.run(bundle) == "alone\n"
    assert bundle.identity() == before


@user_namespace
def test_net_device(live: Live, userns: bool) -> None:
    """A network interface is moved and renamed, with its address, and up."""
    if not shutil.which("ip"):
        pytest.skip("ip (iproute2) isn't installed")
    edits = {"netDevices": [{"hostInterfaceName": "cdi0", "name": "eth7"}]}
    bundle = live.bundle("ip -o -4 addr show dev eth7; cat /sys/class/net/eth7/flags", edits, userns=userns)
    (bundle.rootfs / "bin/ip").symlink_to("busybox")
    setup = (
        "ip link add cdi0 type veth peer name cdi1; ip addr add 192.0.2.7/24 dev cdi0; ip link set cdi0 up"
    )
    alone = ("unshare", "-n", "sh", "-ec", f'{setup}; exec "$@"', "sh")
    address, flags = live.run(bundle, alone).splitlines()
    assert (address.split()[1:4], int(flags, 16) & 1) == (["eth7", "inet", "192.0.2.7/24"], 1)
    assert bundle.injected()["linux"]["netDevices"] == {"cdi0": {"name": "eth7"}}


def test_net_device_comes_back(live: Live) -> None:
    """When the last step fails, which is config.json's, a network interface is the host's again."""
    if not shutil.which("ip"):
        pytest.skip("ip (iproute2) isn't installed")
    vanish = {"hookName": "createRuntime", "path": str(BUSYBOX), "args": ["busybox", "rm", "config.json"]}
    edits = {"netDevices": [{"hostInterfaceName": "cdi0", "name": "eth7"}], "hooks": [vanish]}
    bundle = live.bundle("true", edits)
    after = live.lab.directory / "after"
    setup = "ip link add cdi0 type veth peer name cdi1; ip addr add 192.0.2.7/24 dev cdi0"
    alone = ("unshare", "-n", "sh", "-c", f'{setup}; "$@"; ip -o -4 addr show dev cdi0 >{after}; false', "sh")
    assert live.call("run", bundle, within=alone).returncode != 0
    assert live.logged()[0]["msg"].startswith(
        f'CDI device injection failed: can\'t replace "{bundle.config_file}": '
    )
    assert after.read_text("utf-8").split()[1:4] == ["cdi0", "inet", "192.0.2.7/24"]


def test_own_mount_namespace_is_refused(live: Live) -> None:
    """A state whose process is in the hook's own mount namespace gets nothing: it would be done to the host."""
    edits = {"mounts": [{"hostPath": str(live.data), "containerPath": "/m", "options": ["bind"]}]}
    bundle = live.bundle("true", edits)
    state = {
        "ociVersion": "1.0.2",
        "id": "x",
        "pid": os.getpid(),
        "bundle": str(bundle.path),
        "status": "creating",
    }
    environ = {"PATH": STANDARD_PATH, "CDI_HOOK_CONFIG": str(live.lab.configuration)}
    completed = subprocess.run(
        [CDI_HOOK, "prestart"],
        input=json.dumps(state),
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (completed.returncode, completed.stdout) == (7, "")
    assert completed.stderr == (
        f"CDI device injection failed: process {os.getpid()} is in the mount namespace of the hook itself: what would be "
        'done to the container would be done to the host; asked for by annotation "cdi.k8s.io/test"\n'
    )
