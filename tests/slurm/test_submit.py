"""Jobs on a real Slurm of two nodes: what users submit, and what becomes of it when its time is up."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dtb.cli import app

pytestmark = pytest.mark.slurm

INSTALLED = {str(d.name).lower() for d in distributions()}
RANKS = {"mpi4py", "mpich"} <= INSTALLED
KEEPER = Path(__file__).with_name("keeper.py")
TOY = """
[build_network]
n_neurons = 600
in_degree = 30
[Simulation]
threads = 1
seed = 5
[run]
duration = {duration}
"""
SITE = 'mpi = "pmi2"\nsignal_s = 5\ntime = "10"\n'
SEEDS = range(5, 13)
HALF_MS = 20_000
POLITE = "export MPIR_CVAR_ENABLE_HEAVY_YIELD=1"  # four ranks on two cores leave each other the core
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def submit(*arguments):
    result = invoke("submit", "run", *arguments, "--no-report")
    assert result.exit_code == 0, result.output
    return result.output


def ask_slurm(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=30).stdout


def rows(*folders):
    result = invoke("jobs", "--json", *folders)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def row(folder):
    (found,) = rows(folder)
    return found


def wait_for(condition, what, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: {rows('.')}"
        time.sleep(0.2)


def ended(folder):
    return all(r["state"] in ENDED for r in rows(folder))


def begun(folder):
    """How a keeper was begun, each time."""
    file = Path(folder) / "begun"
    return file.read_text().split() if file.exists() else []


def digest(folder):
    return json.loads((Path(folder) / "summary.json").read_text())["spike_digest"]


@pytest.fixture(scope="module")
def place(slurm, tmp_path_factory):
    """A folder to work in, with a config and site profiles."""
    place = tmp_path_factory.mktemp("submit")
    (place / "toy.toml").write_text(TOY.format(duration=200))
    (place / "long.toml").write_text(TOY.format(duration=3_600_000))
    (place / "site.toml").write_text(SITE)
    keeper = f"command = {json.dumps([sys.executable, str(KEEPER)])}\n"
    (place / "keeper.toml").write_text(SITE + keeper)
    (place / "stuck.toml").write_text(SITE + 'command = ["sh", "-c", "exit 75"]\n')
    (place / "broken.toml").write_text(SITE + 'command = ["false"]\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield place


# runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ensemble(place):
    """Eight seeds at once, then one more run; and what was printed."""
    printed = submit("toy.toml", "--site", "site.toml", "--array", 8, "-o", "runs/eight")
    submit("toy.toml", "--site", "site.toml", "-o", "runs/after 100%", "--dependency", "afterok:runs/eight")
    waiting = row("runs/after 100%")
    wait_for(lambda: ended("runs/after 100%") and ended("runs/eight"), "nine runs")
    return printed, waiting


def test_an_array_runs_each_seed_in_its_own_folder(ensemble):
    states = {r["run"]: (r["state"], r["done"]) for r in rows("runs/eight")}
    assert states == {f"runs/eight/seed-{seed}": ("COMPLETED", 1.0) for seed in SEEDS}
    assert len({digest(f"runs/eight/seed-{seed}") for seed in SEEDS}) == 8


def test_a_submitted_run_has_the_spikes_of_one_by_hand(ensemble):
    """The fourth of the array, whose seed was counted up by the script."""
    result = invoke("run", "toy.toml", "-o", "by-hand", "--no-report", "--set", "Simulation.seed=8")
    assert result.exit_code == 0, result.output
    assert digest("runs/eight/seed-8") == digest("by-hand")


def test_a_dependent_run_waits_and_its_folder_may_have_any_name(ensemble):
    _, waiting = ensemble
    assert (waiting["state"], waiting["reason"]) == ("PENDING", "Dependency")
    assert row("runs/after 100%")["state"] == "COMPLETED"
    assert digest("runs/after 100%") == digest("runs/eight/seed-5")


def test_submitting_shows_the_script_the_number_and_the_log(ensemble):
    printed, _ = ensemble
    script = Path("runs/eight.slurm/job.sh").read_text()
    number = rows("runs/eight")[0]["job"].partition("_")[0]
    assert script in printed and "#SBATCH --array=0-7\n" in script
    assert f"job {number}: runs/eight.slurm/job.sh, log runs/eight.slurm/{number}_*.log" in printed
    log = Path(f"runs/eight.slurm/{number}_7.log").read_text()
    assert "Run complete" in log and digest("runs/eight/seed-12") in log


def test_what_depends_on_a_failed_run_is_cancelled(place):
    submit("toy.toml", "--site", "broken.toml", "-o", "runs/fails")
    submit("toy.toml", "--site", "site.toml", "-o", "runs/never", "--dependency", "afterok:runs/fails")
    wait_for(lambda: ended("runs/never"), "the end of a chain")
    assert [row(f"runs/{name}")["state"] for name in ("fails", "never")] == ["FAILED", "CANCELLED"]
    assert not Path("runs/never").exists()


def test_a_run_that_goes_on_tells_how_far_it_is(place):
    submit("long.toml", "--site", "site.toml", "-o", "runs/long")
    wait_for(lambda: row("runs/long")["left_s"], "progress")
    told = row("runs/long")
    assert told["state"] == "RUNNING" and 0 < told["done"] < 1 and told["left_s"] > 0
    assert re.search(rf"^{told['job']} +RUNNING ", invoke("jobs").stdout, re.MULTILINE)
    ask_slurm("scancel", told["job"])
    wait_for(lambda: ended("runs/long"), "the end of a cancelled run")
    assert row("runs/long")["left_s"] is None


# when time is up -----------------------------------------------------------------------------------------------


def test_a_run_told_that_its_time_is_up_goes_on_in_the_same_job(place):
    submit("toy.toml", "--site", "keeper.toml", "-o", "runs/kept")
    wait_for(lambda: begun("runs/kept"), "a first go")
    job = row("runs/kept")["job"]
    ask_slurm("scancel", "--batch", "--signal=USR2", job)
    wait_for(lambda: ended("runs/kept"), "a second go")
    assert begun("runs/kept") == ["afresh", "--resume"]
    assert (row("runs/kept")["job"], row("runs/kept")["state"]) == (job, "COMPLETED")


def test_a_run_that_comes_no_further_twice_is_given_up(place):
    submit("toy.toml", "--site", "stuck.toml", "-o", "runs/stuck")
    wait_for(lambda: ended("runs/stuck"), "the end of a run that never gets on")
    told = row("runs/stuck")
    assert told["state"] == "FAILED" and "ExitCode=75:0" in ask_slurm("scontrol", "show", "job", told["job"])
    assert "Restarts=1 " in ask_slurm("scontrol", "show", "job", told["job"])
    assert Path(told["log"]).read_text().count("two attempts of this job came no further") == 1


def test_a_cancelled_run_keeps_its_state_and_does_not_come_back(place):
    submit("toy.toml", "--site", "keeper.toml", "-o", "runs/cancelled")
    wait_for(lambda: begun("runs/cancelled"), "a first go")
    ask_slurm("scancel", row("runs/cancelled")["job"])
    wait_for(lambda: ended("runs/cancelled"), "the end of a cancelled run")
    time.sleep(8)  # longer than a requeued job waits here
    assert row("runs/cancelled")["state"] == "CANCELLED" and begun("runs/cancelled") == ["afresh"]
    assert Path("runs/cancelled/checkpoints/step-000000000100").is_dir()


@pytest.mark.slow
def test_slurm_tells_a_run_before_its_time_is_up(place):
    """Three minutes: the shortest limit that leaves a run a minute to begin, as Slurm may be a minute early."""
    submit("toy.toml", "--site", "keeper.toml", "-o", "runs/timed", "--time", "3")
    wait_for(lambda: ended("runs/timed"), "a second go", seconds=240)
    assert begun("runs/timed") == ["afresh", "--resume"] and row("runs/timed")["state"] == "COMPLETED"


# many ranks ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not RANKS, reason="this environment has no MPI: mpi4py and mpich")
def test_two_nodes_of_two_ranks_have_the_spikes_of_one(place):
    Path("ranks.toml").write_text(SITE + "tasks_per_node = 2\n")
    submit("toy.toml", "--site", "ranks.toml", "--nodes", 2, "-o", "runs/ranks")
    wait_for(lambda: ended("runs/ranks"), "four ranks")
    assert json.loads(Path("runs/ranks/summary.json").read_text())["ranks"] == 4
    assert invoke("run", "toy.toml", "-o", "one-rank", "--no-report").exit_code == 0
    assert digest("runs/ranks") == digest("one-rank")


@pytest.mark.skipif(not RANKS, reason="this environment has no MPI: mpi4py and mpich")
def test_a_run_on_two_nodes_stopped_half_way_goes_on_and_has_the_spikes_of_an_uninterrupted_one(place):
    """It is told when progress.json says 40 %, keeps its state, goes back into the queue, and ends in the same job."""
    Path("half.toml").write_text(TOY.format(duration=HALF_MS))
    Path("polite.toml").write_text(SITE + f"tasks_per_node = 2\nsetup = [{json.dumps(POLITE)}]\n")
    submit("half.toml", "--site", "polite.toml", "--nodes", 2, "-o", "runs/half")
    job = row("runs/half")["job"]
    wait_for(lambda: (row("runs/half")["done"] or 0) >= 0.4, "progress")
    ask_slurm("scancel", "--batch", "--signal=USR2", job)
    wait_for(lambda: ended("runs/half"), "a second go", 180)
    assert "Restarts=1 " in ask_slurm("scontrol", "show", "job", job) and row("runs/half")["state"] == "COMPLETED"
    log = Path(f"runs/half.slurm/{job}.log").read_text()
    (cut,) = re.findall(r"stopped and saved at (\S+) of", log)
    assert 0.4 <= float(cut) / (HALF_MS / 1000) <= 0.7
    assert f"going on from the checkpoint at {cut} s" in log
    assert json.loads(Path("runs/half/summary.json").read_text())["ranks"] == 4
    assert invoke("run", "half.toml", "-o", "whole", "--no-report").exit_code == 0
    assert digest("runs/half") == digest("whole")


@pytest.mark.slow
@pytest.mark.skipif(not RANKS, reason="this environment has no MPI: mpi4py and mpich")
def test_a_rank_that_is_killed_ends_the_job_on_all_nodes_and_is_named(place):
    """Within a minute: the witness of its node ends its neighbours, and srun the tasks of other nodes 30 s later."""
    Path("lost.toml").write_text(TOY.format(duration=HALF_MS * 10) + "checkpoint_every = 1.0\n")
    Path("polite.toml").write_text(SITE + f"tasks_per_node = 2\nsetup = [{json.dumps(POLITE)}]\n")
    submit("lost.toml", "--site", "polite.toml", "--nodes", 2, "-o", "runs/lost")
    wait_for(lambda: list(Path("runs/lost/checkpoints").glob("step-*")), "a checkpoint")
    began = time.monotonic()
    os.kill(task(3, "runs/lost"), signal.SIGKILL)
    wait_for(lambda: ended("runs/lost"), "the end of the other three")
    assert time.monotonic() - began < 60
    log = Path(row("runs/lost")["log"]).read_text()
    assert row("runs/lost")["state"] == "FAILED" and log.count("error: rank 3 of 4 (process") == 1
    assert "on node2) crashed or was killed" in log and "is good: go on with --resume -o runs/lost" in log


def task(number, run):
    """The process of one task of a run, on whichever node."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_text().split("\0")
            variables = (folder / "environ").read_text().split("\0")
            if run in words and "srun" not in words[0] and f"SLURM_PROCID={number}" in variables:
                return int(folder.name)
    raise AssertionError(f"no task {number} of {run}")


