"""The command line as a user meets it: exit codes, messages, and what a run leaves behind."""

import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import dtb
import dtb.cli
import dtb.schemas
from dtb.brain_file import digest
from dtb.cli import app
from dtb.config import load_config
from dtb.engine.recording import Recording
from dtb.run import run_config
from dtb.run_checkpoints import Checkpointed, alone

REPOSITORY = Path(__file__).parents[1]
TOY = """
[build_network]
n_neurons = 600
in_degree = 30
[Simulation]
threads = 1
[Recording]
spikes = ["*.E"]
sonata = true
membrane = ["Precentral_L"]
[run]
duration = 200
[Balloon]
tr_s = 0.05
"""


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(TOY)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished toy run, and what the command printed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "c.toml").write_text(TOY)
    result = invoke("run", folder / "c.toml", "-o", folder / "run", "--debug")
    assert result.exit_code == 0, result.output
    return folder / "run", result.output


# a run ---------------------------------------------------------------------------------------------------------


def test_a_run_leaves_all_its_files(finished):
    folder, _ = finished
    stem = "bold/sub-default/func/sub-default_task-rest_desc-sim_timeseries"
    files = {str(f.relative_to(folder)) for f in folder.rglob("*") if "recording.zarr" not in str(f) and f.is_file()}
    expected = {"config.toml", "summary.json", "provenance.json", "report.html", "spikes.h5"}
    expected |= {"bold/dataset_description.json", "bold/README", "bold/.bidsignore"}
    assert files == expected | {f"{stem}.tsv", f"{stem}.json"}
    assert len(Recording.open(folder / "recording.zarr").region_rate) == 200


def test_the_last_lines_of_a_run_sum_it_up(finished):
    folder, printed = finished
    for text in ("600 neurons", "spikes/s", "ISI CV", "not a medical device", str(folder), "xarray.open_zarr("):
        assert text in printed
    assert json.loads((folder / "summary.json").read_text())["spike_digest"] in printed


def test_a_summary_fulfils_its_published_schema(finished):
    jsonschema = pytest.importorskip("jsonschema")
    summary = json.loads((finished[0] / "summary.json").read_text())
    jsonschema.validate(summary, json.loads((dtb.schemas.FOLDER / "summary.schema.json").read_text()))
    assert summary["status"] == "complete" and summary["spikes"] > 0 and summary["biological_s"] == 0.2
    assert summary["fc_correlation"] is None  # four scans, all of them in the onset
    assert summary["network_hash"] == dtb.build_network(dtb.default_brain(), 600, 30).digest


def test_a_summary_names_the_populations_that_fire_least_and_most(finished):
    """Rates are kept as float32, hence the tolerance."""
    folder, printed = finished
    recording, summary = Recording.open(folder / "recording.zarr"), json.loads((folder / "summary.json").read_text())
    rate = recording.population_rate.mean(axis=0)
    for key, value in (("slowest_population", rate.min()), ("fastest_population", rate.max())):
        said = summary[key]
        assert said["rate_hz"] == pytest.approx(value, rel=1e-5)
        assert rate[list(recording["population"]).index(said["name"])] == value
        assert said["name"] in printed


def test_the_bold_of_a_run_is_the_balloon_of_its_region_rates(finished):
    folder, _ = finished
    table = np.genfromtxt(next(folder.glob("bold/**/*.tsv")), names=True, deletechars="")
    about = json.loads(next(folder.glob("bold/sub-*/**/*.json")).read_text())
    assert table.dtype.names == dtb.default_brain().labels and about["RepetitionTime"] == 0.05
    rate = Recording.open(folder / "recording.zarr").region_rate
    expected = dtb.Balloon(tr_s=0.05).observe(rate, dt=1.0)
    np.testing.assert_allclose(np.array(table.tolist()), expected, rtol=1e-6)  # seven digits are written


def test_a_run_folder_runs_again_to_the_same_digests(finished, tmp_path):
    folder, _ = finished
    result = invoke(
        "run", folder / "config.toml", "-o", tmp_path / "again", "--no-report", "--set", "Simulation.threads=2"
    )
    assert result.exit_code == 0, result.output
    first, again = (json.loads((f / "summary.json").read_text()) for f in (folder, tmp_path / "again"))
    assert all(first[key] == again[key] for key in ("spike_digest", "state_digest", "spikes", "network_hash"))
    assert first["config_hash"] != again["config_hash"]  # the threads


