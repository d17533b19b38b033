"""The results page: verdicts, embedded data, and behaviour in a browser."""

import hashlib
import json
import re
import shutil
import time

import numpy as np
import pandas as pd
import pytest

from tests.results.conftest import made_runs
from workflow_scripts.common.html import STYLE
from workflow_scripts.results.index import board, build, controls, leaderboard
from workflow_scripts.results.index.answer import answer
from workflow_scripts.results.index.attacks import attack_section
from workflow_scripts.results.index.data import level_styles
from workflow_scripts.results.index.runs import (
    NO_ATTACK,
    Run,
    attack_texts,
    setting_texts,
    start_texts,
    trial_text,
)
from workflow_scripts.results.table import write_csv, write_table

DIGESTS = {
    "vega.min.js": "8f6a3587cf8d4f42",
    "vega-lite.min.js": "35a9821df838825b",
    "tabulator.min.js": "ffac518cb793c672",
    "tabulator_simple.min.css": "edef8839235a4b6a",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_the_libraries_are_the_published_files(name):
    content = (build.ASSETS / name).read_bytes()
    assert hashlib.sha256(content).hexdigest().startswith(DIGESTS[name])


def test_the_pages_own_javascript_stays_small():
    assert len((build.ASSETS / "explorer.js").read_text().splitlines()) < 300


def test_different_attacks_have_different_names_and_none_is_a_clean_control():
    patch = {"trigger": {"name": "yellow"}, "victims": "random", "poisoned": 9, "seed": 0}
    attacks = [
        patch,
        patch | {"captions": {"name": "natural"}},
        patch | {"trigger": {"name": "none"}, "victims": {"name": "instance", "number": 3}},
        patch | {"parts": [patch, patch | {"trigger": {"name": "blended"}}]},
        patch | {"poisoned": 0},
    ]
    for order in (attacks, attacks[::-1]):
        texts = attack_texts([Run({}, {"spec": {"attack": one}}, None) for one in order])
        assert len(set(texts)) == 5
        assert texts[order.index(attacks[-1])] == NO_ATTACK
        assert texts[order.index(attacks[2])].startswith("instance")
        assert texts[order.index(attacks[3])].startswith("yellow patch + blended noise")


def test_attacks_are_named_without_paths_unless_they_differ_only_in_them():
    learned = {"trigger": {"name": "patch", "patch": "R/one/a.safetensors"}, "victims": "random",
               "poisoned": 9}  # fmt: skip
    other = learned | {"trigger": {"name": "patch", "patch": "R/other/a.safetensors"}}
    near = {"trigger": {"name": "random"}, "victims": {"name": "near_target"}, "poisoned": 300}

    def texts(*attacks):
        return attack_texts([Run({}, {"spec": {"attack": one}}, None) for one in attacks])

    first, second = texts(learned, near)
    assert first == "learned patch"
    assert second == "random patch (victims: near target, 300 poisoned pairs)"
    assert len(set(texts(learned, other))) == 2


def replicates(asr, accuracy, start=0.70, images=50_000):
    """Return cleaned models, one per pair of start model and seed, and their start models."""
    n = len(asr)
    models = pd.DataFrame(
        {"run": [f"r{k}" for k in range(n)], "defence": "D", "setting": "", "start_label": "S",
         "dataset": "d", "epochs": 1, "pairs": 10, "attack": "patch", "seed": 0, "split": "t",
         "hours": 0.5, "passes": 9.0, "knowledge": "",
         "start": [f"s{k}" for k in range(n)], "start_seed": range(n), "epoch": 1,
         "learning_rate": 1e-3, "trial": "0.001",
         "top1": accuracy, "asr_top1": asr, "triggered_top1": 0.4, "images": images,
         "asr_images": images}
    )  # fmt: skip
    return models, pd.DataFrame({"top1": start, "asr_top1": 0.99}, index=models["start"])


@pytest.mark.parametrize(
    ("asr", "accuracy", "verdict"),
    [
        ([0.01, 0.012, 0.011], [0.70, 0.70, 0.70], "holds"),
        ([0.01], [0.70], "undecided"),  # one start model
        ([0.01, 0.20, 0.02], [0.70, 0.70, 0.70], "undecided"),
        ([0.40, 0.41, 0.42], [0.70, 0.70, 0.70], "fails"),
        ([0.40], [0.70], "undecided"),
        ([0.01, 0.01, 0.01], [0.50, 0.51, 0.50], "fails"),
    ],
)
def test_a_verdict_needs_both_limits(asr, accuracy, verdict):
    (row,) = leaderboard.leaderboard(*replicates(asr, accuracy))
    assert row["oracle"].verdict == verdict


def test_oracle_free_selection_excludes_models_far_below_the_start():
    (row,) = leaderboard.leaderboard(*replicates([0.0], [0.5]))
    assert (row["free"].chosen, row["free"].meets) == (0, False)


def test_a_row_shows_its_worst_attack_and_excludes_unlearned_ones():
    models, starts = replicates([0.01, 0.30, 0.0], [0.7, 0.7, 0.7])
    models["attack"] = ["patch", "blend", "warp"]
    starts.loc["s2", "asr_top1"] = 0.01
    (row,) = leaderboard.leaderboard(models, starts)
    assert row["oracle"].attack == "blend"
    assert (row["attacks"], row["unlearned"]) == (["patch", "blend"], ["warp"])


def test_a_defence_holds_only_if_it_holds_against_all_attacks():
    models, starts = replicates([0.02, 0.021, 0.01, 0.011], [0.695, 0.695, 0.60, 0.601])
    models["attack"] = ["patch", "patch", "blend", "blend"]
    (row,) = leaderboard.leaderboard(models, starts)
    assert (row["oracle"].attack, row["oracle"].verdict) == ("blend", "fails")
    starts.loc["s2", "top1"] = 0.64
    (row,) = leaderboard.leaderboard(models, starts)
    lead, group, _ = answer([row | dict.fromkeys(("free_compared", "oracle_compared"))])
    assert "accuracy 67.0" in group, "the mean of the start models with this attack"
    assert "and the accuracy by -7.0 points" in lead


def test_few_images_leave_a_verdict_undecided():
    models, starts = replicates([0.01, 0.01, 0.01], [0.69, 0.69, 0.69], images=400)
    (row,) = leaderboard.leaderboard(models, starts)
    assert row["oracle"].verdict == "undecided"
    assert row["oracle"].loss[2] > 0.04


def test_other_clean_splits_are_replicates_and_not_more_tries():
    models, starts = replicates([0.01, 0.04], [0.70, 0.69])
    models = models.assign(start="s0", split=["t", "u"])
    (row,) = leaderboard.leaderboard(models, starts)
    assert (row["replicates"], row["oracle"].chosen) == (2, 2)


def test_start_models_of_one_label_that_differ_in_more_than_the_seed_are_told_apart():
    def of(seed, taken, epochs=4):
        row = {"run": f"p{seed}-{epochs}", "kind": "cleaning", "start_label": "MMCL",
               "start": f"p{seed}-{epochs}{taken}", "learning_rate": 1e-3}  # fmt: skip
        spec = record(row)["spec"] | {"seed": seed, "epochs": epochs}
        return Run(row, {"spec": spec}, None)

    def texts(*runs):
        return start_texts(runs, runs)

    assert texts(of(0, "/epoch-2"), of(1, "/epoch-2")) == ["MMCL", "MMCL"]
    assert texts(of(0, "/matches-aa"), of(1, "/matches-bb")) == ["MMCL", "MMCL"]
    assert texts(of(0, ""), of(0, "/epoch-2")) == [
        "MMCL (start epoch last)",
        "MMCL (start epoch 2)",
    ]
    assert texts(of(0, "", 4), of(1, "", 8)) == ["MMCL (epochs 4)", "MMCL (epochs 8)"]


def test_start_models_that_differ_only_in_their_attack_are_of_one_kind():
    def of(label, target, epochs=4, dataset="demo", start=None):
        row = {"run": target, "kind": "cleaning", "start_label": label, "start": target,
               "learning_rate": 1e-3}  # fmt: skip
        attack = {"target": target, "poisoned": 0 if target == "none" else 9}
        inputs = {"manifest": f"R/attacks/{dataset}-x-0/manifest.parquet", "start": start}
        spec = record(row)["spec"] | {"attack": attack, "epochs": epochs, "inputs": inputs}
        return Run(row, {"spec": spec}, None)

    runs = [of("MMCL", "a"), of("MMCL, warped", "b"), of("MMCL, long", "a", 8), of("Clean", "none")]
    both = "MMCL / MMCL, warped"
    assert start_texts(runs, runs) == [both, both, "MMCL, long", "Clean"]
    runs = [of("CC6M", "a", dataset="cc6m"), of("CC3M", "b", dataset="cc3m")]
    assert start_texts(runs, runs) == ["CC6M", "CC3M"]
    runs = [of("M", "a", start="R/mmcl-1/model.pt"), of("S", "b", start="R/ssl-1/model.pt")]
    assert start_texts(runs, runs) == ["M", "S"]
    runs = [of("MMCL", "a"), of("MMCL", "a", 8), of("MMCL, warped", "b")]
    both = "MMCL (epochs 4) / MMCL, warped"
    assert start_texts(runs, runs) == [both, "MMCL (epochs 8)", both]
    same = [of("MMCL", "a"), of("MMCL again", "a")]
    assert start_texts(same, same) == ["MMCL", "MMCL again"]


def test_detectors_of_different_start_models_are_not_pooled():
    reports = pd.DataFrame(
        {"artefact": "dao", "start_label": ["MMCL", "MMCL", "MMCL+SSL"], "auroc": [0.9, 0.8, 0.2]}
    )
    rows = board.detector_board(reports)["rows"]
    assert [(row["label"], row["starts"]) for row in rows] == [("MMCL", 2), ("MMCL+SSL", 1)]
    of_one = {"artefact": "dao", "start_label": "MMCL", "auroc": [0.9, 0.8, 0.7, 0.6]}
    varied = {"model": ["RN50", "RN50", "ViT", "ViT"], "attack.seed": [0, 1, 0, 1]}
    reports = pd.DataFrame(of_one | varied)[["artefact", "start_label", *varied, "auroc"]]
    rows = board.detector_board(reports, varied)["rows"]
    found = [(row["setting"], row["starts"]) for row in rows]
    assert found == [("Model: RN50", 2), ("Model: ViT", 2)]


def test_attacks_are_compared_after_the_same_cleaning_and_unlearned_ones_are_marked():
    models, starts = replicates([0.01, 0.30, 0.0], [0.7, 0.7, 0.7])
    models["attack"] = ["patch", "blend", "warp"]
    starts.loc["s2", "asr_top1"] = 0.01
    more = models.iloc[:1].assign(run="r9", trial="0.003", asr_top1=0.0, top1=0.71)
    text = attack_section(pd.concat([models, more], ignore_index=True), starts)
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>.*?</tr>", text)][1:]
    assert [row[0] for row in rows] == ["blend", "patch", "warp"]
    assert rows[1][3].startswith("1.0")  # at the learning rate of all attacks
    assert "not learned" in rows[2][2]


def test_the_answer_gives_both_selections_and_compares_the_two_best_defences():
    models, starts = replicates([0.01, 0.02], [0.69, 0.66])
    models["start"] = "s0"
    models["defence"] = ["D", "E"]
    rows = board.by_budget(leaderboard.leaderboard(models, starts))
    board.board_rows(rows, {})
    lead, group, verdicts = answer(board.compared_rows(rows))
    assert "from 99.0\N{NO-BREAK SPACE}% to 1.0\N{NO-BREAK SPACE}% (0." in lead
    assert "and the accuracy by -1.0 points" in lead
    assert "Second is E" in group
    assert "-3.0 points, undecided: one start model" in group
    assert "2 are undecided" in verdicts


def test_the_answer_is_about_fine_tuning_even_if_weight_transforms_have_a_wider_sweep():
    models, starts = replicates([0.01, 0.02], [0.69, 0.66])
    models["start"] = "s0"
    models["defence"] = ["D", "E"]
    transformed = [
        models.assign(
            defence=name, epochs=0, trial=str(alpha), run=[f"{name}{alpha}0", f"{name}{alpha}1"]
        )
        for name in ("T", "W")
        for alpha in (0.5, 1.0)
    ]
    rows = board.by_budget(
        leaderboard.leaderboard(pd.concat([models, *transformed], ignore_index=True), starts)
    )
    assert {row["defence"] for row in board.compared_rows(rows)} == {"D", "E"}
    assert {row["defence"] for row in rows} == {"D", "E", "T", "W"}


def test_replicates_are_compared_at_their_common_trials():
    models, starts = replicates([0.01, 0.02], [0.7, 0.7])
    more = models.iloc[:1].assign(run="r9", trial="0.003", asr_top1=0.0)
    rows = leaderboard.leaderboard(pd.concat([models, more], ignore_index=True), starts)
    assert sorted((row["trials"], row["replicates"]) for row in rows) == [(1, 2), (2, 1)]


def record(row, weight=1.0):
    spec = {
        "run": row["run"], "kind": row["kind"], "model": {"name": "tiny"}, "seed": 0, "epochs": 4,
        "objective": {"mmcl": weight}, "optimizer": {"learning_rate": row["learning_rate"]},
        "attack": {"image_size": 32, "poisoned": 10, "target": "a", "trigger": {"name": "random"}},
        "inputs": {"manifest": "R/attacks/demo-random10-0/manifest.parquet"},
    }  # fmt: skip
    code = {"commit": "abcdef0123", "dirty": False, "digest": "11112222", "files": {}}
    hardware = {"device": "cpu", "processes": 1, "gpus": None}
    return {"spec": spec, "code": code, "hardware": hardware, "wall_seconds": 36.0,
            "finished": "2026-01-01T00:00:00", "resumptions": []}  # fmt: skip


def test_the_settings_of_a_defences_own_sweep_are_trials_of_which_one_is_selected():
    def of(alpha, weight=1.0):
        row = {"run": f"r{alpha}", "kind": "cleaning", "defence": "D", "learning_rate": np.nan,
               "sweep": json.dumps({"start_change.alpha": alpha})}  # fmt: skip
        spec = record(row, weight)["spec"] | {"start_change": {"name": "x", "alpha": alpha}}
        return Run(row, {"spec": spec}, None)

    runs = [of(0.5), of(1), of(1, 4)]
    assert setting_texts(runs) == ["", "", "MMCL weight 4"]
    assert [trial_text(run) for run in runs] == ["Alpha 0.5", "Alpha 1", "Alpha 1"]
    named = Run(runs[0].row | {"sweep": '{"start_change": {"name": "x", "u": 2}}'}, {}, None)
    assert trial_text(named) == "Name x, Pruning threshold (standard deviations) 2"
    models, starts = replicates([0.30, 0.01], [0.7, 0.69])
    models = models.assign(start="s0", trial=["Alpha 0.5", "Alpha 1"], run=["r0.5", "r1"])
    (row,) = leaderboard.leaderboard(models, starts)
    assert (row["trials"], row["replicates"]) == (2, 1)
    assert row["oracle"].picked == (("r1", "Alpha 1", 1),)


def test_a_row_shows_what_a_defence_costs_a_model_without_backdoor():
    models, starts = replicates([0.01, 0.02, 0.0, 0.0], [0.69, 0.69, 0.695, 0.5])
    models["attack"] = ["patch", "patch", NO_ATTACK, NO_ATTACK]
    starts.loc[["s2", "s3"], "asr_top1"] = 0.0
    (row,) = leaderboard.leaderboard(models, starts)
    assert row["clean"].loss[0] == pytest.approx(0.005)
    assert (row["attacks"], row["unlearned"]) == (["patch"], [])
    (cells,) = board.board_rows([row], dict.fromkeys(models["run"], 0))
    assert cells["clean"].startswith("0.5 points (")
    assert cells["clean"].endswith("; no model qualifies for 1 of 2")
    starts.loc[["s2", "s3"], "asr_top1"] = 0.06  # by chance, with few classes
    (row,) = leaderboard.leaderboard(models, starts)
    assert (row["attacks"], row["clean"].replicates) == (["patch"], 2)


def test_only_unusual_settings_are_shown():
    class One:
        def __init__(self, weight):
            self.row = {"defence": "D"}
            self.sweep = {}
            self.spec = record({"run": "r", "kind": "cleaning", "learning_rate": 1}, weight)["spec"]

    assert setting_texts([One(1), One(1), One(4)]) == ["", "", "MMCL weight 4"]


@pytest.fixture
def page(tmp_path, metrics):
    """The results page of synthetic runs."""
    folder = tmp_path / "experiments" / "made"
    rows = []
    for row, _ in made_runs():
        place = f"{row['kind']}/{row['run']}"
        rows.append({"folder": place, **row})
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "run.json").write_text(json.dumps(record(row)))
    write_csv(folder / "runs.csv", pd.DataFrame(rows))
    write_table(folder / "metrics", metrics)
    scores = pd.DataFrame(
        {"run": rows[0]["run"], "measure": ["probe", "decree"], "name": ["accuracy", "l1"],
         "value": [0.5, 4.2], "of": [200, None]}
    )  # fmt: skip
    write_csv(folder / "measures.csv", scores.astype({"of": "Int64"}))
    output = tmp_path / "index.html"
    build.main(
        ["--experiments", f"{folder}/metrics.parquet", "--root", str(tmp_path), "--output",
         str(output)]
    )  # fmt: skip
    return output


