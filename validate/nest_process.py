"""Asking NEST: arrays go out and come back as files, because NEST lives in an environment of its own."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from dtb.network.neuron import LIF, RECEPTORS

SCRIPT = Path(__file__).with_name("nest_side.py")


class Nest:
    """NEST, in the Python of its environment.

    Parameters
    ----------
    python : path
        Of an environment that has nest-simulator; `make validate` makes one.
    """

    def __init__(self, python: str | Path) -> None:
        self.python = python
        self.version = ""

    def ask(self, task: str, **given) -> dict[str, np.ndarray]:
        """What `nest_side.py` answers to a task."""
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
            np.savez(source, **given)
            command = [str(self.python), str(SCRIPT), task, str(source), str(target)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"NEST failed at '{task}':\n{done.stderr[-2000:]}")
            with np.load(target) as answer:
                result = dict(answer)
        self.version = str(result.pop("version"))
        return result


def cell_parameters(cell: LIF) -> dict[str, float]:
    """A cell in the names of iaf_cond_exp, which has the receptors AMPA and GABA_A and no others."""
    extra = [receptor for receptor, g in zip(RECEPTORS, cell.g, strict=True) if g and receptor in ("NMDA", "GABA_B")]
    if extra:
        raise ValueError(f"iaf_cond_exp has no receptor {extra[0]}; compare a cell with g = 0 there.")
    return {
        "C_m": cell.c_m, "g_L": cell.g_leak, "E_L": cell.e_leak, "V_th": cell.v_threshold, "V_reset": cell.v_reset,
        "t_ref": cell.t_ref, "E_ex": cell.e_rev[0], "E_in": cell.e_rev[2], "tau_syn_ex": cell.tau_syn[0],
        "tau_syn_in": cell.tau_syn[2],
    }  # fmt: skip
