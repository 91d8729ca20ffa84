"""What training a student takes: candidates that models mine, pairs that they score, and the steps themselves."""

from __future__ import annotations

from collections.abc import Iterator

from mta4dpr.config.benchmark import Recipe
from mta4dpr.data.sizes import CorpusSize
from mta4dpr.distill.mining import MINING_PIECE
from mta4dpr.distill.registry import strategy_named
from mta4dpr.distill.strategy import Requirement
from mta4dpr.engines.engine import Engine
from mta4dpr.errors import UserError
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.systems import System, trainable
from mta4dpr.machine import environment
from mta4dpr.machine.places import CACHE, OUTPUT
from mta4dpr.machine.work import ID_COLUMNS, PYTHON, Piece, Work, unknown
from mta4dpr.models.sizes import ModelSize
from mta4dpr.planning.sizes import Sizes

GROUP = 60  # bytes in memory of a group's query, epoch and copy while a round is drawn
POOL = 4096 * 60  # bytes in memory for a candidate of a model's list, while the lists of a block of queries are fused
TRAINING = 68  # bytes for a token, layer and hidden unit that a gradient in float32 needs
ADAM = 16  # bytes for a parameter: weight, gradient, two moments
QUERY_TOKENS = 12  # of an average query, special ones included


def training_pieces(experiment: Experiment, system: System, recipe: Recipe, sizes: Sizes) -> Iterator[Piece]:
    """Teacher and assistants made ready, their candidates and scores, then the steps. What students share is the same piece for all."""
    for label in dict.fromkeys((recipe.teacher, *recipe.assistants)):
        engine = experiment.engine_of_role(label)
        yield from engine.pieces(sizes.texts)
        if engine.ranks:
            yield _mining(experiment, engine, sizes)
        yield from engine.scoring_pieces(_pairs(experiment, label), sizes.texts, queries_memory=sizes.train_memory())
    yield from experiment.engine_of_role(recipe.student).token_pieces(sizes.texts)
    yield _steps(experiment, system, recipe, sizes)


def _mining(experiment: Experiment, engine: Engine, sizes: Sizes) -> Piece:
    """A model's list for every training query, made once for all students."""
    queries, depth = sizes.train_queries[0], max(recipe.distill.depth for _, recipe in experiment.students)
    memory = PYTHON + sizes.train_memory() + ID_COLUMNS * sizes.texts.passages
    return Piece(
        f"mine with {engine.label}",
        "to do",
        f"top {depth} of {queries:,} training queries" if queries else "the number of training queries is known after reading",
        {CACHE: 4.0 * queries * depth},
        memory + engine.mining_memory(min(queries, MINING_PIECE), depth),
        engine.mining_work(queries, sizes.texts),
    )


def _pairs(experiment: Experiment, label: str) -> int:
    """Pairs of all students' groups that a model scores, if it scores pairs: as their teacher, or as an assistant that they ask."""
    recipes = [recipe for _, recipe in experiment.students]
    asking = [r for r in recipes if label == r.teacher or (label in r.assistants and asks_assistants(r))]
    return sum(groups_of(recipe) * recipe.distill.group for recipe in asking)


