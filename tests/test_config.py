"""Config files: their keys are the arguments of the Python names, their mistakes get one clear line each."""

import inspect
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dtb
import dtb.schemas
from dtb.config import TABLES, Config, load_config, toml_value
from dtb.network.build import MICROCIRCUITS
from dtb.network.neuron import CELLS
from dtb.observe.balloon import SETS

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))
SMALLEST = "[build_network]\nn_neurons = 2_000\n[run]\nduration = 100\n"
NOT_IN_TOML = {"brain", "network", "store"}  # made from other tables


@pytest.fixture
def written(tmp_path):
    def write(text, *overrides):
        (tmp_path / "c.toml").write_text(text, encoding="utf-8")
        return load_config(tmp_path / "c.toml", overrides)

    return write


@pytest.mark.parametrize("table", ["build_network", "Simulation", "Recording", "Balloon"])
def test_a_table_holds_exactly_the_arguments_and_defaults_of_its_python_name(table):
    arguments = {k: v for k, v in inspect.signature(getattr(dtb, table)).parameters.items() if k not in NOT_IN_TOML}
    fields = TABLES[table].model_fields
    assert set(fields) <= set(arguments)
    assert set(arguments) - set(fields) <= {"lesions", "comm", "partition"}  # not for configs
    for name, field in fields.items():
        default = arguments[name].default
        if default is inspect.Parameter.empty:
            assert field.is_required()
        else:
            assert field.default == (list(default) if isinstance(default, tuple) else default), name


def test_allowed_names_are_those_that_python_knows():
    def allowed(table, key):
        return set(TABLES[table].model_json_schema()["properties"][key]["enum"])

    assert allowed("build_network", "cell") == set(CELLS)
    assert allowed("build_network", "microcircuit") == set(MICROCIRCUITS)
    assert allowed("Balloon", "constants") == set(SETS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_describes_a_network(path):
    config = load_config(path)
    network = dtb.build_network(dtb.default_brain(), **config.build_network.keywords())
    assert network.n_neurons == config.build_network.n_neurons
    dtb.Recording(**config.Recording.keywords()).prepare(network, config.Simulation.dt)
    assert config.Balloon is not None
    dtb.Balloon(**config.Balloon.keywords())


def test_shipped_schemas_are_those_of_the_models():
    for name, text in dtb.schemas.generate().items():
        shipped = (dtb.schemas.FOLDER / name).read_text(encoding="utf-8")
        assert shipped == text, 'run: python -c "import dtb.schemas; dtb.schemas.write()"'


def test_shipped_configs_fulfil_the_published_schema():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(dtb.schemas.generate()["config.schema.json"])
    for path in CONFIGS:
        jsonschema.validate(tomllib.loads(path.read_text(encoding="utf-8")), schema)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_resolved_config_reads_back_as_itself(path, written):
    config = load_config(path)
    again = written(config.to_toml())
    assert again == config and again.hash == config.hash
    assert "kappa" not in config.to_toml()  # what was not given is not written


@given(
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
    )
)
def test_every_value_survives_toml(value):
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value


def test_the_hash_is_of_what_is_set_not_of_where_the_file_lies(written, tmp_path):
    base = written(SMALLEST)
    assert base.hash == written(SMALLEST + "[Simulation]\ndt = 1.0  # the default, spelled out").hash
    assert base.hash != written(SMALLEST, "Simulation.seed=2").hash
    assert written(SMALLEST, "brain=a/sub.h5").hash == written(SMALLEST, "brain=b/sub.h5").hash


def test_overrides_are_toml_values_and_plain_words(written):
    config = written(
        SMALLEST, "Simulation.dt=0.1", "Simulation.backend=reference", 'Recording.spikes=["*.E"]', "Balloon.tr_s=2.0"
    )
    assert config.Simulation.dt == 0.1 and config.Simulation.backend == "reference"
    assert config.Recording.spikes == ["*.E"] and config.Balloon.tr_s == 2.0


def test_a_brain_is_looked_for_beside_its_config(written, tmp_path):
    assert written('brain = "sub.h5"\n' + SMALLEST).brain == str(tmp_path / "sub.h5")
    assert written(SMALLEST, "brain=sub.h5").brain == "sub.h5"  # what the user types holds where the user is


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Simulaton]\ndt = 1.0", r"unknown table \[Simulaton\]. Did you mean 'Simulation'\? Known: \[build_"),
        ("[Simulation]\nthread = 1", r"c.toml, \[Simulation\]: unknown key 'thread'. Did you mean 'threads'\? Known:"),
        ('[Simulation]\nbackend = "gpu"', r"backend .* is \"gpu\"; it should be 'reference', .* Did you mean 'cpu'"),
        ('[Simulation]\ndt = "1"', r'dt \(step \[ms\]\) is "1"; it should be a number'),
        ("[Simulation]\ndt = -0.1", r"dt .* is -0.1; it should be greater than 0"),
        ("[Simulation]\ndt = inf", r"dt .* is inf; it should be a finite number"),
        ("[Simulation]\nseed = 1.5", r"seed .* is 1.5; it should be a whole number"),
        ("[Simulation]\nthreads = true", r"threads .* is true; it should be a whole number"),
        ('[Recording]\nrates = "all"', r"rates .* is \"all\"; it should be true or false or 'region' or 'population'"),
        ('[Recording]\nspikes = "a"', r'spikes .* is "a"; it should be a list'),
        ("[Recording]\nspikes = [1]", r"item 0 of spikes .* is 1; it should be a text in quotes"),
        ("[Recording]\nrates = false\n[Balloon]", r"\[Balloon\] makes BOLD from the rates.*Set rates = true"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_place_finding_and_remedy(written, text, expected):
    with pytest.raises(ValueError, match=expected) as error:
        written(SMALLEST + text)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n_neurons = 5\n" + SMALLEST, "unknown key 'n_neurons' outside of a table. It belongs into"),
        ("[run]\nduration = 1\n", r"\[build_network\] is missing. Add the table"),
        ("[build_network]\n[run]\nduration = 1\n", "n_neurons is missing: number of neurons of the whole brain. Add"),
        ("run = 3\n[build_network]\nn_neurons = 1", r"run is 3, but should be a table, \[run\]"),
        ("x = [", "c.toml' is not TOML: "),
    ],
)
def test_a_config_without_its_parts_says_which(written, text, expected):
    with pytest.raises(ValueError, match=expected):
        written(text)


def test_all_mistakes_are_told_at_once(written):
    with pytest.raises(ValueError) as error:
        written(SMALLEST + "[Simulation]\ndt = 0.0\nthreads = -1\n[Recording]\nbins = 1.0\n")
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("Simulation.dt", "Write TABLE.key=value"),
        ("Simulation.dt=0,1", "no TOML value"),
        ("Simulation.dtt=0.1", "--set Simulation.dtt: unknown key 'dtt'. Did you mean 'dt'"),
        ("Simulation.dt=0", "--set Simulation.dt: dt .* should be greater than 0"),
        ("dt=0.1", "--set dt: unknown key 'dt' outside of a table. It belongs into .Simulation"),
    ],
)
def test_a_wrong_override_is_named_as_such(written, override, expected):
    with pytest.raises(ValueError, match=expected):
        written(SMALLEST, override)


def test_a_config_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no config"):
        load_config(tmp_path / "no.toml")


def test_checkpoint_every_is_accepted(written):
    assert written(SMALLEST + "checkpoint_every = 600").run.checkpoint_every == 600
    assert isinstance(written(SMALLEST), Config)
