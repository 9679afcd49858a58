"""Frozen lower encoder layers, whose outputs are kept on disk so that they run once per document."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

# Raise when what a stored file holds changes its meaning.
FORMAT = 1


class FrozenLayers:
    """
    The part of an encoder below a layer, frozen: no gradients, no dropout, and optionally a cache on disk.

    All of the encoder is frozen but the layers from number `number` on, so that what enters those depends on the token
    ids alone. With a cache, each window of tokens is computed once, alone and without padding, which makes the stored
    states independent of the batch that asked first; afterwards the frozen layers hand out stored states.

    Args:
        encoder (`PreTrainedModel`):
            The encoder; its parameters stop requiring gradients.
        number (`int`):
            How many layers to freeze, counted from the embeddings.

    Raises:
        ValueError: If the encoder doesn't have more layers than that, or they can't be told.
    """

    def __init__(self, encoder: PreTrainedModel, number: int) -> None:
        self.encoder = encoder
        self.number = number
        self.layers = _find_layers(encoder)
        if not 0 < number < len(self.layers):
            raise ValueError(
                f"freeze_layers={number}, but {type(encoder).__name__} has {len(self.layers)} layers, of which at "
                f"least the last is trained: pass at most {len(self.layers) - 1}."
            )
        upper = {id(module) for layer in self.layers[number:] for module in layer.modules()}
        self._modules = [
            module
            for module in encoder.modules()
            if id(module) not in upper and not any(id(child) in upper for child in module.modules())
        ]
        trained = {id(parameter) for layer in self.layers[number:] for parameter in layer.parameters()}
        self._parameters = [p for p in encoder.parameters() if id(p) not in trained]
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        self._store: StateStore | None = None
        self._folder: Path | None = None
        self._process = 0
        self._stores: dict[str, StateStore] = {}
        self._states: Tensor | None = None
        self.passing: list[bool] | None = None
        """Documents of the next batch that come only once, so that nothing of theirs is stored; `None` for none."""
        self._capturing = False
        self._captured: Tensor | None = None
        self._in_tuple: int | None = None
        self._handles: list[Any] = []

    def eval(self) -> None:
        """Turns dropout off in the frozen part; `model.train()` turns it on again."""
        for module in self._modules:
            module.training = False

    def open_cache(self, folder: str | Path, *, process: int = 0) -> None:
        """
        Starts to hand out stored states, and to store those that are missing.

        Args:
            folder (`str` or `Path`):
                Where they are kept, in a folder of their own for each set of frozen weights and each precision.
            process (`int`, *optional*, defaults to `0`):
                The number of this process: each writes files of its own.
        """
        # Trainer starts over with smaller batches where memory does not suffice; a second wrapper would stay for ever.
        self.close_cache()
        self._folder, self._process, self._stores = Path(folder), process, {}
        self._weights = _fingerprint(self._parameters)
        for position, layer in enumerate(self.layers):
            layer.forward = self._wrap(layer.forward, position)  # type: ignore[method-assign]
        self._handles = [
            self.encoder.register_forward_pre_hook(self._before, with_kwargs=True),
            self.encoder.register_forward_hook(self._after, always_call=True),
        ]

    def close_cache(self) -> None:
        """Gives the encoder back as it was; what is stored stays."""
        for handle in self._handles:
            handle.remove()
        if self._folder is not None:
            for layer in self.layers:
                # The wrapper is an attribute of the instance, in front of the method of its class.
                del layer.forward
        for store in self._stores.values():
            store.close()
        self._handles, self._folder, self._stores, self._states = [], None, {}, None

    def _wrap(self, forward: Callable[..., Any], position: int) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self._capturing and position >= self.number:
                return self._like_layer(args[0] if args else kwargs["hidden_states"])
            if not self._capturing and self._states is not None and position < self.number:
                return self._like_layer(self._states)
            output = forward(*args, **kwargs)
            if self._capturing:
                self._in_tuple = len(output) if isinstance(output, tuple) else None
                self._captured = output[0] if isinstance(output, tuple) else output
            return output

        return wrapped

    def _like_layer(self, states: Tensor) -> Any:
        return states if self._in_tuple is None else (states, *[None] * (self._in_tuple - 1))

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._capturing:
            return
        input_ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        mask = kwargs.get("attention_mask")
        mask = torch.ones_like(input_ids) if mask is None else mask
        ids, lengths = input_ids.cpu(), mask.sum(1).tolist()
        store = self._open_store(input_ids.device)
        rows = []
        # Which windows are whose is not known here: of a long text among them, nothing is stored this time.
        passing = self.passing or [False] * len(ids)
        passing = passing if len(passing) == len(ids) else [True] * len(ids)
        for window, length, once in zip(ids, lengths, passing, strict=True):
            key = hashlib.blake2b(window[:length].numpy().astype("<i8").tobytes(), digest_size=16).hexdigest()
            states = store.read(key)
            # Whether the layers return tuples is only known once they have run.
            if states is None or self._captured is None:
                states = self._compute(window[:length].to(input_ids.device)).cpu()
                if not once:
                    store.write(key, states)
            rows.append(states)
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        padded = nn.functional.pad(padded, (0, 0, 0, input_ids.shape[1] - padded.shape[1]))
        self._states = padded.to(input_ids.device)

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self._capturing:
            self._states = None

    def _compute(self, ids: Tensor) -> Tensor:
        was_training = [module.training for module in self._modules]
        self._capturing = True
        try:
            self.eval()
            with torch.no_grad():
                self.encoder(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None])
        finally:
            self._capturing = False
            for module, training in zip(self._modules, was_training, strict=True):
                module.training = training
        if self._captured is None:
            raise RuntimeError(f"The layers of {type(self.encoder).__name__} did not run; leave frozen_cache_dir out.")
        return self._captured[0].detach()

    def _open_store(self, device: torch.device) -> StateStore:
        autocast = torch.is_autocast_enabled(device.type)
        precision = str(torch.get_autocast_dtype(device.type) if autocast else self._parameters[0].dtype)
        if precision not in self._stores:
            if self._folder is None:
                raise RuntimeError("The cache of frozen layers is closed.")
            config = self.encoder.config
            versions = [FORMAT, str(torch.__version__), transformers.__version__]
            settings = json.dumps(
                [*versions, self.number, precision, device.type, config._attn_implementation, config.to_diff_dict()],
                sort_keys=True,
                default=str,
            )
            name = hashlib.sha256((settings + self._weights).encode()).hexdigest()[:24]
            self._stores[precision] = StateStore(self._folder / name, process=self._process)
        return self._stores[precision]


class StateStore:
    """
    Tensors by key in append-only files, read through memory mapping.

    Each store reads what others had written when it was opened, and writes to a file of its own, made with the first
    tensor: several runs may share a folder. A line of the index is written after the data that it points to, so that a
    killed process leaves at worst bytes that nobody refers to.

    Args:
        folder (`Path`):
            Where the files are; made if missing.
        process (`int`, *optional*, defaults to `0`):
            The number of this process, part of its files' names.
    """

    def __init__(self, folder: Path, *, process: int = 0) -> None:
        self._places: dict[str, tuple[Path, int, list[int], str]] = {}
        self._maps: dict[Path, np.memmap] = {}
        for index in sorted(folder.glob("*.jsonl")):
            self._read_index(index)
        self._data_path = folder / f"states-{process}-{uuid.uuid4().hex}.bin"
        self._data: BinaryIO | None = None
        self._index: TextIO | None = None

    def _read_index(self, index: Path) -> None:
        data = index.with_suffix(".bin")
        size = data.stat().st_size if data.exists() else 0
        for line in index.read_text(encoding="utf-8").splitlines():
            try:
                key, offset, shape, dtype = json.loads(line)
            except ValueError:
                continue
            if offset + _num_bytes(shape, dtype) <= size:
                self._places[key] = (data, offset, shape, dtype)

    def read(self, key: str) -> Tensor | None:
        """
        Args:
            key (`str`): The key under which a tensor was written.

        Returns:
            `torch.Tensor` or `None`: A copy of it, or `None` if there is none.
        """
        place = self._places.get(key)
        if place is None:
            return None
        path, offset, shape, dtype = place
        end = offset + _num_bytes(shape, dtype)
        mapped = self._maps.get(path)
        if mapped is None or len(mapped) < end:
            mapped = self._maps[path] = np.memmap(path, dtype=np.uint8, mode="r")
        return torch.from_numpy(np.array(mapped[offset:end])).view(getattr(torch, dtype)).reshape(shape)

    def write(self, key: str, tensor: Tensor) -> None:
        """
        Args:
            key (`str`): The key to read it by.
            tensor (`torch.Tensor`): What to keep; nothing happens if the key is taken.
        """
        if key in self._places:
            return
        if self._data is None or self._index is None:
            self._data_path.parent.mkdir(parents=True, exist_ok=True)
            self._data = self._data_path.open("xb")
            self._index = self._data_path.with_suffix(".jsonl").open("x", encoding="utf-8")
        tensor = tensor.contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        offset = self._data.tell()
        self._data.write(tensor.view(torch.uint8).numpy().tobytes())
        self._data.flush()
        self._index.write(json.dumps([key, offset, list(tensor.shape), dtype]) + "\n")
        self._index.flush()
        self._places[key] = (self._data_path, offset, list(tensor.shape), dtype)

    def close(self) -> None:
        """Closes the files."""
        for file in (self._data, self._index):
            if file is not None:
                file.close()
        self._maps = {}


def _num_bytes(shape: list[int], dtype: str) -> int:
    return int(np.prod(shape, dtype=np.int64)) * getattr(torch, dtype).itemsize


def _find_layers(encoder: PreTrainedModel) -> nn.ModuleList:
    depth = encoder.config.get_text_config().num_hidden_layers
    for module in encoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ValueError(
        f"{type(encoder).__name__} keeps its {depth} layers in a way that isn't known here (layers that share their "
        "weights, for example); leave freeze_layers out."
    )


def _fingerprint(parameters: list[nn.Parameter]) -> str:
    digest = hashlib.sha256()
    for parameter in parameters:
        data = parameter.detach().cpu().contiguous()
        digest.update(f"{data.dtype}{tuple(data.shape)}".encode())
        digest.update(data.view(torch.uint8).numpy().tobytes() if data.dim() else data.reshape(1).numpy().tobytes())
    return digest.hexdigest()


__all__ = ["FrozenLayers", "StateStore"]
