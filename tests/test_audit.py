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

from synthkit.errors import DataError, ExitCode, UsageError
from synthkit.judging.intervals import clopper_pearson
from synthkit.judging.policy import Policy, load_policy, policy_of
from synthkit.judging.verdict import verdict


def scores(**changes: Any) -> list[dict[str, Any]]:
    """A clean audit of 1,000 images against 40 training and 20 held-out people, with changes; None is undefined."""
    values: dict[str, Any] = {
        "n_synthetic": 1000,
        "n_copies": 0,
        "n_identical": 0,
        "n_copied_subjects": 0,
        "n_null_subjects": 60,
        "n_train": 3200,
        "n_holdout": 1600,
        "n_holdout_copies": 0,
        "false_fail_rate": 0.05,
        **changes,
    }
    found = [{"name": name, "value": value, "of": {}} for name, value in values.items()]
    for score in found:
        score |= {"n": {"n_train": 40, "n_holdout": 20}.get(score["name"])}
    # A score of one contrast must not be taken for that of the whole.
    return [{"name": "n_copies", "value": 999, "of": {"contrast": "t1", "rule": "pearson"}}, *found, *POWER]


def power(kind: str, strength: str, found: int, n: int = 60) -> dict[str, Any]:
    low, high = clopper_pearson(found, n)
    of = {"planted": kind, "strength": strength}
    return {"name": "power", "value": found / n, "low": low, "high": high, "n": n, "of": of}


def family(name: str, **values: float) -> list[dict[str, Any]]:
    """Scores of one family of comparisons; ``other`` and ``other_cut`` are of held-out people."""
    other_side = {"side": "holdout"}
    known = {"other": ("least_margin", other_side), "other_cut": ("cut", other_side)}
    found = [(*known.get(score, (score, {})), value) for score, value in values.items()]
    return [{"name": score, "value": value, "of": {"family": name, **of}} for score, of, value in found]


#: Exact copies and mild noise are found, strong noise half of the time.
POWER = [power("exact", "", 60), power("noise", "sd 5", 60), power("noise", "sd 40", 30)]
POWER += [power("blur", "sigma 1 px", 60), power("intensity", "gamma 1.2", 60), power("flip", "", 60)]


def membership(low: float, high: float) -> dict[str, Any]:
    return {"name": "membership_auc", "value": (low + high) / 2, "low": low, "high": high, "of": {}}


ALONE = {"n_holdout": 0, "n_holdout_copies": None}


@pytest.mark.parametrize(
    ("changes", "policy", "outcome"),
    [
        ({}, {}, "pass"),
        ({"n_copies": 1}, {}, "fail"),
        ({"n_copies": 1}, {"max_copies": 1}, "pass"),
        ({"n_identical": 1}, {}, "fail"),
        # Held-out people are patients.
        ({"n_holdout_copies": 1}, {}, "fail"),
        ({"n_holdout_copies": 1}, {"max_copies": 1}, "pass"),
        ({"n_holdout_copies": None}, {}, "pass"),
        ({"n_null_subjects": 3}, {}, "insufficient evidence"),
        ({"n_null_subjects": 4}, {}, "pass"),
        ({"n_null_subjects": 1}, {"min_null_subjects": 1}, "pass"),
        ({"n_null_subjects": 30}, {"min_null_subjects": 31}, "insufficient evidence"),
        ({"n_null_subjects": None, "n_copies": None}, {}, "insufficient evidence"),
        ({"n_copies": None}, {}, "insufficient evidence"),
        ({"n_identical": None}, {}, "insufficient evidence"),
        (ALONE, {}, "pass"),
        (ALONE, {"require_holdout": True}, "insufficient evidence"),
        ({}, {"min_synthetic": 1001}, "insufficient evidence"),
        # A kind stands for its mildest strength.
        ({}, {"required_power": ("exact", "noise")}, "pass"),
        ({}, {"required_power": ("noise sd 5",)}, "pass"),
        ({}, {"required_power": ("noise sd 40",)}, "insufficient evidence"),
        ({}, {"required_power": ("noise sd 40",), "min_power": 0.3}, "pass"),
        ({}, {"required_power": ("shift",)}, "insufficient evidence"),
        # Membership was not measured here.
        ({}, {"max_membership_auc": 0.6}, "insufficient evidence"),
        # Copies are copies, whatever else is missing.
        ({"n_null_subjects": None, "n_copies": None, "n_identical": 3}, {}, "fail"),
        ({"n_null_subjects": 1, "n_copies": 3}, {}, "fail"),
    ],
)
def test_verdict_table(changes: dict[str, Any], policy: dict[str, Any], outcome: str) -> None:
    result = verdict(scores(**changes), Policy(**policy))
    assert result.outcome == outcome
    assert result.exit_code == {"pass": ExitCode.OK, "fail": 10, "insufficient evidence": 12}[outcome]
    assert result.reasons and all(line.endswith((".", ")")) for line in (*result.reasons, *result.not_proven))


