"""Requests answered together: a step is one packed forward pass over whatever the active ones wait for.

`submit` takes a request, `step` moves all active ones a little on, `cancel` ends one. A prefill chunk, a text token and a
block in flight are tokens of one sequence without padding; attention alone looks at the streams one by one, batched by
length (plait.infer.kv_cache). One request's failure ends that request.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plait.contract import WORDS, Block, Message, Part, Segment
from plait.data.features import FeatureReader
from plait.data.pack import Batch, collate
from plait.data.row import Element, Ids, RowBuilder
from plait.data.sequence import Encoder
from plait.errors import ConfigError, PlaitError
from plait.infer.decoder import Decoder, Feed, Step, count_tokens, to_parts
from plait.infer.events import Answer, Finished, Preview, Reason
from plait.infer.fused import FusedSteps, fits
from plait.infer.kv_cache import PAGE, Entry, KVCache, NewTokens, PackedView
from plait.infer.prefixes import Prefixes, identities_of, without
from plait.infer.request import Request
from plait.infer.sampling import chance, euler_step, guided, legal_logits, middle, sample_ids
from plait.infer.ticket import Flight, Piece, Stream, Ticket
from plait.model.multimodal import MultimodalTransformer
from plait.runtime.parallel import parallel_map

ACTIVE = 128  # requests at once
CACHE_TOKENS = 262_144  # that all streams may keep together
PREFILL = 512  # tokens of one stream's prompt a step: others need not wait for a long one
MARGIN = 16  # tokens that a stream's slot has beside the prompt and max_tokens
ROUND = 16  # packed tokens a step, beyond so many, are padded to a multiple: each number of rows costs its preparation


class Engine:
    """Answers requests with one model. Not thread-safe: one thread calls it.

    `active` bounds the requests that are answered at once, `cache_tokens` what their streams may keep; others wait.
    """

    def __init__(self, model: MultimodalTransformer, active: int = ACTIVE, cache_tokens: int = CACHE_TOKENS) -> None:
        self.model, self.most_active = model.eval(), active
        model.use_codecs()
        vocabulary = model.vocabulary
        readers = FeatureReader(vocabulary.modalities, vocabulary.readers, model.device) if vocabulary.readers else None
        self.encoder = Encoder(vocabulary, features=readers)
        self.cache = KVCache(model.trunk.config, model.dtype, model.device, max(1, cache_tokens // PAGE))
        self.waiting: deque[Ticket] = deque()
        self.active: list[Ticket] = []
        self.schedules: dict[tuple[str, int], list[float]] = {}  # times of Euler's steps by modality and number
        self._illegal_ids: dict[str | None, Tensor] = {}
        self.prefixes: Prefixes | None = None
        self.steps_taken = self.tokens_computed = 0

    # requests

    def keep_prefixes(self, tokens: int) -> None:
        """Keep what has ended, in up to `tokens` of the cache: a conversation's next turn then begins where the last one ended.
        Answers may differ in rounding from those without."""
        self.prefixes = Prefixes(self.cache, tokens)

    def submit(
        self, request: Request, stream: bool = False, previews: int = 0, longest: int | None = None, owner: str = ""
    ) -> Ticket:
        """Take a request. `stream`: its ticket gets events as words and blocks come; `previews` of each block in flight. More
        than `longest` tokens of what is asked are refused. It may begin with what is kept of the `owner`'s earlier ones."""
        ticket = Ticket(request, stream or previews > 0, previews, longest, owner)
        self.waiting.append(ticket)
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """End a request; its answer is what was whole by then."""
        if not ticket.done:
            self._finish(ticket, "cancelled")

    def fail(self, ticket: Ticket, error: Exception) -> None:
        """End a request with an error."""
        if not ticket.done:
            self._finish(ticket, "error", error)

    def generate(self, requests: Sequence[Request], decoded: bool = True, longest: int | None = None) -> list[Answer]:
        """Answers in the order of the requests; each depends on its own seed alone, not on its neighbours. A request that
        fails gets an answer with its error. Without `decoded` the messages are empty: only the segments are there."""
        tickets = [self.submit(request, longest=longest) for request in requests]
        while any(not ticket.done for ticket in tickets):
            self.step()
        answers = [ticket.answer for ticket in tickets if ticket.answer is not None]
        return parallel_map(self.with_parts, answers) if decoded else answers

    def prompt_length(self, request: Request) -> int:
        """Tokens of what a request asks, before its answer. Raises what reading its parts raises."""
        return self.asked_tokens(request).total()

    def asked_tokens(self, request: Request) -> Counter[str]:
        """`prompt_length` by modality."""
        return count_tokens(Decoder(self._asked(request), self.encoder).prompt(), self.model.vocabulary)

    def in_words(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Messages, in which a user's sounds are the words that they say where no word is written beside them.

        So long as no training has shown such turns, a pretrained language model answers these words as it answers them in
        writing (docs/adr/0030-sounds-without-words.md). A sound that says nothing, and a model without such a base, stay as
        they are.
        """
        if self.model.base is None:
            return messages
        return tuple(
            replace(message, parts=tuple(map(self._in_words, message.parts)))
            if message.role == "user" and all(part.type != WORDS for part in message.parts)
            else message
            for message in messages
        )

    def _in_words(self, part: Part) -> Part:
        reader = self.model.vocabulary.readers.get(part.type)
        if reader is None or not reader.letters or reader.name in self.model.shown_wordless:
            return part
        assert self.encoder.features is not None
        words = self.model.said(
            reader.name, torch.tensor(self.encoder.features(part, None))
        )  # a copy: stores are read-only
        return Part(WORDS, words) if words else part

    def _asked(self, request: Request) -> Request:
        return replace(request, messages=self.in_words(request.messages))

    @cached_property
    def fused(self) -> FusedSteps | None:
        """Steps of one token a stream in one call, where that is possible."""
        return FusedSteps(self.model, self.cache) if fits(self.model) else None

    @torch.inference_mode()
    def step(self) -> bool:
        """One packed forward pass; whether anything is left to do."""
        self._admit()
        if self.active:
            pieces, batch, tokens = self._packed()
            hidden = self._forward(batch, tokens, pieces)
            self.steps_taken += 1
            self.tokens_computed += sum(piece.count for piece in pieces)
            by_ticket: dict[int, list[Piece]] = {}
            for piece in pieces:
                by_ticket.setdefault(id(piece.ticket), []).append(piece)
            self._advance_flights(hidden, by_ticket)
            self._choose_ids()
        return bool(self.active or self.waiting)

    # the life of a request

    def _admit(self) -> None:
        """Begin waiting requests as long as there is room."""
        while self.waiting and len(self.active) < self.most_active:
            ticket = self.waiting[0]
            if ticket.done:
                self.waiting.popleft()
                continue
            if ticket.decoder is None and not self._begin(ticket):
                self.waiting.popleft()
                continue
            tokens = self._room(ticket)
            if (
                not self._fits(ticket, 2 * tokens if ticket.request.guides(self.model.flows) else tokens)
                and self.active
            ):
                return  # those before it will make room
            self.waiting.popleft()
            ticket.main = Stream(self.cache.take(tokens))
            self.active.append(ticket)
            self._wait_for_feed(ticket)
            self._reuse(ticket)

    def _fits(self, ticket: Ticket, tokens: int) -> bool:
        if self.prefixes is None or self.cache.fits(tokens):
            return self.cache.fits(tokens)
        assert isinstance(ticket.waits_for, Feed)
        return self.prefixes.make_room(tokens, ticket.waits_for.elements, ticket.owner)

    def _reuse(self, ticket: Ticket) -> None:
        """Begin a stream with what is kept of sequences that began as it does."""
        stream = ticket.main
        if self.prefixes is None or stream is None or not stream.waiting or ticket.decoder is None:
            return
        elements = list(stream.waiting)
        stream.blocks = self.prefixes.begin(stream.slot, elements, ticket.owner)  # every id is a block
        stream.fed = identities_of(elements)[: stream.blocks]
        stream.waiting = deque(without(elements, stream.slot.length))
        ticket.decoder.reused = stream.slot.length

    def _begin(self, ticket: Ticket) -> bool:
        """Read what is asked; whether that could be done."""
        try:
            self._check(ticket.request)
            asked = self._asked(ticket.request)
            emit = ticket.events.append if ticket.stream else None
            ticket.decoder = Decoder(asked, self.encoder, emit, ticket.longest)
            ticket.steps = ticket.decoder.run()
            ticket.waits_for = self._step_of(next(ticket.steps), ticket.request)
            self.cache.check(self._room(ticket))
        except StopIteration:
            self._finish(ticket)
        except Exception as error:
            self._finish(ticket, "error", error)
        return not ticket.done

    def _check(self, request: Request) -> None:
        """Raise ConfigError for a modality that the model can only write noise of."""
        if f"flows.{request.to}" in self.model.unlearned:
            able = [name for name in self.model.vocabulary.modalities if f"flows.{name}" not in self.model.unlearned]
            raise ConfigError(
                f"this model has not learned to write {request.to}; expected {', '.join(able)}, or a training whose "
                f"trainable weights hold flows.{request.to}.*"
            )

    @staticmethod
    def _room(ticket: Ticket) -> int:
        """Tokens of the slot that a ticket's stream begins with."""
        assert isinstance(ticket.waits_for, Feed)
        return sum(map(len, ticket.waits_for.elements)) + ticket.request.max_tokens + MARGIN

    def _step_of(self, step: Step, request: Request) -> Feed | Flight:
        if isinstance(step, Feed):
            return step
        return Flight(step, self._times(step.modality, request.steps_of(step.modality)), self.model.device)

    def _times(self, name: str, steps: int) -> list[float]:
        if (name, steps) not in self.schedules:
            self.schedules[name, steps] = self.model.flows[name].times(steps)  # type: ignore[operator]
        return self.schedules[name, steps]

    def _resume(self, ticket: Ticket, result: Any) -> None:
        """Continue a request with what it waited for."""
        assert ticket.steps is not None
        try:
            ticket.waits_for = self._step_of(ticket.steps.send(result), ticket.request)
            self._wait_for_feed(ticket)
        except StopIteration:
            self._finish(ticket)
        except Exception as error:
            self._finish(ticket, "error", error)

    def _wait_for_feed(self, ticket: Ticket) -> None:
        """Queue the elements of a Feed at the streams that they are for."""
        feed = ticket.waits_for
        if not isinstance(feed, Feed):
            return
        assert ticket.main is not None
        if feed.restart_null and ticket.null is not None:
            self.cache.give_back(ticket.null.slot)
            ticket.null = None
        if feed.null and ticket.null is None:
            ticket.null = Stream(self.cache.take(ticket.request.max_tokens + MARGIN))
        for stream, elements in ((ticket.main, feed.elements), (ticket.null, feed.null)):
            if stream is not None:
                stream.waiting = deque(elements)

    def _finish(self, ticket: Ticket, reason: Reason | None = None, error: Exception | None = None) -> None:
        """The request has its answer, and gives back what it held."""
        for stream in ticket.streams():
            if self.prefixes is not None and stream is ticket.main and error is None:
                self.prefixes.keep(stream.slot, stream.fed, ticket.owner)
            else:
                self.cache.give_back(stream.slot)
        ticket.main = ticket.null = ticket.waits_for = None
        if ticket in self.active:
            self.active.remove(ticket)
        decoder = ticket.decoder
        if decoder is None:
            ticket.answer = Answer(Message("assistant", ()), [], reason=reason or "stop", error=error)
        else:
            segments = [segment for segment in decoder.segments if segment.blocks]
            ended = reason or decoder.reason
            asked = decoder.request.messages
            ticket.answer = Answer(
                Message("assistant", ()),
                segments,
                decoder.layout,
                ended,
                decoder.usage,
                error,
                asked,
                tuple(decoder.choices),
                decoder.to_say,
            )
        if ticket.stream:
            ticket.answer = self.with_parts(ticket.answer)
            ticket.events.append(Finished(ticket.answer))

    def with_parts(self, answer: Answer) -> Answer:
        """The answer with its segments decoded."""
        parts = to_parts(answer.segments, self.encoder.vocabulary.modalities)
        return replace(answer, message=Message("assistant", parts))

    # a step

    def _packed(self) -> tuple[list[Piece], Batch, NewTokens]:
        """New tokens of all active requests, side by side in one sequence; and the block and the expert of each."""
        builder = RowBuilder()
        pieces: list[Piece] = []
        for ticket in self.active:
            for stream in ticket.streams():
                elements, keep = self._next_elements(ticket, stream)
                if not elements:
                    continue
                first = len(builder.ids)
                builder.next_block, builder.clean_length = stream.blocks, stream.slot.length
                for element in elements:
                    builder.add_clean(element)
                pieces.append(Piece(ticket, stream, first, len(builder.ids) - first, keep))
                if keep:
                    stream.blocks = builder.next_block
                if keep and self.prefixes is not None and stream is ticket.main:
                    stream.fed += identities_of(elements)
        row = builder.row()
        length = len(row) if len(row) <= ROUND else -(-len(row) // ROUND) * ROUND
        tokens = NewTokens(np.zeros(length, np.int64), np.zeros(length, np.int64))
        tokens.blocks[: len(row)], tokens.experts[: len(row)] = row.block, row.expert
        return pieces, collate([[row]], length, self.model.vocabulary).to(self.model.device), tokens

    @staticmethod
    def _next_elements(ticket: Ticket, stream: Stream) -> tuple[list[Element], bool]:
        """What a stream takes in this step, and whether it is kept: a block in flight, or up to PREFILL tokens."""
        if isinstance(ticket.waits_for, Flight):
            flight = ticket.waits_for
            is_main = stream is ticket.main
            return ([flight.element(bare=not is_main)] if is_main or flight.draw.guided else []), False
        elements: list[Element] = []
        room = PREFILL
        while stream.waiting and room > 0:
            element = stream.waiting.popleft()
            if isinstance(element, Ids) and len(element) > room:
                rest = Ids(element.ids[room:], element.learned, element.expert, element.origin)
                stream.waiting.appendleft(rest)
                element = Ids(element.ids[:room], element.learned, element.expert, element.origin)
            elements.append(element)
            room -= len(element)
        return elements, True

    def _forward(self, batch: Batch, tokens: NewTokens, pieces: Sequence[Piece]) -> Tensor:
        """[N, D] hidden states of the new tokens; those to keep are in the cache then."""
        entries = [Entry(piece.stream.slot, piece.first, piece.count) for piece in pieces]
        every = {
            self.model.vocabulary.experts[name]: often for name, often in self.model.trunk.config.split_every.items()
        }
        embedded = self.model.embed(batch)
        if self.fused is not None and self.fused.takes(tokens, entries):
            hidden = self.fused.run(embedded[0], batch.position[0], tokens, entries)[None]
        else:
            view = PackedView(self.cache, entries, tokens, every)
            hidden = self.model.trunk(embedded, batch.position, None, view.layers, self.model.routing(batch))
        for piece in pieces:
            if piece.keep:
                piece.stream.slot.keep(tokens.experts[piece.first : piece.first + piece.count])
                if piece.stream is piece.ticket.main and not piece.stream.waiting:
                    piece.ticket.hidden = hidden[0, piece.first + piece.count - 1]
        return hidden[0]

    def _choose_ids(self) -> None:
        """Send every request whose elements are all fed the id that it asked for."""
        fed = [
            ticket
            for ticket in list(self.active)
            if isinstance(ticket.waits_for, Feed) and not any(stream.waiting for stream in ticket.streams())
        ]
        asking: list[Ticket] = []
        legal: list[np.ndarray] = []
        for ticket in fed:
            assert isinstance(ticket.waits_for, Feed)
            if ticket.waits_for.legal is None:
                self._resume(ticket, None)
            else:
                asking.append(ticket)
                legal.append(ticket.waits_for.legal)
        if not asking:
            return
        hidden = torch.stack([ticket.hidden for ticket in asking if ticket.hidden is not None])
        logits = legal_logits(self.model, hidden, legal)
        for ticket, chosen in zip(asking, self._sampled(logits, asking), strict=True):
            if chosen is None:
                error = PlaitError(
                    "the model's numbers are not finite for this request; expected finite weights and media"
                )
                self._finish(ticket, "error", error)
            else:
                self._resume(ticket, chosen)

    def _sampled(self, logits: Tensor, asking: Sequence[Ticket]) -> Iterator[int | None]:
        """An id for each of [R, V] logits, among those that its request may say; None where numbers are not finite."""
        masked = logits.masked_fill(torch.stack([self._illegal(ticket) for ticket in asking]), -torch.inf)
        best = masked.max(dim=-1)
        chosen = best.indices
        requests = [ticket.request for ticket in asking]
        if any(request.temperature > 0 for request in requests):
            uniform = [t.decoder.rng.random() if t.request.temperature > 0 and t.decoder else 0.0 for t in asking]

            def each(values: Sequence[float]) -> Tensor:
                return torch.tensor(values, dtype=torch.float64)

            temperature, top_p = each([r.temperature for r in requests]), each([r.top_p for r in requests])
            chosen = sample_ids(masked, temperature, top_p, each(uniform))
        for row, ticket in enumerate(asking):
            feed = ticket.waits_for
            if isinstance(feed, Feed) and feed.ordered and feed.legal is not None and ticket.request.temperature <= 0:
                chosen[row] = middle(masked[row], torch.from_numpy(feed.legal))
            if ticket.request.logprobs is not None and ticket.decoder is not None:
                ticket.decoder.chance = chance(masked[row], int(chosen[row]), ticket.request.logprobs)
        for index, finite in zip(chosen.tolist(), best.values.isfinite().tolist(), strict=True):
            yield index if finite else None

    def _illegal(self, ticket: Ticket) -> Tensor:
        """[V] bool: the ids that a request may not choose."""
        assert isinstance(ticket.waits_for, Feed)
        legal, to = ticket.waits_for.legal, ticket.request.to
        usual = legal is self.model.vocabulary.legal(to)
        if usual and to in self._illegal_ids:
            return self._illegal_ids[to]
        illegal = torch.ones(self.model.vocabulary.size, dtype=torch.bool)
        illegal[torch.from_numpy(np.asarray(legal))] = False
        for opener, name in self.model.vocabulary.openers.items():
            illegal[opener] |= f"flows.{name}" in self.model.unlearned
        illegal = illegal.to(self.model.device)
        if usual:
            self._illegal_ids[to] = illegal
        return illegal

    def _advance_flights(self, hidden: Tensor, by_ticket: dict[int, list[Piece]]) -> None:
        """One of Euler's steps for every block in flight, those of a modality together."""
        flying: dict[str, list[Ticket]] = {}
        for ticket in self.active:
            if isinstance(ticket.waits_for, Flight):
                flying.setdefault(ticket.waits_for.draw.modality, []).append(ticket)
        for modality, tickets in flying.items():
            self._euler(modality, tickets, hidden, by_ticket)

    def _euler(
        self, modality: str, tickets: Sequence[Ticket], hidden: Tensor, by_ticket: dict[int, list[Piece]]
    ) -> None:
        flights = [ticket.waits_for for ticket in tickets if isinstance(ticket.waits_for, Flight)]
        counts = [len(flight.z) for flight in flights]
        guidance = [
            t.request.guidance_of(f.draw.modality) if f.draw.guided else 1.0
            for t, f in zip(tickets, flights, strict=True)
        ]

        def per_token(values: Sequence[float]) -> Tensor:
            return torch.repeat_interleave(
                torch.tensor(values, device=hidden.device), torch.tensor(counts, device=hidden.device)
            )

        def places(number: int) -> list[int]:
            pieces = [by_ticket[id(ticket)][number] for ticket in tickets if number < len(by_ticket[id(ticket)])]
            return [at for piece in pieces for at in range(piece.first, piece.first + piece.count)]

        z = torch.cat([flight.z for flight in flights])
        t = per_token([float(np.float32(flight.times[flight.step])) for flight in flights])
        scale = per_token(guidance)
        both = scale != 1.0
        index = torch.tensor(places(0) + places(1), device=hidden.device)
        noised, time = torch.cat((z, z[both])), torch.cat((t, t[both]))
        coordinates = [flight.draw.coordinates for flight in flights]
        coordinates += [flight.draw.bare for flight, share in zip(flights, guidance, strict=True) if share != 1.0]
        expected = self.model.expected(modality, torch.from_numpy(np.concatenate(coordinates)).to(hidden.device))
        predicted: Tensor = self.model.flows[modality](hidden[index], noised, time, expected)
        x_hat = predicted[: len(z)]
        x_hat[both] = guided(x_hat[both], predicted[len(z) :], scale[both])
        following = per_token([flight.times[flight.step + 1] for flight in flights])
        moved = euler_step(z, x_hat, t, following)
        for ticket, flight, tokens, clean in zip(
            tickets, flights, torch.split(moved, counts), torch.split(x_hat, counts), strict=True
        ):
            flight.z, flight.step = tokens, flight.step + 1
            if flight.step == len(flight.times) - 1:
                self._resume(ticket, tokens.numpy(force=True))
            elif ticket.previews:
                self._preview(ticket, flight, clean)

    def _preview(self, ticket: Ticket, flight: Flight, clean: Tensor) -> None:
        """Tell how a block looks by now, as often as was asked for."""
        steps, every = len(flight.times) - 1, max(1, (len(flight.times) - 1) // (ticket.previews + 1))
        if flight.step % every or ticket.decoder is None:
            return
        modality = self.encoder.modality(flight.draw.modality)
        header = ticket.decoder.header
        tokens = modality.canonical(clean.numpy(force=True))
        part = modality.write(Segment(modality.name, (Block(header, tokens),)))
        ticket.events.append(Preview(flight.draw.part, flight.step, steps, part))
