"""The summary printed at the end of the demo."""

import pandas as pd

from workflow_scripts.results.best import best_table
from workflow_scripts.results.summary import main
from workflow_scripts.results.table import order, write_csv, write_table


def test_summary_names_starts_best_models_and_files(tmp_path, capsys):
    folder = tmp_path / "experiments" / "main"
    rows = [
        ("pre-1", "pretraining", "a", "MMCL", "", 1, 0.61, 0.93),
        ("pre-1", "pretraining", "a", "MMCL", "", 2, 0.62, 0.94),
        ("control-1", "baseline", "a", "MMCL", "", 1, 0.60, 0.03),
        ("control-1", "baseline", "a", "MMCL", "", 2, 0.63, 0.02),
        ("clean-1", "cleaning", "a", "MMCL", "cleanclip", 0, 0.62, 0.94),
        ("clean-1", "cleaning", "a", "MMCL", "cleanclip", 1, 0.66, 0.04),
        ("clean-1", "cleaning", "a", "MMCL", "cleanclip", 2, 0.77, 0.08),
        ("clean-2", "cleaning", "a", "MMCL", "mmcl", 1, 0.78, 0.5),
    ]
    columns = ["run", "kind", "start", "start_label", "defence", "epoch", "top1", "asr_top1"]
    metrics = order(
        pd.DataFrame(rows, columns=columns).assign(images=100, asr_images=97, learning_rate=0.001)
    )
    write_table(folder / "metrics", metrics)
    write_csv(folder / "best.csv", best_table(metrics, [0.05, 0.10], tolerance=0.01))
    (folder / "scatter.png").touch()
    main(["--results", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["MMCL,", "poisoned", "62.0%", "94.0%"]
    assert lines[2].split() == ["clean", "control", "63.0%", "2.0%"]
    assert lines[3].split()[3:5] == ["66.0%", "4.0%"]
    assert lines[3].endswith("learning rate 0.001, epoch 1")
    assert lines[4].endswith("no model qualifies")
    assert "77.0%" not in "".join(lines)
    assert any(line.startswith(f"  {folder / 'scatter.png'}") for line in lines)
    assert len(lines) < 20
