"""What a recording offers to look at: labelled arrays of xarray, and drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from dtb.engine.recording import Recording
    from dtb.observe.balloon import Balloon

SETTLE = 2000.0  # ms left out of distributions, as in the statistics of a run: it starts far from its steady state
LABELS = ("gid", "neuron_population", "raster_population", "population_neurons")  # they tell what an index means


class Views:
    """The part of `Recording` that is for looking; nothing here changes what was kept.

    Every `plot_…` takes matplotlib axes and returns them; without axes it makes a figure of pyplot. The examples share
    one recording:

    Examples
    --------
    >>> import dtb
    >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
    >>> recording = dtb.Recording(membrane=["Precentral_L"], samples=1)
    >>> dtb.Simulation(network).run(500.0, recording=recording)
    """

    def dataset(self) -> xr.Dataset:
        """All that was kept so far, as a Dataset with labels and units; values are read when they are used.

        Dimensions: time, region, population; spike; raster_spike, raster_neuron; membrane_time, neuron. See the Notes
        of `Recording` for the arrays. Of a killed run it holds what the manifest vouches for.

        Examples
        --------
        >>> import dtb
        >>> recording = dtb.Recording()
        >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
        >>> dtb.Simulation(network).run(500.0, recording=recording)
        >>> rate = recording.dataset().region_rate.sel(region="Precentral_L", time=slice(100, 200))
        >>> rate.sizes["time"], rate.units
        (101, 'spikes/s')
        """
        import xarray as xr

        recording = cast("Recording", self)
        group = recording._group()
        data = xr.open_zarr(group.store, group=group.path or None, consolidated=False, chunks=None)
        for name in group.array_keys():
            dims = data[name].dims
            rows = recording._length(name)
            if dims and data.sizes[dims[0]] > rows:  # a kill between array and manifest
                data = data.isel({dims[0]: slice(rows)})
        return data.set_coords([name for name in LABELS if name in data])

    def bold(self, balloon: Balloon) -> xr.DataArray:
        """Simulated BOLD (time, region) of the rates of regions, with the time of each scan in s.

        Parameters
        ----------
        balloon : Balloon

        Examples
        --------
        >>> import dtb
        >>> recording = dtb.Recording()
        >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
        >>> dtb.Simulation(network).run(500.0, recording=recording)
        >>> recording.bold(dtb.Balloon(tr_s=0.1)).sizes
        Frozen({'time': 5, 'region': 94})
        """
        import xarray as xr

        recording = cast("Recording", self)
        regions = [str(name) for name in recording["region"]]
        state, scans = balloon.start(len(regions)), [np.zeros((0, len(regions)))]
        for rate in recording.read_blocks("region_rate"):
            state, taken = balloon.advance(state, rate, recording.bin)
            scans.append(taken)
        values = np.concatenate(scans)
        time = xr.Variable("time", (np.arange(len(values)) + 1) * balloon.tr_s, {"units": "s"})
        about = {"units": "1", "long_name": "relative change of the BOLD signal"}
        return xr.DataArray(values, {"time": time, "region": regions}, ("time", "region"), "bold", about)

    def plot_raster(
        self,
        ax: Axes | None = None,
        start: float | None = None,
        stop: float | None = None,
        order: Sequence[str] | None = None,
        colours: Mapping[str, Any] | None = None,
    ) -> Axes:
        """A mark for every spike: neurons of the raster, or of `spikes` if there is none, coloured by region.

        Parameters
        ----------
        ax : Axes or None
        start, stop : float or None [ms]
            The last second if not given.
        order : names of all regions, from the bottom up, or None
            Their order in the network if not given.
        colours : dict of region to colour, or None

        Examples
        --------
        >>> import dtb
        >>> recording = dtb.Recording()
        >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
        >>> dtb.Simulation(network).run(500.0, recording=recording)
        >>> recording.plot_raster(start=100, stop=400).get_ylabel()
        'neuron (1 to 1,000)'
        """
        from dtb.engine.recording_plots import raster

        return raster(cast("Recording", self), ax, start, stop, order, colours)

    def plot_rates(self, ax: Axes | None = None, smooth: float | None = None) -> Axes:
        """Mean rate of each cell class over time.

        Parameters
        ----------
        ax : Axes or None
        smooth : float or None [ms]
            Over which is averaged; if not given, so much that at most 1,000 points are drawn.

        Examples
        --------
        >>> import dtb
        >>> recording = dtb.Recording()
        >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
        >>> dtb.Simulation(network).run(500.0, recording=recording)
        >>> [text.get_text() for text in recording.plot_rates(smooth=5).get_legend().get_texts()]
        ['E', 'I']
        """
        from dtb.engine.recording_plots import rates

        return rates(cast("Recording", self), ax, smooth)

    def plot_isi(self, ax: Axes | None = None, settle: float = SETTLE) -> Axes:
        """Distribution of the intervals between spikes of a neuron, by cell class.

        Parameters
        ----------
        ax : Axes or None
        settle : float [ms]
            Left out at the start.

        Examples
        --------
        >>> import dtb
        >>> recording = dtb.Recording()
        >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
        >>> dtb.Simulation(network).run(500.0, recording=recording)
        >>> recording.plot_isi(settle=100).get_xlabel()
        'interval between spikes [ms]'
        """
        from dtb.engine.recording_plots import isi

        return isi(cast("Recording", self), ax, settle)

    def plot_rate_distribution(self, ax: Axes | None = None, settle: float = SETTLE) -> Axes:
        """Distribution of the rates of single neurons, by cell class.

        Parameters
        ----------
        ax : Axes or None
        settle : float [ms]
            Left out at the start, if the recording is longer.

        Examples
        --------
        >>> import dtb
        >>> recording = dtb.Recording()
        >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
        >>> dtb.Simulation(network).run(500.0, recording=recording)
        >>> recording.plot_rate_distribution().get_xlabel()
        'rate of a neuron [spikes/s]'
        """
        from dtb.engine.recording_plots import rate_distribution

        return rate_distribution(cast("Recording", self), ax, settle)

    def plot_membrane(
        self, neuron: int = 0, ax: Axes | None = None, start: float | None = None, stop: float | None = None
    ) -> Axes:
        """Membrane potential of one of the neurons in `membrane`; a spike is the fall from threshold to reset.

        Parameters
        ----------
        neuron : int
            Which of them: an index into the dimension `neuron` of `dataset()`.
        ax : Axes or None
        start, stop : float or None [ms]
            The last second if not given.

        Examples
        --------
        >>> import dtb
        >>> recording = dtb.Recording(membrane=["Precentral_L.E"], samples=1)
        >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
        >>> dtb.Simulation(network).run(500.0, recording=recording)
        >>> recording.plot_membrane().get_ylabel()
        'V [mV]'
        """
        from dtb.engine.recording_plots import membrane

        return membrane(cast("Recording", self), neuron, ax, start, stop)

    def plot_bold(self, balloon: Balloon, ax: Axes | None = None) -> Axes:
        """Carpet of simulated BOLD: regions over time, each less its mean and over its standard deviation.

        Parameters
        ----------
        balloon : Balloon
        ax : Axes or None

        Examples
        --------
        >>> import dtb
        >>> recording = dtb.Recording()
        >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
        >>> dtb.Simulation(network).run(500.0, recording=recording)
        >>> recording.plot_bold(dtb.Balloon(tr_s=0.1)).get_ylabel()
        'region (1 to 94)'
        """
        from dtb.engine.recording_plots import carpet

        data = self.bold(balloon)
        if not len(data):
            span = cast("Recording", self).span
            raise ValueError(f"{span[1] - span[0]:g} ms hold no scan of {balloon.tr_s:g} s. Simulate longer.")
        return carpet(data.values, data.time.values, ax)
