"""A training run in a process of its own; tests start it, kill it, resume it and spread it over processes."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
from training_helpers import arguments, fictional, make, parameters
from transformers import TrainerCallback

from modeling_docre.contrastive_pretraining import ContrastivePreTrainer
from modeling_docre.processes import leave_processes
from modeling_docre.training import DocRETrainer


class Slow(TrainerCallback):
    """Leaves time to be killed in."""

    def on_step_end(self, args, state, control, **kwargs):
        time.sleep(0.5)


def main() -> None:
    torch.set_num_threads(1)
    train(parse())
    leave_processes()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("encoder", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--save_steps", type=int)
    parser.add_argument("--max_pairs", type=int)
    parser.add_argument("--logging_steps", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--normalise", default="global")
    parser.add_argument("--method", default="atlop")
    parser.add_argument("--pretraining", action="store_true")
    parser.add_argument("--copies", type=int)
    parser.add_argument("--mask_probability", type=float, default=0.1)
    parser.add_argument("--text_augmentation")
    parser.add_argument("--noisy_copies", type=int, help="without noise: processes draw from generators of their own")
    parser.add_argument("--generator", help="of pair embeddings; every other document has no facts then")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--teacher")
    parser.add_argument("--soft_labels")
    parser.add_argument("--dropout", action="store_true")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def train(options: argparse.Namespace) -> None:
    model, processor = make(
        options.encoder,
        dropout=options.dropout,
        pretraining=options.pretraining,
        method=options.method,
        era_mask_probability=options.mask_probability,
        **({} if options.copies is None else {"era_copies": options.copies}),
    )
    documents = [fictional(number) for number in range(9)]
    if options.generator:
        documents = [{**one, "labels": []} if number % 2 else one for number, one in enumerate(documents)]
    generated = {"augmentation": "vaediff", "augmentation_warmup_epochs": 0, "generator": options.generator}
    saving = {"save_strategy": "steps", "save_steps": options.save_steps} if options.save_steps else {}
    noise = {"augmentation_copies": options.noisy_copies, "augmentation_noise": 0.0, "augmentation_warmup_epochs": 1}
    args = arguments(
        options.folder,
        **({"augmentation": "gaussian", **noise} if options.noisy_copies else {}),
        **(generated if options.generator else {}),
        bf16=options.bf16,
        per_device_train_batch_size=options.batch,
        max_pairs_per_batch=options.max_pairs,
        logging_steps=options.logging_steps,
        gradient_accumulation_steps=options.accumulate,
        normalise=options.normalise,
        text_augmentation=options.text_augmentation,
        teacher=options.teacher,
        soft_labels=options.soft_labels,
        era_max_facts=7,
        optim="sgd" if not options.dropout else "adamw_torch",
        ddp_backend="gloo" if "WORLD_SIZE" in os.environ else None,
        **saving,
    )
    trainer = (ContrastivePreTrainer if options.pretraining else DocRETrainer)(
        model=model,
        args=args,
        train_dataset=documents,
        eval_dataset=None if options.pretraining else documents[:5],
        processing_class=processor,
        callbacks=[Slow()] if options.slow else None,
    )
    output = trainer.train(resume_from_checkpoint=options.resume or None)
    metrics = {} if options.pretraining else trainer.evaluate()
    predictions = [] if options.pretraining else trainer.predict(documents).predictions
    part = "info_nce" if options.pretraining else model.config.loss
    if options.pretraining:
        torch.save(
            parameters(trainer.accelerator.unwrap_model(trainer.model)), f"{options.folder}.{args.process_index}.pt"
        )
    if not trainer.is_world_process_zero():
        return
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    result = {
        "world_size": args.world_size,
        "steps": output.global_step,
        "training_loss": [output.training_loss, output.metrics["train_loss"]],
        "metrics": metrics,
        "losses": [entry["loss"] for entry in history],
        "parts": [entry[f"loss_{part}"] for entry in history],
        "predictions": [[[r.head, r.tail, r.relation] for r in relations] for relations in predictions],
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.save(parameters(trainer.accelerator.unwrap_model(trainer.model)), options.folder / "parameters.pt")
    (options.folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
