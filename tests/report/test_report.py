"""report.html: what is in it, what it says where something is missing, and what a browser makes of it."""

import dataclasses
import html
import json
import re
import shutil

import numpy as np
import pytest

import dtb
from dtb.brain import Brain
from dtb.config import load_config
from dtb.report.folder import open_run
from dtb.report.glass_brain import GlassBrain
from dtb.report.run import make_report, page_of
from dtb.report.tables import Measure
from dtb.run import run_config
from tests.browser import Chromium, find_chromium
from tests.synthetic import voxel_brain

# 600 neurons for 23 s: enough scans after the haemodynamic onset for functional connectivity
CONFIG = """
[build_network]
n_neurons = 600
in_degree = 30
[Simulation]
threads = 1
[Recording]
membrane = ["Precentral_L"]
samples = 1
[run]
duration = 23_000
[Balloon]
tr_s = 0.1
"""
SHORT = ("run.duration=100",)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "' onmouseover='alert(3)",
    "</style></title><svg onload=alert(4)>",
    "{{ 7*7 }} {% raise %}",
    "$\\frac{1}{$ a_b^c",
    "\u202eתור ימני\u202c",
    "https://example.org/x.png",
    "&lt;b&gt; &amp; \\N{BULLET}",
    "C:\\temp\\\u0007bell",
)


