"""What is heard is spelled in words that are known, as far as the letters allow."""

import itertools
import math
import re
from collections import defaultdict

import numpy as np
import pytest

from plait import registry
from plait.contract import Part
from plait.data.letters import CLASSES, read, spelled
from plait.model import lexicon
from plait.model.lexicon import PER_WORD, UNKNOWN, WEIGHT, Lexicon, whole_words, words_in

FLOOR = -50.0  # log probability of the letters that are not in play


def slots(*likely: dict[str, float]) -> np.ndarray:
    """Log probabilities of slots by letter; "" is the blank."""
    table = np.full((len(likely), CLASSES), FLOOR, np.float32)
    for row, letters in zip(table, likely, strict=True):
        for letter, probability in letters.items():
            row[spelled(letter)[0] if letter.strip() else (33 if letter else 0)] = math.log(probability)
    return table


def certain(text: str) -> np.ndarray:
    """Slots that spell a text beyond doubt, with a blank after every letter."""
    return slots(*({letter: 1.0} for pair in zip(text, itertools.repeat("")) for letter in pair))


def knowing(*texts: str, ranked=()) -> Lexicon:
    words = Lexicon(ranked)
    words.learn(words_in(texts))
    return words


def by_enumeration(log_probabilities, letters, words):
    """The likeliest text by the sum over every way to spell it."""
    sums = defaultdict(float)
    for classes in itertools.product(letters, repeat=len(log_probabilities)):
        text = re.sub(" +", " ", read(classes)).lstrip()  # what is said after silence, or not
        sums[text] += math.exp(sum(row[number] for row, number in zip(log_probabilities, classes, strict=True)))
    total = sum(words.counts.values())

    def of_words(text):
        return sum(
            PER_WORD + WEIGHT * (math.log(words.counts[word] / total) if word in words.counts else UNKNOWN)
            for word in text.split()
        )

    return max(sums, key=lambda text: math.log(sums[text]) + of_words(text)).strip()


@pytest.mark.parametrize("seed", range(20))
def test_a_wide_beam_finds_the_text_that_enumeration_finds(seed, monkeypatch):
    monkeypatch.setattr(lexicon, "WIDTH", 10_000)
    monkeypatch.setattr(lexicon, "UNLIKELY", -100.0)
    letters = [0, 33, *spelled("ab")]
    table = np.full((6, CLASSES), -1e3, np.float32)
    drawn = np.random.default_rng(seed).dirichlet(np.full(len(letters), 0.5), len(table))
    table[:, letters] = np.log(drawn)
    words = knowing("a", "ab ab", "b a", "bab")
    assert words.spellings(table)[0].text == by_enumeration(table, letters, words)


def test_a_known_word_wins_over_likelier_letters():
    doubtful = slots({"c": 1.0}, {"a": 0.4, "u": 0.6}, {"t": 1.0})
    assert knowing("a cat").spellings(doubtful)[0].text == "cat"
    assert knowing("a cut").spellings(doubtful)[0].text == "cut"


def test_the_more_frequent_of_two_known_words_wins():
    doubtful = slots({"c": 1.0}, {"a": 0.5, "u": 0.5}, {"t": 1.0})
    assert knowing("cat", "cut", "cut it").spellings(doubtful)[0].text == "cut"
    assert knowing("cut", "cat", "cat it").spellings(doubtful)[0].text == "cat"


def test_an_unknown_word_is_written_as_it_sounds():
    assert knowing("cat", "the").spellings(certain("the zyx cat"))[0].text == "the zyx cat"


def test_words_run_together_are_told_apart():
    gap = slots(*({letter: 1.0} for letter in "red"), {" ": 0.3, "": 0.7}, *({letter: 1.0} for letter in "fox"))
    assert read(gap.argmax(axis=-1)) == "redfox"
    assert knowing("red", "fox").spellings(gap)[0].text == "red fox"


