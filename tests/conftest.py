"""What all tests share."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Path of a file or folder in the optional data folder: $DTB_SHARED_DATA, or shared/data beside the repository."""
    folder = Path(os.environ.get("DTB_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")

    def find(relative: str) -> Path:
        path = folder / relative
        if not path.exists():
            pytest.skip(f"{relative} is not in {folder}; set DTB_SHARED_DATA to the folder of real data")
        return path

    return find
