"""Every setting that sentence-transformers writes is honoured, has no effect, or is refused by a sentence that names it."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.module import Module
from sentence_transformers.sentence_transformer import modules as st

from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.models.settings import CONFIG, MODULE_LIST, MODULES, TABLE, check_cross_encoder, read_settings

from .checkpoints import TEXTS, bert, change, load, saved_with
from .test_reranker import make_model

SBERT, TOKENIZER, POOLING, DENSE = "sentence_bert_config.json", "tokenizer_config.json", "1_Pooling/config.json", "2_Dense/config.json"
PAGE = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with every kind of module that is taken; a test may spoil it."""
    tail = [st.Dense(16, 8), st.LayerNorm(8), st.Dropout(0.1), st.Normalize()]
    return saved_with(bert(tmp_path / "bert"), *tail, prompts={"query": "red "})


def kinds_of_modules() -> Iterator[type[Module]]:
    """Every module class that the installed sentence-transformers has."""
    for found in pkgutil.walk_packages(sentence_transformers.__path__, "sentence_transformers."):
        if ".modules" in found.name:
            importlib.import_module(found.name)
    waiting = [Module]
    while waiting:
        waiting += (more := waiting.pop().__subclasses__())
        yield from (kind for kind in more if kind.__module__.startswith("sentence_transformers."))


def test_every_key_that_its_modules_write_is_in_the_table() -> None:
    """A later version with one more fails here, before it is passed over."""
    kinds = {kind.__name__: kind for kind in kinds_of_modules()}
    assert set(MODULES) < set(kinds)
    for name in MODULES:
        assert set(kinds[name].config_keys) | set(kinds[name].config_key_renames) <= set(TABLE[name]), name
    assert set(kinds["Transformer"].config_keys) <= set(TABLE["Transformer of a cross-encoder"])


def test_every_key_that_a_saved_model_has_is_in_the_table(folder: Path, tmp_path: Path) -> None:
    """Those that no list of keys names: the files of the model as a whole."""
    model = SentenceTransformer(str(folder), device="cpu", truncate_dim=4, similarity_fn_name="euclidean")
    model.save(str(tmp_path / "again"), create_model_card=False)
    assert {"truncate_dim", "similarity_fn_name"} <= set(read_json(tmp_path / "again" / CONFIG)) <= set(TABLE[CONFIG])
    for module in read_json(tmp_path / "again" / MODULE_LIST):
        assert set(module) <= set(TABLE[MODULE_LIST])
    crossed = sentence_transformers.CrossEncoder(str(make_model(tmp_path / "ce", "bert")), device="cpu")
    crossed.keep_in_fp32_modules = ["0.model.classifier"]
    crossed.save(str(tmp_path / "crossed"), create_model_card=False)
    assert set(read_json(tmp_path / "crossed" / CONFIG)) <= set(TABLE[f"{CONFIG} of a cross-encoder"])
    check_cross_encoder("ce", tmp_path / "crossed")


def test_the_page_has_the_table() -> None:
    """docs/models.md shows every file, setting, value and fate as they are here."""
    text = PAGE.read_text(encoding="utf-8")
    for file, settings in TABLE.items():
        assert f"### {file}\n" in text
        rows = text.split(f"### {file}\n")[1].split("\n#")[0]
        shown = [line for line in rows.splitlines() if line.startswith("| `")]
        assert shown == [f"| `{key}` | {setting.values} | {setting.does} |" for key, setting in settings.items()], file


def test_every_other_module_of_the_library_is_refused_by_its_name(folder: Path) -> None:
    """Router, static embeddings, late interaction: through the default route, or as nothing at all, they would give some ranking."""
    modules = read_json(folder / MODULE_LIST)
    others = {kind for kind in kinds_of_modules() if kind.__name__ not in MODULES}
    assert {"Router", "StaticEmbedding", "WeightedLayerPooling", "CNN", "LSTM", "BoW", "WordEmbeddings"} <= {
        kind.__name__ for kind in others
    }
    for kind in others:
        for place in (0, 2):
            changed = [{**one, "type": f"{kind.__module__}.{kind.__name__}"} if n == place else one for n, one in enumerate(modules)]
            write_json(folder / MODULE_LIST, changed)
            with pytest.raises(UserError, match=rf"modules\.json, found sentence_transformers\S*\.{kind.__name__}\b"):
                read_settings("m", folder)


def setting(file: str, **settings: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / file, **settings)


