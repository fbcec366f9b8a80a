"""The controller's policy: an LSTM that makes one decision after another.

    start ──> LSTM ──> LSTM ──> ... ──> LSTM
                │        │                │
             head 0   head 1          head T-1      softmax over that decision's own choices
                │        │
             choice 0 ─┘ choice 1 ─┘                fed back as the next input

Every (decision, choice) pair is a token of its own: one row of the embedding and one row of the head belong
to it and to nothing else. The rows of a decision are a slice, so its softmax runs over exactly its own
number of choices, without padding or masks. Heads are not shared among decisions of one kind: choice 3 of a
cell's inputs means another pair of nodes in every cell.

Double precision: the numbers are few, and sampled choices then do not hang on the last bits, which may
differ with the number of threads or the version of a matrix library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasneck.decision import Choices


@contextmanager
def one_thread() -> Iterator[None]:
    """Run what is inside on one thread, and give torch its threads back.

    The matrices are far too small to share out: on a busy machine, waiting for the other threads takes a
    hundred times longer than the arithmetic. The result then does not depend on their number either.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Policy(nn.Module):
    """Distribution over sequences of choices.

    The heads start at zero, so the first distribution is exactly uniform; all else starts in U(-0.1, 0.1)
    (NASNet family). Neither construction nor use touches torch's global generators.

    Args:
        sizes: Number of choices of each of the T decisions.
        hidden: Width of the LSTM.
        embedding: Width of a token's embedding.
        generator: Source of the initial values.
    """

    def __init__(self, sizes: Sequence[int], hidden: int, *, embedding: int, generator: torch.Generator) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.first_tokens = tuple(accumulate(self.sizes, initial=0))[:-1]
        tokens = sum(self.sizes)
        self.start_token = tokens
        kwargs = {"dtype": torch.float64, "device": "cpu"}
        with torch.random.fork_rng(devices=[]):  # the constructors draw from the global generator
            self.embedding = nn.Embedding(tokens + 1, embedding, **kwargs)
            self.lstm = nn.LSTM(embedding, hidden, batch_first=True, **kwargs)
            self.head = nn.Linear(hidden, tokens, **kwargs)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def sample(self, draws: Sequence[float]) -> tuple[Choices, list[float]]:
        """Turn T uniform numbers in [0, 1) into choices, by the inverse of each cumulative distribution.

        Returns:
            The choices and the log-probability of each of them, T each.
        """
        choices: list[int] = []
        log_probs: list[float] = []
        token, state = self.start_token, None
        with torch.no_grad():
            for t, draw in enumerate(draws):
                hidden, state = self.lstm(self.embedding(torch.tensor([[token]], device="cpu")), state)
                row = self._log_softmax(hidden[:, 0], t)[0]  # (choices of t,)
                total, choice = 0.0, 0
                for choice, probability in enumerate(row.exp().tolist()):  # noqa: B007  (used below)
                    total += probability
                    if draw < total:
                        break
                choices.append(choice)
                log_probs.append(float(row[choice]))
                token = self.first_tokens[t] + choice
        return tuple(choices), log_probs

    def forward(self, choices: Tensor) -> tuple[Tensor, Tensor]:
        """Score given choices.

        Args:
            choices: (B, T) int64.

        Returns:
            Log-probability of each choice and entropy (nats) of the whole distribution that it was taken
            from, (B, T) each.
        """
        tokens = choices + torch.tensor(self.first_tokens, device="cpu")
        start = torch.full_like(tokens[:, :1], self.start_token)
        hidden, _ = self.lstm(self.embedding(torch.cat([start, tokens[:, :-1]], dim=1)))  # (B, T, hidden)
        log_probs, entropies = [], []
        for t in range(len(self.sizes)):
            rows = self._log_softmax(hidden[:, t], t)  # (B, choices of t)
            log_probs.append(rows.gather(1, choices[:, t : t + 1])[:, 0])
            entropies.append(-(rows.exp() * rows).sum(dim=1))
        return torch.stack(log_probs, dim=1), torch.stack(entropies, dim=1)

    def _log_softmax(self, hidden: Tensor, t: int) -> Tensor:
        rows = slice(self.first_tokens[t], self.first_tokens[t] + self.sizes[t])
        return F.log_softmax(F.linear(hidden, self.head.weight[rows], self.head.bias[rows]), dim=-1)
