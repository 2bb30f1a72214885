"""Noising and the ways back, against closed forms: of normal data the best estimate of the noise is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_diffusion import process  # noqa: E402

T = 1000
MEAN, DEVIATION = 0.2, 0.1


def best_denoiser(
    alpha_bar: np.ndarray, prediction: process.Prediction = "noise", mean: float = MEAN, deviation: float = DEVIATION
) -> process.Denoiser:
    """E[noise | x_t] for x_0 normal: with variance v of x_t, sqrt(1 - ab) (x_t - sqrt(ab) mean) / v.

    And E[velocity | x_t] = sqrt(ab) E[noise | x_t] - sqrt(1 - ab) E[x_0 | x_t].
    """

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        share = torch.from_numpy(alpha_bar)[t][:, None, None, None]
        centred = (x - share.sqrt() * mean) / (share * deviation**2 + 1 - share)
        noise, image = (1 - share).sqrt() * centred, mean + share.sqrt() * deviation**2 * centred
        return (noise if prediction == "noise" else share.sqrt() * noise - (1 - share).sqrt() * image).to(x.dtype)

    return process.Denoiser(network, prediction)


def normal(seed: int, n: int = 400) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn((n, *shape), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_end_in_noise_and_begin_with_the_image(schedule: str) -> None:
    for n in (50, 1000, 4000):
        alpha_bar = process.alphas_cumprod(schedule, n)
        assert alpha_bar.shape == (n,) and (np.diff(alpha_bar) < 0).all()
        assert alpha_bar[-1] < 1e-3 and alpha_bar[0] > 0.99 if n > 50 else alpha_bar[0] > 0.9


def test_linear_schedule_is_that_of_ho_at_a_thousand_steps() -> None:
    alpha_bar = process.alphas_cumprod("linear", 1000)
    np.testing.assert_allclose(alpha_bar, np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)), rtol=1e-12)


def test_cosine_schedule_by_its_formula() -> None:
    alpha_bar = process.alphas_cumprod("cosine", 100)
    f = np.cos((np.array([0, 40]) / 100 + 0.008) / 1.008 * np.pi / 2) ** 2
    assert alpha_bar[39] == pytest.approx(f[1] / f[0], rel=1e-9)


def test_the_posterior_is_that_of_bayes() -> None:
    """x_0 given, x_{t-1} is normal; x_t is that times sqrt(kept) plus noise: combine precisions."""
    steps = process.Steps.of(process.alphas_cumprod("linear", T), 50)
    i, image, x = 30, 0.3, -0.7
    alpha_bar, before = steps.alpha_bar[i], steps.alpha_bar_prev[i]
    kept = alpha_bar / before
    precision = 1 / (1 - before) + kept / (1 - kept)
    mean = (before**0.5 * image / (1 - before) + kept**0.5 * x / (1 - kept)) / precision
    found = process.posterior_mean(torch.tensor(image), torch.tensor(x), alpha_bar, before)
    assert float(found) == pytest.approx(mean, rel=1e-5)
    assert steps.posterior_variances[i] == pytest.approx(1 / precision, rel=1e-9)


def test_fewer_steps_have_the_same_alpha_bars() -> None:
    alpha_bar = process.alphas_cumprod("linear", T)
    steps = process.Steps.of(alpha_bar, 25)
    assert len(steps.t) == 25 and steps.t[0] == 0 and steps.t[-1] == T - 1
    np.testing.assert_allclose(np.cumprod(1 - steps.betas), alpha_bar[steps.t], rtol=1e-12)
    by_snr = process.Steps.by_log_snr(alpha_bar, 25)
    widest = max(-np.diff(process.half_log_snr(by_snr.alpha_bar)))
    # Whole steps cannot be finer than those of all T at the ends.
    assert (
        by_snr.t[0] == 0
        and by_snr.t[-1] == T - 1
        and widest < 0.7 < 1.5 < max(-np.diff(process.half_log_snr(steps.alpha_bar)))
    )
    assert process.Steps.of(alpha_bar, 1).t.tolist() == [T - 1]
    assert process.Steps.of(alpha_bar).t.tolist() == process.Steps.of(alpha_bar, 5 * T).t.tolist() == list(range(T))


@pytest.mark.parametrize("prediction", ["noise", "velocity"])
@pytest.mark.parametrize(
    ("sampler", "count", "tolerance"),
    [("dpm++", 25, 0.02), ("ddim", 200, 0.02), ("ancestral", 0, 0.03)],
)
def test_normal_data_come_back(sampler: str, count: int, tolerance: float, prediction: process.Prediction) -> None:
    alpha_bar = process.alphas_cumprod("linear", T)
    denoiser = best_denoiser(alpha_bar, prediction)
    if sampler == "ancestral":
        found = process.ancestral(denoiser, process.Steps.of(alpha_bar, count), normal(0), (1, 8, 8), learned=False)
    else:
        way = {"dpm++": process.dpm_solver, "ddim": process.ddim}[sampler]
        found = way(denoiser, process.Steps.by_log_snr(alpha_bar, count), normal(0), (1, 8, 8))
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.005)
    assert float(found.std()) == pytest.approx(DEVIATION, rel=tolerance)


def test_the_deterministic_ways_are_the_flow_and_the_second_order_is_nearer() -> None:
    """Of normal data the flow keeps the place within the distribution: x_0 = mean + deviation * z of x_T."""
    alpha_bar = process.alphas_cumprod("linear", T)
    x = normal(3)(1, 4, 4)
    exact = (
        MEAN + DEVIATION * (x - alpha_bar[-1] ** 0.5 * MEAN) / (alpha_bar[-1] * DEVIATION**2 + 1 - alpha_bar[-1]) ** 0.5
    )
    errors = {}
    for name, way in (("ddim", process.ddim), ("dpm++", process.dpm_solver)):
        for count in (10, 20, 40):
            found = way(best_denoiser(alpha_bar), process.Steps.by_log_snr(alpha_bar, count), normal(3), (1, 4, 4))
            errors[name, count] = float((found - exact).abs().max())
    assert errors["ddim", 10] > errors["ddim", 20] > errors["ddim", 40]
    assert errors["dpm++", 20] < errors["ddim", 20] / 2 and errors["dpm++", 40] < errors["ddim", 40] / 2


@pytest.mark.parametrize("prediction", ["noise", "velocity"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_network_that_hits_its_target_finds_the_image(schedule: str, prediction: process.Prediction) -> None:
    alpha_bar = torch.from_numpy(process.alphas_cumprod(schedule, T))[[0, 10, 500, 900, 990]]
    images, noise = normal(1, 5)(2, 4, 4), normal(2, 5)(2, 4, 4)
    found = process.target(prediction, images, noise, alpha_bar)
    x, share = process.add_noise(images, noise, alpha_bar), alpha_bar[:, None, None, None]
    torch.testing.assert_close(process.predict_x0(prediction, found, x, share), images, rtol=1e-6, atol=1e-6)


def test_errors_of_the_velocity_are_not_enlarged_where_there_is_little_signal() -> None:
    """Why brightness is learned sooner: an error of the noise is 1 / signal-over-noise times that in the image."""
    alpha_bar, error = 1e-4, 0.01
    images, noise = normal(1, 5)(2, 4, 4), normal(2, 5)(2, 4, 4)
    x = process.add_noise(images, noise, torch.full((5,), alpha_bar, dtype=torch.float64))
    off = {
        prediction: process.predict_x0(
            prediction, process.target(prediction, images, noise, torch.tensor([alpha_bar])) + error, x, alpha_bar
        )
        - images
        for prediction in ("noise", "velocity")
    }
    assert float(off["noise"].abs().mean()) == pytest.approx(error * (1 / alpha_bar - 1) ** 0.5, rel=1e-3)
    assert float(off["velocity"].abs().mean()) == pytest.approx(error * (1 - alpha_bar) ** 0.5, rel=1e-3)


def test_the_variance_lies_between_its_bounds() -> None:
    beta, posterior = torch.tensor(0.02), torch.tensor(0.015)
    ends = [float(process.learned_log_variance(torch.tensor(place), beta, posterior).exp()) for place in (1.0, -1.0)]
    assert ends == pytest.approx([0.02, 0.015], rel=1e-5)


def test_kl_is_that_of_torch() -> None:
    rng = torch.Generator().manual_seed(0)
    a, log_a, b, log_b = torch.randn(4, 50, generator=rng, dtype=torch.float64)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(a, (0.5 * log_a).exp()), torch.distributions.Normal(b, (0.5 * log_b).exp())
    )
    torch.testing.assert_close(process.normal_kl(a, log_a, b, log_b), expected)


def test_the_likelihoods_of_grey_levels_add_up_to_one() -> None:
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for mean, deviation in ((0.1, 0.3), (-1.0, 0.05), (0.98, 0.5)):
        log_variance = torch.full_like(levels, 2 * np.log(deviation))
        nats = process.discretized_nll(levels, torch.full_like(levels, mean), log_variance)
        assert float((-nats).exp().sum()) == pytest.approx(1, abs=1e-6)
