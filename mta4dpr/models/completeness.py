"""Whether a model that transformers loaded is the one that its files describe.

Where weights or a tokenizer are missing, transformers draws random numbers or makes an empty tokenizer and only prints a table; here
both are errors.
Knows transformers' models and tokenizers, no encoders and no rerankers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from mta4dpr.errors import EnvironmentLack, UserError

log = logging.getLogger(__name__)


@contextmanager
def loading(label: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Around the loading of a model: what a damaged folder raises becomes a UserError, and transformers' tables are not printed.

    Gives the keyword arguments for from_pretrained under which check_weights is the one to speak of shapes.
    """
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield {"ignore_mismatched_sizes": True}
    except UnpicklingError as error:
        raise UserError(
            f"model {label!r}: expected pytorch_model.bin in {folder} to be a file of tensors alone, found something else (objects that "
            "could run code, or a damaged file); fetch it again, or convert it to model.safetensors where you trust it"
        ) from error
    except UserError:
        raise
    except ImportError as error:
        raise EnvironmentLack(f"model {label!r} in {folder} needs what is not installed ({_reason(error)}); install it") from error
    except MemoryError as error:
        raise EnvironmentLack(f"model {label!r} in {folder} does not fit into memory; choose a smaller one") from error
    except Exception as error:  # the libraries raise anything for a file that is not as they expect
        raise UserError(f"model {label!r}: {folder} holds no model that sentence-transformers can load ({_reason(error)})") from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def check_weights(label: str, model: Any, folder: Path, *, unused: tuple[str, ...] = ()) -> None:
    """Every weight must come from the folder's files, save those whose names begin as `unused` says.

    An unused one that the files lack becomes 0 instead of random, so that two loads are equal to the byte. Only names and
    shapes are read again: no time, no memory.
    """
    import torch

    _, found = type(model).from_pretrained(folder, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True)
    if found["mismatched_keys"]:
        name, in_file, in_model = min(found["mismatched_keys"])
        raise UserError(
            f"model {label!r}: expected {name} of shape {tuple(in_model)} as config.json says, found {tuple(in_file)} in the weights "
            f"of {folder}; take both from one model"
        )
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(unused))
    if missing:
        raise UserError(
            f"model {label!r}: expected every weight of {type(model).__name__} in {folder}, found none for {len(missing)} of "
            f"{len(model.state_dict())}, such as {missing[0]}, which would be random numbers; take config.json and weights from one model"
        )
    with torch.no_grad():
        for name in found["missing_keys"]:
            model.get_parameter(name).zero_()
    if found["unexpected_keys"]:
        names = sorted({name.rsplit(".", 1)[0] for name in found["unexpected_keys"]})
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        log.info("model %s: parts of its files that %s does not have: %s%s", label, type(model).__name__, ", ".join(names[:4]), more)


def check_vocabulary(label: str, model: Any, tokenizer: Any, folder: Path) -> None:
    """The tokenizer must be a fast one that knows words, and none beyond the model's embeddings: torch would fail in mid-corpus."""
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise UserError(
            f"model {label!r}: expected a tokenizer of the tokenizers library (tokenizer.json) in {folder}, found "
            f"{type(tokenizer).__name__}; choose another model"
        )
    words = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids) - set(tokenizer.added_tokens_decoder)
    embedded = model.get_input_embeddings().num_embeddings
    if not words:
        raise UserError(
            f"model {label!r}: expected a tokenizer (tokenizer.json, or vocab.txt and the like) in {folder}, found none that knows a "
            "word; copy the model's tokenizer files there"
        )
    if max(words) >= embedded:
        raise UserError(
            f"model {label!r}: expected token ids below {embedded}, the number of its embeddings, found {max(words)} in the tokenizer "
            f"of {folder}; take both from one model"
        )
