"""Play an exported world with ONNX Runtime and NumPy, without PyTorch.

genie export coinrun-tiny --onnx exported/
python examples/play_onnx.py exported/ --actions 1,1,2,0 --out clip.gif
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

STRIDE = np.uint64(0x9E37_79B9_7F4A_7C15)
FACTORS = np.uint64(0xBF58_476D_1CE4_E5B9), np.uint64(0x94D0_49BB_1331_11EB)


class Game:
    """A game of one player; `frame` is the last one, uint8 (H, W, 3).

    Args:
        folder: what `genie export --onnx` wrote.
        prompt: frame to start from, uint8 of the world's size.
        seed: determines all random numbers, as in Python.
        threads: of the CPU.
    """

    def __init__(self, folder: Path, prompt: np.ndarray, seed: int = 0, threads: int = 1):
        self.world = json.loads((folder / "world.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.graphs = {
            name: onnxruntime.InferenceSession(folder / graph["file"], options)
            for name, graph in self.world["graphs"].items()
        }
        self.seed, self.frame = np.uint64(seed), prompt
        tokens = self.run("tokenize", frames=prompt[None, None])["tokens"]
        caches = self.run("start", tokens=tokens)
        self.previous = tokens[:, 0]
        ours = [name for name in caches if name.startswith("decoder_")]
        self.decoder = {name: caches.pop(name) for name in ours}
        self.dynamics = caches

    def step(self, action: int) -> np.ndarray:
        """Plays an action and returns the next frame."""
        game = {"action": np.array([action], np.int32), "previous": self.previous, **self.dynamics}
        tokens = self.sample(game)
        time = self.dynamics["time"]
        decoded = self.run("decode", tokens=tokens, time=time, **self.decoder)
        self.frame = decoded.pop("frame")[0]
        every = self.world["sampling"]["reencode_every"]
        if every and time[0] % every == 0:
            tokens = self.run("tokenize", frames=self.frame[None, None])["tokens"][:, 0]
        self.decoder, self.previous = decoded, tokens
        self.dynamics = self.run("commit", tokens=tokens, **game)
        return self.frame

    def sample(self, game: dict[str, np.ndarray]) -> np.ndarray:
        """Returns the tokens of the next frame, in a few MaskGIT steps."""
        sampling, vocabulary = self.world["sampling"], self.world["vocabulary"]
        total, temperature = math.prod(self.world["grid"]), sampling["temperature"]
        guided = {"guidance": np.float32(sampling["guidance"])} if sampling["guidance"] else {}
        key = mixed(mixed(self.seed) + np.uint64(game["time"][0]))
        first = self.world["coarse_tokens"]
        order = token_order(sampling["order"], self.world["grid"], key, first)
        tokens = np.full((1, total), vocabulary, np.int32)
        left = total
        counts = step_counts(total, sampling["steps"], sampling["mask_schedule"], first)
        for number, after in enumerate(counts, start=1):
            where = np.flatnonzero(tokens[0] == vocabulary)
            if total - left < first:  # the others wait for these
                where = where[where < first]
            if order is not None:
                where = order[total - left : total - after]
            noise = np.zeros((1, total, vocabulary), np.float32)
            if temperature:
                noise[0, where] = gumbel(key + np.uint64(number), (len(where), vocabulary))
            fill = np.isin(np.arange(total), where)[None]
            choice = {"count": np.int32(left - after)} if order is None else {"fill": fill}
            (tokens,) = self.run(
                "guided_step" if guided else "maskgit_step",
                tokens=tokens,
                noise=noise,
                temperature=np.float32(temperature or 1),
                **choice,
                **game,
                **guided,
            ).values()
            left = after
        return tokens

    def run(self, graph: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a graph and returns its outputs by name."""
        names = list(self.world["graphs"][graph]["outputs"])
        feed = {name: np.asarray(value) for name, value in inputs.items()}
        outputs = self.graphs[graph].run(names, feed)
        return dict(zip((name.removeprefix("next_") for name in names), outputs, strict=True))


