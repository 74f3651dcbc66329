"""From hours-long recordings to a folder of clips in coqui's layout: the work of prepare_recordings.py.

Every recording is listened to in stretches (where somebody speaks, how loud it is), then its transcript is fitted to
the pauses, then the clips are cut. Stretches and recordings are shared among processes; each leaves a file when it is
finished (corpus/preparation_store.py), so a killed run carries on with the next clip.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import duration, progress, say
from xtts_ka.core.digests import hash_file, hash_value
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.core.files import sweep_partials
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.core.lock import RunLock
from xtts_ka.core.workers import begin_worker, cores
from xtts_ka.corpus import audio, voice_activity
from xtts_ka.corpus.audio import AudioError, write_wav
from xtts_ka.corpus.cue_clips import plan_from_cues
from xtts_ka.corpus.decoder_warnings import decoder_warnings
from xtts_ka.corpus.long_recordings import LongRecording, find_recordings, share_of, subtitles_without_recording
from xtts_ka.corpus.media import GEORGIAN
from xtts_ka.corpus.options import MOST_CANCELLED
from xtts_ka.corpus.planned_clips import Limits, Plan, PlannedClip, RecordingProblem
from xtts_ka.corpus.preparation_report import say_results, write_results
from xtts_ka.corpus.preparation_store import PLANNING, WAVS, WORK, Outcome, Store
from xtts_ka.corpus.segmentation import Speech, speech_between_pauses
from xtts_ka.corpus.subtitles import SubtitleError, plain_text, read_cues
from xtts_ka.corpus.voice_activity import Activity
from xtts_ka.recognition.heard import Heard, hear, joined, sentences, spans_of, windows
from xtts_ka.recognition.long_alignment import Book, plan_from_text
from xtts_ka.recognition.preparation_hearing import Asr, checked, own, plan_from_hearing, transcribe

STRETCH = 1800.0  # seconds of a recording that one process listens to: whole chunks and frames of voice_activity.py


@dataclass(frozen=True)
class Request:
    """What the user asked for. shard: (i, n) from 1; processes: None for the cores."""

    source: Path
    output: Path
    settings: Callable[[], PretrainConfig]  # reads the config whose recogniser is taken where one is needed
    transcript: Path | None = None
    speaker: str = ""
    limits: Limits = field(default_factory=Limits)
    processes: int | None = None
    shard: tuple[int, int] = (1, 1)
    asr: str | None = (
        None  # None: only texts without times are listened for; OWN: the project's recogniser, to check all
    )


def prepare(request: Request) -> list[Outcome]:
    """Prepare the recordings of this shard, then write the tables and the report over all that are finished.

    UserError where none of the recordings has a transcript, or the output folder is in use or inside the source.
    """
    recordings = _recordings(request)
    mine = share_of(recordings, request.shard)
    number, count = request.shard
    lock = request.output / WORK / (f"lock-{number}-of-{count}" if count > 1 else "lock")
    with RunLock(lock).hold():
        sweep_partials(request.output / WAVS)
        asr = _asr(request, recordings)
        jobs = [_job(request, recording, asr, recordings) for recording in mine]
        finished = {job.recording.key: outcome for job in jobs if (outcome := job.store.done())}
        for outcome in finished.values():
            _tell(outcome, verbose=True)
        if finished:
            say(f"{len(finished):,} of {len(jobs):,} recordings are finished already")
        waiting = [job for job in jobs if job.recording.key not in finished]
        if outdated := sum(job.store.outdated for job in waiting):
            say(f"{outdated:,} recordings were prepared by an earlier version: their clips are made anew")
        _work_off(waiting, request.processes or cores())
        stores = (_job(request, recording, asr, recordings).store for recording in recordings)
        with FileLock(request.output / WORK / "tables.lock"):  # the last shard to write has seen what all have finished
            outcomes = [outcome for store in stores if (outcome := store.done())]
            write_results(request.output, outcomes, len(recordings))
        say_results(request.output, outcomes, len(recordings))
        return outcomes


def _recordings(request: Request) -> list[LongRecording]:
    found = find_recordings(request.source, request.transcript)
    output, source = os.path.realpath(request.output), os.path.realpath(request.source)
    if output == source or (os.path.isdir(source) and output.startswith(source + os.sep)):
        raise UserError(f"--output_dir {request.output} is inside the source, which is only read: give another folder")
    with_text = [recording for recording in found if recording.transcript or request.asr is not None]
    if not with_text:
        raise UserError(
            f"none of the {len(found):,} recordings in {request.source} has a transcript: put one with its name "
            f"beside each (.srt, .vtt, .TextGrid, .eaf, .json or .txt; {found[0].name} has none), or give --transcript "
            "or --asr"
        )
    if len(with_text) < len(found):
        lacking = next(recording.name for recording in found if not recording.transcript)
        count = f"{len(found) - len(with_text):,} of {len(found):,}"
        say(f"without a transcript, and therefore left out: {count} recordings, such as {lacking}")
    if lonely := subtitles_without_recording(request.source, found) if request.source.is_dir() else []:
        say(f"no recording that can be read belongs to {len(lonely):,} subtitles, such as {lonely[0]}")
    if request.speaker:
        with_text = [replace(recording, speaker=request.speaker) for recording in with_text]
    return with_text


def _asr(request: Request, recordings: Sequence[LongRecording]) -> Asr | None:
    """Who listens, where somebody must. UserError where texts without times meet a listener that knows no times."""
    texts = [recording for recording in recordings if recording.transcript and not recording.has_times]
    if request.asr is None and not texts:
        return None
    asr = Asr.of(request.asr, request.settings)
    if texts and asr.folder is None:
        raise UserError(
            f"{texts[0].transcript} has no times, and --asr {request.asr} cannot tell when each letter is said: "
            "leave --asr out, or give the folder of a recogniser of this project"
        )
    return asr


def _job(request: Request, recording: LongRecording, asr: Asr | None, all_: Sequence[LongRecording]) -> _Job:
    """A recording with everything that its plan depends on."""
    mine = asr if _needs_asr(request, recording, asr) else None
    asked = {
        "limits": asdict(request.limits),
        "transcript": hash_file(recording.transcript) if recording.transcript else "",
        "speaker": recording.speaker,
        "asr": mine.fingerprint if mine else "",
    }
    shared = len(all_) > 1 and request.transcript is not None and request.transcript.is_file()
    return _Job(request.output, recording, asked, request.limits, mine, not shared)


def _needs_asr(request: Request, recording: LongRecording, asr: Asr | None) -> bool:
    """A listener that tells no times can only write down; one that does also checks texts with times, if asked to."""
    if recording.transcript is None or not recording.has_times:
        return True
    return request.asr is not None and asr is not None and asr.folder is not None


# ── one recording ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Job:
    output: Path
    recording: LongRecording
    asked: dict[str, Any]
    limits: Limits
    asr: Asr | None
    own_text: bool  # whether its transcript belongs to no other recording

    @property
    def store(self) -> Store:
        return Store(self.output, self.recording, self.asked)

    @property
    def steps(self) -> list[Callable[[_Job, int, int], Outcome | float]]:
        """What is done with each stretch, one step after the other, before the recording is finished."""
        return [_listen, _hear] if self.asr else [_listen]

    def activity(self, stretches: int) -> Activity:
        parts = (self.store.load_arrays("activity", number) for number in range(stretches))
        return voice_activity.joined(Activity(float(p["seconds"]), p["speech"], p["level"]) for p in parts)


def _stretches(job: _Job) -> tuple[list[float], float] | Outcome:
    """(where each stretch begins, the recording's seconds or 0 where its header does not tell).

    What can only be read from its beginning is one stretch.
    """
    job.store.open()
    try:
        seconds, anywhere = audio.length(job.recording.path)
    except AudioError as error:
        return _fail(job, f"{error.detail} ({error.reason})")
    if not seconds or not anywhere or seconds <= STRETCH:
        return [0.0], seconds or 0.0
    return [number * STRETCH for number in range(int(-(-seconds // STRETCH)))], seconds


def _fail(job: _Job, problem: str) -> Outcome:
    outcome = Outcome(job.recording.name, job.recording.key, 0.0, Plan(), problem)
    job.store.write_done(outcome)
    return outcome


def _listen(job: _Job, number: int, count: int) -> Outcome | float:
    """Listen to one stretch; its seconds, or the outcome where the recording cannot be used."""
    store = job.store
    if not store.has_array("activity", number):
        try:
            seconds = STRETCH if number + 1 < count else None
            with decoder_warnings() as complaints:
                found = voice_activity.listen(job.recording.path, number * STRETCH, seconds)
        except AudioError as error:
            return _fail(job, f"{error.detail} ({error.reason})")
        complaint = "" if number else " ".join(complaints[:1])  # in the middle of an mp3 it complains of good ones too
        facts = {"seconds": np.array(found.seconds), "complaint": np.array(complaint)}
        store.save_arrays("activity", number, speech=found.speech, level=found.level, **facts)
        return found.seconds
    return float(store.load_arrays("activity", number)["seconds"])


def _hear(job: _Job, number: int, count: int) -> Outcome | float:
    """The recogniser listens to the windows of one stretch; the seconds of these."""
    asr, store = job.asr, job.store
    assert asr
    activity = job.activity(count)
    speech = speech_between_pauses(activity)
    found = list(windows_of(job, speech, activity.seconds, number, count))
    spans = [span for _, span in found]
    try:
        if job.recording.transcript is None:
            pauses = [(one.end + other.start) / 2 for one, other in pairwise(speech)]
            with decoder_warnings():
                transcribe(job.recording.path, spans, pauses, asr, _written(job, number))
        elif not store.has_array(_heard(asr), number):
            assert asr.folder
            with decoder_warnings():
                heard = hear(job.recording.path, spans, own(asr.folder, asr.device))
            store.save_arrays(_heard(asr), number, log_probs=heard.log_probs, times=heard.times)
    except AudioError as error:
        return _fail(job, f"{error.detail} ({error.reason})")
    return sum(end - start for start, end in spans)


def windows_of(
    job: _Job, speech: Sequence[Speech], seconds: float, number: int, count: int
) -> Iterator[tuple[range, tuple[float, float]]]:
    """(pieces, span) of what is heard together, of those that begin in one of `count` stretches."""
    longest = job.limits.max_seconds
    runs = windows(speech, longest) if job.recording.transcript else sentences(speech, longest)
    for run, span in zip(runs, spans_of(runs, speech, seconds)):
        if min(count - 1, int(span[0] // STRETCH)) == number:
            yield run, span


def _written(job: _Job, number: int) -> Path:
    """Where is written what a listener hears in the windows of a stretch, which depend on the longest clip."""
    assert job.asr
    identity = hash_value([job.asr.fingerprint, PLANNING, job.limits.max_seconds])
    return job.store.folder / f"written_{identity[:16]}-{number:04d}.jsonl"


def _heard(asr: Asr) -> str:
    """The name of the arrays with what a recogniser hears between pauses."""
    return f"heard_{hash_value([asr.fingerprint, PLANNING])[:16]}"


def _finish(job: _Job, stretches: int) -> Outcome:
    """Plan the clips of a recording that was listened to, and cut those that are not there yet."""
    store = job.store
    try:
        outcome = store.plan()
        if outcome is None:
            outcome = _planned(job, stretches)
            store.write_plan(outcome)
        with decoder_warnings():
            _cut(job, outcome.plan.clips)
    except (RecordingProblem, SubtitleError) as error:
        return _fail(job, str(error))
    except AudioError as error:
        return _fail(job, f"{error.detail} ({error.reason})")
    store.write_done(outcome)
    return outcome


def _planned(job: _Job, stretches: int) -> Outcome:
    """The plan of a recording, with remarks on damage and on its sound tracks."""
    activity = job.activity(stretches)
    plan = _plan(job, activity, stretches)
    if complaint := str(job.store.load_arrays("activity", 0).get("complaint", "")):
        plan.remarks.append(f"a damaged mp3, of which what can be decoded is used ({complaint})")
    if len(tracks := audio.tracks(job.recording.path)) > 1:
        taken = "the one in Georgian" if set(tracks) & set(GEORGIAN) else "the first, for none says it is Georgian,"
        plan.remarks.append(f"of its sound tracks ({', '.join(tracks)}) {taken} is used")
    return Outcome(job.recording.name, job.recording.key, activity.seconds, plan)


def _plan(job: _Job, activity: Activity, stretches: int) -> Plan:
    recording, limits, asr = job.recording, job.limits, job.asr
    speech = speech_between_pauses(activity)
    if not speech:
        raise RecordingProblem(_why_silent(recording.path, activity.seconds))
    if recording.transcript is None:
        heard = [line for number in range(stretches) for line in read_jsonl(_written(job, number))]
        plan = plan_from_hearing(heard, sentences(speech, limits.max_seconds), speech, activity.seconds, limits)
    elif recording.has_times:
        plan = plan_from_cues(read_cues(recording.transcript), speech, activity.seconds, limits, unheard=not asr)
        if asr:
            plan = checked(plan, _all_heard(job, asr, stretches), asr, limits)
    else:
        assert asr
        book = _book(recording.transcript, asr)
        plan = plan_from_text(book, speech, _all_heard(job, asr, stretches), activity.seconds, limits, job.own_text)
    return replace(plan, clips=[replace(clip, speaker=_speaker(clip, recording)) for clip in plan.clips])


def _why_silent(path: Path, seconds: float) -> str:
    with decoder_warnings():
        cancelled = audio.measure(path, seconds + 1).cancelled
    if cancelled <= MOST_CANCELLED:
        return "nobody speaks in it"
    remedy = 'keep one channel, for example with `ffmpeg -i IN -af "pan=mono|c0=c0" OUT.flac`'
    return f"its channels cancel each other, their sum is {cancelled:.0f} dB weaker than each: {remedy}"


@functools.lru_cache(maxsize=1)
def _book(path: Path, asr: Asr) -> Book:
    return Book.read(plain_text(path), asr.reading)


def _all_heard(job: _Job, asr: Asr, stretches: int) -> Heard:
    parts = (job.store.load_arrays(_heard(asr), number) for number in range(stretches))
    return joined([Heard(part["log_probs"], part["times"]) for part in parts])


def _speaker(clip: PlannedClip, recording: LongRecording) -> str:
    """As the transcript says, told apart by the recording; else that of the recording."""
    if not clip.speaker:
        return recording.speaker
    return f"{recording.key}-{clip.speaker}"


def _cut(job: _Job, clips: Sequence[PlannedClip]) -> None:
    store = job.store
    missing = [clip for clip in clips if not store.wav(clip).is_file()]
    parts = audio.read_parts(job.recording.path, [(clip.start, clip.end) for clip in missing])
    for clip, (wave, rate) in zip(missing, parts, strict=True):
        write_wav(store.wav(clip), wave, rate)


# ── many recordings ──────────────────────────────────────────────────────────────────────────────────────────────────


def _work_off(jobs: Sequence[_Job], processes: int) -> None:
    """Listen to all recordings and finish each as soon as all of it was heard."""
    planned: list[tuple[_Job, int]] = []
    total = 0.0
    for job in jobs:
        found = _stretches(job)
        if isinstance(found, Outcome):
            _tell(found)
        else:
            planned.append((job, len(found[0])))
            total += found[1] * len(job.steps)
    if not planned:
        return
    tasks = sum(count for _, count in planned)
    began = time.monotonic()
    with progress(what="recordings", unit="second", total=round(total) or None) as bar:
        for outcome in _outcomes(planned, min(processes, tasks), lambda seconds: bar.update(round(seconds))):
            _tell(outcome)
    say(f"that took {duration(time.monotonic() - began)}", verbose=True)


def _outcomes(planned: Sequence[tuple[_Job, int]], processes: int, heard: Callable[[float], Any]) -> Iterator[Outcome]:
    if processes == 1:
        for job, count in planned:
            yield _alone(job, count, heard)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=begin_worker, initargs=(os.getpid(),))
    try:
        yield from _in_pool(pool, planned, heard)
    except BrokenProcessPool:
        remedy = "the machine may be out of memory: give fewer --processes, and run the same command to carry on"
        raise RunError(f"a process that prepares recordings was killed; {remedy}") from None
    finally:
        children = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:  # their writes are atomic
            child.terminate()
            child.join()


def _alone(job: _Job, count: int, heard: Callable[[float], Any]) -> Outcome:
    for step in job.steps:
        for number in range(count):
            found = step(job, number, count)
            if isinstance(found, Outcome):
                return found
            heard(found)
    return _finish(job, count)


def _in_pool(
    pool: ProcessPoolExecutor, planned: Sequence[tuple[_Job, int]], heard: Callable[[float], Any]
) -> Iterator[Outcome]:
    running: dict[Future, int] = {}
    missing = [0] * len(planned)  # stretches of the present step
    steps = [iter(job.steps) for job, _ in planned]
    ended: set[int] = set()  # a recording that is broken in two stretches ends once

    def next_step(place: int) -> None:
        job, count = planned[place]
        step = next(steps[place], None)
        if step is None:
            running[pool.submit(_finish, job, count)] = place
            return
        missing[place] = count
        for number in range(count):
            running[pool.submit(step, job, number, count)] = place

    for place in range(len(planned)):
        next_step(place)
    while running:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            place = running.pop(future)
            found = future.result()
            if isinstance(found, Outcome):
                if place not in ended:
                    ended.add(place)
                    yield found
                continue
            heard(found)
            missing[place] -= 1
            if not missing[place] and place not in ended:
                next_step(place)


def _tell(outcome: Outcome, verbose: bool = False) -> None:
    if outcome.problem:
        say(f"{outcome.name}: left out, {outcome.problem}", verbose=verbose)
        return
    seconds = sum(clip.end - clip.start for clip in outcome.plan.clips)
    remarks = "".join(f"; {remark}" for remark in outcome.plan.remarks)
    clips = f"{len(outcome.plan.clips):,} clips, {duration(seconds)} of {duration(outcome.seconds)}"
    say(f"{outcome.name}: {clips}; {len(outcome.plan.left):,} parts left out{remarks}", verbose=verbose)
