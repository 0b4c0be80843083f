"""The complete model: embedding tables, embedders and heads by modality, around one trunk."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from plait import registry
from plait.contract import WORDS, Modality, Part
from plait.data.letters import CLASSES
from plait.data.pack import PADDING_ROW, SHARED_ROW, Batch, FlowTokens, collate
from plait.data.row import Ids, lay_out_clean
from plait.data.vocabulary import SHARED, Vocabulary
from plait.errors import ConfigError
from plait.heads.categorical import CategoricalHead, cross_entropy, side_by_side
from plait.heads.flow import FlowHead
from plait.heads.projector import Projector
from plait.heads.speller import Neighbours, Speller
from plait.heads.symbols import SymbolsEmbedding
from plait.model.attention import prepare
from plait.model.experts import Split, plan, settled_tokens
from plait.model.finder import Finder, Findings, in_places
from plait.model.heard import beside_words, letter_slots, transcripts
from plait.model.init import initialise
from plait.model.layers import Linear, Norm
from plait.model.lexicon import Lexicon, whole_words
from plait.model.lora import Adapters, Routing, expert_of
from plait.model.mask import allowed
from plait.model.memory import AnswerMemory, Directions, beside_answers, pointing
from plait.model.transformer import Trunk, TrunkConfig

if TYPE_CHECKING:
    from plait.model.weights import Base


HEARD = 4096  # sounds whose words are remembered
HEAD_BITS = 8  # of tied heads where the trunk has fewer: they choose among all words


@dataclass
class TokenLosses:
    """The losses of n targets of one kind: ids, or the noised tokens of a flow modality."""

    loss: Tensor  # [n]
    row: Tensor  # [n] number of the target's row in the batch
    group: Tensor | None = None  # [n] index of each target's loss group; None: all belong to one, the modality's


def asker_of(reader: str, question: str) -> str:
    """The name of what asks a question of what a reader gives."""
    return f"{reader}/{question}"


class MultimodalTransformer(nn.Module):
    """One transformer over ids and continuous tokens. The trunk computes in `dtype`; weights stay float32.

    `components`: number of principal components of each modality's flow head (plait.model.pca). `tied`: tables that share
    their weights with their head. A `seed` of None leaves the weights uninitialised, for loading.
    """

    def __init__(
        self,
        config: TrunkConfig,
        vocabulary: Vocabulary,
        seed: int | None = 0,
        dtype: torch.dtype = torch.float32,
        components: Mapping[str, int] | None = None,
        tied: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.vocabulary, self.dtype, self.tied = vocabulary, dtype, tuple(tied)
        self.flexible = False  # FlexAttention in `hidden`
        self.bits = 0  # of the trunk's weights, if fewer than those of `dtype`
        self.base: Base | None = None  # the language model that it stands on, if that has a name
        self.parent: Base | None = None  # the checkpoint that it stands on, if it holds only what differs from one
        self.own: Base | None = None  # the checkpoint that it is, and what that holds itself
        self.unlearned: set[str] = set()  # names among `learners` that were drawn and never trained
        self.shown_wordless: set[str] = set()  # readers whose media stood without words in turns that were trained on
        flows: Mapping[str, Modality] = {n: m for n, m in vocabulary.modalities.items() if m.head == "flow"}
        self.tables = nn.ModuleDict({name: nn.Embedding(size, config.dim) for name, size in vocabulary.tables.items()})
        self.embedders = nn.ModuleDict({name: modality.embedder(config.dim) for name, modality in flows.items()})
        self.embedders.update(
            {reader.name: Projector(reader.width, config.dim) for reader in vocabulary.readers.values()}
        )
        self.memories: dict[tuple[str, str], AnswerMemory] = {}  # by reader and question
        self.askers = nn.ModuleDict()  # by the names of both, see `asker_of`
        self.spellers = nn.ModuleDict(
            {
                reader.name: Speller(reader.width, reader.letters, CLASSES)
                for reader in vocabulary.readers.values()
                if reader.letters
            }
        )
        self.finders = nn.ModuleDict({each.name: Finder(each, config.dim) for each in vocabulary.finders.values()})
        self.lexicon: Lexicon | None = None  # of what the spellers may hear
        self._transcripts: dict[
            tuple[tuple[int, ...], bytes], str
        ] = {}  # by the speller's version and a sound's features
        self.findings = Findings()
        self._directions: tuple[tuple[int, int], Directions] | None = None  # of the table at this place in this version
        adapted = {expert_of(name) for name in config.adapters}
        if unknown := sorted({*config.split} - set(vocabulary.experts) | adapted - set(vocabulary.expert_numbers)):
            raise ConfigError(
                f"trunk.adapters or trunk.split names {', '.join(unknown)}; expected experts: {', '.join(vocabulary.experts) or 'none'}"
            )
        self.trunk = Trunk(config)
        self.categorical = nn.ModuleDict(
            {
                name: CategoricalHead(config.dim, size, self._table(name) if name in self.tied else None)
                for name, size in vocabulary.tables.items()
            }
        )
        num_components = components or {}
        self.flows = nn.ModuleDict(
            {name: FlowHead(config.dim, m.token_width, num_components.get(name, 0)) for name, m in flows.items()}
        )
        parts = {name: registry.codec_parts(modality) for name, modality in flows.items()}
        self.codecs = nn.ModuleDict({name: module for name, module in parts.items() if module is not None})
        if seed is not None:
            initialise(self, seed)

    def use_codecs(self) -> None:
        """Let the modalities write with the trained parts of their codecs, as they are now."""
        for name, module in self.codecs.items():
            weights = registry.weights(name)
            assert weights is not None
            weights.use(self.vocabulary.modalities[name], module)

    def learners(self) -> dict[str, nn.Module]:
        """Modules that are of no use before a training, by name: what they say then is noise."""
        groups = {"flows": self.flows, "askers": self.askers, "spellers": self.spellers, "finders": self.finders}
        return {f"{group}.{name}": module for group, modules in groups.items() for name, module in modules.items()}

    def ask(self, questions: Mapping[str, Collection[str]], seed: int | None = None) -> None:
        """Ask of every medium that the readers read these questions too, whose answers are to be remembered; what projects the
        features is drawn from the `seed`, or left uninitialised, for loading. Questions of a reader that the model does not
        have, or that reads no words, are left out. Raises ConfigError for a name that no module can have."""
        for reader in (reader for reader in self.vocabulary.readers.values() if reader.words):
            for question in sorted(set(questions.get(reader.name, ()))):
                if (reader.name, question) in self.memories:
                    continue
                if "." in question or not question:
                    raise ConfigError(
                        f"alignment of the task {question!r}; expected a name without a dot: rename the task"
                    )
                key = asker_of(reader.name, question)
                self.askers[key] = Projector(reader.width, self.trunk.config.dim).to(self.device)
                self.memories[reader.name, question] = AnswerMemory()
                if seed is not None:
                    self.unlearned.add(f"askers.{key}")
                    names = {name for name, _ in self.named_parameters() if name.startswith(f"askers.{key}.")}
                    initialise(self, seed, names)

    def remember(self, answers: Mapping[str, Mapping[str, Collection[str]]]) -> None:
        """Let memories know answers in words, by reader and question, beside those that they know. Answers to what is not
        asked are left out."""
        for (reader, question), memory in self.memories.items():
            if texts := answers.get(reader, {}).get(question):
                read = self.vocabulary.modalities[WORDS].read
                memory.remember((text, read(Part(WORDS, text)).blocks[0].tokens) for text in texts)

    def expect(self, words: Mapping[str, int]) -> None:
        """Let what is heard be spelled in these words, by how often they were read, beside those that are known; without
        spellers and without words nothing changes."""
        if self.spellers and words:
            self.lexicon = self.lexicon or Lexicon(whole_words(self.vocabulary.modalities[WORDS]))
            self.lexicon.learn(words)
            self._transcripts.clear()

    def directions(self) -> Directions:
        """The words' table as directions, computed anew only when the table has changed."""
        weight = self._table(WORDS).weight
        key = weight.data_ptr(), weight._version
        if self._directions is None or self._directions[0] != key:
            self._directions = key, Directions(weight, self.trunk.config.embedding_rms)
        return self._directions[1]

    def _table(self, name: str) -> nn.Embedding:
        table = self.tables[name]
        assert isinstance(table, nn.Embedding)
        return table

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def for_inference(self, bits: int = 0) -> MultimodalTransformer:
        """This model, with its weights frozen in `dtype`: faster, and no longer trainable. With 8 or 4 `bits` the trunk's weights are
        rounded to so many, and those of tied heads to 8. Raises ConfigError."""
        if bits:
            if self.dtype != torch.bfloat16 or self.device.type != "cpu":
                raise ConfigError(f"got int{bits} on {self.device.type} in {self.dtype}; expected bfloat16 on a CPU")
            for module in self.trunk.layers.modules():
                if isinstance(module, Linear):
                    module.quantise(bits)
            for head in self.categorical.values():
                assert isinstance(head, CategoricalHead)
                head.quantise(HEAD_BITS)
            self.bits = bits
        for module in self.modules():
            if isinstance(module, (Linear, Norm, FlowHead, Adapters, Neighbours, CategoricalHead)):
                module.freeze_for_inference(self.dtype)
        return self.eval()

    def _origins(self) -> dict[str, tuple[str, str]]:
        """Where the tensors come from that a file holds: the language model by its name and hash, or a checkpoint by its hash."""
        origins: dict[str, tuple[str, str]] = {}
        for checkpoint in (self.own, self.parent):
            if checkpoint is not None:
                origins |= dict.fromkeys(checkpoint.tensors, ("", checkpoint.sha256))
        if self.base is not None:
            origins |= dict.fromkeys(self.base.tensors, (self.base.name, self.base.sha256))
        return origins

    def share_base(self, other: MultimodalTransformer) -> bool:
        """Take the other model's tensors in the place of the own that come from the same language model or checkpoint, and so are
        equal; whether there are any, in one dtype and on one device. For models that do not learn any more."""
        numbers = [(model.dtype, model.device, model.bits) for model in (self, other)]
        theirs = other._origins()
        same = {name for name, origin in self._origins().items() if theirs.get(name) == origin}
        if not same or numbers[0] != numbers[1]:
            return False
        for name in same:
            module, _, weight = name.rpartition(".")
            mine, its = self.get_submodule(module), other.get_submodule(module)
            setattr(mine, weight, getattr(its, weight))
            if isinstance(mine, Linear) and isinstance(its, Linear):
                mine.packed, mine.quantised = its.packed, its.quantised
        for name, head in self.categorical.items():
            if f"tables.{name}.weight" in same:
                its_head = other.categorical[name]
                assert isinstance(head, CategoricalHead)
                assert isinstance(its_head, CategoricalHead)
                head.packed, head.quantised = its_head.packed, its_head.quantised
        return True

    def compile_trunk(self, flex_attention: bool = True) -> None:
        """Compile the trunk's layers with torch.compile; on a CUDA device attention becomes FlexAttention, if wanted."""
        self.flexible = flex_attention and self.device.type == "cuda"
        self.trunk.compile_layers()

    def routing(self, batch: Batch, mask: Tensor | None = None) -> Routing | Split | None:
        """Which tokens of a batch pass through adapters, or through layers of their own; with a `mask` [B, L, L], of what each
        token sees, those that no gradient leaves are set apart."""
        config = self.trunk.config
        if not (config.adapters or config.split):
            return None
        padding = batch.row == PADDING_ROW
        settled = None if mask is None or not torch.is_grad_enabled() else self._settled(batch, mask)
        return plan(batch.expert, self.vocabulary.expert_numbers, config.adapters, config.split, padding, settled, mask)

    def _settled(self, batch: Batch, mask: Tensor) -> Tensor | None:
        """The tokens that no gradient leaves, as `settled_tokens` gives them; None where the trunk moves itself."""
        if SHARED in map(expert_of, self.trunk.config.adapters):
            return None  # settled tokens pass no adapters
        apart = (".adapters.", "experts.")  # layers that settled tokens do not pass
        if any(p.requires_grad for name, p in self.trunk.named_parameters() if not any(part in name for part in apart)):
            return None
        moves = batch.expert.flatten() != 0
        for name, ids in batch.tables.items():
            if any(p.requires_grad for p in self.tables[name].parameters()):
                moves[ids.index] = True
        for flow_tokens in (batch.clean, batch.noised):
            for tokens in flow_tokens.values():
                moves[tokens.index] = True
        return settled_tokens(moves.view_as(batch.expert), mask, batch.row == SHARED_ROW)

    def embed(self, batch: Batch) -> Tensor:
        """[B, L, D] input vectors of a batch."""
        B, L = batch.ids.shape
        indices: list[Tensor] = []
        vectors: list[Tensor] = []
        size = self.trunk.config.embedding_rms * self.trunk.config.embedding_scale
        for name, ids in batch.tables.items():
            if len(ids.index):
                embedded = self.tables[name](ids.ids).to(self.dtype)
                scale = self.trunk.config.embedding_scale
                indices.append(ids.index)
                vectors.append(embedded if scale == 1.0 else embedded * scale)
        answering = {reader.name for reader in self.vocabulary.readers.values() if reader.words}
        for flow_tokens in (batch.clean, batch.noised):
            for name, tokens in flow_tokens.items():
                if len(tokens.index):
                    indices.append(tokens.index)
                    if name in self.finders:
                        vectors.append(self._found(tokens, name) * size)
                        continue
                    embedded = self.embedders[name](tokens.inputs.to(self.dtype), tokens.coordinates, tokens.time)
                    if name in answering:
                        embedded = self._beside_answers(embedded, tokens, name)
                    if name in self.spellers:
                        embedded = self._beside_words(embedded, tokens, name)
                    vectors.append(embedded if size == 1.0 else embedded * size)
        unordered = torch.cat(vectors)  # one vector for every token, so that the copy fills all of x
        x = torch.empty_like(unordered).index_copy(0, torch.cat(indices), unordered)
        return x.view(B, L, -1)

    @property
    def sketching(self) -> tuple[str, ...]:
        """The modalities whose embedders sketch tokens."""
        return tuple(name for name, embedder in self.embedders.items() if isinstance(embedder, SymbolsEmbedding))

    def expected(self, name: str, coordinates: Tensor, dropped: float = 0.0) -> Tensor | None:
        """[N, W] tokens of a modality as its embedder sketches them at [N, C] coordinates, with a share of the sketch's inner numbers
        `dropped`; None where it does not."""
        embedder = self.embedders[name]
        return embedder.expected(coordinates, self.dtype, dropped) if isinstance(embedder, SymbolsEmbedding) else None

    def seen_by(self, name: str, inputs: Tensor) -> Tensor:
        """[M * (tokens + words), width] features and empty places of media -> [M * tokens, width] features alone."""
        reader = self.vocabulary.reader(name)
        media = inputs.view(-1, reader.tokens + reader.words, inputs.shape[-1])
        return media[:, : reader.tokens].flatten(0, 1)

    def pointing(self, name: str, question: str, features: Tensor) -> Tensor:
        """[M * tokens, width] features of media by the reader called `name` -> [M, D] directions in which the answers to a
        question lie."""
        nowhere = features.new_zeros(len(features))
        vectors = self.askers[asker_of(name, question)](features, nowhere[:, None], nowhere)
        return pointing(vectors, self.vocabulary.reader(name).tokens, self.directions())

    def _beside_answers(self, vectors: Tensor, tokens: FlowTokens, name: str) -> Tensor:
        """Projected features of the media in a batch, with the words of the answers that each resembles."""
        reader = self.vocabulary.reader(name)
        with torch.no_grad():
            features = self.seen_by(name, tokens.inputs.to(self.dtype))
            answers = {
                question: (memory, self.pointing(name, question, features))
                for (of_reader, question), memory in self.memories.items()
                if of_reader == name and memory.answers and f"askers.{asker_of(name, question)}" not in self.unlearned
            }
        return beside_answers(vectors, reader.tokens, reader.words, answers, self.directions())

    def _beside_words(self, vectors: Tensor, tokens: FlowTokens, name: str) -> Tensor:
        """Projected features of the sounds in a batch, with the words that are heard in each."""
        speller = self.spellers[name]
        assert isinstance(speller, Speller)
        first = (tokens.coordinates[:, 0] == 0).nonzero().flatten()
        counts = torch.diff(first, append=first.new_tensor([len(tokens.index)]))
        if not self.spells(name):
            texts = [""] * len(counts)
        elif self.training:
            texts = transcripts(speller, tokens.inputs.to(self.dtype), counts, self.lexicon)
        else:
            texts = self._heard(speller, torch.split(tokens.inputs.to(self.dtype), counts.tolist()))
        read = self.vocabulary.modalities[WORDS].read
        table, rms = self._table(WORDS).weight.detach(), self.trunk.config.embedding_rms
        ids = [torch.from_numpy(read(Part(WORDS, text)).blocks[0].tokens).to(table.device) for text in texts]
        return beside_words(vectors, counts.tolist(), [(table[own] / rms).to(vectors.dtype) for own in ids])

    def media_of(self, tokens: FlowTokens, name: str) -> Tensor:
        """[M, numbers] what the finder called `name` reads of each medium."""
        finder = self.finders[name]
        assert isinstance(finder, Finder)
        return tokens.inputs.view(-1, finder.layout.places * finder.layout.token_width)

    def unit_words(self) -> Tensor:
        """[V, D] the words' table in units of its size."""
        return self._table(WORDS).weight.detach() / self.trunk.config.embedding_rms

    def found(self, name: str, media: Tensor) -> list[str]:
        """What the finder called `name` finds of what is asked of [M, numbers] media; nothing where it did not learn."""
        finder, weight = self.finders[name], self._table(WORDS).weight
        assert isinstance(finder, Finder)
        if f"finders.{name}" in self.unlearned:
            return [""] * len(media)
        return self.findings.of(finder, media, self.unit_words(), (weight.data_ptr(), weight._version), self.dtype)

    def _found(self, tokens: FlowTokens, name: str) -> Tensor:
        """[M * places, D] the words that the finder writes about each medium, then zeros."""
        read = self.vocabulary.modalities[WORDS].read
        texts = self.found(name, self.media_of(tokens, name))
        ids = [read(Part(WORDS, text)).blocks[0].tokens.tolist() if text else [] for text in texts]
        return in_places(ids, self.unit_words(), len(tokens.index) // max(1, len(texts))).to(self.dtype)

    def spells(self, name: str) -> bool:
        """Whether something learned to spell what the reader called `name` hears."""
        return name in self.spellers and f"spellers.{name}" not in self.unlearned

    def said(self, name: str, features: Tensor) -> str:
        """What a sound says whose features [n, width] the reader called `name` gives; empty where nothing learned to spell it."""
        if not self.spells(name):
            return ""
        speller = self.spellers[name]
        assert isinstance(speller, Speller)
        return self._heard(speller, [features.to(self.device, self.dtype)])[0]

    def letter_slots(self, name: str, features: Tensor, text: str) -> tuple[list[str], list[list[int]], float]:
        """As `plait.model.heard.letter_slots`, of a sound whose features [n, width] the reader called `name` gives, which `spells`."""
        speller = self.spellers[name]
        assert isinstance(speller, Speller)
        return letter_slots(speller, features.to(self.device, self.dtype), text)

    def _heard(self, speller: Speller, sounds: Sequence[Tensor]) -> list[str]:
        """What sounds say. Each is weighed once while the speller stays as it is: conversations come back with every turn."""
        version = tuple(parameter._version for parameter in speller.parameters())
        keys = [(version, blake2b(sound.float().cpu().numpy().tobytes()).digest()) for sound in sounds]
        if len(self._transcripts) > HEARD:
            self._transcripts.clear()
        known = {key: text for key in keys if (text := self._transcripts.get(key)) is not None}
        if new := {key: sound for key, sound in zip(keys, sounds, strict=True) if key not in known}:
            counts = torch.tensor([len(sound) for sound in new.values()], device=sounds[0].device)
            weigh = self.log_likelihoods if self.base is not None else None
            texts = transcripts(speller, torch.cat(list(new.values())), counts, self.lexicon, weigh)
            known |= zip(new, texts, strict=True)
            self._transcripts.update(known)
        return [known[key] for key in keys]  # another thread may have forgotten all

    @torch.no_grad()
    def log_likelihoods(self, texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """Log probability of each text as a whole line, by the trunk; the texts of an inner sequence share a packed one."""

        def ids(text: str) -> list[int]:
            tokens = self.vocabulary.modalities[WORDS].read(Part(WORDS, text)).blocks[0].tokens
            return [int(number) + self.vocabulary.offsets[WORDS] for number in tokens]

        line = ids("\n")
        begin = Ids([self.vocabulary.end, *line], False)
        sums = []
        for together in texts:
            sequence = [lay_out_clean([begin, Ids([*ids(text), *line], True)]) for text in together]
            batch = collate([sequence], sum(map(len, sequence)), self.vocabulary).to(self.device)
            target, row = batch.target.flatten(), batch.row.flatten()
            index = (target >= 0).nonzero().flatten()
            logits = side_by_side(self.categorical.values(), self.hidden(batch).index_select(0, index))
            losses = cross_entropy(logits, target[index])
            sums.append((-torch.zeros(len(sequence), device=self.device).index_add(0, row[index], losses)).tolist())
        return sums

    def hidden(self, batch: Batch) -> Tensor:
        """[B * L, D] hidden states of a batch."""
        mask = allowed(batch.row, batch.block, batch.copy, batch.shares)
        prepared = prepare(mask, self.dtype, flexible=True) if self.flexible else mask
        hidden: Tensor = self.trunk(self.embed(batch), batch.position, prepared, routing=self.routing(batch, mask))
        return hidden.flatten(0, 1)

    def logits(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """[N, D] hidden states -> [N, V] float32 logits over all ids, or [N, n] over `ids` [n], which rise."""
        return side_by_side(self.categorical.values(), hidden, ids).float()

    def token_losses(self, batch: Batch) -> dict[str, TokenLosses]:
        """The loss of every target: of ids under the empty name, of a flow modality's tokens under its name.

        A modality absent from the batch has one loss of weight zero, so that every rank uses every weight; otherwise
        sharded training hangs.
        """
        return self.losses_of(self.hidden(batch), batch)

    def losses_of(self, hidden: Tensor, batch: Batch) -> dict[str, TokenLosses]:
        """As `token_losses`, from the hidden states of a batch."""
        target = batch.target.flatten()
        index = (target >= 0).nonzero().flatten()
        targets, rows = target[index], batch.row.flatten()
        groups = torch.from_numpy(self.vocabulary.group_of_id).to(target.device)[targets]
        logits = side_by_side(self.categorical.values(), hidden.index_select(0, index))
        losses = {"": TokenLosses(cross_entropy(logits, targets), rows[index], groups)}
        for name, tokens in batch.noised.items():
            head = self.flows[name]
            if not len(tokens.index):
                losses[name] = TokenLosses(self._absent(name), tokens.index.new_full((1,), PADDING_ROW))
                continue
            noised = tokens.inputs, tokens.clean, tokens.time, self.expected(name, tokens.coordinates)
            loss = head.loss(hidden.index_select(0, tokens.index), *noised)  # type: ignore[operator]
            losses[name] = TokenLosses(loss, rows[tokens.index])
        return losses

    def _absent(self, name: str) -> Tensor:
        """[1] zero with a gradient to every weight of the modality."""
        modality = self.vocabulary.modalities[name]
        header = modality.read(modality.example(0)).blocks[0].header
        coordinates = torch.from_numpy(modality.coordinates(header)[:1]).to(self.device)
        zeros = torch.zeros(1, modality.token_width, device=self.device, dtype=self.dtype)
        time = torch.ones(1, device=self.device)
        embedded = self.embedders[name](zeros, coordinates, time)
        return 0.0 * self.flows[name](embedded, zeros, time).sum(dim=-1)  # type: ignore[no-any-return]
