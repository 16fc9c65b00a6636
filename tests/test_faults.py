"""Seeded faults get one clear error each and leave the disk as it was; canaries are found in no output."""

import getpass
import json
import re
import resource
import shutil
import socket
import stat

import h5py
import numpy as np
import pytest
import zarr

import dtb
from dtb.engine.recording import Recording
from dtb.run import available_bytes
from tests.faults import (
    BRAINS,
    CONFIGS,
    OVERRIDES,
    TOY,
    attribute,
    bit_flipped,
    command,
    edited,
    permissions_hold,
    truncated,
    without_privileges,
)


def files_of(folder):
    """Everything in a folder by path: mode, and content of files."""
    there = sorted(folder.rglob("*"))
    return {str(f.relative_to(folder)): (f.stat().st_mode, f.read_bytes() if f.is_file() else None) for f in there}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "b.h5"
    dtb.default_brain().save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Where a user stands, with a config."""
    (tmp_path / "c.toml").write_text(TOY)
    return tmp_path


def refused(folder, *arguments, code, says, **options):
    """Run the command and check that it is refused in one sentence, and leaves no trace."""
    before = files_of(folder)
    done = command(*arguments, folder=folder, **options)
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert [text for text in says if text not in errors[0]] == [], errors[0]
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert len(errors[0]) < 500 and errors[0].endswith((".", "?"))
    assert files_of(folder) == before
    return done


# faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", CONFIGS)
def test_a_broken_config_gets_one_clear_error(folder, fault):
    data, says = CONFIGS[fault]
    (folder / "c.toml").write_bytes(data)
    refused(folder, "run", "c.toml", "-o", "out", code=3, says=says)


@pytest.mark.parametrize("fault", OVERRIDES)
def test_a_value_out_of_bounds_gets_one_clear_error(folder, fault):
    override, code, says = OVERRIDES[fault]
    refused(folder, "run", "c.toml", "-o", "out", "--set", override, code=code, says=says)


@pytest.mark.parametrize("fault", BRAINS)
def test_a_broken_brain_file_gets_one_clear_error(folder, good, fault):
    break_it, says = BRAINS[fault]
    shutil.copy(good, folder / "b.h5")
    break_it(folder / "b.h5")
    refused(folder, "run", "c.toml", "-o", "out", "--set", "brain=b.h5", code=3, says=says)


def test_a_config_that_is_not_there_is_named(folder):
    refused(folder, "run", "d.toml", code=3, says=("there is no config 'd.toml'", "configs/rest.toml"))


def test_a_folder_given_as_config_is_refused(folder):
    refused(folder, "run", ".", code=3, says=("'.' is a folder, no config", "Give a TOML file"))


def test_synapses_that_do_not_fit_the_memory_are_refused(folder):
    large = ("build_network.n_neurons=50_000_000", "build_network.in_degree=10_000.0", "Simulation.synapses=stored")
    options = [part for override in large for part in ("--set", override)]
    says = ("2.75 TiB", "stored synapses", "are free", 'Set synapses = "procedural"')
    refused(folder, "run", "c.toml", "-o", "out", *options, code=4, says=says)


def test_neurons_that_do_not_fit_the_memory_are_refused_with_a_number_of_ranks_that_does(folder):
    """The plan for so many ranks agrees: each fits the memory that is free here."""
    n = int(available_bytes() / 8)  # take five times the memory
    many = ("--set", f"build_network.n_neurons={n}", "--set", "Simulation.synapses=procedural")
    done = command("run", "c.toml", "-o", "out", *many, folder=folder)
    assert done.returncode == 4 and "are free" in done.stderr and not (folder / "out").exists()
    ranks = re.search(r"see dtb plan CONFIG --ranks ([\d]+)\)", done.stderr)[1]
    plan = command("plan", "c.toml", *many, "--ranks", ranks, "--device", "h200", "--json", folder=folder)
    memory = json.loads(plan.stdout)["memory_rank"]["max"]
    free = re.search(r"; ([\d.]+) (GiB|TiB) are free", done.stderr)
    assert memory - 1e9 < float(free[1]) * 2 ** (30 if free[2] == "GiB" else 40)  # 1e9: what h200 takes without neurons


def saved_run(folder, *options):
    """A run in 'out' that stopped before its job ended; Slurm's time says that this is now."""
    few = ("--set", "run.duration=5000", "--set", "run.checkpoint_every=0.001")
    environment = {"SLURM_JOB_END_TIME": "1"}
    done = command("run", "c.toml", "-o", "out", *few, *options, folder=folder, environment=environment)
    assert done.returncode == 75, done.stderr
    assert "go on with --resume" in done.stderr and "Traceback" not in done.stderr
    return few


