"""Site profiles: what they may say, and what is said of mistakes."""

import pytest

from cluster.sites import Site, load_site, seconds, shipped


@pytest.mark.parametrize("name", sorted(p.stem for p in shipped("sites").glob("*.toml")))
def test_every_shipped_profile_is_valid_and_says_what_it_is(name):
    assert load_site(name).description


@pytest.mark.parametrize(
    ("time", "expected"),
    [("90", 5400), ("1:30", 90), ("1:30:00", 5400), ("1-12", 129_600), ("1-12:30", 131_400), ("2-00:00:01", 172_801)],
)
def test_times_are_read_as_slurm_reads_them(time, expected):
    """The six forms of man sbatch, --time."""
    assert seconds(time) == expected


@pytest.mark.parametrize("time", ["", "soon", "1:2:3:4", "-5", "0", "1-", "1.5"])
def test_a_time_that_slurm_would_not_read_is_refused(time):
    with pytest.raises(ValueError, match="H:M:S"):
        seconds(time)


@pytest.mark.parametrize(
    ("syntax", "kind", "expected"),
    [
        ("gres", None, "--gres=gpu:4"),
        ("gres", "a100", "--gres=gpu:a100:4"),
        ("gpus-per-node", "a100", "--gpus-per-node=a100:4"),
        ("gpus-per-task", None, "--gpus-per-task=2"),
    ],
)
def test_gpus_are_asked_for_as_the_site_wants_it(syntax, kind, expected):
    assert Site(tasks_per_node=2, gpus_per_node=4, gpu_syntax=syntax, gpu_type=kind).gpus() == [expected]


MISTAKES = {
    'acount = "x"': r"unknown key 'acount'\. Did you mean 'account'\? Known: description, account",
    "tasks_per_node = 0": r"tasks_per_node \(ranks on a node\) is 0; it should be at least 1",
    'tasks_per_node = "2"': r"tasks_per_node \(ranks on a node\) is \"2\"; it should be a whole number",
    'time = "noon"': r'time is "noon"\. Write minutes',
    'partition = "a b"': r"partition \(queue, by sinfo\) is \"a b\"; it should be on one line, and a word",
    'sbatch = ["exclusive"]': r"sbatch \(further options.*\) is .*; it should be an option such as \"--exclusive\"",
    'setup = ["a\\nb"]': r"setup .* should be on one line",
    'gpu_syntax = "gpu"': r"should be 'gres', 'gpus-per-node' or 'gpus-per-task'",
    'tasks_per_node = 3\ngpus_per_node = 4\ngpu_syntax = "gpus-per-task"': "4 over tasks_per_node = 3 is no whole",
}


@pytest.mark.parametrize("content", MISTAKES)
def test_a_mistake_in_a_profile_is_one_line_that_names_it(content, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=MISTAKES[content]) as raised:
        load_site(str(path))
    assert "\n" not in str(raised.value) and str(raised.value).startswith(str(path))


def test_an_unknown_site_is_told_the_nearest():
    with pytest.raises(ValueError, match=r"unknown site 'locl'\. Did you mean 'local'\? Known: cpu, gpu4, local\."):
        load_site("locl")


def test_a_profile_that_is_not_there_is_said_to_be_missing():
    with pytest.raises(FileNotFoundError, match=r"no site profile 'mine\.toml'"):
        load_site("mine.toml")


def test_own_folders_of_profiles_come_first(tmp_path, monkeypatch):
    (tmp_path / "local.toml").write_text('partition = "mine"')
    monkeypatch.setenv("DTB_SITES", str(tmp_path))
    assert load_site("local").partition == "mine" and load_site("cpu").partition == "compute"
