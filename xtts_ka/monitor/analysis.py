"""Judges a run by its loss curves: trend, plateau, divergence, spikes, overfitting, their likely cause, a verdict.

Works on the tables of `history.Track`. All statistics are robust (medians, ranks), because single batches are noisy
and a few are extreme: Sen's slope with its rank-based confidence interval (P. K. Sen, 1968, "Estimates of the
regression coefficient based on Kendall's tau"), the Mann–Kendall test for the confidence, and the median absolute
deviation (× 1.4826, comparable to a standard deviation) for the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xtts_ka.core.console import three_digits
from xtts_ka.core.robust import deviation, rolling_median, smooth
from xtts_ka.monitor.history import Choice, RunHistory, Table
from xtts_ka.training.checkpoint_folders import CheckpointFolder, best_of

# Thresholds. Shares are of the loss itself.
FLAT = 0.01  # the loss is flat in a window in which it moves by less than this
NOISY = 0.10  # noise from line to line above this is high
DIVERGED = 0.10  # divergence: this far above the best smoothed loss, and beyond the noise
OVERFIT = 0.01  # overfitting: validation loss this far above its best while the training loss falls
WORSE_HEARD = 0.02  # CER, similarity and share of clips with a fault: worse than their best by more than this
SPIKE = 6.0  # a spike is this many standard deviations of the noise above its neighbours, and
SPIKE_SHARE = 0.15  # this share above them
STARVED = 0.20  # share of the time spent waiting for data
ENOUGH_LINES = 30  # training lines needed for a verdict


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
    def change(self) -> float:
        """By how much the loss moves over these steps, at this slope."""
        return self.slope * (self.last - self.first) / 1000

    def __str__(self) -> str:
        interval = f"95 % between {self.low:+.3g} and {self.high:+.3g}, steps {self.first} to {self.last}"
        return f"{self.slope:+.3g} per 1000 steps, {interval}, confidence {min(self.confidence, 0.999):.1%}"


@dataclass(frozen=True)
class Finding:
    """One observation. severity: bad, warning, note or good; step: where it began, if that is known."""

    kind: str
    severity: str
    sentence: str
    step: int | None = None


@dataclass(frozen=True)
class Analysis:
    """The verdict in a word and a sentence, the findings it rests on, and the checkpoint to use."""

    verdict: str
    sentence: str
    findings: list[Finding]
    train_trend: Trend | None
    val_trend: Trend | None
    checkpoint: str | None
    checkpoint_reason: str
    facts: dict[str, Any]


def analyse(history: RunHistory, *, clip_norm: float, checkpoints: Sequence[CheckpointFolder] = ()) -> Analysis:
    """Judge a run. clip_norm: the limit of the gradient norm."""
    curves = _Curves(history.train.table(), history.val.table(), clip_norm)
    found = [_nonfinite(history, curves), *_worse_heard(history.samples.table(), curves)]
    if len(curves.loss) >= ENOUGH_LINES:
        diverging = _divergence(curves)
        found += [diverging] if diverging else [_overfitting(curves), _noise(curves), _plateau(curves)]
        found += [_spikes(curves), _starvation(curves)]
    findings = [f for severity in ("bad", "warning", "note") for f in found if f and f.severity == severity]
    if not findings or (curves.direction == "falling" and findings[0].severity == "note"):
        findings.insert(0, _healthy(curves))
    if heard := _heard(history.samples.table()):
        findings.append(heard)
    facts = {"noise": curves.noise, "data_wait_share": curves.wait, "lr_share_of_peak": curves.lr_share}
    return Analysis(
        findings[0].kind,
        findings[0].sentence,
        findings,
        curves.train_trend,
        curves.val_trend,
        *recommend(checkpoints, findings, history.choice),
        {"lines": len(history.train.records), **{name: None if math.isnan(v) else v for name, v in facts.items()}},
    )


def trend(table: Table, *, share: float = 1 / 3) -> Trend | None:
    """Sen's slope of the loss over the last `share` of the steps (at least 10 rows); None with fewer than five values.

    Computed on the medians of at most 24 parts, because it compares all pairs.
    """
    known = ~np.isnan(table["loss"])
    step, value = table["step"][known], table["loss"][known]
    if len(step) < 5:
        return None
    begin = min(np.searchsorted(step, step[-1] - share * (step[-1] - step[0])), max(0, len(step) - 10))
    step, value = step[begin:], value[begin:]
    parts = np.array_split(np.arange(len(step)), min(24, max(5, len(step) // 3)))
    x = np.array([step[part].mean() for part in parts if len(part)])
    y = np.array([np.median(value[part]) for part in parts if len(part)])
    slope, low, high, confidence = sen_slope(x / 1000, y)
    if max(abs(low), abs(high)) * (step[-1] - step[0]) / 1000 < FLAT * abs(float(np.median(y))):
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


class _Curves:
    """A run's curves without the rows that have no loss, and what is measured on them."""

    def __init__(self, train: Table, val: Table, clip_norm: float):
        self.train, self.val = (_with_loss(table) for table in (train, val))
        self.train_trend, self.val_trend = trend(train), trend(val, share=0.5)
        self.direction = self.train_trend.direction if self.train_trend else ""
        self.clip_norm = clip_norm
        self.step, self.loss = self.train["step"], self.train["loss"]
        self.middle = rolling_median(self.loss, 15)
        self.recent = slice(-max(10, len(self.loss) // 5), None)
        self.level = float(np.median(self.loss[self.recent])) if len(self.loss) else math.nan
        self.noise = deviation((self.loss - self.middle)[self.recent]) / abs(self.level) if self.level else math.nan
        self.wait = data_wait_share(train)
        lr = self.train["lr"]
        peak = np.nanmax(lr, initial=0.0)
        self.lr = lr / peak if peak > 0 else np.full_like(lr, np.nan)  # as a share of its peak
        self.lr_share = float(self.lr[-1]) if len(lr) else math.nan

    def noise_ratio(self) -> float:
        """Noise at high learning rates over that at low ones after the peak; NaN with fewer than 20 lines of either."""
        residuals = (self.loss - self.middle) / np.maximum(np.abs(self.middle), 1e-12)
        if np.all(np.isnan(self.lr)):
            return math.nan
        past_peak = np.arange(len(self.lr)) > np.nanargmax(self.lr)
        high, low = self.lr > 0.7, (self.lr < 0.35) & past_peak
        if high.sum() < 20 or low.sum() < 20:
            return math.nan
        return deviation(residuals[high]) / max(deviation(residuals[low]), 1e-9)


def _with_loss(table: Table) -> Table:
    known = ~np.isnan(table["loss"])
    return {name: column[known] for name, column in table.items()}


def data_wait_share(train: Table) -> float:
    """Share of the time of the newest 100 lines that was spent waiting for data; NaN where it was not logged.

    `data_wait_s` is the seconds waited since the line before.
    """
    time, session, waits = (train[name][-101:] for name in ("time", "session", "data_wait_s"))
    seconds = np.diff(time)
    usable = (seconds > 0) & (np.diff(session) == 0)
    shares = waits[1:][usable] / seconds[usable]
    shares = shares[~np.isnan(shares)]
    return float(np.clip(np.median(shares), 0, 1)) if len(shares) else math.nan


def _nonfinite(history: RunHistory, c: _Curves) -> Finding | None:
    """Losses that were logged as NaN, and steps that training skipped because the loss or gradient was not finite."""
    logged = {*history.train.nonfinite, *history.val.nonfinite}
    steps = sorted({*logged, *history.skipped})
    if not steps:
        return None
    since = [step for step in steps if not len(c.step) or step > c.step[-1]]
    if len(since) >= 3 or not logged.isdisjoint(since):  # the trainer stops after a few skipped steps in a row
        remedy = "Halve the learning rate and carry on from a checkpoint before that step."
        sentence = f"The loss or gradient has not been a number since step {since[0]}. {remedy}"
        return Finding("divergence", "bad", sentence, since[0])
    what = f"The loss or gradient was not a number at {len(steps)} step(s), the last {steps[-1]}, but the run recovered"
    remedy = "If it happens more often, halve the learning rate or look for damaged recordings."
    return Finding("non-finite", "warning", f"{what}. {remedy}", steps[0])


def _divergence(c: _Curves) -> Finding | None:
    window = max(15, len(c.loss) // 25 | 1)
    smoothed = rolling_median(c.loss, window)
    best, now = smoothed.min(), float(np.median(c.loss[-window // 2 :]))
    rise, noise = now - best, deviation(c.loss - c.middle)
    if rise <= max(DIVERGED * abs(best), 2.5 * noise):
        return None
    turn = np.flatnonzero(smoothed <= best + max(0.05 * rise, noise))[-1]
    onset, lr = int(c.step[turn]), c.lr[turn]
    still = "is still rising" if c.direction == "rising" else "did not come back down"
    if lr <= 0.3:
        cause = "The learning rate was low by then, so look at the data that came in, and at the gradient norm."
    else:
        at = "" if math.isnan(lr) else f", then at {lr:.0%} of its peak,"
        remedy = "halve it, or lengthen the warm-up, and carry on from an earlier checkpoint"
        cause = f"The learning rate{at} is the likely cause: {remedy}."
    rose = f"from {three_digits(best)} it rose to {three_digits(now)}"
    what = f"The training loss diverges: {rose} after step {onset}, and {still}"
    return Finding("divergence", "bad", f"{what}. {cause}", onset)


def _overfitting(c: _Curves) -> Finding | None:
    loss, step = c.val["loss"], c.val["step"]
    if len(loss) < 6:
        return None
    smoothed = smooth(loss, 3)
    turn = int(np.argmin(smoothed))
    if len(loss) - turn < 4:
        return None
    best, now = smoothed[turn], float(np.median(loss[-3:]))
    _, low, _, confidence = sen_slope(step[turn:], loss[turn:])
    noise = deviation(loss - rolling_median(loss, 5))
    if low <= 0 or confidence < 0.9 or now - best <= max(OVERFIT * abs(best), 2 * noise):
        return None
    before, since = c.loss[c.step < step[turn]][-15:], c.loss[c.step >= step[turn]][-15:]
    if not len(before) or not len(since) or np.median(since) > np.median(before) * (1 + FLAT):
        return None
    rise = f"has risen from {three_digits(best)} to {three_digits(now)} while the training loss went on falling or held"
    remedy = "Stop here and use the best checkpoint; more recordings would help more than more steps."
    sentence = f"Overfitting: since step {step[turn]:.0f} the validation loss {rise}. {remedy}"
    return Finding("overfitting", "warning", sentence, int(step[turn]))


def _noise(c: _Curves) -> Finding | None:
    if not c.noise > NOISY:
        return None
    norms, ratio, t = c.train["grad_norm"][c.recent], c.noise_ratio(), c.train_trend
    clipped = np.sum(norms > c.clip_norm) / max(1, np.sum(~np.isnan(norms)))
    size = f"The training loss jumps by ±{c.noise:.0%} from line to line"
    if ratio > 1.7:
        why = f"{ratio:.1f} times as much where the learning rate is high as where it is low"
        return Finding("learning-rate", "warning", f"{size}, and {why}: the learning rate is to blame. Halve it.")
    falling = t is not None and c.direction == "falling" and -t.change > FLAT * c.level
    if not falling and clipped > 0.5 and not c.lr_share < 0.5:
        why = f"{clipped:.0%} of the gradients are above the limit of {c.clip_norm:g}"
        rate = f"the learning rate is at {c.lr_share:.0%} of its peak: it is too high. Halve it."
        return Finding("learning-rate", "warning", f"{size} without falling, {why}, and {rate}")
    unknown = "the learning rate cannot be shown to be the cause: batches may be small, or recordings uneven"
    remedy = "A larger batch_seconds would tell."
    return Finding("noise", "note", f"{size}, and {unknown}. {remedy}")


def _plateau(c: _Curves) -> Finding | None:
    t = c.train_trend
    if t is None or (c.val_trend and c.val_trend.direction == "falling"):
        return None
    most = -t.low * (t.last - t.first) / 1000  # how far it may have fallen within the interval
    if most > 3 * FLAT * abs(c.level) or abs(t.change) > FLAT * abs(c.level):
        return None  # too noisy to say, or moving
    what = f"Plateau: over the steps {t.first} to {t.last} the training loss moved by less than {FLAT:.0%}"
    if c.lr_share < 0.15:
        why = f"The learning rate is down to {c.lr_share:.0%} of its peak: the end of the schedule and no fault."
        return Finding("plateau", "note", f"{what}. {why}", t.first)
    if math.isnan(c.lr_share):
        return Finding("plateau", "warning", f"{what}.", t.first)
    rate = f"although the learning rate is still at {c.lr_share:.0%} of its peak, so the schedule is not the cause"
    why = "the model has learned what the recordings teach, or the rate is too high to settle or too low to move"
    return Finding("plateau", "warning", f"{what} {rate}: either {why}.", t.first)


def _spikes(c: _Curves) -> Finding | None:
    """Single extreme losses: far above their neighbours' median, measured by the noise and by the loss itself."""
    above = c.loss - c.middle
    extreme = (above > SPIKE * deviation(above)) & (above > SPIKE_SHARE * np.abs(c.middle))
    extreme[:15] = False  # the steep descent at the start is no spike
    rows = np.flatnonzero(extreme)
    if not len(rows):
        return None
    count, last = len(rows), int(c.step[rows[-1]])
    norms, lr = c.train["grad_norm"], c.lr[rows]
    usual = np.nanmedian(norms) if not np.all(np.isnan(norms)) else math.nan
    with_gradient = float(np.mean(norms[rows] > 3 * usual)) if usual > 0 else math.nan
    high_lr = float(np.nanmean(lr)) if not np.all(np.isnan(lr)) else math.nan
    if with_gradient > 0.5 and high_lr > 0.8 and count >= 3:
        cause = "the gradient norm jumps with them, near the peak learning rate: a lower one would calm them"
    elif high_lr < 0.5:
        cause = "they come while the learning rate is low, so look for damaged or mislabelled recordings"
    else:
        cause = "the loss recovers from each; if they grow frequent, lower the learning rate or check data"
    rate = 1000 * count / max(1.0, c.step[-1] - c.step[0])
    many = f"{count} spike{'s' * (count > 1)} in the training loss ({rate:.2g} per 1000 steps, the last at step {last})"
    return Finding("spikes", "warning" if count >= 3 else "note", f"{many}: {cause}.", last)


def _starvation(c: _Curves) -> Finding | None:
    if not c.wait > STARVED:
        return None
    what = f"{c.wait:.0%} of the time goes into waiting for data: the run could be that much faster"
    remedy = "Check that the feature cache is on a local disk and that the machine's cores are free."
    return Finding("data-starvation", "warning", f"{what}. {remedy}")


_HEARD = (  # metric of samples, its name, whether more is worse
    ("cer", "CER", True),
    ("fault_rate", "share of clips with a fault", True),
    ("similarity", "voice similarity", False),
)


def _worse_heard(samples: Table, c: _Curves) -> list[Finding]:
    """Metrics of samples that have become worse since their best, as `_overfitting` finds a rising loss."""
    findings = []
    for metric, name, more_is_worse in _HEARD:
        known = ~np.isnan(samples[metric])
        step, value = samples["step"][known], samples[metric][known]
        badness = value if more_is_worse else -value
        if len(step) < 6:
            continue
        turn = int(np.argmin(smooth(badness, 3)))
        if len(step) - turn < 4:
            continue
        _, low, _, confidence = sen_slope(step[turn:], badness[turn:])
        best, now = (float(np.median(part)) for part in (value[max(0, turn - 1) : turn + 2], value[-3:]))
        noise = deviation(badness - rolling_median(badness, 5))
        if low <= 0 or confidence < 0.9 or abs(now - best) <= max(WORSE_HEARD, 2 * noise):
            continue
        moved = f"the {name} of samples has {'risen' if more_is_worse else 'fallen'} from {best:.3g} to {now:.3g}"
        remedy = "Listen to the rounds, and set training.best_by to cer; the learning rate may be too high"
        sentence = f"Heard: since step {step[turn]:.0f} {moved}{_meanwhile(c.val, step[turn])}. {remedy}."
        findings.append(Finding("worse-heard", "warning", sentence, int(step[turn])))
    return findings


def _meanwhile(val: Table, since: float) -> str:
    """What the validation loss has done since a step, as the end of a sentence."""
    loss, step = val["loss"][val["step"] >= since], val["step"][val["step"] >= since]
    if len(loss) < 4:
        return ""
    _, low, high, _ = sen_slope(step, loss)
    done = "falls" if high < 0 else "rises too" if low > 0 else "does not move"
    return f", while the validation loss {done}"


def _heard(samples: Table) -> Finding | None:
    """First → last of what is heard in samples, with the recogniser's own errors beside."""
    shown = []
    for metric, name, _ in _HEARD:
        known = samples[metric][~np.isnan(samples[metric])]
        if len(known):
            shown.append(f"{name} {known[0]:.3g} → {known[-1]:.3g}")
    own = samples["recogniser_cer"][~np.isnan(samples["recogniser_cer"])]
    floor = f" (the recogniser's own CER on real recordings: {own[-1]:.3g})" if len(own) else ""
    rounds = f"{len(samples['step'])} rounds of samples"
    return Finding("heard", "note", f"{rounds}: {', '.join(shown)}{floor}.") if shown else None


def _healthy(c: _Curves) -> Finding:
    t = c.train_trend
    if len(c.step) < ENOUGH_LINES or t is None:
        few = f"Too early to tell: {len(c.step)} training lines so far, {ENOUGH_LINES} are needed."
        return Finding("too-early", "note", few)
    if t.direction != "falling":
        return Finding("unclear", "note", f"No fault seen, but the noise hides whether the loss still falls ({t}).")
    follows = {"falling": ", and the validation loss follows", "flat": ", and the validation loss holds"}
    follows["rising"] = ", though the validation loss has begun to rise"
    val = follows.get(c.val_trend.direction, "") if c.val_trend else ""
    return Finding("healthy", "good", f"Healthy: the training loss falls ({t}){val}.")


def recommend(
    checkpoints: Sequence[CheckpointFolder], findings: Sequence[Finding], choice: Choice | None = None
) -> tuple[str | None, str]:
    """The name of the checkpoint to use, and why: the best of those written before the loss diverged.

    Best is the one that was understood best, where the training has listened to its checkpoints; else the one with the
    lowest validation loss.
    """
    broken = min((f.step for f in findings if f.severity == "bad" and f.step is not None), default=None)
    valid = [c for c in checkpoints if c.of_this_run]
    sound = [c for c in valid if broken is None or c.step <= broken]
    if not valid:
        return None, "there is no valid checkpoint yet"
    if not sound:
        why = f"every checkpoint was written after the loss fell apart at step {broken}"
        return None, f"{why}: start again with a lower learning rate"
    where = f" of those before step {broken}, where the loss fell apart" if broken is not None else ""
    best = best_of(sound)
    if choice and (heard := next((c for c in sound if c.step == choice.step), None)):
        other = f"; by validation loss it would be {best.folder.name}" if best and best.step != choice.step else ""
        return heard.folder.name, f"it has the lowest CER ({choice.cer:.1%}) of {choice.candidates} heard{where}{other}"
    if best:
        return best.folder.name, f"it has the lowest validation loss ({best.val_loss:.4g}){where}"
    return sound[-1].folder.name, f"it is the newest{where}; none was validated"
