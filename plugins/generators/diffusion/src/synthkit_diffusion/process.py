"""Forward and reverse process: schedules, what is learned, and the samplers.

With ab_t ("alpha bar") the share of the image's variance that is left after step t (t = 0, ..., T - 1; ab_-1 = 1), a
noised image is

    x_t = sqrt(ab_t) x_0 + sqrt(1 - ab_t) e,    e standard normal.                                            (1)

Sources: [1] Nichol, Dhariwal 2021, arXiv 2102.09672; [3] Ho et al. 2020, arXiv 2006.11239; [4] Song et al. 2021, arXiv
2010.02502 (DDIM); [5] Lu et al. 2022, arXiv 2211.01095 (DPM-Solver++); [6] Salimans, Ho 2022, arXiv 2202.00512
(velocity).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Of noisy images ``x (n, channels, y, x)`` at steps ``t (n,)``: what it predicts, then perhaps the variance.
Model = Callable[[Tensor, Tensor], Tensor]
#: What a network predicts: the noise e, or the velocity sqrt(ab_t) e - sqrt(1 - ab_t) x_0 ([6] section 4).
Prediction = Literal["noise", "velocity"]
#: Standard normal numbers of a shape, a row from the stream of each sample.
Normal = Callable[..., Tensor]


def alphas_cumprod(schedule: str, n_steps: int) -> NDArray[np.float64]:
    """ab_t for t = 0, ..., T - 1. "linear": [3] section 4, stretched to T steps as [1] does; "cosine": [1] eq. 17."""
    if schedule == "linear":
        betas = np.linspace(0.1 / n_steps, 20 / n_steps, n_steps)
    else:
        ends = np.cos((np.linspace(0, 1, n_steps + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = 1 - ends[1:] / ends[:-1]
    alpha_bar: NDArray[np.float64] = np.cumprod(1 - np.minimum(betas, 0.999))
    return alpha_bar


@dataclass(frozen=True)
class Steps:
    """A sequence of steps t (ascending) out of all T, and ab_t of each; from one to the next is a step.

    Any subsequence is a diffusion of its own ([1] eq. 19), whose betas follow from their ab_t.
    """

    t: NDArray[np.int64]
    alpha_bar: NDArray[np.float64]

    @staticmethod
    def of(alpha_bar: NDArray[np.float64], count: int = 0) -> Steps:
        """``count`` steps evenly spaced over all, both ends included (one: the last); all of them for 0."""
        n = len(alpha_bar)
        t = np.arange(n) if count <= 0 or count >= n else np.unique(np.rint(np.linspace(n - 1, 0, count))).astype(int)
        return Steps(t, alpha_bar[t])

    @staticmethod
    def by_log_snr(alpha_bar: NDArray[np.float64], count: int = 0) -> Steps:
        """At most ``count`` steps evenly spaced in the logarithm of signal over noise ([5] section 5).

        For ways that follow the flow: evenly spaced in t, they skip the last steps, which decide on fine detail.
        """
        if count <= 0 or count >= len(alpha_bar):
            return Steps.of(alpha_bar)
        logs = half_log_snr(alpha_bar)
        t = np.unique(np.searchsorted(-logs, -np.linspace(logs[-1], logs[0], count)).clip(0, len(alpha_bar) - 1))
        return Steps(t, alpha_bar[t])

    @property
    def alpha_bar_prev(self) -> NDArray[np.float64]:
        return np.concatenate([[1.0], self.alpha_bar[:-1]])

    @property
    def betas(self) -> NDArray[np.float64]:
        return 1 - self.alpha_bar / self.alpha_bar_prev

    @property
    def posterior_variances(self) -> NDArray[np.float64]:
        """Of q(x_{t-1} | x_t, x_0), [3] eq. 7; 0 in the first step."""
        variances: NDArray[np.float64] = self.betas * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)
        return variances


def half_log_snr(alpha_bar: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(sqrt(ab) / sqrt(1 - ab)), which falls with t."""
    result: NDArray[np.float64] = 0.5 * np.log(alpha_bar / (1 - alpha_bar))
    return result


