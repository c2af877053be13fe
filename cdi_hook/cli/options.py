# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_spec_dir(parser: argparse.ArgumentParser) -> None:
    """Declare --spec-dir."""
    parser.add_argument(
        "--spec-dir",
        metavar="DIR",
        action="append",
        help="look for CDI specs here instead of in the configured dirs; of several, the last has priority",
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare --json, which prints what."""
    parser.add_argument("--json", action="store_true", help=f"print {what}")
