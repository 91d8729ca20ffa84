"""The order of the stages, what follows from what, and the loops: what is done, what is done again, what goes along."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mta4dpr.config.benchmark import Suite
from mta4dpr.errors import UserError
from mta4dpr.experiment.experiment import Experiment, open_experiment
from mta4dpr.experiment.ledger import Ledger, StageName
from mta4dpr.experiment.request import REDO, Request
from mta4dpr.machine.files import read_json
from mta4dpr.machine.places import CACHE
from mta4dpr.machine.work import Piece
from mta4dpr.planning.needs import Needs
from mta4dpr.stages import pipeline
from mta4dpr.stages.pipeline import (
    complete,
    complete_trainings,
    following,
    has_begun,
    is_complete,
    perform,
    pieces_of,
    prepare,
    redo,
    stages_of,
    work_along,
)
from mta4dpr.stages.stage import Stage

INDEX, TRAIN, ENCODE = StageName("index", "bm25"), StageName("train", "kd"), StageName("encode", "kd")
BM25, KD, KD_DEV = StageName("search", "bm25", "test"), StageName("search", "kd", "test"), StageName("search", "kd", "dev")
EVALUATE, REPORT = StageName("evaluate"), StageName("report")


class Steps:
    """Stages that write a file each: `content` says what is in it, `inputs` what goes in, `log` what was done."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.forgotten = folder, list[str](), list[str]()
        self.content: dict[StageName, str] = {}
        self.inputs: dict[StageName, str] = {}

    def stage(self, name: StageName, *needs: StageName) -> Stage:
        def do(outputs: list[Path]) -> None:
            self.log.append(str(name))
            path = self.folder / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.content.get(name, "as usual"))
            outputs.append(path)

        return Stage(name, lambda: self.inputs.get(name, "in"), do, needs, forget=lambda: self.forgotten.append(str(name)))

    def every(self) -> list[Stage]:
        """BM25 and a student, as a run has them."""
        return [
            self.stage(INDEX),
            self.stage(BM25, INDEX),
            self.stage(TRAIN),
            self.stage(ENCODE, TRAIN),
            self.stage(KD, ENCODE),
            self.stage(EVALUATE, BM25, KD),
            self.stage(REPORT, EVALUATE),
        ]

    def again(self) -> list[str]:
        """What was done since the last call."""
        done, self.log = self.log, []
        return done


@pytest.fixture
def experiment(opened: Callable[..., Experiment]) -> Experiment:
    return opened()


@pytest.fixture
def steps(experiment: Experiment) -> Steps:
    return Steps(experiment.folder.path)


def run(experiment: Experiment, stages: list[Stage]) -> None:
    for stage in stages:
        perform(experiment, stage, stages)


# --- which stages there are ----------------------------------------------------------------------------------------------


def tiny(*systems: str, **changed: object) -> Experiment:
    experiment = open_experiment(Request("tiny", systems=systems))
    return replace(experiment, bench=experiment.bench.model_copy(update=changed)) if changed else experiment


def test_the_stages_of_a_benchmark_in_their_order() -> None:
    """A student is trained before its passages are encoded; tables come when all is searched and timed."""
    assert [str(stage.name) for stage in stages_of(tiny("kd", "bm25", "teacher"))] == [
        "index bm25",
        "search bm25 tiny/test",
        "encode teacher",
        "search teacher tiny/test",
        "train kd",
        "encode kd",
        "search kd tiny/test",
        "latency bm25",
        "latency teacher",
        "latency kd",
        "evaluate",
        "report",
    ]


def test_every_stage_stands_behind_all_that_it_follows_from() -> None:
    """`following` and processes that go along read the list once, from its beginning."""
    suite = Suite(measure="nDCG@10", sets=["beir/scifact/test"])
    for experiment in (tiny(), tiny("bm25", "takd", "prod"), tiny("kd", suites={"beir": suite}), tiny("bm25", eval_sets=[])):
        before: set[StageName] = set()
        for stage in stages_of(experiment):
            assert set(stage.needs) <= before, stage.name
            assert stage.name not in before
            before.add(stage.name)


def test_a_suite_is_evaluated_when_all_its_systems_are_ready() -> None:
    """Its collections are searched with the students that this run trains; a suite alone times nothing."""
    suite = Suite(measure="nDCG@10", sets=["beir/scifact/test"])
    stages = {str(stage.name): stage for stage in stages_of(tiny("bm25", "kd", suites={"beir": suite}, eval_sets=[]))}
    assert list(stages) == ["index bm25", "train kd", "encode kd", "collections beir", "evaluate", "report"]
    assert set(stages["collections beir"].needs) == {INDEX, ENCODE}
    assert stages["evaluate"].needs == (StageName("collections", "beir"),)


