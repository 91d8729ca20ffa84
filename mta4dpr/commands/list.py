"""What `list` shows: benchmarks, systems, strategies, measures, options; rows of plain data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mta4dpr.config import benchmark, plugins
from mta4dpr.config.yaml_files import benchmark_file, benchmark_names, load_benchmark

Rows = list[dict[str, Any]]

OF_A_PACKAGE = "offered by an installed package, which is loaded when this is named"
MEASURES = {
    "RR@10": "reciprocal rank of the first relevant passage in the top 10 (MS MARCO's MRR@10)",
    "nDCG@10": "normalised discounted cumulative gain of the top 10 (TREC DL, BEIR)",
    "R@100": "share of a query's relevant passages in the top 100",
    "R@1000": "share of a query's relevant passages in the top 1000",
    "R(rel=2)@1000": "the same, relevant from grade 2 on (TREC DL)",
    "AP(rel=2)@1000": "average precision, relevant from grade 2 on (TREC DL)",
    "Success@20": "share of queries with a relevant passage in the top 20 (what DPR's line calls R@20)",
    "Judged@10": "share of the top 10 that is judged",
    "P@10": "precision of the top 10",
}


def benchmarks() -> Rows:
    """A row a benchmark: name, title, eval sets. UserError for a YAML that cannot be read."""
    rows = []
    for name in benchmark_names():
        bench = load_benchmark(str(benchmark_file(name)), {})
        assert bench is not None  # it is the path of a YAML
        sets = [*(eval_set.id for eval_set in bench.eval_sets), *(f"{suite} (optional)" for suite in bench.suites)]
        rows.append({"benchmark": name, "title": bench.title, "eval sets": ", ".join(sets)})
    return rows


def systems() -> Rows:
    """A row a system that can be named anywhere: BM25, students by strategy, published checkpoints."""
    from mta4dpr.engines.registry import by_name
    from mta4dpr.experiment.systems import STUDENT_INIT
    from mta4dpr.models.registry import CHECKPOINTS

    rows = [{"system": name, "what": engine.about[0], "from": engine.about[1]} for name, engine in by_name().items()]
    rows += [{"system": STUDENT_INIT, "what": "the benchmark's student before training", "from": "the benchmark"}]
    rows += [
        {"system": s["strategy"], "what": f"the student trained by {s['strategy']}: {s['about']}", "from": s["source"]}
        for s in strategies()
    ]
    rows += [{"system": name, "what": OF_A_PACKAGE, "from": place} for name, place in plugins.offered(plugins.ENGINES).items()]
    rows += [{"system": c.name, "what": c.about, "from": hub} for hub, c in CHECKPOINTS.items() if c.name]
    return rows


def strategies() -> Rows:
    """A row a strategy: what it does, what a user must provide, what it costs, where it is from. Those of other packages are not loaded."""
    from mta4dpr.distill.strategies import ABLATIONS, STRATEGIES

    rows = [{"strategy": name, "about": s.about, "needs": s.needs, "cost": s.cost, "source": s.source} for name, s in STRATEGIES.items()]
    of = STRATEGIES["mta4dpr"]
    rows += [
        {"strategy": name, "about": f"mta4dpr {about}", "needs": of.needs, "cost": of.cost, "source": "ablation"}
        for name, (about, _) in ABLATIONS.items()
    ]
    rows += [
        {"strategy": name, "about": OF_A_PACKAGE, "needs": "", "cost": "", "source": place}
        for name, place in plugins.offered(plugins.STRATEGIES).items()
    ]
    return rows


def measures() -> Rows:
    """A row a measure, in the notation of ir-measures; the last row names all others."""
    from ir_measures.measures import registry

    from mta4dpr.evaluation.measures import why_no_mean

    rows = [{"measure": name, "about": about} for name, about in MEASURES.items()]
    names = {measure.NAME for measure in registry.values() if not why_no_mean(measure)}
    others = sorted(names - {name.split("@")[0].split("(")[0] for name in MEASURES})
    return [*rows, {"measure": "others", "about": "all that ir-measures computes as a mean over queries: " + ", ".join(others)}]


def options() -> Rows:
    """A row an option: default, mark of its source, help."""
    return [
        {"option": name, "default": default, "mark": mark, "about": about}
        for name, default, mark, about in [*benchmark.options(), *benchmark.settings()]
    ]


LISTS: dict[str, Callable[[], Rows]] = {
    "benchmarks": benchmarks,
    "systems": systems,
    "strategies": strategies,
    "measures": measures,
    "options": options,
}
