"""A checkpoint that answers, and says why."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait import registry
from plait.contract import WORDS, Message, Part, Sample
from plait.errors import ConfigError
from plait.infer.request import Request

if TYPE_CHECKING:
    from plait.explain.explanation import Explanation, Subject
    from plait.explain.lens import Lens
    from plait.explain.patching import Patching
    from plait.explain.probing import Probing
    from plait.infer.events import Answer
    from plait.model.multimodal import MultimodalTransformer


class Model:
    """A checkpoint ready to answer."""

    def __init__(self, network: MultimodalTransformer, config: dict[str, Any], active: int = 128) -> None:
        from plait.infer.engine import Engine

        self.network, self.config = network, config
        self.folder: Path | None = None  # of the checkpoint that it was loaded from
        self.path: Path | None = None  # that it was asked for by: a folder, or an archive
        self.engine = Engine(network, active)
        self.in_words = self.engine.in_words  # what sounds without words are asked as

    def generate(self, inputs: Sequence[Any], to: str | None = None, **options: Any) -> Message:
        """Answer one user message made of `inputs`, in their order; `options` are fields of `Request`, the recipe's where they
        are not given. A picture's size is an option of its modality: `options={"image": {"size": (width, height)}}`.
        """
        return self.reply((self.question(inputs),), to, **options)

    def question(self, inputs: Sequence[Any] | Any) -> Message:
        """A user's message made of inputs. Raises ConfigError for what is no part of any modality."""
        alone = isinstance(inputs, Part) or registry.kind_of(inputs) is not None  # one input without its list
        return Message("user", tuple(map(registry.as_part, [inputs] if alone else inputs)))

    def reply(self, messages: tuple[Message, ...], to: str | None = None, **options: Any) -> Message:
        """Answer a conversation whose last message is the user's; `options` as for `generate`. An answer that is said has its
        words beside the sound (plait.infer.spoken)."""
        from plait.infer import spoken

        request = Request(messages, to=to, **self.usual | options)
        answer = spoken.answered(self.engine, request, self.longest)
        if answer.error is not None:
            raise answer.error
        return answer.message

    @property
    def usual(self) -> dict[str, Any]:
        """Fields of requests as the recipe samples, but for the length of an answer."""
        from plait.recipes.recipe import Sampling

        return Sampling(**self.config["recipe"].get("sampling", {})).model_dump(exclude={"max_tokens"})

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that the model, or the base that it stands on, learned from."""
        from plait.train import bases

        return bases.longest(self.network, self.config)

    def reads(self, part: Part) -> None:
        """Raises what reading `part` raises: RowError for a damaged file, ConfigError for an unknown modality."""
        known = self.network.vocabulary.modalities
        if part.type not in known:
            raise ConfigError(f"this model reads {', '.join(sorted(known))}; got {part.type}")
        known[part.type].read(part)

    def explain(
        self, inputs: Sequence[Any] | Any, answer: Message | str | None = None, to: str | None = None, **options: Any
    ) -> Explanation:
        """What an answer to one user message made of `inputs` hangs on: of the model's own, or of the `answer` given. `options`: those of
        plait.explain.explanation.explain. Raises ConfigError, RowError."""
        asked = (self.question(inputs),)
        return self.explain_reply(asked, self._answer(answer, asked, to), **options)

    def explain_reply(self, messages: tuple[Message, ...], answer: Message, **options: Any) -> Explanation:
        """As `explain`, of the answer to a conversation."""
        from plait.explain.explanation import explain

        return explain(self._subject(options), messages, answer, **options)

    def lens(
        self, inputs: Sequence[Any] | Any, answer: Message | str | None = None, to: str | None = None, **options: Any
    ) -> Lens:
        """What the layers make of the answer to one user message made of `inputs`, of the model's own or of the `answer` given: what it
        would be if the model ended after each. `options`: those of plait.explain.lens.lens. Raises ConfigError, RowError."""
        asked = (self.question(inputs),)
        return self.lens_reply(asked, self._answer(answer, asked, to), **options)

    def lens_reply(self, messages: tuple[Message, ...], answer: Message, **options: Any) -> Lens:
        """As `lens`, of the answer to a conversation."""
        from plait.explain.lens import lens

        return lens(self._subject(options), messages, answer, **options)

    def patch(
        self,
        inputs: Sequence[Any] | Any,
        counterfactual: Sequence[Any] | Any,
        answer: Message | str | None = None,
        to: str | None = None,
        **options: Any,
    ) -> Patching:
        """In which tokens, and after which layers, the answer to one user message made of `inputs` is, beside a `counterfactual` that is laid
        out alike. `options`: those of plait.explain.patching.patch. Raises ConfigError, RowError."""
        asked = (self.question(inputs),)
        return self.patch_reply(asked, (self.question(counterfactual),), self._answer(answer, asked, to), **options)

    def patch_reply(
        self, messages: tuple[Message, ...], counterfactual: tuple[Message, ...], answer: Message, **options: Any
    ) -> Patching:
        """As `patch`, of the answer to a conversation."""
        from plait.explain.patching import patch

        return patch(self._subject(options), messages, counterfactual, answer, **options)

    def _answer(self, answer: Message | str | None, asked: tuple[Message, ...], to: str | None) -> Message:
        """The answer that is explained: one that is given, perhaps as words, or the model's own."""
        if isinstance(answer, str):
            return Message("assistant", (Part(WORDS, answer),))
        return answer or self.reply(asked, to)

    def probe(self, rows: Sequence[Sample] | Path, label: str, **options: Any) -> Probing:
        """How well linear probes tell a `label` in the rows' meta from a part of their questions, after every layer. `rows`: samples, or a
        .jsonl file of them. `options`: those of plait.explain.probing.probe. Raises ConfigError, DataError, RowError."""
        from plait.data.rows import read_rows
        from plait.explain.probing import probe

        samples = list(read_rows(rows, self.network.vocabulary.modalities)) if isinstance(rows, Path) else rows
        return probe(self._subject(options), samples, label, **options)

    def _subject(self, options: dict[str, Any]) -> Subject:
        """This model as explanations ask it, within the bounds that are taken out of `options`."""
        from plait.explain.explanation import Subject

        bounds = {name: options.pop(name) for name in ("check", "most_tokens") if name in options}
        return Subject(self.engine, self.config, lambda: self.inside, **bounds)

    @cached_property
    def inside(self) -> MultimodalTransformer:
        """A copy of the model in float32 that can be looked into. Raises ConfigError for a model that was not loaded from a folder."""
        import torch

        from plait.train import archive, checkpoint

        if self.path is None:
            raise ConfigError(
                "this model was not loaded from a folder; expected plait.load(PATH), so that it can be looked into"
            )
        with archive.opened(self.path) as folder:
            network, _ = checkpoint.load(folder, torch.float32)
        return network.eval()

    def generate_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer many requests together; one that fails gets an answer with its error."""
        from plait.infer import spoken

        return spoken.all_answered(self.engine, requests)