def _steps(experiment: Experiment, system: System, recipe: Recipe, sizes: Sizes) -> Piece:
    name, beside, model = f"train {system.label}", trained_beside(experiment, recipe), experiment.bench.models[recipe.student]
    try:
        student, *others = [_size(experiment, label) for label in (recipe.student, *beside)]
    except UserError:
        return unknown(name, model.model)
    distill, texts, chain = recipe.distill, sizes.texts, Requirement.CHAIN in strategy_named(recipe.strategy).requires
    groups, queries = groups_of(recipe), sizes.train_queries[0]
    scorers = 2 + (len(recipe.assistants) if asks_assistants(recipe) else 0)
    parameters = student.parameters + sum(size.parameters for size in others)
    itemsize = 2 if experiment.bench.dense.dtype == "float16" else 4
    students = min(distill.rounds, 1 + len(recipe.assistants))  # kept are those that are assistants now
    vectors = float(itemsize * texts.passages * (students * student.hidden + (sum(s.hidden for s in others) if chain else 0)))
    lists = distill.rounds * 4.0 * queries * distill.depth
    disk = vectors + lists + groups * (4 + distill.group * (6 + 4 * scorers)) + parameters * (12 * (distill.keep_checkpoints + 1))
    disk += 4 * student.parameters * (distill.rounds + 1)
    in_a_step = step_tokens(experiment, recipe, texts)
    kept = min(in_a_step, distill.micro_batch_tokens) if distill.gradient_cache else in_a_step
    gradients = kept * TRAINING * (1.0 if distill.precision == "float32" else 0.5) * student.layers * student.hidden
    in_groups = groups / distill.rounds * (GROUP + distill.group * (7 + 4 * scorers)) + POOL * distill.depth * (1 + len(recipe.assistants))
    mining = experiment.engine_of_role(recipe.student).mining_memory(min(queries, MINING_PIECE), distill.depth)
    encoded = distill.rounds * texts.passages * student.operations * texts.cut(model.passage_length)
    if chain:  # each link is measured and teaches
        encoded += sum(texts.passages * size.operations * texts.cut(None) for size in others)
    return Piece(
        name,
        "to do",
        f"{distill.steps} steps, {distill.rounds} rounds" + (f"; trains {', '.join(beside)} too" if beside else ""),
        {OUTPUT: disk},
        PYTHON + ADAM * parameters + max(gradients, mining, in_groups) + sizes.train_memory() + ID_COLUMNS * texts.passages,
        (
            Work("train", training_operations(experiment, recipe, sizes), student.shape),
            Work("encode", encoded, student.shape),
            Work("search", 2.0 * distill.rounds * queries * texts.passages * student.hidden),
        ),
    )


def _size(experiment: Experiment, label: str) -> ModelSize:
    """UserError for a model that is neither here nor known, or that has no network."""
    size = experiment.engine_of_role(label).model_size
    if size is None:
        raise UserError(f"{label} has no network that could be trained")
    return size


def asks_assistants(recipe: Recipe) -> bool:
    """Whether the assistants of a recipe score its groups, or are trained for it."""
    return bool({Requirement.ASSISTANTS, Requirement.OFFERED_ASSISTANTS} & set(strategy_named(recipe.strategy).requires))


def groups_of(recipe: Recipe) -> int:
    """Groups that a student is trained on, over all steps and processes."""
    return recipe.distill.steps * recipe.distill.batch_queries * environment.process_count()


def step_tokens(experiment: Experiment, recipe: Recipe, texts: CorpusSize) -> float:
    """Tokens of a step in one process: its queries and their groups."""
    model = experiment.bench.models[recipe.student]
    of_query = min(QUERY_TOKENS, model.query_length or QUERY_TOKENS)
    return recipe.distill.batch_queries * (of_query + recipe.distill.group * texts.cut(model.passage_length))


def trained_beside(experiment: Experiment, recipe: Recipe) -> list[str]:
    """Labels of the models that are trained beside a student or before it."""
    requires = strategy_named(recipe.strategy).requires
    if Requirement.TEACHER_TRAINING in requires:
        return [recipe.teacher]
    return trainable(experiment.bench, recipe.assistants) if Requirement.CHAIN in requires else []


def training_operations(experiment: Experiment, recipe: Recipe, sizes: Sizes) -> float:
    """Operations of all steps, forwards and twice as many backwards; gradient caching goes forwards twice. UserError for unknown models."""
    labels = (recipe.student, *trained_beside(experiment, recipe))
    passes = 4 if recipe.distill.gradient_cache else 3
    tokens = step_tokens(experiment, recipe, sizes.texts) * environment.process_count() * recipe.distill.steps
    return passes * tokens * sum(_size(experiment, label).operations for label in labels)
