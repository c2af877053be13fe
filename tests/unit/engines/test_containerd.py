# SPDX-License-Identifier: Apache-2.0
"""engines.containerd: the CRI plugin's runtimes, in each version of config.toml since 2."""

from __future__ import annotations

import pytest

from cdi_hook.engines import ENGINES
from cdi_hook.engines.containerd import ENGINE, imports, version
from cdi_hook.engines.edit.config_editor import Request
from cdi_hook.engines.edit.document import UnusableConfiguration
from cdi_hook.engines.edit.toml_document import TOMLText

PATH = "/usr/bin/cdi-runtime"
KEYS = ("cdi.k8s.io/*",)
ADD = Request(PATH, annotations=KEYS)
DEFAULT = Request(PATH, set_default=True, annotations=KEYS)
POD = Request(PATH, annotations=KEYS, flags=("--pod-annotations",))

DEBIAN = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
"""
DEBIAN_ADDED = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi]  # by cdi-hook configure
runtime_type = "io.containerd.runc.v2"
container_annotations = ["cdi.k8s.io/*"]
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi.options]  # by cdi-hook configure
BinaryName = "/usr/bin/cdi-runtime"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]  # by cdi-hook configure
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd]  # by cdi-hook configure
default_runtime_name = "cdi"
"""
HAND_MADE = """\
# Ours. Ask before touching.
version = 2   # two
unknown = "key"

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "pause:3.9" # keep
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "crun"  # the default
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      pod_annotations = ["io.example/*"]
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
      container_annotations = ["cdi.k8s.io/*", "x"]
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
        BinaryName = "/usr/bin/crun"
        Root = "/run/crun"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
      runtime_type = "io.containerd.kata.v2"
  # CNI
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
"""
HAND_MADE_ADDED = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi]  # by cdi-hook configure
runtime_type = "io.containerd.runc.v2"
pod_annotations = ["io.example/*"]
container_annotations = ["cdi.k8s.io/*"]
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi.options]  # by cdi-hook configure
SystemdCgroup = true
BinaryName = "/usr/bin/cdi-runtime"
"""
THREE = """\
version = 3
imports = ["/etc/containerd/conf.d/*.toml", 7]

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = true
"""
THREE_ADDED = """
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.cdi]  # by cdi-hook configure
runtime_type = "io.containerd.runc.v2"
container_annotations = ["cdi.k8s.io/*"]
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.cdi.options]  # by cdi-hook configure
SystemdCgroup = true
BinaryName = "/usr/bin/cdi-runtime"

[plugins."io.containerd.cri.v1.runtime".containerd]  # by cdi-hook configure
default_runtime_name = "cdi"
"""
CASES = {
    "Debian's": (DEBIAN, DEBIAN + DEBIAN_ADDED),
    "made by hand": (HAND_MADE, HAND_MADE.replace('= "crun"  #', '= "cdi"  #') + HAND_MADE_ADDED),
    "version 3": (THREE, THREE + THREE_ADDED),
    "version 4": (THREE.replace("= 3", "= 4"), THREE.replace("= 3", "= 4") + THREE_ADDED),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_added_and_removed(before: str, after: str) -> None:
    """The entry is runc's with our program, adding it twice adds it once, and --remove restores the text to the byte."""
    edited = ENGINE.edit(before).add(DEFAULT)
    assert (edited.text, edited.notes) == (after, ())
    assert ENGINE.edit(after).add(DEFAULT).text == after
    assert ENGINE.edit(after).add(ADD).text == after
    assert ENGINE.edit(after).ours == ["cdi"]
    assert ENGINE.edit(after).default == "cdi"
    assert ENGINE.edit(after).remove(ENGINE.edit(before)).text == before


def test_entry_of_the_named_runtime() -> None:
    """--runtime crun copies crun's own entry to cdi-crun, and a note names the program that isn't run any more."""
    edited = ENGINE.edit(HAND_MADE).add(Request("/usr/bin/cdi-crun", "crun", annotations=KEYS))
    assert edited.text == HAND_MADE + (
        '\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi-crun]  # by cdi-hook configure\n'
        'runtime_type = "io.containerd.runc.v2"\n'
        'container_annotations = ["cdi.k8s.io/*", "x"]\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi-crun.options]  # by cdi-hook configure\n'
        'BinaryName = "/usr/bin/cdi-crun"\n'
        'Root = "/run/crun"\n'
    )
    assert edited.notes == (
        "containerd's entry runs /usr/bin/crun; cdi-runtime runs one of RUNTIMES in cdi-hook.conf",
    )