@pytest.mark.skipif(not RANKS, reason="this environment has no MPI: mpi4py and mpich")
def test_the_wrong_kind_of_mpi_ends_the_job_with_a_line_that_says_so(place):
    """MPICH understands pmi2, and not this one, which every Slurm of Debian has."""
    Path("wrong.toml").write_text(SITE.replace("pmi2", "cray_shasta") + "tasks_per_node = 2\n")
    submit("toy.toml", "--site", "wrong.toml", "--nodes", 2, "-o", "runs/wrong")
    wait_for(lambda: ended("runs/wrong"), "the end of four runs that do not know of each other")
    told = row("runs/wrong")
    errors = re.findall("^error: .*$", Path(told["log"]).read_text(), re.MULTILINE)
    assert told["state"] == "FAILED" and len(errors) == 1 and "--mpi=pmi2" in errors[0]
    assert not Path("runs/wrong").exists()


# what Slurm refuses --------------------------------------------------------------------------------------------

REFUSED = {
    "partition": ('partition = "gpu"\n', r"partition name specified\. .*partition = \"gpu\".*has: test\."),
    "mpi": ('mpi = "openmpi5"\n', r"mpi = \"openmpi5\", which this Slurm does not know\. Known: .*pmi2, pmix"),
    "gpus": ("gpus_per_node = 9\n", r"Slurm refused the job: Invalid generic resource \(gres\) specification"),
    "feature": ('constraint = "h100"\n', r"Slurm refused the job: Invalid feature specification\. .*constraint h100"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("dry", [False, True], ids=["submitted", "dry"])
def test_a_refusal_is_one_line_and_leaves_nothing(place, what, dry):
    lines, expected = REFUSED[what]
    Path("bad.toml").write_text(lines + ("" if what == "mpi" else 'mpi = "pmi2"\n'))
    arguments = ["toy.toml", "--site", "bad.toml", "-o", "refused/run", *(["--dry-run"] if dry else [])]
    result = invoke("submit", "run", *arguments)
    assert result.exit_code == 3 and not Path("refused").exists()
    assert result.stderr.count("\n") == 1 and re.search(expected, result.stderr), result.stderr


def test_a_dry_run_says_when_it_could_begin_and_writes_nothing(place):
    result = invoke("submit", "run", "toy.toml", "--site", "site.toml", "-o", "dry/run", "--nodes", 2, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "#SBATCH --nodes=2\n" in result.stdout and "to start at" in result.stderr
    assert not Path("dry").exists()
