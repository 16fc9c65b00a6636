"""Scripts for Slurm, and what is refused before it is asked."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.launch import VERBS, Job, Submission, listed_mpi
from cluster.sites import shipped
from dtb.cli import app
from dtb.config import load_config

TOY = "[build_network]\nn_neurons = 600\n[Simulation]\nseed = 3\n[run]\nduration = 200\n"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder to work in, with a config, and no Slurm on the PATH."""
    (tmp_path / "toy.toml").write_text(TOY)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "bash").symlink_to(shutil.which("bash"))
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def job(site="local", nodes=1, out="runs/toy", **more):
    return Job("run", load_config("toy.toml"), site, nodes, out, **more)


def profile(name, text):
    Path(f"{name}.toml").write_text(text)
    return f"{name}.toml"


# scripts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [t for t in VERBS.values() if t])
def test_a_template_has_under_40_lines_and_no_absolute_path(template):
    text = shipped(template).read_text()
    assert len(text.splitlines()) < 40
    assert re.findall(r"(?<![\w.}\"/$])/\w[\w/]*", text.removeprefix("#!/bin/bash").replace("/dev/null", "")) == []


@pytest.mark.parametrize("site", ["cpu", "gpu4", "local"])
@pytest.mark.parametrize("array", [None, "8%4"])
def test_a_script_is_a_shell_script_without_open_ends(site, array):
    script = job(site, array=array, out="runs/it's 5 $HOME").script()
    assert "{{" not in script and "{%" not in script
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def options(script):
    return re.findall(r"^#SBATCH (.*)$", script, re.MULTILINE)


def test_what_a_profile_says_is_in_the_script():
    script = job("gpu4", nodes=3, time="2:00:00", array="8%4", dependency="afterok:12").script()
    expected = {
        "--job-name=dtb-toy", "--account=project", "--partition=gpu", "--nodes=3", "--ntasks-per-node=4",
        "--cpus-per-task=16", "--gpus-per-node=4", "--time=2:00:00", "--array=0-7%4", "--dependency=afterok:12",
        "--kill-on-invalid-dep=yes", "--output=runs/toy.slurm/%A_%a.log", "--open-mode=append",
        "--signal=B:USR2@300", "--requeue",
    }  # fmt: skip
    assert set(options(script)) == expected
    assert "srun --mpi=pmix apptainer exec --nv dtb.sif dtb run runs/toy.slurm/config.toml" in script


def test_modules_and_lines_of_shell_come_before_the_run():
    lines = job(profile("mine", 'modules = ["gcc/13"]\nsetup = ["source env.sh"]')).script().splitlines()
    at = [lines.index("module load gcc/13"), lines.index("source env.sh")]
    assert at[0] < at[1] < next(i for i, line in enumerate(lines) if line.startswith("srun "))


def test_the_installation_that_submits_is_the_one_that_runs():
    """By a path from the folder of the submission, if it is below that."""
    word = re.search(r"^srun --mpi=\w+ (\S+) run", job().script(), re.MULTILINE).group(1)
    assert os.access(word, os.X_OK) and Path(word).name == "dtb"


def test_seeds_of_an_array_count_up_from_that_of_the_config():
    script = job(array="8").script()
    (line,) = (line for line in script.splitlines() if line.startswith("seed="))
    shell = f"SLURM_ARRAY_TASK_ID=7; {line}; echo $seed"
    assert subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout == "10\n"
    assert "--set Simulation.seed=$seed" in script and "run=runs/toy/seed-$seed" in script


# what is refused -----------------------------------------------------------------------------------------------

