"""What the options of several commands have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genie.core.config import Device, Dtype, require

if TYPE_CHECKING:
    from pathlib import Path

    from jsonargparse import ArgumentParser, Namespace

    from genie.data.store import ClipStore
    from genie.world.genie import Genie


def speed_options(parser: ArgumentParser) -> None:
    """Puts on a parser where, in what precision and how fast a world plays."""
    parser.add_argument("--device", type=Device | None, help="where to run; chosen when left out")
    words = "type of the weights; bfloat16 is faster for wide worlds on most machines"
    parser.add_argument("--dtype", type=Dtype, default="float32", help=words)
    parser.add_argument(
        "--compile",
        action="store_true",
        help="faster frames after some minutes of compiling, half a minute for each size of batch",
    )


def values_of(options: Namespace) -> dict[str, Any]:
    """Returns the options as arguments of a function."""
    return {key: value for key, value in options.as_dict().items() if key != "config"}


def require_device(device: str | None) -> None:
    """Refuses a device that this machine lacks, before anything slow is imported."""
    from genie.world.inputs import device_of

    if device not in (None, "cpu"):
        device_of(device)


def world_and_store(
    folder: Path, data: str | Path, device: str | None = None
) -> tuple[Genie, ClipStore]:
    """Opens a world in whose folder something is written, and the clip store it is made from.

    Raises:
        UserError: one of them cannot be opened, or their frames differ in size.
    """
    from genie.data.store import ClipStore
    from genie.world.genie import Genie

    require(folder.is_dir(), f"{folder}: expected the folder of a world, to write into it")
    world, store = Genie.from_pretrained(folder, device=device), ClipStore.open(data)
    height, width = world.config.height, world.config.width
    require(
        (store.height, store.width) == (height, width),
        f"{data}: frames of {store.width}x{store.height}, but the world has {width}x{height}; "
        f"prepare the videos again with --height {height} --width {width}",
    )
    return world, store
