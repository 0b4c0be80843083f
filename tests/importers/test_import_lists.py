"""One reader for every list: quotes, byte order marks, delimiters, long fields, blank lines."""

import json

import pytest
from import_sources import clip, described, picture, take, write

from plait.data.importers.core.lists import open_table, split_quoted
from plait.data.importers.core.report import Report
from plait.errors import DataError

N = 12


@pytest.fixture
def source(tmp_path):
    for n in range(N):
        picture(tmp_path / "s" / f"{n}.png")
    return tmp_path / "s"


def captions(source, tmp_path, **options):
    counts, said = take(source, tmp_path / "to", **options)
    texts = described(tmp_path / "to")
    numbers = {path.read_bytes(): int(path.stem) for path in source.glob("*.png")}
    return {numbers[data]: text for data, text in texts.items()}, counts, said


def test_a_quote_that_is_never_closed_swallows_nothing(source, tmp_path):
    lines = [f'{n}.png,"thing {n}"' for n in range(N)]
    lines[3] = '3.png,"thing 3'
    lines[7] = '7.png,a 5" disk'
    write(source / "captions.csv", "file_name,caption\n" + "\n".join(lines))
    texts, counts, said = captions(source, tmp_path)
    assert sum(counts.values()) == 2 * N
    assert texts == {n: f"thing {n}" for n in range(N)} | {3: '"thing 3', 7: 'a 5" disk'}
    assert "1 quotes are never closed, and read as letters (captions.csv:5)" in said


def test_a_stray_quote_at_the_end_of_a_later_row_closes_nothing(source, tmp_path):
    lines = [f"{n}.png,thing {n}" for n in range(N)]
    lines[3], lines[9] = '3.png,"thing 3', '9.png,thing 9"'
    write(source / "captions.csv", "file_name,caption\n" + "\n".join(lines))
    texts, _, _ = captions(source, tmp_path)
    assert texts == {n: f"thing {n}" for n in range(N)} | {3: '"thing 3', 9: 'thing 9"'}


@pytest.mark.parametrize("more", [0, 7])
def test_texts_of_several_lines_stay_whole(source, tmp_path, more):
    rest = "\nand so on" * more
    lines = [f'{n}.png,"thing {n},\n\nbig, ""round""{rest}"' for n in range(N)]
    write(source / "captions.csv", "file_name,caption\n" + "\n".join(lines))
    texts, _, said = captions(source, tmp_path, strict=True)
    assert texts == {n: f'thing {n},\n\nbig, "round"{rest}' for n in range(N)}
    assert len(said) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("head", ["image{d}caption\n", ""])
def test_marks_delimiters_and_heads(source, tmp_path, encoding, delimiter, head):
    text = head.format(d=delimiter) + "".join(f"{n}.png{delimiter}größe {n}\r\n\n" for n in range(N))
    (source / "list.csv").write_bytes(text.encode(encoding))
    texts, counts, _ = captions(source, tmp_path, strict=True)
    assert sum(counts.values()) == 2 * N
    assert texts == {n: f"größe {n}" for n in range(N)}


def test_fields_longer_than_a_reader_s_limit(source, tmp_path):
    lines = [f'{n}.png,"{n} {"word, " * 40_000}"' for n in range(N)]
    write(source / "captions.csv", "file_name,caption\n" + "\n".join(lines))
    texts, _, _ = captions(source, tmp_path, strict=True)
    assert texts[3] == f"3 {'word, ' * 40_000}".strip()


@pytest.mark.parametrize("head", ["file_name,caption\n", ""])
def test_a_text_with_the_delimiter_in_it_is_not_cut(source, tmp_path, head):
    """Where there are but a name and a text, the rest of a row can only be the text."""
    lines = [f"{n}.png,thing {n}{', round' * (n % 3)}" for n in range(N)]
    write(source / "captions.csv", head + "\n".join(lines))
    texts, _, _ = captions(source, tmp_path, strict=True)
    assert texts == {n: f"thing {n}{', round' * (n % 3)}" for n in range(N)}


def test_a_row_of_too_many_fields_is_not_guessed_at(source, tmp_path):
    lines = [f"{n}.png,thing {n},mine" for n in range(N)]
    lines[3] = "3.png,thing 3, and more,mine"
    write(source / "captions.csv", "file_name,caption,licence\n" + "\n".join(lines))
    texts, _, said = captions(source, tmp_path)
    assert texts == {n: f"thing {n}" for n in range(N) if n != 3}
    assert "1 passed over: it has 4 fields (captions.csv:5)" in said


@pytest.mark.parametrize("before", ["", "\n", "\n  \n", "\ufeff", "\ufeff\n"])
def test_a_list_of_json_after_blank_lines(tmp_path, before):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    for name, text in (
        ("list.json", json.dumps([{"messages": turns}] * 3)),
        ("pretty.json", json.dumps([{"messages": turns}] * 3, indent=1)),
        ("list.jsonl", json.dumps([{"messages": turns}] * 3)),
        ("lines.jsonl", "\n\n".join([json.dumps({"messages": turns})] * 3)),
        ("lines.json", "\n".join([json.dumps({"messages": turns})] * 3)),
        ("wrapped.json", json.dumps({"version": 1, "data": [{"messages": turns}] * 3})),
    ):
        write(tmp_path / name, before + text)
        assert take(tmp_path / name, tmp_path / f"to-{name}", strict=True)[0] == {"train": 3}, name


def test_broken_json_is_named_with_its_line(tmp_path):
    write(tmp_path / "a.json", '[{"messages": []},\n{"messages": [')
    with pytest.raises(DataError, match=r"a\.json:2: not JSON .*is the file whole\?"):
        take(tmp_path / "a.json", tmp_path / "to")


def test_quotes_of_common_voice_are_letters(tmp_path):
    for n in range(N):
        clip(tmp_path / "s/clips" / f"{n}.mp3")
    lines = [f'anna\t{n}.mp3\t"Hello," she said {n}.' for n in range(N)]
    lines[3] = 'anna\t3.mp3\t"Well, 3'
    lines[4] = 'anna\t4.mp3\t"Well 4"'
    write(tmp_path / "s/train.tsv", "client_id\tpath\tsentence\n" + "\n".join(lines))
    _, said = take(tmp_path / "s", tmp_path / "to", strict=True)
    assert "as common_voice" in said[0]
    texts = set(described(tmp_path / "to").values())
    assert {'"Hello," she said 0.', '"Well, 3', '"Well 4"'} <= texts
    assert len(texts) == N


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("a,b", (["a", "b"], False)),
        ('"a,b",c', (["a,b", "c"], False)),
        ('"a ""b""",', (['a "b"', ""], False)),
        ('"a,b', (None, True)),
        ('"a"b,c', (None, False)),
        ('a "b",c', (['a "b"', "c"], False)),
        ("", ([""], False)),
        ('""', ([""], False)),
    ],
)
def test_fields_in_quotes(line, fields):
    assert split_quoted(line, ",") == fields


def test_prose_is_no_list(tmp_path):
    write(tmp_path / "readme.txt", "A line, of prose.\nAnother.\nOne more, with, commas\n")
    assert open_table(tmp_path / "readme.txt", "readme.txt", str) is None
    write(tmp_path / "one.csv", "file_name,caption\n")
    table = open_table(tmp_path / "one.csv", "one.csv", str)
    assert table.columns == ("file_name", "caption")
    assert not list(table.entries(Report()))