def test_the_page_contains_every_epoch_and_loads_nothing(page, metrics):
    text = page.read_text()
    held = json.loads(re.search(r'id="all-data">(.*?)</script>', text, re.S)[1])
    assert len(held["epochs"]["run"]) == len(metrics)
    assert np.allclose(held["epochs"]["top1"], 100 * metrics["top1"], atol=1e-2)
    assert [v for v in held["epochs"]["probe/accuracy"] if v is not None] == [50]
    assert [v for v in held["epochs"]["decree/l1"] if v is not None] == [4.2]
    assert not re.search(r'(src|href)="(https?:)?//|url\(|@import', text.split("<script>")[0])
    assert "18 cleaning runs, 1,480 evaluation images" in text


@pytest.fixture
def browser(tmp_path):
    """Headless Chromium that downloads to the test's folder."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program or not shutil.which("chromedriver"):
        pytest.skip("there is no chromium with chromedriver (make browser installs them)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1200,900"):
        options.add_argument(f"--{argument}")
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def until(condition):
    for _ in range(150):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("the browser did not get there within 15 s")


def opened(browser, address):
    browser.get("about:blank")
    browser.get(address)
    until(lambda: browser.execute_script("return document.documentElement.dataset.ready"))


def count(browser):
    return int(browser.find_element("id", "count").text.split()[0].replace(",", ""))


def test_filters_address_download_and_rows_work_in_a_browser(browser, page, tmp_path):
    opened(browser, page.as_uri())
    assert count(browser) == 72 + 2  # cleaned and start models
    choose = (
        "const s = byId('f.start_label'); s.value = 'MMCL'; s.dispatchEvent(new Event('change'))"
    )
    browser.execute_script(choose)
    assert count(browser) == 36 + 1
    chips = browser.find_elements("css selector", "#colours .chip")
    next(chip for chip in chips if chip.text.endswith("SSL")).click()
    assert count(browser) == 24 + 1
    browser.execute_script("document.querySelector('#epochs .tabulator-row a').click()")
    run = browser.find_element("css selector", "#run h3").text
    address = browser.current_url
    opened(browser, address)
    assert count(browser) == 24 + 1
    assert browser.find_element("css selector", "#run h3").text == run
    assert browser.find_elements("css selector", "#run a[href$='run.json']")
    browser.execute_script("byId('csv').click()")
    csv = until(lambda: next(tmp_path.glob("selected*.csv"), None))
    assert len(until(csv.read_text).splitlines()) == 1 + 25
    browser.execute_script("document.querySelector('#board .tabulator-row a').click()")
    until(lambda: count(browser) == 12)
    moved = page.rename(tmp_path / "moved.html")
    opened(browser, moved.as_uri() + "#" + address.partition("#")[2])
    assert not browser.find_elements("css selector", "#run a[href$='run.json']")
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    sent = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    asked = [
        m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"
    ]
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)


def test_labels_are_shown_as_text(browser, page):
    label, attack = "CleanCLIP", "<img src=x onerror=document.documentElement.dataset.owned=1>"
    held = re.search(r'id="all-data">(.*?)</script>', page.read_text(), re.S)[1]
    changed = json.loads(held)
    levels = changed["runs"]["coded"]["defence"]["levels"]
    levels[levels.index(label)] = f"{label} {attack}"
    changed["looks"][f"{label} {attack}"] = changed["looks"].pop(label)
    changed["measures"][0]["label"] += attack
    page.write_text(page.read_text().replace(held, json.dumps(changed).replace("<", "\\u003c")))
    opened(browser, page.as_uri())
    hover = """
        const cell = [...document.querySelectorAll("#epochs .tabulator-cell")]
            .find(cell => cell.textContent.startsWith(arguments[0]));
        cell.dispatchEvent(new MouseEvent("mousemove", {bubbles: true}));
    """
    browser.execute_script(hover, f"{label} <img")
    (tooltip,) = until(lambda: browser.find_elements("css selector", ".tabulator-tooltip"))
    shown = tooltip.get_attribute("textContent")
    assert shown == f"{label} {attack}"
    assert browser.execute_script("return document.documentElement.dataset.owned") is None


def luminance(colour):
    parts = re.findall("..", colour[1:]) if len(colour) == 7 else [2 * part for part in colour[1:]]
    shares = np.array([int(part, 16) for part in parts]) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def mixed_with_white(colour, share):
    """Return the result of CSS color-mix in srgb, by which explorer.js lightens colours."""
    parts = [int(part, 16) for part in re.findall("..", colour[1:])]
    return "#" + "".join(f"{round(p + share * (255 - p)):02x}" for p in parts)


@pytest.mark.parametrize("dark", [False, True])
def test_texts_and_marks_have_enough_contrast_in_both_themes(dark):
    themes = [STYLE.partition("@media")[0], STYLE.partition("data-theme=dark")[2]]
    own = dict(re.findall(r"--(\w+):(#\w+)", themes[dark]))
    for ground in (own["ground"], own["raised"]):
        for text in ("ink", "faint", "link", "good", "bad", "unsure"):
            assert contrast(own[text], ground) >= 4.5, (text, ground)
    looks = level_styles([f"defence {n}" for n in range(20)]).values()
    for colour in {*controls.STYLE["colours"], *(look["colour"] for look in looks)}:
        shown = mixed_with_white(colour, 0.3) if dark else colour
        assert contrast(shown, own["ground"]) >= 3, colour
