"""What a model's folder says beside its weights: each setting is honoured, has no effect, or the model is refused.

TABLE holds every setting that sentence-transformers writes, MODULES every kind of module that is taken, and docs/models.md shows
both. A key that is in neither is refused: it may decide a vector. Reads JSON files; knows no networks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mta4dpr.errors import UserError, nearest

CONFIG, MODULE_LIST, TOKENIZER = "config_sentence_transformers.json", "modules.json", "tokenizer_config.json"
TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json" for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
COSINE, DOT = "cosine", "dot"
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
EMBEDDING = "sentence_embedding"


@dataclass(frozen=True)
class Setting:
    """A key of a file: what becomes of it, and which values are taken (by default any)."""

    does: str
    values: str = "any"
    takes: Callable[[Any], bool] = lambda _: True


def _one_of(does: str, *values: Any) -> Setting:
    return Setting(does, " or ".join(json.dumps(value) for value in values), lambda found: found in values)


def _empty(does: str) -> Setting:
    return Setting(does, "none", lambda found: not found)


def _length(does: str) -> Setting:
    return Setting(does, "a whole number of at least 4, or null", lambda found: found is None or (_is_whole(found) and found >= 4))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(does: str) -> Setting:
    return Setting(does, "a number", lambda found: isinstance(found, int | float) and not isinstance(found, bool))


def _flag(does: str) -> Setting:
    return Setting(does, "true or false", lambda found: isinstance(found, bool))


def _are_prompts(found: Any) -> bool:
    return found is None or (isinstance(found, dict) and all(isinstance(text, str | None) for text in found.values()))


def _only(*keys: str) -> Callable[[Any], bool]:
    return lambda found: not found or (isinstance(found, dict) and set(found) <= set(keys))


def _are_poolings(found: Any) -> bool:
    modes = [found] if isinstance(found, str) else found
    return isinstance(modes, list) and bool(modes) and all(mode in POOLINGS for mode in modes)


def _keeps_order(activation: Any) -> bool:
    return activation is None or (isinstance(activation, str) and activation.startswith("torch.nn.") and activation.endswith(INCREASING))


INCREASING = (".Identity", ".Sigmoid")
ORDERLY = "torch's Identity or Sigmoid, or null"
TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
CLASSIFIER_TEXT = {"text": {"method": "forward", "method_output_name": "logits"}}
TRUSTED = "a class of torch.nn"
KEPT_OUT = "trust_remote_code"  # sentence-transformers removes it from a file before it looks

_ANY_MODEL = {
    "__version__": Setting("no effect: the versions that wrote the folder"),
    "requirements": Setting("checked by sentence-transformers: packages that the model needs"),
    "default_prompt_name": Setting("no effect: sentence-transformers' encode_query and encode_document do not use it"),
}
_TRANSFORMER = {
    "processing_kwargs": _empty("refused: arguments of each call of the tokenizer"),
    "unpad_inputs": Setting("no effect: padding is masked"),
    "query_expansion": _empty("refused: it belongs to late interaction"),
    "max_seq_length": _length("honoured: tokens of a text, where no other length is said"),
    "do_lower_case": _flag("honoured: texts are lower-cased before the tokenizer"),
    "tokenizer_name_or_path": _empty("refused: a tokenizer from elsewhere"),
    "cache_dir": Setting("no effect: the model's files are here"),
    **{
        key: Setting(
            "honoured; all is computed in float32",
            "dtype, torch_dtype, attn_implementation",
            _only("dtype", "torch_dtype", "attn_implementation", KEPT_OUT),
        )
        for key in ("model_args", "model_kwargs")
    },
    **{
        key: Setting("honoured", "model_max_length, use_fast", _only("model_max_length", "use_fast", KEPT_OUT))
        for key in ("tokenizer_args", "processor_kwargs")
    },
    **{key: Setting("refused: changes of config.json", "none", _only(KEPT_OUT)) for key in ("config_args", "config_kwargs")},
}
_NORMALIZE_OR_DENSE = {"module_input_name": _one_of("honoured", EMBEDDING), "module_output_name": _one_of("honoured", EMBEDDING, None)}

TABLE: Mapping[str, Mapping[str, Setting]] = {
    CONFIG: {
        "model_type": _one_of("honoured", "SentenceTransformer"),
        "similarity_fn_name": _one_of(
            "honoured: cosine puts a Normalize at the end of the network; without a name the registry's word counts, else cosine",
            COSINE,
            DOT,
            None,
        ),
        "prompts": Setting("honoured: query and document, as encode_query and encode_document use them", "a text a name", _are_prompts),
        "truncate_dim": _empty("refused: vectors cut after the last module"),
        **_ANY_MODEL,
    },
    MODULE_LIST: {
        "idx": Setting("no effect: the order of the list counts"),
        "name": Setting("no effect", "a text, another for each module", lambda found: isinstance(found, str)),
        "path": Setting("honoured: the module's folder", "a text", lambda found: isinstance(found, str)),
        "type": Setting("honoured: one of the modules below", "a text", lambda found: isinstance(found, str)),
        "kwargs": _empty("refused: features of each call, such as a task"),
    },
    "Transformer": {
        "transformer_task": _one_of("honoured", "feature-extraction"),
        "modality_config": _one_of("honoured", TEXT),
        "module_output_name": _one_of("honoured", "token_embeddings"),
        "query_length": _length("honoured: tokens of a query, special ones included"),
        "document_length": _length("honoured: tokens of a passage, special ones included"),
        **_TRANSFORMER,
    },
    "Pooling": {
        **{key: _number("honoured: the width of a token's vector") for key in ("embedding_dimension", "word_embedding_dimension")},
        "pooling_mode": Setting("honoured: one, or several joined", ", ".join(POOLINGS), _are_poolings),
        "include_prompt": _flag("honoured: false leaves the prompt's tokens out of pooling"),
        **{
            f"pooling_mode_{name}": _flag("honoured: what older versions wrote for pooling_mode")
            for name in ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
        },
    },
    "Dense": {
        **{key: _number("honoured") for key in ("in_features", "out_features")},
        "bias": _flag("honoured"),
        "activation_function": Setting("honoured", TRUSTED, lambda found: isinstance(found, str) and found.startswith("torch.nn.")),
        "use_residual": _flag("honoured"),
        **_NORMALIZE_OR_DENSE,
    },
    "Normalize": _NORMALIZE_OR_DENSE,
    "LayerNorm": {"dimension": _number("honoured")},
    "Dropout": {"dropout": _number("no effect on a vector; in training distill.dropout counts")},
    TOKENIZER: {
        "truncation_side": _one_of("honoured", "right", None),
        "padding_side": Setting("no effect where vectors do not depend on padding, which is tried when the model is loaded, else refused"),
        "model_max_length": Setting("honoured: tokens of a text, where no other length is said"),
    },
    f"{CONFIG} of a cross-encoder": {
        "model_type": _one_of("honoured", "CrossEncoder"),
        "activation_fn": Setting("no effect: scores are logits, whose order these keep", ORDERLY, _keeps_order),
        "prompts": Setting("no effect without default_prompt_name", "a text a name", _are_prompts),
        "keep_in_fp32_modules": Setting("no effect: all is computed in float32"),
        **_ANY_MODEL,
        "default_prompt_name": _empty("refused: a prompt before each pair"),
        "requirements": _empty("refused: packages that the model needs"),
    },
    "config.json of a cross-encoder": {
        "sentence_transformers": Setting(
            "no effect: activation_fn, and the version that wrote it",
            f"no other keys, activation_fn {ORDERLY}",
            lambda found: _only("activation_fn", "version")(found) and (not found or _keeps_order(found.get("activation_fn"))),
        ),
        "sbert_ce_default_activation_function": Setting("no effect, as activation_fn", ORDERLY, _keeps_order),
    },
    "Transformer of a cross-encoder": {
        "transformer_task": _one_of("honoured", "sequence-classification"),
        "modality_config": _one_of("honoured", CLASSIFIER_TEXT),
        "module_output_name": _one_of("honoured", "scores"),
        **{key: _empty("refused: pairs have one length") for key in ("query_length", "document_length")},
        **_TRANSFORMER,
        "max_seq_length": _empty("refused: model_max_length in tokenizer_config.json is the place"),
        "do_lower_case": _one_of("honoured", False),
        **{key: Setting("refused", "none", _only(KEPT_OUT)) for key in ("tokenizer_args", "processor_kwargs")},
    },
}

MODULES: Mapping[str, str] = {
    "Transformer": "first",
    "Pooling": "second",
    "Dense": "after pooling",
    "LayerNorm": "after pooling",
    "Dropout": "after pooling",
    "Normalize": "after pooling",
}
CONFIG_OF = {"Pooling": True, "Dense": True, "LayerNorm": True, "Dropout": False, "Normalize": False}  # whether config.json must be there


@dataclass(frozen=True)
class Settings:
    """What the files of a sentence-transformers folder say of how texts become vectors, and vectors scores."""

    similarity: str | None  # cosine or dot; None: not said
    prompts: Mapping[str, str]  # those that are not empty
    query_length: int | None
    document_length: int | None
    normalized: bool  # whether vectors leave the last module with length 1
    include_prompt: bool

    @property
    def query_prefix(self) -> str:
        """What sentence-transformers' encode_query puts before a query."""
        return self.prompts.get("query", "")

    @property
    def passage_prefix(self) -> str:
        """What its encode_document puts before a passage: a prompt that is called passage is none of that."""
        return self.prompts.get("document", "")