def test_resuming_and_replacing_at_once_is_refused(folder):
    refused(folder, "run", "c.toml", "-o", "out", "--resume", "--force", code=2, says=("--resume", "--force", "one of"))


def test_resuming_in_a_folder_that_is_no_run_is_refused(folder):
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    says = ("'out' is not a run folder", "--resume", "Choose another")
    refused(folder, "run", "c.toml", "-o", "out", "--resume", code=2, says=says)


def test_resuming_with_another_config_is_refused(folder):
    few = saved_run(folder)
    for key, was, now in (("build_network.in_degree", "30.0", "31.0"), ("Recording.bin", "1.0", "2.0")):
        table, _, name = key.partition(".")
        says = (f"[{table}] {name} = {was}, here it is {now}", "the same config", "-o")
        refused(folder, "run", "c.toml", "-o", "out", "--resume", *few, "--set", f"{key}={now}", code=3, says=says)


def test_resuming_from_a_checkpoint_of_another_network_is_refused(folder):
    few = saved_run(folder)
    shutil.move(folder / "out", folder / "other")
    again = saved_run(folder, "--set", "build_network.seed=2")
    shutil.rmtree(folder / "out" / "checkpoints")
    shutil.move(folder / "other" / "checkpoints", folder / "out")
    says = ("is of another network", "run anew")
    options = (*again, "--set", "build_network.seed=2")
    refused(folder, "run", "c.toml", "-o", "out", "--resume", *options, code=3, says=says)
    assert few == again


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(folder):
    """Stopped twice, at the first chunk each time, so that there are two; when both are damaged, both are named."""
    few = saved_run(folder)
    done = command(
        "run", "c.toml", "-o", "out", "--resume", *few, folder=folder, environment={"SLURM_JOB_END_TIME": "1"}
    )  # fmt: skip
    older, newer = sorted((folder / "out" / "checkpoints").iterdir())
    assert done.returncode == 75 and f"checkpoint at {int(older.name[5:]) / 1000:g} s" in done.stderr
    bit_flipped(newer / "part-00000.bin")
    shutil.copytree(folder / "out", folder / "second")
    done = command("run", "c.toml", "-o", "out", "--resume", *few, folder=folder)
    assert done.returncode == 0, done.stderr
    assert f"{newer.name}' is damaged" in done.stderr and "The one before it is used" in done.stderr
    assert not (folder / "out" / "checkpoints").exists()
    truncated(folder / "second" / "checkpoints" / older.name / "part-00000.bin")
    says = (older.name, newer.name, "is damaged", "--force")
    refused(folder, "run", "c.toml", "-o", "second", "--resume", *few, code=3, says=says)


def test_a_disk_that_fills_up_at_a_checkpoint_names_the_one_before(folder):
    """The neurons' 15.6 kB fit the first limit, which chunks of the recording and later checkpoints pass."""
    few = saved_run(folder)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    before = files_of(folder / "out" / "checkpoints")
    done = command("run", "c.toml", "-o", "out", "--resume", *few, folder=folder, preexec_fn=limit)
    assert done.returncode == 4 and done.stderr.count("error: ") == 1, done.stderr
    assert "the disk is full" in done.stderr or "no file may grow" in done.stderr
    assert files_of(folder / "out" / "checkpoints") == before
    assert command("run", "c.toml", "-o", "out", "--resume", *few, folder=folder).returncode == 0


def test_a_checkpoint_folder_that_may_not_be_written_is_named_with_the_last_good_one(folder):
    if not permissions_hold(folder):
        pytest.skip("the superuser writes everywhere here")
    few = saved_run(folder)
    checkpoints = folder / "out" / "checkpoints"
    checkpoints.chmod(0o555)
    done = command(
        "run", "c.toml", "-o", "out", "--resume", *few, folder=folder, preexec_fn=without_privileges
    )  # fmt: skip
    checkpoints.chmod(0o755)
    assert done.returncode == 4 and done.stderr.count("error: ") == 1, done.stderr
    assert "no permission to write" in done.stderr and "The checkpoint before it, at" in done.stderr
    assert command("run", "c.toml", "-o", "out", "--resume", *few, folder=folder).returncode == 0


def test_an_output_folder_that_exists_is_left_alone(folder):
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    refused(folder, "run", "c.toml", "-o", "out", code=2, says=("'out' exists", "-o", "--force"))
    says = ("'out' is not a run folder", "Choose another")
    refused(folder, "run", "c.toml", "-o", "out", "--force", code=2, says=says)


