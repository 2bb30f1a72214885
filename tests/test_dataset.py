"""The dataset on disk: round trips, interruptions, damage, and what is read through views."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthkit.contract import Sample
from synthkit.data import shards
from synthkit.data import writer as writer_module
from synthkit.data.dataset import Dataset, find_dataset
from synthkit.data.format import content_digest, sample_digest
from synthkit.data.lineage import subject_key, training_keys, was_trained_on
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.shards import SAMPLES_PER_SHARD, map_threads, shard_path
from synthkit.data.views import Joined, View
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, UsageError
from synthkit.schemes import BRATS
from synthkit.testing import InMemorySamples

SIZE = (6, 4)
CONTRASTS = ("t1", "flair")


def arrays(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, len(CONTRASTS), *SIZE), dtype=np.uint8)
    return images, rng.choice(np.array([0, 1, 2, 4], np.uint8), (n, *SIZE))


def rows(n: int, first: int = 0) -> list[dict[str, Any]]:
    """Ten slices a subject; every third subject is held out."""
    numbers = range(first, first + n)
    return [
        {
            "id": f"s{i:05d}",
            "split": "holdout" if i // 10 % 3 == 2 else "train",
            "subject": f"p{i // 10}",
            "slice": i % 10,
        }
        for i in numbers
    ]


def writer(path: Path, **changes: Any) -> DatasetWriter:
    return DatasetWriter(path, **{"contrasts": CONTRASTS, "scheme": BRATS, "size": SIZE, **changes})


def write(path: Path, n: int, batches: Sequence[int] = (), **changes: Any) -> Dataset:
    images, labels = arrays(n)
    table = rows(n)
    start = 0
    with writer(path, **changes) as out:
        for size in batches or (n,):
            stop = start + size
            out.append(images[start:stop], labels[start:stop], table[start:stop])
            start = stop
    return Dataset(path)


def files(path: Path) -> Mapping[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize("n", [1, 3, SAMPLES_PER_SHARD, SAMPLES_PER_SHARD + 1, 2 * SAMPLES_PER_SHARD + 7])
def test_what_was_written_is_read(n: int, tmp_path: Path) -> None:
    images, labels = arrays(n)
    made = write(tmp_path / "d", n)
    read_images, read_labels = made.read(range(n))
    assert np.array_equal(read_images, images) and np.array_equal(read_labels, labels)
    assert (made.contrasts, made.label_values, made.size, len(made)) == (CONTRASTS, (0, 1, 2, 4), SIZE, n)
    assert [row.id for row in made.samples] == [row["id"] for row in rows(n)]
    assert made.samples[0] == Sample("s00000", "train", "p0", 0, None, sample_digest(images[0], labels[0]))
    assert (made.kind, made.lineage) == ("real", {})


def test_rows_are_read_in_the_order_asked_for_and_may_repeat(tmp_path: Path) -> None:
    images, labels = arrays(300)
    wanted = np.array([299, 0, 256, 255, 0, 7])
    read_images, read_labels = write(tmp_path / "d", 300).read(wanted)
    assert np.array_equal(read_images, images[wanted]) and np.array_equal(read_labels, labels[wanted])


def test_reading_nothing_gives_empty_arrays(tmp_path: Path) -> None:
    images, labels = write(tmp_path / "d", 3).read([])
    assert images.shape == (0, 2, *SIZE) and labels.shape == (0, *SIZE)


@pytest.mark.parametrize("index", [3, -1, 10**9])
def test_row_that_is_not_there_is_an_index_error(index: int, tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        write(tmp_path / "d", 3).read([index])


def test_batches_come_in_order(tmp_path: Path) -> None:
    images, labels = arrays(10)
    batches = list(write(tmp_path / "d", 10).batches(4))
    assert [len(b) for b, _ in batches] == [4, 4, 2]
    assert np.array_equal(np.concatenate([b for b, _ in batches]), images)
    assert np.array_equal(np.concatenate([b for _, b in batches]), labels)


def test_dataset_without_samples_is_one(tmp_path: Path) -> None:
    with writer(tmp_path / "d"):
        pass
    made = Dataset(tmp_path / "d")
    assert len(made) == 0 and list(made.batches(4)) == [] and made.training_entry()["subject_keys"] == []


def test_any_zarr_library_reads_it(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    images, labels = arrays(290)
    write(tmp_path / "d", 290)
    with writer(tmp_path / "d", resume=True) as out:
        assert out.n_samples == 290
        out.append(*arrays(5, seed=1), rows(5, first=290))
    group = zarr.open_group(tmp_path / "d", mode="r")
    assert group["images"].shape == (295, 2, *SIZE)
    assert group["images"].metadata.dimension_names == ("sample", "contrast", "y", "x")
    assert np.array_equal(group["images"][:290], images)
    assert np.array_equal(group["labels"][290:], arrays(5, seed=1)[1])
    assert np.array_equal(group["labels"][:290], labels)


def test_description_has_nnunets_keys(tmp_path: Path) -> None:
    write(tmp_path / "d", 30, protocol={"name": "p"}, lineage={"generator": "g"})
    description = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "t1", "1": "flair"}
    assert description["labels"] == BRATS.label_values
    assert description["numTraining"] == 20
    assert description["splits"] == {
        "holdout": {"n_samples": 10, "subjects": ["p2"]},
        "train": {"n_samples": 20, "subjects": ["p0", "p1"]},
    }
    made = Dataset(tmp_path / "d")
    assert (made.kind, made.lineage) == ("real", {"generator": "g"})


def test_dataset_is_found_in_a_run(tmp_path: Path) -> None:
    write(tmp_path / "run" / "outputs" / "dataset", 3)
    assert len(Dataset(tmp_path / "run")) == 3
    for path, why in ((tmp_path, "Neither it nor"), (tmp_path / "none", "does not exist")):
        with pytest.raises(DataError, match=why):
            find_dataset(path)


# ----------------------------------------------------------------------------------------------------- digests


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=6))
def test_digest_is_the_same_however_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, pattern: list[tuple[int, bool]]
) -> None:
    n = sum(size for size, _ in pattern)
    folder = tmp_path_factory.mktemp("pattern")
    images, labels = arrays(n)
    table, start = rows(n), 0
    with writer(folder / "a") as out:
        for size, commit in pattern:
            part = slice(start, start + size)
            out.append(images[part], labels[part], table[part])
            if commit:
                out.commit()
            start += size
    whole = write(folder / "b", n)
    made = Dataset(folder / "a")
    assert made.digest == whole.digest == content_digest(CONTRASTS, BRATS, SIZE, whole.samples)
    assert files(folder / "a") == files(folder / "b")


def test_digest_depends_on_the_content(tmp_path: Path) -> None:
    images, labels = arrays(3)
    digests = set()
    table = rows(3)
    variants: list[tuple[np.ndarray, np.ndarray, list[dict[str, Any]], dict[str, Any]]] = [
        (images, labels, table, {}),
        (255 - images, labels, table, {}),
        (images, labels[::-1], table, {}),
        (images[::-1], labels[::-1], table[::-1], {}),
        (images, labels, [{**row, "split": "holdout"} for row in table], {}),
        (images, labels, table, {"contrasts": ("t1", "t2")}),
    ]
    for number, (i, lab, table_, changes) in enumerate(variants):
        with writer(tmp_path / str(number), **changes) as out:
            out.append(i, lab, table_)
        digests.add(Dataset(tmp_path / str(number)).digest)
    assert len(digests) == len(variants)
    with writer(tmp_path / "same", provenance={"when": "today"}) as out:
        out.append(images, labels, table)
    assert Dataset(tmp_path / "same").digest in digests


def test_digest_of_a_view_is_that_of_the_same_samples_alone(tmp_path: Path) -> None:
    whole = write(tmp_path / "d", 30)
    images, labels = arrays(30)
    kept = [i for i, row in enumerate(rows(30)) if row["split"] == "train"]
    with writer(tmp_path / "part") as out:
        out.append(images[kept], labels[kept], [rows(30)[i] for i in kept])
    assert whole.select("train").digest == Dataset(tmp_path / "part").digest == whole.training_part().digest


# ----------------------------------------------------------------------------------------------- interruptions


class _PowerCut(BaseException):
    pass


def _writes(function: Callable[[], None], monkeypatch: pytest.MonkeyPatch, cut_at: int | None) -> int:
    """Run ``function``; every atomic write counts, and number ``cut_at`` (and any later one) does not happen."""
    n = 0
    real = shards.write_atomically

    def counted(path: Path, data: bytes) -> None:
        nonlocal n
        n += 1
        if cut_at is not None and n >= cut_at:
            raise _PowerCut
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_atomically", counted)
        patch.setattr(writer_module, "write_atomically", counted)
        with contextlib.suppress(_PowerCut):
            function()
    return n


def test_whatever_write_is_cut_the_last_commit_can_be_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SAMPLES_PER_SHARD", 4)
    n, (images, labels), table = 10, arrays(10), rows(10)

    def work(path: Path, resume: bool) -> None:
        with writer(path, resume=resume) as out:
            for start in range(out.n_samples, n, 5):
                out.append(images[start : start + 5], labels[start : start + 5], table[start : start + 5])
                out.commit()

    total = _writes(lambda: work(tmp_path / "whole", False), monkeypatch, None)
    whole = Dataset(tmp_path / "whole")
    for cut_at in range(1, total + 1):
        path = tmp_path / f"cut{cut_at}"
        _writes(lambda p=path: work(p, False), monkeypatch, cut_at)
        with pytest.raises(DataError):
            Dataset(path)
        work(path, True)
        made = Dataset(path)
        assert made.digest == whole.digest, cut_at
        assert np.array_equal(made.read(range(n))[0], images), cut_at
        assert files(path) == files(tmp_path / "whole"), cut_at


def test_exception_keeps_what_there_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writer(tmp_path / "d") as out:
        out.append(*arrays(5), rows(5))
        raise KeyboardInterrupt
    with pytest.raises(DataError, match="interrupted after 5 samples"):
        Dataset(tmp_path / "d")
    with writer(tmp_path / "d", resume=True) as out:
        assert [row.id for row in out.samples] == [row["id"] for row in rows(5)]
    assert len(Dataset(tmp_path / "d")) == 5


def test_exception_before_the_first_sample_is_the_one_that_is_raised(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the method's own"), writer(tmp_path / "d"):
        raise RuntimeError("the method's own")


def test_full_disk_leaves_the_last_commit(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space"), writer(tmp_path / "d") as out:
        out.append(*arrays(5), rows(5))
        out.commit()
        out.append(*arrays(4), rows(4, first=5))
        raise OSError(28, "No space left on device")
    with writer(tmp_path / "d", resume=True) as out:
        assert out.n_samples == 5


def test_long_writes_commit_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_SECONDS_BETWEEN_COMMITS", -1.0)
    out = writer(tmp_path / "d")
    out.append(*arrays(5), rows(5))
    assert json.loads((tmp_path / "d" / "dataset.json").read_text())["n_samples"] == 5


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    write(tmp_path / "d", 3)
    before = files(tmp_path / "d")
    with pytest.raises(UsageError, match="is a dataset at"):
        writer(tmp_path / "d")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(UsageError, match="is not empty"):
        writer(tmp_path / "other")
    assert files(tmp_path / "d") == before


@pytest.mark.parametrize(
    "change", [{"size": (4, 6)}, {"contrasts": ("flair", "t1")}, {"kind": "synthetic"}, {"protocol": {"a": 1}}], ids=str
)
def test_resume_with_another_description_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "d", 3)
    with pytest.raises(UsageError, match="cannot be continued"):
        writer(tmp_path / "d", resume=True, **change)


# ------------------------------------------------------------------------------------------------ wrong samples


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda i, lab, r: (i, np.where(lab == 4, 3, lab).astype(np.uint8), r), "Labels hold the value 3"),
        (lambda i, lab, r: (i, lab + 7, r), "Labels hold the values"),
        (lambda i, lab, r: (i.astype(np.float32), lab, r), "got float32"),
        (lambda i, lab, r: (i, lab.astype(int), r), "int64"),
        (lambda i, lab, r: (i[:, :1], lab, r), "do not fit"),
        (lambda i, lab, r: (i, lab[:, :3], r), "do not fit"),
        (lambda i, lab, r: (i[:2], lab[:2], r), "do not fit"),
        (lambda i, lab, r: (i, lab, [r[0], r[0], r[1]]), "s00005 comes twice"),
        (lambda i, lab, r: (i, lab, rows(3, first=4)), "s00004 comes twice"),
    ],
)
def test_wrong_samples_are_refused_and_nothing_of_them_stays(
    change: Callable[..., tuple[Any, Any, Any]], why: str, tmp_path: Path
) -> None:
    with writer(tmp_path / "d") as out:
        out.append(*arrays(5), rows(5))
        with pytest.raises(DataError, match=why):
            out.append(*change(*arrays(3, seed=1), rows(3, first=5)))
        out.append(*arrays(3, seed=2), rows(3, first=5))
    made = Dataset(tmp_path / "d")
    assert len(made) == 8
    assert np.array_equal(made.read([5, 6, 7])[0], arrays(3, seed=2)[0])


# ------------------------------------------------------------------------------------------------------- damage


def test_shard_that_was_cut_short_is_named(tmp_path: Path) -> None:
    write(tmp_path / "d", 300)
    shard = shard_path(tmp_path / "d" / "images", 1, 3)
    shard.write_bytes(shard.read_bytes()[:-10])
    made = Dataset(tmp_path / "d")
    made.read([0, 255])
    with pytest.raises(DataError, match=r"Shard 1 of .*images is damaged.*checksum"):
        made.read([256])


def test_shard_that_is_gone_is_named(tmp_path: Path) -> None:
    write(tmp_path / "d", 300)
    shard_path(tmp_path / "d" / "labels", 0, 2).unlink()
    with pytest.raises(DataError, match=r"Shard 0 of .*labels is damaged.*No such file"):
        Dataset(tmp_path / "d").read([0])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_flipped_bits_are_never_a_crash(tmp_path: Path, place: int, flip: int) -> None:
    if not (tmp_path / "d").exists():
        write(tmp_path / "d", 3)
    shard = shard_path(tmp_path / "d" / "images", 0, 3)
    original = bytearray(shard.read_bytes())
    damaged = bytearray(original)
    damaged[place % len(damaged)] ^= flip
    shard.write_bytes(bytes(damaged))
    try:
        images, _ = Dataset(tmp_path / "d").read([0, 1, 2])
        assert images.shape == (3, 2, *SIZE)  # a flip in incompressible pixels is a grey level, for the digest to find
    except DataError as error:
        assert "is damaged" in error.what
    finally:
        shard.write_bytes(bytes(original))


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("dataset.json", "{", "cannot be read"),
        ("dataset.json", "[]", "does not describe a dataset"),
        ("dataset.json", '{"channel_names": {}, "labels": {}}', "does not describe a dataset"),
        ("samples.csv", "", "too short"),
        ("samples.csv", "id,split\n1,2\n", "cannot be read"),
        ("samples.csv", "id,split,subject,slice,seed,digest\na,train,p,first,,x\n", "cannot be read"),
        ("samples.csv", "id,split,subject,slice,seed,digest\na,train,p,1,,x\n", "has 1 rows, dataset.json says 3"),
    ],
)
def test_damaged_description_is_a_data_error(file: str, text: str, why: str, tmp_path: Path) -> None:
    write(tmp_path / "d", 3)
    (tmp_path / "d" / file).write_text(text)
    with pytest.raises(DataError, match=why):
        Dataset(tmp_path / "d")


def _edit(path: Path, **changes: Any) -> None:
    description = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in {**description, **changes}.items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": 99}, "has format version 99"),
        ({"version": "new"}, "cannot be read"),
        ({"channel_names": None}, "cannot be read"),
        ({"channel_names": {"1": "t1"}}, "cannot be read"),
        ({"labels": None}, "cannot be read"),
        ({"size": [6]}, "cannot be read"),
        ({"n_samples": None}, "cannot be read"),
        ({"n_samples": "many"}, "cannot be read"),
        ({"digest": None}, "cannot be read"),
    ],
    ids=str,
)
def test_description_that_lacks_something_is_a_data_error(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    write(tmp_path / "d", 3)
    _edit(tmp_path / "d" / "dataset.json", **changes)
    with pytest.raises(DataError, match=why):
        _ = Dataset(tmp_path / "d").digest


# -------------------------------------------------------------------------------------------- views and joining


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    folder = tmp_path_factory.mktemp("two")
    behind = [{"digest": "sha256:other", "subject_keys": [subject_key(name, "sha256:other") for name in ("p7", "p1")]}]
    with writer(folder / "b", kind="synthetic", lineage={"training_datasets": behind}) as out:
        out.append(*arrays(13, seed=5), [{"id": f"x{i}", "split": "synthetic", "seed": 2**40 + i} for i in range(13)])
    return write(folder / "a", 30), Dataset(folder / "b")


@settings(deadline=None)
@given(st.data())
def test_views_of_views_read_the_rows_that_they_name(two_sources: tuple[Dataset, Dataset], data: st.DataObject) -> None:
    whole, _ = two_sources
    images, _ = whole.read(range(30))
    first = data.draw(st.lists(st.integers(0, 29), min_size=1, max_size=20))
    second = data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=10))
    asked = data.draw(st.lists(st.integers(0, len(second) - 1), max_size=10))
    view = View(View(whole, first), second)
    expected = [first[second[i]] for i in asked]
    assert np.array_equal(view.read(asked)[0], images[expected])
    assert [view.samples[i] for i in asked] == [whole.samples[i] for i in expected]


@settings(deadline=None)
@given(st.data())
def test_joined_sources_follow_one_another(two_sources: tuple[Dataset, Dataset], data: st.DataObject) -> None:
    a, b = two_sources
    parts = data.draw(st.lists(st.sampled_from([a, b, a.select("holdout"), View(a, [])]), min_size=1, max_size=4))
    joined = Joined(parts)
    images = np.concatenate([part.read(range(len(part)))[0] for part in parts])
    labels = np.concatenate([part.read(range(len(part)))[1] for part in parts])
    assert len(joined) == len(images)
    asked = data.draw(st.lists(st.integers(0, len(images) - 1), max_size=10)) if len(images) else []
    read_images, read_labels = joined.read(np.array(asked, dtype=np.int64))
    assert np.array_equal(read_images, images[asked]) and np.array_equal(read_labels, labels[asked])
    assert [joined.samples[i] for i in asked] == [[s for p in parts for s in p.samples][i] for i in asked]


@pytest.mark.parametrize("index", [43, 1000, -1])
def test_row_beyond_joined_sources_is_an_index_error(index: int, two_sources: tuple[Dataset, Dataset]) -> None:
    with pytest.raises(IndexError):
        Joined(two_sources).read([index])


@pytest.mark.parametrize("index", [10, -1])
def test_row_beyond_a_view_is_an_index_error(index: int, two_sources: tuple[Dataset, Dataset]) -> None:
    with pytest.raises(IndexError):
        two_sources[0].select("holdout").read([index])


def test_sources_that_differ_are_not_joined(tmp_path: Path, two_sources: tuple[Dataset, Dataset]) -> None:
    with writer(tmp_path / "d", contrasts=("flair", "t1")) as out:
        out.append(*arrays(1), rows(1))
    with pytest.raises(DataError, match="Their contrasts differ"):
        Joined([two_sources[0], Dataset(tmp_path / "d")])


def test_sources_of_two_schemes_are_joined_by_the_names_of_labels() -> None:
    images, values = np.zeros((2, 1, 4, 4), np.uint8), np.tile(np.uint8([0, 1, 2, 4]), (2, 4, 1))
    brats = InMemorySamples(images, values, contrasts=("t1",))
    decathlon = np.array([0, 2, 1, 0, 3], np.uint8)[values]
    msd = InMemorySamples(images, decathlon, contrasts=("t1",), scheme=SCHEMES["msd"], prefix="other")
    joined = Joined([brats, msd])
    assert joined.scheme is brats.scheme and joined.label_values == (0, 1, 2, 4)
    assert np.array_equal(joined.read([0, 3, 1, 2])[1], values[[0, 1, 1, 0]])
    assert np.array_equal(Joined([msd, brats]).read([2])[1], decathlon[:1])
    mask = InMemorySamples(images, (values > 0).astype(np.uint8), contrasts=("t1",), scheme=SCHEMES["whole-tumour"])
    with pytest.raises(DataError, match=r"different labels.*One has NCR, ED and ET, another WT.*--labels"):
        Joined([brats, mask])


def test_splits_and_subjects(two_sources: tuple[Dataset, Dataset]) -> None:
    real, synthetic = two_sources
    assert {row.subject for row in real.select("holdout").samples} == {"p2"}
    assert real.training_part().subjects == ("p0", "p1")
    names = [f"p{i}" for i in range(9)]
    assert [name for name in names if was_trained_on(name, [real.training_entry()])] == ["p0", "p1"]
    assert [name for name in names if was_trained_on(name, [synthetic.training_entry()])] == ["p1", "p7"]
    assert [name for name in names if was_trained_on(name, synthetic.lineage["training_datasets"])] == ["p1", "p7"]
    both = [real.training_entry(), synthetic.training_entry()]
    assert [name for name in names if was_trained_on(name, both)] == ["p0", "p1", "p7"]
    assert len(training_keys(both)) == 4  # keys of two datasets are not comparable: p1 counts in each
    assert len(synthetic.training_part()) == 13
    assert synthetic.samples[3].seed == 2**40 + 3 and synthetic.samples[3].subject is None
    assert len(real.select("train", "holdout")) == 30 and len(real.select("none")) == 0


# --------------------------------------------------------------------------------- processes and threads


@pytest.mark.parametrize(
    ("kind", "split"), [("real", "test"), ("real", "Holdout"), ("real", "synthetic"), ("synthetic", "train")]
)
def test_split_that_a_kind_does_not_have_is_refused(kind: Any, split: str, tmp_path: Path) -> None:
    with writer(tmp_path / "d", kind=kind) as out:
        with pytest.raises(DataError, match="has the split"):
            out.append(*arrays(1), [{"id": "a", "split": split}])
        assert out.n_samples == 0


@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "/etc/x", "a\\b", "a\nb", ".hidden", "x" * 201])
def test_id_that_is_no_name_of_a_file_is_refused(name: str, tmp_path: Path) -> None:
    with writer(tmp_path / "d") as out, pytest.raises(DataError, match="cannot be the name of a file"):
        out.append(*arrays(1), [{"id": name, "split": "train"}])
    write(tmp_path / "e", 2)
    table = (tmp_path / "e" / "samples.csv").read_text()
    quoted = '"' + name + '"'
    (tmp_path / "e" / "samples.csv").write_text(table.replace("s00001", quoted, 1))
    with pytest.raises(DataError, match="cannot be the name of a file"):
        Dataset(tmp_path / "e")


def test_contrast_that_is_a_path_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "d", 2)
    _edit(tmp_path / "d" / "dataset.json", channel_names={"0": "t1", "1": "../../x"})
    with pytest.raises(DataError, match="channel_names"):
        Dataset(tmp_path / "d")


def test_flipped_pixels_are_found_by_the_checksum_of_their_frame(tmp_path: Path) -> None:
    # Noise does not compress: the frame holds it raw, and a flipped byte decompresses well.
    write(tmp_path / "d", 3)
    path = shard_path(tmp_path / "d" / "images", 0, 3)
    content = bytearray(path.read_bytes())
    at = content.index(arrays(3)[0][1].tobytes())
    content[at + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        Dataset(tmp_path / "d").read([1])
    codecs = json.loads((tmp_path / "d" / "images" / "zarr.json").read_text())["codecs"][0]["configuration"]["codecs"]
    assert codecs[1]["configuration"]["checksum"] is True


def test_dataset_can_be_pickled(two_sources: tuple[Dataset, Dataset]) -> None:
    source = Joined([two_sources[0].training_part(), two_sources[1]])
    source.read(range(8))
    copy = pickle.loads(pickle.dumps(source))
    assert np.array_equal(copy.read(range(33))[0], source.read(range(33))[0])
    assert copy.digest == source.digest


def _read_in_child(source: Dataset, queue: Any) -> None:
    images, _ = source.read(range(len(source)))
    queue.put(int(images.sum()))


def test_forked_process_reads_without_waiting_for_threads_it_lacks(two_sources: tuple[Dataset, Dataset]) -> None:
    source = two_sources[0]
    expected = int(source.read(range(30))[0].sum())  # starts the thread pool and opens the shards
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    children = [context.Process(target=_read_in_child, args=(source, queue)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        alive = child.is_alive()
        child.kill()
        assert not alive and child.exitcode == 0
    assert [queue.get(), queue.get()] == [expected, expected]


def test_open_files_are_few_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SAMPLES_PER_SHARD", 2)
    monkeypatch.setattr(shards, "_OPEN_SHARDS", 3)
    made = write(tmp_path / "d", 20)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    made.read(range(20))
    assert len(os.listdir("/proc/self/fd")) - before <= 2 * 3  # noqa: PTH208
    made.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert np.array_equal(made.read([19])[0], arrays(20)[0][19:])


def test_threads_are_at_rest_after_an_error() -> None:
    started, finished = [], []

    def work(n: int) -> None:
        started.append(n)
        if n == 0:
            raise OSError(28, "No space left on device")
        time.sleep(0.05)
        finished.append(n)

    with pytest.raises(OSError, match="No space"):
        map_threads(work, range(64))
    at_rest = len(finished)
    assert len(started) == at_rest + 1 < 64
    time.sleep(0.2)
    assert len(finished) == at_rest
