"""docs/models.md: its three models lead from nothing to verdicts, in the page's own words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from dugs_stream.config import load_settings
from tests.support.late_imports import imported_late
from tests.support.models.text import LINES, save_gpt2, save_tokenizer
from tests.support.records.pictures import draw, png
from tests.support.terminals.commands import dugs

timm = imported_late("timm")

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
MOST_LINES = 14


def blocks(heading: str) -> dict[str, str]:
    """The code blocks of a section, by their language."""
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    return tmp_path


def verdicts(here: Path, section: dict[str, str], inputs: str) -> list[str]:
    """What `dugs scan` says under the page's configuration, after `dugs check --deep` found nothing wrong."""
    assert sum(len(text.splitlines()) for text in section.values()) <= MOST_LINES
    (here / "my.yaml").write_text(section["yaml"])
    checked = dugs("check", "--deep", "-c", "my.yaml")
    assert checked.code == 0, checked.out + checked.err
    scanned = dugs("scan", "-c", "my.yaml", inputs)
    assert scanned.code == 0, scanned.err
    return [event["type"] for event in scanned.lines]


def test_hugging_face_model_judges_texts(here: Path) -> None:
    """A causal model and its tokenizer in one folder."""
    save_gpt2(save_tokenizer(here / "models" / "my-gpt2"))
    (here / "texts").mkdir()
    for at, text in enumerate((LINES[0], LINES[1], LINES[0])):
        (here / "texts" / f"{at}.txt").write_text(text)

    assert verdicts(here, blocks("A Hugging Face model"), "texts") == ["unique", "unique", "duplicate"]


def test_timm_model_judges_pictures(here: Path) -> None:
    """By timm's own function, with weights from a file and the class by its folder."""
    section = blocks("A timm or torchvision model")
    kwargs = yaml.safe_load(section["yaml"])["model"]["kwargs"]
    torch.manual_seed(0)
    save_file(timm.create_model(**kwargs).state_dict(), here / "models" / "mobilenet.safetensors")
    for at, name in enumerate(("cat", "dog", "dog")):
        (here / "pictures" / name).mkdir(parents=True, exist_ok=True)
        colour = (0, 0, 255) if name == "dog" else (255, 0, 0)
        Image.new("RGB", (80, 64), colour).save(here / "pictures" / name / f"{at}.png")

    assert verdicts(here, section, "pictures") == ["unique", "unique", "duplicate"]


def test_model_of_ones_own_judges_pictures(here: Path) -> None:
    """A module in the working directory, and its state_dict."""
    section = blocks("A model of your own")
    (here / "my_model.py").write_text(section["python"])
    scope: dict[str, object] = {}
    exec(section["python"], scope)
    build = scope["build"]
    assert callable(build)
    torch.manual_seed(0)
    model = build()
    assert isinstance(model, nn.Module)
    torch.save(model.state_dict(), here / "my_weights.pt")
    for name, shape in (("0", "disc"), ("1", "bar")):
        (here / "pictures" / name).mkdir(parents=True)
        (here / "pictures" / name / "1.png").write_bytes(png(draw(shape, 1)))
    (here / "pictures" / "0" / "again.png").write_bytes(png(draw("disc", 1)))

    assert verdicts(here, section, "pictures") == ["unique", "duplicate", "unique"]


def test_example_of_texts_goes_by_the_page(here: Path) -> None:
    """config/text.yaml names the folder that the page names, and differs in topics and state from a list of pictures."""
    settings = load_settings(PAGE.parents[1] / "config" / "text.yaml", environ={})

    assert str(settings.model.kwargs["folder"]) in PAGE.read_text()
    assert settings.output.changelog_topic != "dugs.changelog"
