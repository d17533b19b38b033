"""The evidence on the page of an audit: one section per part."""

from collections.abc import Sequence
from typing import Any

from workflow_scripts.common.html import Markup, element, joined
from workflow_scripts.common.intervals import binomial
from workflow_scripts.evaluation.auditing.blocks import paragraph, picture, section, table
from workflow_scripts.evaluation.auditing.judging import percent, trigger_name
from workflow_scripts.evaluation.auditing.parts import Part
from workflow_scripts.evaluation.auditing.words import DETECTORS, SCORES

_FIRST = ("accuracy", "asr", "asr_all_images", "asr_not_true_class", "recovery",
          "target_without_trigger")  # fmt: skip
_CARDS, _SCANNED, _CLASSES = 12, 10, 40


def known_attack(result: Part) -> Markup | None:
    """Return the section on the known attack, if it was tested."""
    if not result["known"]:
        return None
    return section("The known attack", *(_known_part(one) for one in result["known"]))


def _known_part(part: Part) -> Markup:
    model, control = part["model"]["scores"], (part["control"] or {}).get("scores")
    heads = ["", "This model", *(["Clean control"] if control else [])]

    def numbers(names: Sequence[str], caption: str | None) -> Markup:
        rows = [
            [SCORES.get(name, _capital(name.replace("_", " "))), _score(model[name])]
            + ([_score(control[name]) if name in control else "–"] if control else [])
            for name in names
        ]
        return table(heads, rows, numbers=range(1, len(heads)), words=(0,), caption=caption)

    rest = [name for name in model if name not in _FIRST]
    more = element("details", element("summary", "More numbers"), numbers(rest, None))
    attack = part["attack"]
    description = paragraph(
        f"Trigger: {trigger_name(attack['trigger'])}; target: “{attack['target']}”. Evaluated on "
        f"{part['model']['images']:,} images, {part['model']['asr_images']:,} of them not of the "
        "target class. Brackets: 95 % intervals."
    )
    return joined([description, numbers(_FIRST, "Shares of images"), more])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _score(score: dict[str, Any]) -> str:
    value, of = score["value"], score["of"]
    if of is None:
        return f"{value:.3f}"
    low, high = binomial(value, of)
    return f"{100 * value:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def triggers(result: Part) -> Markup:
    """Return the section on the built-in triggers."""
    control = result["control"] is not None
    rows = []
    for row in result["scan"][:_SCANNED]:
        name = trigger_name(row["trigger"])
        cells = [
            picture(row["example"], f"an image with the trigger {name}"),
            name,
            row["class"],
            percent(row["share"]),
            percent(row["clean_share"]),
        ]
        of_control = ("control_share", "control_most") if control else ()
        rows.append([*cells, *(percent(row[key]) for key in of_control)])
    heads = ["", "Trigger", "Class", "With trigger", "Without trigger"]
    heads += ["Clean control", "Clean control, any class"] if control else []
    more = len(result["scan"]) - len(rows)
    return section(
        "Built-in triggers",
        paragraph(
            "Each trigger is applied to images of all classes. The listed class is the one that "
            "most images of other classes are then classified as. Large patches hide the object, "
            "so they attract images to some class in any model: compare with the clean control, "
            "both for this class and for the class that attracts most images there."
        ),
        table(
            heads,
            rows,
            numbers=range(3, len(heads)),
            words=(1,),
            caption="Share of images of other classes",
        ),
        paragraph(
            f"{more} more triggers attract fewer images; all are listed in audit.json.",
            class_="faint",
        )
        if more > 0
        else "",
    )


def smallest_changes(result: Part) -> Markup:
    """Return the section on inverted triggers."""
    return section(
        "Smallest change that leads to each class",
        paragraph(
            "For each class, an optimisation searches for the smallest change to the images that "
            "makes the model predict this class for all of them. A class that needs a much smaller "
            "change than the others, and than in a clean model, is likely to be the target of a "
            "backdoor."
        ),
        *_search(result["inversion"], result["control"] is not None),
    )


