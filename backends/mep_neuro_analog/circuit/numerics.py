"""The two things that SciPy does for circuits: Wright's omega function, and stiff differential equations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.integrate import solve_ivp  # type: ignore[import-untyped, unused-ignore]
from scipy.special import wrightomega  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor

Vector = npt.NDArray[np.float64]


def omega(z: Tensor) -> Tensor:
    """w with w + ln w = z, which is Lambert's W(e^z) and does not overflow where e^z does; float64."""
    return torch.from_numpy(np.asarray(wrightomega(z.cpu().numpy()))).to(z.device)


def integrate(
    slope: Callable[[float, Vector], Vector],
    jacobian: Callable[[float, Vector], Vector],
    start: Vector,
    until: float,
    *,
    relative: float,
    absolute: float,
) -> tuple[Vector, Vector, Callable[[float], Vector]]:
    """dv/dt = slope(t, v) from t = 0: the times of the steps, v there (times, n), and v at any time between.

    By the implicit Runge-Kutta method Radau IIA of order 5, which takes stiff equations (Hairer and Wanner 1996).
    Raises `ArithmeticError` with the solver's own reason where it gives up.
    """
    found = solve_ivp(
        slope, (0.0, until), start, method="Radau", jac=jacobian, rtol=relative, atol=absolute, dense_output=True
    )
    if not found.success:
        raise ArithmeticError(found.message)
    return found.t, found.y.T, found.sol
