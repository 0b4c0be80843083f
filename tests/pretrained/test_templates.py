"""Chat templates against transformers: the same ids for conversations of words, and what is refused."""

import pytest
from test_tokenizers import trained
from transformers import PreTrainedTokenizerFast

from plait.data.chat_template import ChatTemplate, Content, Fixed, Special
from plait.errors import ConfigError
from plait.pretrained.tokenizer import from_folder

# in the manner of today's families: a default system message; trimmed contents and a first token; another name of a role
TEMPLATES = {
    "turns": (
        "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "trimmed": (
        "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n\n' + m['content'] | trim + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}"
    ),
    "spaced": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' + m['content'] | trim + ' <|im_end|>' }}"
        "{% else %}{{ '<|im_start|>[INST] ' + m['content'].strip() + ' [/INST]' }}{% endif %}{% endfor %}"
    ),
    "renamed": (
        "{% for m in messages %}\n"
        "    {% set role = 'model' if m['role'] == 'assistant' else m['role'] %}\n"
        "{{ '<|im_start|>' + role + '\n' + m['content'].strip() + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
    ),
}
CONVERSATIONS = (
    [("user", "Hello world")],
    [("system", "Speak like a pirate."), ("user", "  What is 12 + 7?\n")],
    [("user", "Grüße!"), ("assistant", "\nHi, hello."), ("user", "def f(x):\n    return x\n\n")],
)


@pytest.fixture(scope="module")
def theirs():
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]}
    return PreTrainedTokenizerFast(tokenizer_object=trained("smollm"), **names)


def ids_of(template, tokenizer, conversation, answering):
    """Runs between special tokens tokenised whole."""
    ids, run = [], ""

    def close():
        return tokenizer.encode(run).ids if run else []

    for piece in template.pieces([role for role, _ in conversation], answering):
        if isinstance(piece, Special):
            ids += [*close(), tokenizer.token_to_id(piece.name)]
            run = ""
        elif isinstance(piece, Fixed):
            run += piece.text
        else:
            text = conversation[piece.message][1]
            run += text.strip() if piece.trimmed else text
    return ids + close()


@pytest.mark.parametrize("answering", [False, True])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_words_get_the_ids_of_the_tokenizer_s_own_template(tmp_path, theirs, name, conversation, answering):
    theirs.save_pretrained(tmp_path)
    template = ChatTemplate(
        TEMPLATES[name],
        dict(zip(theirs.all_special_tokens, theirs.all_special_ids, strict=True)),
        {"bos_token": theirs.bos_token},
    )
    messages = [{"role": role, "content": text} for role, text in conversation]
    expected = theirs.apply_chat_template(
        messages, chat_template=TEMPLATES[name], add_generation_prompt=answering, tokenize=True, return_dict=False
    )
    assert ids_of(template, from_folder(tmp_path).tokenizer, conversation, answering) == expected


def test_pieces_say_whose_words_they_are():
    template = ChatTemplate(TEMPLATES["turns"], {"<|im_start|>": 1, "<|im_end|>": 2})
    start, end = Special("<|im_start|>"), Special("<|im_end|>")
    assert template.pieces(["system", "user"], answering=True) == [
        start, Fixed("system\n"), Content(0, trimmed=False), end, Fixed("\n"),
        start, Fixed("user\n"), Content(1, trimmed=False), end, Fixed("\n"),
        start, Fixed("assistant\n"),
    ]  # fmt: skip
    trimmed = ChatTemplate(TEMPLATES["trimmed"], {"<|im_start|>": 1, "<|im_end|>": 2}, {"bos_token": ""})
    assert Content(0, trimmed=True) in trimmed.pieces(["user"])
    spaced = ChatTemplate(TEMPLATES["spaced"], {"<|im_start|>": 1, "<|im_end|>": 2})
    assert spaced.pieces(["user"]) == [start, Fixed("[INST] "), Content(0, trimmed=True), Fixed(" [/INST]")]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% for m in messages %}", "no valid Jinja"),
        ("{{ messages[0].content }}", r"writes the messages \[0\] of a conversation of 2 \(user, assistant\)"),
        ("{{ messages[1].content }}{{ messages[0].content }}", "in order"),
        ("{{ raise_exception('roles must alternate') }}", "refuses this conversation: roles must alternate"),
        ("{{ messages[0].content.__class__.__mro__ }}", "cannot be rendered|writes the messages"),
        ("{{ messages[0].content | missing }}", "no valid Jinja"),
        ("{{ messages[0].content + 1 }}", "cannot be rendered"),
        ("{{ 1 // 0 }}", "cannot be rendered"),
        ("{{ messages[0].content.lstrip() }}{{ messages[1].content }}", "changes the content"),
        ("{{ messages[0].content | replace(' ', '_') }}{{ messages[1].content }}", "changes the content"),
    ],
)
def test_templates_that_cannot_be_used_are_told(source, said):
    with pytest.raises(ConfigError, match=said):
        ChatTemplate(source, {}).pieces(["user", "assistant"])