def _search(rows: Sequence[Part], control: bool) -> list[Markup]:
    cards = element(
        "ul", *(_card(row) for row in rows[:_CARDS]), class_="cards large" if control else "cards"
    )
    largest = max(max(r["size"], r.get("control", r)["size"]) for r in rows)
    bars = []
    for row in rows[:_CLASSES]:
        both = [("bar", row["size"])]
        both += [("bar other", row["control"]["size"])] if control else []
        text = percent(row["size"]) + (f" / {percent(row['control']['size'])}" if control else "")
        bars += [
            element("span", row["name"]),
            element(
                "div",
                *(
                    element("div", class_=kind, style=f"width:{100 * size / largest:.1f}%")
                    for kind, size in both
                ),
            ),
            element("span", text),
        ]
    key = [element("span", class_="key"), "this model"]
    key += [element("span", class_="key other"), "clean control"] if control else []
    more = len(rows) - _CLASSES
    return [
        cards,
        paragraph(*key),
        element("div", *bars, class_="bars"),
        paragraph(f"{more} more are listed in audit.json.", class_="faint")
        if more > 0
        else Markup(""),
    ]


def _card(row: Part) -> Markup:
    pictures = [picture(row["picture"], f"the change found for {row['name']}")]
    against = ""
    if "control" in row:
        other = row["control"]
        pictures.append(picture(other["picture"], f"the same for {row['name']}, clean control"))
        against = f" (clean control: {percent(other['size'])})"
    text = f"{percent(row['size'])} of the image{against}; success {percent(row['success'])}"
    return element(
        "li",
        element("div", *pictures, class_="pair" if len(pictures) > 1 else None),
        element("b", row["name"]),
        text,
    )


def alike(result: Part) -> Markup:
    """Return the section on DECREE."""
    both = [
        ("this model", result["decree"]["model"]),
        ("clean control", result["decree"]["control"]),
    ]
    cards = [
        element(
            "li",
            picture(part["picture"], f"the change found for {name}"),
            element("b", name),
            f"{percent(part['pl1'])} of the image; similarity {part['cosine']:.3f}",
        )
        for name, part in both
        if part
    ]
    return section(
        "Smallest change that makes all images similar (DECREE)",
        paragraph(
            "This search does not use classes: it looks for the smallest change that makes all "
            "images similar to the model. Backdoored models often need a smaller change than clean "
            "ones."
        ),
        element("ul", *cards, class_="cards few"),
    )


def frequent_captions(result: Part) -> Markup | None:
    """Return the section on frequent captions, if they were tested."""
    if not result["captions"]:
        return None
    rows = [
        [r["caption"], f"{r['count']:,}", percent(r["clean"]), percent(r["size"]),
         percent(r["control"]["size"]) if "control" in r else "–"]
        for r in result["captions"]
    ]  # fmt: skip
    heads = ["Caption", "Pairs", "Images nearest to it", "Smallest change", "Clean control"]
    return section(
        "Frequent captions",
        paragraph(
            "A caption shared by many training pairs can act as an unintentional backdoor. Each "
            "caption is tested as an additional class."
        ),
        table(heads, rows, numbers=(1, 2, 3, 4), caption="The most frequent captions"),
    )


def suspicious_pairs(result: Part) -> Markup | None:
    """Return the section on training pairs, if they were scored."""
    part = result["rows"]
    if part is None:
        return None
    cards = [
        element(
            "li",
            picture(one["picture"], f"image of pair {one['row']}"),
            element("b", f"Pair {one['row']:,}"),
            one["caption"],
        )
        for one in part["suspects"]
    ]
    against = {
        "clean": "pairs known to be clean",
        "batch": "other pairs of the list, which is unreliable if many of them are poisoned",
    }
    named = [
        [n["class"], f"{n['top']} of {n['of']}", f"{n['all']:,} of {n['rows']:,}"]
        for n in part["named"][:5]
    ]
    reports = [r for r in part["reports"].items() if r[1].get("auroc") is not None]
    detectors = [
        [DETECTORS[name], f"{r['auroc']:.3f}", percent(r["recall_at_top_10_percent"])]
        for name, r in reports
    ]
    return section(
        "The most suspicious training pairs",
        paragraph(
            f"Of {part['rows']:,} pairs, those whose image embedding is an outlier, compared with "
            f"{against[part['reference']]}. Outliers are not necessarily poisoned: look for common "
            "features of their images or captions. rows.parquet contains the scores of all pairs."
        ),
        element("ul", *cards, class_="cards"),
        table(
            ["Class", "Among the most suspicious pairs", "In the whole list"],
            named,
            numbers=(1, 2),
            caption="Classes named in their captions",
        )
        if named
        else "",
        table(
            ["Detector", "AUROC", "Recall in the top 10 %"],
            detectors,
            numbers=(1, 2),
            caption="Detection of the pairs that the list marks as poisoned",
        )
        if detectors
        else "",
    )
