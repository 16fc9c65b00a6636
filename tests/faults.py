"""Faults that the tests of errors seed: configs and Brain files as a user might have them, each broken in one way."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from dtb.brain_file import digest

REPOSITORY = Path(__file__).parents[1]
TOY = "[build_network]\nn_neurons = 600\nin_degree = 30\n[Simulation]\nthreads = 1\n[run]\nduration = 20\n"


def command(*arguments: object, folder: Path, **options) -> subprocess.CompletedProcess[str]:
    """The real command line in a process of its own, as a user in `folder` starts it."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **options.pop("environment", {})}
    return subprocess.run(
        [sys.executable, "-m", "dtb.cli", *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120, **options,
    )  # fmt: skip


def without_privileges() -> None:
    """In a child: give up what lets the superuser read and write in spite of permissions, so that they hold."""
    import ctypes

    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH; they go from the bounding set with exec
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def permissions_hold(folder: Path) -> bool:
    """Whether a child of `without_privileges` is refused what the permissions of a file forbid."""
    file = folder / "forbidden"
    file.write_text("x")
    file.chmod(0)
    done = subprocess.run(["cat", file], preexec_fn=without_privileges, capture_output=True, check=False)
    file.unlink()
    return done.returncode != 0


# Brain files ---------------------------------------------------------------------------------------------------


def edited(path: Path, edit: Callable[[h5py.File], object], sealed: bool = True) -> None:
    """A Brain file changed in place; sealed: with the checksum of its new content, as its maker would have it."""
    with h5py.File(path, "r+") as file:
        edit(file)
        if not sealed:
            return
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        file.attrs["sha256"] = np.bytes_(digest({name: file[name][...] for name in names}))


def value(name: str, index: int, new: float) -> Callable[[Path], None]:
    """One number of a dataset is another."""

    def edit(file: h5py.File) -> None:
        data = file[name][...]
        data[index] = new
        file[name][...] = data

    return lambda path: edited(path, edit)


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """A dataset is another one."""

    def edit(file: h5py.File) -> None:
        data = change(file[name][...])
        del file[name]
        file.create_dataset(name, data=data)

    return lambda path: edited(path, edit)


def without(name: str) -> Callable[[Path], None]:
    return lambda path: edited(path, lambda file: file.__delitem__(name))


def attribute(name: str, new: object) -> Callable[[Path], None]:
    return lambda path: edited(path, lambda file: file.attrs.modify(name, new), sealed=False)


def content(data: bytes) -> Callable[[Path], object]:
    """The file is another one altogether."""
    return lambda path: path.write_bytes(data)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bit_flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(3)


def label(number: int, text: bytes | None = None) -> Callable[[Path], None]:
    """A region has this label, or that of the next but one, which lies in the same hemisphere."""

    def change(labels: np.ndarray) -> np.ndarray:
        new = labels.tolist()
        new[number] = new[number + 2] if text is None else text
        return np.array(new, "S")

    return array("labels", change)


NIFTI = bytes([92, 1, 0, 0]) + bytes(340) + b"n+1\0" + bytes(4)  # size of the header, 348; magic at its end
DICOM = bytes(128) + b"DICM" + bytes(400)

BRAINS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {  # id: (fault, what the message says)
    "missing": (Path.unlink, ("no Brain file", "b.h5", "Check the path")),
    "a folder": (folder_instead, ("b.h5", "is a folder", "Give the path of the .h5 file")),
    "empty": (content(b""), ("b.h5", "an empty file", "Give the .h5 file")),
    "truncated": (truncated, ("b.h5", "is damaged", "bytes", "Restore it from a copy")),
    "one bit flipped": (bit_flipped, ("b.h5", "is damaged", "checksum", "Restore it from a copy")),
    "changed without its checksum": (
        lambda path: edited(path, lambda file: file["volume"].__setitem__(0, 5.0), sealed=False),
        ("b.h5", "SHA-256", "changed or damaged", "Make it again"),
    ),
    "a schema of the future": (attribute("schema_version", 2), ("schema_version is 2", "this dtb reads 1", "newer")),
    "some other HDF5 file": (other_hdf5, ("attribute format is missing", "this dtb reads 'dtb-brain'", "give one")),
    "a NIfTI image": (content(NIFTI), ("a NIfTI image", "no Brain file", "Give the .h5 file")),
    "a compressed NIfTI image": (content(gzip.compress(NIFTI)), ("a gzip archive", "NIfTI", "Give the .h5 file")),
    "a DICOM image": (content(DICOM), ("a DICOM image", "no Brain file", "Give the .h5 file")),
    "a zip of TVB": (content(b"PK\x03\x04" + bytes(99)), ("a zip archive", "no Brain file", "Give the .h5 file")),
    "a text": (content(TOY.encode()), ("no HDF5 file", "no Brain file", "Give the .h5 file")),
    "no volume": (without("volume"), ("'volume' is missing", "never made up", "Make the file again")),
    "no TR": (without("bold/rest/tr_s"), ("bold['rest']", "no TR", "Give it in seconds")),
    "TR in ms": (value("bold/rest/tr_s", 0, 720.0), ("bold['rest']", "TR of 720 s", "0.05 to 20", "0.72?")),
    "negative volume": (value("volume", 3, -5.0), ("volume of 'Frontal_Sup_2_R'", ": -5.", "leave it out")),
    "NaN in tracts": (value("tracts/weight", 3, np.nan), ("tract 'Precentral_L'", "NaN", "Find out")),
    "infinite length": (value("tracts/length", 3, np.inf), ("tract 'Precentral_L'", "infinite", "Find out")),
    "tract of no length": (value("tracts/length", 3, 0.0), ("tract 'Precentral_L'", "length 0", "Measure it")),
    "lengths in m": (array("tracts/length", lambda x: x / 1000), ("tracts.length", "most likely m", "Give mm")),
    "a region that does not exist": (value("tracts/post", 3, 9999), ("region number 9999 of 94", "Count from 0")),
    "fewer weights than tracts": (
        array("tracts/weight", lambda x: x[:-1]),
        ("'tracts/weight' has shape (8741,), not (8742,)", "Make the file again"),
    ),
    "BOLD of fewer regions": (
        array("bold/rest/data", lambda x: x[:, :-1]),
        ("'bold/rest/data' has shape (1200, 93), not (1200, 94)", "Make the file again"),
    ),
    "BOLD transposed": (
        array("bold/rest/data", lambda x: np.ascontiguousarray(x.T)),
        ("'bold/rest/data' has shape (94, 1200)", "(time, region)", "transpose it"),
    ),
    "volume in single precision": (
        array("volume", lambda x: x.astype("f4")),
        ("'volume' has type float32, allowed is float64", "Make the file again"),
    ),
    "one label twice": (label(0), ("labels[0] and labels[2]", "Give every region a label of its own")),
    "a label that is markup": (label(1, b"<img src=x>"), ("labels[1]: '<img src=x>'", "Use letters")),
    "an unknown hemisphere": (
        array("hemisphere", lambda x: np.array([b"left", *x[1:].tolist()])),
        ("hemisphere of 'Precentral_L'", "'left'", "Known: L, R, B"),
    ),
    "left and right swapped": (
        array("centroid", lambda x: x * [-1.0, 1.0, 1.0]),
        ("mean x is", "+x on the right", "flip x"),
    ),
    "a part of nobody": (
        lambda path: edited(path, lambda file: file.create_dataset("subject", data=1)),
        ("'subject' is not a part", "Leave it out"),
    ),
    "an asymmetric prior": (
        array("priors/group_fc", np.triu),
        ("priors['group_fc']", "differs from its transpose", "(M + Mᵀ)/2"),
    ),
}

# configs and options -------------------------------------------------------------------------------------------

CONFIGS: dict[str, tuple[bytes, tuple[str, ...]]] = {  # id: (file, what the message says)
    "empty": (b"", ("c.toml", "is empty", "[build_network] and [run]")),
    "a slip of syntax": (TOY.encode() + b"[Balloon\n", ("c.toml", "not TOML", "line 8", "Expected ']'")),
    "a decimal comma": (b"[run]\nduration = 0,5\n", ("c.toml", "not TOML", "line 2", "a point, not a comma")),
    "a key twice": (TOY.encode() + b"duration = 30\n", ("c.toml", "line 8", "twice", "leave out one")),
    "not UTF-8": (TOY.encode() + "# größer\n".encode("latin-1"), ("c.toml', line 8", "0xf6", "Save the file as UTF-8")),
    "a Brain file": (b"\x89HDF\r\n\x1a\n" + bytes(99), ("c.toml", "an HDF5 file", "Give a TOML file")),
    "a NIfTI image": (NIFTI, ("c.toml", "a NIfTI image", "Give a TOML file")),
    "too large": (b"# " + b"x" * 2**20, ("c.toml", "1,048,578 bytes", "at most 1,048,576", "right file?")),
    "no neurons": (b"[build_network]\n[run]\nduration = 20\n", ("[build_network]", "n_neurons is missing", "Add")),
    "no run": (b"[build_network]\nn_neurons = 600\n", ("[run] is missing", "Add the table [run]")),
    "unknown table": (TOY.encode() + b"[Ballon]\n", ("unknown table [Ballon]", "Did you mean 'Balloon'?", "Known:")),
    "unknown key": (
        TOY.encode() + b"[Recording]\nspike = []\n",
        ("[Recording]", "unknown key 'spike'", "Did you mean 'spikes'?", "Known:"),
    ),
    "a key outside of its table": (
        b"n_neurons = 600\n" + TOY.encode(),
        ("unknown key 'n_neurons'", "It belongs into [build_network]"),
    ),
    "a table that is none": (
        b"run = 3\n[build_network]\nn_neurons = 600\n",
        ("run is 3", "should be a table, [run]"),
    ),
    "BOLD without rates": (
        TOY.encode() + b"[Recording]\nrates = false\n[Balloon]\n",
        ("[Balloon] makes BOLD from the rates", "Set rates = true"),
    ),
}

OVERRIDES: dict[str, tuple[str, int, tuple[str, ...]]] = {  # id: (--set, exit code, what the message says)
    "no equals sign": ("Simulation.dt", 3, ("--set Simulation.dt", "no '='", "Write TABLE.key=value")),
    "no value": ("Simulation.dt=0,1", 3, ("--set Simulation.dt=0,1", "no TOML value")),
    "unknown key in --set": ("Simulation.dtt=1.0", 3, ("--set Simulation.dtt", "unknown key", "Did you mean 'dt'?")),
    "wrong type": ('Simulation.dt="1"', 3, ("--set Simulation.dt", 'is "1"', "a number")),
    "a whole number with a point": ("build_network.n_neurons=600.0", 3, ("is 600.0", "a whole number", "Write 600.")),
    "not a number": ("build_network.velocity=nan", 3, ("velocity", "is nan", "a finite number")),
    "seed out of range": ("Simulation.seed=-1", 3, ("seed", "is -1", "at least 0")),
    "seed too large": (f"build_network.seed={2**64}", 3, ("seed", f"is {2**64}", f"less than {2**64}")),
    "negative threads": ("Simulation.threads=-1", 3, ("threads", "is -1", "at least 0")),
    "threads by the thousand": (
        "Simulation.threads=100_000",
        3,
        ("[Simulation] threads is 100,000", "may use", "Set threads = 0"),
    ),
    "unknown backend": ("Simulation.backend=gpu", 3, ('is "gpu"', "'cpu'", "Did you mean 'cpu'?")),
    "duration below a step": ("run.duration=0.4", 3, ("[run] duration is 0.4 ms", "dt is 1 ms", "Raise it")),
    "negative duration": ("run.duration=-5", 3, ("duration", "is -5", "greater than 0")),
    "delay below dt": (
        "build_network.local_delay=0.5",
        3,
        ("delay of 'local.E'", "0.5 ms, shorter than dt = 1 ms", "Lower dt"),
    ),
    "delays without end": (
        "build_network.velocity=1e-6",
        3,
        ("a delay of", "steps", "fewer than 32,768", "Raise velocity"),
    ),
    "dt too small": ("Simulation.dt=1e-9", 3, ("refractoriness", "does not fit", "Raise dt")),
    "in-degree beyond integers": ("build_network.in_degree=1e6", 3, ("synapses", "131,328", "Lower in_degree")),
    "too few neurons": ("build_network.n_neurons=10", 3, ("n_neurons is 10", "at least 188")),
    "unknown microcircuit": ("build_network.microcircuit=columns", 3, ('is "columns"', "Did you mean 'column'?")),
    "bin of broken steps": (
        "Recording.bin=0.3",
        3,
        ("bin is 0.3 ms", "whole number of steps of 1.0 ms", "Change bin or dt"),
    ),
    "population that is not there": (
        'Recording.spikes=["precentral_L.E"]',
        3,
        ("spikes of Recording", "'precentral_L.E'", "mean 'Precentral_L.E'?"),
    ),
    "impossible region": (
        'Recording.membrane=["Atlantis"]',
        3,
        ("membrane of Recording", "'Atlantis'", "REGION.CLASS"),
    ),
    "SONATA without spikes": ("Recording.sonata=true", 3, ("sonata", "spikes is empty", "Name populations")),
    "a constant of no physiology": ("Balloon.tau=0.0", 3, ("[Balloon] tau is 0.0", "above 0")),
    "too large for memory": ("build_network.n_neurons=1_000_000_000_000", 4, ("TiB", "are free", "Lower n_neurons")),
}
