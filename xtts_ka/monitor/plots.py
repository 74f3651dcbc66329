"""The picture of a run: losses, learning rate, gradient norm and throughput over the steps, for a report.

Labels are Georgian; DejaVu Sans, which comes with matplotlib, has the letters.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xtts_ka.core.files import atomic_path
from xtts_ka.core.robust import rolling_median, smooth
from xtts_ka.monitor.history import RunHistory, Table

TRAIN, VAL, TEXT, RESTART, BEST, FAINT = "#1f6fb4", "#d1495b", "#e08a1e", "#8e5fb5", "#2a9d4a", "#9cc3e4"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9,
}
BESIDE_THE_TITLE = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.2}  # no curve runs there


def draw_plot(
    history: RunHistory, target: Path, *, total_steps: int | None = None, clip_norm: float | None = None
) -> None:
    """Draw the run to the PNG `target` (1800 × 1500 pixels), atomically."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train, val = history.train.table(), history.val.table()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 10), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(3, 2, height_ratios=(2.2, 1, 1))
        top = figure.add_subplot(grid[0, :])
        others = [figure.add_subplot(grid[at], sharex=top) for at in ((1, 0), (1, 1), (2, 0), (2, 1))]
        _losses(top, train, val)
        _metric(others[0], train, "lr", "სწავლის ტემპი (learning rate)", "ტემპი", line_only=True)
        _metric(others[1], train, "grad_norm", "გრადიენტის ნორმა", "ნორმა")
        _metric(others[2], train, "audio_s_per_s", "გამტარობა", "აუდიოს წამი წამში")
        _parts(others[3], train)
        others[0].ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
        if clip_norm is not None and _reaches(train["grad_norm"], clip_norm):
            others[1].axhline(clip_norm, color=VAL, linewidth=1, linestyle=":")
            others[1].annotate(
                f"ზღვარი {clip_norm:g}",
                (1.0, clip_norm),
                xycoords=("axes fraction", "data"),
                color=VAL,
                ha="right",
                va="bottom",
                fontsize=9,
            )
            others[1].set_ylim(top=max(others[1].get_ylim()[1], 1.1 * clip_norm))
        for axes in (top, *others):
            _mark_restarts(axes, history, legend=axes is top)
            axes.set_xlabel("ნაბიჯი")
        top.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace(",", "\u202f"))
        if len(steps := np.concatenate([train["step"], val["step"]])):
            top.set_xlim(0, max(1.0, steps.max() * 1.02))
        if top.get_legend_handles_labels()[0]:
            top.legend(**BESIDE_THE_TITLE, ncols=5)
        done = max(history.train.last, history.val.last, 0)
        of_all = f" / {total_steps:,}".replace(",", "\u202f") if total_steps else ""
        figure.suptitle(
            f"XTTS-v2 ქართულად: წვრთნის მიმდინარეობა, ნაბიჯი {f'{done:,}'.replace(',', chr(0x202F))}{of_all}",
            fontsize=14,
            fontweight="bold",
        )
        with atomic_path(target) as temporary:
            figure.savefig(temporary, format="png")


def _losses(axes, train: Table, val: Table) -> None:
    """Raw losses faintly, smoothed ones clearly, the best validation marked; wild values set no scale."""
    axes.set_title("დანაკარგი (loss)")
    axes.set_ylabel("დანაკარგი")
    if _known(train["loss"]).any():
        axes.plot(train["step"], train["loss"], color=FAINT, linewidth=0.8, label="წვრთნა")
        axes.plot(
            *_smoothed(train, "loss"),
            color=TRAIN,
            linewidth=2,
            label="წვრთნა, გასაშუალოებული",
            **_dots(train["loss"], 12),
        )
    if (known := _known(val["loss"])).any():
        axes.plot(
            val["step"][known],
            val["loss"][known],
            color=VAL,
            linewidth=1.6,
            label="შემოწმება (validation)",
            **_dots(val["loss"], 60),
        )
        at = np.flatnonzero(known)[np.argmin(val["low"][known])]
        step, loss = val["low_step"][at], val["low"][at]
        axes.plot(
            [step],
            [loss],
            marker="*",
            markersize=15,
            color=BEST,
            markeredgecolor="white",
            linestyle="none",
            zorder=5,
            label=f"საუკეთესო: {loss:.4g}, ნაბიჯი {step:.0f}",
        )
    values = np.concatenate([train["loss"], val["loss"]])
    values = values[_known(values)]
    if len(values) > 20:
        low, high = np.percentile(values, [0, 99.5])
        margin = 0.05 * (high - low) or 0.1
        axes.set_ylim(low - margin, high + margin)


