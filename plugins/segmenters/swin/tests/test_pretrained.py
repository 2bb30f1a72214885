"""Pretrained weights under the names of their authors and of Hugging Face arrive where they belong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

from synthkit_segmentation.recipe import Task  # noqa: E402
from synthkit_swin.network import build_network  # noqa: E402
from synthkit_swin.pretrained import load_backbone_weights  # noqa: E402

from synthkit.errors import DataError  # noqa: E402


def network(contrasts: int, seed: int, backbone: str = "nano") -> Any:
    return build_network(Task(contrasts, 4, (32, 32)), backbone, torch.device("cpu"), seed, head_channels=16)


def swin_weights(model: Any) -> dict[str, Any]:
    return {name: p.detach().clone() for name, p in model.backbone.swin.named_parameters()}


def authors_names(weights: dict[str, Any]) -> dict[str, Any]:
    """The names of Microsoft's files, where query, key and value are one matrix."""
    made: dict[str, Any] = {"head.weight": torch.zeros(1000, 256), "norm.weight": torch.ones(256)}
    for name, tensor in weights.items():
        new = name.replace("encoder.layers", "layers").replace("layernorm_before", "norm1")
        new = new.replace("layernorm_after", "norm2").replace(
            "embeddings.patch_embeddings.projection", "patch_embed.proj"
        )
        new = new.replace("embeddings.norm", "patch_embed.norm").replace("attention.o_proj", "attn.proj")
        new = new.replace("attention.relative_position_bias.", "attn.")
        if found := re.search(r"attention\.([qkv])_proj", new):
            if found[1] == "q":
                parts = [weights[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
                made[new.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
            continue
        made[new] = tensor
    return made


def earlier_names(weights: dict[str, Any]) -> dict[str, Any]:
    """The names of Hugging Face's files."""
    words = {"q_proj": "self.query", "k_proj": "self.key", "v_proj": "self.value", "o_proj": "output.dense"}
    words |= {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense", "relative_position_bias.": "self."}
    made = {}
    for name, tensor in weights.items():
        for new, old in words.items():
            name = name.replace(new, old)
        made[f"swin.{name}"] = tensor
    return made


def write_authors(weights: dict[str, Any], folder: Path) -> Path:
    torch.save({"model": authors_names(weights)}, folder / "weights.pth")
    return folder / "weights.pth"


def write_hugging_face(weights: dict[str, Any], folder: Path) -> Path:
    safetensors.save_file(earlier_names(weights), folder / "weights.safetensors")
    return folder / "weights.safetensors"


def write_own(weights: dict[str, Any], folder: Path) -> Path:
    safetensors.save_file({f"backbone.swin.{k}": v for k, v in weights.items()}, folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.mark.parametrize("write", [write_authors, write_hugging_face, write_own])
def test_weights_come_back_under_other_names(tmp_path: Path, write: Any) -> None:
    wanted = swin_weights(network(3, seed=1))
    model = network(3, seed=2)
    head = model.decode_head.classifier.weight.detach().clone()
    load_backbone_weights(model, write(wanted, tmp_path))
    for name, weights in swin_weights(model).items():
        torch.testing.assert_close(weights, wanted[name])
    assert torch.equal(model.decode_head.classifier.weight, head)


@pytest.mark.parametrize("contrasts", [1, 2, 4])
def test_grey_colours_become_equal_contrasts(tmp_path: Path, contrasts: int) -> None:
    original, model = network(3, seed=1), network(contrasts, seed=2)
    load_backbone_weights(model, write_hugging_face(swin_weights(original), tmp_path))
    grey = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    patches = [m.backbone.swin.embeddings.patch_embeddings.projection for m in (original, model)]
    with torch.no_grad():
        expected, found = patches[0](grey.expand(-1, 3, -1, -1)), patches[1](grey.expand(-1, contrasts, -1, -1))
    torch.testing.assert_close(found, expected)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    wanted = swin_weights(network(3, seed=1))
    wanted["encoder.layers.0.blocks.0.mlp.fc1.bias"] = torch.zeros(7)
    with pytest.raises(DataError, match=r"the shape \(7,\)"):
        load_backbone_weights(network(3, seed=2), write_own(wanted, tmp_path))
    del wanted["encoder.layers.0.blocks.0.mlp.fc1.bias"]
    with pytest.raises(DataError, match="nothing of that name"):
        load_backbone_weights(network(3, seed=2), write_own(wanted, tmp_path))


class Malicious:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('executed')",)


def test_a_file_with_code_or_rubbish_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save({"model": Malicious()}, tmp_path / "code.pth")
    (tmp_path / "rubbish.bin").write_bytes(b"rubbish")
    for name in ("code.pth", "rubbish.bin", "missing.pth"):
        with pytest.raises(DataError, match="cannot be read"):
            load_backbone_weights(network(1, seed=0), tmp_path / name)
