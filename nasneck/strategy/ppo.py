"""Proximal policy optimisation for fixed-length sequences with one reward at the end.

Schulman et al. 2017 (arXiv 1707.06347), equation 7. There is no discount: all decisions of a candidate share
its advantage, since a discount would make the first decisions of a sequence of fixed length count less.
"""

from __future__ import annotations

from torch import Tensor


def ppo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    *,
    advantages: Tensor,
    entropies: Tensor,
    clip: float,
    entropy_weight: float,
) -> Tensor:
    """Clipped surrogate with entropy bonus, to be minimised.

    The ratio is taken and clipped per decision, each decision being one action of the episode. The product
    over a whole sequence would leave the clip range after tiny changes of each of its decisions.

    Args:
        log_probs: Of the choices taken, under the policy being trained, (B, T).
        old_log_probs: The same under the policy that took them, (B, T).
        advantages: (B,), larger is better.
        entropies: Of the full distributions, in nats, (B, T).
        clip: Half width of the range of ratios that earn a gradient.
        entropy_weight: Factor of the mean entropy.

    Returns:
        A scalar: the mean over candidates and decisions.
    """
    ratio = (log_probs - old_log_probs).exp()
    gain = advantages[:, None]
    surrogate = (ratio * gain).minimum(ratio.clamp(1 - clip, 1 + clip) * gain)
    return -surrogate.mean() - entropy_weight * entropies.mean()


def normalised(advantages: Tensor) -> Tensor:
    """Divide by the standard deviation of the batch; a batch that does not differ stays as it is.

    The mean is left alone: it is the baseline's to remove.
    """
    deviation = advantages.std(correction=0)
    return advantages / deviation if float(deviation) > 1e-8 else advantages
