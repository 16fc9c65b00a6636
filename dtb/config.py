"""A run as a TOML file: each table holds the keyword arguments of the Python name in its brackets, and nothing else."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dtb.network.tiles import LANES, MAX_TILE

MAX_BYTES = 2**20  # of a config file; a larger one is some other file
SEED_END = 2**64

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=SEED_END)]


class Table(BaseModel):
    """What all tables have in common: no unknown keys, no guessing of types, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def keywords(self) -> dict[str, Any]:
        """The keyword arguments that were given a value."""
        return {name: value for name, value in self if value is not None}


class BuildNetworkTable(Table):
    """Arguments of dtb.build_network."""

    n_neurons: int = Field(gt=0, description="number of neurons of the whole brain")
    in_degree: Positive = Field(default=100.0, description="mean number of synapses that a neuron receives")
    microcircuit: Literal["ei", "column"] = Field(
        default="ei", description="cell classes of a region: 2, or 8 in the cortex"
    )
    cell: Literal["release2024", "nsr2023"] = Field(
        default="release2024", description="named parameter set of the neurons"
    )
    velocity: Positive = Field(default=3.0, description="of conduction along tracts [mm/ms]")
    local_delay: Positive = Field(default=1.0, description="of synapses within a region [ms]")
    min_delay: Positive | None = Field(
        default=None, description="shortest delay of tracts [ms]; local_delay if not given"
    )
    seed: Seed = Field(default=1, description="of the synapses")


class SimulationTable(Table):
    """Arguments of dtb.Simulation."""

    dt: Positive = Field(default=1.0, description="step [ms]")
    backend: Literal["reference", "cpu", "cuda"] = Field(default="cpu", description="hardware, and how it is used")
    threads: int = Field(default=0, ge=0, description="0 takes the cores of this process")
    synapses: Literal["auto", "stored", "procedural"] = Field(
        default="auto", description="kept in memory, or computed anew"
    )
    seed: Seed = Field(default=1, description="of initial state and noise")
    integrator: Literal["semi-implicit", "euler"] = Field(
        default="semi-implicit", description="of the membrane equation"
    )
    tile_size: int = Field(default=MAX_TILE, ge=LANES, le=MAX_TILE, description="neurons of a tile; changes only speed")


class RecordingTable(Table):
    """Arguments of dtb.Recording."""

    rates: bool | Literal["region", "population"] = Field(default=True, description="whose mean firing is kept")
    spikes: list[str] = Field(
        default=[], description="populations whose spikes are kept: REGION.CLASS, REGION or *.CLASS"
    )
    membrane: list[str] = Field(default=[], description="populations of whose neurons V and currents are kept")
    samples: int = Field(default=5, ge=1, description="neurons of each population in membrane")
    raster: int = Field(
        default=1000, ge=0, le=20_000, description="neurons of the whole network whose every spike is kept"
    )
    bin: Positive = Field(default=1.0, description="over which rates are means [ms]")
    sonata: bool = Field(default=False, description="also write the spikes as a SONATA file, spikes.h5")


class RunTable(Table):
    """How long a run lasts."""

    duration: Positive = Field(description="biological time [ms]")
    checkpoint_every: Positive = Field(
        default=600.0, description="wall time between checkpoints [s]: what a crash can cost"
    )


class MPICommTable(Table):
    """Arguments of cluster.mpi.MPIComm; used where a launcher starts several processes."""

    routing: Literal["two-level", "flat"] = Field(
        default="two-level", description="of spikes between ranks; changes only speed"
    )
    ranks_per_node: int | None = Field(
        default=None, ge=1, description="ranks that share memory; asked of MPI if not given"
    )


class BalloonTable(Table):
    """Arguments of dtb.Balloon."""

    tr_s: Positive = Field(default=0.72, description="time between scans [s]")
    constants: Literal["friston2003", "release2024"] = Field(
        default="friston2003", description="named set of constants"
    )
    kappa: Finite | None = Field(default=None, description="decay of the vasodilatory signal [1/s]")
    gamma: Finite | None = Field(default=None, description="feedback of flow [1/s²]")
    tau: Finite | None = Field(default=None, description="transit time of blood [s]")
    alpha: Finite | None = Field(default=None, description="stiffness of the vessels")
    rho: Finite | None = Field(default=None, description="oxygen extraction at rest")
    V0: Finite | None = Field(default=None, description="resting blood volume fraction")
    epsilon: Finite | None = Field(default=None, description="efficacy of firing [1/s² per spike/s]")
    k1: Finite | None = Field(default=None, description="first weight of the signal")
    k2: Finite | None = Field(default=None, description="second weight of the signal")
    k3: Finite | None = Field(default=None, description="third weight of the signal")