def test_what_follows_from_a_stage() -> None:
    """All of one student, and the tables; nothing of other systems."""
    stages = stages_of(tiny("bm25", "kd"))
    assert [str(s.name) for s in stages if s.name in following({TRAIN}, stages)] == [
        "train kd",
        "encode kd",
        "search kd tiny/test",
        "latency kd",
        "evaluate",
        "report",
    ]
    assert following({StageName("latency", "bm25")}, stages) == {StageName("latency", "bm25"), REPORT}
    assert following(set(), stages) == set()


def test_what_redo_takes_names_stages_that_there_are() -> None:
    """A word that forgets nothing would say that work was done again which was not."""
    kinds = {stage.kind for stage in stages_of(tiny("bm25", "kd"))}
    assert {kind for wanted in REDO.values() for kind in wanted} <= kinds


# --- done once, and again -------------------------------------------------------------------------------------------------


def test_a_stage_is_done_once(experiment: Experiment, steps: Steps) -> None:
    """Also for a process that starts later: what is done stands in the folder."""
    run(experiment, steps.every())
    assert steps.again() == [str(stage.name) for stage in steps.every()]
    later = replace(experiment)
    assert later.ledger is not experiment.ledger
    assert is_complete(later, steps.every())
    run(later, steps.every())
    assert steps.again() == []


def test_other_bytes_make_what_follows_from_them_again(experiment: Experiment, steps: Steps) -> None:
    """A student that is trained otherwise is encoded, searched and evaluated again; BM25's run stays."""
    run(experiment, steps.every())
    steps.again()
    steps.inputs[TRAIN], steps.content[TRAIN] = "other options", "other weights"
    run(experiment, steps.every())
    assert steps.again() == ["train kd", "encode kd", "search kd test", "evaluate", "report"]


def test_the_same_bytes_make_nothing_again(experiment: Experiment, steps: Steps) -> None:
    """Vectors made again after a file was lost are what they were: hours of searching need not follow."""
    run(experiment, steps.every())
    steps.again()
    (experiment.folder.path / "encode kd.txt").unlink()
    steps.inputs[INDEX] = "another version's"
    run(experiment, steps.every())
    assert steps.again() == ["index bm25", "encode kd"]


def test_an_interruption_between_does_not_hide_other_bytes(experiment: Experiment, steps: Steps) -> None:
    """Killed while the student was trained again: the run that goes on knows what its rows were made from."""
    run(experiment, steps.every())
    steps.again()
    steps.inputs[TRAIN], steps.content[TRAIN] = "other options", "other weights"
    train, *_ = [stage for stage in steps.every() if stage.name == TRAIN]

    def killed(_: list[Path]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(experiment, replace(train, do=killed), steps.every())
    run(replace(experiment), steps.every())
    assert steps.again() == ["train kd", "encode kd", "search kd test", "evaluate", "report"]


def test_eval_sets_that_this_command_leaves_out_are_made_again_too(experiment: Experiment, steps: Steps) -> None:
    """The table joins rows of all commands: those of dev must not come from weights that are gone. BM25's rows may stay."""
    bm25_dev = StageName("search", "bm25", "dev")
    every = [*steps.every()[:5], steps.stage(KD_DEV, ENCODE), steps.stage(bm25_dev, INDEX), *steps.every()[5:]]
    run(experiment, every)
    steps.inputs[TRAIN], steps.content[TRAIN] = "other options", "other weights"
    run(experiment, steps.every())  # which knows no dev
    assert not experiment.ledger.was_done(KD_DEV)
    assert experiment.ledger.was_done(bm25_dev)
    steps.again()
    run(experiment, every)
    assert steps.again() == ["search kd dev"]


def test_other_code_is_a_reason_and_its_hash_is_told(experiment: Experiment, steps: Steps, caplog: pytest.LogCaptureFixture) -> None:
    """A researcher who edits a strategy must see that its student is trained again, and why."""
    train = steps.stage(TRAIN)
    perform(experiment, replace(train, code="abc"), [train])
    perform(experiment, replace(train, code="abc"), [train])
    assert steps.again() == ["train kd"]
    with caplog.at_level("INFO"):
        perform(experiment, replace(train, code="xyz"), [train])
    assert steps.again() == ["train kd"]
    assert "train kd: done again, as its code has changed (hash abc then, xyz now)" in caplog.text


def test_a_stage_that_knows_itself_whether_it_is_done_is_not_in_the_ledger(experiment: Experiment, steps: Steps) -> None:
    """A suite's collections have ledgers of their own."""
    ready = [False]
    suite = replace(steps.stage(StageName("collections", "beir")), is_done=lambda: ready[0])
    assert not is_complete(experiment, [suite])
    perform(experiment, suite, [suite])
    assert steps.again() == ["collections beir"]
    ready[0] = True
    assert is_complete(experiment, [suite])
    assert Ledger(experiment.folder.path).stages == {}


# --- --redo ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "again", "forgotten"),
    [
        ("train", ["train kd", "encode kd", "search kd test", "evaluate", "report"], ["train kd"]),
        ("index", ["index bm25", "search bm25 test", "encode kd", "search kd test", "evaluate", "report"], ["index bm25"]),
        ("encode", ["encode kd", "search kd test", "evaluate", "report"], ["encode kd"]),
        ("search", ["search bm25 test", "search kd test", "evaluate", "report"], ["search bm25 test", "search kd test"]),
        ("evaluate", ["evaluate", "report"], ["evaluate"]),
        ("data", ["evaluate", "report"], []),
    ],
)
def test_redo_forgets_a_stage_and_what_follows(
    experiment: Experiment, steps: Steps, what: str, again: list[str], forgotten: list[str]
) -> None:
    """The same bytes come out, and yet all that follows is made again: whoever asks for it does not trust the files."""
    run(experiment, steps.every())
    steps.again()
    redo(experiment, steps.every(), what)
    assert steps.forgotten == forgotten
    run(experiment, steps.every())
    assert steps.again() == again


