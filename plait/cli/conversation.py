"""`plait chat`: a conversation in the terminal. Pictures are shown, what is drawn and said is written to files, and
nothing is played."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from plait import registry
from plait.cli.generate import write_part
from plait.contract import WORDS, Message, Part, Sample
from plait.data.importers import Record, Writer
from plait.data.media import Blob
from plait.errors import ConfigError, PlaitError

WIDEST = 64  # columns of what is shown


def verbs() -> dict[str, str]:
    """What to say for an answer in a modality: `draw` for a picture, its own name where it has no verb."""
    return {(module.verb() if (module := registry.renders(kind)) else kind): kind for kind in registry.available()}


def help_text() -> str:
    """The commands, those of every modality among them."""
    files = [kind for kind in registry.available() if registry.suffixes(kind)]
    return "\n".join(
        [
            "  words                 ask; the model decides what it answers with",
            *(f"  {f'/{verb} words':21} answer with {kind}" for verb, kind in verbs().items()),
            *(f"  {f'/{kind} FILE [words]':21} add a file to the question, and ask if words follow" for kind in files),
            "  /seed N               other noise, another drawing",
            "  /history              what was said so far",
            "  /save FOLDER          keep the conversation: rows and media that plait train --data reads",
            "  /new                  forget the conversation",
            "  /quit                 leave (also Ctrl-D)",
        ]
    )


@dataclass(frozen=True)
class Terminal:
    """What shows the answers: its width, and the picture protocol that it has (`kitty`, `iterm`, or none)."""

    columns: int = WIDEST
    protocol: str | None = None


class Answers(Protocol):
    """What chat needs of a model: plait.api.Model has it."""

    def reply(self, messages: tuple[Message, ...], to: str | None = None, **options: Any) -> Message: ...


def graphics(environment: Mapping[str, str]) -> str | None:
    """The picture protocol that a terminal says it has: `kitty`, `iterm`, or none."""
    if "KITTY_WINDOW_ID" in environment or "kitty" in environment.get("TERM", "") or "GHOSTTY_BIN_DIR" in environment:
        return "kitty"
    return "iterm" if environment.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm") else None


class Chat:
    """A conversation. `say` prints a line; media are written to the folder `out`, and shown where there is a `terminal`.

    The model sees the last `memory` exchanges beside the question: none where it learned single questions.
    """

    def __init__(
        self,
        model: Answers,
        out: Path,
        say: Callable[[str], Any],
        memory: int = 0,
        seed: int = 0,
        terminal: Terminal | None = None,
    ) -> None:
        self.model, self.out, self.say = model, out, say
        self.memory, self.seed, self.terminal = memory, seed, terminal
        self.history: list[Message] = []
        self.waiting: list[Part] = []

    def line(self, text: str) -> bool:
        """Act on one line; False ends the conversation. What a user can mend is said, and nothing is lost."""
        try:
            _check_unicode(text)
            return self._act(text.strip()) if text.strip() else True
        except (PlaitError, OSError, RuntimeError, ValueError) as error:  # a path that cannot be one, a full disk...
            self.say(f"! {error}")
        except KeyboardInterrupt:
            self.say("! stopped; the question was not answered")
        return True

    def _act(self, text: str) -> bool:
        command, _, rest = text.partition(" ")
        rest = rest.strip()
        if not command.startswith("/"):
            self.ask(text, None)
        elif registry.suffixes(command[1:]):
            self.attach(command[1:], rest)
        elif command[1:] in (orders := verbs()):
            self.ask(rest, orders[command[1:]])
        elif command == "/seed":
            self.set_seed(rest)
        elif command == "/save":
            self.save(rest)
        elif command == "/new":
            self.history, self.waiting = [], []
            self.say("a new conversation")
        elif command == "/history":
            self.say("\n".join(map(_in_a_line, self.history)) or "nothing was said yet")
        elif command in ("/quit", "/exit"):
            return False
        elif command == "/help":
            self.say(help_text())
        else:
            raise ConfigError(f"got {command}; expected one of the commands that /help lists, or words")
        return True

    def attach(self, kind: str, rest: str) -> None:
        """Keep a medium for the next question; ask at once if words follow its name."""
        name, words = _file_and_words(rest)
        if not name:
            raise ConfigError(f"/{kind}: no file; expected /{kind} FILE, one of {', '.join(registry.suffixes(kind))}")
        path = Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(f"/{kind}: {path} is not there; expected the path of a file, in quotes if it has blanks")
        part = Part(kind, str(path))
        self.model_reads(part)
        self.waiting.append(part)
        if words:
            self.ask(words, None)
        else:
            self.say(f"{path.name} goes with the next question")

    def model_reads(self, part: Part) -> None:
        """Raises what reading the part raises, before it is kept for a question."""
        reads = getattr(self.model, "reads", None)
        if reads is not None:
            reads(part)

    def ask(self, words: str, to: str | None) -> None:
        """Ask with what is waiting, and show the answer."""
        parts = (*self.waiting, *([Part(WORDS, words)] if words else []))
        if not parts:
            raise ConfigError("nothing was asked; expected words after the command, or a picture or sound before it")
        question = Message("user", parts)
        earlier = self.history[-2 * self.memory :] if self.memory else []
        answer = self.model.reply((*earlier, question), to=to, seed=self.seed)
        self.history += [question, answer]
        self.waiting = []
        if not answer.parts:
            self.say("(the model said nothing)")
        for number, part in enumerate(answer.parts):
            self.show(part, number)

    def show(self, part: Part, number: int) -> None:
        """What is printed as it is; of anything else a look at it and the file's name."""
        written = write_part(part, self.out, number)
        renders = registry.renders(part.type)
        if renders is None or written == str(part.value):
            self.say(written)
            return
        if self.terminal:
            self.say(renders.terminal(part, self.terminal.columns, self.terminal.protocol))
        self.say(f"[{written}{_facts(part)}]")

    def set_seed(self, rest: str) -> None:
        if not rest.isdecimal():
            raise ConfigError(f"/seed {rest}: expected a whole number, 0 or larger; it is {self.seed} now")
        self.seed = int(rest)
        self.say(f"seed {self.seed}")

    def save(self, rest: str) -> None:
        """Write the conversation as one row of training data, without questions that got no answer."""
        if not any(message.parts for message in self.history[1::2]):
            raise ConfigError("/save: nothing was said yet; expected a conversation to keep")
        if not rest:
            raise ConfigError("/save: no folder; expected /save FOLDER, a new one")
        folder = Path(rest).expanduser()
        with Writer(folder) as writer:
            pairs = zip(self.history[::2], self.history[1::2], strict=True)
            answered = [message for pair in pairs if pair[1].parts for message in pair]
            sample = Sample(tuple(map(_storable, answered)), "chat")
            writer.add(Record(sample, "train"))
            writer.finish()
        self.say(f"kept in {folder / 'train.jsonl'}")