def module(place: int, **settings: Any) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        modules = read_json(folder / MODULE_LIST)
        modules[place].update(settings)
        write_json(folder / MODULE_LIST, modules)

    return do


def content(file: str, text: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes(text) and None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            setting(CONFIG, similarity_fn_name="euclidean"),
            r'similarity_fn_name in \S+config_sentence_transformers.json .* found "euclidean"',
        ),
        (setting(CONFIG, similarity_fn_name="manhattan"), 'similarity_fn_name .* found "manhattan"'),
        (setting(CONFIG, similarity_fn_name="Cosine"), 'similarity_fn_name .* found "Cosine"'),
        (setting(CONFIG, truncate_dim=4), "truncate_dim .* found 4"),
        (setting(CONFIG, model_type="SparseEncoder"), 'model_type .* found "SparseEncoder"'),
        (setting(CONFIG, new_in_7=1), "a setting 'new_in_7' that is not known"),
        (setting(CONFIG, prompts=["query: "]), "prompts .* a text a name"),
        (setting(SBERT, new_in_7=1), r"sentence_bert_config.json has a setting 'new_in_7'"),
        (setting(SBERT, query_lenght=9), "did you mean 'query_length'"),
        (setting(SBERT, query_length="16"), 'query_length .* a whole number of at least 4, or null, found "16"'),
        (setting(SBERT, query_expansion={"strategy": "fixed", "length": 32}), "query_expansion .* late interaction"),
        (setting(SBERT, processing_kwargs={"text": {"max_length": 5}}), "processing_kwargs"),
        (setting(SBERT, transformer_task="fill-mask"), "transformer_task"),
        (setting(SBERT, modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}}), "modality_config"),
        (setting(SBERT, tokenizer_args={"padding_side": "left"}), "tokenizer_args"),
        (setting(SBERT, config_args={"num_hidden_layers": 2}), "config_args"),
        (setting(TOKENIZER, truncation_side="left"), 'truncation_side in \\S+tokenizer_config.json .* found "left"'),
        (setting(POOLING, new_in_7=1), r"1_Pooling/config.json has a setting 'new_in_7'"),
        (setting(POOLING, pooling_mode="median"), 'pooling_mode .* found "median"'),
        (setting(POOLING, include_prompt="no"), 'include_prompt .* true or false, found "no"'),
        (setting(DENSE, activation_function="mine.Act"), 'activation_function .* found "mine.Act"'),
        (setting(DENSE, activation_function="torch.nn.modules.activation.Threshold"), "holds no model .* missing 2 required"),
        (setting(DENSE, module_input_name="token_embeddings"), "module_input_name .* found .token_embeddings"),
        (setting("5_Normalize/config.json", module_output_name="x"), "module_output_name"),
        (module(0, kwargs=["task"]), r'kwargs in \S+modules.json .* found \["task"\]'),
        (module(2, type="mine.Thing"), r"found mine.Thing \(code of its own\)"),
        (module(2, name="1"), "another name for each module"),
        (module(1, path="9_Nowhere"), "settings of Pooling, found none"),
        (module(1, type="sentence_transformers.models.Normalize"), "a Transformer, a Pooling and after them"),
        (content("adapter_config.json", b"{}"), r"found an adapter \(adapter_config.json\)"),
        (lambda folder: (folder / MODULE_LIST).unlink(), r"expected modules.json beside config_sentence_transformers.json"),
        (setting("config.json", model_type="zzz", auto_map={"AutoModel": "mine.Model"}), "holds no model"),
        (setting(TOKENIZER, tokenizer_class="ByT5Tokenizer"), "a tokenizer of the tokenizers library .* found ByT5Tokenizer"),
        *((content(name, b'{"a'), f"{name} cannot be read as JSON") for name in (CONFIG, MODULE_LIST, SBERT, TOKENIZER, POOLING, DENSE)),
        *((content(name, b"\xff\xfe"), f"{name} cannot be read as JSON") for name in (CONFIG, MODULE_LIST)),
        (content(CONFIG, b"[" * 100_000), "cannot be read as JSON"),
        *((content(name, b"null"), f"expected an object in .*{name}, found null") for name in (CONFIG, SBERT, POOLING)),
        (content(MODULE_LIST, b"{}"), "expected a list of modules"),
        *((content(name, b"{"), "holds no model") for name in ("config.json", "tokenizer.json", "model.safetensors")),
    ],
)
def test_what_is_not_supported_is_one_sentence_that_names_it(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        load(folder)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spoil",
    [
        setting(CONFIG, requirements={"transformers": ">=99"}),
        setting("config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
    ],
)
def test_packages_that_a_model_needs_are_the_environments(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder)
    with pytest.raises(EnvironmentLack, match="needs what is not installed"):
        load(folder)


@pytest.mark.parametrize(
    "harmless",
    [
        lambda folder: None,
        module(0, idx=7),
        module(1, type="sentence_transformers.models.Pooling"),
        setting(CONFIG, default_prompt_name="s2p", prompts={"s2p": "blue "}),
        setting(SBERT, max_seq_length=7),
        setting(SBERT, query_length=6, document_length=10),
        setting(SBERT, unpad_inputs=False),
        setting(SBERT, model_args={"trust_remote_code": True}),
        setting(DENSE, activation_function="torch.nn.modules.activation.ReLU"),
        setting(POOLING, pooling_mode="max"),
        lambda folder: write_json(
            folder / POOLING, {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
        ),
        lambda folder: (folder / "5_Normalize/config.json").unlink(),
        setting("4_Dropout/config.json", dropout=0.9),
        setting(TOKENIZER, model_max_length=9),
    ],
)
def test_what_is_honoured_gives_the_librarys_vectors(folder: Path, harmless: Callable[[Path], None], tmp_path: Path) -> None:
    """And what is saved of it gives them again."""
    harmless(folder)
    ours, theirs = load(folder), SentenceTransformer(str(folder), device="cpu")
    ours.save(tmp_path / "student")
    for model in (theirs, SentenceTransformer(str(tmp_path / "student"), device="cpu")):
        np.testing.assert_allclose(ours.encode_queries(TEXTS), model.encode_query(TEXTS), atol=1e-5)
        np.testing.assert_allclose(passages(ours), model.encode_document(TEXTS), atol=1e-5)


def passages(encoder: Any) -> np.ndarray:
    tokens = encoder.tokens(TEXTS, encoder.reading.passage_prefix)
    return encoder.encode(tokens, np.arange(len(TEXTS)), longest=encoder.reading.passage_length, token_budget=300)


def test_lower_case_is_kept_in_the_student(tmp_path: Path) -> None:
    """transformers makes a BERT tokenizer anew when it is loaded, without what was put before it."""
    folder = saved_with(bert(tmp_path / "bert"))
    change(folder / TOKENIZER, do_lower_case=False)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"]["lowercase"] = False
    write_json(folder / "tokenizer.json", tokenizer)
    cased = load(folder).encode_queries(["RED FOX"])
    change(folder / SBERT, do_lower_case=True)
    found = load(folder)
    assert np.abs(found.encode_queries(["RED FOX"]) - cased).max() > 1e-2
    found.save(tmp_path / "student")
    np.testing.assert_allclose(load(tmp_path / "student").encode_queries(["RED FOX"]), found.encode_queries(["red fox"]), atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (setting(CONFIG, activation_fn="torch.nn.modules.activation.Tanh"), "activation_fn .* Identity or Sigmoid"),
        (setting(CONFIG, prompts={"web": "x "}, default_prompt_name="web"), 'default_prompt_name .* found "web"'),
        (setting(CONFIG, new_in_7=1), "'new_in_7'"),
        (setting("config.json", sentence_transformers={"activation_fn": "torch.nn.modules.activation.ReLU"}), "sentence_transformers in"),
        (setting("config.json", sbert_ce_default_activation_function="mine.Act"), "sbert_ce_default_activation_function in"),
        (setting(SBERT, max_seq_length=9), "max_seq_length"),
        (setting(SBERT, transformer_task="text-generation"), "transformer_task"),
        (setting(TOKENIZER, truncation_side="left"), "truncation_side"),
        (module(0, kwargs=["task"]), "kwargs"),
        (module(0, type="sentence_transformers.base.modules.dense.Dense"), "a Transformer alone"),
        (content("adapter_config.json", b"{}"), "adapter"),
        *((content(name, b"{"), f"{name} cannot be read") for name in (CONFIG, SBERT, MODULE_LIST, "config.json")),
    ],
)
def test_a_cross_encoder_is_held_to_the_same_rule(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    sentence_transformers.CrossEncoder(str(make_model(tmp_path / "ce", "bert")), device="cpu").save(str(tmp_path / "saved"))
    check_cross_encoder("ce", tmp_path / "saved")
    spoil(tmp_path / "saved")
    with pytest.raises(UserError, match=message):
        check_cross_encoder("ce", tmp_path / "saved")
