# SPDX-License-Identifier: Apache-2.0
"""The public names: their examples, what they refuse, and what cdi_hook/README.md shows."""

from __future__ import annotations

import doctest
import inspect
import re
import stat
from pathlib import Path
from typing import Any, Callable

import pytest

import cdi_hook
from cdi_hook import Cache, CDIError, DeviceRequest, InvalidSpec, Spec

ROOT = Path(__file__).parents[2]
SPEC: dict[str, Any] = {
    "cdiVersion": "0.3.0",
    "kind": "vendor.com/gpu",
    "devices": [{"name": "gpu0", "containerEdits": {"env": ["GPU=0"]}}],
}
FUNCTIONS = [name for name in cdi_hook.__all__ if inspect.isfunction(getattr(cdi_hook, name))]


@pytest.mark.parametrize("name", [*FUNCTIONS, "Cache", "DeviceRequest", "Spec"])
def test_examples(name: str) -> None:
    """Every public function, and every class that people make, has an example, and it is right."""
    documented = getattr(cdi_hook, name)
    found = doctest.DocTestFinder(recurse=False).find(
        documented, name, globs=vars(cdi_hook) | {name: documented}
    )
    runner = doctest.DocTestRunner()
    for one in found:
        one.globs |= inspect.getmodule(documented).__dict__
        runner.run(one)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_the_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python of cdi_hook/README.md runs, and prints what it says."""
    Cache([str(tmp_path)]).write_spec(SPEC)
    text = (ROOT / "cdi_hook/README.md").read_text("utf-8")
    blocks = "".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    oci = {"annotations": {"cdi.k8s.io/x": "vendor.com/gpu=gpu0"}, "process": {"env": ["PATH=/bin"]}}
    names: dict[str, Any] = {"oci": oci}
    exec(blocks.replace('"/etc/cdi", "/var/run/cdi"', repr(str(tmp_path))), names)
    assert names["devices"] == ["vendor.com/gpu=gpu0"]
    assert names["path"] == f"{tmp_path}/vendor.com-camera.yaml"
    said = re.findall(r"^ *print\(.*?\) +# (.*)$", blocks, re.MULTILINE)
    assert said
    assert capsys.readouterr().out.splitlines() == said


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: Cache("/etc/cdi"), "spec_dirs must be a list of strings, not the string '/etc/cdi'"),
        (
            lambda: Cache([]).inject({}, "a.com/b=c"),
            "names must be a list of strings, not the string 'a.com/b=c'",
        ),
        (
            lambda: DeviceRequest("a.com/b=c"),
            "device_ids must be a list of strings, not the string 'a.com/b=c'",
        ),
        (
            lambda: cdi_hook.annotation_value("a.com/b=c"),
            "devices must be a list of strings, not the string 'a.com/b=c'",
        ),
        (
            lambda: cdi_hook.register("/etc/cdi", Cache([]), print),
            "spec_dirs must be a list of strings, not the string '/etc/cdi'",
        ),
    ],
)
def test_a_string_is_no_list(call: Callable[[], object], what: str) -> None:
    """A string where a list is meant is refused, since its letters would be taken for the items."""
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == what


def device(edits: Any) -> dict[str, Any]:
    """Return a spec whose one device has these edits."""
    return SPEC | {"devices": [{"name": "gpu0", "containerEdits": edits}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected a mapping, found []"),
        (SPEC | {"kind": None}, ".kind: expected a string, found None"),
        (SPEC | {"devices": "gpu0"}, ".devices: expected a list, found 'gpu0'"),
        (SPEC | {"Devices": []}, 'unknown field "Devices"'),
        (device({"env": "GPU=0"}), ".devices[0].containerEdits.env: expected a list, found 'GPU=0'"),
        (device({"env": [0]}), ".devices[0].containerEdits.env[0]: expected a string, found 0"),
        (
            device({"env": ["A=\udcff"]}),
            ".devices[0].containerEdits.env[0]: expected a string, found 'A=\\udcff'",
        ),
        (device({"envs": []}), '.devices[0].containerEdits: unknown field "envs"'),
        (
            device({"deviceNodes": [{"path": "/dev/x", "major": True}]}),
            ".devices[0].containerEdits.deviceNodes[0].major: expected an integer, found True",
        ),
        (
            device({"deviceNodes": [{"path": "/dev/x", "uid": -1}]}),
            ".devices[0].containerEdits.deviceNodes[0].uid: "
            "expected an integer from 0 to 4294967295, found -1",
        ),
        (SPEC | {"annotations": {1: "x"}}, ".annotations: expected a string, found 1"),
        (SPEC | {"kind": "c"}, '.kind: "c" is not vendor/class; write one such as vendor.com/gpu'),
    ],
)
def test_what_is_no_spec(tmp_path: Path, data: Any, message: str) -> None:
    """What isn't a spec raises InvalidSpec with its place, and nothing is written."""
    for make in (Spec, Cache([str(tmp_path)]).write_spec):
        with pytest.raises(InvalidSpec) as caught:
            make(data)
        assert str(caught.value) == f"the spec is not valid: {message}"
    assert list(tmp_path.iterdir()) == []


