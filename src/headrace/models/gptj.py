"""GPT-J, whole: rotary attention and feed-forward in parallel, on torch's fused attention.

Each layer reads one layer norm twice, x + attention(norm(x)) + feed_forward(norm(x)), so that the two
large products need not wait for one another. Queries and keys carry their position as a rotation of
the first `rotary_dim` dimensions of each head, taken as neighbouring pairs.

Source: Wang and Komatsuzaki 2021, https://github.com/kingoflolz/mesh-transformer-jax.

Letters: B rows, T new positions, S positions seen (cached and new), D model width, H heads, K head width, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headrace.errors import ConfigError, MismatchError
from headrace.models import tiles, tiling
from headrace.models.attention import Attention
from headrace.models.blocks import attend, block_mask
from headrace.models.cache import KVCache
from headrace.models.masks import Mask, as_bias
from headrace.models.recompute import Recompute, keeping

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

ROTARY_BASE = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class GPTJConfig:
    """Shape of a model; the defaults are GPT-J 6B (6,050,882,784 parameters)."""

    vocab_size: int = 50400
    """Rows of embedding and head; at least the tokenizer's vocabulary, the rest being spare."""
    n_layer: int = 28
    d_model: int = 4096
    n_head: int = 16
    d_ff: int = 16384
    rotary_dim: int = 64
    """Dimensions of each head that carry position; even."""
    context_tokens: int = 2048
    """Longest row the model can read."""
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for field in fields(self):
            if (value := getattr(self, field.name)) <= 0:
                raise ConfigError(f"{field.name}={value} is not positive. Set model.{field.name} above 0.")
        if self.d_model % self.n_head or self.head_dim % 2:
            raise ConfigError(
                f"d_model={self.d_model} does not split into n_head={self.n_head} heads of even width. "
                f"Set d_model to a multiple of {2 * self.n_head}."
            )
        if self.rotary_dim > self.head_dim or self.rotary_dim % 2:
            raise ConfigError(
                f"rotary_dim={self.rotary_dim} must be even and at most the head width "
                f"d_model / n_head = {self.head_dim}. Lower it."
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_head


@dataclass(frozen=True, slots=True)
class View:
    """Where the new tokens stand and what they may see; worked out once per forward pass for all layers."""

    turns: Tensor
    """Unit complex numbers of shape (B or 1, T, 1, 1, K / 2): how far each pair of a head is turned."""
    bias: Tensor | None
    """Float (B or 1, 1, T, S), 0 where a key may be seen and -inf elsewhere; None where no matrix is needed."""
    is_causal: bool
    """Each token sees itself and what came before."""
    positions_BT: Tensor | None
    """Positions the new tokens take in the cache; None without one."""
    blocks: "BlockMask | None" = None
    """The same as `bias`, for attention by blocks."""
    groups: Sequence[tiling.Group] | None = None
    """The same, for attention by tiles."""


class Layer(nn.Module):
    """Attention and feed-forward side by side, both reading the same layer norm."""

    def __init__(self, config: GPTJConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.head_dim = config.head_dim
        self.norm = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)
        self.ff_in = nn.Linear(config.d_model, config.d_ff)
        self.ff_out = nn.Linear(config.d_ff, config.d_model)

    def forward(self, x_BTD: Tensor, view: View, cache: KVCache | None, recompute: Recompute = "none") -> Tensor:
        """Add what this layer has to say to the residual stream, keeping for the backward pass what is asked."""
        risen_BTD: Tensor = keeping(recompute, self.rise, x_BTD, view, cache)
        return risen_BTD

    def rise(self, x_BTD: Tensor, view: View, cache: KVCache | None) -> Tensor:
        """The residual stream with attention and feed-forward added to it."""
        normed_BTD = self.norm(x_BTD)
        thought_BTD = self.ff_out(F.gelu(self.ff_in(normed_BTD), approximate="tanh"))
        risen_BTD: Tensor = x_BTD + self.out(self.mixed(normed_BTD, view, cache)) + thought_BTD
        return risen_BTD

    def mixed(self, normed_BTD: Tensor, view: View, cache: KVCache | None) -> Tensor:
        """What each position sees of the others, mixed by every head: BT(H * K)."""
        if view.groups is not None:
            return tiles.attend(self.qkv(normed_BTD), view.turns.flatten(0, 3), view.groups, self.head_dim)
        q_BTHK, k_BTHK, v_BTHK = self.heads(normed_BTD, view.turns)
        if cache is not None and view.positions_BT is not None:
            k_BTHK, v_BTHK = cache.write(self.index, k_BTHK, v_BTHK, view.positions_BT)
        q_BHTK, k_BHSK, v_BHSK = (t.transpose(1, 2) for t in (q_BTHK, k_BTHK, v_BTHK))
        if view.blocks is not None:
            mixed_BHTK = attend(q_BHTK, k_BHSK, v_BHSK, view.blocks)
        else:
            mixed_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, view.bias, is_causal=view.is_causal)
        return mixed_BHTK.transpose(1, 2).flatten(2)

    def heads(self, normed: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (..., H, K) of tokens (..., D), the first two turned by where each token stands."""
        # As many heads as `qkv` gives: where weights are cut over processes, each has some of them.
        qk, v = self.qkv(normed).unflatten(-1, (3, -1, self.head_dim)).split((2, 1), dim=-3)
        q, k = turn(qk, turns).unbind(-3)
        return q, k, v.squeeze(-3)


class GPTJ(nn.Module):
    """A GPT-J of any size, freshly initialised as published.

    Built under `torch.device("meta")` it takes no memory and is filled by `load_state_dict(assign=True)`.
    """

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute: Recompute = "none"
        """What layers compute a second time rather than keep for the backward pass."""
        self.attention: Attention = "dense"
        """How masks other than the causal one are applied to rows read whole."""
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.n_layer))
        self.norm = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab_size)
        self.register_buffer("turns", turn_table(config), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as the published model's were; biases are 0, layer norms the identity.

        Truncated at two deviations: 1/√fan_in for what reads the residual stream, (2/L)/√D for what writes
        to it, so that the sum over layers starts small, and 1/√V for the embedding, a one-hot's fan-in.

        Source: mesh_transformer/layers.py of mesh-transformer-jax and the defaults of its haiku.Linear.
        """
        writing = 2 / self.config.n_layer / self.config.d_model**0.5
        for name, weight in self.named_parameters():
            if weight.dim() == 1:
                nn.init.constant_(weight, 1.0 if name.endswith("norm.weight") else 0.0)
                continue
            std = writing if name.endswith(("out.weight", "ff_out.weight")) else weight.shape[1] ** -0.5
            if name == "embedding.weight":
                std = self.config.vocab_size**-0.5
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, tokens_BT: Tensor, mask: Mask | None = None, cache: KVCache | None = None) -> Tensor:
        """Score every next token: logits_BTV, in the dtype of the weights.

        Args:
            tokens_BT: Token ids, int64.
            mask: What each token may see, from `headrace.models.masks`; causal where None.
            cache: Keys and values of the tokens before these, which are appended to it.

        Raises:
            MismatchError: More tokens than the context holds, or a mask that does not fit them.
        """
        logits_BTV: Tensor = self.head(self.hidden(tokens_BT, mask, cache))
        return logits_BTV

    def hidden(
        self, tokens_BT: Tensor, mask: Mask | None = None, cache: KVCache | None = None, x_BTD: Tensor | None = None
    ) -> Tensor:
        """Compute what `head` turns into logits, so that a loss may project its scored positions alone.

        Given `x_BTD`, the residual stream as layers before these have left it, tokens are not embedded.
        """
        view = self._view(tokens_BT, mask, cache)
        x_BTD = self.embedding(tokens_BT) if x_BTD is None else x_BTD
        for layer in self.layers:
            x_BTD = layer(x_BTD, view, cache, self.recompute)
        if cache is not None:
            cache.advance(tokens_BT.shape[1])
        normed_BTD: Tensor = self.norm(x_BTD)
        return normed_BTD

    def _view(self, tokens_BT: Tensor, mask: Mask | None, cache: KVCache | None) -> View:
        """Place the new tokens after the cached ones and write out what they may see."""
        new = tokens_BT.shape[1]
        past = 0 if cache is None else cache.longest
        placed_BT = None if mask is None else mask.positions_BT
        reach = past + new if placed_BT is None else int(placed_BT.max()) + 1
        if reach > self.config.context_tokens:
            raise MismatchError(
                f"{reach:,} tokens exceed the model's context of {self.config.context_tokens:,}. "
                "Shorten the row, or use a model with a larger context_tokens."
            )
        turns = torch.view_as_complex(self.turns)[:, None, None]
        if cache is None:
            turns = turns[None, :new] if placed_BT is None else turns[placed_BT]
            return self._view_of_whole(tokens_BT.shape, mask or Mask(), turns)
        positions_BT = cache.positions(new)
        return self._view_under(cache.seen(new, mask), turns[positions_BT], new, positions_BT)

    def _view_of_whole(self, shape: torch.Size, mask: Mask, turns: Tensor) -> View:
        """What rows without a cache see, as the kind of attention wants it."""
        if self.attention == "blocks":
            blocks = block_mask(mask, *shape)
            return View(turns, None, is_causal=blocks is None, positions_BT=None, blocks=blocks)
        seen = mask.dense(shape[1])
        # Tiles keep probabilities, and turn all rows alike: they are no choice for who saves memory, or for branches.
        if self.attention == "tiles" and self.recompute == "none" and len(turns) == 1:
            groups = tiling.cut(seen, shape[0], shape[1], self.config.n_head)
            if groups is not None:
                return View(turns, None, is_causal=False, positions_BT=None, groups=groups)
        return self._view_under(seen, turns, shape[1], None)

    def _view_under(self, seen: Tensor | None, turns: Tensor, new: int, positions_BT: Tensor | None) -> View:
        """The same under a matrix, or under none."""
        if seen is None:  # which for a single token means that it sees all there is
            return View(turns, None, is_causal=new > 1, positions_BT=positions_BT)
        bias = as_bias(seen, next(self.parameters()).dtype)
        return View(turns, bias, is_causal=False, positions_BT=positions_BT)

    def _apply(self, fn: Any, recurse: bool = True) -> "GPTJ":
        """Move or cast the weights; angles stay fp32, for bf16 cannot tell position 257 from 258."""
        super()._apply(fn, recurse)
        self.turns = turn_table(self.config).to(next(self.parameters()).device)
        return self


def turn_table(config: GPTJConfig) -> Tensor:
    """Tabulate (cos, sin) of each position and pair: fp32 of shape (context_tokens, K / 2, 2).

    Pairs beyond `rotary_dim` are turned by nothing: multiplying them by one costs less than cutting
    the heads apart and joining them again. Always on the CPU, also while a model is built on meta.
    """
    rates = torch.zeros(config.head_dim // 2, device="cpu")
    pairs = torch.arange(0, config.rotary_dim, 2, device="cpu")
    rates[: config.rotary_dim // 2] = 1.0 / (ROTARY_BASE ** (pairs / config.rotary_dim))
    angles = torch.arange(config.context_tokens, device="cpu").float()[:, None] * rates
    return torch.stack((angles.cos(), angles.sin()), dim=-1)


def turn(heads: Tensor, turns: Tensor) -> Tensor:
    """Rotate each neighbouring pair of the last dimension, in fp32; a pair is one complex number."""
    pairs = heads.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # into one kernel with what is around it, which complex numbers would not be
        (a, b), (cos, sin) = pairs.unbind(-1), torch.view_as_real(turns).unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).type_as(heads)
    return torch.view_as_real(torch.view_as_complex(pairs) * turns).flatten(-2).type_as(heads)
