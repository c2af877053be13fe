# SPDX-License-Identifier: Apache-2.0
"""driver: docker's promises."""

from __future__ import annotations

from typing import Any

import pytest

from cdi_hook.catalog.cache import Cache
from cdi_hook.errors import CDIError, InjectionError
from cdi_hook.inject import driver
from cdi_hook.inject.request import DeviceRequest


def no_warnings(message: str, errors: list[str]) -> None:
    """Fail on a warning."""
    raise AssertionError((message, errors))


def test_no_spec_dirs_no_driver() -> None:
    """Without spec dirs the driver isn't registered, and a request finds none."""
    drivers = driver.register([], Cache([]), no_warnings)
    assert drivers == {}
    with pytest.raises(CDIError) as caught:
        driver.inject(drivers, {}, DeviceRequest(["v.com/c=1"]))
    assert str(caught.value) == 'could not select device driver "cdi" with capabilities: []'


def test_a_registry_that_cannot_be_set_up_fails_only_injections() -> None:
    """Registering works, a request for nothing works, and a request for a device fails with the reason."""
    drivers = driver.register(["/etc/cdi"], OSError("too many open files"), no_warnings)
    driver.inject(drivers, {}, DeviceRequest())
    with pytest.raises(InjectionError) as caught:
        driver.inject(drivers, {}, DeviceRequest(["v.com/c=1"]))
    assert str(caught.value) == "CDI device injection failed: too many open files"
    assert drivers["cdi"].devices() == ([], ["too many open files"])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (DeviceRequest(["v.com/c=1"], count=-1), "unexpected count in CDI device request"),
        (DeviceRequest(["v.com/c=1"], count=2, options={"a": "b"}), "unexpected count in CDI device request"),
        (DeviceRequest(options={"a": "b"}), "unexpected options in CDI device request"),
    ],
)
def test_count_and_options_are_refused(wanted: DeviceRequest, message: str) -> None:
    """A count or an option is refused in docker's words, because CDI has none."""
    drivers = driver.register(["/nonexistent"], Cache(["/nonexistent"]), no_warnings)
    with pytest.raises(CDIError) as caught:
        driver.inject(drivers, {}, wanted)
    assert str(caught.value) == message


def test_all_refresh_errors_are_logged_when_an_injection_fails(tmp_path: Any) -> None:
    """A failed injection logs the errors of all files, in the order of their paths; a successful one logs nothing."""
    (tmp_path / "b.yaml").write_text("cdiVersion: 1\n")
    (tmp_path / "a.yaml").write_text("[]")
    (tmp_path / "c.yaml").write_text(
        'cdiVersion: "0.3.0"\nkind: v.com/c\ndevices: [{name: x, containerEdits: {env: [A=1]}}]'
    )
    logged: list[tuple[str, list[str]]] = []
    drivers = driver.register(
        [str(tmp_path)], Cache([str(tmp_path)]), lambda message, errors: logged.append((message, errors))
    )
    oci: dict[str, Any] = {}
    driver.inject(drivers, oci, DeviceRequest(["v.com/c=x"]))
    assert (oci["process"]["env"], logged) == (["A=1"], [])
    with pytest.raises(InjectionError) as caught:
        driver.inject(drivers, {}, DeviceRequest(["v.com/c=y"]))
    assert str(caught.value) == "CDI device injection failed: unresolvable CDI devices v.com/c=y"
    assert [message for message, _ in logged] == ["Refreshing the CDI registry generated errors"]
    errors = logged[0][1]
    assert len(errors) == 2
    assert "a.yaml" in errors[0]
    assert errors[1].startswith(f'{tmp_path}/b.yaml: .cdiVersion: invalid version "1", not one of ')
    assert drivers["cdi"].devices() == (["v.com/c=x"], errors)