def test_nothing_in_a_run_folder_names_a_person_machine_or_place(config, tmp_path):
    brain = tmp_path / "sub.h5"
    dtb.default_brain().save(brain)
    result = invoke("run", config, "-o", tmp_path / "run", "--set", f"brain={brain}", "--set", "run.duration=10")
    assert result.exit_code == 0, result.output
    canaries = {str(tmp_path), str(REPOSITORY), f"/{getpass.getuser()}"}
    canaries |= {name for name in [socket.gethostname()] if len(name) > 5}  # a short one is found in any binary file
    for file in (f for f in (tmp_path / "run").rglob("*") if f.is_file()):
        content = file.read_bytes()
        assert not [c for c in canaries if c.encode() in content], file
        assert file.stat().st_mode & 0o077 == 0, f"{file} of a person's run is readable by others"
    again = invoke("run", tmp_path / "run" / "config.toml", "-o", tmp_path / "again")
    assert again.exit_code == 3 and "add --set brain=PATH" in again.stderr
    again = invoke("run", tmp_path / "run" / "config.toml", "-o", tmp_path / "again", "--set", f"brain={brain}")
    assert again.exit_code == 0, again.output
    first, second = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("run", "again"))
    assert first["config_hash"] == second["config_hash"] and first["spike_digest"] == second["spike_digest"]


def test_provenance_names_source_terms_and_use(finished):
    content = json.loads((finished[0] / "provenance.json").read_text())
    assert "Research use only" in content["use"]
    assert all(content["brain"][key] for key in ("source", "terms", "citation", "sha256"))


def test_ctrl_c_keeps_what_was_recorded(config, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "dtb.cli", "run", str(config), "-o", str(out), "--set", "run.duration=1e7"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out / "recording.zarr" / "region_rate" / "c.0.0").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors  # saved, so that it can go on
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "interrupted" and "Run interrupted" in printed
    assert "This run was stopped by the user after" in (out / "report.html").read_text()
    assert summary["checkpoint_s"] == summary["biological_s"] and "--resume" in printed
    assert f"at {summary['biological_s']:g} s" in invoke("show", out).stdout
    assert len(Recording.open(out / "recording.zarr").region_rate) == round(summary["biological_s"] * 1000) > 0


def stopped_at(step, number):
    """Progress that sends a signal to this process when a run has come so far."""

    def progress(done, total):
        if done >= step and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    sent: list[int] = []
    return progress


SAME = {  # of a summary, whatever way a run came to its end
    "spike_digest", "state_digest", "spikes", "synaptic_events", "autapses_dropped", "isi_cv", "synchrony", "rate_hz",
    "mean_rate_hz", "slowest_population", "fastest_population", "scans", "biological_s", "status", "network_hash",
}  # fmt: skip


def test_a_run_goes_on_after_every_signal_as_if_there_had_been_none(config, tmp_path):
    """SIGTERM and SIGUSR2 leave a checkpoint, SIGINT results besides; in the end the folders hold the same bytes."""
    settings = load_config(config, ["run.duration=4000", "Recording.bin=2.0", "Balloon.tr_s=0.07"])
    whole = run_config(settings, tmp_path / "whole", report=False)
    out, told = tmp_path / "run", []
    for resume, step, number in ((False, 100, signal.SIGTERM), (True, 1200, signal.SIGUSR2)):
        with pytest.raises(Checkpointed, match="go on with --resume"):
            run_config(settings, out, progress=stopped_at(step, number), report=False, resume=resume, tell=told.append)
        assert not (out / "summary.json").exists()
        shown = invoke("show", out).stdout
        assert "Run unfinished" in shown and "go on with --resume" in shown
    other = load_config(config, ["run.duration=4000", "Recording.bin=2.0", "Balloon.tr_s=0.07", "Simulation.threads=2"])
    at = stopped_at(2500, signal.SIGINT)
    summary = run_config(other, out, progress=at, report=False, resume=True, tell=told.append)
    assert summary.status == "interrupted" and summary.checkpoint_s == summary.biological_s < 4
    assert (out / "spikes.h5").exists()
    third = load_config(
        config,
        ["run.duration=4000", "Recording.bin=2.0", "Balloon.tr_s=0.07", "Simulation.synapses='procedural'"],
    )
    summary = run_config(third, out, report=False, resume=True, tell=told.append)
    assert [text.startswith("going on from the checkpoint at ") for text in told] == [True] * 3
    assert summary.wall_s > summary.phases["run.advance"] > 0 and summary.checkpoint_s is None
    for name in SAME:
        assert getattr(summary, name, None) == getattr(whole, name, None), name
    one, other = (
        {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.suffix != ".h5"}
        for folder in (out, tmp_path / "whole")
    )
    for files in (one, other):  # when and with how many threads, which differ
        for name in ("summary.json", "provenance.json", "config.toml"):
            del files[Path(name)]
    assert one == other and len(one) > 20
    with h5py.File(out / "spikes.h5") as a, h5py.File(tmp_path / "whole" / "spikes.h5") as b:
        for name in ("timestamps", "node_ids"):
            path = next(iter(a["spikes"])) + "/" + name
            assert np.array_equal(a["spikes"][path], b["spikes"][path])


