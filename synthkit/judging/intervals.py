"""An exact interval of a proportion, and how few subjects are too few for one that rests on them."""

from __future__ import annotations

#: Below this many subjects little is known of how much subjects differ; what rests on them says so.
FEW_SUBJECTS = 20


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper and Pearson, Biometrika 26:404, 1934).

    Two-sided, except that at 0 (or all) successes, where one bound is 0 (or 1) by necessity, the other bound takes
    all of the error: 0 of n gives 1 - 0.05^(1/n), the exact form of the "rule of three" (about 3 / n).

    Returns
    -------
    lower and upper bound, 0..1; (0, 1) without trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    error = 1.0 - confidence
    if trials == 0:
        return 0.0, 1.0
    if successes == 0:
        return 0.0, 1.0 - error ** (1.0 / trials)
    if successes == trials:
        return error ** (1.0 / trials), 1.0
    from scipy.special import betaincinv

    lower = float(betaincinv(successes, trials - successes + 1, error / 2))
    upper = float(betaincinv(successes + 1, trials - successes, 1 - error / 2))
    return lower, upper
