"""The tasks of the digits grid: their items, and what is held out of them."""

import numpy as np
import pytest

from plait.tasks import digits
from plait.tasks.digits import BY_NAME, CHINESE, LANGUAGES, TASKS, VOICES, Clip, Picture, Pool, word


@pytest.fixture(scope="module")
def make_pool():
    pictures = [Picture(f"{digit}-{n}.png", digit) for digit in range(10) for n in range(2)]
    varied = [Picture(f"{digit}-varied.png", digit) for digit in range(10)]
    clips = [
        Clip(f"{language}-{digit}-{voice}.wav", digit, language, voice)
        for language in LANGUAGES
        for digit in range(10)
        for voice in VOICES
    ]
    return lambda split, seed=0: Pool(pictures, clips, split, np.random.default_rng(seed), varied)


def items(task, pool, count=200):
    return [BY_NAME[task].make(pool) for _ in range(count)]


@pytest.mark.parametrize(
    ("number", "chinese"), [(0, "零"), (9, "九"), (10, "十"), (11, "十一"), (20, "二十"), (99, "九十九")]
)
def test_chinese_numbers(number, chinese):
    assert word(number, "zh") == chinese


def test_every_number_to_99_has_a_word_of_its_own():
    for language in LANGUAGES:
        assert len({word(number, language) for number in range(100)}) == 100
    assert len(CHINESE) == 10


def test_every_task_fills_the_slots_of_all_its_phrasings(make_pool):
    for task in TASKS:
        for split in ("train", "test"):
            item = task.make(make_pool(split))
            for phrasing in task.phrasings:
                sample = task.sample(phrasing, item)
                assert sample.messages[1].parts[0].type == task.answers_in, task.name
                kinds = {part.type for part in sample.messages[0].parts}
                assert task.gives - {"text"} <= kinds, (task.name, phrasing)
                assert "{" not in "".join(str(part.value) for part in sample.messages[0].parts if part.type == "text")


@pytest.mark.parametrize(("split", "held_out"), [("train", False), ("dev", False), ("test", True), ("phrasing", True)])
def test_translations_that_are_held_out_are_asked_in_the_tests_alone(make_pool, split, held_out):
    names = {name: code for code, name in LANGUAGES.items()}
    numbers = {code: {word(n, code): n for n in range(100)} for code in LANGUAGES}
    for item in items("translate", make_pool(split)):
        source, target = names[item.slots["source"]], names[item.slots["target"]]
        triple = (numbers[source][item.slots["word"]], source, target)
        assert (triple in digits.HELD_OUT_TRIPLES) is held_out
        assert item.answer.value == word(triple[0], target) == item.expect["exact"]


@pytest.mark.parametrize(("split", "held_out"), [("train", False), ("seen", False), ("test", True), ("phrasing", True)])
def test_sums_are_right_and_those_held_out_in_the_tests_alone(make_pool, split, held_out):
    numbers = {word(n, "en"): n for n in range(19)}
    for item in items("sum", make_pool(split)):
        a, op, b = numbers[item.slots["a"]], item.slots["op"], numbers[item.slots["b"]]
        assert ((a, op, b) in digits.HELD_OUT_SUMS) is held_out
        assert numbers[item.answer.value] == (a + b if op == "plus" else a - b)


def test_the_next_digit_is_never_held_out_under_another_name():
    assert not any((op, b) == ("plus", 1) for _, op, b in digits.HELD_OUT_SUMS)


@pytest.mark.parametrize("task", ["say", "say-picture", "change-voice", "change-language"])
def test_combinations_are_spoken_in_their_own_split_alone(make_pool, task):
    for split, held_out in (("train", False), ("test", False), ("combination", True)):
        for item in items(task, make_pool(split), 60):
            asked = (item.expect["language"], item.expect["digit"], item.expect["speaker"])
            assert (asked in digits.held_out_combinations()) is held_out
            assert item.answer.value == "{}-{}-{}.wav".format(*asked)


def test_two_combinations_a_language_are_held_out():
    combinations = digits.held_out_combinations()
    assert len(combinations) == 2 * len(LANGUAGES)
    assert {language for language, _, _ in combinations} == set(LANGUAGES)


def test_distorted_pictures_are_shown_and_never_asked_for(make_pool):
    pool = make_pool("train")
    shown = [pool.picture(3).value for _ in range(60)]
    drawn = [pool.drawing(3).value for _ in range(60)]
    assert "3-varied.png" in shown
    assert set(drawn) == {"3-0.png", "3-1.png"}


def test_a_changed_voice_was_another_one_and_says_the_same(make_pool):
    for item in items("change-voice", make_pool("train"), 60):
        language, digit, before = item.slots["audio"].value.removesuffix(".wav").split("-")
        assert before != item.slots["voice"] == item.expect["speaker"]
        assert (language, int(digit)) == (item.expect["language"], item.expect["digit"])


@pytest.mark.parametrize("task", ["same", "larger"])
def test_two_inputs_are_compared(make_pool, task):
    numbers = {word(n, "en"): n for n in range(10)}
    answers = []
    for item in items(task, make_pool("test"), 100):
        shown = int(item.slots["image"].value[0])
        heard = int(item.slots["audio"].value.split("-")[1])
        if task == "same":
            assert item.answer.value == ("yes" if shown == heard else "no")
        else:
            assert numbers[item.answer.value] == max(shown, heard)
            assert shown != heard
        answers.append(item.answer.value)
    assert len(set(answers)) > 1


def test_steps_stay_within_the_digits(make_pool):
    for item in items("step", make_pool("train")) + items("step", make_pool("pairs")):
        assert 0 <= item.expect["digit"] <= 9
        assert item.answer.value.startswith(str(item.expect["digit"]))


def test_a_seed_draws_the_same_items(make_pool):
    first, again, other = (items("draw", make_pool("train", seed), 20) for seed in (1, 1, 2))
    assert first == again != other