def test_a_letter_that_lasts_is_one_and_a_blank_makes_it_two():
    assert knowing("cat").spellings(slots({"b": 1.0}, {"e": 1.0}, {"e": 1.0}))[0].text == "be"
    assert knowing("cat").spellings(slots({"b": 1.0}, {"e": 1.0}, {"": 1.0}, {"e": 1.0}))[0].text == "bee"


def test_other_spellings_come_after_the_best_with_what_they_are_of():
    words = knowing("cat", "cut", "cut it")
    table = slots({"c": 1.0}, {"a": 0.5, "u": 0.5}, {"t": 1.0})
    first, second, *rest = words.spellings(table, most=8)
    assert (first.text, second.text, rest) == ("cut", "cat", [])
    assert words.spellings(table, most=1) == [first]
    assert first.letters == pytest.approx(math.log(0.5), abs=1e-3) == second.letters
    assert first.words == pytest.approx(WEIGHT * math.log(2 / 4) + PER_WORD)
    assert first.score == first.letters + first.words > second.score


def test_nothing_is_told_that_cannot_be():
    spellings = knowing("bb", "b").spellings(slots({"b": 1.0}, {"": 1.0}, {"b": 1.0}), most=8)
    assert [spelling.text for spelling in spellings] == ["bb"]


def test_scripts_without_spaces_are_spelled_letter_by_letter():
    assert words_in(["今日は天気がいいです", "สวัสดี", "the 今日 cat"]) == {"the": 1, "cat": 1}
    sentence = "今日は天気がいい"
    table = np.full((2 * len(sentence.encode()), CLASSES), FLOOR, np.float32)
    table[::2, 0] = 0.0
    table[1::2][np.arange(len(sentence.encode())), spelled(sentence)] = math.log(0.9)
    table[1::2, 0] = math.log(0.1)
    assert knowing("cat").spellings(table)[0].text == sentence == read(table.argmax(axis=-1))


def test_silence_and_no_slot_at_all_say_nothing():
    words = knowing("cat")
    assert words.spellings(slots({"": 1.0}, {"": 1.0}))[0].text == ""
    assert words.spellings(np.zeros((0, CLASSES), np.float32))[0].text == ""


def test_blanks_before_the_first_word_and_between_two_are_silence():
    assert knowing("cat").spellings(slots({" ": 1.0}, {" ": 1.0}, {"": 1.0}, {" ": 1.0}))[0].text == ""
    assert knowing("cat").spellings(certain("  be   at "))[0].text == "be at"


def test_bytes_that_are_no_text_are_left_out():
    half = slots({"a": 1.0}, {"": 1.0})
    half[1, 0], half[1, 1 + 0xC3] = FLOOR, 0.0
    assert knowing("cat").spellings(half)[0].text == "a"


def test_words_of_a_vocabulary_are_known_by_their_rank():
    doubtful = slots({"c": 1.0}, {"a": 0.5, "u": 0.5}, {"t": 1.0})
    assert knowing("dog", ranked=[None, "cut", "cat"]).spellings(doubtful)[0].text == "cut"
    assert knowing("dog", ranked=[None, "cat", "cut"]).spellings(doubtful)[0].text == "cat"


def test_counts_learned_twice_count_once():
    words = knowing("cat cat dog")
    words.learn({"cat": 1, "eel": 3})
    assert words.counts == {"cat": 2, "dog": 1, "eel": 3}


def test_distinct_texts_count_once_without_case_and_punctuation():
    assert words_in(["A cat.", "A cat.", "The CAT!"]) == {"a": 1, "cat": 2, "the": 1}


def test_the_whole_words_of_a_vocabulary_begin_with_a_blank():
    text = registry.build("text", {"vocab_size": 300})
    text.fit([Part("text", "the red fox saw the red hen " * 5)])
    words = whole_words(text)
    assert len(words) == text.token_width
    assert {"the", "red"} <= set(words)
    assert "ed" not in words
