import functools
import http.server
import json
import threading

import numpy as np
import pytest
import torch
from browsing import ARGUMENTS, CHROMIUM

from genie import Genie, UserError
from genie.export.site import RUNTIME_FILES, _fetch, export_site
from genie.world.action_mapper import ActionMapper, MapperConfig, latent_actions_hash
from small import TINY, save_world

GUIDED = {"dynamics": {**TINY["dynamics"], "unconditional_fraction": 0.2}}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A world with random weights that was trained for guidance, by its configuration."""
    prompts = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    made = save_world(tmp_path_factory.mktemp("export") / "toy", *prompts, **GUIDED)
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

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = {  # noqa: RUF012
            **http.server.SimpleHTTPRequestHandler.extensions_map,
            ".mjs": "text/javascript",
            ".wasm": "application/wasm",
        }

        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def page(browser, address):
    context = browser.new_context(accept_downloads=True)
    made = context.new_page()
    errors = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.goto(address)
    yield made
    context.close()
    assert not errors