def test_what_are_no_edits() -> None:
    """apply_edits checks the edits as a spec's, and then leaves the OCI specification alone."""
    oci: dict[str, Any] = {}
    with pytest.raises(InvalidSpec) as caught:
        cdi_hook.apply_edits(oci, {"env": ["GPU"]})
    assert (
        str(caught.value)
        == 'container edits is not valid: .env[0]: "GPU" is no variable; one is written NAME=value'
    )
    assert oci == {}


def test_a_device_and_its_spec(tmp_path: Path) -> None:
    """A device and a spec apply their own edits, and their changes say whose they are."""
    cache = Cache([str(tmp_path)])
    path = cache.write_spec(SPEC | {"containerEdits": {"env": ["ALL=1"]}})
    found = cache.device("vendor.com/gpu=gpu0")
    assert found is not None
    oci: dict[str, Any] = {}
    changes = [*found.spec.apply_edits(oci), *found.apply_edits(oci)]
    assert oci == {"process": {"env": ["ALL=1", "GPU=0"], "user": {"uid": 0, "gid": 0}, "cwd": ""}}
    assert [change.sources for change in changes if change.is_put] == [
        [(None, path)],
        [("vendor.com/gpu=gpu0", path)],
    ]


def test_specs_are_written_and_removed(tmp_path: Path) -> None:
    """A written spec may be read by everybody, has its kind's name, is replaced, and can be removed twice."""
    low, high = tmp_path / "low", tmp_path / "high"
    cache = Cache([str(low), str(high)])
    for number in "01":
        path = cache.write_spec(
            SPEC
            | {"devices": [{"name": number, "containerEdits": {"env": ["A=1"]}}]}
            | {"cdiVersion": "0.5.0"}
        )
        assert path == str(high / "vendor.com-gpu.yaml")
        assert cache.devices() == [f"vendor.com/gpu={number}"]
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o644
    named = cache.write_spec(SPEC, "one.json")
    assert named == str(high / "one.json")
    for name in ("one.json", "vendor.com-gpu", "vendor.com-gpu.yaml"):
        cache.remove_spec(name)
    assert list(high.iterdir()) == []
    assert cache.devices() == []


def test_what_cannot_be_removed(tmp_path: Path) -> None:
    """A spec that can't be removed raises CDIError with its path, and so does a cache without dirs."""
    (tmp_path / "dir.yaml").mkdir()
    with pytest.raises(CDIError) as caught:
        Cache([str(tmp_path)]).remove_spec("dir")
    assert str(caught.value) == f'can\'t remove CDI spec "{tmp_path}/dir.yaml": Is a directory'
    with pytest.raises(CDIError) as caught:
        Cache([]).remove_spec("dir")
    assert str(caught.value) == "no Spec directories to write to"