def run_in(folder, overrides=(), text=CONFIG, **keywords):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "c.toml").write_text(text)
    run_config(load_config(folder / "c.toml", overrides), folder / "run", **keywords)
    return folder / "run"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run with its report."""
    return run_in(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(finished):
    return (finished / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(finished):
    return open_run(finished)


def drawn_page(run):
    with GlassBrain() as glass:
        return page_of(run, glass)


def words(page):
    """The text of a page as a reader sees it."""
    body = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S)
    return " ".join(html.unescape(body).split())


# what is in it -------------------------------------------------------------------------------------------------


def test_a_report_shows_all_that_a_run_has(page):
    text = words(page)
    for wanted in (
        "Connectome of the person", "who feeds whom", "Spikes of 600 neurons", "Mean rate of every population",
        "Mean rate of each region on the glass brain", "coefficient of variation", "Membrane potential",
        "BOLD of each region over time", "Spectrum of BOLD", "Functional connectivity: correlation of BOLD",
        "10,000 shuffles, seed 0", "Not a fit", "ns per neuron-step", "ns per synaptic event", "Friston 2003",
        "Lemaréchal 2022", "HCP", "acknowledgement", "citation", "terms", "digest of all spikes",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert page.count("<figure>") == 12 and "No " not in re.findall(r'class="note"><bdi>(.{3})', page)


def test_a_report_says_on_top_what_was_simulated_and_what_it_is_not_for(page):
    top = words(page[: page.index("<nav")])
    assert "600 spiking neurons with 18,000 synapses in 94 regions, 23 s of simulated time" in top
    assert re.search(r"took [\d.,]+ s on 1 thread .* than real time", top)
    assert "Research use only; not a medical device." in top and "Research use only" in words(
        page[page.index("<footer") :]
    )


def test_a_report_is_one_file_that_names_no_other(page):
    pictures = re.findall(r'src="([^"]{0,40})', page)
    assert len(pictures) == 12 and all(re.match(r"data:image/(png|svg\+xml);base64,", p) for p in pictures)
    assert all(link.startswith(("#", "data:")) for link in re.findall(r'href="([^"]*)"', page))
    assert "<script" not in page and "url(" not in page and "@import" not in page
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert len(page) < 10e6


def test_every_figure_has_a_caption_and_words_for_those_who_do_not_see_it(page):
    figures = re.findall(r"<figure>(.*?)</figure>", page, flags=re.S)
    for number, figure in enumerate(figures, start=1):
        assert re.search(r'alt="[^"]{20,}"', figure) and f"<b>Figure {number}.</b>" in figure


def test_the_r_of_a_report_is_that_of_the_summary(finished, run, page):
    summary = json.loads((finished / "summary.json").read_text())
    assert f"r = {summary['fc_correlation']:.3f} (Pearson)" in words(page)
    assert run.simulated_fc is not None and len(run.late_bold) == summary["fc_scans"] == 30


def test_the_performance_table_divides_wall_time_by_neuron_steps_and_events(finished, page):
    summary = json.loads((finished / "summary.json").read_text())
    wall, steps = summary["phases"]["run"], 600 * 23_000
    row = re.search(r"run simulate ([\d.]+) ([\d.]+) ([\d,.]+) ([\d,.]+)", words(page))
    shown = [float(x.replace(",", "")) for x in row.groups()]
    assert shown[0] == pytest.approx(wall, abs=0.005)
    assert shown[2:] == pytest.approx([wall * 1e9 / steps, wall * 1e9 / summary["synaptic_events"]], abs=0.005)


def test_making_the_report_is_counted_in_the_phases(finished):
    phases = json.loads((finished / "summary.json").read_text())["phases"]
    assert 0 < phases["report"] < 60


def test_the_same_run_gives_the_same_page_but_for_its_own_time(finished, page):
    def without_times(text):
        return re.sub(r"this page .*? all [\d.]+", "", re.sub(r"(?<=\s)[\d.]+(?=\s)", "", words(text)))

    pictures = re.findall(r'src="([^"]+)"', page)
    again = make_report(finished).read_text(encoding="utf-8")
    assert re.findall(r'src="([^"]+)"', again) == pictures
    assert without_times(again) == without_times(page)


def test_a_measure_outside_of_its_range_is_said_to_be():
    assert "outside" in Measure("rate", 30.0, "spikes/s", 3, 10).verdict
    assert "within" in Measure("rate", 3.0, "spikes/s", 3, 10).verdict
    assert Measure("rate", None, "spikes/s", 3, 10).verdict == "not measured"
    assert Measure("rate", 5.0, "spikes/s").verdict == ""


# what is missing -----------------------------------------------------------------------------------------------


def test_a_report_says_what_was_not_recorded(tmp_path):
    bare = "rates = false\nraster = 0\n[run]\nduration = 50\n"
    folder = run_in(tmp_path, text=f"[build_network]\nn_neurons = 600\n[Recording]\n{bare}")
    text = words((folder / "report.html").read_text(encoding="utf-8"))
    for missing in ("No raster and no distributions", "No rates were kept", "No membrane was recorded", "No BOLD"):
        assert missing in text
    assert "ISI CV – 0.7 to 1.3 not measured" in text


def test_a_report_says_what_a_short_run_cannot_show(tmp_path):
    text = words((run_in(tmp_path, SHORT) / "report.html").read_text(encoding="utf-8"))
    assert "No carpet: 0.1 s hold 1 scans of 0.1 s" in text
    assert "No functional connectivity: 0 scans are left without the first 20 s; at least 10 are needed" in text


def test_a_report_of_regions_only_draws_them_without_classes(tmp_path):
    folder = run_in(tmp_path, (*SHORT, 'Recording.rates="region"', "Recording.membrane=[]"))
    text = words((folder / "report.html").read_text(encoding="utf-8"))
    assert "Mean rate of each region on the glass brain" in text and "rate of the slowest population" in text


def person(**changes):
    """The embedded brain with other parts."""
    brain = dtb.default_brain()
    parts = {entry.name: getattr(brain, entry.name) for entry in dataclasses.fields(Brain)}
    return Brain(**parts | changes)


def test_a_brain_without_a_recording_is_not_compared(run):
    text = words(drawn_page(dataclasses.replace(run, brain=person(bold={}))))
    assert "No comparison: this brain has no resting BOLD" in text and "Mantel" not in text
    assert "Recorded from this person" not in text


def test_centroids_outside_of_the_template_are_not_drawn_on_it(run):
    brain = dtb.default_brain()
    shifted = brain.centroid + np.array([0.0, 60.0, 0.0])
    text = words(drawn_page(dataclasses.replace(run, brain=person(centroid=shifted))))
    assert text.count("No glass brain: centroids of regions lie outside the MNI152 template") == 2
    assert "glass brain is the key" not in text


def test_a_brain_of_unknown_origin_is_said_to_be(run):
    told = {"brain": {"sha256": "0" * 64}}
    assert "does not state its source, terms, citation" in words(drawn_page(dataclasses.replace(run, provenance=told)))


def test_a_network_of_eight_classes_is_drawn_as_one_on_the_brain(tmp_path):
    overrides = (*SHORT, "build_network.microcircuit=column", "build_network.n_neurons=4000")
    text = words((run_in(tmp_path, overrides) / "report.html").read_text(encoding="utf-8"))
    assert "rate of L23E" in text and "Du, Vegh" in text and "Cell model of L23E" in text


def test_a_brain_of_thousands_of_regions_has_a_report(tmp_path):
    voxel_brain(n_voxels=2_500, n_pairs=40_000).save(tmp_path / "voxels.h5")
    text = f'brain = "{tmp_path / "voxels.h5"}"\n' + CONFIG.replace('membrane = ["Precentral_L"]', "")
    folder = run_in(tmp_path, (*SHORT, "build_network.n_neurons=10_000", "Balloon.tr_s=0.02"), text=text)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "2,500 regions are more than 2,000" in words(page) and len(page) < 10e6
    assert (folder / "report.html").stat().st_mode & 0o077 == 0  # a person's own


# faults --------------------------------------------------------------------------------------------------------


def test_what_is_no_finished_run_is_refused(finished, tmp_path):
    with pytest.raises(ValueError, match="is not a run folder"):
        make_report(tmp_path)
    copy = shutil.copytree(finished, tmp_path / "copy")
    (copy / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"unfinished: it has no summary\.json"):
        make_report(copy)
    (copy / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"summary\.json' is damaged"):
        make_report(copy)


def test_a_report_is_refused_if_the_brain_is_not_the_one_of_the_run(tmp_path):
    person(name="first").save(tmp_path / "b.h5")
    text = f'brain = "{tmp_path / "b.h5"}"\n{CONFIG}'
    folder = run_in(tmp_path, SHORT, text=text, report=False)
    assert not (folder / "report.html").exists() and "report" not in (folder / "summary.json").read_text()
    (tmp_path / "b.h5").rename(tmp_path / "moved.h5")
    with pytest.raises(FileNotFoundError, match="Say where it is: --brain PATH"):
        make_report(folder)
    with pytest.raises(ValueError, match=r"not the one that .* was made of"):
        make_report(folder, person(name="second"))
    assert make_report(folder, Brain.load(tmp_path / "moved.h5")).is_file()


# in a browser --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find_chromium() is None:
        pytest.skip("no Chromium here; Debian has it in the package chromium")
    with Chromium(tmp_path_factory.mktemp("browser") / "profile") as browser:
        yield browser


def visit(browser, file):
    """Open a page, and return what it asked for, pictures inside of it left out, and what it complained of."""
    for log in (browser.requests, browser.console, browser.dialogs):
        log.clear()
    browser.open(file.as_uri())
    return [url for url in browser.requests if not url.startswith("data:")], browser.console + browser.dialogs


def test_a_browser_shows_a_report_without_a_complaint_or_a_request(browser, finished):
    file = finished / "report.html"
    assert visit(browser, file) == ([file.as_uri()], [])
    shown = browser.evaluate("[...document.images].filter(i => i.complete && i.naturalWidth > 300).length")
    assert shown == 12
    assert browser.evaluate("document.title") == "Simulated brain “default”"
    anchors = browser.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    assert anchors is True


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_a_report_fits_a_window(browser, finished, width):
    browser.resize(width, 900)
    visit(browser, finished / "report.html")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_names_that_attack_a_page_are_only_text_in_it(browser, run, tmp_path):
    labels = tuple(f"{HOSTILE[k % len(HOSTILE)]} {k}" for k in range(len(run.labels)))
    recording = Renamed(run.recording, dict(zip(run.labels, labels, strict=True)))
    told = dict(zip(("sha256", "source", "terms", "name", "citation", "acknowledgement"), HOSTILE, strict=False))
    told = {"brain": told | {"statements": list(HOSTILE)}, "created_utc": HOSTILE[0]}
    hostile = dataclasses.replace(run, labels=labels, provenance=told, recording=recording, config_text=HOSTILE[0])
    file = tmp_path / "hostile.html"
    file.write_text(drawn_page(hostile), encoding="utf-8")
    assert visit(browser, file) == ([file.as_uri()], [])
    for selector in ("script", "svg", "[onerror]", "[onload]", "[onmouseover]", "iframe", "object"):
        assert browser.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length") == 0, selector
    assert browser.evaluate("document.images.length") == 12
    text = browser.evaluate("document.body.textContent")
    for name in HOSTILE:
        assert name in text, name
    assert browser.evaluate("document.title") == f"Simulated brain “{HOSTILE[3]}”"


def test_a_browser_test_would_see_a_script_a_request_and_an_error(browser, tmp_path):
    file = tmp_path / "bad.html"
    file.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('seen'); nothing.at.all</script>")
    requests, complaints = visit(browser, file)
    assert "http://127.0.0.1:9/x.png" in requests
    assert any("seen" in c for c in complaints) and any(c.startswith("exception") for c in complaints)


class Renamed:
    """A recording whose regions have other names; everything else is that of the original."""

    def __init__(self, recording, names):
        self._recording, self._names = recording, names

    def __getitem__(self, name):
        values = self._recording[name]
        if name == "region":
            return np.array([self._names[str(v)] for v in values], dtype=object)
        if name in ("population", "raster_population", "neuron_population"):
            split = [str(v).rpartition(".") for v in values]
            return np.array([f"{self._names[region]}.{cell}" for region, _, cell in split], dtype=object)
        return values

    def __contains__(self, name):
        return name in self._recording

    def __getattr__(self, name):
        method = getattr(type(self._recording), name, None)
        if name.startswith("plot_") and method is not None:
            return lambda *a, **k: method(self, *a, **k)  # draws with our names
        return getattr(self._recording, name)


# the glass brain -----------------------------------------------------------------------------------------------


def test_a_glass_brain_that_nobody_draws_on_ends_quietly():
    with GlassBrain() as glass:
        assert "rates" not in glass
    assert glass._process.returncode == 0


def test_a_glass_brain_says_why_it_could_not_be_drawn():
    with GlassBrain() as glass:
        glass.draw({"rates": {"place": [[0.0, 0.0, 0.0]]}})
        with pytest.raises(RuntimeError, match=r"could not be drawn: TypeError: rates\(\) missing"):
            glass["rates"]