def test_no_copy_of_a_runtime_with_a_shim_of_its_own() -> None:
    """An entry that isn't the runc shim's isn't copied, but the next one that is."""
    text = ENGINE.edit(HAND_MADE).add(Request("/usr/bin/cdi-kata", "kata", annotations=KEYS)).text
    assert text == HAND_MADE + HAND_MADE_ADDED.replace("runtimes.cdi", "runtimes.cdi-kata").replace(
        "cdi-runtime", "cdi-kata"
    )


def test_pod_annotations_only_when_asked() -> None:
    """Pods' annotations are let through on request, also later, with a note on who writes them."""
    word = (
        "whoever may create a pod writes its annotations, and so can ask for any device that ALLOW and DENY in "
        "cdi-hook.conf permit"
    )
    both = ENGINE.edit(HAND_MADE).add(POD)
    later = ENGINE.edit(ENGINE.edit(HAND_MADE).add(ADD).text).add(POD)
    assert both.notes == later.notes == (word,)
    assert both.text == later.text
    assert both.text == HAND_MADE + HAND_MADE_ADDED.replace(
        '["io.example/*"]', '["io.example/*", "cdi.k8s.io/*"]'
    )


# Entries of runc that ours is a copy of; the second is as in `containerd config default`.
COPIED = (
    "",
    "pod_annotations = []",
    'pod_annotations = ["io.example/*"]',
    'pod_annotations = ["cdi.k8s.io/*"]',
)


@pytest.mark.parametrize("pods", COPIED)
@pytest.mark.parametrize("name", ["containerd", "k3s", "rke2", "microk8s"])
def test_pod_annotations_are_a_state(name: str, pods: str) -> None:
    """Without the option, what it added is taken out: the text is that of one who never gave it, and the other way round."""
    text = THREE.replace("runc.v2'\n", f"runc.v2'\n{pods}\n")
    engine, fresh = ENGINES[name], {one: ENGINES[name].edit(text).add(one).text for one in (ADD, POD)}
    assert fresh[ADD] != fresh[POD]
    table = ("plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes", "cdi", "pod_annotations")
    for one, is_let_through in ((ADD, False), (POD, True)):
        assert (KEYS[0] in (TOMLText(fresh[one]).get(table) or [])) is is_let_through
        for former in fresh.values():
            assert engine.edit(former).add(one).text == fresh[one]


def test_what_was_edited_since_stays() -> None:
    """The user's tables and keys that were added later stay, and so does runc's entry if it has more in it."""
    text = ENGINE.edit(DEBIAN).add(DEFAULT).text
    runc = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]  # by cdi-hook configure\nruntime_type = "io.containerd.runc.v2"\n'
    assert runc in text
    text = text.replace(runc, f"{runc}snapshotter = 'native'\n") + "\n# mine\n[debug]\nlevel = 'debug'\n"
    after = ENGINE.edit(text).remove(ENGINE.edit(DEBIAN))
    assert after.text == f"{DEBIAN}\n{runc}snapshotter = 'native'\n\n# mine\n[debug]\nlevel = 'debug'\n"


@pytest.mark.parametrize(
    ("name", "default", "notes"),
    [
        ("runc", "runc", ()),
        ("kata", "kata", ()),
        ("gone", None, ("the former default runtime gone is gone: containerd uses its own default",)),
    ],
)
def test_default_is_given_back(name: str, default: str | None, notes: tuple[str, ...]) -> None:
    """The former default runtime is restored, if that runtime still exists."""
    before = HAND_MADE.replace('= "crun"  #', f'= "{name}"  #')
    after = ENGINE.edit(ENGINE.edit(before).add(DEFAULT).text).remove(ENGINE.edit(before))
    assert (ENGINE.edit(after.text).default, after.notes) == (default, notes)