def test_verdict_without_any_score_is_insufficient() -> None:
    assert verdict([]).outcome == "insufficient evidence"


@pytest.mark.parametrize(
    ("likeness", "changes", "outcome"),
    [(0.84, ALONE, "insufficient evidence"), (0.86, ALONE, "pass"), (0.5, {}, "pass")],
)
def test_the_images_under_audit_may_not_lower_their_own_cut(
    likeness: float, changes: dict[str, Any], outcome: str
) -> None:
    """Without held-out people, likeness is measured on them. Of another family it decides nothing."""
    found = [*scores(**changes), *family("picture", likeness=likeness), *family("labels", likeness=0.1)]
    result = verdict(found)
    assert result.outcome == outcome
    if outcome != "pass":
        assert "likeness 0.84; the policy asks for 0.85" in result.reasons[0] and "--holdout" in result.reasons[0]
        assert verdict(found, Policy(min_likeness=0.8)).outcome == "pass"


def test_copies_are_named_first_with_people_and_margins() -> None:
    found = [
        *scores(n_copies=11, n_copied_subjects=4, n_identical=1, n_holdout_copies=300, n_copied_holdout_subjects=1,
                n_null_subjects=3),
        *family("picture", cut=0.5, least_margin=0.4, n_copies=9, other=0.2, other_cut=0.3),
        *family("frame", cut=0.6, least_margin=0.7, n_copies=0, other=0.55, other_cut=0.5),
        *family("tumour", cut=0.5, least_margin=0.1, n_copies=3, other=0.6, other_cut=0.5),
    ]  # fmt: skip
    result = verdict(found)
    assert result.outcome == "fail"
    assert result.reasons[:3] == (
        "1 synthetic image is identical to a training image, up to brightness and contrast (tolerated: 0).",
        "11 synthetic images are copies of 4 training people (tolerated: 0): by tumour 3, smallest margin 0.10, cut "
        "0.50; by picture 9, smallest margin 0.40, cut 0.50.",
        "300 synthetic images are copies of 1 held-out person (tolerated: 0): by picture, smallest margin 0.20, cut "
        "0.30. They are patients as well, and the generator has seen them.",
    )
    assert "The cut rests on 3 real people" in result.reasons[3]
    # What is tolerated is said first where there is too little evidence, too.
    result = verdict(found, Policy(max_copies=300))
    assert result.outcome == "insufficient evidence" and "identical" in result.reasons[0]
    assert verdict(scores(n_copies=1)).reasons[0] == ("1 synthetic image is a copy of training people (tolerated: 0).")


def test_without_a_cut_the_nearest_images_are_named() -> None:
    tails = [
        {"name": "best_r_quantile", "value": r, "of": {"contrast": view, "rule": "pearson", "quantile": quantile}}
        for view, r, quantile in (("t1", 0.998, "0.999"), ("joint", 0.97, "0.999"), ("t1", 0.9, "0.9"))
    ]
    result = verdict([*scores(n_null_subjects=None, n_copies=None), *tails])
    assert "reach r 0.9980 with a training image (t1, pearson, quantile 0.999)" in result.reasons[0]
    assert "no real person" in result.reasons[1] and "--holdout" in result.reasons[1]


def test_a_pass_says_what_can_be_signed() -> None:
    found = [*scores(), *family("picture", cut=0.7, least_margin=0.9), *family("frame", cut=0.5, least_margin=0.6)]
    assert verdict(found).reasons[0] == (
        "What can be signed: none of 1,000 synthetic images is a copy of 40 training people and of 20 held-out people. "
        "The nearest, by frame: margin 0.60, cut 0.50."
    )
    tolerant = verdict(scores(n_copies=2, n_holdout_copies=1), Policy(max_copies=2))
    assert tolerant.reasons[0] == (
        "What can be signed: all but 2 of 1,000 synthetic images are no copies of 40 training people."
    )
    assert "2 synthetic images are copies" in tolerant.reasons[1] and "held-out" in tolerant.reasons[2]


def test_people_on_both_sides_are_the_first_remark() -> None:
    result = verdict(scores(n_holdout_twins=1, n_blank=20))
    assert result.outcome == "pass"
    assert "1 held-out person is a training person under another id" in result.reasons[-2]
    assert "holdout_twins.csv" in result.reasons[-2] and "20 of 1000 synthetic images are blank" in result.reasons[-1]