def test_a_run_that_is_told_to_stop_after_its_last_step_is_finished(config, tmp_path, monkeypatch):
    """As by a scheduler, while BOLD is made: what would keep its state now only has its results to write."""

    def told_to_stop(*arguments):
        for number in (signal.SIGUSR2, signal.SIGTERM):
            os.kill(os.getpid(), number)
        return observe(*arguments)

    observe = dtb.run.observe
    monkeypatch.setattr(dtb.run, "observe", told_to_stop)
    before = [signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)]
    summary = run_config(load_config(config), tmp_path / "run", report=False)
    assert summary.status == "complete" and (tmp_path / "run" / "summary.json").exists()
    assert [signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)] == before


def test_a_signal_that_launchers_repeat_is_one_and_a_later_one_acts_at_once(config, tmp_path, monkeypatch):
    """Twice at once, as a launcher passes on what a terminal sent to all, the run is saved; later it is cut off."""

    def twice(done, total):
        if done and not sent:
            sent.append(done)
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    sent: list[int] = []
    few = ["run.duration=3000"]
    summary = run_config(load_config(config, few), tmp_path / "run", progress=twice, report=False)
    assert summary.status == "interrupted" and summary.checkpoint_s is not None
    monkeypatch.setattr("dtb.run_checkpoints.AGAIN_S", -1.0)
    sent.clear()
    summary = run_config(load_config(config, few), tmp_path / "cut", progress=twice, report=False)
    assert summary.status == "interrupted" and summary.checkpoint_s is None


def test_a_complete_run_is_not_run_again_by_resume(finished, config):
    folder, _ = finished
    before = (folder / "summary.json").read_bytes()
    result = invoke("run", config, "-o", folder, "--resume", "--no-report")
    assert result.exit_code == 0 and "is complete" in result.stderr and "Run complete" in result.stdout
    assert (folder / "summary.json").read_bytes() == before


def test_resume_begins_where_there_is_nothing_to_go_on_from(config, tmp_path):
    few = ("--no-report", "--set", "run.duration=10", "--resume")
    assert invoke("run", config, "-o", tmp_path / "run", *few).exit_code == 0
    (tmp_path / "killed").mkdir()
    assert invoke("run", config, "-o", tmp_path / "killed", *few).exit_code == 0
    (tmp_path / "run" / "summary.json").unlink()
    result = invoke("run", config, "-o", tmp_path / "run", *few)
    assert result.exit_code == 0 and "no checkpoint in" in result.stderr and "beginning again" in result.stderr


def test_two_processes_do_not_run_in_one_folder(config, tmp_path):
    few = ("--no-report", "--set", "run.duration=10")
    out = tmp_path / "run"
    assert invoke("run", config, "-o", out, *few).exit_code == 0
    with alone(out):
        result = invoke("run", config, "-o", out, *few, "--force")
    assert result.exit_code == 2 and "another process is running in" in result.stderr
    assert (out / "summary.json").exists()


# refusals ------------------------------------------------------------------------------------------------------


