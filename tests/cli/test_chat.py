"""Chat: a conversation in the terminal, by its commands; and checkpoints as one file."""

import io
import json
import sys
import time
import zipfile

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

import plait
from plait import registry
from plait.cli import app, conversation
from plait.contract import Message, Part
from plait.data.rows import read_rows
from plait.errors import CheckpointError, ConfigError
from plait.modalities.image.render import half_blocks, in_protocol
from plait.train import archive, checkpoint

TINY = [
    "trunk.dim=32", "trunk.num_layers=2", "trunk.num_heads=2", "steps=4", "pack.sequences=2", "dtype=float32",
    'sampling={"steps":2,"guidance":1.0,"temperature":0.0,"max_tokens":12}',
]  # fmt: skip


@pytest.fixture(scope="module")
def run(small_digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("chat") / "run"
    plait.train("digits", f"data={small_digits}", *TINY, out=out, threads=1)
    return out


class Echo:
    """A stand-in for a model: answers in the modality asked for and remembers what it saw."""

    def __init__(self):
        self.seen = []

    def reply(self, messages, to=None, **options):
        self.seen.append((messages, to, options))
        value = {
            "image": Image.new("RGB", (4, 6), "red"),
            "audio": (np.sin(np.arange(800) / 9).astype(np.float32), 16000),
        }.get(to, "an answer")
        return Message("assistant", (Part(to or "text", value),))


@pytest.fixture
def talk(tmp_path):
    said = []
    made = conversation.Chat(Echo(), tmp_path, said.append, terminal=conversation.Terminal())
    made.said = said
    return made


def test_words_pictures_and_sound(talk, tmp_path):
    assert talk.handle("hello")
    assert talk.handle("/draw a thing")
    assert talk.handle("/say a thing")
    assert [to for _, to, _ in talk.model.seen] == [None, "image", "audio"]
    assert talk.said[0] == "an answer"
    assert "▀" in talk.said[1]
    assert (tmp_path / "answer-0.png").is_file()
    assert (tmp_path / "answer-1.wav").is_file()
    assert "0.05 s" in talk.said[-2]
    assert "0.05 seconds" in talk.said[-1]
    assert not talk.handle("/quit")


def test_what_is_heard_without_words_is_said(talk, tmp_path):
    """As the model reads it; a question with words is asked as it is."""
    talk.model.in_words = lambda messages: tuple(
        message if message.parts[-1].type == "text" else Message("user", (Part("text", "what is this"),))
        for message in messages
    )
    sound = tmp_path / "question.wav"
    soundfile.write(sound, np.zeros(800), 16000)
    talk.handle(f"/audio {sound} Write it down.")
    assert not [line for line in talk.said if "heard" in line]
    talk.handle(f"/audio {sound}")
    talk.handle("/text")
    assert talk.said[-2:] == ['(heard: "what is this")', "an answer"]


def test_media_go_with_the_next_question(talk, tmp_path):
    Image.new("L", (5, 5)).save(tmp_path / "my cat.png")
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    talk.handle(f"/image {tmp_path / 'my cat.png'}")
    talk.handle(f"/audio '{tmp_path / 'a.wav'}' what is it?")
    ((question,), to, _) = talk.model.seen[0]
    assert [part.type for part in question.parts] == ["image", "audio", "text"]
    assert question.parts[2].value == "what is it?"
    assert to is None
    talk.handle("and now?")
    assert len(talk.model.seen[1][0][0].parts) == 1, "the picture went along a second time"


def test_a_script_is_handled_line_by_line(talk, tmp_path):
    Image.new("L", (5, 5)).save(tmp_path / "a.png")
    (tmp_path / "lines.txt").write_text("/image a.png what is this?\n\n/draw seven\n", encoding="utf-8")
    talk.folder = tmp_path
    for line in conversation.read_script(tmp_path / "lines.txt", talk.said.append):
        talk.handle(line)
    assert [to for _, to, _ in talk.model.seen] == [None, "image"]
    assert talk.said[:3] == ["> /image a.png what is this?", "an answer", "> /draw seven"]


def test_a_script_that_is_no_text_is_said(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\xff")
    for path in (tmp_path / "a.png", tmp_path / "missing"):
        with pytest.raises(ConfigError, match=r"cannot be read.*expected a text file"):
            list(conversation.read_script(path, print))


def test_memory_is_as_long_as_asked(talk):
    for line in ("one", "two", "three"):
        talk.handle(line)
    assert [len(messages) for messages, _, _ in talk.model.seen] == [1, 1, 1]
    talk.memory = 1
    talk.handle("four")
    assert [m.role for m in talk.model.seen[-1][0]] == ["user", "assistant", "user"]
    talk.handle("/new")
    talk.handle("five")
    assert len(talk.model.seen[-1][0]) == 1


def test_the_seed_goes_along(talk):
    talk.handle("/seed 7")
    talk.handle("x")
    assert talk.model.seen[0][2] == {"seed": 7}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/image", "expected /image FILE"),
        ("/image nowhere.png", "is not there"),
        ("/image 'half", "quotes"),
        ("/image " + "x" * 400, "name too long"),
        ("/seed ²", "whole number"),
        ("/seed -3", "whole number"),
        ("/save", "nothing was said"),
        ("/dance", "/help"),
        ("/draw", "nothing was asked"),
    ],
)
def test_mistakes_are_said_and_the_conversation_goes_on(talk, line, expected):
    assert talk.handle(line)
    assert expected in talk.said[-1]
    assert talk.said[-1].startswith("!")
    assert not talk.model.seen
    assert talk.handle("hello")


