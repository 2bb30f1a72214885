"""Asked for with label maps of training people: what an audit says, what a control must be, documented commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from synthkit import api
from synthkit.cli import app
from synthkit.data.dataset import Dataset
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, GateFailedError, InsufficientEvidenceError, SynthkitError, UsageError
from synthkit.judging.by_label_map import fisher
from synthkit.judging.intervals import clopper_pearson
from synthkit.judging.policy import Policy
from synthkit.judging.verdict import verdict
from synthkit.report.match_rule import MatchRule
from synthkit.schemes import BRATS
from synthkit.testing import data
from synthkit.testing.toys import CONDITIONAL_GENERATOR, SLICE_AUDIT, TOYS, conditional

ROOT = Path(__file__).resolve().parents[1]
MANY = {"required_power": ()}


# ------------------------------------------------------------------------------------------------------ the verdict


def found(n: int = 40, **changes: Any) -> list[dict[str, Any]]:
    """Scores of an audit of ``n`` images that were asked for with label maps of 8 of 10 training people."""
    whole = {
        "n_synthetic": (n, None), "n_copies": (0, None), "n_identical": (0, None), "n_train": (100, 10),
        "n_holdout": (60, 6), "n_holdout_copies": (0, None), "n_null_subjects": (16, None), "n_asked": (n, 8),
        "n_returned": (0, 8), "asked_first_rate": (0.125, 8), "n_control": (24, 6), "control_first_rate": (0.0, 6),
        "asked_auc": (0.5, 14), **{name: (value, None) for name, value in changes.items()},
    }  # fmt: skip
    scores = [{"name": name, "value": value, "n": of, "of": {}} for name, (value, of) in whole.items()]
    back = changes.get("n_copies", 0)
    of_family = {"n_copies": back, "least_margin": 0.2 if back else 0.9, "cut": 0.6}
    return [*scores, *({"name": k, "value": v, "of": {"family": "asked"}} for k, v in of_family.items())]


def test_who_comes_back_is_said_and_who_does_not() -> None:
    back = verdict(found(n_copies=15, n_returned=3), Policy(**MANY))
    assert back.outcome == "fail" and back.reasons[1] == (
        "Asked for with the label maps of 8 training people, 3 come back, in 15 of 40 images, compared where label "
        "maps say nothing (smallest margin 0.20, cut 0.60). Nearer to whom they were asked for than to any other "
        "training person are the images of 1 of 8; in the control, of 0 of 6 held-out people."
    )
    nobody = verdict(found(), Policy(**MANY))
    assert nobody.outcome == "pass" and nobody.reasons[1].startswith(
        "Asked for with the label maps of 8 training people, nobody comes back in 40 images, compared where label maps "
        "say nothing (smallest margin 0.90, cut 0.60)."
    )
    assert any("8 of 10 training people were asked for" in line for line in nobody.not_proven)
    assert not any("faintly" in line for line in nobody.not_proven)


def test_what_is_said_of_the_picture_stands_beside_label_maps_that_are_not_allowed() -> None:
    lent = {"whose": "people", "n_people": 8}
    judged = verdict(found(), Policy(**MANY), lent=lent)
    assert judged.outcome == "insufficient evidence" and "allow_lent_label_maps" in judged.reasons[0]
    assert "nobody comes back" in judged.reasons[1]
    allowed = verdict(found(), Policy(**MANY, allow_lent_label_maps=True), lent=lent)  # as the reason advises
    assert allowed.outcome == "pass" and "nobody comes back" in allowed.reasons[2]
    assert verdict(found(n_copies=1, n_returned=1), Policy(**MANY), lent=lent).outcome == "fail"


def test_a_policy_that_limits_membership_attacks_limits_the_one_by_label_map() -> None:
    limit = Policy(**MANY, max_membership_auc=0.8)
    whole = {"name": "membership_auc", "value": 0.5, "low": 0.4, "high": 0.6, "of": {}}

    def judged(low: float | None) -> Any:
        auc = {"name": "asked_auc", "value": 0.9, "n": 14, "of": {}, **({} if low is None else {"low": low})}
        return verdict([*(s for s in found() if s["name"] != "asked_auc"), whole, auc], limit)

    assert judged(0.81).outcome == "fail" and "AUC of at least 0.810" in judged(0.81).reasons[0]
    assert judged(0.79).outcome == "pass"
    missing = judged(None)
    assert missing.outcome == "insufficient evidence" and "--control CONTROL" in missing.reasons[1]


def firsts(own: tuple[int, int], control: tuple[int, int] | None, n_cut: float = 0.6) -> Any:
    of = {"asked_first_rate": own, "control_first_rate": control}
    kept = [s for s in found() if s["name"] not in of and s["name"] != "cut"]
    for name, counts in of.items():
        if counts is not None:
            low, high = clopper_pearson(*counts)
            kept.append({"name": name, "value": counts[0] / counts[1], "low": low, "high": high, "n": counts[1]})
    rate = {"name": "false_fail_rate", "value": 0.05}
    return verdict([*kept, rate, {"name": "cut", "value": n_cut, "of": {"family": "asked"}}], Policy(**MANY))


def test_that_most_training_people_are_told_where_others_are_not_fails_without_any_cut() -> None:
    assert fisher(6, 6, 0, 6) == pytest.approx(1 / 924) and fisher(0, 6, 3, 6) == 1.0
    assert fisher(3, 4, 1, 4) == pytest.approx(17 / 70)  # the lady tasting tea
    told = firsts((6, 6), (0, 6), n_cut=0.0)
    assert told.outcome == "fail" and "the images of 6 of 6 are nearer" in told.reasons[0]
    assert "in the control, of 0 of 6 held-out people (p = 0.001, by person)" in told.reasons[0]
    assert firsts((5, 8), (3, 6)).outcome == "pass"  # label maps say as much of people whom it has never seen
    assert firsts((20, 50), (0, 50)).outcome == "pass"  # beyond chance, and not most of them
    blind = firsts((0, 8), (0, 6), n_cut=0.0)
    assert blind.outcome == "insufficient evidence" and any("for a cut above 0" in line for line in blind.reasons)
    alone = firsts((5, 8), None)
    assert alone.outcome == "insufficient evidence" and any("a control tells" in line for line in alone.reasons)
    assert firsts((1, 8), None).outcome == "pass"


@pytest.mark.parametrize("n_asked", [0, None])
def test_what_was_not_tried_is_said(n_asked: int | None) -> None:
    judged = verdict(found(n_asked=n_asked, n_returned=None), Policy(**MANY))
    assert judged.outcome == "pass" and not any("comes back" in line for line in judged.reasons)
    assert any("no image here was asked for" in line and "--labels REAL" in line for line in judged.not_proven)
    without = verdict(found(n_control=None), Policy(**MANY))
    assert any("faintly" in line and "--control CONTROL" in line for line in without.not_proven)


def test_a_picture_of_a_pair_says_which_pixels_were_compared() -> None:
    rule = MatchRule("outside-brain", (0,))
    assert not rule.is_as_drawn and "outside the labels of both" in rule.not_drawn
    assert MatchRule("brain", (0,)).is_as_drawn and not MatchRule("bent", (0,)).is_as_drawn


# ------------------------------------------------------------------------------------------------ asked and controlled


@pytest.fixture
def toys(install_plugins: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    install_plugins(*TOYS)
    monkeypatch.setenv("SYNTHKIT_BACKEND", "inline")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def unseen(path: Path, n: int = 6, seed: int = 7) -> Dataset:
    """Four real slices each of people whom nobody trained on."""
    images, labels = data.slices(4 * n, 4, 32, seed=seed)
    rows = [
        {"id": f"q{k}_{z}", "split": "train", "subject": f"q{k + seed}", "slice": z} for k in range(n) for z in range(4)
    ]
    with DatasetWriter(path, contrasts=BRATS.contrast_names, scheme=BRATS, size=images.shape[2:]) as writer:
        writer.append(images, labels, rows)
    return Dataset(path)


@pytest.mark.usefixtures("toys")
def test_a_control_that_says_nothing_of_these_images_is_refused(tmp_path: Path) -> None:
    real, other = data.real_dataset(4, 32).path, unseen(tmp_path / "unseen").path
    one, two = (
        api.train(CONDITIONAL_GENERATOR.name, [real], tmp_path / name, params={"passes": passes}).run.path
        for name, passes in (("one", 1), ("two", 2))
    )

    def made(name: str, model: Path, labels: Path | None) -> Path:
        return api.generate(model, "0-3", tmp_path / name, labels=labels).run.path

    asked, control = made("asked", one, real), made("control", one, other)
    elsewhere = unseen(tmp_path / "elsewhere", seed=20).path

    def refused(error: type[SynthkitError], words: str, synthetic: Path = asked, **given: Any) -> None:
        with pytest.raises(error, match=words):
            api.audit_memorization(real, synthetic, tmp_path / "audit", **given)
        assert not (tmp_path / "audit").exists()

    refused(UsageError, "--holdout DATASET", control=control)
    refused(DataError, "drawn by another model", control=made("of two", two, other), holdout=other)
    refused(DataError, "drawn by another model", control=other, holdout=other)
    refused(DataError, "not asked for with the label maps of", control=control, holdout=elsewhere)
    refused(DataError, "not asked for with the label maps of", control=made("free", one, None), holdout=other)
    refused(UsageError, "were not asked for with label maps", tmp_path / "free", control=control, holdout=other)
    refused(UsageError, "takes no control", control=control, holdout=other, metric=SLICE_AUDIT.name)
    # As the messages advise: made by the same model with the label maps of the holdout.
    done = api.audit_memorization(
        real, asked, tmp_path / "audit", control=made("advised", one, elsewhere), holdout=elsewhere,
        params={"plants": 0, "families": ("picture",)},
    )  # fmt: skip
    assert any(s["name"] == "n_control" for s in done.result["scores"])


def returned(real: Dataset) -> Callable[..., Any]:
    """A generator's function that gives back the training image of a label map, where it knows one."""
    images, labels = real.training_part().read(range(len(real.training_part())))
    drawn = conditional.generate

    def generate(checkpoint: Path, seeds: Any, params: Any, *, asked: Any = None) -> Any:
        wanted = list(asked)
        for (image, _), ask in zip(drawn(checkpoint, seeds, params, asked=wanted), wanted, strict=True):
            known = np.flatnonzero((labels == ask.labels).all(axis=(1, 2)))
            yield (images[known[0]] // 2 + 40 if len(known) else image), ask.labels

    return generate


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("leaks", [False, True])
def test_the_documented_commands_find_a_generator_that_returns_its_patients(
    leaks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = data.real_dataset(4, 32)
    model = api.train(CONDITIONAL_GENERATOR.name, [real.path], tmp_path / "model", params={"passes": 1}).run.path
    places = {"RUN": model, "data/real": real.path, "data/unseen": unseen(tmp_path / "unseen").path}
    if leaks:
        monkeypatch.setattr(conditional, "generate", returned(real))
    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    (block,) = (b for b in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "--control" in b)
    done = None
    for line in block.strip().splitlines():
        words = line.split("#")[0].split()[1:]
        places |= {word: tmp_path / word for word in words if "/" in word and word not in places}
        if words[0] == "audit-memorization":
            words += ["-p", "plants=0", "-p", "families=picture,labels"]
        done = CliRunner().invoke(app, [str(places.get(word, word)) for word in words])
        assert words[0] == "audit-memorization" or done.exit_code == 0, done.output
    assert done is not None
    said, page = " ".join(done.output.split()), (tmp_path / "runs" / "leak" / "audit.html").read_text("utf-8")
    if leaks:
        assert isinstance(done.exception, GateFailedError), said
        assert "the images of 6 of 6 are nearer to them" in said and "the images of 6 of 6 are nearer" in page
        assert "pixels outside the labels of both" in page or "pixels of both brains outside" in page  # of pairs
    else:  # real people by their ids: their label maps are not allowed, whatever the picture shows
        assert isinstance(done.exception, InsufficientEvidenceError) and "allow_lent_label_maps" in said
        assert "Asked for with the label maps of 6 training people, nobody comes back in 24 images" in said
