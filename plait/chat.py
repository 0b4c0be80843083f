"""`plait chat`: a conversation in the terminal. Pictures are shown, what is drawn and said is written to files, and
nothing is played."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from plait.contract import Message, Part, Sample
from plait.data.importers import SUFFIXES, Record, Writer
from plait.data.media import Blob
from plait.errors import ConfigError, PlaitError

HELP = """\
  words                 ask; the model decides whether it answers in words, a picture or sound
  /draw words           answer with a picture        /say words    answer with sound
  /text words           answer in words
  /image FILE [words]   add a picture to the question, and ask if words follow; /audio FILE [words] likewise
  /seed N               other noise, another drawing /history      what was said so far
  /save FOLDER          keep the conversation: rows and media that plait train --data reads
  /new                  forget the conversation      /quit         leave (also Ctrl-D)"""
ORDERS = {"/draw": "image", "/say": "audio", "/text": "text"}
WIDEST = 64  # columns of a picture in half blocks
BARS = "▁▂▃▄▅▆▇█"


class Answers(Protocol):
    """What chat needs of a model: plait.api.Model has it."""

    def reply(self, messages: tuple[Message, ...], to: str | None = None, **options: Any) -> Message: ...


def half_blocks(picture: Image.Image, columns: int = WIDEST) -> str:
    """A picture as text: two pixels a character, upper ones as the colour of ▀, lower ones as its background."""
    width, height = picture.size
    scale = min(1.0, columns / width)
    size = max(1, round(width * scale)), max(2, 2 * round(height * scale / 2))
    pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BOX))
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells = (
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]}m\x1b[48;2;{b[0]};{b[1]};{b[2]}m▀"
            for a, b in zip(upper, lower, strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)


def graphics(environment: Mapping[str, str]) -> str | None:
    """The picture protocol that a terminal says it has: `kitty`, `iterm`, or none."""
    if "KITTY_WINDOW_ID" in environment or "kitty" in environment.get("TERM", "") or "GHOSTTY_BIN_DIR" in environment:
        return "kitty"
    return "iterm" if environment.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm") else None


def escape(picture: Image.Image, protocol: str) -> str:
    """A picture in a terminal's own protocol, enlarged if it is tiny. Sources: kitty's graphics protocol, iTerm2's
    inline images."""
    times = max(1, 160 // max(picture.size))
    large = picture.convert("RGB").resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    large.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    if protocol == "iterm":
        return f"\x1b]1337;File=inline=1;size={len(buffer.getvalue())}:{data}\a"
    pieces = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    made = []
    for number, piece in enumerate(pieces):
        control = ("a=T,f=100," if number == 0 else "") + f"m={int(number < len(pieces) - 1)}"
        made.append(f"\x1b_G{control};{piece}\x1b\\")
    return "".join(made)


def loudness(samples: np.ndarray, columns: int = 40) -> str:
    """Loudness over time as a line of bars."""
    pieces = np.array_split(np.asarray(samples, np.float64), min(columns, max(1, len(samples))))
    levels = np.array([np.sqrt(np.mean(piece**2)) for piece in pieces])
    return "".join(BARS[int(level)] for level in (levels / max(levels.max(), 1e-9) * (len(BARS) - 1)).round())


class Chat:
    """A conversation. `write_file(part, folder, number)` stores a medium and returns its name; `say` prints a line.

    The model sees the last `memory` exchanges beside the question: none where it learned single questions.
    """

    def __init__(
        self,
        model: Answers,
        out: Path,
        write_file: Callable[[Part, Path, int], str],
        say: Callable[[str], Any],
        memory: int = 0,
        seed: int = 0,
        pictures: Callable[[Image.Image], str] | None = None,
    ) -> None:
        self.model, self.out, self.write_file, self.say = model, out, write_file, say
        self.memory, self.seed, self.pictures = memory, seed, pictures
        self.history: list[Message] = []
        self.waiting: list[Part] = []

    def line(self, text: str) -> bool:
        """Act on one line; False ends the conversation. What a user can mend is said, and nothing is lost."""
        text = text.encode("utf-8", "replace").decode().strip()  # bytes of a pipe that were no UTF-8
        try:
            return self._act(text) if text else True
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
        elif command in ORDERS:
            self.ask(rest, ORDERS[command])
        elif command in ("/image", "/audio"):
            self.attach(command[1:], rest)
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
            self.say(HELP)
        else:
            raise ConfigError(f"got {command}; expected one of the commands that /help lists, or words")
        return True

    def attach(self, kind: str, rest: str) -> None:
        """Keep a medium for the next question; ask at once if words follow its name."""
        name, words = _file_and_words(rest)
        if not name:
            raise ConfigError(f"/{kind}: no file; expected /{kind} FILE, one of {', '.join(SUFFIXES[kind])}")
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
        parts = (*self.waiting, *([Part("text", words)] if words else []))
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
        """Words as they are; of a picture or sound the file's name, and a look at it."""
        written = self.write_file(part, self.out, number)
        if part.type == "text":
            self.say(written)
        elif part.type == "image":
            if self.pictures:
                self.say(self.pictures(part.value))
            self.say(f"[{written}: {part.value.width} x {part.value.height}]")
        else:
            samples, rate = part.value
            self.say(f"{loudness(samples)}\n[{written}: {len(samples) / rate:.2f} s]")

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
        Blob(Path(value).read_bytes(), Path(value).suffix) if part.type != "text" and isinstance(value, str) else value
    )


def _in_a_line(message: Message) -> str:
    said = (str(p.value) if p.type == "text" or isinstance(p.value, str) else f"<{p.type}>" for p in message.parts)
    return f"{message.role}: {' '.join(said)}"


def look() -> Callable[[Image.Image], str] | None:
    """How this terminal shows pictures; None where there is no terminal."""
    if not sys.stdout.isatty():
        return None
    protocol = graphics(os.environ)
    if protocol:
        return lambda picture: escape(picture, protocol)
    columns = min(WIDEST, shutil.get_terminal_size().columns)
    return lambda picture: half_blocks(picture, columns)


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
