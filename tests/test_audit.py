"""The verdict follows the policy's table, the policy file is strict, and the interval is exact."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.errors import ExitCode, UsageError
from synthkit.judging.intervals import clopper_pearson
from synthkit.judging.policy import Policy, load_policy
from synthkit.judging.verdict import verdict


def scores(**changes: Any) -> list[dict[str, Any]]:
    """A clean audit of 1,000 images against 50 held-out subjects, with changes; None is an undefined score."""
    values: dict[str, Any] = {
        "n_synthetic": 1000,
        "n_flagged": 1,
        "n_copies": 0,
        "n_identical": 0,
        "n_copied_subjects": 1,
        "n_null_subjects": 50,
        "n_holdout": 4000,
        "explained_flag_rate": 0.002,
        **changes,
    }
    found = [{"name": name, "value": value, "of": {}} for name, value in values.items()]
    # A score of one contrast must not be taken for that of the whole.
    return [{"name": "n_flagged", "value": 999, "of": {"contrast": "t1"}}, *found, *POWER]


def power(kind: str, strength: str, found: int, n: int = 60) -> dict[str, Any]:
    low, high = clopper_pearson(found, n)
    of = {"planted": kind, "strength": strength}
    return {"name": "power", "value": found / n, "low": low, "high": high, "n": n, "of": of}


#: Exact copies and mild noise are found, strong noise half of the time.
POWER = [power("exact", "", 60), power("noise", "sd 5", 60), power("noise", "sd 40", 30)]
POWER += [power("blur", "sigma 1 px", 60), power("intensity", "gamma 1.2", 60), power("flip", "", 60)]


def membership(low: float) -> dict[str, Any]:
    return {"name": "membership_auc", "value": 0.7, "low": low, "high": 0.9, "of": {}}


@pytest.mark.parametrize(
    ("changes", "policy", "outcome"),
    [
        ({}, {}, "pass"),
        ({"n_copies": 1}, {}, "fail"),
        ({"n_copies": 1}, {"max_copies": 1}, "pass"),
        ({"n_identical": 1}, {}, "fail"),
        # 5 of 1000: lower bound 0.16 %, explained 0.2 %. 8 of 1000: lower bound 0.35 %.
        ({"n_flagged": 5}, {}, "pass"),
        ({"n_flagged": 8}, {}, "fail"),
        ({"n_flagged": 8}, {"max_flagged_rate": 0.01}, "pass"),
        ({"n_flagged": 8, "explained_flag_rate": 0.05}, {}, "pass"),
        ({"explained_flag_rate": 0.12}, {}, "insufficient evidence"),
        ({"explained_flag_rate": 0.12}, {"max_explained_rate": 0.2}, "pass"),
        ({"explained_flag_rate": 0.12, "n_copies": 1}, {}, "fail"),
        ({"n_null_subjects": 1}, {}, "insufficient evidence"),
        ({"n_null_subjects": 1}, {"min_null_subjects": 1}, "pass"),
        ({"n_null_subjects": 30}, {"min_null_subjects": 31}, "insufficient evidence"),
        ({"n_null_subjects": None, "n_flagged": None, "n_copies": None}, {}, "insufficient evidence"),
        ({"n_null_subjects": 1, "explained_flag_rate": None}, {"min_null_subjects": 1}, "insufficient evidence"),
        ({"n_holdout": 0}, {}, "pass"),
        ({"n_holdout": 0}, {"require_holdout": True}, "insufficient evidence"),
        ({}, {"min_synthetic": 1001}, "insufficient evidence"),
        ({"n_holdout_copies": 1}, {}, "insufficient evidence"),
        # A kind stands for its mildest strength.
        ({}, {"required_power": ("exact", "noise")}, "pass"),
        ({}, {"required_power": ("noise sd 5",)}, "pass"),
        ({}, {"required_power": ("noise sd 40",)}, "insufficient evidence"),
        ({}, {"required_power": ("noise sd 40",), "min_power": 0.3}, "pass"),
        ({}, {"required_power": ("shift",)}, "insufficient evidence"),
        # Membership was not measured here.
        ({}, {"max_membership_auc": 0.6}, "insufficient evidence"),
        # Copies are copies, whatever else is missing.
        ({"n_null_subjects": None, "n_flagged": None, "n_copies": None, "n_identical": 3}, {}, "fail"),
        ({"n_null_subjects": 1, "n_copies": 3}, {}, "fail"),
    ],
)
def test_verdict_table(changes: dict[str, Any], policy: dict[str, Any], outcome: str) -> None:
    result = verdict(scores(**changes), Policy(**policy))
    assert result.outcome == outcome
    assert result.exit_code == {"pass": ExitCode.OK, "fail": 10, "insufficient evidence": 12}[outcome]
    assert result.reasons and all(line.endswith(".") for line in (*result.reasons, *result.not_proven))


def test_verdict_without_any_score_is_insufficient() -> None:
    assert verdict([]).outcome == "insufficient evidence"


def test_an_audit_that_finds_no_planted_copies_is_no_evidence() -> None:
    blind = [score for score in scores() if score["name"] != "power"]
    result = verdict(blind)
    assert result.outcome == "insufficient evidence" and "power test was not made" in result.reasons[0]
    assert verdict(blind, Policy(required_power=())).outcome == "pass"
    # All of 28 found is a lower bound of 0.05^(1/28) = 0.899, all of 29 one of 0.902.
    exact = Policy(required_power=("exact",))
    assert verdict([*blind, power("exact", "", 28, 28)], exact).outcome == "insufficient evidence"
    assert verdict([*blind, power("exact", "", 29, 29)], exact).outcome == "pass"
    weak = verdict(scores(), Policy(required_power=("exact", "noise sd 40")))
    assert weak.reasons == (
        "Of planted copies (noise sd 40) the audit found 50% (95% interval 37% to 63%); the policy asks for a lower "
        "bound of 90% (min_power). Planting more does not help: changed so, copies stay below the thresholds.",
    )


def test_membership_is_judged_where_the_policy_limits_it() -> None:
    attack = [*scores(), membership(low=0.62)]
    assert verdict(attack).outcome == "pass"
    judged = verdict(attack, Policy(max_membership_auc=0.6))
    assert judged.outcome == "fail" and "AUC of at least 0.620" in judged.reasons[0]
    assert verdict(attack, Policy(max_membership_auc=0.65)).outcome == "pass"


def test_what_planted_copies_were_found_and_missed_is_said() -> None:
    result = verdict(
        [*scores(), power("blur", "sigma 2 px", 59), power("flip", "twice", 20), power("flip", "thrice", 60)]
    )
    assert "): exact (100%), noise sd 5 (100%), blur up to sigma 2 px (98%), intensity gamma" in result.reasons[-1]
    line = result.not_proven[1]
    # What is found beyond a change that is not does not count.
    assert "too few: noise sd 40 50% (95% interval 37% to 63%); flip twice 33% (95% interval 22% to 47%)." in line
    blind = verdict([score for score in scores() if score["name"] != "power"])
    assert "mirrored" in blind.not_proven[1] and "not measured" in blind.not_proven[1]


def test_verdict_says_what_is_not_proven() -> None:
    clean = verdict(scores(n_flagged=0))
    # 1 - 0.05^(1/1000) = 0.2991 %: the rule of three.
    assert "0 of 1000 flagged is compatible with up to 0.30%" in clean.not_proven[0]
    assert not any("fewer than 20" in line or "leave" in line for line in clean.not_proven)
    weak = verdict(scores(n_null_subjects=3, n_holdout=0))
    assert any("3 subjects, fewer than 20" in line for line in weak.not_proven)
    assert any("which is weaker" in line for line in weak.not_proven)


def test_weaker_rules_are_said_and_stricter_ones_are_not() -> None:
    assert verdict(scores()).weaker == ()
    strict = Policy(
        max_explained_rate=0.05, min_null_subjects=20, require_holdout=True, min_synthetic=1000, min_power=0.95,
        required_power=(*Policy().required_power, "shift"), max_membership_auc=0.6, max_removed_rate=0.0,
        confidence=0.9,
    )  # fmt: skip
    assert strict.weaker() == []
    lax = verdict(
        scores(), Policy(max_removed_rate=1.0, required_power=("exact", "noise sd 40", "flip")), ["plants = 0"]
    )
    assert lax.weaker == (
        "Weaker than the default: max_removed_rate = 1 (default 0.1): a release may leave out more images and give out "
        "the rest.",
        "Weaker than the default: required_power lacks noise, blur, intensity: the audit may pass without finding "
        "planted copies of these kinds.",
        "Weaker than the default: plants = 0.",
    )


@settings(deadline=None)
@given(
    flagged=st.integers(0, 50),
    blank=st.integers(0, 60),
    explained=st.none() | st.floats(0, 1),
    rate=st.floats(0, 0.9),
    control=st.none() | st.floats(0, 1),
)
def test_no_share_beyond_all_and_no_count_beyond_what_was_searched(
    flagged: int, blank: int, explained: float | None, rate: float, control: float | None
) -> None:
    """Whatever an audit measured, also one that counts flagged images among the blank ones."""
    found = scores(
        n_synthetic=60, n_flagged=flagged, n_blank=blank, explained_flag_rate=explained, null_flag_rate=explained,
        control_flag_rate=control,
    )  # fmt: skip
    result = verdict(found, Policy(max_flagged_rate=rate, max_explained_rate=0.05))
    for line in (*result.reasons, *result.not_proven):
        assert all(float(share) <= 100 for share in re.findall(r"(\d+(?:\.\d+)?)%", line))
        counts = re.match(r"(\d+) of (\d+) synthetic images", line)
        assert counts is None or int(counts[1]) <= int(counts[2])


def test_reasons_count_in_words() -> None:
    assert verdict(scores(n_copies=2)).reasons[0] == (
        "2 synthetic images are a copy of a training image (tolerated: 0). They come from 1 training subject."
    )
    assert verdict(scores()).reasons[1] == "No synthetic image is a copy of a training image."


def test_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("max_copies = 2\nmax_flagged_rate = 0\nrequire_holdout = true\n")
    assert load_policy(path) == Policy(max_copies=2, max_flagged_rate=0.0, require_holdout=True)
    path.write_text('required_power = ["exact", "noise sd 5"]\nmax_removed_rate = 0.2\n')
    assert load_policy(path) == Policy(required_power=("exact", "noise sd 5"), max_removed_rate=0.2)
    path.write_text("")
    assert load_policy(path) == Policy()
    # As it comes back from a job.json.
    assert Policy(**json.loads(json.dumps(asdict(Policy())))) == Policy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_copy = 0", "unknown key max_copy"),
        ("[gate]\nmax_copies = 0", "unknown key gate"),
        ("max_copies = true", "max_copies = True"),
        ("max_copies = 1.5", "max_copies = 1.5"),
        ("require_holdout = 1", "require_holdout = 1"),
        ("confidence = 95", "confidence = 95"),
        ("max_copies = -1", "max_copies = -1"),
        ('required_power = "exact"', "list of strings"),
        ("required_power = [1]", "list of strings"),
        ("max_membership_auc = 0.4", "max_membership_auc = 0.4"),
        ("max_removed_rate = 2", "max_removed_rate = 2"),
        ("max_copies", "is not TOML"),
    ],
)
def test_a_wrong_policy_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_policy(path)
    assert message in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        load_policy(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Closed form with one trial fewer than certain: 1 - (1 - x)^n = 0.025 and so on.
        (1, 2, 1 - 0.975**0.5, 0.975**0.5),
        (1, 10, 1 - 0.975**0.1, 0.4450161),
        # Tables of Clopper and Pearson (1934): 5 of 10 is 0.187 to 0.813.
        (5, 10, 0.1870860, 0.8129140),
        (0, 100, 0.0, 1 - 0.05**0.01),
        (100, 100, 0.05**0.01, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_clopper_pearson_known_values(successes: int, trials: int, low: float, high: float) -> None:
    assert clopper_pearson(successes, trials) == pytest.approx((low, high), abs=1e-7)


@settings(deadline=None)
@given(st.integers(1, 100_000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_equals_scipy(trials: int, share: float, confidence: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    successes = round(share * trials)
    low, high = clopper_pearson(successes, trials, confidence)
    assert 0 <= low <= successes / trials <= high <= 1
    if 0 < successes < trials:
        error = (1 - confidence) / 2
        assert low == pytest.approx(stats.beta.ppf(error, successes, trials - successes + 1), rel=1e-8)
        assert high == pytest.approx(stats.beta.ppf(1 - error, successes + 1, trials - successes), rel=1e-8)


def test_clopper_pearson_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="5 successes of 3"):
        clopper_pearson(5, 3)
