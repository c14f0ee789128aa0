"""GPT-J that sees its prompt whole, as these weights were trained to.

transformers runs this file where a model is loaded with `trust_remote_code=True`; it needs nothing but transformers
and torch. Every token of a prompt sees the whole prompt, what is generated sees all that came before it.

Letters: B rows, P positions of the prompt, T positions read at once, S positions seen (cached and new).
"""

from typing import Any

import torch
from torch import Tensor
from transformers import GPTJForCausalLM as CausalGPTJ


class GPTJForCausalLM(CausalGPTJ):  # type: ignore[misc]  # a pipeline complains of any name but those it knows
    """GPT-J whose `generate` reads the prompt bidirectionally, and whose `forward` does where it is told how much."""

    _keys_to_ignore_on_load_unexpected = (r"^headrace: ", r"h\.\d+\.attn\.(masked_)?bias")

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        prompt_tokens: int = 0,
        **others: Any,
    ) -> Any:
        """Score next tokens as `CausalGPTJ.forward` does.

        Args:
            input_ids: Token ids (B, T).
            past_key_values: Keys and values of tokens that were read before; the prompt is then among them.
            attention_mask: (B, S), 0 on padding; or (B, 1, T, S), added to the scores.
            prompt_tokens: How many of the first positions of every row are prompt, padding on the left included;
                with 0 all is causal.
            others: As of `CausalGPTJ.forward`.

        Raises:
            ValueError: The model was loaded with an attention that takes no mask of its own.
        """
        read = past_key_values.get_seq_length() if past_key_values is not None else 0
        if prompt_tokens and not read and input_ids is not None:
            if self.config._attn_implementation not in (None, "eager"):
                raise ValueError(
                    "A prompt is seen whole by eager attention only: load with attn_implementation='eager'."
                )
            attention_mask = self.see_whole(input_ids, attention_mask, prompt_tokens)
        return super().forward(
            input_ids=input_ids, past_key_values=past_key_values, attention_mask=attention_mask, **others
        )

    def see_whole(self, input_ids: Tensor, attention_mask: Tensor | None, prompt_tokens: int) -> Tensor:
        """What is added to the scores, (B, 1, T, S), so that every row of the prompt sees what its last one may."""
        rows, tokens = input_ids.shape
        if attention_mask is None or attention_mask.ndim == 2:
            seen = torch.ones(tokens, tokens, dtype=torch.bool, device=input_ids.device).tril().expand(rows, 1, -1, -1)
            if attention_mask is not None:
                seen = seen & attention_mask[:, None, None, :].bool()
            lowest = torch.finfo(self.dtype).min
            attention_mask = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device).masked_fill(~seen, lowest)
        whole = attention_mask.clone()
        whole[:, :, :prompt_tokens, :prompt_tokens] = attention_mask[
            :, :, prompt_tokens - 1 : prompt_tokens, :prompt_tokens
        ]
        return whole

    def generate(self, inputs: Tensor | None = None, *arguments: Any, **keywords: Any) -> Any:
        """Continue a prompt, which is seen whole, as `GenerationMixin.generate` does."""
        prompt = inputs if inputs is not None else keywords.get("input_ids")
        if prompt is not None:
            keywords.setdefault("prompt_tokens", prompt.shape[1])
        return super().generate(inputs, *arguments, **keywords)
