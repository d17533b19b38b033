"""Options of variants are read from the source; errors are single sentences."""

import subprocess
import sys
import textwrap

import pytest

from workflow_scripts.common import variants
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.syntax import UNKNOWN
from workflow_scripts.common.variants import Option


@pytest.fixture
def own(tmp_path):
    def write(text):
        path = tmp_path / "own file é.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def test_each_kind_has_the_variants_of_its_folder():
    assert variants.names("loss") == [
        "deep_clustering",
        "mmcl",
        "par",
        "pseudo_labels",
        "roclip",
        "siglip",
        "siglip_bias",
        "ssl",
    ]
    for kind in variants.KINDS:
        for name in variants.names(kind):
            assert variants.source(kind, name).stem == name


def test_options_read_from_source_equal_those_of_the_import():
    for kind in variants.KINDS:
        for name in variants.names(kind):
            assert callable(variants.load(kind, name))
            assert not variants.takes_any(kind, name)


def test_options_include_fields_parameters_and_inherited_ones():
    assert variants.options("trigger", "warped") == {
        "k": Option(False, 224, "Annotated[int, '>= 2']"),
        "s": Option(False, 0.6, "Annotated[float, '>= 0']"),
        "location": Option(False, "whole", "Literal['whole']"),
        "overflow": Option(False, "wrap", "Literal['wrap', 'clip']"),
    }
    assert variants.options("loss", "mmcl") == {}
    assert variants.options("loss", "deep_clustering")["clusters"].required
    assert variants.options("start_change", "shrink_and_perturb") == {
        "shrink": Option(True, None, "Annotated[float, '>= 0']"),
        "perturb": Option(True, None, "Annotated[float, '>= 0']"),
    }
    scatter = variants.options("figure", "scatter")
    assert scatter["accuracy"].default == "top1"
    assert isinstance(scatter["width"].default, float)
    # Type aliases are replaced by their values.
    assert scatter["by"].annotation == "Annotated[str, 'column']"
    assert "metrics" not in scatter


def test_defaults_are_literals_constants_or_unknown(own):
    name = own("""
        from dataclasses import dataclass, field
        from typing import ClassVar
        from workflow_scripts.poison.triggers.yellow import Trigger as Yellow

        SIDE = -4

        @dataclass(frozen=True, kw_only=True)
        class Trigger(Yellow):
            NAME: ClassVar[str] = "mine"
            side: int = SIDE
            shift: tuple = (1, -2.5)
            patch_size: int = 8
            made: list = field(default_factory=list)
            plain: float = field(default=0.5)
            hidden: int = field(init=False, default=1)
    """)
    found = variants.options("trigger", name)
    assert {key: option.default for key, option in found.items()} == {
        "patch_size": 8,
        "location": "random",
        "overflow": "wrap",
        "side": -4,
        "shift": (1, -2.5),
        "made": UNKNOWN,
        "plain": 0.5,
    }
    assert variants.load("trigger", name)(image_size=8, seed=0).side == -4


def test_class_attributes_are_read_and_inherited():
    assert variants.attribute("loss", "ssl", "views", None) == {
        "plain": {"image": "plain", "text": "plain"},
        "augmented": {"image": "autoaugment", "text": "eda"},
    }
    assert list(variants.attribute("loss", "mmcl", "views", None)) == ["plain"]
    assert variants.attribute("trigger", "yellow", "views", "none") == "none"
    assert variants.attribute("figure", "scatter", "SHOWS_CLEANED", False) is True


def test_unknown_and_missing_options_are_reported():
    with pytest.raises(StepError, match=r"has no option 'patch_sise'; did you mean 'patch_size'"):
        variants.check_options("trigger", "random", ["patch_sise"])
    with pytest.raises(StepError, match=r"'shrink_and_perturb' needs the option 'perturb'"):
        variants.check_options("start_change", "shrink_and_perturb", ["shrink"])
    with pytest.raises(StepError, match=r"'ssl' has no option 'k'; it has no options"):
        variants.check_options("loss", "ssl", ["k"])


def test_a_function_with_keyword_options_accepts_any_option(own):
    name = own("def draw(table, *, by, **options):\n    return None\n")
    assert variants.options("figure", name) == {"by": Option(True, None, "")}
    variants.check_options("figure", name, ["by", "anything"])


def test_an_unknown_name_is_reported_with_the_closest_one():
    with pytest.raises(StepError, match=r"unknown loss term 'mmlc'; did you mean 'mmcl'\?"):
        variants.options("loss", "mmlc")
    with pytest.raises(StepError, match=r"'mine\.py' of the loss term does not exist"):
        variants.load("loss", "mine.py")


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("loss", "def f(:\n", "is not valid Python: line 1"),
        ("loss", "x = 1\n", "must define the class Loss to be used as loss term"),
        ("figure", "x = 1\n", "must define the function draw to be used as figure kind"),
        ("loss", "from torch import nn\nclass Loss(nn.Module): pass\n", "subclass of LossTerm"),
        ("loss", "\0", "cannot be read as Python|is not valid Python"),
        (
            "trigger",
            "class Trigger:\n    def __init__(self, seed): pass\n",
            "must accept the parameter 'image_size'",
        ),
        (
            "trigger",
            "import nowhere_\ndef Trigger(**options): pass\n",
            "cannot be imported: No module",
        ),
    ],
)
def test_an_unusable_user_file_is_reported_in_one_sentence(own, kind, text, sentence):
    with pytest.raises(StepError, match=sentence):
        variants.check_options(kind, name := own(text), [])
        variants.load(kind, name)


def test_reading_options_does_not_import_torch():
    script = (
        "import sys; from workflow_scripts.common import variants\n"
        "for kind in variants.KINDS:\n"
        "    [variants.options(kind, name) for name in variants.names(kind)]\n"
        "assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
