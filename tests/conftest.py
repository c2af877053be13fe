# SPDX-License-Identifier: Apache-2.0
"""Rules for the whole suite: a skip fails where it isn't expected, no index is left behind, hypothesis draws the same.

A test skips with `pytest.skip(REASON)` or a mark. Where CI or CDI_HOOK_MACHINE is set, the skip is a
failure, unless tests/expected-skips.txt has its reason.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Generator

ON_DISK = "/var/tmp"  # where /tmp may be a tmpfs that allows no device nodes
# A test that fails does so again; `make fuzz` is for what is drawn by chance.
settings.register_profile("short", derandomize=True, database=None, deadline=None)
settings.load_profile("short")

_LONGEST_ID = 40  # characters of one parameter
EXPECTED_SKIPS = Path(__file__).parent / "expected-skips.txt"


def pytest_configure() -> None:
    """Put the tests' files where device nodes work, and let Ctrl-C reach the programs that tests start.

    A user gets a runtime dir of the tests' own: what is there, and whether there is one, doesn't matter.
    A background job of a script starts with SIGINT ignored.
    """
    if os.statvfs(tempfile.gettempdir()).f_flag & os.ST_NODEV:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", ON_DISK)
    if os.geteuid() != 0 and "PYTEST_XDIST_WORKER" not in os.environ:
        runtime_dir = tempfile.mkdtemp(prefix="cdi-hook-tests-")
        os.environ["XDG_RUNTIME_DIR"] = runtime_dir
        atexit.register(shutil.rmtree, runtime_dir, ignore_errors=True)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes test: more than processors, because a third of the time they wait for something."""
    count = len(os.sched_getaffinity(0))
    return count + (count + 1) // 2


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a case by its beginning, where its text is long: an id is to be read."""
    if not isinstance(val, (str, bytes)):
        return None
    shown = ascii(" ".join(val.split()))[1:-1] if isinstance(val, str) else repr(val)[2:-1]
    return f"{shown[:_LONGEST_ID]}{'...' if len(shown) > _LONGEST_ID else ''}"


@pytest.fixture(scope="session", autouse=True)
def _no_index_stays(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """Remove the indexes that root's calls compiled from the tests' own spec dirs."""
    yield
    name = str(tmp_path_factory.getbasetemp()).strip("/").replace("/", "-")
    for path in Path("/run/cdi-hook").glob(f"{name}-*.index"):
        path.unlink(missing_ok=True)


def machine() -> str:
    """Return the kind of machine whose list of expected skips counts: tests/elsewhere names it; "" for any."""
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false", "no")
    return os.environ.get("CDI_HOOK_MACHINE", "ci" if in_ci else "")


def is_expected(reason: str) -> bool:
    """Say whether a line of expected-skips.txt for this kind of machine matches all of a skip's reason."""
    kinds: list[str] = []
    for line in EXPECTED_SKIPS.read_text("utf-8").splitlines():
        if line.startswith("["):
            kinds = line.strip("[]").split()
        elif line and not line.startswith("#") and machine() in kinds and re.fullmatch(line, reason):
            return True
    return False


def fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn an unexpected skip into a failure; an xfail is not a skip."""
    if not report.skipped or hasattr(report, "wasxfail") or not machine():
        return
    _, _, message = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
    reason = message.removeprefix("Skipped: ")
    if not is_expected(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped: {reason} (what {machine()} may skip is in {EXPECTED_SKIPS})"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what brings the tests that were skipped."""
    if terminalreporter.stats.get("skipped"):
        terminalreporter.write_line(
            "Of the skipped tests, sudo brings those that need root, CI=true make test those of engines, which "
            "it installs; tests/README.md says how to test others."
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Check the result of a test's phase."""
    report = yield
    fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Check the result of collecting a module, which may be skipped as a whole."""
    report = yield
    fail_if_skipped(report)
    return report