def test_an_output_folder_inside_a_file_is_refused(folder):
    says = ("c.toml' is not a folder", "Choose another with -o")
    refused(folder, "run", "c.toml", "-o", "c.toml/out", code=2, says=says)


def test_a_forced_run_that_is_refused_keeps_the_earlier_one(folder):
    assert command("run", "c.toml", "-o", "out", folder=folder).returncode == 0
    for override, code, says in (("run.duration=0.4", 3, ("[run] duration",)), ("brain=no.h5", 3, ("no Brain file",))):
        refused(folder, "run", "c.toml", "-o", "out", "--force", "--set", override, code=code, says=says)


@pytest.mark.parametrize("which", ["c.toml", "b.h5"])
def test_a_file_that_may_not_be_read_is_refused(folder, good, which):
    if not permissions_hold(folder):
        pytest.skip("the superuser reads everything here")
    shutil.copy(good, folder / "b.h5")
    path = folder / which
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0)
    done = command(
        "run", "c.toml", "-o", "out", "--set", "brain=b.h5", folder=folder, preexec_fn=without_privileges
    )  # fmt: skip
    path.chmod(mode)
    assert done.returncode == 3 and done.stderr.count("error: ") == 1
    assert f"{which}' cannot be read: no permission" in done.stderr and "chmod u+r" in done.stderr
    assert not (folder / "out").exists()


def test_a_folder_that_may_not_be_written_is_refused(folder):
    if not permissions_hold(folder):
        pytest.skip("the superuser writes everywhere here")
    (folder / "locked").mkdir(mode=0o555)
    says = ("no permission to write into", "locked'", "Choose another folder with -o")
    arguments = ("run", "c.toml", "-o", "locked/deep/out")
    refused(folder, *arguments, code=4, says=says, preexec_fn=without_privileges)


@pytest.mark.parametrize("room", [100, 2_000, 20_000])
def test_a_disk_that_is_full_from_the_start_leaves_nothing(folder, room):
    """No file may have more bytes than `room`: as on a full disk, a write fails, in config, metadata or a chunk."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    options = ("--set", "Recording.spikes=['*.E']", "--set", "run.duration=1500")
    says = ("cannot write", "Make room", "-o")
    refused(folder, "run", "c.toml", "-o", "new/out", *options, code=4, says=says, preexec_fn=limit)


def test_a_run_that_fails_later_keeps_what_was_recorded_and_says_where(folder):
    """A chunk of rates is full after 11,155 steps; the first one of the membranes, after 65,536, passes the limit."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))

    few = ("build_network.n_neurons=188", "build_network.in_degree=2.0", "run.duration=70_000")
    regions = [f"'{name}'" for name in dtb.default_brain().labels[:6]]
    membrane = (f"Recording.membrane=[{', '.join(regions)}]", "Recording.rates=region")
    options = [part for override in (*few, *membrane) for part in ("--set", override)]
    done = command("run", "c.toml", "-o", "out", *options, folder=folder, preexec_fn=limit)
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("error: ") == 1 and "is kept: 'out/recording.zarr'" in done.stderr
    kept = Recording.open(folder / "out" / "recording.zarr")
    assert len(kept["time"]) == len(kept["region_rate"]) >= 11_155 and len(kept["V"]) == 0
    assert not np.isnan(kept["region_rate"]).any()
    assert "Run unfinished" in command("show", "out", folder=folder).stdout


def test_a_traceback_is_shown_only_when_asked_for(folder):
    done = command("run", "c.toml", "-o", "out", "--set", "run.duration=0.4", "--debug", folder=folder)
    assert done.returncode == 3 and "Traceback" in done.stderr


@pytest.mark.parametrize("arguments", [("run",), ("fly",), ("run", "c.toml", "--fast"), ("run", "c.toml", "d.toml")])
def test_what_the_command_line_does_not_know_is_a_usage_error(folder, arguments):
    before = files_of(folder)
    done = command(*arguments, folder=folder)
    assert done.returncode == 2 and "Usage:" in done.stderr and "Traceback" not in done.stderr
    assert files_of(folder) == before


@pytest.mark.parametrize(("verb", "path"), [("show", "b.h5"), ("show", "c.toml"), ("show", "."), ("validate", "b.h5")])
def test_other_commands_refuse_broken_files_too(folder, verb, path):
    (folder / "b.h5").write_bytes(b"broken")
    (folder / "c.toml").write_bytes(b"broken")
    arguments = ("brain", verb, path) if verb == "validate" else (verb, path)
    refused(folder, *arguments, code=3, says=(path,))


