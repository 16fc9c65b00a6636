"""Importing is light and silent, and goes in one direction."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dtb

REPOSITORY = Path(__file__).parents[1]
HEAVY = (
    "numba", "cupy", "mpi4py", "matplotlib", "nilearn", "pandas", "xarray", "jinja2", "dask", "scipy",
    "zarr", "h5py", "pydantic", "typer", "numpy",
)  # fmt: skip

LAYERS = [  # each imports only from those above it
    ("dtb.theme",),
    ("dtb.brain", "dtb.brain_faults", "dtb.brain_file", "dtb.brain_parts", "dtb.data"),
    ("dtb.network",),
    ("dtb.engine",),
    ("dtb.observe",),
    ("dtb.assimilation",),
    ("dtb.experiments",),
    (
        "dtb.report",
        "dtb.config",
        "dtb.summary",
        "dtb.schemas",
        "dtb.progress",
        "dtb.run",
        "dtb.run_checkpoints",
        "dtb.check",
    ),
    ("cluster", "data_pipelines"),
    ("dtb.cli",),
]


def python(code):
    return subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)


def test_importing_dtb_loads_nothing_heavy_and_says_nothing():
    done = python(f"import sys, dtb; print([m for m in {HEAVY} if m in sys.modules])")
    assert done.stdout == "[]\n" and done.stderr == ""


def test_describing_a_network_compiles_nothing():
    code = "import sys, dtb; str(dtb.build_network(dtb.default_brain(), n_neurons=86_000_000_000, in_degree=556)); "
    heavy = HEAVY[: HEAVY.index("zarr")]
    assert python(code + f"print([m for m in {heavy} if m in sys.modules])").stdout == "[]\n"


def test_every_public_name_is_there():
    for name in dtb.__all__:
        assert getattr(dtb, name).__name__ == name
    assert set(dtb.__all__) == set(dtb._HOME)
    assert set(dtb.__all__) <= set(dir(dtb))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Braín'"):
        dtb.Braín  # noqa: B018


def layer(module):
    """Number of the layer of a module, None of what is not ours."""
    for number, names in enumerate(LAYERS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return number
    return None


def imports(tree):
    """Names of all imported modules, but for those that only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
        else:
            yield from imports(node)


FILES = sorted(f for package in ("dtb", "cluster", "data_pipelines") for f in (REPOSITORY / package).rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_imports_go_in_one_direction(file):
    module = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    mine = layer(module)
    if module == "dtb":
        return
    assert mine is not None, f"{module} has no layer: add it to LAYERS"
    for other in imports(ast.parse(file.read_text(encoding="utf-8"))):
        theirs = layer(other)
        assert theirs is None or theirs <= mine, f"{module} imports {other}, which is below it"
