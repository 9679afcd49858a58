"""The authors' two files of VaeDiff-DocRE's second stage, as they are laid out, become a generator."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file

from modeling_docre import DocREForRelationExtraction, VaeDiffConfig, VaeDiffModel
from modeling_docre.cli import main
from modeling_docre.original_vaediff import import_generator
from modeling_docre.tensor_files import OriginalCheckpointError

RELATIONS = ["r1", "r2", "r3"]
LAYER = {
    "attention_norm": "0.0.0",
    "value": "0.1.to_v",
    "out": "0.1.to_out",
    "norm": "1.0.0",
    "after_norm": "1.0.1",
    "up": "1.1.ff.0.proj",
    "down": "1.1.ff.3",
    "scale_shift": "1.2.scale_shift.time_mlp.1",
}
OTHERS = {
    "class_projection": "class_embedding_mlp",
    "step_projection.0": "time_mlp.1",
    "step_projection.2": "time_mlp.3",
    "step_input": "time_pos_embed_mlp.1",
    "input": "input_proj",
    "output": "output_proj",
}


def published(model: VaeDiffModel) -> tuple[dict, dict]:
    """Both state dicts, by the names that the authors' code gives them."""
    vae, prior = {}, {}
    for name, value in model.vae.state_dict().items():
        theirs = name.replace("mean.", "mu.").replace("log_variance.", "log_sigma.")
        theirs = re.sub(r"^(encoder\.[04]|decoder\.[25])\.weight$", r"\1.gamma", theirs)
        vae[theirs] = value.clone()
    for name, value in model.denoiser.state_dict().items():
        if match := re.fullmatch(r"layers\.(\d+)\.(\w+)\.(\w+)", name):
            half, rest = LAYER[match[2]].split(".", 1)
            theirs = f"encoder.layers.{2 * int(match[1]) + int(half)}.{rest}.{match[3]}"
        else:
            module, _, part = name.rpartition(".")
            theirs = "init_self_cond" if name == "no_estimate" else f"{OTHERS.get(module, module)}.{part}"
        prior[theirs] = value.clone()
    for layer in range(model.config.num_hidden_layers):
        for name in "qk":
            prior[f"encoder.layers.{2 * layer}.1.to_{name}.weight"] = torch.randn(128, model.config.hidden_size)
    return vae, prior


@pytest.fixture
def model() -> VaeDiffModel:
    torch.manual_seed(0)
    config = VaeDiffConfig(
        RELATIONS, embedding_size=12, latent_size=6, hidden_size=8, num_hidden_layers=2, num_attention_heads=2
    )
    model = VaeDiffModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def files(model, tmp_path):
    vae, prior = published(model)
    torch.save(vae, tmp_path / "vae.pt")
    # As the authors save it: the average beside what it follows, and two numbers.
    whole = {f"ema_model.{name}": value for name, value in prior.items()}
    whole |= {f"online_model.{name}": value + 1 for name, value in prior.items()}
    whole |= {"initted": torch.tensor([True]), "step": torch.tensor([7])}
    torch.save(whole, tmp_path / "prior.pt")
    save_file(prior, tmp_path / "prior.safetensors")
    return tmp_path


@pytest.mark.parametrize("prior", ["prior.pt", "prior.safetensors"])
def test_the_generator_is_the_average(model, files, prior):
    again, report = import_generator(files / "vae.pt", files / prior, files / "out", relations=RELATIONS)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert again.config.to_diff_dict().items() >= {"relations": RELATIONS, "hidden_size": 8, "latent_size": 6}.items()
    assert report.used == len(model.state_dict())
    reasons = set(report.unused.values())
    idle = {name for name, reason in report.unused.items() if "weighs the one vector" in reason}
    assert {name.rsplit(".", 2)[1] for name in idle} == {"to_q", "to_k"} and len(idle) == 4
    assert (len(reasons) == 3) == (prior == "prior.pt")
    loaded = VaeDiffModel.from_pretrained(files / "out")
    drawn = [one.sample([["r2"]], 3, generator=torch.Generator().manual_seed(1)) for one in (model, again, loaded)]
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


def test_by_the_command_line(files, capsys):
    (files / "relations.json").write_text('{"r1": 1, "r2": 2, "r3": 3, "Na": 0}')
    arguments = [str(files / "vae.pt"), str(files / "prior.pt"), "-o", str(files / "out")]
    assert main(["import-generator", *arguments, "--relations", str(files / "relations.json")]) in (None, 0)
    said = capsys.readouterr().err
    assert "unwrapped: ema_model." in said and "saved to" in said
    assert VaeDiffModel.from_pretrained(files / "out").config.relations == RELATIONS


def test_what_is_wrong_is_named_as_in_the_file(model, files, tiny_bert_dir):
    def refused(message, vae="vae.pt", prior="prior.pt", **arguments):
        with pytest.raises(OriginalCheckpointError, match=message):
            import_generator(files / vae, files / prior, **{"relations": RELATIONS, **arguments})

    refused(r"vae\.pt is no denoiser.*Pass the autoencoder's file first", vae="vae.pt", prior="vae.pt")
    refused(r"prior\.pt is no autoencoder", vae="prior.pt")
    refused("has 4 classes, .* there are 96 relations", relations=None)
    (files / "full").mkdir()
    (files / "full" / "file").touch()
    refused("is there already, and not empty", output=files / "full")
    vae, prior = published(model)
    torch.save({name: value for name, value in vae.items() if name != "encoder.4.gamma"}, files / "less.pt")
    refused(r"it lacks encoder\.4", vae="less.pt")
    torch.save({**vae, "mu.weight": torch.zeros(6, 5)}, files / "other.pt")
    refused(r"mu\.weight has shape \(6, 5\), where the model has \(6, 6\)", vae="other.pt")
    torch.save(
        {f"ema_model.{name}": value for name, value in prior.items() if "init_self" not in name}, files / "p.pt"
    )
    refused(r"it lacks ema_model\.init_self_cond, of shape \(1, 6\)", prior="p.pt")
    relation_model = DocREForRelationExtraction.from_encoder(tiny_bert_dir, relations=["r1"], emb_size=8, block_size=4)
    torch.save(relation_model.state_dict(), files / "docre.pt")
    refused("is no autoencoder", vae="docre.pt")