def read_settings(label: str, folder: Path) -> Settings | None:
    """Checks every setting of a bi-encoder's folder. None for one without sentence-transformers' files; UserError for what is refused."""
    _refuse_adapters(label, folder)
    if not (folder / MODULE_LIST).exists():
        others = [name for name in (CONFIG, *TRANSFORMER_CONFIGS) if (folder / name).exists()]
        if others:
            raise UserError(
                f"model {label!r}: expected {MODULE_LIST} beside {others[0]} in {folder}, found none; copy all files of the model, or "
                f"remove {', '.join(others)}"
            )
        _check(label, folder / TOKENIZER, TABLE[TOKENIZER], others_are_well=True)
        return None
    said = _check(label, folder / CONFIG, TABLE[CONFIG])
    modules = _modules(label, folder)
    kinds = [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & set(kinds[2:]):
        raise UserError(
            f"model {label!r}: expected a Transformer, a Pooling and after them any of Dense, LayerNorm, Dropout and Normalize in "
            f"{folder / MODULE_LIST}, found {', '.join(kinds)}; choose another model"
        )
    configs = [_module_config(label, folder, kind, place) for kind, place in modules]
    return Settings(
        similarity=said.get("similarity_fn_name"),
        prompts={name: text for name, text in (said.get("prompts") or {}).items() if text},
        query_length=configs[0].get("query_length"),
        document_length=configs[0].get("document_length"),
        normalized=[kind for kind in kinds if kind != "Dropout"][-1] == "Normalize",
        include_prompt=configs[1].get("include_prompt", True),
    )


def check_cross_encoder(label: str, folder: Path) -> None:
    """Checks every setting of a cross-encoder's folder. UserError for what is refused."""
    _refuse_adapters(label, folder)
    _check(label, folder / CONFIG, TABLE[f"{CONFIG} of a cross-encoder"])
    if (folder / MODULE_LIST).exists():
        modules = _modules(label, folder)
        if modules != [("Transformer", "")]:
            kinds = ", ".join(kind for kind, _ in modules)
            raise UserError(
                f"model {label!r}: expected a Transformer alone, at the top of the folder, in {folder / MODULE_LIST}, found {kinds}; "
                "choose another cross-encoder"
            )
    for name in TRANSFORMER_CONFIGS:
        _check(label, folder / name, TABLE["Transformer of a cross-encoder"])
    _check(label, folder / TOKENIZER, TABLE[TOKENIZER], others_are_well=True)
    config = read_object(label, folder / "config.json")
    for key, setting in TABLE["config.json of a cross-encoder"].items():
        _check_value(label, folder / "config.json", key, config.get(key), setting)


def read_object(label: str, path: Path) -> dict[str, Any]:
    """The JSON object of a model's file; empty where there is no file. UserError for anything else."""
    found = _read(label, path)
    if not isinstance(found, dict):
        raise UserError(f"model {label!r}: expected an object in {path}, found {_shown(found)}; fetch the file again")
    return found


def _read(label: str, path: Path) -> Any:
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"model {label!r}: {path} cannot be read as JSON ({error}); fetch the file again") from error


