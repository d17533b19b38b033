"""The page of an audit: the verdict, its limits, and the evidence."""

from pathlib import Path

from workflow_scripts.common.html import Markup, document, element, joined
from workflow_scripts.evaluation.auditing import evidence
from workflow_scripts.evaluation.auditing.blocks import paragraph, section, table
from workflow_scripts.evaluation.auditing.judging import (
    FOUND,
    NOT_DONE,
    NOTHING,
    SUSPICIOUS,
    percent,
)
from workflow_scripts.evaluation.auditing.parts import Part
from workflow_scripts.evaluation.auditing.words import LIMITS, PARTS

_STYLE = (
    "body{max-width:68rem;font-size:16px}section{border-top:1px solid var(--line);"
    "margin-top:2.5rem}"
    "section h2{margin-top:1.2rem}h1 code{font-size:inherit;font-weight:600}"
    ".verdict{border-left:.4rem solid;padding:.8rem 1.1rem;margin:1rem 0;background:var(--raised);"
    "border-radius:.2rem}.verdict p{font-size:1.15rem;margin:.1em 0}"
    ".found{border-color:var(--bad)}.suspicious{border-color:var(--unsure)}"
    ".nothing{border-color:var(--good)}"
    ".found strong,.badge.found{color:var(--bad)}"
    ".suspicious strong,.badge.suspicious{color:var(--unsure)}"
    ".nothing strong,.badge.nothing{color:var(--good)}"
    ".badge{font-weight:600;font-size:.875rem}.badge.not_done{color:var(--faint);font-weight:400}"
    "dl.parts>div{display:grid;grid-template-columns:8.5rem minmax(0,46rem);gap:.2rem 1rem;"
    "padding:.6rem 0;border-bottom:1px solid var(--line)}dl.parts>div:last-child{border:0}"
    "dl.parts dd{margin:0}dl.parts b{display:block}"
    "@media(max-width:36rem){dl.parts>div{grid-template-columns:1fr}}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:1.1rem "
    "1rem;"
    "padding:0;margin:1rem 0;list-style:none;max-width:none}"
    ".cards li{font-size:.875rem;line-height:1.4;overflow-wrap:anywhere}"
    ".cards.large{grid-template-columns:repeat(auto-fill,minmax(11rem,1fr))}"
    ".cards.few{max-width:26rem}"
    "img{image-rendering:pixelated;display:block;border-radius:.15rem;background:#808080}"
    ".cards img{width:100%;aspect-ratio:1}"
    ".pair{display:grid;grid-template-columns:1fr 1fr;gap:.3rem}"
    ".cards b{display:block;margin-top:.4rem}td img{width:3rem;height:3rem}"
    "td,th{padding-left:0;padding-right:1.2rem}td.number,th.number{text-align:right}"
    "td.words{white-space:normal;min-width:10rem}"
    "table caption{text-align:left;color:var(--faint);font-size:.9em;padding:.3rem 0}"
    ".bars{display:grid;grid-template-columns:max-content minmax(4rem,1fr) max-content;"
    "gap:.3rem .75rem;align-items:center;font-size:.875rem;max-width:46rem;"
    "font-variant-numeric:tabular-nums}"
    ".bars span:first-child{max-width:12rem}"
    ".bar{height:.55rem;background:var(--link);min-width:1px}"
    ".bar.other{background:var(--faint);height:.25rem;margin-top:.12rem}"
    ".scroll{margin:.8rem 0 1.4rem}"
    "@media(max-width:36rem){td,th{padding-right:.7rem}.scroll{font-size:.875rem}}"
    ".key{display:inline-block;width:1.2rem;height:.55rem;margin-right:.4rem;"
    "background:var(--link)}"
    ".key.other{background:var(--faint);height:.25rem;margin:0 .4rem .12rem 1rem}"
)
_VERDICTS = {FOUND: "Backdoor found", SUSPICIOUS: "Suspicious", NOTHING: "Nothing found"}
_LEVELS = {
    FOUND: "Found",
    SUSPICIOUS: "Suspicious",
    NOTHING: "Nothing found",
    NOT_DONE: "Not done",
}


def page(result: Part) -> str:
    """Return the page of an audit; external texts are escaped.

    Args:
        result: The result of :meth:`workflow_scripts.evaluation.auditing.probing.Audit.run`.
    """
    makers = (
        _head,
        _parts,
        _limits,
        evidence.known_attack,
        evidence.triggers,
        evidence.smallest_changes,
        evidence.alike,
        evidence.frequent_captions,
        evidence.suspicious_pairs,
        _how,
    )
    sections = [make(result) for make in makers]
    return document(
        f"Audit of {_short(result['model'])}",
        joined(part for part in sections if part),
        style=_STYLE,
    )


def _short(model: Part) -> str:
    """Return the last two parts of a checkpoint's path."""
    return "/".join(Path(model["checkpoint"]).parts[-2:])


def _head(result: Part) -> Markup:
    verdict, accuracy = result["verdict"], result["accuracy"]
    control = result["control"]
    reference = (
        [" Clean control: ", element("code", _short(control)),
         f" ({percent(accuracy['control'])})."]
        if control
        else [" No clean control was given."]
    )  # fmt: skip
    return joined(
        [
            paragraph("Audit of a CLIP checkpoint", class_="faint"),
            element("h1", _short(result["model"])),
            element(
                "div",
                element("strong", _VERDICTS[verdict["level"]]),
                paragraph(verdict["sentence"]),
                class_=f"verdict {verdict['level']}",
                role="status",
            ),
            paragraph(
                f"{result['model']['name']}, {percent(accuracy['model'])} zero-shot accuracy on "
                f"{result['how']['images']} images of {result['how']['classes']} classes.",
                *reference,
            ),
        ]
    )


def _parts(result: Part) -> Markup:
    lines = [
        element(
            "div",
            element("dt", element("span", _LEVELS[f["level"]], class_=f"badge {f['level']}")),
            element("dd", element("b", PARTS[f["part"]]), f["sentence"]),
        )
        for f in sorted(result["verdict"]["findings"], key=lambda f: f["level"] == NOT_DONE)
    ]
    return section("Probes and their results", element("dl", *lines, class_="parts"))


def _limits(result: Part) -> Markup:
    done = {f["part"] for f in result["verdict"]["findings"] if f["level"] != NOT_DONE}
    control = result["control"] is not None
    covered = [words for part, words in LIMITS["covered"] if part in done]
    remaining = [words for part, words in LIMITS["not_covered"] if part is None or part not in done]
    remaining += [] if control else [LIMITS["without_control"]]
    return section(
        "Scope and limits",
        element("h3", "If nothing was found, the audit is evidence against"),
        element("ul", *(element("li", words) for words in covered)),
        element("h3", "It does not rule out"),
        element("ul", *(element("li", words) for words in remaining)),
        paragraph(LIMITS["use"]),
    )


def _file(model: Part) -> Markup:
    digest = element("div", "SHA-256 ", element("code", model["sha256"]), class_="faint")
    return joined([element("code", model["checkpoint"]), digest])


def _how(result: Part) -> Markup:
    how = result["how"]
    rows = [["Checkpoint", _file(result["model"])]]
    if result["control"]:
        rows.append(["Clean control", _file(result["control"])])
    rows += [
        ["Effort", how["effort"]],
        ["Images", f"{how['images']} of {how['image_size']} pixels"],
        ["Seed", how["seed"]],
        ["Device", how["device"]],
    ]
    return section("Settings", table(["", ""], rows))
