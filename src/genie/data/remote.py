"""Clip stores at an address instead of in a folder: `s3://`, `gs://` and `https://`, for reading.

TensorStore's own drivers read them, with credentials from the usual environment, such as
`AWS_ACCESS_KEY_ID` or an instance's role. What is small is copied into a local folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from genie.core.config import UserError
from genie.core.io import replacing
from genie.data import local_copies

_ADDRESS = re.compile(r"(s3|gs|https?):/+([^/]+)/?(.*)")
RETRIES = {"max_retries": 32, "initial_delay": "100ms", "max_delay": "16s"}
"""How often a failed request is repeated; waits double."""
REQUESTS = 256
"""Requests in flight: with answers that take 200 ms, TensorStore's 32 are 160 a second."""
INDEX_BYTES = 2**26
"""For the indices of shards, each of which would else be read again for every window."""


def is_address(path: str | Path) -> bool:
    """Whether a store lies elsewhere than in a folder."""
    return _ADDRESS.fullmatch(str(path)) is not None


def kvstore(address: str, folder: str = "") -> dict[str, Any]:
    """Returns TensorStore's spec of a folder below an address.

    `AWS_ENDPOINT_URL` and `AWS_REGION` name another server than Amazon's and its region.
    """
    found = _ADDRESS.fullmatch(address)
    assert found is not None
    scheme, host, path = found.groups()
    path = f"{path.rstrip('/')}/{folder}".lstrip("/")
    if scheme == "gs":
        return {"driver": "gcs", "bucket": host, "path": path}
    if scheme != "s3":
        return {"driver": "http", "base_url": f"{scheme}://{host}/", "path": path}
    spec = {"driver": "s3", "bucket": host, "path": path}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        spec |= {"endpoint": endpoint.rstrip("/"), "aws_region": region or "us-east-1"}
    return spec


def context(cache_bytes: int) -> Any:
    """Returns TensorStore's context: repeated requests, and a cache of so many bytes in memory."""
    import tensorstore

    settings: dict[str, Any] = {"cache_pool": {"total_bytes_limit": cache_bytes + INDEX_BYTES}}
    for driver in ("s3", "gcs", "http"):
        settings[f"{driver}_request_retries"] = RETRIES
        settings[f"{driver}_request_concurrency"] = {"limit": REQUESTS}
    return tensorstore.Context(settings)


def read(address: str, name: str) -> bytes | None:
    """Returns a file below an address, None where there is none.

    Raises:
        UserError: it cannot be read.
    """
    import tensorstore

    try:
        store = tensorstore.KvStore.open(kvstore(address), context=context(0)).result()
        found = store.read(name).result()
    except Exception as error:  # each driver raises its own
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{address}: cannot be read ({reason}); check the address, the network and the "
            "credentials in the environment"
        ) from None
    return None if found.state == "missing" else bytes(found.value)


def local_folder(address: str, table: bytes) -> Path:
    """Makes the local folder of a store, with its table; another table has another folder.

    It lies below `GENIE_CACHE`, or `~/.cache/genie`. Tokens and latent actions are kept there, so
    machines that train together need one that they share. `GENIE_CACHE_LIMIT`, such as 50GB, is
    the size above which folders of other stores are removed, unless a process uses them.
    """
    root = Path(os.environ.get("GENIE_CACHE") or Path.home() / ".cache" / "genie")
    mark = hashlib.sha256(address.rstrip("/").encode() + table).hexdigest()[:12]
    folder = root / "stores" / f"{address.rstrip('/').rpartition('/')[2]}-{mark}"
    local_copies.hold(folder)
    local_copies.trim(folder.parent, local_copies.limit())
    if not (folder / "store.json").exists():
        with replacing(folder / "store.json") as path:
            path.write_bytes(table)
    return folder


def copied(address: str, path: Path) -> Path:
    """Returns a file of a store's local folder, copied from the address if it is not there yet."""
    if not path.exists() and (content := read(address, path.name)) is not None:
        with replacing(path) as part:
            part.write_bytes(content)
    return path