def test_redo_forgets_eval_sets_that_this_command_leaves_out_too(experiment: Experiment, steps: Steps) -> None:
    """Their rows stand in the same table, and would be of files that nobody trusts any longer."""
    bm25_dev = StageName("search", "bm25", "dev")
    every = [*steps.every()[:5], steps.stage(KD_DEV, ENCODE), steps.stage(bm25_dev, INDEX), *steps.every()[5:]]
    run(experiment, every)
    redo(experiment, steps.every(), "train")  # by a command that knows no dev
    assert not experiment.ledger.was_done(KD_DEV)
    assert experiment.ledger.was_done(bm25_dev)


def test_redo_takes_one_process(opened: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of several would remove what the others have just made."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="--redo takes one process"):
        prepare(opened(redo="index"))


# --- a whole command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(steps: Steps, opened: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Experiment]:
    """A command of its own over the folder, whose stages are `steps`."""
    monkeypatch.setattr(pipeline, "stages_of", lambda _: steps.every())

    def go(function: Callable[[Experiment], None] = complete, **asked: object) -> Experiment:
        function(experiment := opened(**asked))
        return experiment

    return go


def test_a_command_that_is_stopped_goes_on_where_it_stopped(command: Callable[..., Experiment], steps: Steps) -> None:
    """The manifest says of each command what it was and whether it came to an end; the folder is free again."""
    broken = steps.every()[3]
    usual = steps.stage

    def stage(name: StageName, *needs: StageName) -> Stage:
        made = usual(name, *needs)

        def fail(_: list[Path]) -> None:
            raise RuntimeError("died")

        return replace(made, do=fail) if name == broken.name else made

    steps.stage = stage  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="died"):
        command()
    assert steps.again() == ["index bm25", "search bm25 test", "train kd"]
    steps.stage = usual  # type: ignore[method-assign]
    command()
    assert steps.again() == ["encode kd", "search kd test", "evaluate", "report"]
    first, second = read_json(steps.folder / "manifest.json")["runs"]
    assert first["finished"] is None
    assert second["finished"] >= second["started"]


def test_a_command_with_nothing_to_do_writes_nothing(command: Callable[..., Experiment], steps: Steps) -> None:
    """Not even a line in the manifest: a repository that holds the folder must stay unchanged."""
    command()
    before = {path: path.stat().st_mtime_ns for path in steps.folder.rglob("*") if path.name != ".lock"}
    command()
    assert {path: path.stat().st_mtime_ns for path in steps.folder.rglob("*") if path.name != ".lock"} == before