def _file_and_words(rest: str) -> tuple[str, str]:
    """A file's name, in quotes or up to the first blank (or all of it, if that is a file), and the words after it."""
    with contextlib.suppress(OSError, RuntimeError):  # too long for a name: words follow
        if Path(rest).expanduser().is_file():
            return rest, ""
    for mark in ("'", '"'):
        if rest.startswith(mark) and mark in rest[1:]:
            name, _, words = rest[1:].partition(mark)
            return name, words.strip()
    name, _, words = rest.partition(" ")
    return name, words.strip()


def _storable(message: Message) -> Message:
    """The message without what only a running conversation needs."""
    return Message(message.role, tuple(Part(part.type, _stored(part)) for part in message.parts))


def _stored(part: Part) -> Any:
    value = part.value
    return (
        Blob(Path(value).read_bytes(), Path(value).suffix) if part.type != WORDS and isinstance(value, str) else value
    )


def _facts(part: Part) -> str:
    measures = registry.measures(part.type)
    facts = measures.facts(part) if measures else {}
    return "".join(f", {value if isinstance(value, str) else f'{value:g} {name}'}" for name, value in facts.items())


def _check_unicode(text: str) -> None:
    """Raise ConfigError for bytes that are no UTF-8, which Python's terminal input keeps as half surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"got bytes that are not UTF-8 at character {error.start + 1}; expected text in UTF-8: nothing was asked"
        ) from error


def _in_a_line(message: Message) -> str:
    said = (str(p.value) if isinstance(p.value, str) else f"<{p.type}>" for p in message.parts)
    return f"{message.role}: {' '.join(said)}"


def terminal_of() -> Terminal | None:
    """This terminal; None where there is none."""
    if not sys.stdout.isatty():
        return None
    return Terminal(min(WIDEST, shutil.get_terminal_size().columns), graphics(os.environ))


def lines_of_terminal(prompt: str = "> ") -> Iterable[str]:
    """Lines that a person types, or that come through a pipe, until their end."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - line editing and recall for input()
    while True:
        try:
            yield input(prompt if sys.stdin.isatty() else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /quit leaves)")
