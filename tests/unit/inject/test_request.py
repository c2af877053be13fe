# SPDX-License-Identifier: Apache-2.0
"""request: what a container asks for."""

from __future__ import annotations

from typing import Any

import pytest

from cdi_hook.config.settings import Config
from cdi_hook.errors import BundleError, CDIError
from cdi_hook.inject import doubt, request


def settings(**values: str) -> Config:
    """Make a configuration with these values."""
    made = Config("/etc/cdi-hook/cdi-hook.conf")
    made.values.update(values)
    made.origins.update(dict.fromkeys(values, f"{made.path}:1"))
    return made


def names(oci: dict[str, Any], **values: str) -> list[str]:
    """Return the names that a container requests."""
    return request.collect(oci, settings(**values)).device_ids


def test_annotations_in_order_of_their_keys_each_device_once() -> None:
    """Keys are sorted, values keep their order, and a device counts once with its first origin."""
    oci = {
        "annotations": {"cdi.k8s.io/b": "v.com/c=1,v.com/c=2", "x": "v.com/c=9", "cdi.k8s.io/a": "v.com/c=2"}
    }
    made = request.collect(oci, settings())
    assert made.device_ids == ["v.com/c=2", "v.com/c=1"]
    assert made.origins["v.com/c=2"] == 'annotation "cdi.k8s.io/a"'
    assert (made.driver, made.count, made.options) == ("cdi", 0, {})


@pytest.mark.parametrize(
    "oci",
    [
        {},
        {"annotations": None},
        {"annotations": {"a": 5}},
        {"process": None, "mounts": None},
        {"process": [1], "mounts": 5},
        {"process": {"env": 5}, "mounts": [5]},
    ],
)
def test_nothing_asked(oci: dict[str, Any]) -> None:
    """A container without our keys asks for nothing, whatever else it has."""
    assert names(oci, DEVICE_ENV="X", DEVICE_MOUNTS="/d") == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("gpu0", 'invalid CDI device name "gpu0" (unqualified device "gpu0", missing vendor)'),
        ("v.com/c=1,", 'invalid CDI device name "" (unqualified device "", missing vendor)'),
        ("v.com/c=1, v.com/c=2", 'invalid CDI device name " v.com/c=2" (there is a space in it)'),
        ("v.com/c=1/2", 'invalid CDI device name "v.com/c=1/2" (invalid device "v.com/c=1/2": '
                        'invalid character \'/\' in device name "1/2")'),
    ],
)  # fmt: skip
def test_a_malformed_annotation_is_named(value: str, problem: str) -> None:
    """The error has the key, the item, the rule and how to write a name."""
    with pytest.raises(CDIError) as caught:
        names({"annotations": {"cdi.k8s.io/x": value}})
    text = str(caught.value)
    hint = ", or set DEFAULT_KIND in the configuration" if value == "gpu0" else ""
    assert text == (
        f'annotation "cdi.k8s.io/x": {problem}; a device is written vendor.com/class=name, '
        f"several with commas and no spaces between{hint}"
    )


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("cdi.k8s.io", "v.com/c=1", "device"),
        ("cdi.k8s/gpu", "x,v.com/c=1", "gpu"),
        ("CDI.k8s.io/gpu", "v.com/c=1", "gpu"),
        ("cdi.k8s/a/gpu", "v.com/c=1", "gpu"),
        (f"cdi.k8s/{'x' * 312}", "v.com/c=1", "x" * 312),
        (f"cdi.k8s/{'x' * 313}", "v.com/c=1", ""),
        ("cdi.k8s.io", "gpu0", ""),
        ("cdi.k8s.io/x", "v.com/c=1", ""),
        ("other/x", "v.com/c=1", ""),
        ("cdi.k8s/x", 7, ""),
    ],
)
def test_a_key_that_is_nearly_right_is_noticed(key: str, value: object, name: str) -> None:
    """Of an annotation that names a device under a key much like ours, the right key is told."""
    told = doubt.of({"annotations": {"a": "b", key: value}}, settings(), "id")
    expected = (
        f'annotation "{key}" asks for no device, because its key doesn\'t begin with "cdi.k8s.io/"; '
        f"write the key as cdi.k8s.io/{name}"
    )
    assert told == (expected if name else "")


