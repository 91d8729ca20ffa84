"""The terms that losses are made of, as a reader sees them: what a plot of a training calls each. Knows no strategy."""

from __future__ import annotations

from dataclasses import dataclass

STEP_NUMBERS = ("round", "step", "lr", "examples_per_second")  # numbers in a line of steps.jsonl that are no terms
TOTAL = "loss"  # what steps.jsonl calls the weighted sum of the terms


@dataclass(frozen=True)
class Term:
    """What a term is called over its plot, and its unit; cross-entropies are in nats by nature and do not say so."""

    title: str
    unit: str = ""

    @property
    def heading(self) -> str:
        """Title and unit, such as "KL to the teacher (nats)"."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


TERMS: dict[str, Term] = {  # in the order of the plots
    TOTAL: Term("total loss"),
    "ce": Term("cross-entropy"),
    "kl_teacher": Term("KL to the teacher", "nats"),
    "kl_assistant": Term("KL to the chosen assistant", "nats"),
    "kl_mean": Term("KL to teacher and assistants together", "nats"),
    "kl_previous": Term("KL to the student before the round", "nats"),
    "kl_layers": Term("KL between layers", "nats"),
    "ce_teacher": Term("cross-entropy of the teacher"),
    "margin": Term("squared error of the margins"),
    "listwise": Term("listwise loss"),
    "policy": Term("loss of the policy"),
}
