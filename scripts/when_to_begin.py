"""Teach a checkpoint whose halves were trained apart when to begin a drawing, or to speak: the one row of the marks' head that opens it.

    python scripts/when_to_begin.py CHECKPOINT OUT --kind image --data data/smol

Whoever trained on drawings alone begins one whatever is asked. What is fitted is the row's logit against all that a text could go on with,
by logistic regression: prompts of the task `draw` (`say`) against small talk, questions and requests for the other, most of them after something
was said about a picture or in words. It is measured on phrasings that were not fitted. Everything else stays, bit for bit. `plait train` of all tasks together needs none of this.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plait import api
from plait.contract import WORDS, Message, Part, Sample
from plait.data.pack import collate
from plait.data.row import lay_out_clean
from plait.data.rows import read_rows
from plait.data.sources import conversations, fetch
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.model.multimodal import MultimodalTransformer
from plait.recipes.smol import RECIPE
from plait.tasks.smol import TASKS
from plait.train import checkpoint

KINDS = ("audio", "image")
ALSO_SAID = (
    "Say {text}.",
    "Please say {text}",
    "Say aloud: {text}",
    "Can you say {text}?",
    "Read this out loud: {text}",
    "Speak this: {text}",
    "Say the words {text}.",
)
ALSO_DRAWN = (
    "Draw {name}.",
    "Draw a {name}.",
    "Please draw {name}.",
    "Can you draw a {name}?",
    "Paint a {name}.",
    "Draw me a {name}",
)
TALK = (
    "What is a {name}?", "Tell me about {name}.", "Spell {name}.", "Write a sentence about {name}.", "Why do people like {name}?",
    "What colour is {name}?", "How would you describe a drawing of {name}?", "Who was the first to draw {name}?", "{name}",
    "I have a picture of {name} at home.", "What does {name} mean?", "Write a poem about {name}.", "How do I draw {name}?",
    "Can you read?", "Where can I buy a {name}?", "My sister painted {name} yesterday.", "Is {name} an animal?", "What is the plural of {name}?",
    "Translate {name} into French.", "I do not like pictures of {name}.", "How large is {name}?", "What do you think of {name}?",
    "Make a list of three facts about {name}.", "Show me how to spell {name}.", "Give me a recipe with {name}.", "Please explain {name}.",
    "Who painted {name}?", "Make up a story about {name}.", "Can you tell me what {name} is for?", "What rhymes with {name}?",
    "Name three things like {name}.", "What did {name} say?", "She said {name} was fine.", "How do you say {name} in French?",
    "What do people say about {name}?", "I saw {name} today.", "Could you write a letter about {name}?", "What style is {name}?",
)  # fmt: skip
HELD_OUT = 5  # one in so many phrasings and line is for the measurement
MARGIN = 1.0  # logits on either side that are not enough yet
LONGEST = 24  # tokens of an answer in words
CAUTION = 1.0  # logits that it is begun less readily for
STEPS, DECAY = 400, 1e-3


Conversation = tuple[Message, ...]


def exchanges(network: MultimodalTransformer, data: Path, rng: np.random.Generator, count: int) -> list[Conversation]:
    """What may have been said before: questions about a picture with their answers, small talk, wishes to hear something, and
    some of these after each other."""
    known = network.vocabulary.modalities
    tasks = ("name", "category", "colour", "describe", "talk")
    rows = [list(islice(read_rows(data / f"{task}.dev.jsonl", known), count)) for task in tasks]
    seen_before = [
        sample.messages[: 2 * n]
        for samples in rows
        for sample in samples
        for n in range(1, len(sample.messages) // 2 + 1)
    ]
    talks = [
        (str(entry.facts["question"]), str(entry.facts["answer"]))
        for entry in conversations.entries(fetch.places() / "conversations")
        if entry.facts.get("language") == "en" and entry.facts.get("answer")
    ]
    said = [
        (ALSO_SAID[number % len(ALSO_SAID)].format(text=answer), answer) for number, (_, answer) in enumerate(talks)
    ]
    in_words = [
        (Message("user", (Part(WORDS, question),)), Message("assistant", (Part(WORDS, answer),)))
        for question, answer in talks + said
    ]

    def one_of(several: list[Conversation]) -> Conversation:
        return several[int(rng.integers(len(several)))]

    together = [
        (*one_of(seen_before), *one_of(in_words), *(one_of(in_words) if rng.random() < 0.5 else ()))
        for _ in range(count)
    ]
    return [*(one_of(seen_before) for _ in range(count)), *(one_of(in_words) for _ in range(count)), *together]


def prompts(
    network: MultimodalTransformer, rng: np.random.Generator, count: int, kind: str, before: list[Conversation]
) -> tuple[list[Conversation], np.ndarray, np.ndarray]:
    """Questions, most of them after one of the conversations `before`; whether each asks for the `kind`, and whether it is held out."""
    (memory,) = [memory for (_, question), memory in network.memories.items() if question == "name"]
    styles = ("3D", "EmojiOne", "Fluent", "Noto", "Twemoji", "clip art", "high contrast", "line")
    tasks = {task.name: task for task in TASKS}
    drawings = [*tasks["draw"].phrasings, *(ALSO_DRAWN if kind == "image" else ())]
    says = [*tasks["say"].phrasings, *(ALSO_SAID if kind == "audio" else ())]
    talks = conversations.entries(fetch.places() / "conversations")
    lines = sorted({str(entry.facts["question"]) for entry in talks if entry.facts.get("language") == "en"})
    asked: list[tuple[str, bool, bool]] = []
    for _ in range(count):
        name, style = rng.choice(memory.texts), rng.choice(styles)
        line = lines[int(rng.integers(len(lines)))] if rng.random() < 0.5 else name
        for templates, of in ((drawings, "image"), (TALK, ""), (says, "audio")):
            number = int(rng.integers(len(templates)))
            held = number % HELD_OUT == HELD_OUT - 1
            asked.append((templates[number].format(name=name, style=style, text=line), of == kind, held))
        number = int(rng.integers(len(lines)))
        asked.append((lines[number], False, number % HELD_OUT == HELD_OUT - 1))
    questions = []
    for text, _, _ in asked:
        earlier = before[int(rng.integers(len(before)))] if before and rng.random() < 0.7 else ()
        questions.append((*earlier, Message("user", (Part(WORDS, text),))))
    return questions, np.array([asks for _, asks, _ in asked]), np.array([held for _, _, held in asked])


def best_words(network: MultimodalTransformer, hidden: Tensor) -> Tensor:
    """[n] logits of what a text would best go on with, from [n, D] hidden states."""
    legal = torch.from_numpy(np.array(network.vocabulary.legal(WORDS)))
    return network.logits(hidden).float()[:, legal].max(dim=1).values


@torch.no_grad()
def seen(network: MultimodalTransformer, engine: Engine, questions: list[Conversation]) -> tuple[Tensor, Tensor]:
    """[n, D] hidden states from which the answers begin, and [n] logits that a text's best beginning has."""
    hidden = []
    for messages in questions:
        row = lay_out_clean(engine.encoder.prompt(Sample(messages)))
        hidden.append(network.hidden(collate([[row]], len(row), network.vocabulary))[-1])
    states = torch.stack(hidden)
    return states.float(), best_words(network, states)