def add_noise(images: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Equation (1); ``alpha_bar`` is ab_t of each image, ``(n,)``."""
    alpha_bar = alpha_bar[:, None, None, None]
    return alpha_bar.sqrt() * images + (1 - alpha_bar).sqrt() * noise


def read_prediction(name: str) -> Prediction:
    """What a checkpoint says that its network predicts; ValueError for what is not known here."""
    for prediction in get_args(Prediction):
        if name == prediction:
            return prediction  # type: ignore[no-any-return]
    raise ValueError(f"its network predicts {name!r}, which is not known here")


def target(prediction: Prediction, images: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """What the network should predict of :func:`add_noise`; ``alpha_bar`` is ab_t of each image, ``(n,)``."""
    if prediction == "noise":
        return noise
    alpha_bar = alpha_bar[:, None, None, None]
    return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * images


def predict_x0(prediction: Prediction, found: Tensor, x: Tensor, alpha_bar: Any) -> Tensor:
    """x_0 by equation (1) from x_t and what the network predicts; ``alpha_bar``: number or tensor."""
    if prediction == "noise":
        image: Tensor = (x - (1 - alpha_bar) ** 0.5 * found) / alpha_bar**0.5
    else:
        image = alpha_bar**0.5 * x - (1 - alpha_bar) ** 0.5 * found
    return image


def posterior_mean(image: Tensor, x: Tensor, alpha_bar: Any, alpha_bar_prev: Any) -> Tensor:
    """Mean of q(x_{t-1} | x_t, x_0) for the estimate ``image`` of x_0 ([3] eq. 7); numbers or tensors."""
    kept = alpha_bar / alpha_bar_prev
    mean: Tensor = (alpha_bar_prev**0.5 * (1 - kept) * image + kept**0.5 * (1 - alpha_bar_prev) * x) / (1 - alpha_bar)
    return mean


# ------------------------------------------------------------------------------------------------------- learning


def learned_log_variance(placed: Tensor, beta: Tensor, posterior: Tensor) -> Tensor:
    """Between the variance of the posterior and beta, in logarithms; ``placed`` in [-1, 1] says where ([1] eq. 15)."""
    share = (placed + 1) / 2
    return share * beta.log() + (1 - share) * posterior.log()


def normal_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL(first || second) of independent normals, in nats, element by element."""
    return 0.5 * (
        other_log_variance
        - log_variance
        + (log_variance - other_log_variance).exp()
        + (mean - other_mean).square() * (-other_log_variance).exp()
        - 1
    )


def discretized_nll(images: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log p of the grey levels (256 in [-1, 1]) under a normal, in nats, element by element ([3] eq. 13)."""
    scale = (-0.5 * log_variance).exp()
    upper = torch.where(images > 0.999, torch.inf, (images - mean + 1 / 255) * scale)
    lower = torch.where(images < -0.999, -torch.inf, (images - mean - 1 / 255) * scale)
    mass: Tensor = torch.special.ndtr(upper) - torch.special.ndtr(lower)
    return -mass.clamp(min=1e-12).log()


# --------------------------------------------------------------------------------------------------------- drawing


@dataclass(frozen=True)
class Denoiser:
    """A network that estimates x_0, by what it predicts."""

    network: Model
    prediction: Prediction = "noise"

    def __call__(self, x: Tensor, t: int, alpha_bar: float) -> tuple[Tensor, Tensor]:
        """x_0, kept in [-1, 1], and what else the network says; ``alpha_bar`` is ab_t."""
        found = self.network(x, torch.full((len(x),), t, device=x.device))
        predicted, rest = found[:, : x.shape[1]], found[:, x.shape[1] :]
        return predict_x0(self.prediction, predicted, x, alpha_bar).clamp(-1, 1), rest


def ancestral(denoiser: Denoiser, steps: Steps, normal: Normal, shape: tuple[int, ...], learned: bool) -> Tensor:
    """Back step by step, with new noise in each ([3] algorithm 2)."""
    x = normal(*shape)
    betas, posterior = steps.betas, steps.posterior_variances
    for i in reversed(range(len(steps.t))):
        alpha_bar, alpha_bar_prev = float(steps.alpha_bar[i]), float(steps.alpha_bar_prev[i])
        image, rest = denoiser(x, int(steps.t[i]), alpha_bar)
        x = posterior_mean(image, x, alpha_bar, alpha_bar_prev)
        if i:
            if learned:
                bounds = torch.tensor([betas[i], posterior[i]], device=x.device, dtype=torch.float32)
                deviation = (0.5 * learned_log_variance(rest, *bounds)).exp()
            else:
                deviation = torch.tensor(math.sqrt(betas[i]), device=x.device)
            x = x + deviation * normal(*shape)
    return x


def ddim(denoiser: Denoiser, steps: Steps, normal: Normal, shape: tuple[int, ...]) -> Tensor:
    """The deterministic way back, first order ([4] eq. 12 with sigma 0)."""
    x = normal(*shape)
    for i in reversed(range(len(steps.t))):
        alpha_bar, alpha_bar_prev = float(steps.alpha_bar[i]), float(steps.alpha_bar_prev[i])
        image, _ = denoiser(x, int(steps.t[i]), alpha_bar)
        noise = (x - math.sqrt(alpha_bar) * image) / math.sqrt(1 - alpha_bar)
        x = math.sqrt(alpha_bar_prev) * image + math.sqrt(1 - alpha_bar_prev) * noise
    return x


def dpm_solver(denoiser: Denoiser, steps: Steps, normal: Normal, shape: tuple[int, ...]) -> Tensor:
    """DPM-Solver++(2M): the same way, second order by the estimate of the step before ([5] algorithm 2).

    With a_t = sqrt(ab_t), s_t = sqrt(1 - ab_t) and the logarithm l_t = log(a_t / s_t), from t to u:
    x_u = s_u / s_t x_t - a_u (exp(l_t - l_u) - 1) D, where D extrapolates the estimates of x_0 to the middle. The last
    step ends in x_0 itself, where l is infinite.
    """
    x = normal(*shape)
    logs = half_log_snr(steps.alpha_bar)
    previous: Tensor | None = None
    for i in reversed(range(len(steps.t))):
        alpha_bar, alpha_bar_prev = float(steps.alpha_bar[i]), float(steps.alpha_bar_prev[i])
        image, _ = denoiser(x, int(steps.t[i]), alpha_bar)
        if i == 0:
            return image
        h = logs[i - 1] - logs[i]
        direction = image
        if previous is not None:
            ratio = float((logs[i] - logs[i + 1]) / h)
            direction = image + (image - previous) / (2 * ratio)
        x = (
            math.sqrt((1 - alpha_bar_prev) / (1 - alpha_bar)) * x
            - math.sqrt(alpha_bar_prev) * math.expm1(-h) * direction
        )
        previous = image
    return x
