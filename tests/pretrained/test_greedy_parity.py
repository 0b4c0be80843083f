"""Every family through the whole way: a folder as transformers saves it becomes a checkpoint, and says 64 greedy tokens as
transformers does, which pads the shorter questions on the left; past the length it was trained with where its positions allow."""

import copy
import json

import pytest
import torch
import transformers
from test_families import FAMILIES
from test_importing import TEMPLATE
from test_tokenizers import SPECIAL, trained

from plait import api
from plait.contract import Message, Part
from plait.infer.request import Request

TOKENS, TRAINED_LENGTH = 64, 64  # max_position_embeddings of the families
QUESTIONS = ("Hello worlds", "say it, and then so lines: two  spaces", "Grüße, 你好")


@pytest.mark.parametrize("family", FAMILIES)
def test_64_greedy_tokens_are_transformers_own(family, tmp_path):
    configuration = copy.deepcopy(FAMILIES[family][0])
    configuration.vocab_size, configuration.eos_token_id = 512, 2
    if family == "gpt-2":
        configuration.n_positions = 256  # a table of positions has no more
    tokenizer = trained("smollm")
    source = tmp_path / "source"
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(configuration)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter) + (parameter.ndim == 1))
    model.save_pretrained(source)
    tokenizer.save(str(source / "tokenizer.json"))
    (source / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE, "eos_token": SPECIAL[2]}))

    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(source / "tokenizer.json"), padding_side="left", pad_token=SPECIAL[0], eos_token=SPECIAL[2]
    )
    theirs.chat_template = TEMPLATE
    asked = [
        theirs.apply_chat_template([{"role": "user", "content": words}], tokenize=False, add_generation_prompt=True)
        for words in QUESTIONS
    ]
    batch = theirs(asked, padding=True, return_tensors="pt", add_special_tokens=False)
    assert (batch["attention_mask"].sum(dim=1).unique().numel()) > 1, "none is padded"
    specials = [theirs.convert_tokens_to_ids(token) for token in SPECIAL]
    with torch.no_grad():
        told = model.eval().generate(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], do_sample=False,
            max_new_tokens=TOKENS, pad_token_id=specials[0],
            suppress_tokens=[*specials, *range(tokenizer.get_vocab_size(), 512)],  # ours never says what is no word
        )  # fmt: skip
    expected = told[:, batch["input_ids"].shape[1] :].tolist()
    longest = int(batch["attention_mask"].sum(dim=1).max()) + TOKENS
    assert family == "gpt-2" or longest > TRAINED_LENGTH

    ours = api.load(api.import_model(source, tmp_path / "ours", lambda line: None), dtype="float32")
    vocabulary = ours.network.vocabulary
    legal = vocabulary.legal("text")  # without the end, which the other may not say either
    vocabulary._legal["text"] = legal[legal != vocabulary.end]
    requests = [
        Request((Message("user", (Part("text", words),)),), to="text", max_tokens=TOKENS) for words in QUESTIONS
    ]
    for answer, ids in zip(ours.generate_all(requests), expected, strict=True):
        got = [int(index) for block in answer.segments[0].blocks for index in block.tokens]
        assert got == ids
