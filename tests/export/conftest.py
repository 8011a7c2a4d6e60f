import json

import numpy as np
import pytest
import torch
from visiting import chromium, opened, served

from genie import Genie, UserError
from genie.export.site import RUNTIME_FILES, _fetch, export_site
from genie.world.action_mapper import ActionMapper, MapperConfig, latent_actions_hash
from small import TINY, save_world

GUIDED = {"dynamics": {**TINY["dynamics"], "unconditional_fraction": 0.2}}
COARSE_FIRST = {
    "backbone": "hierarchical", "patch": 4, "channels": 8, "quantizer": {"codes": 16, "dim": 8},
}  # fmt: skip


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A world with random weights: coarse and fine tokens, and trained for guidance."""
    prompts = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    made = save_world(
        tmp_path_factory.mktemp("export") / "toy", *prompts, tokenizer=COARSE_FIRST, **GUIDED
    )
    (made / "names.json").write_text(json.dumps({"names": ["left", "", "", "jump"]}))
    _mapper_of(Genie.from_pretrained(made, "cpu")).save_pretrained(made / "mapper")
    return made


def _mapper_of(world):
    """A network of random weights: the latent actions of real ones depend on the frame."""
    names, about = ("noop", "left", "right"), latent_actions_hash(world)
    torch.manual_seed(0)
    mapper = ActionMapper(MapperConfig("network", names, 4, about, 9, width=8))
    mapper.counts[[1, 2, 3], [1, 2, 2]] = 3
    torch.nn.init.normal_(mapper.latent_predictor.to_logits.weight, std=5)
    return mapper


@pytest.fixture(scope="session")
def world(folder):
    return Genie.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="session")
def runtime(tmp_path_factory):
    """The files of npm packages, empty ones where npm cannot fetch them."""
    kept = tmp_path_factory.mktemp("runtime")
    try:
        _fetch(kept)
    except UserError:
        for name in RUNTIME_FILES:
            (kept / name).write_bytes(b"")
    return kept


@pytest.fixture(scope="session")
def site(folder, runtime, tmp_path_factory):
    return export_site([folder], tmp_path_factory.mktemp("site") / "site", runtime=runtime)


@pytest.fixture(scope="session")
def exported(site):
    """The world as `genie export --onnx` writes it."""
    return site / "worlds" / "toy"


@pytest.fixture(scope="module")
def address(site):
    """The site on a plain file server."""
    with served(site) as address:
        yield address


@pytest.fixture(scope="module")
def driver():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(driver):
    with chromium(driver) as running:
        yield running


@pytest.fixture(scope="module")
def visitor(browser):
    """Whom all pages of a file belong to: what one has loaded, the next finds in the cache."""
    context = browser.new_context(accept_downloads=True)
    yield context
    context.close()


@pytest.fixture(scope="module")
def uncached(browser):
    """A context in which no service worker answers: what a test answers in its place arrives."""
    context = browser.new_context(service_workers="block")
    yield context
    context.close()


@pytest.fixture
def page(visitor, address):
    with opened(visitor, address) as made:
        yield made


@pytest.fixture
def first_visit(browser, address):
    """The page in a browser that has never seen it."""
    context = browser.new_context()
    with opened(context, address) as made:
        yield made
    context.close()


@pytest.fixture
def needs_packages(runtime):
    if not (runtime / RUNTIME_FILES[0]).stat().st_size:
        pytest.skip("npm could not fetch onnxruntime-web")


@pytest.fixture
def playing(page, needs_packages):
    """The page once the first frame is there."""
    page.wait_for_selector("#canvas[data-frame]", timeout=60_000)
    return page
