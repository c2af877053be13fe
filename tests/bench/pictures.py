# SPDX-License-Identifier: Apache-2.0
"""What was measured, as pictures in SVG, each with date, machine and command."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from .cases import ENVIRONMENTS, LIVES, OURS, PASSED_ON, PEER, SERIES
from .goals import Medians

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .goals import Key, Median

# Text stays text, and the same figures give the same bytes.
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "cdi-hook",
        "font.size": 9,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
    }
)
COLOURS = {OURS: "#1a7f64", PEER: "#b8632b"}
SPDX = "<!-- SPDX-License-Identifier: Apache-2.0 -->"


def _svg(figure: Figure, facts: Mapping[str, str]) -> str:
    figure.text(
        0.005,
        0.01,
        f"{facts['date']}, {facts['command']}, medians\n{facts['machine']}",
        fontsize=6,
        color="#555555",
    )
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None}, facecolor="white")
    text = file.getvalue()
    # Without the lines of XML that have to be the first.
    lines = [SPDX, *text[text.index("<svg") :].splitlines()]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def life(facts: Mapping[str, str], all_: Mapping[Key, Median]) -> str:
    """Draw a container's life: bars of a create and the commands passed on, a panel for each environment."""
    figure = Figure(figsize=(9, 4))
    panels: Any = figure.subplots(1, len(ENVIRONMENTS))
    for panel, environment in zip(panels, ENVIRONMENTS, strict=True):
        view = Medians(environment.name, all_)
        for who, shift in ((OURS, -0.2), (PEER, 0.2)):
            places = [position + shift for position in range(len(LIVES))]
            creates = [view.ms(case, who) for case in LIVES]
            rest = [PASSED_ON * view.ms("passed on", who)] * len(LIVES)
            panel.bar(places, creates, 0.37, color=COLOURS[who], label=f"{who}: create")
            panel.bar(
                places, rest, 0.37, creates, color=COLOURS[who], alpha=0.5, label=f"{PASSED_ON} passed on"
            )
            for place, case in zip(places, LIVES, strict=True):
                total = view.life(case, who)
                panel.text(place, total, f"{total:.1f}", ha="center", va="bottom", fontsize=7)
        panel.set_xticks(range(len(LIVES)), LIVES, fontsize=8)
        panel.set_title(f"{environment.name} environment: {environment.what}", fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(y=0.1)
    panels[0].set_ylabel("ms of a container's life")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="upper center", ncols=4, frameon=False, fontsize=8
    )
    return _with_room_above(figure, facts)


def _with_room_above(figure: Figure, facts: Mapping[str, str]) -> str:
    figure.suptitle(" ", fontsize=8)
    return _svg(figure, facts)


def growth(facts: Mapping[str, str], all_: Mapping[Key, Median]) -> str:
    """Draw on logarithmic axes how a create's time grows, in the first environment."""
    view = Medians(ENVIRONMENTS[0].name, all_)
    figure = Figure(figsize=(12, 3.2))
    panels: Any = figure.subplots(1, len(SERIES), sharey=True)
    for panel, series in zip(panels, SERIES, strict=True):
        for who, colour in COLOURS.items():
            points = [(x, view.ms(case, who)) for x, case in series.points]
            panel.loglog(*zip(*points, strict=True), marker="o", markersize=3, color=colour, label=who)
        panel.set_title(series.title, fontsize=9)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter("{x:,.0f}")
        panel.set_xlabel(series.axis, fontsize=8)
        panel.grid(which="major", color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("ms of a create")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="upper center", ncols=2, frameon=False, fontsize=8
    )
    return _with_room_above(figure, facts)


PICTURES = {"life": life, "growth": growth}
