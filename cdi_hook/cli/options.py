# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

import argparse


def add_spec_dir(parser: argparse.ArgumentParser) -> None:
    """Declare --spec-dir."""
    parser.add_argument(
        "--spec-dir",
        metavar="DIR",
        action="append",
        help="look for CDI specs in DIR, not in the configured dirs; of several, the last has priority",
    )


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Declare --debug."""
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from"
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare --json; ``what`` says what its items are."""
    parser.add_argument("--json", action="store_true", help=f"print one JSON object, whose items are {what}")