class Config(Table):
    """A whole run. Tables that are left out take their defaults; without [Balloon] no BOLD is made."""

    brain: str = Field(
        default="default", description='"default", or the path of a Brain file, from the folder of the config'
    )
    build_network: BuildNetworkTable
    Simulation: SimulationTable = SimulationTable()
    Recording: RecordingTable = RecordingTable()
    run: RunTable
    Balloon: BalloonTable | None = None
    MPIComm: MPICommTable | None = None

    @model_validator(mode="after")
    def _balloon_needs_rates(self) -> Config:
        if self.Balloon is not None and self.Recording.rates not in (True, "region"):
            raise ValueError(
                "[Balloon] makes BOLD from the rates of regions, which [Recording] leaves out. "
                'Set rates = true or "region" there, or remove [Balloon].'
            )
        return self

    @property
    def hash(self) -> str:
        """16 hex digits over all that is set, but for the name and place of a brain's file, and how ranks meet."""
        content = self.model_dump(exclude={"MPIComm"}) | {"brain": "default" if self.brain == "default" else "file"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """The resolved config, defaults included, as a file that `load_config` reads back."""
        lines = [f"brain = {toml_value(self.brain)}"]
        for name, table in self:
            if isinstance(table, Table):
                lines += ["", f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in table.keywords().items())]
        return "\n".join(lines) + "\n"


def toml_value(value: bool | float | str | Sequence[str]) -> str:
    """One value as TOML; JSON writes strings, numbers and lists the same way, but for the delete character."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")


def load_config(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Config:
    """Read a config; `overrides` are texts such as "Simulation.dt=0.1", whose values are TOML, too.

    The path of a brain comes back as one that holds from the current folder.
    """
    path = Path(path)
    content = read_toml(path)
    changed = set()
    for text in overrides:
        table, key, value = parse_override(text)
        changed.add((table, key))
        if table:
            into = content.setdefault(table, {})
            if not isinstance(into, dict):
                raise ValueError(f"{path}: {table} is {shown(into)}, but should be a table, [{table}].")
            into[key] = value
        else:
            content[key] = value
    config = check(content, str(path), changed)
    if config.brain == "default" or ("", "brain") in changed:
        return config
    return config.model_copy(update={"brain": os.path.normpath(path.parent / config.brain)})


def read_toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"there is no config '{path}'. Give a TOML file such as configs/rest.toml.")
    if not path.is_file():
        raise ValueError(f"'{path}' is a folder, no config. Give a TOML file, such as the config.toml of a run folder.")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"'{path}' has {path.stat().st_size:,} bytes, and a config at most {MAX_BYTES:,}. Is it the right file? "
            "A Brain file is given as --set brain=PATH."
        )
    try:
        content = path.read_bytes()
    except PermissionError:
        raise ValueError(f"'{path}' cannot be read: no permission. Ask its owner, or try chmod u+r.") from None
    return parse_toml(content, path)


def parse_toml(content: bytes, path: Path) -> dict[str, Any]:
    if b"\0" in content:  # in no text, and in the head of every image
        from dtb.brain_file import HEAD, looks_like

        raise ValueError(f"'{path}' is {looks_like(content[:HEAD]) or 'no text'}, so no config. Give a TOML file.")
    try:
        text = content.decode("utf-8-sig")  # some editors begin a file with a mark of its encoding
    except UnicodeDecodeError as error:
        line, byte = content[: error.start].count(b"\n") + 1, content[error.start]
        raise ValueError(f"'{path}', line {line}: byte 0x{byte:02x} is not UTF-8. Save the file as UTF-8.") from None
    if not text.strip():
        raise ValueError(f"'{path}' is empty. A config has at least the tables [build_network] and [run].")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"'{path}' is not TOML: {toml_fault(str(error))}.") from None


def toml_fault(message: str) -> str:
    """What tomllib says, with what to do about it."""
    remedies = {
        "Cannot overwrite a value": "a key is there twice, leave out one",
        "Cannot declare": "a table is there twice, make one of both",
        "Invalid value": "no value; texts stand in quotes, numbers have a point and not a comma",
        "Expected newline or end of document": "something follows the value; numbers have a point, not a comma",
        "Invalid statement": "neither KEY = value nor [TABLE] nor # comment",
    }
    remedy = next((remedy for start, remedy in remedies.items() if message.startswith(start)), "")
    found, _, place = message.partition(" (at ")
    return f"{place.rstrip(')')}: {remedy or found}" if place else found


def parse_override(text: str) -> tuple[str, str, Any]:
    """(table, key, value) of TABLE.key=value; the table is empty for a key outside of tables."""
    name, equals, value = text.partition("=")
    table, _, key = name.strip().rpartition(".")
    if not equals or not key or "." in table:
        what = f"'{name}' is no TABLE.key" if equals else "there is no '='"
        raise ValueError(f"--set {text}: {what}. Write TABLE.key=value, such as Simulation.dt=0.1.")
    try:
        return table, key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        if re.fullmatch(r"[\w.+/*-]+", value.strip()):  # a plain word: shells eat the quotes of a TOML string
            return table, key, value.strip()
        raise ValueError(f"--set {text}: {value} is no TOML value. Texts are quoted: {name}='\"…\"'.") from None


def check(content: dict[str, Any], where: str, changed: Iterable[tuple[str, str]] = ()) -> Config:
    """A Config of what a TOML file said, or one ValueError with a line for each mistake."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        faults: dict[tuple, list] = {}  # by table and key: a key of several types has an error for each
        for fault in error.errors():
            faults.setdefault(fault["loc"][:2], []).append(fault)
        lines = [explain(loc, found, where, set(changed)) for loc, found in faults.items()]
        raise ValueError("\n".join(lines)) from None