def going_on(network: MultimodalTransformer, engine: Engine, questions: list[Conversation]) -> tuple[Tensor, Tensor]:
    """As `seen`, for every place within the model's own answers in words, and their ends: there no drawing begins."""
    answers = engine.generate([Request(each, to=WORDS, max_tokens=LONGEST) for each in questions])
    states, best = [], []
    encoder = engine.encoder
    with torch.no_grad():
        for each, answer in zip(questions, answers, strict=True):
            if not answer.message.parts:
                continue
            begun = len(lay_out_clean(encoder.prompt(Sample(each))))
            row = lay_out_clean(encoder.prompt(Sample((*each, answer.message, Message("user", (Part(WORDS, "."),))))))
            count = sum(answer.usage.answered.values())
            hidden = network.hidden(collate([[row]], len(row), network.vocabulary))[begun : begun + count]
            states.append(hidden.float())
            best.append(best_words(network, hidden))
    return torch.cat(states), torch.cat(best)


def fit(
    states: Tensor, best: Tensor, asks: Tensor, weight: Tensor, bias: Tensor, caution: float
) -> tuple[Tensor, Tensor]:
    """The row's weight [D] and bias, from those that it has."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    sign = 2.0 * asks - 1.0
    balance = torch.where(asks > 0, 0.5 / asks.mean(), 0.5 / (1 - asks.mean()))
    optimiser = torch.optim.Adam([weight, bias], lr=0.02)
    start = weight.detach().clone()
    for _ in range(STEPS):
        optimiser.zero_grad()
        margin = sign * (states @ weight + bias - best) - MARGIN
        loss = (balance * torch.nn.functional.softplus(-margin)).mean() + DECAY * ((weight - start) ** 2).sum()
        loss.backward()
        optimiser.step()
    return weight.detach(), bias.detach() - caution


def tell(
    name: str,
    states: Tensor,
    best: Tensor,
    begins: tuple[Tensor, Tensor],
    questions: list[Conversation],
    asks: Tensor,
    fitted: Tensor,
) -> None:
    """Print how many questions begin it by a row's weight and bias, those that ask for it and the others; and the wrong ones."""
    weight, bias = begins
    opens = states @ weight + bias > best
    for which, chosen in (("fitted", fitted), ("held out", ~fitted)):
        for kind, of in (("asks for it", asks), ("does not", ~asks)):
            rows = chosen & of
            for index in (rows & (opens != asks)).nonzero().flatten().tolist() if name == "fitted" else ():
                print(f"  wrong, message {len(questions[index])}: {questions[index][-1].parts[0].value}")
            print(f"{name}, {which}, {kind}: {int(opens[rows].sum())} of {int(rows.sum())} begin one")