def test_keys_are_compared_with_the_configured_prefixes() -> None:
    """With a prefix of one's own, its slash can be forgotten too; without prefixes no annotation asks."""
    annotations = {"annotations": {"devices.example": "v.com/c=1"}}
    told = doubt.of(annotations, settings(ANNOTATION_PREFIXES="devices.example/"), "id")
    assert told.endswith("write the key as devices.example/device")
    assert doubt.of(annotations, settings(), "id") == ""
    assert (
        doubt.of({"annotations": {"cdi.k8s.io": "v.com/c=1"}}, settings(ANNOTATION_PREFIXES=""), "id") == ""
    )
    assert doubt.of({"annotations": []}, settings(), "id") == ""


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([], "the OCI spec's .annotations is not an object"),
        ({"cdi.k8s.io/x": 5}, 'annotation "cdi.k8s.io/x" is not a string'),
    ],
)
def test_annotations_of_the_wrong_type(annotations: object, message: str) -> None:
    """A request that can't be read is refused, never skipped."""
    with pytest.raises(CDIError) as caught:
        names({"annotations": annotations or [1]})
    assert str(caught.value) == message


def test_other_prefixes_and_a_default_kind() -> None:
    """Configured prefixes replace the default one, and a bare name gets the default kind."""
    oci = {"annotations": {"cdi.k8s.io/a": "v.com/c=1", "devices.example/x": "gpu0,v.com/c=2"}}
    assert names(oci, ANNOTATION_PREFIXES="devices.example/ other/", DEFAULT_KIND="v.com/gpu") == [
        "v.com/gpu=gpu0",
        "v.com/c=2",
    ]


def test_the_environment_counts_only_where_configured() -> None:
    """DEVICE_ENV's variables name devices, the last value of a variable wins, and none and void ask for nothing."""
    oci = {"process": {"env": ["V=1", "V=0,all", "W=none", "X=void", "Y=", "Z=9"]}}
    assert names(oci) == []
    assert names(oci, DEVICE_ENV="V W X Y", DEFAULT_KIND="n.com/gpu") == ["n.com/gpu=0", "n.com/gpu=all"]


def test_mounts_name_devices_where_configured() -> None:
    """A mount below DEVICE_MOUNTS names a device by its path."""
    oci = {
        "mounts": [
            {"destination": "/run/d/v.com/gpu/0"},
            {"destination": "/run/d/7"},
            {"destination": "/run/dd/x"},
        ]
    }
    assert names(oci) == []
    assert names(oci, DEVICE_MOUNTS="/run/d", DEFAULT_KIND="n.com/gpu") == ["v.com/gpu=0", "n.com/gpu=7"]


@pytest.mark.parametrize(
    "destination",
    [
        "/run//d/v.com/gpu/0", "/run/d//v.com/gpu/0/", "/run/./d/v.com/./gpu/0", "/run/x/../d/v.com/gpu/0",
        "//run/d/v.com/gpu/0", "/../run/d/v.com/gpu/0", "run/d/v.com/gpu/0", "./run/d/v.com/x/../gpu/0",
    ],
)  # fmt: skip
@pytest.mark.parametrize("directory", ["/run/d", "/run/d/", "/run/./d"])
def test_a_mounts_path_is_cleaned(destination: str, directory: str) -> None:
    """A mount names a device however its path is written, as the runtimes mount it all the same."""
    made = request.collect({"mounts": [{"destination": destination}]}, settings(DEVICE_MOUNTS=directory))
    assert made.origins == {"v.com/gpu=0": f'mount "{destination}"'}


