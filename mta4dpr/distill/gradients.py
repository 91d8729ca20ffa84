"""From texts to gradients, in micro-batches and over processes.

A step is: every source (queries, passages, pairs) becomes a matrix, a loss is made of the matrices alone, and its gradient
with respect to them goes back through the networks. Because the loss never sees a network, three things come for free:

- gradient caching (Gao 2021, "Scaling deep contrastive learning batch size under memory limited setup"): the graphs of the
  micro-batches need not be kept, each is computed again when its gradient is there, with the same dropout;
- several processes: they share the micro-batches among them and add up matrices and gradients, so that the loss is that of
  the whole batch, in-batch negatives included, and each text is encoded once;
- an exact repetition: the dropout of a micro-batch is seeded by (seed, step, source, micro-batch).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mta4dpr.data.tokens import TokenPairs, TokenStore
from mta4dpr.machine.counter import mix
from mta4dpr.models.encoder import Encoder, batches_by_length

if TYPE_CHECKING:
    from torch import Tensor

    from mta4dpr.models.reranker import Reranker


class MatrixSource(Protocol):
    """Texts or pairs that a network turns into rows of a matrix."""

    batches: list[np.ndarray]  # the rows of each micro-batch
    width: int  # columns of the matrix

    def forward(self, rows: np.ndarray) -> Tensor:
        """Those rows of the matrix, (rows, width), with gradients if they are enabled."""
        ...


@dataclass(frozen=True)
class Computation:
    """How a step is computed: by which processes, where, in which types."""

    accelerator: Any  # one of Accelerate's: number of processes, which of them this is, and sums over them
    device: Any  # torch's
    dtype: Any  # of matrices and loss
    cached: bool = False  # gradient caching: graphs of micro-batches are made a second time instead of kept
    autocast: Callable[[], Any] = nullcontext  # context in which networks compute


class TextSource:
    """Vectors of texts; with `layers`, those of every hidden layer beside them, (texts, dimensions + layers * hidden size).

    `numbers` (texts,) are places in the token store, `longest` is the most tokens of a text and `token_budget` that of a micro-batch.
    """

    def __init__(
        self, encoder: Encoder, tokens: TokenStore, numbers: np.ndarray, longest: int, *, token_budget: int, layers: bool = False
    ) -> None:
        self._encoder, self._tokens, self._numbers, self._longest, self._layers = encoder, tokens, numbers, longest, layers
        self.batches = batches_by_length(tokens.lengths(longest, numbers), token_budget)
        self.width = encoder.dimensions + (encoder.hidden_size * encoder.layers if layers else 0)

    def forward(self, rows: np.ndarray) -> Tensor:
        """Vectors of those texts, (rows, width)."""
        import torch

        device = self._encoder.device
        ids, mask = (torch.from_numpy(array).to(device) for array in self._tokens.batch(self._numbers[rows], self._longest))
        if not self._layers:
            return self._encoder.forward(ids, mask, prefix=self._tokens.prefix)
        vectors, layers = self._encoder.forward_layers(ids, mask, prefix=self._tokens.prefix)
        return torch.cat([vectors, layers.flatten(1)], dim=1)


class PairSource:
    """A cross-encoder's scores of pairs, (pairs, 1): of `queries` and `passages`, numbers (pairs,) each."""

    width = 1

    def __init__(self, reranker: Reranker, pairs: TokenPairs, queries: np.ndarray, passages: np.ndarray, *, token_budget: int) -> None:
        self._reranker, self._pairs, self._queries, self._passages = reranker, pairs, queries, passages
        self.batches = batches_by_length(pairs.lengths(queries, passages), token_budget)

    def forward(self, rows: np.ndarray) -> Tensor:
        """Scores of those pairs, (rows, 1)."""
        import torch

        arrays = self._pairs.batch(self._queries[rows], self._passages[rows])
        return self._reranker.forward(*(torch.from_numpy(array).to(self._reranker.device) for array in arrays))[:, None]


def backward(
    sources: Sequence[MatrixSource],
    loss_of: Callable[[Sequence[Tensor]], Tensor],
    computation: Computation,
    *,
    seed: tuple[int, ...],
    scale: float = 1.0,
) -> Tensor:
    """The loss of a step, a scalar; leaves its gradient (times `scale`) in the networks' parameters, this process's share of it.

    `loss_of` takes the matrices of the sources, (rows, width) each. `seed` decides the dropout, with the numbers of source and
    micro-batch.
    """
    import torch

    accelerator, device, dtype = computation.accelerator, computation.device, computation.dtype
    graphs: list[tuple[int, int, Tensor | None]] = []  # (source, micro-batch, its rows with their graph)
    matrices = []
    for number, source in enumerate(sources):
        matrix = torch.zeros(sum(map(len, source.batches)), source.width, dtype=dtype, device=device)
        for batch, rows in enumerate(source.batches):
            if batch % accelerator.num_processes != accelerator.process_index:
                continue
            with torch.set_grad_enabled(not computation.cached), computation.autocast():
                out = _forward(source, rows, (*seed, number, batch), dtype)
            matrix[torch.from_numpy(rows).to(device)] = out.detach()
            graphs.append((number, batch, None if computation.cached else out))
        if accelerator.num_processes > 1:
            matrix = accelerator.reduce(matrix, reduction="sum")  # the others' rows are 0
        matrices.append(matrix.requires_grad_())
    loss = loss_of(matrices)
    (loss * scale).backward()
    for number, batch, graph in graphs:
        gradient, rows = matrices[number].grad, sources[number].batches[batch]
        if gradient is None:
            continue
        if graph is None:
            with computation.autocast():
                graph = _forward(sources[number], rows, (*seed, number, batch), dtype)
        graph.backward(gradient[torch.from_numpy(rows).to(device)])
    return loss.detach()


def _forward(source: MatrixSource, rows: np.ndarray, seed: tuple[int, ...], dtype: Any) -> Tensor:
    import torch

    torch.manual_seed(int(mix(*seed)) >> 1)
    return source.forward(rows).to(dtype)


def sum_gradients(parameters: Iterable[Any], accelerator: Any) -> None:
    """Adds up the gradients that all processes hold of those parameters, in one message; None stays None where all have it."""
    import torch

    if accelerator.num_processes == 1:
        return
    held = [p for p in parameters if p.requires_grad]
    there = torch.stack([p.new_tensor(p.grad is not None) for p in held])
    flat = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in held]
    used, *parts = accelerator.reduce(torch.cat([there, *flat]), reduction="sum").split([len(held), *(p.numel() for p in held)])
    for p, part, processes in zip(held, parts, used.tolist(), strict=True):
        p.grad = part.view_as(p).clone() if processes else None  # a zero in place of None would let weight decay in