def test_a_moved_program_is_followed() -> None:
    """An entry of ours gets the requested path and keys, and keeps everything else."""
    old = Request("/opt/cdi-runtime", annotations=("old/*",))
    text = ENGINE.edit(THREE).add(old).text
    assert ENGINE.edit(text).add(ADD).text == text.replace("/opt/", "/usr/bin/").replace(
        '["old/*"]', '["old/*", "cdi.k8s.io/*"]'
    )


def test_runc_is_copied_from_an_imported_file() -> None:
    """A drop-in's entry is a copy from the files that it is merged with."""
    drop_in = ENGINE.edit("version = 3\n", others=[("/etc/containerd/config.toml", THREE)]).add(DEFAULT)
    assert drop_in.text == "version = 3\n" + THREE_ADDED


@pytest.mark.parametrize("table", ['"io.containerd.grpc.v1.cri"', "cri"])
def test_what_containerd_1_would_not_look_at_is_refused(table: str) -> None:
    """An imported file that replaces the plugin's table in containerd 1 is named."""
    other = ("/etc/containerd/conf.d/a.toml", f"version = 2\n[plugins.{table}]\n")
    with pytest.raises(UnusableConfiguration) as caught:
        ENGINE.edit(DEBIAN, others=[other]).add(ADD)
    assert str(caught.value) == (
        f"it imports /etc/containerd/conf.d/a.toml, whose table of {table.strip(chr(34))} replaces the one here in "
        "containerd 1: name that file with --file, or keep the table in one file"
    )
    assert ENGINE.edit(DEBIAN, others=[("b.toml", "version = 2\n[debug]\n")]).add(ADD).text != DEBIAN


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "its version is 1; cdi-hook knows 2, 3, 4; add `version = 2` and write plugins' full names (containerd 2: "
            "`containerd config migrate`)",
        ),
        (
            '# docker\'s\n\ndisabled_plugins = ["cri"]\n',
            'line 3, disabled_plugins, turns off the CRI plugin, which alone reads the entry: take "cri" out of it and '
            "add the line `version = 2`; docker and ctr need no entry here",
        ),
        (
            'version = 3\ndisabled_plugins = ["a", "io.containerd.cri.v1.runtime"]\n',
            "line 2, disabled_plugins, turns off the CRI plugin, which alone reads the entry: take "
            '"io.containerd.cri.v1.runtime" out of it; docker and ctr need no entry here',
        ),
        ("version = 5\n", "its version is 5; cdi-hook knows 2, 3, 4"),
        ("version = [2]\n", "its version is [2]; cdi-hook knows 2, 3, 4"),
        ('version = "2"\n', "its version is '2'; cdi-hook knows 2, 3, 4"),
    ],
)
def test_refused(text: str, message: str) -> None:
    """An unknown version is refused, and a file whose entry would do nothing."""
    with pytest.raises(UnusableConfiguration) as caught:
        ENGINE.edit(text).add(ADD)
    assert str(caught.value) == message


def test_version_and_imports() -> None:
    """A configuration's version and imports are read, without values that aren't paths."""
    assert (version(THREE), imports(THREE)) == (3, ["/etc/containerd/conf.d/*.toml"])
    assert (version(DEBIAN), imports(DEBIAN)) == (2, [])
    assert imports("imports = 1\n") == []


def test_default_file_round_trip() -> None:
    """Every setting for runc in containerd's own default configuration is copied, empty values too."""
    text = (
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nbase_runtime_spec = ""\n'
        'cni_max_conf_num = 0\nsandbox_mode = "podsandbox"\n'
        '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\nBinaryName = ""\nIoGid = 0\n'
    )
    runtimes = ("plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes")
    assert TOMLText(ENGINE.edit(text).add(ADD).text).get((*runtimes, "cdi")) == {
        "runtime_type": "io.containerd.runc.v2",
        "base_runtime_spec": "",
        "cni_max_conf_num": 0,
        "sandbox_mode": "podsandbox",
        "container_annotations": ["cdi.k8s.io/*"],
        "options": {"BinaryName": PATH, "IoGid": 0},
    }
