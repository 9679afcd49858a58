"""Marker tokens, which stand before and behind each mention, and tokenizers that know them."""

from __future__ import annotations

import os
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import TOKENIZER_CONFIG_FILE

from .configuration_docre import DocREConfig
from .remote_code import looking_up


def marker_of(entity_type: str | None, config: DocREConfig, *, closing: bool) -> str:
    """Return the marker of a mention.

    Args:
        entity_type (`str`, *optional*): The mention's type; all that the config doesn't know have one marker.
        config ([`DocREConfig`]): The model's configuration: the marker style, the entity types.
        closing (`bool`): Whether it is the marker behind the mention.
    """
    slash = "/" if closing else ""
    types = config.entity_types
    if config.marker_style == "asterisk":
        return "*"
    if config.marker_style == "tags":
        return f"<{slash}e>"
    if config.marker_style == "unused":
        # Unknown types take the tokens behind those of the known ones.
        place = types.index(entity_type) if entity_type in types else len(types)
        return f"[unused{2 * place + 1 + 50 * closing}]"
    return f"<{slash}e:{entity_type if entity_type in types else ''}>"


def marker_tokens(config: DocREConfig) -> list[str]:
    """Return every marker token that a config's marker style can put into a document.

    The order is that of the ids in a vocabulary that lacks them: models that were trained rely on it.
    """
    types = config.entity_types
    kinds = [*types, None] if config.marker_style == "unused" else [None, *types]
    return list(dict.fromkeys(marker_of(kind, config, closing=closing) for kind in kinds for closing in (False, True)))


def missing_markers(tokenizer: PreTrainedTokenizerBase, config: DocREConfig) -> list[str]:
    """Return the marker tokens that a tokenizer doesn't know."""
    vocabulary = tokenizer.get_vocab()
    return [token for token in marker_tokens(config) if token not in vocabulary]


def load_tokenizer(
    tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase, config: DocREConfig
) -> PreTrainedTokenizerBase:
    """Load an encoder's tokenizer, or take a loaded one, and add the marker tokens that it lacks."""
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        with looking_up(tokenizer):
            tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    missing = missing_markers(tokenizer, config)
    if missing:
        tokenizer.add_tokens(missing, special_tokens=config.marker_style != "asterisk")
    return tokenizer


def load_saved_tokenizer(name: str | os.PathLike[str], config: DocREConfig, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint of this library.

    Args:
        name (`str` or `os.PathLike`): Folder or Hub id of the checkpoint.
        config ([`DocREConfig`]): Its configuration.
        kwargs: Where and how to look, as `from_pretrained` takes it: `revision`, `token` and so on.

    Raises:
        OSError: when there is none that knows the marker tokens; the message says how to add one. Or when the Hub
            could not be asked.
    """
    no_tokenizer = (
        f"{name} has no tokenizer that loads. Add the files that go with its encoder "
        "(tokenizer.json, tokenizer_config.json): "
        "DocREProcessor.from_encoder(ENCODER, config=model.config).save_pretrained(FOLDER)."
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, config=config.encoder, **kwargs)
    except (OSError, ValueError) as error:
        _ask_for_tokenizer(name, **kwargs)
        raise OSError(f"{no_tokenizer} ({error})") from error
    # For some families transformers makes up a tokenizer without any word where there is no file.
    if missing_markers(tokenizer, config):
        _ask_for_tokenizer(name, **kwargs)
        raise OSError(f"{no_tokenizer} (The one that was found does not know the marker tokens.)")
    return tokenizer


def _ask_for_tokenizer(name: str | os.PathLike[str], **kwargs: Any) -> None:
    """Raise what kept a tokenizer's file from being read, where that isn't that there is none."""
    if not os.path.isdir(name):
        try:
            hf_hub_download(str(name), TOKENIZER_CONFIG_FILE, **kwargs)
        except LocalEntryNotFoundError:  # the Hub could not be asked
            raise
        except EntryNotFoundError:
            return


__all__ = ["load_saved_tokenizer", "load_tokenizer", "marker_of", "marker_tokens", "missing_markers"]