def _metric(axes, train: Table, name: str, title: str, label: str, line_only: bool = False) -> None:
    """One training metric: raw faintly and smoothed, or a plain line."""
    axes.set_title(title)
    axes.set_ylabel(label)
    known = _known(train[name])
    if not known.any():
        axes.text(0.5, 0.5, "ჩანაწერი არ არის", transform=axes.transAxes, ha="center", alpha=0.5)
    elif line_only:
        axes.plot(train["step"][known], train[name][known], color=TRAIN, linewidth=1.8, **_dots(train[name], 12))
    else:
        axes.plot(train["step"], train[name], color=FAINT, linewidth=0.7)
        axes.plot(*_smoothed(train, name), color=TRAIN, linewidth=1.8, **_dots(train[name], 12))
        low, high = np.percentile(train[name][known], [0, 99.5])
        low = min(0.0, low)
        margin = 0.08 * (high - low) or 0.1
        axes.set_ylim(low - margin if low < 0 else 0, high + margin)


def _parts(axes, train: Table) -> None:
    """The two parts of the loss: text and audio codes."""
    axes.set_title("დანაკარგის ნაწილები")
    axes.set_ylabel("ნატი ტოკენზე")
    for name, colour, label in (("loss_mel", TRAIN, "აუდიოკოდები"), ("loss_text", TEXT, "ტექსტი")):
        if _known(train[name]).any():
            axes.plot(*_smoothed(train, name), color=colour, linewidth=1.8, label=label, **_dots(train[name], 12))
    if axes.lines:
        axes.legend(**BESIDE_THE_TITLE, ncols=2)
    else:
        axes.text(0.5, 0.5, "ჩანაწერი არ არის", transform=axes.transAxes, ha="center", alpha=0.5)


def _mark_restarts(axes, history: RunHistory, legend: bool) -> None:
    for i, restart in enumerate(history.restarts):
        axes.axvline(
            restart.step,
            color=RESTART,
            linewidth=1.2,
            linestyle=(0, (4, 3)),
            zorder=1,
            label=f"გადატვირთვა ({history.restart_count})" if legend and i == 0 else None,
        )


def _smoothed(table: Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the smoothed metric: medians first, so that single spikes do not bend it.

    Ten points are hardly smoothed at all: over windows as wide as the curve nothing would be left of it.
    """
    known = _known(table[name])
    few = 2 * (known.sum() // 10) + 1
    values = rolling_median(table[name][known], int(min(9, few)))
    return table["step"][known], smooth(values, table["lines"][known], int(max(min(5, few), len(values) // 40)))


def _dots(values: np.ndarray, most: int) -> dict:
    """A mark at each of a few points, which would otherwise look like a curve."""
    return {"marker": "o", "markersize": 3.5} if _known(values).sum() <= most else {}


def _known(values: np.ndarray) -> np.ndarray:
    return ~np.isnan(values)


def _reaches(values: np.ndarray, limit: float) -> bool:
    """Whether a line at `limit` has a place in the picture."""
    values = values[_known(values)]
    return len(values) > 0 and np.percentile(values, 99.5) >= 0.7 * limit
