"""The evaluation: opens listeners and models, speaks, listens, measures, and hands the clips to the report."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import progress, warn
from xtts_ka.core.digests import file_digest, hash_listing, hash_to_unit, hash_value
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_path, read_json, sweep_partials
from xtts_ka.core.lock import RunLock
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.corpus import dnsmos
from xtts_ka.corpus.audio import AudioError, read_mono
from xtts_ka.corpus.decoder_warnings import named
from xtts_ka.corpus.drop_reasons import Drop
from xtts_ka.corpus.excerpt import Recording
from xtts_ka.corpus.tables import Clip, read_split, split_csv
from xtts_ka.evaluation.clip_store import ClipStore, hear_all
from xtts_ka.evaluation.figures import Measured
from xtts_ka.evaluation.measuring import measure_clip
from xtts_ka.evaluation.speak_all import Task, speak_all
from xtts_ka.evaluation.speaker_similarity import VoiceJudge
from xtts_ka.evaluation.subjects import Subject, check_voices, free, most_recorded, open_checkpoint, open_folder
from xtts_ka.evaluation.texts import TEST, Text, read_texts, split_texts
from xtts_ka.georgian.reading import Reading
from xtts_ka.model.coqui_georgian import FACTS_FILE
from xtts_ka.recognition.listener import Listener, open_listener
from xtts_ka.recognition.recogniser import Recogniser
from xtts_ka.recognition.symbols import spoken_letters
from xtts_ka.speech.guard import ATTEMPTS, Guard, open_guard, open_sound
from xtts_ka.speech.lengths import USUAL_RATE, letter_rates, longest

# (texts of each kind, voices, test recordings, recordings for the voices' covariance): about what takes a minute or two
USUAL = {"cpu": (1, 2, 30, 60), "cuda": (20, 3, 300, 600)}


@dataclass
class Request:
    """What to evaluate; None and empty lists stand for the usual.

    models, checkpoints: folders. texts: files of one text a line. asr: as `open_listener`; empty for the project's own
    recogniser. attempts: of the guard at each text at most; 0: no guard. sentences: texts of each kind at most; voices:
    of the most recorded speakers, where none is named. rate_sound: by DNSMOS too, if it is installed, a second a clip.
    """

    output: Path
    kept_sets: Sequence[Path]
    models: Sequence[Path] = ()
    checkpoints: Sequence[Path] = ()
    texts: Sequence[Path] = ()
    speakers: Sequence[str] = ()
    voices: int | None = None
    rate_sound: bool = True
    references: Sequence[Path] = ()
    asr: Sequence[str] = ()
    seeds: int = 1
    attempts: int = ATTEMPTS
    sentences: int | None = None


@dataclass
class Outcome:
    """All that was measured. stand_ins: what the model was trained on, where that was not the user's own."""

    clips: list[Measured]
    floor: list[Measured]
    listeners: list[Listener]
    labels: list[str]
    voices: int
    notes: list[str] = field(default_factory=list)


def evaluate(config: PretrainConfig, request: Request) -> Outcome:
    """Run it. UserError for what cannot be evaluated, before anything is spoken; finished clips are always kept."""
    device = choose_device(config.device)
    sentences, some_voices, recordings, covariance = USUAL["cpu" if device == "cpu" else "cuda"]
    reading = Reading.of(config.text)
    train, test = _tables(config, request)
    usual = sys.maxsize if request.texts else sentences  # of a user's own texts all are spoken
    texts = _texts(request, test, reading, request.sentences or usual)
    _check_references(request.references)
    request.output.mkdir(parents=True, exist_ok=True)
    with RunLock(request.output / "evaluation.lock").hold():
        for folder in (request.output, request.output / "clips", request.output / "embeddings"):
            sweep_partials(folder)
        run = _Evaluation(config, request, device, train)
        voices = run.choose_voices(request.voices or some_voices)
        run.open_listeners()
        run.open_guard()
        run.open_first(voices)
        run.floor(sorted(test, key=_by_hash)[:recordings], reading, covariance)
        run.speak([Task(v, text, config.seed + i) for text in texts for v in voices for i in range(request.seeds)])
    return run.outcome


def _by_hash(clip: Clip) -> float:
    return hash_to_unit(clip.file_id)


def _tables(config: PretrainConfig, request: Request) -> tuple[list[Clip], list[Clip]]:
    """Clips of train (for voices and their rates; none without tables) and of test."""
    data = config.data_dir
    train = read_split(data, "train") if split_csv(data, "train").is_file() else []
    test = read_split(data, "test") if split_csv(data, "test").is_file() else []
    if not test and not request.texts:
        raise UserError(
            f"{split_csv(data, 'test')} has no sentences to speak: make a test split with "
            f"python create_metadata_files.py --source FOLDER --output_dir {data}, or give --texts FILE"
        )
    return train, test


