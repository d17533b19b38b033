"""The evidence on the page of an audit: a section for each part."""

from collections.abc import Sequence
from typing import Any

from scipy import stats

from workflow_scripts.common.html import Markup, element, joined
from workflow_scripts.evaluation.auditing.blocks import paragraph, picture, section, table
from workflow_scripts.evaluation.auditing.judging import percent, trigger_name
from workflow_scripts.evaluation.auditing.parts import Part
from workflow_scripts.evaluation.auditing.words import SCORES

_FIRST = ("accuracy", "asr", "asr_all_images", "asr_not_true_class", "recovery",
          "target_without_trigger")  # fmt: skip
_CARDS, _SCANNED, _CLASSES = 12, 10, 40


def known_attack(result: Part) -> Markup | None:
    """Return the section of this part, if it was done."""
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
    told = paragraph(
        f"{_capital(trigger_name(attack['trigger']))}; target “{attack['target']}”. On "
        f"{part['model']['images']:,} images, {part['model']['asr_images']:,} of them not of the "
        "target. In brackets, 95 % intervals."
    )
    return joined([told, numbers(_FIRST, "Shares of images"), more])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _score(score: dict[str, Any]) -> str:
    value, of = score["value"], score["of"]
    if of is None:
        return f"{value:.3f}"
    low, high = stats.binomtest(round(value * of), of).proportion_ci(method="wilson")
    return f"{100 * value:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def triggers(result: Part) -> Markup:
    """Return the section of this part."""
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
        beside = ("control_share", "control_most") if control else ()
        rows.append([*cells, *(percent(row[key]) for key in beside)])
    heads = ["", "Trigger", "Class", "With it", "Without it"]
    heads += ["Clean control", "Clean control, any class"] if control else []
    more = len(result["scan"]) - len(rows)
    return section(
        "Known kinds of triggers, one after another",
        paragraph(
            "Each trigger is put on images of all classes. The class is the one that most images "
            "of other classes are then taken for. Large patches hide the object, so that some "
            "class gets the images in any model: compare with the clean control, and with the "
            "class that gets most of them there."
        ),
        table(
            heads,
            rows,
            numbers=range(3, len(heads)),
            words=(1,),
            caption="Share of images of other classes",
        ),
        paragraph(
            f"{more} more triggers attract fewer images; all are in audit.json.", class_="faint"
        )
        if more > 0
        else "",
    )


def smallest_changes(result: Part) -> Markup:
    """Return the section of this part."""
    return section(
        "The smallest change that leads to each class",
        paragraph(
            "For each class, a computer search looks for the smallest change of the images that "
            "makes the model see this class everywhere. A class that needs much less than the "
            "others, and much less than in a clean model, is likely to be the target of a backdoor."
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
        said = percent(row["size"]) + (f" / {percent(row['control']['size'])}" if control else "")
        bars += [
            element("span", row["name"]),
            element(
                "div",
                *(
                    element("div", class_=kind, style=f"width:{100 * size / largest:.1f}%")
                    for kind, size in both
                ),
            ),
            element("span", said),
        ]
    key = [element("span", class_="key"), "this model"]
    key += [element("span", class_="key other"), "clean control"] if control else []
    more = len(rows) - _CLASSES
    return [
        cards,
        paragraph(*key),
        element("div", *bars, class_="bars"),
        paragraph(f"{more} more are in audit.json.", class_="faint") if more > 0 else Markup(""),
    ]


def _card(row: Part) -> Markup:
    pictures = [picture(row["picture"], f"the change found for {row['name']}")]
    said = f"{percent(row['size'])} of the image fools {percent(row['success'])}"
    if "control" in row:
        other = row["control"]
        pictures.append(picture(other["picture"], f"the same for {row['name']}, clean control"))
        said += f"; clean control: {percent(other['size'])}"
    return element(
        "li",
        element("div", *pictures, class_="pair" if len(pictures) > 1 else None),
        element("b", row["name"]),
        said,
    )


def alike(result: Part) -> Markup:
    """Return the section of this part."""
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
        "A change that makes all images alike (DECREE)",
        paragraph(
            "This search knows no classes: it looks for the smallest change under which the model "
            "finds all images the same. Backdoored models often need less than clean ones."
        ),
        element("ul", *cards, class_="cards few"),
    )


def frequent_captions(result: Part) -> Markup | None:
    """Return the section of this part, if it was done."""
    if not result["captions"]:
        return None
    rows = [
        [r["caption"], f"{r['count']:,}", percent(r["clean"]), percent(r["size"]),
         percent(r["control"]["size"]) if "control" in r else "–"]
        for r in result["captions"]
    ]  # fmt: skip
    heads = ["Caption", "Pairs", "Images nearest to it", "Smallest change", "Clean control's"]
    return section(
        "Frequent captions",
        paragraph(
            "A caption that many training pairs share can act as a backdoor that nobody put there. "
            "Each is offered to the model as one class more."
        ),
        table(heads, rows, numbers=(1, 2, 3, 4), caption="The most frequent captions"),
    )


def suspicious_pairs(result: Part) -> Markup | None:
    """Return the section of this part, if it was done."""
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
        "batch": "other pairs of the list, which fails where many of them are poisoned",
    }
    named = [
        [n["class"], f"{n['top']} of {n['of']}", f"{n['all']:,} of {n['rows']:,}"]
        for n in part["named"][:5]
    ]
    told = [r for r in part["reports"].items() if r[1].get("auroc") is not None]
    marked = [
        [name.replace("_", " "), f"{r['auroc']:.3f}", percent(r["recall_at_top_10_percent"])]
        for name, r in told
    ]
    return section(
        "The most suspicious training pairs",
        paragraph(
            f"Pairs whose image lies far from others as this model sees them, out of "
            f"{part['rows']:,}, compared with {against[part['reference']]}. Rare is not the same "
            "as poisoned: look for what the images or the captions have in common. The scores of "
            "all rows are in rows.parquet."
        ),
        element("ul", *cards, class_="cards"),
        table(
            ["Class", "Among the most suspicious", "In the whole list"],
            named,
            numbers=(1, 2),
            caption="Classes that their captions name",
        )
        if named
        else "",
        table(
            ["Detector", "AUROC", "Found in the top 10 %"],
            marked,
            numbers=(1, 2),
            caption="The list marks its poisoned pairs; how well each detector finds them",
        )
        if marked
        else "",
    )
