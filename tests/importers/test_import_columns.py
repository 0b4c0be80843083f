"""The column of the texts is chosen by its name, its place or what is in it, and never the last because it is the last."""

import pytest
from import_sources import answers, clip, described, picture, take, write

N = 12


def clips(root):
    for n in range(N):
        clip(root / "wavs" / f"{n}.wav")
    return root


TEXTS = [f"said {n}" for n in range(N)]


@pytest.mark.parametrize(
    "line",
    [
        "{n}|said {n}",
        "{n}|Said. {n}|said {n}",
        "{n}|Said. {n}|said {n}|anna|en",
        "wavs/{n}.wav|anna|said {n}",
        "{n}|said {n}|anna",
        "{n}|said {n}|1.5{n}",
        "{n}|anna|en|said {n}",
        "{n}.wav|said {n}|anna|en",
        "{n}|said {n}|",
    ],
)
def test_lists_between_bars(tmp_path, line):
    source = clips(tmp_path / "s")
    write(source / "metadata.csv", "\n".join(line.format(n=n) for n in range(N)))
    _, said = take(source, tmp_path / "to")
    assert "as ljspeech" in said[0]
    assert answers(tmp_path / "to") == sorted(TEXTS)
    if line.count("|") > 2:
        assert any("text is column" in entry and "such as 'said 0'" in entry for entry in said)
        assert any(entry.startswith("metadata.csv: not used: column") for entry in said)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    "head", ["id|text", "id|text|speaker", "file|speaker|sentence|lang", "audio_file|text|speaker_name"]
)
def test_a_head_line_names_the_columns(tmp_path, head, mark):
    source = clips(tmp_path / "s")
    cells = {"id": "{n}", "file": "wavs/{n}.wav", "audio_file": "wavs/{n}", "text": "said {n}", "sentence": "said {n}"}
    lines = ["|".join(cells.get(name, f"{name} {n}").format(n=n) for name in head.split("|")) for n in range(N)]
    write(source / "metadata.csv", mark + "\n".join([head, *lines]))
    counts, _ = take(source, tmp_path / "to", strict=True)
    assert sum(counts.values()) == 2 * N
    assert answers(tmp_path / "to") == sorted(TEXTS)


def test_a_mark_of_the_byte_order_is_no_part_of_a_name(tmp_path):
    source = clips(tmp_path / "s")
    write(source / "metadata.csv", "\ufeff" + "\n".join(f"{n}|said {n}" for n in range(N)))
    take(source, tmp_path / "to", strict=True)
    assert answers(tmp_path / "to") == sorted(TEXTS)


def test_few_values_in_all_are_a_warning(tmp_path):
    """Named as the text, and yet a language."""
    for n in range(N):
        picture(tmp_path / "s" / f"{n}.png")
    write(
        tmp_path / "s/list.csv", "file_name,text\n" + "".join(f"{n}.png,{'en' if n % 2 else 'de'}\n" for n in range(N))
    )
    _, said = take(tmp_path / "s", tmp_path / "to")
    (warning,) = [line for line in said if line.startswith("warning")]
    assert "list.csv" in warning
    assert "2 values in all in 12 entries (de, en)" in warning


def test_enough_values_are_none(tmp_path):
    source = clips(tmp_path / "s")
    write(source / "metadata.csv", "\n".join(f"{n}|said {n}" for n in range(N)))
    assert not [line for line in take(source, tmp_path / "to")[1] if "warning" in line]


def test_lists_of_the_splits(tmp_path):
    source = clips(tmp_path / "s")
    for name, numbers in (("train", range(8)), ("val", range(8, N))):
        write(source / f"metadata_{name}.csv", "\n".join(f"{n}|said {n}" for n in numbers))
    write(source / "metadata.csv", "\n".join(f"{n}|said {n}" for n in range(N)))
    assert take(source, tmp_path / "to")[0] == {"train": 16, "dev": 8}


def test_a_column_of_splits_is_followed(tmp_path):
    for n in range(N):
        picture(tmp_path / "s" / f"{n}.png")
    names = ["train"] * 8 + ["val"] * 2 + ["test"] * 2
    write(tmp_path / "s/l.csv", "image,caption,split\n" + "".join(f"{n}.png,a {n},{names[n]}\n" for n in range(N)))
    assert take(tmp_path / "s", tmp_path / "to")[0] == {"train": 16, "dev": 4, "test": 4}


@pytest.mark.parametrize("head", ["", "image,caption\n", "Picture,What is seen\n"])
def test_captions_without_known_names(tmp_path, head):
    for n in range(N):
        picture(tmp_path / "s" / f"{n}.png")
    write(tmp_path / "s/list.csv", head + "".join(f'{n}.png,"a thing, {n}"\n' for n in range(N)))
    counts, said = take(tmp_path / "s", tmp_path / "to", strict=True)
    assert "as captions" in said[0]
    assert sum(counts.values()) == 2 * N
    assert described(tmp_path / "to") == {(tmp_path / "s" / f"{n}.png").read_bytes(): f"a thing, {n}" for n in range(N)}
