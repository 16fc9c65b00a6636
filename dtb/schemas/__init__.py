"""The published JSON schemas, made from the models: config.schema.json and summary.schema.json.

After a change of the models:  python -c "import dtb.schemas; dtb.schemas.write()"
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def generate() -> dict[str, str]:
    """File name → text of each schema."""
    from dtb.config import Config
    from dtb.summary import Summary

    return {
        f"{name}.schema.json": json.dumps({"$schema": DRAFT} | model.model_json_schema(), indent=2, ensure_ascii=False)
        + "\n"
        for name, model in (("config", Config), ("summary", Summary))
    }


def write() -> None:
    """Bring the files beside this one up to date."""
    for name, text in generate().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
