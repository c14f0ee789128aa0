"""Compressed averaging: workers take steps of their own and send the largest part of what they learned.

Letters: S weights on offer at one exchange.
"""

from collections.abc import Mapping

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
        self._momentum = {name: torch.zeros_like(x) for name, x in self._common.items()}

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
        own, common, momentum = ([x.view(-1)[first :: compression.one_in] for x in of] for of in self._sides())
        difference_S = torch.cat(own) - torch.cat(common)
        rounding = torch.Generator(difference_S.device)
        rounding.manual_seed(hash((self._config.seed, step, self._link.rank)))
        messages = self._link.gather(compress(difference_S, compression, rounding))
        arrived = [decompress(m, len(difference_S), compression).to(difference_S.dtype) for m in messages]
        mean_S = torch.stack(arrived).mean(0)
        sizes = [len(x) for x in own]
        moves = [self._outer(mean, m) for mean, m in zip(mean_S.split(sizes), momentum, strict=True)]
        for x, sent, move in zip(own, arrived[self._link.rank].split(sizes), moves, strict=True):
            x.add_(move - sent)
        for x, move in zip(common, moves, strict=True):
            x.add_(move)

    def _outer(self, mean: Tensor, momentum: Tensor) -> Tensor:
        """How far the outer step goes, given what arrived; the momentum is changed in place."""
        compression = self._config.compression
        momentum.mul_(compression.outer_momentum).add_(mean)
        return (mean + compression.outer_momentum * momentum) * compression.outer_learning_rate

    def _sides(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """This worker's weights, the common ones and the outer momentum, in the same order."""
        return list(self._weights.values()), list(self._common.values()), list(self._momentum.values())

    @staticmethod
    def _take_over(to: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        for name, x in to.items():
            x.copy_(values[name])

    @torch.no_grad()
    def settle(self, step: int) -> None:
        """Leave what was never sent and keep the common weights, for which nothing need be exchanged."""
        self._take_over(self._weights, self._common)

    def state(self) -> dict[str, Tensor]:
        """The common weights, and the outer momentum where there is any."""
        state = {f"{name}/common": x for name, x in self._common.items()}
        if self._config.compression.outer_momentum:
            state |= {f"{name}/momentum": x for name, x in self._momentum.items()}
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take them up again."""
        self._take_over(self._common, {name: taken_from(state, f"{name}/common") for name in self._common})
        if self._config.compression.outer_momentum:
            self._take_over(self._momentum, {name: taken_from(state, f"{name}/momentum") for name in self._momentum})
