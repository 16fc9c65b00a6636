"""What dtb jobs makes of Slurm's words and of run folders."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from cluster.jobs import Row, clock, known, parse_queue, progress, runs, table
from cluster.launch import Submission
from dtb.cli import app
from dtb.progress import Progress, ProgressFile, read_progress

TOLD = Submission(
    job="7", name="dtb-rest", verb="run", site="cpu", run="../rest", nodes=1, tasks=1, time="60", duration=1000.0,
    submitted_utc="2026-01-01T00:00:00+00:00",
)  # fmt: skip
QUEUE = """7_0|dtb-rest|RUNNING|1:02|2026-01-01T00:00:00|None
7_1|dtb-rest|PENDING|0:00|N/A|Priority
8|other|FAILED|0:05|2026-01-01T00:00:00|NonZeroExitCode
slurm_load_jobs: something else
"""


def test_jobs_are_read_by_number_and_other_lines_passed_over():
    queue = parse_queue(QUEUE)
    assert {number: q.state for number, q in queue.items()} == {"7_0": "RUNNING", "7_1": "PENDING", "8": "FAILED"}
    assert queue["7_1"].reason == "Priority"


def test_an_array_has_a_run_for_each_seed():
    told = TOLD.model_copy(update={"seeds": [3, 5]})
    assert runs(told) == [("7_0", "../rest/seed-3"), ("7_1", "../rest/seed-4"), ("7_2", "../rest/seed-5")]


def test_another_job_of_the_same_number_is_not_ours():
    queue = parse_queue(QUEUE)
    assert known(queue, TOLD, "8") is None and known(queue, TOLD, "7_0").state == "RUNNING"


def test_progress_comes_from_the_summary_if_there_is_one(tmp_path):
    assert progress(tmp_path, 1000.0) == (None, None)
    (tmp_path / "summary.json").write_text(json.dumps({"status": "interrupted", "biological_s": 0.25}))
    assert progress(tmp_path, 1000.0) == (0.25, None)
    (tmp_path / "summary.json").write_text(json.dumps({"status": "complete", "biological_s": 1.0}))
    assert progress(tmp_path, 1000.0) == (1.0, None)


def test_the_pace_of_a_resumed_run_is_that_since_it_went_on():
    """10 steps in 2 s, 50 to go, told 4 s ago: 10 s − 4 s."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    told = Progress(50, 100, 40, 2.0, (now - timedelta(seconds=4)).isoformat())
    assert told.left_s(now) == pytest.approx(6.0)
    assert told._replace(step=40).left_s(now) is None


def test_a_run_tells_its_progress_at_once_and_hands_it_on(tmp_path):
    path, seen = tmp_path / "progress.json", []
    tell = ProgressFile(path, lambda *a: seen.append(a))
    tell(40, 100)
    tell(50, 100)  # within two seconds: not written
    told = read_progress(path)
    assert (told.step, told.steps, told.since_step) == (40, 100, 40) and seen == [(40, 100), (50, 100)]


def test_a_run_tells_its_progress_again_once_two_seconds_passed(tmp_path, monkeypatch):
    clock_s = iter([100.0, 101.0, 106.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock_s))
    tell = ProgressFile(tmp_path / "progress.json")
    for done in (40, 50, 60):
        tell(done, 100)
    told = read_progress(tmp_path / "progress.json")
    assert (told.step, told.since_step, told.wall_s) == (60, 40, 6.0)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"step": 1'])
def test_a_damaged_progress_file_tells_nothing(content, tmp_path):
    (tmp_path / "progress.json").write_text(content)
    assert read_progress(tmp_path / "progress.json") is None


def test_a_finished_run_leaves_no_progress_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text("[build_network]\nn_neurons = 600\nin_degree = 30\n[run]\nduration = 20\n")
    result = CliRunner().invoke(app, ["run", "c.toml", "-o", "out", "--no-report"])
    assert result.exit_code == 0 and not (tmp_path / "out" / "progress.json").exists()


@pytest.mark.parametrize(("s", "expected"), [(None, ""), (5, "0:00:05"), (3725, "1:02:05"), (93_600, "1-02:00:00")])
def test_time_left_is_written_as_slurm_writes_it(s, expected):
    assert clock(s) == expected


def test_the_table_is_in_columns():
    rows = [
        Row("7", "runs/rest", "RUNNING", 0.256, 60.0, "1:02", "", "log"),
        Row("12_3", "runs/a", "PENDING", None, None, "0:00", "Priority", "log"),
    ]
    head, first, second = table(rows).splitlines()
    assert first.split() == ["7", "RUNNING", "26%", "0:01:00", "1:02", "runs/rest"]
    assert head.index("run") == first.index("runs/rest") == second.index("runs/a")


def test_jobs_say_where_there_is_no_slurm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(app, ["jobs"])
    assert result.exit_code == 4 and "there is no Slurm here: no squeue on the PATH" in result.stderr
