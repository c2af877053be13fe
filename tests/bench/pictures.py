# SPDX-License-Identifier: Apache-2.0
"""What was measured, as pictures in SVG, each with date, machine and command."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .cases import ASKED, ENVIRONMENTS, LIFE, LIVES, OURS, PEER, SERIES
from .goals import Medians

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .goals import Key, Median

# Text stays text, and the same figures give the same bytes. A picture has a white ground, because no grey can be read
# on a white and on a dark page; it is as wide as a phone, so that its letters stay as large there.
GREY = "#59636e"
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "cdi-hook",
        "font.size": 11,
        "text.color": GREY,
        "axes.edgecolor": GREY,
        "axes.labelcolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
    }
)
WIDTH = 5.2  # in inches of 72 pixels
PALE = 0.5
COLOURS = {OURS: "#1a9070", PEER: "#c8692f"}
SPDX = "<!-- SPDX-License-Identifier: Apache-2.0 -->"
SMALLEST = "tiny"
WORDS = {SMALLEST: "a device\nwithout files", "H100": "an H100"}  # what a reader calls a case


def _svg(figure: Figure, facts: Mapping[str, str]) -> str:
    """Return the picture, with its legend above and where it was measured below."""
    processor = ", ".join(facts["machine"].split(", ")[:3])
    figure.supxlabel(f"{facts['date']}, medians\n{processor}", fontsize=8)
    figure.set_layout_engine("constrained")
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    # Without the lines of XML that have to be the first.
    lines = [SPDX, *text[text.index("<svg") :].splitlines()]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def life(facts: Mapping[str, str], all_: Mapping[Key, Median]) -> str:
    """Draw a container's life in the first environment: bars of a create and the calls that are passed on."""
    view = Medians(ENVIRONMENTS[0].name, all_)
    figure = Figure(figsize=(WIDTH, 4.4))
    panel: Any = figure.subplots()
    for who, shift in ((OURS, -0.2), (PEER, 0.2)):
        places = [position + shift for position in range(len(ASKED))]
        creates = [view.ms(case, who) for case in ASKED]
        rest = [LIVES[LIFE] * view.ms("passed on", who)] * len(ASKED)
        panel.barh(places, creates, 0.37, color=COLOURS[who], label=f"{who}: the create")
        panel.barh(places, rest, 0.37, creates, color=COLOURS[who], alpha=PALE)
        for place, case in zip(places, ASKED, strict=True):
            panel.text(
                view.life(case, who) + 0.3, place, f"{view.life(case, who):.1f}", va="center", fontsize=10
            )
    panel.set_yticks(range(len(ASKED)), [WORDS.get(case, case) for case in ASKED])
    panel.set_ylabel("what the container asks for")
    panel.set_xlabel(f"ms of a container's life ({LIFE})")
    panel.invert_yaxis()
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.12)
    paler = Patch(color=GREY, alpha=PALE, label=f"paler: the {LIVES[LIFE]} calls that are passed on")
    handles = [*panel.get_legend_handles_labels()[0], paler]
    figure.legend(handles=handles, loc="outside upper left", frameon=False, fontsize=9)
    return _svg(figure, facts)


def growth(facts: Mapping[str, str], all_: Mapping[Key, Median]) -> str:
    """Draw on logarithmic axes how the time of a create with a device grows, in the first environment."""
    view = Medians(ENVIRONMENTS[0].name, all_)
    figure = Figure(figsize=(WIDTH, 2.6 * len(SERIES)))
    panels: Any = figure.subplots(len(SERIES), 1, sharey=True)
    for panel, series in zip(panels, SERIES, strict=True):
        for who, colour in COLOURS.items():
            points = [(x, view.ms(case, who)) for x, case in series.points]
            panel.loglog(*zip(*points, strict=True), marker="o", markersize=4, color=colour, label=who)
            panel.axhline(view.ms(SMALLEST, who), linestyle=":", linewidth=1, color=colour)
        panel.set_title(series.title, fontsize=11)
        panel.set_yticks([5, 10, 20, 50, 100, 200])
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter("{x:,.0f}")
        panel.yaxis.set_minor_formatter("")
        panel.set_xlabel(f"{series.axis} (log)")
        panel.set_ylabel("ms of a create (log)")
        panel.grid(which="major", color=GREY, alpha=0.3, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    dotted = Line2D(
        [], [], linestyle=":", color=GREY, label="dotted: one device on the host, 3 KB, one asked for"
    )
    handles = [*panels[0].get_legend_handles_labels()[0], dotted]
    figure.legend(handles=handles, loc="outside upper left", frameon=False, fontsize=9)
    return _svg(figure, facts)


PICTURES = {"life": life, "growth": growth}
