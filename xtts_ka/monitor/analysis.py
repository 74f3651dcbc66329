"""What a run's curves say: trend, plateau, divergence, spikes, overfitting, what is to blame, and a verdict.

Works on the tables of `run_history.Track`. All statistics are robust ones (medians, ranks), because single
batches are noisy and a few of them are wild: Sen's slope with its rank-based confidence interval (P. K. Sen,
1968, "Estimates of the regression coefficient based on Kendall's tau"), the Mann–Kendall test for the
confidence, and the median absolute deviation (MAD, × 1.4826 to read as a standard deviation) for the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xtts_ka.core.robust import deviation, rolling_median, smooth
from xtts_ka.monitor.history import Table

# What counts as what. Shares are of the loss itself.
FLAT = 0.01  # a window in which the loss moves by less than this is flat
NOISY = 0.10  # line-to-line noise above this is high
DIVERGED = 0.10  # this far above the best smoothed loss (and beyond the noise) is divergence
OVERFIT = 0.01  # validation this far above its best, while training still falls
SPIKE = 6.0  # a spike is this many standard deviations of the noise above its neighbours, and
SPIKE_SHARE = 0.15  # this much above them
STARVED = 0.20  # share of the time spent waiting for data
ENOUGH_LINES = 30  # fewer training lines than this say nothing yet


@dataclass(frozen=True)
class Trend:
    """Change of the loss per 1000 steps with its 95 % interval, over the steps `first` to `last`.

    confidence: that the loss moves in the direction of the slope at all (Mann–Kendall, 0 to 1).
    direction: falling, rising, flat (it certainly moves less than 1 % in the window) or unclear.
    """

    slope: float
    low: float
    high: float
    confidence: float
    first: int
    last: int
    direction: str

    @property
    def window(self) -> float:
        """Thousands of steps that the trend covers."""
        return (self.last - self.first) / 1000


@dataclass(frozen=True)
class Finding:
    """One thing seen in the curves. severity: good, note, warning or bad; step: where it began, if it did."""

    kind: str
    severity: str
    sentence: str
    step: int | None = None


@dataclass(frozen=True)
class Analysis:
    """The verdict in a word and a sentence, the findings behind it, and the checkpoint to use."""

    verdict: str
    sentence: str
    findings: list[Finding]
    train_trend: Trend | None
    val_trend: Trend | None
    checkpoint: str | None
    checkpoint_reason: str
    facts: dict[str, Any] = field(default_factory=dict)


def analyse(
    train: Table,
    val: Table,
    *,
    clip_norm: float,
    checkpoints: list[dict] = (),
    nonfinite: list[int] = (),
    skipped: list[int] = (),
) -> Analysis:
    """Judge a run.

    train, val: tables of `Track`. clip_norm: gradient norm limit. checkpoints: dicts with name, step,
    val_loss, valid, best, last (as `run_status` lists them). nonfinite: steps whose logged loss was not a
    number. skipped: steps that training skipped because their loss or gradient was not.
    """
    train_trend, val_trend = trend(train), trend(val, share=0.5)
    curves = _Curves(train, val, clip_norm, train_trend, val_trend)
    findings = [_nonfinite(nonfinite, curves), _skipped(skipped, curves)]
    if len(train["step"]) >= ENOUGH_LINES:
        diverging = _divergence(curves)
        findings += [diverging] if diverging else [_overfitting(curves), _noise(curves), _plateau(curves)]
        findings += [_spikes(curves), _starvation(curves)]
    findings = sorted((f for f in findings if f), key=lambda f: ("bad", "warning", "note").index(f.severity))
    harmless = all(f.severity == "note" for f in findings)
    if not findings or (harmless and train_trend and train_trend.direction == "falling"):
        findings.insert(0, _healthy(curves))
    name, reason = recommend(checkpoints, findings)
    facts = {
        "lines": len(train["step"]),
        "noise": _or_none(curves.noise),
        "data_wait_share": _or_none(curves.wait),
        "lr_share_of_peak": _or_none(curves.lr_share),
    }
    first = findings[0]
    return Analysis(first.kind, first.sentence, findings, train_trend, val_trend, name, reason, facts)


# ── trend ───────────────────────────────────────────────────────────────────────────────────────────────────


def trend(table: Table, column: str = "loss", *, share: float = 1 / 3, parts: int = 24) -> Trend | None:
    """Sen's slope over the last `share` of the steps (at least 10 rows); None with fewer than five values."""
    known = ~np.isnan(table[column])
    step, value = table["step"][known], table[column][known]
    if len(step) < 5:
        return None
    begin = min(np.searchsorted(step, step[-1] - share * (step[-1] - step[0])), max(0, len(step) - 10))
    step, value = step[begin:], value[begin:]
    cuts = np.array_split(np.arange(len(step)), min(parts, max(5, len(step) // 3)))
    x = np.array([step[c].mean() for c in cuts if len(c)])
    y = np.array([np.median(value[c]) for c in cuts if len(c)])
    slope, low, high, confidence = sen_slope(x / 1000, y)
    window, level = (step[-1] - step[0]) / 1000, abs(float(np.median(y)))
    if max(abs(low), abs(high)) * window < FLAT * level:
        direction = "flat"
    else:
        direction = "falling" if high < 0 else "rising" if low > 0 else "unclear"
    return Trend(slope, low, high, confidence, int(step[0]), int(step[-1]), direction)


def sen_slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """(slope, its 95 % interval low, high, two-sided Mann–Kendall confidence) of y over increasing x."""
    n = len(x)
    i, j = np.triu_indices(n, 1)
    slopes = np.sort((y[j] - y[i]) / (x[j] - x[i]))
    spread = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    score = abs(float(np.sign(y[j] - y[i]).sum()))
    confidence = math.erf(max(0.0, score - 1) / spread / math.sqrt(2))
    reach = 1.96 * spread
    low = slopes[max(0, math.floor((len(slopes) - reach) / 2))]
    high = slopes[min(len(slopes) - 1, math.ceil((len(slopes) + reach) / 2))]
    return float(np.median(slopes)), float(low), float(high), confidence


# ── the measurements that the findings share ────────────────────────────────────────────────────────────────


class _Curves:
    """A run's curves without gaps, and what is measured on them once."""

    def __init__(self, train: Table, val: Table, clip_norm: float, train_trend: Trend | None, val_trend: Trend | None):
        known = ~np.isnan(train["loss"])
        self.train = {name: column[known] for name, column in train.items()}
        known = ~np.isnan(val["loss"])
        self.val = {name: column[known] for name, column in val.items()}
        self.clip_norm, self.train_trend, self.val_trend = clip_norm, train_trend, val_trend
        self.step, self.loss = self.train["step"], self.train["loss"]
        self.middle = rolling_median(self.loss, 15)
        self.recent = slice(-max(10, len(self.loss) // 5), None)
        exact = self.train["lines"][self.recent] == 1  # means of many lines hide the noise
        residuals = (self.loss - self.middle)[self.recent][exact]
        self.level = float(np.median(self.loss[self.recent])) if len(self.loss) else math.nan
        self.noise = deviation(residuals) / abs(self.level) if self.level else math.nan
        self.wait = data_wait_share(train)
        lr = self.train["lr"]
        peak = np.nanmax(lr) if len(lr) and not np.all(np.isnan(lr)) else math.nan
        self.lr = lr / peak if peak > 0 else np.full_like(lr, np.nan)  # as a share of its peak
        self.lr_share = float(self.lr[-1]) if len(lr) else math.nan

    def clipped_share(self) -> float:
        """Share of the recent lines whose gradient norm is above the limit."""
        norms = self.train["grad_norm"][self.recent]
        norms = norms[~np.isnan(norms)]
        return float((norms > self.clip_norm).mean()) if len(norms) else math.nan

    def noise_ratio(self) -> float:
        """Relative noise where the learning rate is high over that where it is low; NaN if it never was."""
        residuals = (self.loss - self.middle) / np.maximum(np.abs(self.middle), 1e-12)
        if np.all(np.isnan(self.lr)):
            return math.nan
        past_peak = np.arange(len(self.lr)) > np.nanargmax(self.lr)
        high, low = self.lr > 0.7, (self.lr < 0.35) & past_peak
        if high.sum() < 20 or low.sum() < 20:
            return math.nan
        return deviation(residuals[high]) / max(deviation(residuals[low]), 1e-9)


def data_wait_share(train: Table, lines: int = 100) -> float:
    """Share of the time of the newest lines that was spent waiting for data; NaN where it was not logged.

    `data_wait_s` is the seconds waited since the line before.
    """
    recent = slice(-lines - 1, None)
    seconds = np.diff(train["time"][recent])
    usable = (seconds > 0) & (np.diff(train["session"][recent]) == 0) & (train["lines"][recent][1:] == 1)
    shares = train["data_wait_s"][recent][1:][usable] / seconds[usable]
    shares = shares[~np.isnan(shares)]
    return float(np.clip(np.median(shares), 0, 1)) if len(shares) else math.nan


# ── findings ────────────────────────────────────────────────────────────────────────────────────────────────


def _nonfinite(steps: list[int], curves: _Curves) -> Finding | None:
    if not steps:
        return None
    last = steps[-1]
    if not len(curves.step) or last > curves.step[-1]:
        return Finding(
            "divergence",
            "bad",
            (
                f"The loss stopped being a number at step {last}. Halve the learning rate and carry on from a "
                "checkpoint before that step."
            ),
            steps[0],
        )
    many = f"{len(steps)} logged losses are" if len(steps) > 1 else "One logged loss is"
    return Finding(
        "non-finite",
        "warning",
        (
            f"{many} not a number (the last at step {last}), but the run recovered. If it happens again, halve "
            "the learning rate or look for damaged recordings."
        ),
        steps[0],
    )


def _skipped(steps: list[int], curves: _Curves) -> Finding | None:
    if not steps:
        return None
    last_line = curves.step[-1] if len(curves.step) else -1
    in_a_row = sum(step > last_line for step in steps)
    if in_a_row >= 3:  # and nothing finite since: the trainer stops the run soon
        return Finding(
            "divergence",
            "bad",
            (
                f"The newest {in_a_row} steps (to step {steps[-1]}) had a loss or gradient that is not a number. "
                "Halve the learning rate and carry on from an earlier checkpoint."
            ),
            steps[-in_a_row],
        )
    many = f"{len(steps)} steps were" if len(steps) > 1 else "One step was"
    return Finding(
        "non-finite",
        "warning",
        (
            f"{many} skipped (the last at step {steps[-1]}) because the loss or gradient was not a number, but "
            "the run recovered. If it happens more often, halve the learning rate or look for damaged recordings."
        ),
        steps[0],
    )


def _divergence(c: _Curves) -> Finding | None:
    window = max(15, len(c.loss) // 25 | 1)
    smoothed = rolling_median(c.loss, window)
    best, now = smoothed.min(), float(np.median(c.loss[-window // 2 :]))
    rise, noise = now - best, deviation(c.loss - c.middle)
    if rise <= max(DIVERGED * abs(best), 2.5 * noise):
        return None
    turn = np.flatnonzero(smoothed <= best + max(0.05 * rise, noise))[-1]
    onset, lr = int(c.step[turn]), c.lr[turn]
    rising = c.train_trend is not None and c.train_trend.direction == "rising"
    still = "is still rising" if rising else "did not come back down"
    blame = "The learning rate was low by then, so look at the data that came in, and at the gradient norm."
    if not lr <= 0.3:
        at = "" if math.isnan(lr) else f", then at {lr:.0%} of its peak,"
        blame = (
            f"The learning rate{at} is the likely cause: halve it, or lengthen the warm-up, and carry on "
            "from an earlier checkpoint."
        )
    return Finding(
        "divergence",
        "bad",
        (f"The training loss diverges: from {best:.3g} it rose to {now:.3g} after step {onset}, and {still}. {blame}"),
        onset,
    )


def _overfitting(c: _Curves) -> Finding | None:
    loss, step = c.val["loss"], c.val["step"]
    if len(loss) < 6:
        return None
    smoothed = smooth(loss, c.val["lines"], 3)
    turn = int(np.argmin(smoothed))
    if len(loss) - turn < 4:
        return None
    best, now = smoothed[turn], float(np.median(loss[-3:]))
    _, low, _, confidence = sen_slope(step[turn:], loss[turn:])
    noise = deviation(loss - rolling_median(loss, 5))
    if low <= 0 or confidence < 0.9 or now - best <= max(OVERFIT * abs(best), 2 * noise):
        return None
    before, since = c.loss[c.step < step[turn]][-15:], c.loss[c.step >= step[turn]]
    if not len(before) or not len(since) or np.median(since[-15:]) > np.median(before) * (1 + FLAT):
        return None
    return Finding(
        "overfitting",
        "warning",
        (
            f"Overfitting: since step {step[turn]:.0f} the validation loss has risen from {best:.3g} to "
            f"{now:.3g} while the training loss went on falling or held. Stop here and use the best checkpoint; "
            "more recordings would help more than more steps."
        ),
        int(step[turn]),
    )


def _noise(c: _Curves) -> Finding | None:
    if not c.noise > NOISY:
        return None
    clipped, ratio, t = c.clipped_share(), c.noise_ratio(), c.train_trend
    size = f"The training loss jumps by ±{c.noise:.0%} from line to line"
    if ratio > 1.7:
        return Finding(
            "learning-rate",
            "warning",
            (
                f"{size}, and {ratio:.1f} times as much where the learning rate is high as where it is low: the "
                "learning rate is to blame. Halve it."
            ),
        )
    falling = t is not None and t.direction == "falling" and -t.slope * t.window > FLAT * c.level
    if not falling and clipped > 0.5 and not c.lr_share < 0.5:
        return Finding(
            "learning-rate",
            "warning",
            (
                f"{size} without falling, {clipped:.0%} of the gradients are above the limit of {c.clip_norm:g}, "
                f"and the learning rate is at {c.lr_share:.0%} of its peak: it is too high. Halve it."
            ),
        )
    return Finding(
        "noise",
        "note",
        (
            f"{size}, and the learning rate cannot be shown to be the cause: batches may be small, or recordings "
            "uneven. A larger batch_size (or training.accumulation) would tell."
        ),
    )


def _plateau(c: _Curves) -> Finding | None:
    t = c.train_trend
    if t is None:
        return None
    if -t.low * t.window > 3 * FLAT * abs(c.level) or abs(t.slope) * t.window > FLAT * abs(c.level):
        return None  # too noisy to say, or moving
    if c.val_trend and c.val_trend.direction == "falling":
        return None
    where = f"Plateau: over the steps {t.first} to {t.last} the training loss moved by less than {FLAT:.0%}"
    if c.lr_share < 0.15:
        return Finding(
            "plateau",
            "note",
            (
                f"{where}. The learning rate is down to {c.lr_share:.0%} of its peak, so this is the end of the "
                "schedule and no fault."
            ),
            t.first,
        )
    if math.isnan(c.lr_share):
        return Finding("plateau", "warning", f"{where}.", t.first)
    return Finding(
        "plateau",
        "warning",
        (
            f"{where} although the learning rate is still at {c.lr_share:.0%} of its peak, so the schedule is "
            "not the cause: either the model has learned what these recordings teach, or the learning rate is "
            "too high to settle or too low to move."
        ),
        t.first,
    )


def _spikes(c: _Curves) -> Finding | None:
    where = spikes(c.train)
    if not len(where):
        return None
    steps, count = c.train["high_step"][where].astype(int), len(where)
    norms, lr = c.train["grad_norm"], c.lr[where]
    usual = np.nanmedian(norms) if not np.all(np.isnan(norms)) else math.nan
    with_gradient = float(np.mean(norms[where] > 3 * usual)) if usual > 0 else math.nan
    high_lr = float(np.nanmean(lr)) if not np.all(np.isnan(lr)) else math.nan
    if with_gradient > 0.5 and high_lr > 0.8 and count >= 3:
        blame = "the gradient norm jumps with them, near the peak learning rate: a lower one would calm them"
    elif high_lr < 0.5:
        blame = "they come while the learning rate is low, so look for damaged or mislabelled recordings"
    else:
        blame = "the loss recovers from each; if they grow frequent, lower the learning rate or check data"
    rate = 1000 * count / max(1.0, c.step[-1] - c.step[0])
    return Finding(
        "spikes",
        "warning" if count >= 3 else "note",
        (
            f"{count} spike{'s' * (count > 1)} in the training loss ({rate:.2g} per 1000 steps, the last at step "
            f"{steps[-1]}): {blame}."
        ),
        int(steps[-1]),
    )


def spikes(train: Table) -> np.ndarray:
    """Rows of single wild losses: far above their neighbours' median, by the noise and by the loss itself."""
    high = train["high"]
    if len(high) < ENOUGH_LINES:
        return np.empty(0, int)
    middle = rolling_median(high, 15)
    above = high - middle
    wild = (above > SPIKE * deviation(above)) & (above > SPIKE_SHARE * np.abs(middle))
    wild[:15] = False  # the first steep descent is none
    return np.flatnonzero(wild)


def _starvation(c: _Curves) -> Finding | None:
    if not c.wait > STARVED:
        return None
    return Finding(
        "data-starvation",
        "warning",
        (
            f"{c.wait:.0%} of the time goes into waiting for data: the curve is not harmed, but the run could be "
            "that much faster. Check that the feature cache is on a local disk and that the machine's cores are "
            "free."
        ),
    )


def _healthy(c: _Curves) -> Finding:
    t = c.train_trend
    if len(c.step) < ENOUGH_LINES or t is None:
        return Finding(
            "too-early", "note", (f"Too early to tell: {len(c.step)} training lines so far, {ENOUGH_LINES} are needed.")
        )
    if t.direction != "falling":
        return Finding(
            "unclear", "note", (f"No fault seen, but the noise hides whether the loss still falls ({describe(t)}).")
        )
    follows = {
        "falling": ", and the validation loss follows",
        "rising": ", though the validation loss has begun to rise",
        "flat": ", and the validation loss holds",
    }
    val = follows.get(c.val_trend.direction, "") if c.val_trend else ""
    return Finding("healthy", "good", f"Healthy: the training loss falls ({describe(t)}){val}.")


def describe(t: Trend) -> str:
    """A trend in words and figures."""
    return (
        f"{t.slope:+.3g} per 1000 steps, 95 % between {t.low:+.3g} and {t.high:+.3g}, steps {t.first} to "
        f"{t.last}, confidence {min(t.confidence, 0.999):.1%}"
    )


# ── the checkpoint to use ───────────────────────────────────────────────────────────────────────────────────


def recommend(checkpoints: list[dict], findings: list[Finding]) -> tuple[str | None, str]:
    """The name of the checkpoint to use, and why: the best of those written before the run fell apart."""
    broken = min((f.step for f in findings if f.severity == "bad" and f.step is not None), default=None)
    valid = [c for c in checkpoints if c["valid"] and c.get("of_this_run", True)]
    if not valid:
        return None, "there is no valid checkpoint yet"
    sound = [c for c in valid if broken is None or c["step"] <= broken]
    if not sound:
        return None, (
            f"every checkpoint was written after the loss fell apart at step {broken}: start again "
            "with a lower learning rate"
        )
    scored = [c for c in sound if c["val_loss"] is not None]
    where = f" of those before step {broken}, where the loss fell apart" if broken is not None else ""
    if scored:
        best = min(scored, key=lambda c: (c["val_loss"], c["step"]))
        return best["name"], f"it has the lowest validation loss ({best['val_loss']:.4g}){where}"
    return max(sound, key=lambda c: c["step"])["name"], f"it is the newest{where}; none was validated"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
