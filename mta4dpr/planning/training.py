"""Stages that score pairs and train students."""

from __future__ import annotations

from mta4dpr import environment
from mta4dpr.benchmark import ModelSpec, Recipe
from mta4dpr.distill.mining import MINING_PIECE
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement
from mta4dpr.errors import UserError
from mta4dpr.opened import Run
from mta4dpr.places import CACHE, OUTPUT
from mta4dpr.planning.needs import Needs
from mta4dpr.planning.sizes import Sizes, Texts
from mta4dpr.planning.stage import ID_COLUMNS, PYTHON, Part, Stage, Work, unknown
from mta4dpr.planning.vectors import VectorStages
from mta4dpr.request import System, trainable

GROUP = 60  # bytes in memory of a group's query, epoch and copy while a round is drawn
POOL = 4096 * 60  # bytes in memory for a candidate of a model's list, while the lists of a block of queries are fused
TRAINING = 68  # bytes for a token, layer and hidden unit that a gradient in float32 needs
ADAM = 16  # bytes for a parameter: weight, gradient, two moments


class TrainingStages(Part):
    """Pairs that a cross-encoder scores, and each student's training."""

    def __init__(self, needs: Needs, vectors: VectorStages) -> None:
        super().__init__(needs)
        self.vectors = vectors

    def scoring(self, label: str, spec: ModelSpec) -> Stage:
        """A cross-encoder scores the groups of the strategies that ask it, and reranks D_eval's candidates; a pair once."""
        name = f"score pairs with {label}"
        try:
            network = self.sizes.network(spec)
        except UserError:
            return unknown(name, spec)
        asking = [r for r in self.needs.recipes if label == r.teacher or (label in r.assistants and asks_assistants(r))]
        pairs = sum(groups_of(r) * r.distill.group for r in asking)
        length = min(spec.pair_length or 512, self.texts.tokens + 15)
        return Stage(
            name,
            "done" if self.is_trained else "to do",
            f"up to {pairs:,} pairs of the groups, and D_eval's candidates",
            {CACHE: 12.0 * pairs},
            self.vectors.inference(network) + self.train_memory() + 36.0 * pairs,
            [Work("encode", network.operations * length * pairs, network.shape)],
        )

    def training(self, system: System, recipe: Recipe) -> Stage:
        name, opened = f"train {system.label}", self.opened
        assert system.spec is not None
        beside = trained_beside(opened, recipe)
        try:
            student = self.sizes.network(system.spec)
            others = [self.sizes.network(opened.bench.models[label]) for label in beside]
        except UserError:
            return unknown(name, system.spec)
        distill, strategy, texts = recipe.distill, STRATEGIES[recipe.strategy], self.texts
        groups, queries = groups_of(recipe), self.sizes.train_queries[0]
        scorers = 2 + (len(recipe.assistants) if asks_assistants(recipe) else 0)
        parameters = student.parameters + sum(network.parameters for network in others)
        students = min(distill.rounds, 1 + len(recipe.assistants))  # kept are those that are assistants now
        vectors = students * self.vectors.vector_bytes(student)
        if Requirement.CHAIN in strategy.requires:
            vectors += sum(map(self.vectors.vector_bytes, others))
        lists = distill.rounds * 4.0 * queries * distill.depth
        disk = vectors + lists + groups * (4 + distill.group * (6 + 4 * scorers)) + parameters * (12 * (distill.keep_checkpoints + 1))
        disk += 4 * student.parameters * (distill.rounds + 1)
        in_a_step = step_tokens(recipe, system.spec, texts)
        kept = min(in_a_step, distill.micro_batch_tokens) if distill.gradient_cache else in_a_step
        gradients = kept * TRAINING * (1.0 if distill.precision == "float32" else 0.5) * student.layers * student.hidden
        in_groups = groups / distill.rounds * (GROUP + distill.group * (7 + 4 * scorers))
        in_groups += POOL * distill.depth * (1 + len(recipe.assistants))
        mining = self.vectors.exact(student.hidden, min(queries, MINING_PIECE), distill.depth)
        encoded = (distill.rounds * texts.passages) * student.operations * texts.cut(system.spec.passage_length)
        if Requirement.CHAIN in strategy.requires:  # each link is measured and teaches
            encoded += sum(texts.passages * network.operations * texts.cut(None) for network in others)
        return Stage(
            name,
            "done" if self.is_done(f"train {system.label}") else "to do",
            f"{distill.steps} steps, {distill.rounds} rounds" + (f"; trains {', '.join(beside)} too" if beside else ""),
            {OUTPUT: disk},
            PYTHON + ADAM * parameters + max(gradients, mining, in_groups) + self.train_memory() + ID_COLUMNS * texts.passages,
            [
                Work("train", training_operations(opened, recipe, system.spec, self.sizes), student.shape),
                Work("encode", encoded, student.shape),
                Work("search", 2.0 * distill.rounds * queries * texts.passages * student.hidden),
            ],
        )


def asks_assistants(recipe: Recipe) -> bool:
    """Whether the assistants of a recipe score its groups, or are trained for it."""
    return Requirement.ASSISTANTS in STRATEGIES[recipe.strategy].requires


def groups_of(recipe: Recipe) -> int:
    """Groups that a student is trained on, over all steps and processes."""
    return recipe.distill.steps * recipe.distill.batch_queries * environment.process_count()


def step_tokens(recipe: Recipe, spec: ModelSpec, texts: Texts) -> float:
    """Tokens of a step in one process: its queries and their groups."""
    of_query = min(12, spec.query_length or 12)
    return recipe.distill.batch_queries * (of_query + recipe.distill.group * texts.cut(spec.passage_length))


def trained_beside(opened: Run, recipe: Recipe) -> list[str]:
    """Labels of the models that are trained beside a student or before it."""
    strategy = STRATEGIES[recipe.strategy]
    if Requirement.TEACHER_TRAINING in strategy.requires:
        return [recipe.teacher]
    return trainable(opened.bench, recipe.assistants) if Requirement.CHAIN in strategy.requires else []


def training_operations(opened: Run, recipe: Recipe, spec: ModelSpec, sizes: Sizes) -> float:
    """Operations of all steps, forwards and twice as many backwards; gradient caching goes forwards twice."""
    of_networks = sum(sizes.network(opened.bench.models[label]).operations for label in trained_beside(opened, recipe))
    passes = 4 if recipe.distill.gradient_cache else 3
    tokens = step_tokens(recipe, spec, sizes.texts) * environment.process_count() * recipe.distill.steps
    return passes * tokens * (sizes.network(spec).operations + of_networks)
