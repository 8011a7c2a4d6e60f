"""A world as ONNX graphs that share one file of weights (ONNX, https://onnx.ai)."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from genie.core.config import UserError, require, to_dict
from genie.core.progress import Progress, Tick
from genie.export.graphs import Graph, play_graphs
from genie.world import inputs
from genie.world.action_groups import players_groups
from genie.world.action_mapper import ActionMapper, read_mapper
from genie.world.action_names import read_names
from genie.world.checkpoint import read_integers
from genie.world.config import GenieConfig
from genie.world.genie import Genie
from genie.world.hub import world_folder
from genie.world.prompts import load_prompts, save_prompts
from genie.world.replay import world_hash

if TYPE_CHECKING:
    import onnx

FORMAT, VERSION = "genie-onnx", 1
DESCRIPTION, WEIGHTS = "world.json", "weights.bin"
OPSET = 20

Weights = Literal["lossless", "float32", "float16"]

SMALL = 1024
"""Bytes of a tensor up to which it stays in its graph."""

ALIGNMENT = 64
"""Bytes; each tensor in the file of weights begins at a multiple of it."""


def export_onnx(
    world: str | Path, out: str | Path, weights: Weights = "lossless", *, progress: bool = True
) -> Path:
    """Writes a world as ONNX graphs for one player.

    The folder gets a graph for each of `genie.export.graphs.play_graphs`, `weights.bin`, which they
    share, `world.json`, which says how they are played, and the world's prompts. All that goes in
    and out of the graphs has fixed shapes and at most 32 bits.

    Args:
        world: folder of a world, its id on the Hugging Face Hub, or the name of one that comes with
            the package.
        out: folder to write. An earlier export in it is replaced.
        weights: "float16" halves the file and rounds; "float32" keeps every bit; "lossless" is
            8 bits or float16 for the tensors that lose nothing by it, and float32 for the others.
            Graphs compute in float32 in any case.
        progress: show a progress bar.

    Returns:
        The folder.

    Raises:
        UserError: there is no such world, the folder holds something else, or a package is missing.
    """
    require_onnx()
    folder, out = world_folder(world), Path(out).resolve()
    require(_is_free(out), f"{out}: holds something that is not an export; name another folder")
    loaded = Genie.from_pretrained(folder, device="cpu")
    inputs.check_guidance(
        loaded.config.sampling.guidance, loaded.config.dynamics.unconditional_fraction
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        made = Path(temporary) / "export"
        made.mkdir(0o777)
        save_prompts(load_prompts(None, loaded.config.height, loaded.config.width, folder), made)
        mapper = read_mapper(folder, loaded)
        labels, graphs = (
            _labels(folder, name_of(world), loaded.config, mapper),
            play_graphs(loaded, mapper),
        )
        integers = ((rows.numpy(), scale.numpy()) for rows, scale in read_integers(folder))
        table = WeightsFile(made / WEIGHTS, weights, integers)
        with Progress(name_of(world), len(graphs), unit="graphs", show=progress) as bar:
            _write(graphs, loaded, labels, made, table, bar.advance)
        put(made, out)
    return out


def name_of(world: str | Path) -> str:
    """Returns the name of a world for players: the last part of its path or id."""
    return Path(world).resolve().name


def put(made: Path, out: Path) -> None:
    """Puts a new export in the place of an earlier one; other files of the folder are kept."""
    if out.exists():
        for file in list(out.iterdir()):
            if not (made / file.name).exists():
                shutil.move(file, made / file.name)
        shutil.rmtree(out)
    made.rename(out)


def require_onnx() -> None:
    """Raises `UserError` where the packages of the extra `export` are missing."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install 'genie-worlds[export]'") from None


def _is_free(out: Path) -> bool:
    if not out.is_dir():
        return not out.exists()
    if not any(out.iterdir()):
        return True
    try:
        return json.loads((out / DESCRIPTION).read_bytes())["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _labels(
    folder: Path, name: str, config: GenieConfig, mapper: ActionMapper | None
) -> dict[str, Any]:
    """Returns what players read about a world and its actions.

    A mapper that is a dictionary chooses the same latent actions at every frame: `real_latents`.
    """
    latents = None
    if mapper is not None and mapper.config.kind == "dictionary":
        frame = torch.zeros(1, config.height, config.width, 3, dtype=torch.uint8)
        latents = mapper.distinct_latents(frame)[0, mapper.labelled_actions].tolist()
    return {
        "name": name,
        "action_names": read_names(folder, config.num_actions),
        "action_groups": players_groups(folder, config.num_actions),
        "real_actions": mapper.labelled_names if mapper else [],
        "real_latents": latents,
    }


