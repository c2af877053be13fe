# SPDX-License-Identifier: Apache-2.0
"""engines.docker and edit.json_document: daemon.json with our entry, and every other byte as it was."""

from __future__ import annotations

import json

import pytest
import yaml

from cdi_hook.engines.docker import ENGINE, DockerProber
from cdi_hook.engines.edit.config_editor import Request
from cdi_hook.engines.edit.document import UnusableConfiguration

PATH = "/usr/bin/cdi-runtime"
DEFAULT = Request(PATH, set_default=True)

# As it was, with our runtime as the default in it.
CASES = {
    "no file": (
        "",
        """\
{
    "runtimes": {
        "cdi": {
            "path": "/usr/bin/cdi-runtime"
        }
    },
    "default-runtime": "cdi"
}
""",
    ),
    "tabs, a default, no line break at the end": (
        '{\n\t"default-runtime": "crun",\n\t"x": [1.50, 1],\n\t"runtimes": {\n\t\t"crun": {"path": "/usr/bin/crun"}\n\t}\n}',
        '{\n\t"default-runtime": "cdi",\n\t"x": [1.50, 1],\n\t"runtimes": {\n\t\t"crun": {"path": "/usr/bin/crun"},\n'
        '\t\t"cdi": {\n\t\t\t"path": "/usr/bin/cdi-runtime"\n\t\t}\n\t}\n}',
    ),
    "one line": (
        '{"debug":true}\n',
        '{"debug":true, "runtimes": {"cdi": {"path": "/usr/bin/cdi-runtime"}}, "default-runtime": "cdi"}\n',
    ),
    "one line within": (
        '{\n  "runtimes": { "crun": {"path": "c"} },\n  "b": "{}"\n}\n',
        '{\n  "runtimes": { "crun": {"path": "c"}, "cdi": {"path": "/usr/bin/cdi-runtime"} },\n  "b": "{}",\n'
        '  "default-runtime": "cdi"\n}\n',
    ),
    "empty runtimes, CRLF": (
        '{\r\n  "runtimes": {},\r\n  "a\\u0022": 1\r\n}\r\n',
        '{\r\n  "runtimes": {\r\n    "cdi": {\r\n      "path": "/usr/bin/cdi-runtime"\r\n    }\r\n  },\r\n'
        '  "a\\u0022": 1,\r\n  "default-runtime": "cdi"\r\n}\r\n',
    ),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES)
def test_added_in_the_style_of_the_file(before: str, after: str) -> None:
    """The members have the file's own indentation and are in the right place, and nothing else changes, also the second time."""
    assert ENGINE.edit(before).add(DEFAULT).text == after
    assert ENGINE.edit(after).add(DEFAULT).text == after


@pytest.mark.parametrize("before", [before for before, _ in CASES.values() if before], ids=[*CASES][1:])
def test_removed_it_says_what_it_said(before: str) -> None:
    """After a removal, the file has the former text in the former order."""
    after = ENGINE.edit(ENGINE.edit(before).add(DEFAULT).text).remove(ENGINE.edit(before))
    assert after.notes == ()
    assert json.dumps(json.loads(after.text)) == json.dumps(json.loads(before))


def test_removed_is_only_ours() -> None:
    """Later edits stay, and so does an entry with our name that isn't ours."""
    text = ENGINE.edit('{\n  "a": 1\n}\n').add(DEFAULT).text.replace('"a": 1', '"a": 2')
    text = ENGINE.edit(text).add(Request("/usr/bin/cdi-crun", "crun")).text
    text = text.replace('"runtimes": {', '"runtimes": {\n    "cdi-x": {"path": "/x"},')
    after = ENGINE.edit(text).remove(ENGINE.edit('{\n  "a": 1\n}\n'))
    assert after.text == '{\n  "a": 2,\n  "runtimes": {\n    "cdi-x": {"path": "/x"}\n  }\n}\n'


@pytest.mark.parametrize(
    ("before", "default", "notes"),
    [
        ('{"default-runtime": "runc"}', "runc", ()),
        ('{"default-runtime": "io.containerd.runsc.v1"}', "io.containerd.runsc.v1", ()),
        (
            '{"default-runtime": "crun"}',
            None,
            ("the former default runtime crun is gone: docker uses its own default",),
        ),
        (
            '{"default-runtime": "cdi"}',
            None,
            ("the former default runtime cdi is gone: docker uses its own default",),
        ),
        ("{}", None, ()),
        (None, None, ()),
    ],
)
def test_default_is_given_back(before: str | None, default: str | None, notes: tuple[str, ...]) -> None:
    """The former default runtime is restored, if that runtime still exists."""
    after = ENGINE.edit(ENGINE.edit("{}").add(DEFAULT).text).remove(ENGINE.edit(before))
    assert json.loads(after.text).get("default-runtime") == default
    assert after.notes == notes
    assert bool(after.restart) == (default is None)


def test_a_default_set_since_stays() -> None:
    """A default runtime that somebody has set in the meantime isn't changed."""
    text = '{"runtimes": {"cdi": {"path": "/usr/bin/cdi-runtime"}}, "default-runtime": "runc"}'
    assert (
        ENGINE.edit(text).remove(ENGINE.edit('{"default-runtime": "crun"}')).text
        == '{"default-runtime": "runc"}'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n  "a": 1,\n}\n', "not valid JSON: {} at line 3 column 1"),
        ('{"a": 1', "not valid JSON: Expecting ',' delimiter at line 1 column 8"),
        ("[]", "not a JSON object"),
        ('{"a": {"b": 1, "b": 2}}', 'not usable: the key "b" appears twice in one object'),
        ('{"runtimes": {"cdi": null}}', "it already has a runtime cdi that is not ours: it runs None"),
        ('{"features": []}', "features is not an object"),
    ],
)
def test_refused(text: str, message: str) -> None:
    """A text that can't be edited without loss is refused, with line and column if it doesn't parse."""
    # Python 3.13 has a better message for a trailing comma, and another column.
    newer = {"not valid JSON: Illegal trailing comma before end of object at line 2 column 9"}
    older = {message.format("Expecting property name enclosed in double quotes")}
    with pytest.raises(UnusableConfiguration) as caught:
        ENGINE.edit(text).add(Request(PATH, enable_cdi=True))
    assert str(caught.value) in older | (newer if "{}" in message else set())


def test_runtimes_that_are_no_object_are_refused() -> None:
    """If runtimes isn't an object, our entries can't be found, also for a removal."""
    with pytest.raises(UnusableConfiguration, match=r"^runtimes is not an object$"):
        print(ENGINE.edit('{"runtimes": []}').ours)


@pytest.mark.parametrize(
    ("version", "word"),
    [
        ("20.10.24", "--env CDI_DEVICES={names}"),
        ("23.0.1", "--env CDI_DEVICES={names}"),
        ("24.0.0", "--annotation"),
        ("", "--annotation"),
    ],
)
def test_what_an_older_docker_takes(monkeypatch: pytest.MonkeyPatch, version: str, word: str) -> None:
    """docker before 24 has no annotations: what to write goes by a variable, in compose too, and can be pasted."""
    monkeypatch.setattr(DockerProber, "version", lambda _: version)
    monkeypatch.setattr(DockerProber, "found", lambda _: "/usr/bin/dockerd" if version else "")
    asks = ENGINE.probe().requests()
    assert f"docker run --runtime cdi {word}" in asks["docker"]
    assert ("annotations" in asks["compose"]) == ("--annotation" in word)
    assert (
        yaml.safe_load(asks["compose"].format(names="a.b/c=d", key="k"))["services"]["NAME"]["runtime"]
        == "cdi"
    )