def test_students_alone_are_trained_and_the_run_goes_on_from_them(command: Callable[..., Experiment], steps: Steps) -> None:
    command(complete_trainings)
    assert steps.again() == ["train kd"]
    command()
    assert "train kd" not in steps.again()


def test_without_its_manifest_only_the_training_of_a_folder_counts(command: Callable[..., Experiment], steps: Steps) -> None:
    """Nobody can say what earlier rows were made with; a student is known by its inputs all the same, and took hours."""
    command()
    steps.again()
    (steps.folder / "manifest.json").unlink()
    command()
    assert steps.again() == [str(stage.name) for stage in steps.every() if stage.name != TRAIN]


def test_what_a_killed_launch_left_is_swept_away(command: Callable[..., Experiment], steps: Steps) -> None:
    """Parts of a search are as large as the hits of all queries, once a process."""
    parts = steps.folder / ".parts-killed" / "kd test"
    parts.mkdir(parents=True)
    command()
    assert not parts.parent.exists()


# --- several processes ----------------------------------------------------------------------------------------------------


def process(opened: Callable[..., Experiment], launch: str) -> Experiment:
    """The experiment as a process of that launch has it."""
    experiment = opened()
    experiment.__dict__["launch"] = launch
    return experiment


def test_a_process_goes_along_with_a_stage_that_the_main_one_has_begun(opened: Callable[..., Experiment], steps: Steps) -> None:
    """It helps with what is shared, waits while the main one works alone, and passes over what is done already."""
    main, beside = process(opened, "launch"), process(opened, "launch")
    helped = threading.Event()
    log: list[str] = []

    def help_with(name: StageName) -> Callable[[], None]:
        def along() -> None:
            log.append(str(name))
            helped.set()

        return along

    def waits(outputs: list[Path]) -> None:
        assert helped.wait(20), "nobody came to help"

    done, alone, shared = steps.stage(INDEX), steps.stage(BM25, INDEX), replace(steps.stage(TRAIN), do=waits)
    every = [replace(done, along=help_with(INDEX)), alone, replace(shared, along=help_with(TRAIN))]
    perform(main, every[0], every)
    thread = threading.Thread(target=work_along, args=(beside, every), daemon=True)
    thread.start()
    run(main, every)
    thread.join(20)
    assert not thread.is_alive()
    assert log == ["train kd"]


def test_what_a_stage_clears_away_is_gone_before_others_go_along(experiment: Experiment, steps: Steps) -> None:
    """A process that sees the stage running reads what lies there: checkpoints that are about to be removed, as well."""
    running: list[bool] = []
    train = steps.stage(TRAIN)
    watched = replace(train, begin=lambda: running.append(has_begun_now(experiment, train)))
    perform(experiment, watched, [watched])
    assert running == [False]
    perform(experiment, watched, [watched])
    assert running == [False], "what is done is not begun again"


def has_begun_now(experiment: Experiment, stage: Stage) -> bool:
    """Whether another process would see it running."""
    return Ledger(experiment.folder.path).is_running(stage.name, stage.inputs())


def test_what_a_killed_launch_was_at_is_not_gone_along_with(opened: Callable[..., Experiment], steps: Steps) -> None:
    """Its main process is gone: who joined it would wait for files that nobody makes."""
    killed, main, beside = process(opened, "killed"), process(opened, "launch"), process(opened, "launch")
    stage = steps.stage(TRAIN)

    def kill(_: list[Path]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(killed, replace(stage, do=kill), [stage])
    assert has_begun(process(opened, "killed"), stage)
    threading.Timer(0.7, perform, (main, stage, [stage])).start()
    assert not has_begun(beside, stage)


# --- what it takes --------------------------------------------------------------------------------------------------------


def test_pieces_of_a_stage_that_is_done_take_nothing(experiment: Experiment, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on on a nearly full disk is not refused for what it has written already."""

    def costing(stage: Stage, disk: float) -> Stage:
        return replace(stage, pieces=lambda _: iter([Piece(str(stage.name), disk={CACHE: disk})]))

    every = [costing(steps.stage(INDEX), 5.0), costing(steps.stage(BM25, INDEX), 7.0)]
    monkeypatch.setattr(pipeline, "stages_of", lambda _: every)
    perform(experiment, every[0], every)
    found = {piece.name: (piece.state, piece.disk) for piece in pieces_of(experiment, Needs(experiment))}
    assert found["index bm25"] == ("done", {})
    assert found["search bm25 test"] == ("to do", {CACHE: 7.0})
    assert next(iter(found)) == "read the corpus", "what is brought stands before what is made of it"