def masked_counts(total: int, steps: int, schedule: str) -> list[int]:
    """Returns how many tokens are masked after each MaskGIT step."""
    steps = min(steps, total)
    counts, left = [], total
    for step in range(1, steps + 1):
        done = step / steps
        ratio = {
            "cosine": math.cos(done * math.pi / 2),
            "linear": 1 - done,
            "exponential": 1 - math.expm1(5 * done) / math.expm1(5),
        }[schedule]
        left = max(min(math.floor(total * ratio + 1e-9), left - 1), steps - step)
        counts.append(left)
    return counts


def step_counts(total: int, steps: int, schedule: str, first: int) -> list[int]:
    """The same where the first tokens are sampled before the others, in steps of their own."""
    if not first:
        return masked_counts(total, steps, schedule)
    early = max(1, round(steps * first / total))
    counts = [total - first + left for left in masked_counts(first, early, schedule)]
    return counts + masked_counts(total - first, max(1, steps - early), schedule)


def token_order(
    order: str, grid: Sequence[int], key: np.uint64, first: int = 0
) -> np.ndarray | None:
    """Returns the positions in the order of sampling; None where confidence decides."""
    if order == "confidence":
        return None
    rows, columns = grid
    if order == "random":
        ranked = random_bits(key, rows * columns).view(np.int64).argsort(kind="stable")
    else:
        ranked = halton_order(rows, columns)
    return np.concatenate([ranked[ranked < first], ranked[ranked >= first]])


def halton_order(rows: int, columns: int) -> np.ndarray:
    found: dict[int, None] = {}
    index = 1
    while len(found) < rows * columns:
        row = int(radical_inverse(index, 2) * rows)
        column = int(radical_inverse(index, 3) * columns)
        found.setdefault(row * columns + column)
        index += 1
    return np.array(list(found))


def radical_inverse(index: int, base: int) -> float:
    value, digit = 0.0, 1.0 / base
    while index:
        index, remainder = divmod(index, base)
        value += remainder * digit
        digit /= base
    return value


def mixed(x: np.uint64) -> np.uint64:
    """SplitMix64 (Steele, Lea, Flood 2014); products wrap at 64 bits."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * FACTORS[0]
        x = (x ^ (x >> np.uint64(27))) * FACTORS[1]
        return x ^ (x >> np.uint64(31))


def random_bits(key: np.uint64, count: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        return mixed(key + np.arange(1, count + 1, dtype=np.uint64) * STRIDE)


def gumbel(key: np.uint64, shape: tuple[int, int]) -> np.ndarray:
    count = math.prod(shape)
    halves = random_bits(key, (count + 1) // 2).view(np.uint32)[:count]
    # 23 bits as the fraction of a number in [1, 2), and half of the last one: never 0, never 1.
    uniform = ((halves & 0x7F_FFFF) | 0x3F80_0000).view(np.float32) - np.float32(1 - 2**-24)
    return -np.log(-np.log(uniform)).reshape(shape)


def main(args: Sequence[str] | None = None) -> None:
    options = parse(args)
    prompt = options.prompt or sorted((options.folder / "prompts").glob("*.png"))[0]
    with Image.open(prompt) as image:
        game = Game(options.folder, np.array(image.convert("RGB")), options.seed)
    frames = [game.frame, *(game.step(action) for action in options.actions)]
    first, *rest = (Image.fromarray(frame).resize((256, 256), 0) for frame in frames)
    milliseconds = 1000 / game.world["fps"]
    first.save(options.out, save_all=True, append_images=rest, duration=milliseconds, loop=0)
    print(f"{len(frames)} frames in {options.out}")


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what `genie export --onnx` wrote")
    parser.add_argument("--prompt", type=Path, help="picture of the world's size; one of its own")
    parser.add_argument("--actions", type=buttons, default="0,0,1,1", help="such as 0,0,1,1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="clip.gif", help=".gif")
    return parser.parse_args(args)


def buttons(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