def _check(label: str, path: Path, table: Mapping[str, Setting], *, others_are_well: bool = False) -> dict[str, Any]:
    """The object of that file, of which every key is in the table with a value that is taken."""
    found = read_object(label, path)
    for key, value in found.items():
        if key in table:
            _check_value(label, path, key, value, table[key])
        elif not others_are_well:
            raise UserError(
                f"model {label!r}: {path} has a setting {key!r} that is not known{nearest(key, list(table))}, so it may decide a vector; "
                "remove it if it does not, else choose another model"
            )
    return found


def _check_value(label: str, path: Path, key: str, value: Any, setting: Setting) -> None:
    if not setting.takes(value):
        does = setting.does.removeprefix("refused: ")
        why = f" ({does})" if does != setting.does else ""
        raise UserError(
            f"model {label!r}: expected {key} in {path} to be {setting.values}, found {_shown(value)}{why}; other values are not "
            "supported: choose another model"
        )


def _modules(label: str, folder: Path) -> list[tuple[str, str]]:
    """(kind, folder's name) of each module."""
    path, found = folder / MODULE_LIST, _read(label, folder / MODULE_LIST)
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) and {"type", "path", "name"} <= set(one) for one in found):
        raise UserError(f"model {label!r}: expected a list of modules with name, path and type in {path}, found {_shown(found)}")
    modules = []
    for one in found:
        for key, value in one.items():
            if key not in TABLE[MODULE_LIST]:
                raise UserError(f"model {label!r}: {path} has a setting {key!r} that is not known; choose another model")
            _check_value(label, path, key, value, TABLE[MODULE_LIST][key])
        library, kind = one["type"].partition(".")[0], one["type"].rpartition(".")[2]
        if library != "sentence_transformers" or kind not in MODULES:
            why = " (queries and passages go through different networks)" if kind in ("Router", "Asym") else ""
            why = why or ("" if library == "sentence_transformers" else " (code of its own)")
            raise UserError(
                f"model {label!r}: expected modules of sentence-transformers among {', '.join(MODULES)} in {path}, "
                f"found {one['type']}{why}; choose another model"
            )
        modules.append((kind, one["path"]))
    names = [one["name"] for one in found]
    if len(set(names)) < len(names):
        raise UserError(f"model {label!r}: expected another name for each module in {path}, found {', '.join(names)}; name them 0, 1, 2")
    return modules


def _module_config(label: str, folder: Path, kind: str, place: str) -> dict[str, Any]:
    where = folder / place
    if kind == "Transformer":
        _refuse_adapters(label, where)
        _check(label, where / TOKENIZER, TABLE[TOKENIZER], others_are_well=True)
        # the first of them that says anything is the one that counts
        return next(filter(None, (_check(label, where / name, TABLE[kind]) for name in TRANSFORMER_CONFIGS)), {})
    if CONFIG_OF[kind] and not (where / "config.json").exists():
        raise UserError(
            f"model {label!r}: expected {where / 'config.json'}, the settings of {kind}, found none; copy all files of the model"
        )
    return _check(label, where / "config.json", TABLE[kind])


def _refuse_adapters(label: str, folder: Path) -> None:
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"model {label!r}: expected whole weights in {folder}, found an adapter (adapter_config.json); merge it into its model with "
            "peft's merge_and_unload() and save that"
        )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
