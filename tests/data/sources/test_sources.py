"""What all sources share: entries, discovery, and the comparison of words."""

from plait.data.sources import plain_words


def test_words_are_compared_without_case_punctuation_and_forms():
    assert plain_words("  The CAT’s  hat! ") == plain_words("the cat's hat")
    assert plain_words("ｆｕｌｌ") == "full"
    assert plain_words("猫") != plain_words("犬")
