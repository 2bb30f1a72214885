"""The metrics as a whole: names, floors, notes, and the order that generators come in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthkit_fidelity import Params

from synthkit.contract import Kept, Score
from synthkit.errors import DataError, UsageError
from synthkit.registry.parameters import make_params
from synthkit.registry.registry import discover
from synthkit.running.verbs.inputs import features_named
from synthkit.testing import InMemorySamples

pytest.importorskip("torch", exc_type=ImportError)
metrics = pytest.importorskip("synthkit_fidelity.metrics", exc_type=ImportError)
READ = pytest.importorskip("synthkit_fidelity.extraction", exc_type=ImportError).READ

ALL = ("fid", "inception-score", "kid", "prdc")
GRID = 4
CONTRASTS = ("t1", "t2")


class Means:
    """A network without weights: 4 x 4 means of the image, and their first three as classes."""

    name, sha256, dimension, n_classes, is_inception = "means@00000000", "0" * 64, GRID * GRID, 3, False

    def __init__(self) -> None:
        self.seen = 0

    def with_logits(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.seen += len(images)
        side = images.shape[1] // GRID
        means = images.reshape(len(images), GRID, side, GRID, side).mean(axis=(2, 4)).reshape(len(images), -1) / 50
        return means.astype(np.float32), means[:, :3].astype(np.float32)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Means:
    means = Means()
    monkeypatch.setattr(metrics, "extractor", lambda weights, device, network: means)
    return means


def images(rng: np.random.Generator, n: int, mean: float = 100.0, joint: bool = True) -> np.ndarray:
    """Blocks of random brightness; the second contrast is the first inverted, unless ``joint`` is false."""
    coarse = np.clip(rng.normal(mean, 30, (n, GRID, GRID)), 0, 255).repeat(2, axis=1).repeat(2, axis=2)
    other = coarse if joint else coarse[rng.permutation(n)]
    return np.stack([coarse, 255 - other], axis=1).astype(np.uint8)


def real(rng: np.random.Generator, n_patients: int = 15, n_slices: int = 8) -> InMemorySamples:
    subjects = [f"s{i // n_slices}" for i in range(n_patients * n_slices)]
    return InMemorySamples(images(rng, len(subjects)), subjects=subjects, contrasts=CONTRASTS)


def synthetic(pixels: np.ndarray) -> InMemorySamples:
    return InMemorySamples(pixels, subjects=[None] * len(pixels), contrasts=CONTRASTS)


def run(metric_names: Sequence[str] = ALL, params: Params | None = None, **given: Any) -> dict[tuple[str, str], Score]:
    scores: Iterator[Score] = metrics.score(metrics=metric_names, params=params or Params(), **given)
    return {(s.name, s.of["contrast"]): s for s in scores}


def value(scores: dict[tuple[str, str], Score], name: str, contrast: str = "joint") -> float:
    found = scores[name, contrast].value
    assert found is not None, scores[name, contrast]
    return found


def test_only_inception_gives_inception_names(network: Means) -> None:
    rng = np.random.default_rng(0)
    given = {"real": real(rng), "synthetic": synthetic(images(rng, 60))}
    names = {name for name, _ in run(**given)}
    assert {"fd", "fd_infinity", "fd_floor", "fd_matched", "kd", "kd_between_patients", "kd_floor"} <= names
    assert {"classifier_score", "classifier_score_real", "precision", "coverage_floor", "density_matched"} <= names
    assert not any(name.startswith(("fid", "kid", "inception")) for name in names)
    network.is_inception = True
    inception = run(**given)
    assert {"fid", "kid", "inception_score", "fid_infinity"} <= {name for name, _ in inception}
    assert not any(name.startswith(("fd", "kd", "classifier")) for name, _ in inception)
    assert all(score.of["features"] == "means@00000000" for score in inception.values())
    assert {contrast for name, contrast in inception if name == "fid"} == {"t1", "t2", "joint"}
    assert {contrast for name, contrast in inception if name == "inception_score"} == {"t1", "t2"}


def test_every_metric_gives_only_what_it_declares(network: Means) -> None:
    rng = np.random.default_rng(1)
    given = {"real": real(rng), "synthetic": synthetic(images(rng, 60))}
    for name in ALL:
        declared = {definition.name for definition in discover().get(name, "metric").scores}  # type: ignore[union-attr]
        for network.is_inception in (False, True):
            assert {found for found, _ in run((name,), **given)} <= declared


@pytest.mark.usefixtures("network")
def test_generators_come_in_the_right_order() -> None:
    rng = np.random.default_rng(2)
    data = real(rng)
    generators = {
        "memorizing": data.images[rng.permutation(120)],
        "good": images(rng, 120),
        "pale": images(rng, 120, mean=130),
        "collapsed": np.repeat(images(rng, 4), 30, axis=0),
    }
    scores = {name: run(real=data, synthetic=synthetic(pixels)) for name, pixels in generators.items()}
    for name in ("fd", "kd"):
        found = [value(scores[generator], name) for generator in generators]
        assert found[0] < found[1] < min(found[2:]), (name, found)
    # A memorizing generator is closer than other patients are: the floor gives it away.
    assert value(scores["memorizing"], "fd_matched") < value(scores["memorizing"], "fd_floor")
    for name, relation in (("good", "within"), ("pale", "above"), ("collapsed", "above")):
        assert f"{relation} the floor" in scores[name]["kd", "joint"].note, name
        assert f"{relation} the floor" in scores[name]["fd_matched", "joint"].note, name
    assert value(scores["memorizing"], "coverage") == 1.0 and value(scores["collapsed"], "coverage") < 0.5
    assert value(scores["collapsed"], "recall") < value(scores["good"], "recall")
    floor = scores["good"]["fd_floor", "joint"]
    assert floor.low is not None and floor.high is not None
    assert floor.low < value(scores["good"], "fd_matched") < floor.high


@pytest.mark.usefixtures("network")
def test_contrasts_that_do_not_fit_together_show_in_the_joint_features_only() -> None:
    rng = np.random.default_rng(3)
    data = real(rng)
    fitting, mixed = (run(("fid",), real=data, synthetic=synthetic(images(rng, 120, joint=j))) for j in (True, False))
    assert value(mixed, "fd", "t1") < 2 * value(fitting, "fd", "t1")
    assert value(mixed, "fd") > 4 * value(fitting, "fd")


@pytest.mark.usefixtures("network")
def test_numbers_travel_with_patients_and_notes() -> None:
    rng = np.random.default_rng(4)
    data, others = (
        real(rng),
        InMemorySamples(images(rng, 24), subjects=[f"h{i // 8}" for i in range(24)], contrasts=CONTRASTS),
    )
    scores = run(real=data, synthetic=synthetic(images(rng, 60)), holdout=others)
    distance = scores["fd", "t1"]
    assert distance.n == 15 and "120 real and 60 synthetic images, 16 features" in distance.note
    assert distance.low is not None and distance.high is not None and distance.low < distance.value < distance.high
    # Fifteen patients: slices of one are alike, which the distance over all pairs does not know.
    few, between = scores["kd", "t1"], scores["kd_between_patients", "t1"]
    assert few.low is None and "15 patients: no interval, give at least 20" in few.note and between.low is not None
    # Three held-out patients are fewer than half of fifteen.
    assert "one each of the other half" in scores["fd_floor", "t1"].note
    assert "7 images" in scores["fd_floor", "t1"].note and "8 times 7 synthetic" in scores["fd_matched", "t1"].note
    assert "biased" in scores["fd", "joint"].note or scores["fd", "joint"].note.endswith("32 features")
    assert scores["fd_infinity", "joint"].value is None and "64 images" in scores["fd_infinity", "joint"].note
    held = InMemorySamples(images(rng, 80), subjects=[f"h{i // 8}" for i in range(80)], contrasts=CONTRASTS)
    fresh = run(real=data, synthetic=synthetic(images(rng, 60)), holdout=held)
    assert "10 images, one each of held-out patients, against all of 15" in fresh["fd_floor", "t1"].note


@pytest.mark.usefixtures("network")
def test_a_floor_is_the_same_whatever_the_number_of_synthetic_images() -> None:
    rng = np.random.default_rng(9)
    data = real(rng)
    runs = [run(("fid", "kid", "prdc"), real=data, synthetic=synthetic(images(rng, n))) for n in (6, 16, 62)]
    found = [{key: score.value for key, score in scores.items() if key[0].endswith("_floor")} for scores in runs]
    assert found[0] == found[1] == found[2] and None not in found[0].values()
    few = runs[0]["fd_matched", "t1"]
    assert few.value is None and "draw at least as many" in few.note
    enough = run(("fid",), real=data, synthetic=synthetic(images(rng, 7)))
    assert enough["fd_matched", "t1"].value is not None


@pytest.mark.usefixtures("network")
def test_too_few_images_give_reasons_and_no_numbers() -> None:
    rng = np.random.default_rng(5)
    one = InMemorySamples(images(rng, 1), subjects=["s0"], contrasts=CONTRASTS)
    for score in run(real=one, synthetic=synthetic(images(rng, 3))).values():
        assert score.value is None and score.note
    patient = InMemorySamples(images(rng, 30), subjects=["s0"] * 30, contrasts=CONTRASTS)
    scores = run(real=patient, synthetic=synthetic(images(rng, 30)))
    assert value(scores, "fd") > 0 and scores["fd", "joint"].low is None
    assert scores["fd_floor", "joint"].value is None and "10 patients" in scores["fd_floor", "joint"].note
    assert scores["kd_between_patients", "t1"].note == "a single patient"


@pytest.mark.usefixtures("network")
def test_max_images_draws_the_same_whole_patients_again() -> None:
    rng = np.random.default_rng(6)
    given = {"real": real(rng), "synthetic": synthetic(images(rng, 60))}
    scores = run(params=Params(max_images=40), **given)
    assert scores["fd", "t1"].n == 5 and "40 real and 40 synthetic" in scores["fd", "t1"].note
    assert scores == run(params=Params(max_images=40), **given)
    assert scores != run(params=Params(max_images=40, seed=1), **given)


@pytest.mark.usefixtures("network")
def test_sets_that_cannot_be_compared_are_named() -> None:
    rng = np.random.default_rng(7)
    data = real(rng)
    with pytest.raises(DataError, match="synthetic dataset is empty"):
        run(real=data, synthetic=synthetic(images(rng, 0)))
    with pytest.raises(DataError, match="cannot be compared"):
        run(real=data, synthetic=InMemorySamples(images(rng, 5), subjects=[None] * 5, contrasts=("t1", "flair")))
    with pytest.raises(DataError, match="cannot be compared"):
        run(real=data, synthetic=synthetic(images(rng, 5)[..., :4, :4]))


@pytest.mark.usefixtures("network")
def test_few_real_images_and_many_held_out_people_give_reasons() -> None:
    rng = np.random.default_rng(10)
    held = InMemorySamples(images(rng, 9), subjects=[f"h{i}" for i in range(9)], contrasts=CONTRASTS)
    scores = run(real=real(rng, 3, 1), synthetic=synthetic(images(rng, 20)), holdout=held)
    assert scores["precision_floor", "t1"].value is None and "k = 5" in scores["precision_floor", "t1"].note
    assert value(scores, "fd_floor") > 0 and "held-out" in scores["fd_floor", "t1"].note
    equal = InMemorySamples(
        np.full((12, 2, 8, 8), 7, np.uint8), subjects=[f"s{i}" for i in range(12)], contrasts=CONTRASTS
    )
    for score in run(("fid", "kid"), real=equal, synthetic=synthetic(images(rng, 20))).values():
        assert score.value is None or np.isfinite(score.value), score


def test_weights_of_no_known_network_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"not weights")
    rng = np.random.default_rng(8)
    with pytest.raises(DataError, match="cannot be read"):
        run(real=real(rng), synthetic=synthetic(images(rng, 5)), features=path)


def test_a_named_file_of_features_sets_the_network_that_it_is_held_to(tmp_path: Path) -> None:
    fid, realism = discover().get("fid"), discover().get("label-realism")
    assert features_named(Path("radimagenet=some/file.pth"), fid) == (Path("some/file.pth"), {"network": "radimagenet"})
    existing = tmp_path / "a=b"
    existing.touch()
    for plain in (existing, Path("weights.pth"), Path("folder=x/weights.pth").absolute(), None):
        assert features_named(plain, fid) == (plain, {})
    with pytest.raises(UsageError, match="network") as caught:
        make_params(fid, features_named(Path("imagenet=x"), fid)[1])
    assert "radiodino" in str(caught.value.why)
    with pytest.raises(UsageError, match="by name"):
        features_named(Path("radimagenet=x"), realism)


def test_the_first_score_of_a_metric_names_network_and_digest(network: Means) -> None:
    rng = np.random.default_rng(3)
    network.origin = "features means, sha256 00"  # type: ignore[attr-defined]
    given = {"real": real(rng), "synthetic": synthetic(images(rng, 30))}
    named = {key for key, score in run(**given, features=Path("x")).items() if "sha256 00" in score.note}
    first = {"fd", "kd", "precision"}
    assert named == {(n, c) for n in first for c in (*CONTRASTS, "joint")} | {
        ("classifier_score", c) for c in CONTRASTS
    }
    assert not any("sha256" in score.note for score in run(**given).values())


# ------------------------------------------------------------------------------------------- kept for later runs


def kept_in(file: Path, **given: Any) -> Path:
    found = list(metrics.score(metrics=ALL, params=Params(), **given))
    assert len(found) == 1 and isinstance(found[0], Kept)
    np.savez(file, **dict[str, Any](found[0].arrays))
    return file


def test_real_images_go_through_the_network_once_for_several_generators(network: Means, tmp_path: Path) -> None:
    rng = np.random.default_rng(20)
    others = {"real": real(rng), "holdout": real(rng)}
    made = synthetic(images(rng, 60))
    plain = run(**others, synthetic=made)
    kept = kept_in(tmp_path / "kept.npz", **others)
    network.seen = 0
    assert run(**others, synthetic=made, kept=kept) == plain
    assert network.seen == len(CONTRASTS) * (60 + 2 * READ)  # the synthetic images, and a look at the others


def test_what_was_kept_of_something_else_is_refused(network: Means, tmp_path: Path) -> None:
    rng = np.random.default_rng(21)
    data, made = real(rng), synthetic(images(rng, 60))
    kept = kept_in(tmp_path / "kept.npz", real=data)
    with pytest.raises(DataError, match="the real images differ"):
        run(real=real(rng), synthetic=made, kept=kept)
    with pytest.raises(DataError, match="the holdout images differ"):
        run(real=data, holdout=real(rng), synthetic=made, kept=kept)
    with pytest.raises(DataError, match="the real images differ"):
        run(real=data, synthetic=made, kept=kept, params=Params(max_images=50))
    network.sha256 = "1" * 64
    with pytest.raises(DataError, match="the feature network differs"):
        run(real=data, synthetic=made, kept=kept)
    network.sha256 = "0" * 64
    # The same images and weights, by a method that is another since.
    arrays = dict(np.load(kept))
    np.savez(tmp_path / "stale.npz", **{**arrays, "real/t2": 1.01 * arrays["real/t2"]})
    with pytest.raises(DataError, match="the features differ"):
        run(real=data, synthetic=made, kept=tmp_path / "stale.npz")
    np.savez(tmp_path / "less.npz", **{name: array for name, array in arrays.items() if not name.endswith("logits")})
    assert run(("fid",), real=data, synthetic=made, kept=tmp_path / "less.npz")
    with pytest.raises(DataError, match="the metrics differ"):
        run(real=data, synthetic=made, kept=tmp_path / "less.npz")