REFUSED = {
    "nodes": (["--nodes", "0"], 3, r"nodes is 0\. A job needs at least 1"),
    "site": (["--site", "loca"], 3, r"unknown site 'loca'\. Did you mean 'local'\?"),
    "array": (["--array", "0"], 3, r"array is \"0\"\. Give a number of runs, 8"),
    "array of what": (["--array", "1-8"], 3, r"array is \"1-8\"\. Give a number of runs, 8"),
    "seed": (
        ["--array", "9", "--set", f"Simulation.seed={2**63 - 8}"],
        3,
        r"seed is 9223372036854775800, and an array",
    ),
    "time": (["--time", "later"], 3, r"time is \"later\"\. Write minutes"),
    "short": (["--time", "3"], 3, r"time is 3, but site 'local' tells runs .* Give at least --time 4 \(minutes\)"),
    "kind": (["--dependency", "then:5"], 3, r"dependency: \"then:5\" is not KIND:JOB"),
    "whom": (
        ["--dependency", "afterok:runs/first"],
        3,
        r"'runs/first' is neither the number of a job nor a run folder",
    ),
    "exists": (["-o", "."], 2, r"'\.' exists\. Choose another folder with -o"),
    "config": (["--set", "run.duraton=5"], 3, r"unknown key 'duraton'\. Did you mean 'duration'\?"),
    "brain": (["--set", "brain=mine.h5"], 3, r"no Brain file 'mine\.h5'"),
    "no Slurm": ([], 4, r"no Slurm here: no sbatch on the PATH"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_submitted_is_refused_in_one_line(what, place):
    arguments, code, expected = REFUSED[what]
    before = sorted(place.rglob("*"))
    site = [] if "--site" in arguments else ["--site", "local"]
    result = invoke("submit", "run", "toy.toml", *site, *arguments)
    assert result.exit_code == code and re.search(expected, result.stderr), result.output
    assert result.stderr.count("\n") == 1 and sorted(place.rglob("*")) == before


@pytest.mark.parametrize("verb", ["fit", "experiment"])
def test_verbs_to_come_are_refused_with_what_is_known(verb):
    result = invoke("submit", verb, "toy.toml", "--site", "local")
    assert result.exit_code == 3 and f"'{verb}' is not there yet. dtb submit knows so far: run" in result.stderr


def test_another_verb_is_nothing_to_submit():
    assert "'show' is nothing to submit" in invoke("submit", "show", "toy.toml", "--site", "local").stderr


def test_many_tasks_without_mpi_are_refused():
    with pytest.raises(ValueError, match="starts 2 runs that do not know of each other"):
        job(profile("mine", 'mpi = "none"'), nodes=2)


def test_a_submission_beside_a_run_that_is_gone_is_in_the_way():
    Path("runs/toy.slurm").mkdir(parents=True)
    with pytest.raises(FileExistsError, match=r"'runs/toy\.slurm' exists"):
        job()


def test_a_dry_run_needs_no_slurm_and_writes_nothing(place):
    before = sorted(place.rglob("*"))
    result = invoke("submit", "run", "toy.toml", "--site", "cpu", "--nodes", 2, "--dry-run")
    assert result.exit_code == 0 and "#SBATCH --nodes=2" in result.stdout and "no Slurm was asked" in result.stderr
    assert sorted(place.rglob("*")) == before


# parts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (  # slurm 23.02 with accounting
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n",
            'Slurm refused the job: Invalid account or account/partition combination specified. Site \'cpu\' has '
            'account = "project"; sacctmgr show associations lists yours.',
        ),
        ("sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates "
         "accounting/QOS policy (job submit limit, user's size and/or time limits)\n",
         "Slurm refused the job: Job violates accounting/QOS policy (job submit limit, user's size and/or time "
         "limits) (QOSMaxWallDurationPerJobLimit). Site 'cpu' has account = \"project\", no qos."),
        ("", "Slurm refused the job: nothing was said."),
    ],
)  # fmt: skip
def test_a_refusal_says_what_of_the_profile_it_is_about(said, expected):
    assert job("cpu").refusal(said) == expected


@pytest.mark.parametrize(
    "text",
    [
        "MPI plugin types are...\n\tpmix\n\tnone\n\tcray_shasta\n\tpmi2\nspecific pmix plugin versions: pmix_v4\n",
        "srun: MPI types are...\nsrun: pmix\nsrun: none\nsrun: cray_shasta\nsrun: pmi2\nsrun: pmix_v4\n",
    ],
    ids=["22.05", "20.11"],
)
def test_kinds_of_mpi_are_read_from_what_srun_prints(text):
    assert listed_mpi(text) == ["cray_shasta", "none", "pmi2", "pmix", "pmix_v4"]


def test_a_run_folder_stands_for_the_number_of_its_job():
    Path("runs/first.slurm").mkdir(parents=True)
    told = Submission(
        job="77", name="dtb-first", verb="run", site="local", run="../first", nodes=1, tasks=1, time="60",
        duration=200.0, submitted_utc="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    Path("runs/first.slurm/submission.json").write_text(told.model_dump_json())
    assert job(dependency="afterok:runs/first:12,singleton").dependency == "afterok:77:12,singleton"


def test_the_path_of_a_brain_holds_from_the_kept_config(place):
    (place / "mine.h5").write_bytes(b"")
    one = Job("run", load_config("toy.toml", ["brain=mine.h5"]), "local", 1, "runs/toy")
    one.folder.mkdir(parents=True)
    (one.folder / "config.toml").write_text(one.kept_config().to_toml())
    assert load_config(one.folder / "config.toml").brain == "mine.h5"
