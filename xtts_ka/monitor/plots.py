"""Draws a run: losses, learning rate, gradient norm and throughput over the steps, as one PNG for a report.

Labels are Georgian; DejaVu Sans, which comes with matplotlib, has the letters.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xtts_ka.core.files import atomic_path
from xtts_ka.core.robust import rolling_median, smooth
from xtts_ka.monitor.history import UNSEEN, RunHistory, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN, VAL, TEXT, RESTART, BEST, FAINT = "#1f6fb4", "#d1495b", "#e08a1e", "#8e5fb5", "#2a9d4a", "#9cc3e4"
UNHEARD = "#7a5230"  # of speakers that training does not hear
STYLE: dict[str, Any] = {"font.family": "DejaVu Sans", "axes.titleweight": "bold", "axes.titlelocation": "left"}
STYLE |= {"axes.titlesize": 11, "legend.fontsize": 9}
# Beside the title, where no curve is.
LEGEND: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.2}


def draw_plot(history: RunHistory, target: Path, *, total_steps: int = 0, clip_norm: float = 0.0) -> None:
    """Draw the run to the PNG `target` (1800 × 1500 pixels, with samples × 1875), atomically."""
    from matplotlib import style
    from matplotlib.figure import Figure

    train, val, samples = history.train.table(), history.val.table(), history.samples.table()
    rows = 3 + bool(len(samples["step"]))
    with style.context(["seaborn-v0_8-whitegrid", STYLE]):
        figure = Figure(figsize=(12, 2.5 * rows + 2.5), dpi=150, layout="constrained")
        grid = figure.add_gridspec(rows, 2, height_ratios=(2.2, *[1] * (rows - 1)))
        top = figure.add_subplot(grid[0, :])
        places = [grid[row, column] for row in range(1, rows) for column in (0, 1)]
        rate, norm, throughput, parts, *heard = (figure.add_subplot(place, sharex=top) for place in places)
        if heard:
            _errors(heard[0], samples)
            heard[1].set(title="მსგავსება ხმასთან", ylabel="კოსინუსი")
            _curve(heard[1], samples, "similarity", smoothed=False, dots=60)
        _losses(top, train, val)
        _metric(rate, train, "lr", "სწავლის ტემპი (learning rate)", "ტემპი", smoothed=False)
        rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
        _metric(norm, train, "grad_norm", "გრადიენტის ნორმა", "ნორმა")
        norms = train["grad_norm"][np.isfinite(train["grad_norm"])]
        if clip_norm and len(norms) and np.percentile(norms, 99.5) >= 0.7 * clip_norm:
            norm.axhline(clip_norm, color=VAL, linewidth=1, linestyle=":", label=f"ზღვარი {clip_norm:g}")
            norm.set_ylim(top=max(norm.get_ylim()[1], 1.1 * clip_norm))
            norm.legend(**LEGEND)
        _metric(throughput, train, "audio_s_per_s", "გამტარობა", "აუდიოს წამი წამში")
        _parts(parts, train)
        for axes in (top, rate, norm, throughput, parts, *heard):
            axes.set_xlabel("ნაბიჯი")
            if history.restarts:
                label = f"გადატვირთვა ({len(history.restarts)})"
                span = axes.get_xaxis_transform()  # from the bottom to the top
                look: dict[str, Any] = {"colors": RESTART, "linestyles": "dashed", "linewidth": 1.2, "zorder": 1}
                axes.vlines(history.restarts, 0, 1, transform=span, label=label, **look)
        top.xaxis.set_major_formatter(lambda value, _: _thousands(value))
        if len(steps := np.concatenate([train["step"], val["step"]])):
            top.set_xlim(0, max(1.0, steps.max() * 1.02))
        if top.get_legend_handles_labels()[0]:
            top.legend(**LEGEND, ncols=5)
        step = _thousands(max(history.train.last, history.val.last, 0))
        of_all = f" / {_thousands(total_steps)}" if total_steps else ""
        title = f"XTTS-v2 ქართულად: წვრთნის მიმდინარეობა, ნაბიჯი {step}{of_all}"
        figure.suptitle(title, fontsize=14, fontweight="bold")
        with atomic_path(target) as temporary:
            figure.savefig(temporary, format="png")


def _thousands(value: float) -> str:
    """A whole number with narrow spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def _losses(axes: Axes, train: Table, val: Table) -> None:
    """Raw losses faintly, smoothed ones clearly, the best validation marked. Extreme values do not set the scale."""
    axes.set(title="დანაკარგი (loss)", ylabel="დანაკარგი")
    if np.isfinite(train["loss"]).any():
        axes.plot(train["step"], train["loss"], color=FAINT, linewidth=0.8, label="წვრთნა")
    _curve(axes, train, "loss", linewidth=2, label="წვრთნა, გასაშუალოებული")
    if _curve(axes, val, "loss", VAL, smoothed=False, dots=60, linewidth=1.6, label="შემოწმება (validation)"):
        at = np.nanargmin(val["loss"])
        step, loss = val["step"][at], val["loss"][at]
        star: dict[str, Any] = {"marker": "*", "markersize": 15, "markeredgecolor": "white", "linestyle": "none"}
        axes.plot([step], [loss], color=BEST, zorder=5, label=f"საუკეთესო: {loss:.4g}, ნაბიჯი {step:.0f}", **star)
    unseen: dict[str, Any] = {"linewidth": 1.2, "linestyle": "--", "label": "უცნობი ხმები"}
    _curve(axes, val, UNSEEN + "loss", UNHEARD, smoothed=False, dots=60, **unseen)
    values = np.concatenate([train["loss"], val["loss"], val[UNSEEN + "loss"]])
    if np.isfinite(values).sum() > 20:
        _scale(axes, values)