def test_a_conversation_is_kept_as_rows(talk, tmp_path):
    Image.new("L", (5, 5), 9).save(tmp_path / "in.png")
    talk.handle(f"/image {tmp_path / 'in.png'} what?")
    talk.handle("/draw it")
    talk.handle(f"/save {tmp_path / 'kept'}")
    (sample,) = read_rows(tmp_path / "kept/train.jsonl", registry.build_all(registry.available()))
    assert [m.role for m in sample.messages] == ["user", "assistant", "user", "assistant"]
    with Image.open(sample.messages[3].parts[0].value) as picture:
        assert picture.size == (4, 6)
    talk.handle(f"/save {tmp_path / 'kept'}")
    assert "not empty" in talk.said[-1]
    talk.handle("/save")
    assert "expected /save FOLDER" in talk.said[-1]


def test_half_blocks_show_the_colours():
    picture = Image.new("RGB", (2, 2), (1, 2, 3))
    picture.putpixel((0, 1), (9, 8, 7))
    (line,) = half_blocks(picture).splitlines()
    assert line.startswith("\x1b[38;2;1;2;3m\x1b[48;2;9;8;7m▀")
    assert line.endswith("\x1b[0m")
    wide = half_blocks(Image.new("L", (640, 320)), 32).splitlines()
    assert len(wide) == 8
    assert wide[0].count("▀") == 32


def test_terminals_own_graphics():
    assert conversation.graphics({"TERM": "xterm-kitty"}) == "kitty"
    assert conversation.graphics({"TERM_PROGRAM": "iTerm.app"}) == "iterm"
    assert conversation.graphics({"TERM": "xterm-256color"}) is None
    assert in_protocol(Image.new("L", (200, 200)), "kitty").startswith("\x1b_Ga=T,f=100,")
    assert in_protocol(Image.new("L", (2, 2)), "iterm").startswith("\x1b]1337;File=inline=1")


def test_a_real_model_in_a_real_terminal(run, tmp_path, small_digits):
    """Through a pseudo-terminal: prompt, half blocks, files."""
    pexpect = pytest.importorskip("pexpect")
    child = pexpect.spawn(
        sys.executable, ["-m", "plait", "chat", str(run), "--out", str(tmp_path)], encoding="utf-8", timeout=60,
        env={"TERM": "xterm-256color", "PATH": "/usr/bin:/bin", "COLUMNS": "80"}, dimensions=(40, 100),
    )  # fmt: skip
    child.expect("/help lists the commands")
    child.sendline("/draw seven")
    child.expect("▀")
    child.expect(r"answer-0\.png, 28 x 28")
    child.sendline("/image nowhere.png")
    child.expect("is not there")
    child.sendline("/quit")
    child.expect(pexpect.EOF)