@pytest.mark.parametrize(
    "destination", ["/run/d", "/run/d/.", "/run/d/../e/v.com/gpu/0", "d/v.com/gpu/0", ".."]
)
def test_another_place_names_no_device(destination: str) -> None:
    """The dir itself, and a path that leads out of it, ask for nothing."""
    assert names({"mounts": [{"destination": destination}]}, DEVICE_MOUNTS="/run/d") == []


def test_what_asks_is_said_for_every_source() -> None:
    """A variable and a mount are named as what asked for a device, also if the dir of mounts is written with a slash."""
    oci = {"process": {"env": ["V=v.com/c=1"]}, "mounts": [{"destination": "/run/X/v.com/c/2"}]}
    made = request.collect(oci, settings(DEVICE_ENV="V", DEVICE_MOUNTS="/run/X/"))
    assert made.origins == {"v.com/c=1": "environment variable V", "v.com/c=2": 'mount "/run/X/v.com/c/2"'}
    oci = {"process": {"env": ["V=?"]}}
    with pytest.raises(CDIError, match=r"^environment variable V: invalid CDI device name"):
        request.collect(oci, settings(DEVICE_ENV="V"))
    oci = {"mounts": [{"destination": "/run/X/?"}]}
    with pytest.raises(CDIError, match=r'^mount "/run/X/\?": invalid CDI device name'):
        request.collect(oci, settings(DEVICE_MOUNTS="/run/X"))


def test_names_are_a_list() -> None:
    """A request made from names has no origins; one string is refused, for its letters are no names."""
    made = request.DeviceRequest(["v.com/c=1"])
    assert made.asked == [("v.com/c=1", "", ())]
    with pytest.raises(
        TypeError, match=r"^device_ids must be a list of strings, not the string 'v.com/c=1'$"
    ):
        request.DeviceRequest("v.com/c=1")


ASKING = {"cdi.k8s.io/a": "v.com/c=1"}


@pytest.mark.parametrize(
    ("oci", "key", "regular"),
    [
        ({"Annotations": ASKING}, "Annotations", "annotations"),
        ({"annotation\u017f": ASKING}, "annotation\u017f", "annotations"),
        ({"annotations": ASKING, "ANNOTATIONS": {}}, "ANNOTATIONS", "annotations"),
        ({"annotations": {}, "Annotations": {"cdi.k8s.io/a": "??"}}, "Annotations", "annotations"),
        ({"Process": {"env": ["V=v.com/c=1"]}}, "Process", "process"),
        ({"process": {"env": [], "ENV": ["V=v.com/c=1"]}}, "ENV", "env"),
        ({"mounts": [{"Destination": "/run/d/v.com/gpu/0"}]}, "Destination", "destination"),
        ({"annotations": ASKING, "linux": {"resources": {"Devices": []}}}, "Devices", "devices"),
        ({"annotations": ASKING, "hooks": {"createruntime": []}}, "createruntime", "createRuntime"),
    ],
)
def test_a_key_in_another_case_is_refused(oci: dict[str, Any], key: str, regular: str) -> None:
    """What a container asks for while runc and crun differ about a key is refused, never skipped."""
    with pytest.raises(BundleError) as caught:
        names(oci, DEVICE_ENV="V", DEVICE_MOUNTS="/run/d")
    assert str(caught.value) == (
        f'the OCI spec has a key "{key}": runc takes it for "{regular}", crun for nothing; write "{regular}"'
    )


@pytest.mark.parametrize(
    "oci",
    [
        {"Annotations": {"x": "v.com/c=1"}, "Mounts": [{"destination": "/a"}]},
        {"process": {"Env": ["V=none"]}, "Process": [5], "Linux": None},
    ],
)
def test_who_asks_for_nothing_may_write_keys_as_they_like(oci: dict[str, Any]) -> None:
    """A container that asks for nothing by either reading starts, whatever the case of its keys."""
    assert names(oci, DEVICE_ENV="V", DEVICE_MOUNTS="/run/d") == []