def _metric(axes: Axes, train: Table, name: str, title: str, label: str, smoothed: bool = True) -> None:
    """One training metric: smoothed, with the raw values faintly behind, or as it is."""
    axes.set(title=title, ylabel=label)
    if smoothed:
        axes.plot(train["step"], train[name], color=FAINT, linewidth=0.7)
    if _curve(axes, train, name, smoothed=smoothed) and smoothed:
        _scale(axes, np.append(train[name], 0.0))


def _parts(axes: Axes, train: Table) -> None:
    """The two parts of the loss: text and audio codes."""
    axes.set(title="დანაკარგის ნაწილები", ylabel="ნატი ტოკენზე")
    parts = (("loss_mel", TRAIN, "აუდიოკოდები"), ("loss_text", TEXT, "ტექსტი"))
    drawn = [_curve(axes, train, name, colour, label=label) for name, colour, label in parts]
    if any(drawn):
        axes.legend(**LEGEND, ncols=2)


def _errors(axes: Axes, samples: Table) -> None:
    """What is heard in samples: wrong letters and clips with a fault, in percent, and the recogniser's own errors."""
    axes.set(title="ნიმუშები", ylabel="%")
    percent = {name: 100 * column if name != "step" else column for name, column in samples.items()}
    own: dict[str, Any] = {"linewidth": 1, "linestyle": ":", "label": "ამომცნობის CER"}
    curves = (("cer", VAL, {"label": "CER"}), ("fault_rate", TEXT, {"label": "ხარვეზიანი"}))
    drawn = [_curve(axes, percent, name, c, smoothed=False, dots=60, **look) for name, c, look in curves]
    drawn.append(_curve(axes, percent, "recogniser_cer", UNHEARD, smoothed=False, dots=0, **own))
    if any(drawn):
        axes.set_ylim(bottom=0)
        axes.legend(**LEGEND, ncols=3)


def _curve(
    axes: Axes, table: Table, name: str, colour: str = TRAIN, *, smoothed: bool = True, dots: int = 12, **style: Any
) -> bool:
    """Draw one metric; False if it was not logged. Up to `dots` points are marked, for a line hides how few they are.

    Smoothed: medians first, so that single spikes do not bend the curve, then means. The windows shrink with the number
    of points: ten points are hardly smoothed at all.
    """
    known = np.isfinite(table[name])
    step, values = table["step"][known], table[name][known]
    if smoothed:
        few = 2 * (len(values) // 10) + 1
        values = smooth(rolling_median(values, min(9, few)), max(min(5, few), len(values) // 40))
    if len(values):
        marker = "o" if len(values) <= dots else None
        axes.plot(step, values, color=colour, marker=marker, markersize=3.5, **{"linewidth": 1.8, **style})
    return len(values) > 0


def _scale(axes: Axes, values: np.ndarray) -> None:
    """Fit the scale to all values but the highest 0.5 %."""
    low, high = np.nanpercentile(values, [0, 99.5])
    margin = 0.06 * (high - low) or 0.1
    axes.set_ylim(low - margin if low else 0.0, high + margin)
