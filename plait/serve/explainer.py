"""Explanations beside the engine that answers: one at a time a model, in a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from plait.contract import Message
from plait.serve.errors import OverloadedError
from plait.serve.worker import RETRY_AFTER

if TYPE_CHECKING:
    from plait.api.explaining import Explanation, Lens, Patching, View
    from plait.serve.state import Served

WAITING = 4  # of one model at once: each takes seconds of all cores
MOST_TOKENS = 1_000_000  # through the model for one explanation
Check = Callable[[], None]  # raises once nobody waits any more
Result = TypeVar("Result")


class Explainer:
    """Explains, one at a time a model, beside the engine that answers."""

    def __init__(self) -> None:
        self.turns: dict[str, asyncio.Lock] = {}
        self.waiting: dict[str, int] = {}
        self.running = set[asyncio.Task[Any]]()

    async def run(self, name: str, work: Callable[[Check], Result]) -> Result:
        """What `work` returns about the model `name`; it is given what to call now and then. Nobody else's begins before it has ended, even if nobody waits for it any more.
        Raises OverloadedError where too many wait, and what it raises."""
        waiting = self.waiting.get(name, 0)
        if waiting >= WAITING:
            raise OverloadedError(f"{waiting} explanations are under way; expected at most {WAITING}", RETRY_AFTER)
        self.waiting[name] = waiting + 1
        is_wanted = True

        def check() -> None:
            if not is_wanted:
                raise asyncio.CancelledError

        async def turn() -> Result:
            async with self.turns.setdefault(name, asyncio.Lock()):
                check()
                return await asyncio.to_thread(work, check)

        task = asyncio.ensure_future(turn())
        self.running.add(task)  # the loop itself holds tasks by weak references
        task.add_done_callback(self.running.discard)
        try:
            return await asyncio.shield(task)
        finally:
            is_wanted = False
            self.waiting[name] -= 1  # who has gone takes no place, even if what was begun has not ended

    async def explained(
        self, served: Served, messages: tuple[Message, ...], answer: Message, of: str, methods: Sequence[str]
    ) -> list[Explanation] | list[Lens]:
        """Explanations of an answer by every method that is asked for, or the lens on it where the layers are. Raises ConfigError,
        RowError."""
        from plait.api import explaining

        names = explaining.methods(methods, of)
        if of == explaining.LAYERS:
            lens, _ = await self.layers(served, messages, answer, with_view=False)
            return [lens]

        def work(check: Check) -> list[Explanation]:
            bounds: dict[str, Any] = {"check": check, "most_tokens": MOST_TOKENS}
            return [served.model.explain_reply(messages, answer, of=of, method=name, **bounds) for name in names]

        return await self.run(served.name, work)

    async def layers(
        self, served: Served, messages: tuple[Message, ...], answer: Message, *, with_view: bool
    ) -> tuple[Lens, View | None]:
        """What the layers make of an answer, and its tables. Raises ConfigError, RowError."""
        from plait.api import explaining

        def work(check: Check) -> tuple[Lens, View | None]:
            lens = served.model.lens_reply(messages, answer, check=check, most_tokens=MOST_TOKENS)
            return lens, explaining.view_of(served.model, lens, check) if with_view else None

        return await self.run(served.name, work)

    async def patched(self, served: Served, explanation: Explanation, counterfactual: tuple[Message, ...]) -> Patching:
        """What comes back of an explained answer by patching its question into a counterfactual. Raises ConfigError, RowError."""
        how = {"part": explanation.maps[0].target.part, "seed": explanation.seed, "most_tokens": MOST_TOKENS}

        def work(check: Check) -> Patching:
            check()
            messages, answer = explanation.messages, explanation.answer
            return served.model.patch_reply(messages, counterfactual, answer, check=check, **how)

        return await self.run(served.name, work)