def test_an_audit_that_finds_no_planted_copies_is_no_evidence() -> None:
    blind = [score for score in scores() if score["name"] != "power"]
    result = verdict(blind)
    assert result.outcome == "insufficient evidence" and "power test was not made" in result.reasons[0]
    assert verdict(blind, Policy(required_power=())).outcome == "pass"
    # All of 28 found is a lower bound of 0.05^(1/28) = 0.899, all of 29 one of 0.902.
    exact = Policy(required_power=("exact",))
    few = verdict([*blind, power("exact", "", 28, 28)], exact)
    assert few.outcome == "insufficient evidence" and "Plant more: 29 found of 29 would do" in few.reasons[0]
    assert verdict([*blind, power("exact", "", 29, 29)], exact).outcome == "pass"


@pytest.mark.parametrize(
    ("people", "found", "helps"),
    [
        (60, 30, "More people or images would hardly help: changed so, copies come no nearer than chance does."),
        (60, 57, "Planting more narrows that interval, and may not raise it enough."),
        (9, 30, "The cut rests on 9 real people; with more held out, 20 in all, it can be higher and find more."),
    ],
)
def test_what_would_find_more_planted_copies(people: int, found: int, helps: str) -> None:
    given = [*scores(n_null_subjects=people), power("elastic", "rms 2 px", found)]
    (reason,) = verdict(given, Policy(required_power=("elastic",))).reasons
    assert "Of planted copies (elastic rms 2 px) the audit found" in reason and helps in reason


def test_membership_is_judged_on_both_sides() -> None:
    attack = [*scores(), membership(0.62, 0.9)]
    assert verdict(attack).outcome == "pass"
    judged = verdict(attack, Policy(max_membership_auc=0.6))
    assert judged.outcome == "fail" and "AUC of at least 0.620" in judged.reasons[0]
    assert verdict(attack, Policy(max_membership_auc=0.65)).outcome == "pass"
    # Held-out people that are nearer are told apart as well.
    judged = verdict([*scores(), membership(0.0, 0.002)], Policy(max_membership_auc=0.6))
    assert judged.outcome == "fail" and "AUC of at most 0.002" in judged.reasons[0]
    assert verdict([*scores(), membership(0.3, 0.45)], Policy(max_membership_auc=0.6)).outcome == "pass"


def test_membership_of_too_few_people_is_no_evidence_and_more_held_out_are() -> None:
    without = [*scores(), {**membership(0.3, 0.45), "low": None, "high": None}]
    judged = verdict(without, Policy(max_membership_auc=0.6))
    assert judged.outcome == "insufficient evidence"
    assert "no interval: that takes 10 training people and as many held-out ones" in judged.reasons[0]
    (reason,) = verdict(scores(), Policy(max_membership_auc=0.6)).reasons
    assert "it was not made: it needs held-out people" in reason and "--holdout" in reason


def test_what_planted_copies_were_found_and_missed_is_said() -> None:
    result = verdict(
        [*scores(), power("blur", "sigma 2 px", 59), power("flip", "twice", 20), power("flip", "thrice", 60)]
    )
    assert "): exact (100%), noise sd 5 (100%), blur up to sigma 2 px (98%), intensity gamma" in result.reasons[-1]
    line = result.not_proven[2]
    # What is found beyond a change that is not does not count.
    assert "find enough: noise sd 40 50% (95% interval 37% to 63%); flip twice 33% (95% interval 22% to 47%)." in line
    blind = verdict([score for score in scores() if score["name"] != "power"])
    assert "was not measured" in blind.not_proven[2]


def test_verdict_says_what_is_not_proven() -> None:
    clean = verdict(scores())
    # 1 - 0.05^(1/1000) = 0.2991 %: the rule of three.
    assert "0 of 1000 is compatible with up to 0.30%" in clean.not_proven[0]
    rate = "That a dataset of this size which copies nobody fails in at most 5% of audits, whatever people are like"
    assert clean.not_proven[1].startswith(rate) and "1 in 61 further people" in clean.not_proven[1]
    assert not any("fewer than 20" in line or "outside" in line for line in clean.not_proven)
    weak = verdict(scores(n_null_subjects=5, **ALONE))
    assert "tail of 5 real people, fewer than 20" in weak.not_proven[1]
    assert "nobody outside the training set" in weak.not_proven[2]
    assert any("did not count" in line for line in verdict(scores(n_holdout_copies=None)).not_proven)
    # Labels and tumours that were not compared, or with a cut below which nothing lies, are named.
    part = verdict([*scores(), *family("picture", cut=0.7), *family("frame", cut=0.6), *family("labels", cut=0.0)])
    assert any(line.endswith("which were not compared: warped, label-shape, tumour.") for line in part.not_proven)
    assert any(line.endswith("a cut above 0: labels.") for line in part.not_proven)


