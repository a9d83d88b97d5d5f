"""Slow truths that the tests compare the library with. Nothing here uses the code under test."""

from collections.abc import Callable

import torch
from torch import Tensor


def backpropagate_through_time(
    weight_hidden: Tensor, states: Tensor, error: Tensor, derivative_of_output: Callable[[Tensor], Tensor]
) -> Tensor:
    """dL_T / dh_t of a plain recurrent network at every step t, by the textbook's recursion.

    With z_t = W x_t + U h_(t-1) + b and h_t = f(z_t), one row at a time: delta_T = diag(f'(z_T)) dL/dh_T, then
    delta_k = diag(f'(z_k)) U^T delta_(k+1), and dL/dh_k = U^T delta_(k+1).

    Args:
        weight_hidden: U, [hidden, hidden].
        states: h_1 ... h_T, [steps, hidden].
        error: dL_T / dh_T, [hidden].
        derivative_of_output: f'(z) written as a function of h = f(z), as 1 - h^2 for tanh.
    """
    gradients = [error]
    delta = torch.diag(derivative_of_output(states[-1])) @ error
    for state in reversed(states[:-1]):
        gradients.append(weight_hidden.T @ delta)
        delta = torch.diag(derivative_of_output(state)) @ weight_hidden.T @ delta
    return torch.stack(gradients[::-1])
