"""`search`: the top passages of one system for one query, with text: to look at what a system does."""

from __future__ import annotations

from mta4dpr.commands.documents import Found, Hit
from mta4dpr.errors import UserError
from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.request import Request


def search(request: Request, query: str, hits: int) -> Found:
    """The best passages; a student must have been trained."""
    experiment = open_experiment(request)
    if len(experiment.systems) != 1:
        raise UserError(f"search takes one system, found {', '.join(s.label for s in experiment.systems)}")
    if hits < 1:
        raise UserError(f"--hits takes a number of at least 1, found {hits}")
    if not query.strip():
        raise UserError("--query is empty; give some words to search for")
    try:
        query.encode()
    except UnicodeEncodeError:
        raise UserError(f"expected --query in UTF-8, found {query!r:.80}; set the terminal to UTF-8") from None
    (system,) = experiment.systems
    found = next(iter(experiment.open_engine(system).search([query], hits)))
    shown: list[Hit] = []
    for rank, (number, score) in enumerate(zip(found.passages[0], found.scores[0], strict=True), start=1):
        if number >= 0:
            passage = experiment.corpus.passage(int(number))
            shown.append({"rank": rank, "score": float(score), "id": passage.id, "title": passage.title, "text": passage.text})
    return {"query": query, "system": system.label, "hits": shown}
