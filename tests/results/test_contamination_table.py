"""The contamination table has one row per start model and clean split."""

import json

import pandas as pd
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.results import contamination_table


def write(folder, name, **values):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(values))
    return str(path)


def test_each_start_and_split_has_a_row_with_its_counts(tmp_path):
    small = write(tmp_path, "small", pairs=1000, originals_of_victims=3, poisoned_left=0)
    large = write(tmp_path, "large", pairs=2000, originals_of_victims=7, poisoned_left=5)
    # Repeated matches of the same evaluation image are counted once.
    mine = write(tmp_path, "mine", pairs_in_evaluation=3, evaluation_images_in_pairs=2)
    none = write(tmp_path, "none", pairs_in_evaluation=0, evaluation_images_in_pairs=0)
    words = ["--starts", "a-1", "a-1", "b-2", "--reports", small, large, small]
    words += ["--duplicates", mine, mine, none, "--output", str(tmp_path / "leaks.csv")]
    contamination_table.main(words)
    table = pd.read_csv(tmp_path / "leaks.csv")
    assert list(table) == ["start", "pairs", "originals_of_victims", "poisoned_left", "duplicates"]
    assert table.to_numpy().tolist() == [
        ["a-1", 1000, 3, 0, 2],
        ["a-1", 2000, 7, 5, 2],
        ["b-2", 1000, 3, 0, 0],
    ]


def test_lists_of_different_lengths_and_missing_files_are_errors(tmp_path):
    report = write(tmp_path, "report", pairs=1, originals_of_victims=0, poisoned_left=0)
    words = ["--reports", report, "--output", str(tmp_path / "leaks.csv")]
    with pytest.raises(StepError, match="must have the same number of values"):
        contamination_table.main(["--starts", "a", "b", "--duplicates", report, *words])
    with pytest.raises(StepError, match=r"gone\.json does not exist"):
        contamination_table.main(
            ["--starts", "a", "--duplicates", str(tmp_path / "gone.json"), *words]
        )
