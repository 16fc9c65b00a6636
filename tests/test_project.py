"""The repository itself: what it says of itself is true, and what it ships is complete and clean."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import resources
from pathlib import Path

import pytest

import dtb

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("dtb", "cluster", "data_pipelines")
DOCUMENTS = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("dtb/data/*.md")]
TEXT = {"", ".c", ".cff", ".cu", ".cuh", ".hpp", ".json", ".md", ".py", ".sh", ".toml", ".yml"}  # suffixes to be read


def repository_files() -> list[Path]:
    """What is in the repository or would be added to it; all files where there is no git, as in an unpacked sdist."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
        files = [REPOSITORY / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        hidden = re.compile(r"(^|/)(__pycache__|runs|build|dist|\.venv|\.git|\.hypothesis|\.\w+_cache)/")
        files = [path for path in REPOSITORY.rglob("*") if not hidden.search(path.relative_to(REPOSITORY).as_posix())]
    return sorted(path for path in files if path.is_file() and path != Path(__file__))


def texts() -> dict[str, str]:
    files = [path for path in repository_files() if path.suffix in TEXT]
    return {str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in files}


# what the documents say ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_script_of_the_readme_runs_as_written(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    script = tmp_path / "readme.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n" + blocks[0], encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"10,000 neurons", done.stdout)
    assert re.search(r"^[1-9][\d,]+ spikes, digest [0-9a-f]{16}$", done.stdout, re.MULTILINE)
    assert re.search(r"r = -?0\.\d\d$", done.stdout.strip())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_of_the_documents_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_the_documents_name_exist(document):
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    named = re.findall(r"`((?:dtb|cluster|data_pipelines|tests|configs|benchmarks|docs)/[\w./-]*)`", text)
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


def test_every_decision_is_listed():
    folder = REPOSITORY / "docs" / "decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in folder.glob("[0-9]*.md") if f"({page.name})" not in listed] == []


def test_the_targets_that_the_readme_names_are_in_the_makefile():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"make ([a-z]+)", (REPOSITORY / "README.md").read_text(encoding="utf-8")))
    assert named == {"run", "test", "bench"}
    for target in (*named, "validate", "lint", "clean", "help"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_one_version_everywhere():
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE).group(1) == dtb.__version__
    assert f"## {dtb.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_is_imported_is_declared():
    """Third-party modules are dependencies, or belong to an extra, or come with one (llvmlite, cupy)."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    known = {re.match(r"[\w-]+", name).group().replace("-", "_") for group in groups for name in group}
    known |= {"llvmlite", "cupy", *PACKAGES, *sys.stdlib_module_names}
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert {name.partition(".")[0] for name in names} <= known, path


# what must not be in it ----------------------------------------------------------------------------------------

UNSAFE = {
    "pickle": r"\bpickle\.|^\s*(?:import|from) (?:pickle|cPickle|dill|joblib|marshal|shelve)\b",
    "allow_pickle": r"allow_pickle\s*=\s*(?!False)",
    "eval": r"(?<![\w.])(?:eval|exec)\(",
    "yaml.load": r"yaml\.(?:load|full_load|unsafe_load)\(",
    "shell": r"shell\s*=\s*True|os\.(?:system|popen)\(",
}


@pytest.mark.parametrize("what", UNSAFE)
def test_nothing_that_runs_what_it_reads(what):
    sources = {name: text for name, text in texts().items() if name.endswith(".py") and not name.startswith("tests/")}
    assert len(sources) > 40
    pattern = re.compile(UNSAFE[what], re.MULTILINE)
    assert [name for name, text in sources.items() if pattern.search(text)] == []


def test_no_path_of_a_machine():
    home = r"/(?:home|Users|root|work|mnt|scratch)/\w+|[A-Z]:\\\w+"
    assert [name for name, text in texts().items() if re.search(rf"(?<![\w.])(?:{home})", text)] == []


def test_no_package_registry_by_name():
    hosts = r"pypi\.|pythonhosted|anaconda\.org|conda-forge|--(?:extra-)?index-url|registry\.npmjs|docker\.io|ghcr\.io"
    assert [name for name, text in texts().items() if re.search(hosts, text)] == []


def test_no_subject_number():
    """HCP subjects have six digits. The shipped texts have none that stand alone."""
    near = ("dtb/data", "data_pipelines", "README")
    shipped = {name: text for name, text in texts().items() if name.startswith(near)}
    assert len(shipped) >= 4
    assert [name for name, text in shipped.items() if re.search(r"(?<![\d.,_])[1-9]\d{5}(?![\d.,_])", text)] == []


# what is shipped -----------------------------------------------------------------------------------------------

DATA = {
    "dtb/data/default_brain.h5",
    "dtb/data/HCP_TERMS.md",
    "dtb/data/SOURCE.md",
    "dtb/schemas/config.schema.json",
    "dtb/schemas/summary.schema.json",
}


def test_data_are_found_as_resources():
    for name in DATA:
        package, _, rest = name.partition("/")
        assert resources.files(package).joinpath(rest).is_file(), name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built by hatchling in this environment: no isolation, no network."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    for path in repository_files():
        target = tree / path.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    return zipfile.ZipFile(next((folder / "dist").glob("*.whl")))


def test_the_wheel_has_the_data_and_the_three_packages_only(wheel):
    names = set(wheel.namelist())
    assert names >= DATA | {"cluster/slurm/run.sh", "cluster/slurm/sites/local.toml"}
    info = f"digital_twin_brain-{dtb.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, info}
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/dtb/data/HCP_TERMS.md"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_states_its_licences_and_its_command(wheel):
    info = f"digital_twin_brain-{dtb.__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0 AND LicenseRef-HCP-Open-Access\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    assert "dtb = dtb.cli:app" in wheel.read(f"{info}/entry_points.txt").decode()
