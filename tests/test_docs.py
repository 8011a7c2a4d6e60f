"""What the documentation says can be typed is parsed, and its Python is run."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import genie
from genie.cli import main
from genie.core.config import to_dict
from genie.world.checkpoint import write_world
from genie.world.config import GenieConfig
from genie.world.genie import Genie

ROOT = Path(__file__).parent.parent
PAGES = [
    path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.exists()
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands() -> list[str]:
    found = [block for page in PAGES for block in blocks(page, "(?:sh|bash|console)")]
    lines = [line.removeprefix("$ ") for line in "\n".join(found).replace("\\\n", "").splitlines()]
    return sorted({line.split("  #")[0].strip() for line in lines if line.startswith("genie ")})


@pytest.mark.parametrize("line", commands())
def test_each_command_of_the_docs_can_be_typed(line, capsys, tmp_path, monkeypatch):
    name, arguments = main.split_command(shlex.split(line)[1:])
    monkeypatch.chdir(tmp_path)
    if "--from" in arguments:  # its configuration gives the defaults
        world = arguments[arguments.index("--from") + 1]
        write_world(tmp_path / world, to_dict(GenieConfig()), {})
    if "--print_config" in arguments:
        assert main.main([*name.split(), *arguments]) == 0
    else:
        main._parsed(name, main.COMMANDS[name], arguments)


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "teal").save("prompt.png")
    torch.manual_seed(0)
    names: dict = {}
    found = blocks(ROOT / "README.md", "python")
    for block in found:
        exec(block, names)
    assert len(found) == 3
    assert names["tokens"].shape == (2, 4, 64)
    assert names["clip"].shape == (5, 64, 64, 3)
    assert names["frame"].shape == (64, 64, 3)
    assert names["loss"].requires_grad
    names["env"].close()


def test_the_docs_have_commands():
    assert len(commands()) >= 8


def test_a_configuration_file_of_the_docs_is_read(tmp_path, capsys):
    (text,) = blocks(ROOT / "docs/commands.md", "yaml")
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    command = ["train", "--data", "d", "--out", "o", "--config", str(file), "--print_config"]
    assert main.main(command) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["dynamics"]["layers"], config["dynamics"]["width"]) == (8, 512)
    assert config["train"]["precision"] == "32"


@pytest.fixture(scope="module")
def converting() -> dict:
    """The names that the page about other libraries defines."""
    names: dict = {}
    for block in blocks(ROOT / "docs/coming-from-other-libraries.md", "python"):
        exec(block, names)
    return names


def test_flat_names_become_a_configuration(converting):
    config: GenieConfig = converting["config"]
    assert (config.height, config.width, config.num_actions) == (64, 64, 6)
    assert (config.tokenizer.quantizer.codes, config.sampling.steps) == (512, 25)
    sizes = {"tokenizer_dim": 32, "tokenizer_num_heads": 2, "lam_dim": 32, "lam_num_heads": 2}
    sizes |= {"dyna_dim": 32, "dyna_num_heads": 2, "image_size": 16}
    assert Genie(converting["from_flat"](sizes)).config.actions.decoder.width == 32


@pytest.mark.parametrize("name", ["image_size", "dyna_num_blocks", "patch_size", "maskgit_steps"])
def test_every_name_leads_to_a_field(converting, name):
    # Each path of the table is one that `from_dict` accepts; 8 suits every integer field.
    assert converting["from_flat"]({name: 8})


def test_every_flat_name_leads_to_a_field(converting):
    for name in converting["NAMES"]:
        suits = {"dim": 48, "heads": 2}.get(name.rpartition("_")[2], 10)
        assert converting["from_flat"]({name: suits}) != GenieConfig(), name


def test_a_nested_dict_becomes_a_configuration(converting):
    config: GenieConfig = converting["three_models"]
    assert (config.tokenizer.quantizer.codes, config.tokenizer.quantizer.dim) == (1024, 256)
    assert (config.num_actions, config.actions.dim) == (8, 64)
    dynamics = config.dynamics
    assert (dynamics.width, dynamics.layers, dynamics.heads, dynamics.key_width) == (512, 12, 8, 64)
    tricks: GenieConfig = converting["tricks"]
    assert (tricks.actions.kind, tricks.sampling.reencode_every) == ("pair", 10)
    with torch.device("meta"):
        Genie(config), Genie(tricks)


def test_files_of_stages_become_a_configuration(converting):
    page = blocks(ROOT / "docs/coming-from-other-libraries.md", "yaml")
    config = converting["from_stages"](*(yaml.safe_load(text)["model"] for text in page))
    quantizer = config.tokenizer.quantizer
    assert (config.tokenizer.backbone, quantizer.kind, quantizer.codes) == ("conv3d", "lfq", 1024)
    assert config.tokenizer.extra_losses.adversarial_weight == 1.0
    assert (config.num_actions, config.actions.lfq_codebooks) == (8, 1)
    assert (config.dynamics.width, config.dynamics.layers, config.sampling.steps) == (512, 8, 25)
    two = converting["from_stages"](
        {"d_codebook": 5, "n_codebook": 2}, {"d_codebook": 1, "n_codebook": 3}, {}
    )
    assert (two.tokenizer.quantizer.codes, two.tokenizer.quantizer.codebooks) == (1024, 2)
    assert (two.num_actions, two.actions.lfq_codebooks) == (8, 3)
    with torch.device("meta"):
        Genie(config), Genie(two)


def test_frames_go_there_and_back(converting):
    video = torch.rand(2, 3, 4, 16, 24)
    frames = converting["to_frames"](video)
    assert (frames.dtype, frames.shape) == (torch.uint8, (2, 4, 16, 24, 3))
    assert (converting["from_frames"](frames) - video).abs().max() <= 0.5 / 255 + 1e-6
    assert converting["grid_of_tokens"](torch.zeros(2, 4, 6), (2, 3)).shape == (2, 4, 2, 3)


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs").glob("*/*.md"))], ids=str)
def test_what_the_docs_link_to_is_there(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_that_the_docs_name_are_there(page):
    rooms = "|".join(path.name for path in (ROOT / "src/genie").iterdir() if path.is_dir())
    for target in re.findall(rf"`((?:{rooms})/[\w/.-]+)`", page.read_text()):
        assert any((ROOT / "src/genie" / f"{target}{end}").exists() for end in ("", ".py")), target
    for target in re.findall(r"`((?:src|tests|benchmarks|examples)/[\w/.-]+)`", page.read_text()):
        assert "NAME" in target or (ROOT / target).exists(), target


def names_in_the_source() -> set[str]:
    """All names of classes, functions, variables, attributes and arguments, and all strings."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "src").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    kinds = ("name", "id", "attr", "arg", "value")
    found = (getattr(node, kind, None) for node in nodes for kind in kinds)
    return {name for name in found if isinstance(name, str)}


def names_in_the_glossary() -> set[str]:
    """Identifiers of the column "in the code", without paths, commands and letters of shapes."""
    terms = (ROOT / "docs/glossary.md").read_text().split("\n## Words that are not used\n")[0]
    cells = [line.split("|")[-2] for line in terms.splitlines() if line.startswith("|")]
    spans = [span for cell in cells for span in re.findall(r"`([^`]+)`", cell)]
    code = [span.partition("=")[0] for span in spans if "/" not in span and " " not in span]
    return {name for span in code for name in re.findall(r"[A-Za-z_]\w+", span)}


def test_names_that_the_glossary_gives_are_in_the_code():
    names = names_in_the_glossary()
    assert {"ClipStore", "windows", "sticky_action_prob", "PreviewMessage"} <= names
    assert sorted(names - names_in_the_source()) == []


def test_every_public_name_has_its_reference():
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    found = [
        name for page in pages for name in re.findall(r"^::: genie\.(\w+)$", page.read_text(), re.M)
    ]
    assert sorted(found) == sorted(set(genie.__all__) - {"__version__"})