def _texts(request: Request, test: Sequence[Clip], reading: Reading, most: int) -> list[Text]:
    texts = [] if request.texts else split_texts(test, reading, most)
    for path in request.texts or request.kept_sets:
        texts += read_texts(path, reading, most)
    return texts


def _check_references(wavs: Sequence[Path]) -> None:
    for wav in wavs:
        named(read_mono, wav, 1.0)
    names = [wav.stem for wav in wavs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two --reference recordings are named {twice}: their names name the voices, so rename one")


class _Evaluation:
    """One run: what is loaded, and what was measured so far."""

    def __init__(self, config: PretrainConfig, request: Request, device: str, train: Sequence[Clip]):
        self.config, self.request, self.device, self.train = config, request, device, train
        self.rates = letter_rates(train)
        self.store = ClipStore(request.output / "clips")
        self.guard: Guard | None = None
        self.outcome = Outcome([], [], [], [], 0)
        self.models = list(request.models)
        if not self.models and not request.checkpoints:
            self.models = [Path(config.output_model_path)]

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def choose_voices(self, some: int) -> list[str]:
        """The names of the voices that will speak: those given, or the known speakers with the most recordings."""
        given = [*self.request.speakers, *(wav.stem for wav in self.request.references)]
        if given:
            return list(dict.fromkeys(given))
        return most_recorded(self.train, some)

    def open_listeners(self) -> None:
        if not self.request.asr:
            from xtts_ka.recognition.train_recogniser import ensure_recogniser

            self.outcome.listeners = [ensure_recogniser(self.config)]
            return
        for spec in self.request.asr:
            self.outcome.listeners.append(open_listener(spec, folder="", device=self.device))
        names = [listener.name for listener in self.outcome.listeners]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"--asr is given twice with {twice}: give each once")

    def open_guard(self) -> None:
        """The guard of synthesis, with the project's recogniser where there is one."""
        mine = next((each for each in self.outcome.listeners if isinstance(each, Recogniser)), None)
        if not self.request.attempts:
            self.guard = None
        elif mine:
            folders = [*self.models, Path(self.config.output_model_path), Path(self.config.base_model_path)]
            self.guard = Guard(mine, open_sound(folders, self.device), self.request.attempts)
        else:
            self.guard = open_guard(Path(self.config.output_model_path), self.device, self.request.attempts)

    def open_first(self, voices: list[str]) -> None:
        """Open the first model, which also knows the voices, and check them."""
        self.subject = self._open(0, voices)
        if not voices:
            voices += list(self.subject.voices)[:1]
        check_voices(voices, self.subject.voices, Path(self.config.output_model_path))
        self.outcome.voices = len(self.subject.voices)

    def _open(self, number: int, voices: Collection[str]) -> Subject:
        if number < len(self.models):
            subject = open_folder(self.models[number], self.device)
            self._note_stand_ins(self.models[number])
        else:
            folder = self.request.checkpoints[number - len(self.models)]
            subject = open_checkpoint(self.config, folder, self.device, self.train, voices)
        subject.add_references(self.request.references)
        if subject.label in self.outcome.labels:
            subject.label = f"{subject.label} ({number + 1})"
        self.outcome.labels.append(subject.label)
        return subject

    def _note_stand_ins(self, folder: Path) -> None:
        trained_on = read_json(folder / FACTS_FILE).get("trained_on")
        if isinstance(trained_on, list) and trained_on:
            made = ", ".join(map(str, trained_on))
            sound = "An untrained base babbles" if "untrained" in made else "It speaks in a robot's voice"
            figures = "these figures show the evaluation at work, and no usable voice"
            note = f"STARTER: {folder.name} was trained on {made}. {sound}: {figures}"
            self.outcome.notes.append(note)
            warn(note)

    # ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────

    def floor(self, test: Sequence[Clip], reading: Reading, covariance: int) -> None:
        """Measure real recordings as the model's clips are measured."""
        heard = _spread(self.train, self.subject.voices, covariance)
        embeddings = [self._embedding(_digest(clip), clip.sound) for clip in self._bar(heard, "voices")]
        voices = {name: voice["speaker_embedding"].numpy().ravel() for name, voice in self.subject.voices.items()}
        self.judge = VoiceJudge(voices, np.array(embeddings).reshape(-1, 512), [clip.speaker_id for clip in heard])
        keys = [_digest(clip) for clip in test]
        said = self._hear(list(zip(keys, [clip.sound for clip in test])))
        for clip, key in zip(self._bar(test, "recordings"), keys, strict=True):
            expected = spoken_letters(clip.text, reading)
            if not expected:
                continue
            wave, rate = named(read_mono, clip.sound)
            known = clip.speaker_known and clip.speaker_id in voices
            voice = clip.speaker_id if known else ""
            usual = self.rates.get(clip.speaker_id, USUAL_RATE)
            text = Text(TEST, clip.text, reading(clip.text), expected)
            heard_here = {name: texts[key] for name, texts in said.items()}
            stopped = len(wave) / rate <= longest(text.reading, usual)
            self.outcome.floor.append(
                self._measured("", voice, text, None, key, heard_here, wave, rate, clip.sound, stopped)
            )

    def speak(self, tasks: Sequence[Task]) -> None:
        """Speak and measure all tasks with every model."""
        voices = list(dict.fromkeys(task.voice for task in tasks))
        for number in range(len(self.models) + len(self.request.checkpoints)):
            if number:
                free(self.subject)
                self.subject = self._open(number, voices)
                check_voices(voices, self.subject.voices, Path(self.subject.label))
            keys = speak_all(self.subject, tasks, self.rates, self.store, self.device, self.guard)
            said = self._hear([(key, self.store.folder / f"{key}.wav") for key in keys])
            for task, key in zip(self._bar(tasks, "measuring"), keys, strict=True):
                kept = self.store.get(key)
                assert kept
                heard = {name: texts[key] for name, texts in said.items()}
                wave, rate = kept.read()
                label = self.subject.label
                self.outcome.clips.append(
                    self._measured(
                        label, task.voice, task.text, task.seed, key, heard, wave, rate, kept.wav, kept.stopped,
                        codes=kept.codes, seconds_taken=kept.seconds_taken, guard=kept.guard,
                    )
                )  # fmt: skip

    def _hear(self, clips: Sequence[tuple[str, Recording]]) -> Mapping[str, Mapping[str, str]]:
        """listener's name → clip's key → what it heard."""
        heard = {}
        for number, listener in enumerate(self.outcome.listeners):
            spec = Path(self.request.asr[number]) if self.request.asr else Path()
            version = hash_listing(spec.rglob("*"), spec)[:12] if self.request.asr and spec.is_dir() else ""
            heard[listener.name] = hear_all(listener, clips, self.request.output / "heard.jsonl", version)
        return heard

    def _measured(
        self, model: str, voice: str, text: Text, seed: int | None, key: str, heard: dict[str, str],
        wave: np.ndarray, rate: int, wav: Recording, stopped: bool, *, codes: int | None = None,
        seconds_taken: float | None = None, guard: dict[str, Any] | None = None,
    ) -> Measured:  # fmt: skip
        return measure_clip(
            wave, rate, text, heard, self.judge, self._embedding(key, wav) if voice else None, voice=voice,
            stopped=stopped, key=key, model=model, seed=seed, codes=codes, seconds_taken=seconds_taken,
            dnsmos=dnsmos.overall(wave, rate) if self.request.rate_sound else None, guard=guard,
        )  # fmt: skip

    def _embedding(self, key: str, wav: Recording) -> np.ndarray:
        """The speaker embedding of a clip, computed once for each model and kept."""
        kept = self.request.output / "embeddings" / f"{hash_value([self.subject.key, key])[:24]}.npy"
        if not kept.is_file():
            with atomic_path(kept) as temporary, open(temporary, "wb") as file:
                np.save(file, self.subject.embedding(wav))
        return np.load(kept)

    def _bar(self, items: Sequence, what: str) -> Sequence:
        return progress(items, what=what, unit="clip")


def _digest(clip: Clip) -> str:
    """A recording's content, shortened. AudioError where it is missing."""
    if not clip.audio_path.is_file():
        raise AudioError(clip.audio_path, Drop.MISSING_AUDIO, "the file does not exist: restore it or delete its row")
    digest = file_digest(clip.audio_path)[:24]
    return hash_value([digest, clip.cut])[:24] if clip.cut else digest


def _spread(clips: Sequence[Clip], voices: Collection[str], most: int) -> list[Clip]:
    """`most` clips of these voices, evenly: every voice's first by hash before any voice's second."""
    turn: dict[str, int] = {}
    ranked = []
    for clip in sorted(clips, key=_by_hash):
        if clip.speaker_known and clip.speaker_id in voices:
            turn[clip.speaker_id] = turn.get(clip.speaker_id, 0) + 1
            ranked.append((turn[clip.speaker_id], clip))
    return [clip for _, clip in sorted(ranked, key=lambda pair: pair[0])][:most]
