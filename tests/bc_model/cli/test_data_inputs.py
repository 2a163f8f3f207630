"""``data summary --inputs``."""

import json
from pathlib import Path

from bc_model.inference.bundle import Bundle
from tests.bc_model.conftest import Command


def test_data_summary_counts_the_blocked_images(
    reference_bundle: Bundle, damaged_dataset: tuple[Path, list[str]], command_line: Command
) -> None:
    root, black = damaged_dataset
    options = ("data", "summary", root, "--inputs", reference_bundle.folder)
    code, text, _ = command_line(*options, "--json")
    assert code == 0
    found = json.loads(text)["inputs"]
    assert found["n_blocked"] >= 2
    assert set(black) <= {row["path"] for row in found["images"] if row["is_blocked"]}
    code, text, _ = command_line(*options)
    assert code == 0
    assert "Dark image: 2" in text
