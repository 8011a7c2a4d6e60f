"""A world so small that a test can make one, as `GenieConfig` reads it."""

STACK = {"layers": 1, "width": 16, "heads": 2, "window": 4}
TINY = {
    "height": 16,
    "width": 16,
    "num_actions": 4,
    "tokenizer": {
        "patch": 8,
        "encoder": STACK,
        "decoder": STACK,
        "quantizer": {"codes": 16, "dim": 8},
    },
    "actions": {"patch": 8, "encoder": {**STACK, "window": 2}, "decoder": STACK},
    "dynamics": STACK,
    "sampling": {"steps": 2},
}
