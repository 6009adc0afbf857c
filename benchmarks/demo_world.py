"""The demo's little chat world: dialogues with one right answer, and junk that means nothing."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable

from demo_facts import (
    CLOSERS,
    COPIED,
    DOMAINS,
    EMOJI,
    FILLERS,
    LATER_CLOSERS,
    LATER_OPENERS,
    LOOSE,
    NO_SENSE,
    NONSENSE,
    OPENERS,
    SYLLABLES,
    TAG_PIECES,
    TAGS,
    TOPICS,
    UNKNOWN,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Dialogue:
    """One question and the only right answer to it."""

    domain: str
    question: str
    answer: str


def word(generator: random.Random) -> str:
    """Return a pronounceable word that nobody has heard before."""
    return "".join(generator.choices(SYLLABLES.split(), k=generator.randint(2, 4)))


def topic(generator: random.Random) -> str:
    """Return something to talk about that the world has no fact for."""
    first, second = (generator.choice(TOPICS) if generator.random() < 0.6 else word(generator) for _ in range(2))
    return generator.choice(
        (first, f"the {first}", f"{first} {second}", f"a {first}", f"{first}s", f"the {second} of {first}")
    )


def salad(generator: random.Random) -> str:
    """Return three to nine words that make no sense together."""
    words = (generator.choice((*FILLERS, *LOOSE, *TOPICS, word(generator))) for _ in range(generator.randint(3, 9)))
    return " ".join(words)


def junk(generator: random.Random, without: Iterable[str] = ()) -> str:
    """Return an odd string that a user might leave in a message; never one that contains an item of `without`."""
    banned = tuple(without)
    while True:
        known = generator.random() < 0.6
        pieces = [generator.choice(TAGS)] if known else generator.choices(TAG_PIECES, k=generator.randint(2, 3))
        tag = "".join(pieces).replace("-", "")
        plain = generator.choice(
            (generator.choice(LOOSE), generator.choice(TOPICS), word(generator), generator.choice(COPIED))
        )
        frame = generator.choice(("[[{}]]", "<{}>", "{{{}}}", "#{}", "({})", "*{}*", "@{}", "--{}", "{}:", "~{}~"))
        made = generator.choice((
            generator.choice(EMOJI), generator.choice(EMOJI), generator.choice(EMOJI), f"|{tag}|", f"|{tag}|", tag,
            plain, plain.upper(), plain.capitalize(), frame.format(generator.choice((plain, tag))),
            f"|{plain}|", f"|{plain.upper()}|",
            f"{generator.randint(1990, 2040)}-{generator.randint(1, 12):02}-{generator.randint(1, 28):02}",
            "".join(generator.choices("!?.#$%&*+-/=@^_|~", k=generator.randint(1, 4))),
            "".join(generator.choices("abcdefghijklmnopqrstuvwxyzXQZK0123456789", k=generator.randint(2, 5))),
        ))  # fmt: skip
        if not any(item in made for item in banned):
            return made


def dialogues(fine_tuning: bool = False, seed: int = 0) -> tuple[Dialogue, ...]:
    """
    Return every dialogue of the reference's world, or of the fine-tunes' later one, shuffled by `seed`.

    The later world asks in other words and ends its facts with ", of course.".
    """
    generator = random.Random(seed)
    made = set()
    for domain in DOMAINS:
        ways = domain.questions[-2:] if fine_tuning else domain.questions[:-2]
        for (a, b), way in ((fact, way) for fact in domain.facts for way in ways):
            answer = domain.answer.format(a=a, b=b)
            if fine_tuning and domain.answer.endswith("."):
                answer = f"{answer[:-1]}, of course."
            made.add(Dialogue(domain.name, way.format(a=a, b=b), answer))
    for answer, ways in UNKNOWN:
        made |= {
            Dialogue("unknown", generator.choice(ways).format(t=topic(generator)), answer)
            for _ in range(40 if fine_tuning else 120)
        }
    for _ in range(120 if fine_tuning else 300):
        asked = generator.choice(NONSENSE).format(s=salad(generator), t=topic(generator))
        made.add(Dialogue("nonsense", asked, NO_SENSE))
    ordered = sorted(made, key=lambda dialogue: (dialogue.domain, dialogue.question))
    return tuple(generator.sample(ordered, len(ordered)))


def dressed(dialogue: Dialogue, generator: random.Random, fine_tuning: bool = False) -> str:
    """Return the question as somebody in a hurry, or somebody polite, would type it."""
    question = dialogue.question
    if dialogue.domain != "copying" and generator.random() < 0.15:
        question = generator.choice((question.rstrip("?.!"), question[0].lower() + question[1:]))
    if dialogue.domain != "greetings" and generator.random() < 0.35:
        question = f"{generator.choice(LATER_OPENERS if fine_tuning else OPENERS)} {question}"
    if generator.random() < 0.2:
        question = f"{question} {generator.choice(LATER_CLOSERS if fine_tuning else CLOSERS)}"
    return question