def main() -> None:
    """Fit, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=KINDS, default="image", help="what is begun")
    parser.add_argument("--data", type=Path, help="a build of smol's data, for what may have been said before")
    parser.add_argument(
        "--caution",
        type=float,
        default=CAUTION,
        help="logits: a drawing instead of words is worse than words instead of one",
    )
    parser.add_argument("--count", type=int, default=150, help="questions of each of four kinds")
    options = parser.parse_args()
    network = checkpoint.load(checkpoint.locate(options.checkpoint), torch.bfloat16)[0].eval()
    (opener,) = [index for index, kind in network.vocabulary.openers.items() if kind == options.kind]
    head = network.categorical["marks"].logits
    row = opener - network.vocabulary.offsets.get("marks", 0)
    engine = api.load(options.checkpoint).engine
    rng = np.random.default_rng(0)
    before = exchanges(network, options.data, rng, options.count) if options.data else []
    questions, asks, held = prompts(network, rng, options.count, options.kind, before)
    states, best = seen(network, engine, questions)
    fitted = torch.from_numpy(~held)
    target = torch.from_numpy(asks).float()
    talk = [
        question for question, begins, is_held in zip(questions, asks, held, strict=True) if not begins and not is_held
    ]
    going, going_best = going_on(network, engine, talk[: options.count])
    print(f"{len(going)} places within answers in words")
    half = len(going) // 2  # of the answers; the others are held out
    weight, bias = fit(
        torch.cat([states[fitted], going[:half]]), torch.cat([best[fitted], going_best[:half]]),
        torch.cat([target[fitted], torch.zeros(half)]), torch.zeros_like(head.weight[row]).float(), torch.zeros(()),
        options.caution,
    )  # fmt: skip
    before_and_after = {
        "as it was": (head.weight[row].float().detach(), head.bias[row].float().detach()),
        "fitted": (weight, bias),
    }
    for name, begins in before_and_after.items():
        tell(name, states, best, begins, questions, target > 0, fitted)
    for more in range(5):  # how many begin one with more caution
        opens = states @ weight + bias - more > best
        asking, others = (int(opens[~fitted & (target == of)].sum()) for of in (1, 0))
        print(
            f"fitted, held out, caution {options.caution + more:g}: {asking} that ask for it, {others} others begin one"
        )
    opens = going[half:] @ weight + bias > going_best[half:]
    print(f"fitted, held out, within an answer: {int(opens.sum())} of {len(opens)} begin one")
    with torch.no_grad():
        head.weight[row], head.bias[row] = weight.to(head.weight.dtype), bias.to(head.bias.dtype)
    recipe = RECIPE.model_dump(mode="json")
    print(checkpoint.save(options.out, network, network.state_dict(), recipe))


if __name__ == "__main__":
    main()
