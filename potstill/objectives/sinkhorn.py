"""Entropic optimal transport, in log space.

The plan P minimises `<P, C> - eps H(P)` with the marginals a and b. By the envelope theorem the gradient of that
minimum with respect to C is P itself, so the plan is made without a graph and `<P, C>` has the gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 1e-6  # of the marginals, as a share of their mass


def plan(cost_NM: Tensor, *, epsilon: float = 0.1, iterations: int = 100) -> Tensor:
    """The transport plan between uniform marginals 1/N and 1/M: `f <- eps (log a - LSE((g - C)/eps))`, alternating.

    Stops once the marginals are met. Rows sum to 1/N exactly; columns do as far as it has converged. (Cuturi,
    arXiv:1306.0895; log form: Peyré and Cuturi, arXiv:1803.00567, section 4.4.)
    """
    with torch.no_grad():
        kernel = -cost_NM.detach() / epsilon
        n, m = kernel.shape
        rows, columns = -kernel.new_tensor(float(n)).log(), -kernel.new_tensor(float(m)).log()
        g_M = kernel.new_zeros(m)
        log_plan = kernel
        for _ in range(iterations):
            f_N = rows - (kernel + g_M).logsumexp(1)
            log_plan = kernel + f_N[:, None] + g_M
            off = log_plan.logsumexp(0) - columns
            if bool(off.abs().max() < TOLERANCE):
                break
            g_M = g_M - off
        return log_plan.exp()


def transport(cost_NM: Tensor, *, epsilon: float = 0.1, iterations: int = 100) -> Tensor:
    """What it costs to move each row's share, [N], times N: the mean is `<P, C>`. The plan is held constant."""
    moved = plan(cost_NM, epsilon=epsilon, iterations=iterations)
    return cost_NM.shape[0] * (moved * cost_NM).sum(1)
