"""The study's figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import Any

from matplotlib.ticker import FixedLocator, NullLocator

from loadtest.harness.figures import INK, four_panels
from loadtest.window.runs import DEFAULT, POLICIES, Path, Policy, Run

COLOURS = ("#1b5e9b", "#c23b22", "#8a8a8a", "#e09f3e", "#5aa469", "#3b8f8c", "#9b5de5")


def draw(
    file: File,
    healthy: Mapping[tuple[Policy, Path], Run],
    gone: Mapping[tuple[Policy, Path], Run],
    rtts_s: Sequence[float],
    rates: Sequence[float],
    usual: tuple[float, float],
    absent: Sequence[Path],
) -> None:
    with four_panels(file) as panels:
        _plane(panels[0, 0], healthy, rtts_s, rates)
        _wasted(panels[0, 1], gone, absent)
        usual_rtt_s, usual_rate = usual
        by_rtt = {p: [healthy[p, Path(rtt_s, usual_rate)] for rtt_s in rtts_s] for p in POLICIES}
        _lines(panels[1, 0], [rtt_s * 1000 for rtt_s in rtts_s], by_rtt)
        panels[1, 0].set(title=f"Healthy reader, {usual_rate:g} tokens/s", xlabel="round trip, ms")
        by_rate = {p: [healthy[p, Path(usual_rtt_s, rate)] for rate in rates] for p in POLICIES}
        _lines(panels[1, 1], rates, by_rate)
        panels[1, 1].set(
            title=f"Healthy reader, {usual_rtt_s * 1000:g} ms round trip", xlabel="tokens/s"
        )
        panels[1, 0].legend(frameon=False, fontsize=8)


def _plane(
    panel: Any,
    healthy: Mapping[tuple[Policy, Path], Run],
    rtts_s: Sequence[float],
    rates: Sequence[float],
) -> None:
    runs = [[healthy[DEFAULT, Path(rtt_s, rate)] for rtt_s in rtts_s] for rate in rates]
    shares = [[run.stalled_share for run in row] for row in runs]
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
    for y, row in enumerate(runs):
        for x, run in enumerate(row):
            share = run.stalled_share
            text = ("<1%" if share < 0.005 else f"{share:.0%}") if run.stalls else "0"
            panel.text(
                x, y, text, ha="center", va="center", color="white" if share > 0.5 else INK, size=8
            )
    panel.set_xticks(range(len(rtts_s)), [f"{rtt_s * 1000:g}" for rtt_s in rtts_s])
    panel.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set(
        title=f"Share of 1,000 tokens' time stalled: {DEFAULT.name}",
        xlabel="round trip, ms",
        ylabel="tokens/s",
    )


def _wasted(panel: Any, gone: Mapping[tuple[Policy, Path], Run], absent: Sequence[Path]) -> None:
    height = 0.8 / len(POLICIES)
    for number, (policy, colour) in enumerate(zip(POLICIES, COLOURS, strict=True)):
        at = [group + (number - (len(POLICIES) - 1) / 2) * height for group in range(len(absent))]
        wasted = [gone[policy, path].wasted for path in absent]
        bars = panel.barh(at, wasted, height * 0.86, color=colour)
        panel.bar_label(bars, labels=[f"{tokens:,}" for tokens in wasted], padding=3, size=7.5)
    names = [f"{path.rtt_s * 1000:g} ms\n{path.rate:g} tokens/s" for path in absent]
    panel.set_yticks(range(len(absent)), names)
    panel.tick_params(axis="y", length=0)
    panel.invert_yaxis()
    panel.set_xlim(0, 1150)
    panel.set(title="Tokens made for a reader who has left", xlabel="tokens")


def _lines(panel: Any, xs: Sequence[float], runs: Mapping[Policy, list[Run]]) -> None:
    for (policy, row), colour in zip(runs.items(), COLOURS, strict=True):
        first = policy is DEFAULT
        panel.plot(
            xs,
            [run.stalled_share for run in row],
            marker="o",
            markersize=4 if first else 3,
            linewidth=2.4 if first else 1.2,
            color=colour,
            label=policy.name + (" (Lore)" if first else ""),
            zorder=3 if first else 2,
        )
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(list(xs)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.tick_params(axis="x", labelsize=7.5)
    panel.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    panel.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    panel.set_ylim(-0.02, 0.85)
    panel.set_ylabel("share of the time stalled")
    panel.grid(axis="y", color="#e5e5e5")
    panel.set_axisbelow(True)
