"""The conversation of `plait chat` in the terminal: shows pictures and loudness, writes generated media to files, plays
nothing."""

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

MAX_COLUMNS = 64  # of what is shown


def verbs() -> dict[str, str]:
    """Modalities by the command that requests an answer in them: the modality's verb (`draw`), or its name without one."""
    return {_verb(kind): kind for kind in registry.available()}


def _verb(kind: str) -> str:
    module = registry.renders(kind)
    return module.verb() if module else kind


def help_text() -> str:
    """The text of /help: the commands, including those of every modality."""
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
    """The terminal that shows the answers: its width, and its picture protocol (`kitty`, `iterm`, or None)."""

    columns: int = MAX_COLUMNS
    protocol: str | None = None


class Answers(Protocol):
    """The interface that chat needs of a model; plait.api.Model implements it."""

    def reply(self, messages: tuple[Message, ...], to: str | None = None, **options: Any) -> Message: ...


def graphics(environment: Mapping[str, str]) -> str | None:
    """The picture protocol of the terminal by its environment variables: `kitty`, `iterm`, or None."""
    if "KITTY_WINDOW_ID" in environment or "kitty" in environment.get("TERM", "") or "GHOSTTY_BIN_DIR" in environment:
        return "kitty"
    return "iterm" if environment.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm") else None


class Chat:
    """A conversation with a model. Calls `say` to print, writes media to the folder `out`, shows them with a `terminal`;
    files have the `mark` of what a model made.

    The model's input is the question and the last `memory` exchanges before it. Files are named from `folder`.
    """

    def __init__(
        self,
        model: Answers,
        out: Path,
        say: Callable[[str], Any],
        memory: int = 0,
        seed: int = 0,
        terminal: Terminal | None = None,
        folder: Path = Path(),
        mark: bool = True,
    ) -> None:
        self.model, self.out, self.say, self.folder, self.mark = model, out, say, folder, mark
        self.memory, self.seed, self.terminal = memory, seed, terminal
        self.history: list[Message] = []
        self.attachments: list[Part] = []  # for the next question

    def handle(self, line: str) -> bool:
        """Execute one line of input; False ends the conversation. Prints errors and keeps the conversation."""
        try:
            _check_unicode(line)
            return self._execute(line.strip()) if line.strip() else True
        except (PlaitError, OSError, RuntimeError, ValueError) as error:  # a path that cannot be one, a full disk...
            self.say(f"! {error}")
        except KeyboardInterrupt:
            self.say("! stopped; the question was not answered")
        return True

    def _execute(self, line: str) -> bool:
        command, _, argument = line.partition(" ")
        argument = argument.strip()
        if not command.startswith("/"):
            self.ask(line, None)
        elif registry.suffixes(command[1:]):
            self.attach(command[1:], argument)
        elif command[1:] in (kinds := verbs()):
            self.ask(argument, kinds[command[1:]])
        elif command == "/seed":
            self.set_seed(argument)
        elif command == "/save":
            self.save(argument)
        elif command == "/new":
            self.history, self.attachments = [], []
            self.say("a new conversation")
        elif command == "/history":
            self.say("\n".join(map(_as_line, self.history)) or "nothing was said yet")
        elif command in ("/quit", "/exit"):
            return False
        elif command == "/help":
            self.say(help_text())
        else:
            raise ConfigError(f"got {command}; expected one of the commands that /help lists, or words")
        return True

    def attach(self, kind: str, argument: str) -> None:
        """Attach a file to the next question, and ask at once if words follow its name. Raises ConfigError without a file,
        and what reading the part raises."""
        name, words = _file_and_words(argument, self.folder)
        if not name:
            raise ConfigError(f"/{kind}: no file; expected /{kind} FILE, one of {', '.join(registry.suffixes(kind))}")
        path = self.folder / Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(f"/{kind}: {path} is not there; expected the path of a file, in quotes if it has blanks")
        part = Part(kind, str(path))
        self._check_readable(part)
        self.attachments.append(part)
        if words:
            self.ask(words, None)
        else:
            self.say(f"{path.name} goes with the next question; /{_verb(WORDS)} alone asks it without words")

    def _check_readable(self, part: Part) -> None:
        """Raise what reading the part raises, before it is attached."""
        reads = getattr(self.model, "reads", None)
        if reads is not None:
            reads(part)

    def ask(self, words: str, to: str | None) -> None:
        """Ask the model with the attachments and `words`, and show the answer. Raises ConfigError for an empty question."""
        parts = (*self.attachments, *([Part(WORDS, words)] if words else []))
        if not parts:
            raise ConfigError("nothing was asked; expected words after the command, or a picture or sound before it")
        question = Message("user", parts)
        earlier = self.history[-2 * self.memory :] if self.memory else []
        self._say_what_is_heard(question)
        answer = self.model.reply((*earlier, question), to=to, seed=self.seed)
        self.history += [question, answer]
        self.attachments = []
        if not answer.parts:
            self.say("(the model said nothing)")
        for number, part in enumerate(answer.parts):
            self.show(part, number)

    def _say_what_is_heard(self, question: Message) -> None:
        """Print the words that stand for sounds, where the model is asked with these (plait.infer.engine)."""
        in_words = getattr(self.model, "in_words", None)
        if in_words is not None:
            (read,) = in_words((question,))
            for part, given in zip(read.parts, question.parts, strict=True):
                if part is not given:
                    self.say(f'(heard: "{part.value}")')

    def show(self, part: Part, number: int) -> None:
        """Print a text; of other parts print a rendering, the file's name and the facts."""
        text_or_path = write_part(part, self.out, number, self.mark)
        renders = registry.renders(part.type)
        if renders is None or text_or_path == str(part.value):
            self.say(text_or_path)
            return
        if self.terminal:
            self.say(renders.terminal(part, self.terminal.columns, self.terminal.protocol))
        self.say(f"[{text_or_path}{_facts(part)}]")

    def set_seed(self, argument: str) -> None:
        """Set the seed of the next answers. Raises ConfigError unless `argument` is a whole number."""
        if not argument.isdecimal():
            raise ConfigError(f"/seed {argument}: expected a whole number, 0 or larger; it is {self.seed} now")
        self.seed = int(argument)
        self.say(f"seed {self.seed}")

    def save(self, argument: str) -> None:
        """Write the conversation to a new folder as one row of training data, without unanswered questions. Raises
        ConfigError without a folder or an answer."""
        if not any(message.parts for message in self.history[1::2]):
            raise ConfigError("/save: nothing was said yet; expected a conversation to keep")
        if not argument:
            raise ConfigError("/save: no folder; expected /save FOLDER, a new one")
        folder = Path(argument).expanduser()
        with Writer(folder) as writer:
            pairs = zip(self.history[::2], self.history[1::2], strict=True)
            answered = [message for pair in pairs if pair[1].parts for message in pair]
            sample = Sample(tuple(map(_storable, answered)), "chat")
            writer.add(Record(sample, "train"))
            writer.finish()
        self.say(f"kept in {folder / 'train.jsonl'}")


