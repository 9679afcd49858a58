"""Fictional documents and small models that the tests of training share, also in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from forked import run_python
from torch import nn

from modeling_docre import DocREForContrastivePreTraining, DocREForRelationExtraction, DocREProcessor
from modeling_docre.training import DocRETrainer, DocRETrainingArguments

SCRIPT = Path(__file__).with_name("training_script.py")
# Python, in two processes.
LAUNCHER = [
    *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1"),
    *("--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0"),
]
RELATIONS = ["born_in", "part_of", "rules"]
PEOPLE = ["Ada", "Bo", "Cleo", "Dag", "Eva", "Finn", "Gil", "Hal", "Ina"]
PLACES = ["Orle", "Pell", "Quay", "Rusk", "Sorn", "Tarn", "Umber", "Vale", "Wick"]


def fictional(number: int, title: str | None = None) -> dict:
    """A document in DocRED's form, with as many entities as its number says: two to four."""
    person, place, realm = PEOPLE[number % 9], PLACES[number % 9], PLACES[(number + 4) % 9]
    sents = [[person, "was", "born", "in", place, "."], [place, "is", "part", "of", realm, "."]]
    entities = [
        [{"name": person, "sent_id": 0, "pos": [0, 1], "type": "PER"}],
        [
            {"name": place, "sent_id": 0, "pos": [4, 5], "type": "LOC"},
            {"name": place, "sent_id": 1, "pos": [0, 1], "type": "LOC"},
        ],
    ]
    labels = [{"h": 0, "t": 1, "r": "born_in", "evidence": [0]}]
    if number % 3:
        entities.append([{"name": realm, "sent_id": 1, "pos": [4, 5], "type": "LOC"}])
        labels.append({"h": 1, "t": 2, "r": "part_of", "evidence": [1]})
    if number % 3 == 2:
        sents.append(["Bo", "rules", realm, "."])
        entities.append([{"name": "Bo", "sent_id": 2, "pos": [0, 1], "type": "PER"}])
        labels.append({"h": 3, "t": 2, "r": "rules", "evidence": [2]})
    return {"title": title or f"Story {number}", "sents": sents, "vertexSet": entities, "labels": labels}


def make(encoder: Path, *, dropout: bool = False, pretraining: bool = False, **settings) -> tuple[Any, DocREProcessor]:
    torch.manual_seed(7)
    settings = {"emb_size": 16, "block_size": 4, **settings}
    if pretraining:
        settings = {"moco_size": 8, "moco_queue_size": 3, "era_copies": 0, **settings}
    model_class = DocREForContrastivePreTraining if pretraining else DocREForRelationExtraction
    model = model_class.from_encoder(str(encoder), relations=RELATIONS, **settings)
    if not dropout:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return model, DocREProcessor.from_encoder(str(encoder), config=model.config)


def arguments(folder: Path, **settings) -> DocRETrainingArguments:
    defaults = {
        "num_train_epochs": 2,
        "learning_rate": 1e-3,
        "head_learning_rate": 1e-2,
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
    }
    return DocRETrainingArguments(output_dir=str(folder), **{**defaults, **settings})


def trainer_for(
    encoder: Path, folder: Path, count: int = 9, *, dropout=False, model_settings=None, trainer=None, **settings
):
    """A trainer; `settings` go to its arguments, those in `trainer` to itself."""
    model, processor = make(encoder, dropout=dropout, **(model_settings or {}))
    documents = [fictional(number) for number in range(count)]
    own = {
        "model": model,
        "train_dataset": documents,
        "eval_dataset": documents[:5],
        "processing_class": processor,
        **(trainer or {}),
    }
    return DocRETrainer(args=arguments(folder, **settings), **own)


def parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(
            first[name], second[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def train_in_processes(encoder: Path, folder: Path, *options: str, processes: int = 1) -> None:
    """Run `training_script.py` to its end, in one process or two."""
    ran = run_python(SCRIPT, encoder, folder, *options, processes=processes)
    assert ran.returncode == 0, ran.stderr


def train_under_torchrun(encoder: Path, folder: Path, *options: str) -> None:
    """Run `training_script.py` to its end in two processes, as users start them."""
    command = [*LAUNCHER, str(SCRIPT), str(encoder), str(folder), *options]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"})


def train_killed_and_resumed(encoder: Path, folder: Path, *options: str) -> None:
    """Run `training_script.py`, kill it after the checkpoint of step 3, which ends with the state, and go on."""
    options = (*options, "--save_steps=3")
    state = f"{folder}/checkpoint-3/trainer_state.json"
    killed = run_python(SCRIPT, encoder, folder, *options, "--slow", kill_at=state, seconds_later=0.2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (folder / "result.json").exists()
    train_in_processes(encoder, folder, *options, "--resume")


def result_of(folder: Path) -> dict[str, Any]:
    """What `training_script.py` has written."""
    return json.loads((folder / "result.json").read_text())


def parameters_of(folder: Path) -> dict[str, torch.Tensor]:
    """The parameters that `training_script.py` has written."""
    return torch.load(folder / "parameters.pt")