def explain(loc: tuple, faults: list, where: str, changed: set[tuple[str, str]]) -> str:
    """One line: where, what was found, what is allowed, what to do."""
    fault = faults[0]
    if not loc:
        return f"{where}: {str(fault['msg']).removeprefix('Value error, ')}"
    table, key = (str(loc[0]), str(loc[1])) if len(loc) > 1 else ("", str(loc[0]))
    place = f"{where}, [{table}]" if table else where
    if (table, key) in changed:
        place = f"--set {table}.{key}" if table else f"--set {key}"
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown {unknown(table, key, fault['input'])}"
    about = described(table, key)
    if fault["type"] == "missing":
        what = f"[{key}] is missing" if not table else f"{key} is missing: {about}"
        return f"{place}: {what}. Add {f'{key} = …' if table else f'the table [{key}]'}."
    value = fault["input"]
    if not table and key in TABLES:
        return f"{place}: {key} is {shown(value)}, but should be a table, [{key}]."
    allowed = " or ".join(dict.fromkeys(wording(f) for f in faults))
    hint = nearest(value, choices(faults))
    if isinstance(value, float) and value.is_integer() and any(f["type"] == "int_type" for f in faults):
        hint = f" Write {int(value)}."
    inside = fault["loc"][2:]
    item = f"item {inside[0]} of {key}" if inside and isinstance(inside[0], int) else key
    return f"{place}: {item} ({about}) is {shown(value)}; it should be {allowed}.{hint}"


def wording(fault: dict[str, Any]) -> str:
    """What pydantic says is allowed, in the words of TOML."""
    text = re.sub(r"^(Input should be|Value error,)( a valid)?( an?)? ?", "", fault["msg"])
    text = text.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    return {
        "boolean": "true or false",
        "number": "a number",
        "finite number": "a finite number",
        "integer": "a whole number",
        "string": 'a text in quotes, "…"',
        "list": 'a list, ["…", "…"]',
    }.get(text, text)


def choices(faults: list) -> list[str]:
    expected = " ".join(str(f.get("ctx", {}).get("expected", "")) for f in faults if f["type"] == "literal_error")
    return re.findall(r"'([^']+)'", expected)


def unknown(table: str, key: str, value: Any) -> str:
    known = list(Config.model_fields)
    if table:
        known = list(TABLES[table].model_fields)
        return f"key '{key}'.{nearest(key, known)} Known: {', '.join(known)}."
    tables = [name for name in known if name != "brain"]
    if isinstance(value, dict):
        return f"table [{key}].{nearest(key, tables)} Known: {', '.join(f'[{name}]' for name in tables)}."
    homes = [name for name in tables if key in TABLES[name].model_fields]
    hint = f" It belongs into [{homes[0]}]." if homes else nearest(key, ["brain"])
    return f"key '{key}' outside of a table.{hint} Known there: brain."


def nearest(name: Any, known: Sequence[str]) -> str:
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(str(name).lower(), lower, 1)
    return f" Did you mean '{lower[near[0]]}'?" if near else ""


def described(table: str, key: str) -> str:
    fields = TABLES[table].model_fields if table else Config.model_fields
    return (fields[key].description or "") if key in fields else ""


def shown(value: Any) -> str:
    """A value as it would stand in TOML, cut to a readable length."""
    text = toml_value(value) if isinstance(value, bool | int | str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


TABLES: dict[str, type[Table]] = {
    "build_network": BuildNetworkTable,
    "Simulation": SimulationTable,
    "Recording": RecordingTable,
    "run": RunTable,
    "Balloon": BalloonTable,
    "MPIComm": MPICommTable,
}