def _write(
    graphs: list[Graph], world: Genie, labels: dict[str, Any], folder: Path, table: WeightsFile,
    on_graph: Tick,
) -> None:  # fmt: skip
    for graph in graphs:
        model = model_of(graph)
        table.move_out(model)
        (folder / f"{graph.name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        on_graph()
    table.write()
    about = {**labels, **_description(world, graphs)}
    if table.precision == "float16":  # rounded weights play another game
        about["hash"] += "-float16"
    (folder / DESCRIPTION).write_text(json.dumps(about, indent=2), encoding="utf-8")


def _description(world: Genie, graphs: list[Graph]) -> dict[str, Any]:
    config, dynamics = world.config, world.dynamics
    return {
        "format": FORMAT,
        "version": VERSION,
        "hash": world_hash(world),
        "height": config.height,
        "width": config.width,
        "fps": config.fps,
        "num_actions": config.num_actions,
        "grid": list(dynamics.grid),
        "coarse_tokens": dynamics.coarse_tokens,
        "vocabulary": dynamics.vocabulary,
        "sampling": to_dict(config.sampling),
        "weights": WEIGHTS,
        "graphs": {graph.name: _signature(graph) for graph in graphs},
    }


@torch.no_grad()
def _signature(graph: Graph) -> dict[str, Any]:
    made = graph.module(*graph.inputs.values())
    outputs = dict(zip(graph.outputs, made if isinstance(made, tuple) else (made,), strict=True))
    return {
        "file": f"{graph.name}.onnx",
        "inputs": {name: _type_of(value) for name, value in graph.inputs.items()},
        "outputs": {name: _type_of(value) for name, value in outputs.items()},
    }


def _type_of(value: torch.Tensor) -> dict[str, Any]:
    return {"type": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}


def model_of(graph: Graph) -> onnx.ModelProto:
    """Returns a graph as ONNX, with its weights inside."""
    from onnxscript import optimizer

    with _quiet():
        program = torch.onnx.export(
            graph.module.eval(),
            # Copies, because the exporter takes equal objects for the same input.
            tuple(value.clone() for value in graph.inputs.values()),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        # Weights stay as they are, so that graphs share them; runtimes fold them as they load.
        optimizer.optimize_ir(
            program.model,
            input_size_limit=SMALL,
            output_size_limit=SMALL,
            should_fold=lambda node: False if node.op_type == "Transpose" else None,
        )
    model = program.model_proto
    _strip(model)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Removes what says where the exporter ran; a file depends on its content only."""
    del model.metadata_props[:]
    graph = model.graph
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]  # shapes of what lies between, which runtimes infer


class WeightsFile:
    """Tensors of several graphs in one file, equal ones once.

    Args:
        path: of the file.
        precision: as of `export_onnx`.
        integers: matrices of 8 bits and the scales of their rows, as the world's file has them.
    """

    def __init__(
        self,
        path: Path,
        precision: Weights,
        integers: Iterable[tuple[np.ndarray, np.ndarray]] = (),
    ):
        self.path, self.precision = path, precision
        self._content = bytearray()
        self._offsets: dict[bytes, int] = {}
        by_row = ((rows, scale.reshape(-1, *[1] * (rows.ndim - 1))) for rows, scale in integers)
        self._integers = {
            _digest(rows.astype(np.float32) * scale.astype(np.float32)): (rows, scale)
            for rows, scale in by_row
        }

    def move_out(self, model: onnx.ModelProto) -> None:
        """Moves the large tensors of a graph to the file."""
        from onnx import TensorProto, numpy_helper

        nodes: list[onnx.NodeProto] = []
        for tensor in list(model.graph.initializer):
            if tensor.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor)
                if values.nbytes > SMALL:
                    nodes += self._move(tensor, values, model.graph)
        nodes += model.graph.node
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    def write(self) -> None:
        """Writes the file."""
        self.path.write_bytes(self._content)

    def _move(
        self, tensor: onnx.TensorProto, values: np.ndarray, graph: onnx.GraphProto
    ) -> list[onnx.NodeProto]:
        """Moves a tensor to the file; returns the nodes that make float32 of it again."""
        from onnx import helper

        name = tensor.name
        known = self._integers.get(_digest(values)) if self.precision == "lossless" else None
        if known is not None:
            parts = [f"{name}.integers", f"{name}.scale"]
            casts = [
                self._put(tensor, parts[0], known[0]),
                self._put(graph.initializer.add(), parts[1], known[1]),
            ]
            return [*casts, helper.make_node("Mul", parts, [name])]
        if self._halved(values):
            return [self._put(tensor, name, values.astype(np.float16))]
        self._put(tensor, name, values)
        return []

    def _put(self, tensor: onnx.TensorProto, name: str, values: np.ndarray) -> onnx.NodeProto:
        """Makes a tensor refer to values in the file; returns a node `name` of it in float32."""
        from onnx import TensorProto, external_data_helper, helper

        content = np.ascontiguousarray(values).tobytes()
        exact = values.dtype == np.float32
        tensor.name = name if exact else f"{name}.{values.dtype}"
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        del tensor.dims[:]
        tensor.dims.extend(values.shape)
        tensor.raw_data = b"0"  # what `set_external_data` asks for
        external_data_helper.set_external_data(
            tensor, WEIGHTS, offset=self._offset(content), length=len(content)
        )
        tensor.ClearField("raw_data")
        return helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT)

    def _halved(self, values: np.ndarray) -> bool:
        if self.precision == "lossless":
            with np.errstate(over="ignore"):
                return bool((values.astype(np.float16).astype(np.float32) == values).all())
        return self.precision == "float16"

    def _offset(self, content: bytes) -> int:
        key = hashlib.sha256(content).digest()
        if key not in self._offsets:
            self._content += bytes(-len(self._content) % ALIGNMENT)
            self._offsets[key] = len(self._content)
            self._content += content
        return self._offsets[key]


def _digest(values: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return values.shape, hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporter says about packages and code that are not ours."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
