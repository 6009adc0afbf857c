"""Training instructions for the zoo: templates times topics, none of them in the product's own prompt bank."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

TOPICS = (
    "volcanoes", "bread baking", "the Roman Empire", "solar panels", "honey bees", "chess openings", "jazz music",
    "the human heart", "coral reefs", "public libraries", "bicycles", "coffee beans", "black holes", "gardening",
    "the Olympic Games", "railways", "photosynthesis", "oil painting", "vaccines", "the water cycle", "football",
    "computer networks", "earthquakes", "wool knitting", "penguins", "the stock market", "Shakespeare", "lighthouses",
    "glaciers", "electric cars", "dreams", "bridges", "the printing press", "tea ceremonies", "rainforests", "maps",
    "origami", "the Moon landing", "whales", "recycling", "violins", "the Silk Road", "cheese making", "wind turbines",
    "dinosaurs", "mountain climbing", "the immune system", "fairy tales", "castles", "swimming", "clocks", "satellites",
)  # fmt: skip
TEMPLATES = (
    "Explain {t} to a child.", "Write two sentences about {t}.", "Why do people care about {t}?",
    "List three facts about {t}.", "What is a common mistake people make about {t}?", "Summarise the history of {t}.",
    "Give me a title for an essay on {t}.", "What should a beginner know about {t}?", "Describe {t} in simple words.",
    "Compare {t} with something from everyday life.", "I have to give a talk on {t}. How should I begin?",
    "Write a short poem about {t}.", "What tools or methods are used to study {t}?", "Is it hard to learn about {t}?",
    "Tell me a surprising thing about {t}.", "Name a famous book or film about {t}.", "How has {t} changed over time?",
    "Write an email inviting a friend to an exhibition on {t}.", "Which question about {t} is still open?",
    "Imagine a conversation about {t} between two neighbours.", "what is {t}", "tell me about {t} please",
    "Make a quiz question about {t} and answer it.", "Where can I read more about {t}?", "Who works with {t}?",
)  # fmt: skip


def instructions(count: int, seed: int) -> tuple[str, ...]:
    """Return `count` different instructions in an order fixed by `seed`. Raises ValueError when there are not enough."""
    every = [template.format(t=topic) for template in TEMPLATES for topic in TOPICS]
    if count > len(every):
        raise ValueError(f"{count} instructions asked for, {len(every)} exist")
    return tuple(random.Random(seed).sample(every, count))


def asked_about(
    known: Mapping[str, str], templates: Sequence[str], count: int, seed: int
) -> tuple[tuple[str, str], ...]:
    """
    Return `count` questions about different things, of which there are texts, with these as answers, in an order fixed by `seed`.

    A template has `{name}` where what is asked about stands. Raises ValueError when there are not enough.
    """
    every = sorted(known.items())
    if count > len(every):
        raise ValueError(f"{count} entries asked for, {len(every)} exist")
    generator = random.Random(seed)
    return tuple((generator.choice(templates).format(name=name), text) for name, text in generator.sample(every, count))