def test_an_existing_folder_is_replaced_only_by_force_and_only_if_it_is_a_run(config, tmp_path):
    out = tmp_path / "run"
    few = ("--no-report", "--set", "run.duration=10")
    assert invoke("run", config, "-o", out, *few).exit_code == 0
    (out / "notes.txt").write_text("mine")
    refused = invoke("run", config, "-o", out, *few)
    assert refused.exit_code == 2 and "--force" in refused.stderr
    assert invoke("run", config, "-o", out, *few, "--force").exit_code == 0
    assert (out / "notes.txt").read_text() == "mine"
    refused = invoke("run", config, "-o", tmp_path, "--force")
    assert refused.exit_code == 2 and "not a run folder" in refused.stderr


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("Simulation.backend=gpu", 3, "Did you mean 'cpu'"),
        ('Recording.spikes=["Nowhere.E"]', 3, "no population 'Nowhere.E'"),
        ("build_network.n_neurons=10", 3, "needs at least 188"),
        ("build_network.local_delay=0.5", 3, "shorter than dt"),
        ("brain=no.h5", 3, "no Brain file"),
        ("build_network.n_neurons=1_000_000_000_000", 4, "are free"),
    ],
)
def test_what_cannot_run_is_refused_before_a_folder_is_made(config, tmp_path, override, code, message):
    result = invoke("run", config, "-o", tmp_path / "run", "--set", override)
    assert result.exit_code == code, result.output
    assert message in result.stderr and "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


def test_a_traceback_is_shown_only_with_debug(config, tmp_path):
    result = invoke("run", config, "-o", tmp_path / "run", "--set", "build_network.n_neurons=10", "--debug")
    assert result.exit_code == 3 and "Traceback" in result.stderr


def test_unknown_options_are_usage_errors():
    assert invoke("run").exit_code == 2
    assert invoke("fly").exit_code == 2


# show, validate, check, help -----------------------------------------------------------------------------------


def test_show_tells_a_brain_a_config_and_a_run(finished, config, tmp_path):
    folder, _ = finished
    assert "94" in invoke("show", "default").stdout
    assert "600 neurons" in invoke("show", config).stdout
    assert "Run complete" in invoke("show", folder).stdout
    dtb.default_brain().save(tmp_path / "b.h5")
    assert "not a medical device" in invoke("show", tmp_path / "b.h5").stdout
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "config.toml").write_text(TOY)
    assert "Run unfinished" in invoke("show", folder / "unfinished").stdout
    for wrong in ("nothing", __file__, tmp_path):
        assert invoke("show", wrong).exit_code == 3


def test_validate_prints_every_fault_with_its_fix(tmp_path):
    path = tmp_path / "b.h5"
    dtb.default_brain().save(path)
    assert invoke("brain", "validate", path).exit_code == 0
    with h5py.File(path, "r+") as file:
        file["volume"][0] = -1.0
        file["density"][1] = -1.0
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        file.attrs["sha256"] = np.bytes_(digest({name: file[name][...] for name in names}))
    result = invoke("brain", "validate", path)
    assert result.exit_code == 3 and "volume" in result.stdout and "density" in result.stdout
    assert "2 errors" in result.stdout


def test_check_passes_here():
    result = invoke("check")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("PASS") >= 5 and "FAIL" not in result.stdout
    assert "Slurm" in result.stdout and "backend cuda" in result.stdout


def test_help_is_quick_and_says_what_it_is_not_for():
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "dtb.cli", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        best = min(best, time.perf_counter() - begun)
    assert "not a medical device" in " ".join(done.stdout.split())
    assert best < 0.7  # s; 0.2 on the machine of development


def test_a_report_is_made_anew_and_only_of_a_finished_run(config, tmp_path):
    out = tmp_path / "run"
    assert invoke("run", config, "-o", out, "--no-report").exit_code == 0
    assert not (out / "report.html").exists()
    result = invoke("report", out)
    assert result.exit_code == 0 and result.stdout == f"{out / 'report.html'}\n" and (out / "report.html").is_file()
    assert invoke("report", tmp_path).exit_code == 3


def test_the_version_is_printed():
    assert invoke("--version").stdout == f"dtb {dtb.__version__}\n"


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(monkeypatch, capsys):
    progress = dtb.cli.ProgressLines(dt=0.5)
    progress(10, 100)
    assert capsys.readouterr().err == ""
    progress.last -= dtb.cli.LINE_EVERY
    progress(50, 100)
    assert "0.0 of 0.05 s simulated" in capsys.readouterr().err


# the formula of the summary ------------------------------------------------------------------------------------


def test_a_run_says_where_its_results_go_when_nothing_is_said(config, tmp_path):
    os.chdir(tmp_path)
    try:
        assert invoke("run", config, "--no-report", "--set", "run.duration=10").exit_code == 0
    finally:
        os.chdir(REPOSITORY)
    assert (tmp_path / "runs" / "c" / "summary.json").exists()