def test_names_are_no_keys() -> None:
    """An annotation or a net device that is called as a key in another case doesn't count as one."""
    oci = {"annotations": {**ASKING, "Process": "x"}, "linux": {"netDevices": {"Env": {}}}}
    assert names(oci) == ["v.com/c=1"]
    with pytest.raises(BundleError, match='a key "Annotations"'):
        names({"Annotations": {"Devices": "v.com/c=1"}}, ANNOTATION_PREFIXES="Devices")


def test_annotations_that_are_no_object_claim_no_namespace() -> None:
    """They are an error of whoever asks, and nothing else."""
    assert request.namespaces({"annotations": [5]}, "/run/k8s.io/id") == ([], False)


@pytest.mark.parametrize(("key", "key_of_id"), request.SANDBOX_ANNOTATIONS)
def test_sandboxes_are_left_alone_unless_configured(key: str, key_of_id: str) -> None:
    """A CRI pod sandbox asks for nothing, even with a malformed annotation; a container that claims to be one asks."""
    sandbox = {key: "sandbox", key_of_id: "id"}
    for container in ("", "id"):
        oci: dict[str, Any] = {"annotations": {**sandbox, "cdi.k8s.io/x": "??"}}
        assert request.collect(oci, settings(), container).device_ids == []
        assert request.collect({**oci, "Annotations": {}}, settings(), container).device_ids == []
    assert request.collect(oci, settings()).device_ids == []
    oci = {"annotations": {**sandbox, **ASKING}}
    for asking, container, values in (
        (oci, "id", {"SANDBOXES": "inject"}),
        (oci, "other", {}),
        ({"annotations": {key: "sandbox", **ASKING}}, "id", {}),
        ({"annotations": {key: "sandbox", **ASKING}}, "", {}),
        ({"annotations": {key: "container", key_of_id: "id", **ASKING}}, "id", {}),
    ):
        assert request.collect(asking, settings(**values), container).device_ids == ["v.com/c=1"]


def test_a_person_names_devices_with_or_without_the_kind() -> None:
    """Each device that is named counts once, in order, with the default kind where it has none; an option asked for it."""
    made = request.named(
        ["v.com/c=1", "gpu0", "v.com/c=1", "v.com/gpu=gpu0"], settings(DEFAULT_KIND="v.com/gpu")
    )
    assert made.device_ids == ["v.com/c=1", "v.com/gpu=gpu0"]
    assert made.origins == dict.fromkeys(made.device_ids, "--device")
    assert request.named(["gpu0"], settings()).device_ids == ["gpu0"]


def test_who_asked_is_said_once() -> None:
    """The words for several devices name each that asked for one of them, once; what isn't known is left out."""
    made = request.collect(
        {"annotations": {"cdi.k8s.io/a": "v.com/c=1,v.com/c=2", "cdi.k8s.io/b": "v.com/c=3"}}, settings()
    )
    assert request.asked(["v.com/c=1", "v.com/c=2", "x"], made) == 'asked for by annotation "cdi.k8s.io/a"'
    assert request.asked(["v.com/c=3", "v.com/c=1"], made) == (
        'asked for by annotation "cdi.k8s.io/b", annotation "cdi.k8s.io/a"'
    )
    assert request.asked([], made) == request.asked(["x"], made) == "asked for"


def test_a_deep_tree_is_looked_through() -> None:
    """A key in another case is found however deep it is, and depth alone is no error."""
    oci: dict[str, Any] = {"annotations": ASKING, "process": {}}
    node = oci["process"]
    for _ in range(5000):
        node["process"] = {}
        node = node["process"]
    assert names(oci) == ["v.com/c=1"]
    node["Env"] = []
    with pytest.raises(BundleError, match='a key "Env"'):
        names(oci)