def _file_and_words(argument: str, folder: Path) -> tuple[str, str]:
    """A file's name and the words after it. The name is `argument` if that is a file, seen from `folder`, else in quotes or up
    to a blank."""
    with contextlib.suppress(OSError, RuntimeError):  # too long for a file name: words follow it
        if (folder / Path(argument).expanduser()).is_file():
            return argument, ""
    for mark in ("'", '"'):
        if argument.startswith(mark) and mark in argument[1:]:
            name, _, words = argument[1:].partition(mark)
            return name, words.strip()
    name, _, words = argument.partition(" ")
    return name, words.strip()


def _storable(message: Message) -> Message:
    """The message without options, which only a running conversation needs, and with files as bytes."""
    return Message(message.role, tuple(Part(part.type, _storable_value(part)) for part in message.parts))


def _storable_value(part: Part) -> Any:
    value = part.value
    return (
        Blob(Path(value).read_bytes(), Path(value).suffix) if part.type != WORDS and isinstance(value, str) else value
    )


def _facts(part: Part) -> str:
    """Facts of the part's header, each after a comma."""
    measures = registry.measures(part.type)
    facts = measures.facts(part) if measures else {}
    return "".join(f", {value if isinstance(value, str) else f'{value:g} {name}'}" for name, value in facts.items())


def _check_unicode(text: str) -> None:
    """Raise ConfigError for bytes that are not UTF-8, which Python's input() decodes to lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"got bytes that are not UTF-8 at character {error.start + 1}; expected text in UTF-8: nothing was asked"
        ) from error


def _as_line(message: Message) -> str:
    """The message on one line: its role, texts, and the types of other parts."""
    values = (str(p.value) if isinstance(p.value, str) else f"<{p.type}>" for p in message.parts)
    return f"{message.role}: {' '.join(values)}"


def detect_terminal() -> Terminal | None:
    """The terminal of standard output; None where that is no terminal."""
    if not sys.stdout.isatty():
        return None
    return Terminal(min(MAX_COLUMNS, shutil.get_terminal_size().columns), graphics(os.environ))


def read_script(script: Path, say: Callable[[str], Any], prompt: str = "> ") -> Iterable[str]:
    """Yield the lines of a file, each said before it is handled; without blank ones. Raises ConfigError where it cannot be
    read."""
    try:
        lines = script.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{script} cannot be read ({error}); expected a text file, a line as chat takes it on each line"
        ) from error
    for line in filter(str.strip, lines):
        say(f"{prompt}{line}")
        yield line


def read_lines(prompt: str = "> ") -> Iterable[str]:
    """Yield the lines of standard input until its end; prompts in a terminal."""
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
