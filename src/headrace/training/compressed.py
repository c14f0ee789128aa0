"""Compressed averaging: workers take steps of their own and send the largest part of what they learned.

Letters: S weights on offer at one exchange.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from headrace.training.averaging import AveragingConfig
from headrace.training.compression import compress, decompress, offered
from headrace.training.link import Link
from headrace.training.local_updates import taken_from


class Compressed:
    """CocktailSGD's averaging of weights, every few local steps.

    All workers hold the same common weights, moved by the messages alone. A worker's own weights are those and
    what it has learned and not sent: nothing is lost, and what was too small to send is offered again.

    Source: Wang et al. 2023, CocktailSGD, and `dist_dp_cocktail_sgd.py` of https://github.com/DS3Lab/CocktailSGD.
    There each worker averages one part and sends the mean on, compressed once more; here every worker receives all
    messages, which adds no second error and, with W workers, sends (W - 1) messages instead of about two. With an
    outer momentum, what arrived is taken as far as DiLoCo's outer step takes it, which CocktailSGD does not.

    Args:
        model: Whole on every worker, with the same weights on all at the start.
        optimizer: The local one.
        config: Steps between exchanges, and what a message holds.
        link: The workers to exchange with.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, config: AveragingConfig, link: Link) -> None:
        self._optimizer, self._config, self._link = optimizer, config, link
        self._weights = dict(model.named_parameters())
        self._common = {name: x.detach().clone() for name, x in self._weights.items()}
        kept = self._common if config.compression.outer_momentum else {}
        self._momentum = {name: torch.zeros_like(x) for name, x in kept.items()}

    def shares_gradients(self, step: int) -> bool:
        """Only in the first steps, if at all."""
        return step <= self._config.synchronous_steps

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take a local step, and exchange where it is due."""
        self._optimizer.step()
        local = step - self._config.synchronous_steps
        if local <= 0:
            self._take_over(self._common, self._weights)
        elif local % self._config.every_steps == 0:
            self._exchange(local // self._config.every_steps - 1, step)

    def _exchange(self, exchange: int, step: int) -> None:
        """Send of this worker's differences what the message holds, and add the mean of all messages."""
        compression = self._config.compression
        first = offered(exchange, compression.one_in, self._config.seed)
        sides = (self._weights, self._common, self._momentum)
        own, common, momentum = ([x.view(-1)[first :: compression.one_in] for x in side.values()] for side in sides)
        difference_S = torch.cat(own) - torch.cat(common)
        rounding = torch.Generator(difference_S.device)
        rounding.manual_seed(hash((self._config.seed, step, self._link.rank)))
        message = compress(difference_S, compression, rounding)
        sent_S, *arrived = (
            decompress(m, len(difference_S), compression).to(difference_S.dtype)
            for m in (message, *self._link.gather(message))
        )
        mean_S = torch.stack(arrived).mean(0)
        sizes = [len(x) for x in own]
        moves = self._outer(mean_S.split(sizes), momentum)
        for x, sent, move in zip(own, sent_S.split(sizes), moves, strict=True):
            x.add_(move - sent)
        for x, move in zip(common, moves, strict=True):
            x.add_(move)

    def _outer(self, means: Sequence[Tensor], momentum: Sequence[Tensor]) -> list[Tensor]:
        """How far the outer step goes, given what arrived; momentum, where there is any, is changed in place."""
        rate, beta = self._config.compression.outer_learning_rate, self._config.compression.outer_momentum
        if not beta:
            return [rate * mean for mean in means]
        for m, mean in zip(momentum, means, strict=True):
            m.mul_(beta).add_(mean)
        return [rate * (mean + beta * m) for m, mean in zip(momentum, means, strict=True)]

    @staticmethod
    def _take_over(to: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        for name, x in to.items():
            x.copy_(values[name])

    @torch.no_grad()
    def settle(self, step: int) -> None:
        """Leave what was never sent and keep the common weights, for which nothing need be exchanged."""
        self._take_over(self._weights, self._common)

    def meets(self, step: int) -> bool:
        """Always: what a worker has not sent is its own, and the common weights are there at any time."""
        return True

    @torch.no_grad()
    def enter(self) -> None:
        """Begin with the common weights, which a newcomer has learned nothing beside."""
        self._take_over(self._weights, self._common)

    def state(self) -> dict[str, Tensor]:
        """The common weights, and the outer momentum where there is any."""
        state = {f"{name}/common": x for name, x in self._common.items()}
        return state | {f"{name}/momentum": x for name, x in self._momentum.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take them up again."""
        self._take_over(self._common, {name: taken_from(state, f"{name}/common") for name in self._common})
        self._take_over(self._momentum, {name: taken_from(state, f"{name}/momentum") for name in self._momentum})
