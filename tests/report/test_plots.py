"""The plots that a run's data allow, as files."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from mta4dpr import report


def test_plots_hold_names_as_text(trained: Path) -> None:
    plots = report.draw(trained)
    assert [(plot.kind, plot.subject) for plot in plots] == [
        ("leaderboard", "mini/test"),
        ("frontier-parameters", "mini/test"),
        ("training", "mta4dpr"),
        ("assistants", "mta4dpr"),
        ("rounds", "mta4dpr"),
    ]
    texts = []
    for plot in plots:
        root = ElementTree.parse(plot.path).getroot()
        texts.append([element.text for element in root.iter("{http://www.w3.org/2000/svg}text")])
        assert float(root.attrib["width"].removesuffix("pt")) * 96 / 72 < 700
    assert {"a&b_<c>%", "0.3900", "RR@10 on mini/test", "95 % bootstrap interval, 300 queries"} <= set(texts[0])
    assert {"total loss", "cross-entropy", "KL to the teacher (nats)", "round 1"} <= set(texts[2])
    assert {"a&b_<c>%", "parameters (millions)"} <= set(texts[1])
    assert "KL to the chosen assistant (nats)" not in texts[2]  # the steps have none
    assert {"75 %", "50 %", "$y$", "round 0 (4 batches)"} <= set(texts[3])
    assert {"student", "$y$", "student-r0", "replaced by a copy of the student"} <= set(texts[4])


def test_plots_say_the_limit(run: Path) -> None:
    document = json.loads((run / "leaderboard.json").read_text())
    (run / "leaderboard.json").write_text(json.dumps({**document, "limit": 50}))
    assert "300 queries (--limit 50, no full run)" in report.draw(run)[0].path.read_text()