# canaries ------------------------------------------------------------------------------------------------------

NAME, BIRTH, RECORD = "Quillfeather", "1931-07-09", "MRN4417290"
HOME, USER, HOST = "homeofquill", "quilluser", "quillhost"
CANARIES = (NAME, BIRTH, RECORD, HOME, USER, HOST)


@pytest.fixture(scope="module")
def personal(tmp_path_factory):
    """A run of a person whose name, date of birth and number stand wherever they can; folder of the run, printed."""
    home = tmp_path_factory.mktemp(HOME)
    work = home / f"{NAME} {BIRTH}"
    (work / "scans").mkdir(parents=True)
    config, brain = work / f"{NAME}.toml", work / "scans" / f"{RECORD}.h5"
    config.write_text(f"# {NAME}, born {BIRTH}\nbrain = 'scans/{RECORD}.h5'\n{TOY}[Balloon]\ntr_s = 0.005\n")
    given = dtb.default_brain()
    provenance = {**given.provenance, "subject": NAME, "steps": [f"scan of {NAME}"], "born": BIRTH, "id": RECORD}
    bold = {name: dtb.brain.Bold(b.data, b.tr_s, NAME) for name, b in given.bold.items()}
    parts = {f: getattr(given, f) for f in ("labels", "hemisphere", "centroid", "kind", "volume", "tracts", "density")}
    receptors = {f"{NAME}.map": np.ones(94)}
    dtb.Brain(
        f"{NAME} {BIRTH}", **parts, bold=bold, provenance=provenance, receptors=receptors, priors={RECORD: np.eye(94)}
    ).save(brain)
    for name, text in (("subject", NAME), ("PatientBirthDate", BIRTH), ("path", str(home))):
        attribute(name, np.bytes_(text))(brain)
    edited(brain, lambda file: file["volume"].attrs.__setitem__("PatientName", NAME))
    environment = {"HOME": str(home), "USER": USER, "LOGNAME": USER, "HOSTNAME": HOST, "PWD": str(work)}
    recorded = ("Recording.spikes=['*.E']", "Recording.sonata=true", "Recording.membrane=['Precentral_L']")
    options = ["-o", "../out", *(part for override in recorded for part in ("--set", override))]
    done = command("run", config, *options, folder=work, environment=environment)
    assert done.returncode == 0, done.stderr
    return home / "out", done.stdout + done.stderr


def leaves(folder):
    """All that can be read of a run folder: names and bytes of files, chunks decompressed, HDF5 taken apart."""
    for path in folder.rglob("*"):
        yield path.name, str(path.relative_to(folder)).encode()
        if path.is_file():
            yield path.name, path.read_bytes()
        if path.suffix == ".zarr":
            group = zarr.open_group(path, mode="r")
            yield path.name, repr(dict(group.attrs)).encode()
            for name, item in group.arrays():
                data = np.asarray(item[:])
                text = " ".join(map(str, data.tolist())) if data.dtype.kind not in "iuf" else ""
                yield f"{path.name}/{name}", data.tobytes() + f"{text} {dict(item.attrs)}".encode()
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                told = [repr(dict(file.attrs))]
                file.visititems(lambda name, item, told=told: told.append(f"{name} {dict(item.attrs)}"))
                yield path.name, "\n".join(told).encode()


@pytest.mark.parametrize("canary", CANARIES)
def test_nothing_personal_is_found_in_any_output_of_a_run(personal, canary):
    folder, printed = personal
    assert canary not in printed
    assert [place for place, data in leaves(folder) if canary.encode() in data] == []


def test_no_output_names_the_machine_or_its_user(personal):
    folder, printed = personal
    real = {str(folder.parent), f"/{getpass.getuser()}/"}
    real |= {name for name in [socket.gethostname()] if len(name) > 5}  # a short one is found in any binary file
    assert [place for place, data in leaves(folder) if any(name.encode() in data for name in real)] == []
    assert not any(name in printed for name in real)


def test_the_search_for_canaries_finds_them(personal, tmp_path):
    """The search itself: a region's label, which is told on purpose, is found in compressed chunks and in HDF5."""
    folder, _ = personal
    found = {place for place, data in leaves(folder) if b"Precentral_L" in data}
    assert {"recording.zarr/region", "recording.zarr/neuron_population", "spikes.h5"} <= found


def test_results_of_a_person_are_for_their_owner_only(personal):
    folder, _ = personal
    assert [f for f in (folder, *folder.rglob("*")) if f.stat().st_mode & 0o077] == []