def test_weaker_rules_are_said_and_stricter_ones_are_not() -> None:
    assert verdict(scores()).weaker == ()
    strict = Policy(
        min_null_subjects=20, require_holdout=True, min_likeness=0.9, min_synthetic=1000, min_power=0.95,
        required_power=(*Policy().required_power, "shift"), max_membership_auc=0.6, max_removed_rate=0.0,
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
    assert len(Policy(min_likeness=0.5, min_null_subjects=1, max_copies=3).weaker()) == 3
    (lent,) = Policy(allow_lent_label_maps=True).weaker()
    assert lent.startswith("allow_lent_label_maps = true (default false): images may have label maps of real people")


@pytest.mark.parametrize(
    ("lent", "whose"),
    [
        ({"whose": "people", "n_people": 3}, "those of 3 real people, by request"),
        ({"whose": "people", "n_people": None}, "those of real people, by request"),
        ({"whose": "unknown"}, "those of nobody knows whom, by request"),
    ],
)
def test_label_maps_of_others_do_not_pass_without_a_word(lent: dict[str, Any], whose: str) -> None:
    judged = verdict(scores(), lent=lent)
    assert judged.outcome == "insufficient evidence" and whose in judged.reasons[0]
    assert "speaks of the images alone" in judged.reasons[0] and "allow_lent_label_maps = true" in judged.reasons[0]
    allowed = verdict(scores(), Policy(allow_lent_label_maps=True), lent=lent)  # as the sentence advises
    assert allowed.outcome == "pass" and whose in allowed.reasons[0] and "allow_lent" in allowed.weaker[0]
    assert "none of 1,000 synthetic images is, apart from its label map, a copy" in allowed.reasons[1]
    assert allowed.to_dict()["label_maps"] == allowed.reasons[0] and "label_maps" not in verdict(scores()).to_dict()
    copied = verdict(scores(n_copies=1), Policy(allow_lent_label_maps=True), lent=lent)
    assert (
        copied.outcome == "fail" and "1 synthetic image is a copy" in copied.reasons[0] and whose in copied.reasons[1]
    )
    blind = verdict(scores(n_copies=None), Policy(allow_lent_label_maps=True), lent=lent)
    assert blind.outcome == "insufficient evidence" and whose in blind.reasons[0]
    assert verdict(scores(), Policy(allow_lent_label_maps=True)).reasons == verdict(scores()).reasons


@settings(deadline=None)
@given(
    copies=st.none() | st.integers(0, 60),
    blank=st.integers(0, 60),
    others=st.none() | st.integers(0, 60),
    people=st.none() | st.integers(1, 60),
    margins=st.lists(st.floats(0, 5), min_size=4, max_size=4),
    tolerated=st.integers(0, 60),
)
def test_whatever_an_audit_measured_is_judged_in_sentences(
    copies: int | None, blank: int, others: int | None, people: int | None, margins: list[float], tolerated: int
) -> None:
    """Also one that counts copies among the blank ones, or whose cut is 0: no share beyond all, no copies that pass."""
    least, cut, other, likeness = margins
    found = scores(n_synthetic=60, n_copies=copies, n_blank=blank, n_holdout_copies=others, n_null_subjects=people)
    found += family("picture", least_margin=least, cut=cut, other=other, likeness=likeness)
    result = verdict(found, Policy(max_copies=tolerated))
    for line in (*result.reasons, *result.not_proven):
        assert all(float(share) <= 100 for share in re.findall(r"(\d+(?:\.\d+)?)%", line)) and "nan" not in line
    beyond = max(copies or 0, others or 0) > tolerated
    assert (result.outcome == "fail") == beyond
    if copies:
        assert "synthetic image" in result.reasons[0 if result.outcome != "pass" else 1]


def test_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("max_copies = 2\nmin_likeness = 1\nrequire_holdout = true\n")
    assert load_policy(path) == Policy(max_copies=2, min_likeness=1.0, require_holdout=True)
    path.write_text('required_power = ["exact", "noise sd 5"]\nmax_removed_rate = 0.2\n')
    assert load_policy(path) == Policy(required_power=("exact", "noise sd 5"), max_removed_rate=0.2)
    path.write_text("")
    assert load_policy(path) == Policy()
    # As it comes back from a job.json; one of another version is refused by name.
    assert policy_of({"policy": json.loads(json.dumps(asdict(Policy())))}) == policy_of({}) == Policy()
    with pytest.raises(DataError, match="max_flagged_rate"):
        policy_of({"policy": {"max_flagged_rate": 0.0}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_copy = 0", "unknown key max_copy"),
        ("[gate]\nmax_copies = 0", "unknown key gate"),
        ("max_copies = true", "max_copies = True"),
        ("max_copies = 1.5", "max_copies = 1.5"),
        ("require_holdout = 1", "require_holdout = 1"),
        ("confidence = 0.95", "unknown key confidence"),
        ("min_likeness = 2", "min_likeness = 2"),
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