def test_bytes_that_are_no_text_are_said(talk):
    assert talk.handle(b"caf\xe9?".decode("utf-8", "surrogateescape"))
    assert "not UTF-8 at character 4" in talk.said[-1]
    assert not talk.model.seen


def test_more_than_the_model_has_seen_is_refused_at_once(run):
    begin = time.perf_counter()
    with pytest.raises(ConfigError, match=r"got \d+ tokens.*at most 192.*shorten the question"):
        plait.load(run).generate(["seven " * 20_000])
    assert time.perf_counter() - begin < 20


def test_through_a_pipe(run, tmp_path, small_digits):
    picture = min((small_digits / "media/test").glob("*.png"))
    lines = f"/image {picture} Which digit is this?\n/say one\n/history\n"
    result = CliRunner().invoke(app, ["chat", str(run), "--out", str(tmp_path)], input=lines, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "user: " in result.output
    assert "\x1b[" not in result.output


def test_export_and_back(run, tmp_path):
    packed = plait.export(run, tmp_path / "model.plait")
    again = plait.export(run, tmp_path / "twin.plait")
    assert packed.read_bytes() == again.read_bytes()
    names = zipfile.ZipFile(packed).namelist()
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(names)
    assert not any(name.startswith("train_state") for name in names)
    a = plait.load(run).generate(["Draw seven."], to="image", options={"image": {"size": (28, 28)}})
    b = plait.load(packed).generate(["Draw seven."], to="image", options={"image": {"size": (28, 28)}})
    assert np.array_equal(np.asarray(a.parts[0].value), np.asarray(b.parts[0].value))
    folder = plait.export(packed, tmp_path / "unpacked")
    checkpoint.load(folder)
    result = CliRunner().invoke(app, ["generate", str(packed), "--text", "one", "--to", "text"], catch_exceptions=False)
    assert result.exit_code == 0
    with pytest.raises(ConfigError, match="exists"):
        plait.export(run, packed)
    with pytest.raises(ConfigError, match="not empty"):
        plait.export(packed, folder)


def test_damaged_and_hostile_archives(run, tmp_path):
    packed = plait.export(run, tmp_path / "model.plait")
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.plait").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"cannot be unpacked|damaged"):
        plait.load(tmp_path / "flipped.plait")
    (tmp_path / "words.plait").write_text("words")
    with pytest.raises(CheckpointError, match="no archive"):
        plait.load(tmp_path / "words.plait")
    (tmp_path / "half.plait").write_bytes(packed.read_bytes()[:5000])
    with pytest.raises(CheckpointError):
        plait.load(tmp_path / "half.plait")
    deflated = tmp_path / "deflated.plait"  # as another tool packs it again: damage shows as zlib's error
    with zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("config.json", "{" + "plait " * 5000)
        start = made.infolist()[0].header_offset + 30 + len("config.json")
    data = bytearray(deflated.read_bytes())
    data[start] = 0xFF  # no block of deflate begins so
    deflated.write_bytes(data)
    with pytest.raises(CheckpointError, match="is compressed"):
        plait.load(deflated)
    with zipfile.ZipFile(tmp_path / "escape.plait", "w") as made:
        made.writestr("../evil.json", "{}")
    with pytest.raises(CheckpointError, match="plain file names"):
        plait.load(tmp_path / "escape.plait")
    assert not (tmp_path / "evil.json").exists()


def test_an_archive_says_what_it_is(run, tmp_path):
    packed = archive.pack(checkpoint.locate(run), tmp_path / "m.plait")
    with zipfile.ZipFile(packed) as found:
        card = found.read("README.md").decode()
        config = json.load(io.TextIOWrapper(found.open("config.json")))
    assert "digits" in card
    assert "plait generate" in card
    assert set(config["sha256"]) >= {"model.safetensors", "tokenizer.json"}
