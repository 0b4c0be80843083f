"""A picture and words to a new picture: the page's snippets, the recipe's training, the command, and what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from typer.testing import CliRunner

from plait import api, recipes, registry
from plait.cli import app
from plait.contract import Message, Part, Sample
from plait.data.rows import dump_row
from plait.errors import DataError
from plait.recipes.overrides import override
from plait.train import run as runs

PAGE = Path(__file__).parents[2] / "docs" / "fusing.md"
PICTURES = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
WORDS = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, vocab_size=1024)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the two readers as transformers stores them, and pictures of squares, some filled and some in outline."""
    folder = tmp_path_factory.mktemp("fuse")
    torch.manual_seed(0)
    transformers.AutoModel.from_config(PICTURES).save_pretrained(folder / "pictures")
    transformers.AutoModel.from_config(WORDS).save_pretrained(folder / "words")
    (folder / "words" / "tokenizer.json").write_text(json.dumps(registry.build("text").state()["tokenizer_json"]))
    return folder


@pytest.fixture(scope="module")
def readers(place):
    """Names of the two, taken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAIT_SOURCES", str(place / "sources"))
        yield tuple(
            api.import_model(place / name, say=lambda line: None, reader=True).name for name in ("pictures", "words")
        )


def drawn(level, filled):
    levels = np.full((64, 64, 3), 255, np.uint8)
    levels[12:52, 12:52] = level
    if not filled:
        levels[20:44, 20:44] = 255
    return Image.fromarray(levels)


@pytest.fixture(scope="module")
def run(place, readers):
    """A short training of the recipe on squares that are to be filled or emptied."""
    data = place / "data"
    data.mkdir()
    rows = []
    for number in range(40):
        filled = bool(number % 2)
        files = []
        for kind in (not filled, filled):
            files.append(data / f"{number}-{kind}.png")
            drawn((40 + 4 * number, 30, 200 - 4 * number), kind).save(files[-1])
        question = (Part("image", files[0].name), Part("text", "Fill it." if filled else "Make it empty."))
        rows.append(
            Sample((Message("user", question), Message("assistant", (Part("image", files[1].name),))), "restyle")
        )
    lines = [dump_row(row) for row in rows]
    (data / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    picture_reader, word_reader = readers
    recipe = override(
        recipes.load("fuse").model_copy(update={"data": str(data), "name": "squares"}),
        [f"modalities.image.reader={picture_reader}", f"modalities.text.reader={word_reader}", "steps=30", "save_every=30",
         "trunk.dim=64", "trunk.num_layers=2", "trunk.num_heads=2", "pca=16", "pack.sequences=2", "hold_out={}", "weights={}"],
    )  # fmt: skip
    runs.train(recipe, place / "run", threads=1)
    return place / "run"


def snippets():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_the_snippet_that_cannot_run_stops_where_the_page_says_so():
    broken, _ = snippets()
    names: dict[str, object] = {}
    exec(compile(broken, "docs/fusing.md, first snippet", "exec"), names)
    pictures = transformers.ResNetForImageClassification(PICTURES)
    words = transformers.GPT2Model(transformers.GPT2Config(n_layer=1))
    fusion = names["Fusion"](pictures, words)
    picture, ids = torch.rand(1, 3, 64, 64), torch.tensor([[1, 2, 3]])
    with pytest.raises(TypeError, match="must be Tensor"):
        fusion(picture, ids)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fusion.seen(torch.rand(1, 1000))
    with pytest.raises(TypeError, match="must be Tensor"):
        fusion.read(words(ids))
    with pytest.raises(RuntimeError, match="same number of dimensions"):
        torch.cat((torch.rand(1, 512), fusion.read(words(ids).last_hidden_state)))
    with pytest.raises(TypeError, match="tgt"):
        fusion.fuse(torch.rand(1, 4, 512))


def test_the_snippet_that_runs_runs(place, readers, monkeypatch, capsys):
    monkeypatch.setenv("PLAIT_SOURCES", str(place / "sources"))
    monkeypatch.chdir(place)
    drawn((200, 30, 30), True).save(place / "cat.png")
    _, code = snippets()
    for name, other in zip(("efficientnet_lite0", "smollm2_135m_instruct"), readers, strict=True):
        assert name in code
        code = code.replace(name, other)
    names: dict[str, object] = {}
    exec(compile(code, "docs/fusing.md, second snippet", "exec"), names)
    assert names["picture"].size == (64, 64)
    assert [line.split(" -> ")[1] for line in capsys.readouterr().out.splitlines()] == ["(11, 512)", "(21, 512)"]


def test_the_recipe_trains_and_the_command_draws(run, place, readers, monkeypatch):
    monkeypatch.setenv("PLAIT_SOURCES", str(place / "sources"))
    lines = (run / "train.log").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{") and "loss/image" in line]
    for group in ("loss/image", "loss/grammar"):
        assert rows[-1][group] < rows[0][group], group
    out = place / "answers" / "new.png"
    arguments = ["fuse", str(place / "data" / "1-False.png"), "Fill it.", "seed=3", "steps=2", "--model", str(run)]
    answer = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert answer.exit_code == 0, answer.output
    assert str(out) in answer.output.replace("\n", "")
    with Image.open(out) as picture:
        assert picture.size == (64, 64)
    before = out.read_bytes()
    again = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert again.exit_code != 0
    assert out.read_bytes() == before
    other = CliRunner().invoke(app, [*arguments, "--out", str(out.with_name("other.jpg"))])
    assert other.exit_code == 0, other.output
    no_number = CliRunner().invoke(app, [*arguments, "guidance=nan", "--out", str(out.with_name("third.png"))])
    assert "expected numbers from 0 to" in " ".join(str(no_number.exception).split())
    with Image.open(out.with_name("other.jpg")) as picture:
        assert picture.format == "JPEG"


def test_the_words_reach_the_answer(run, place, readers, monkeypatch):
    monkeypatch.setenv("PLAIT_SOURCES", str(place / "sources"))
    model = api.load(run)
    pictures = [
        np.asarray(
            model.generate([Part("image", str(place / "data" / "1-False.png")), words], seed=1, steps=2).parts[0].value
        )
        for words in ("Fill it.", "Make it empty.", "Fill it.")
    ]
    assert np.array_equal(pictures[0], pictures[2])
    assert not np.array_equal(pictures[0], pictures[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png", "Fill it."], "expected a file that is there"),
        (["picture.xyz", "Fill it."], "expected a file that is there"),
        (["picture.png", "Fill", "it."], "expected key=value"),
        (["picture.png", "Fill it.", "colour=red"], "the setting 'colour'"),
        (["picture.png", "Fill it.", "--model", "."], "holds no checkpoint"),
        (["p" * 300 + ".png", "Fill it."], "expected a file that is there"),
        (
            ["picture.png", "Fill it.", "--out", "picture.xyz/new.png", "--model", "."],
            "expected a folder, or a place where one can be made",
        ),
        (["picture.png", "Fill it.", "--out", "new.txt"], "ends in .png or .jpeg or .webp"),
        (["picture.png", "Fill it.", "--out", "picture.png"], "the name of a new file"),
        (["picture.png", "Fill it."], "train it with plait train fuse"),
        (["picture.png", "Fill it.", "--model", "nothing"], "nothing holds no checkpoint"),
    ],
)
def test_what_is_refused_says_what_to_do(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn(9, True).save("picture.png")
    Path("picture.xyz").write_bytes(b"?")
    answer = CliRunner().invoke(app, ["fuse", *arguments])
    said = " ".join((answer.output + str(answer.exception)).split())
    assert answer.exit_code != 0
    assert message in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.png", "picture.xyz"]


def test_data_of_another_recipe_is_not_written_over(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"recipe": "digits"}))
    with pytest.raises(DataError):
        recipes.module("fuse").build(tmp_path, lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
