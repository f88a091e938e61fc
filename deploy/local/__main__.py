"""``python -m deploy.local [FOLDER…]``: runs until Ctrl-C or SIGTERM, and leaves nothing behind."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path

from deploy.local.cluster import OURS, Cluster, Stop, Stopped, ask
from deploy.local.member import StartError, say, tell
from modelyard.core.manifest import Manifest, ManifestError
from modelyard.folder import FolderError, find_models, read_manifest

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Run the cluster."""
    options = _parse()
    ports = [options.port, options.port and options.port + 1]
    stop = Stop()
    for number in ENDING:
        signal.signal(number, stop.ask)
    with tempfile.TemporaryDirectory(prefix="modelyard-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder), stop)
        try:
            models = {found: read_manifest(found) for found in find_models(options.folders)}
            addresses = cluster.start(models, host=options.host, ports=ports)
            _welcome(cluster, addresses, models)
            cluster.watch()
        except Stopped:
            pass
        except (FolderError, ManifestError, StartError) as error:
            sys.exit(f"cluster: {error}")
        finally:
            say(OURS, "ending")
            cluster.end()
            say(OURS, "ended")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cluster", description="Run a cluster on this machine.")
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("models")])
    parser.add_argument("--host", default="127.0.0.1", help="of the gateways (127.0.0.1)")
    parser.add_argument(
        "--port", type=int, default=8000, help="of the first gateway, the other has the next (8000)"
    )
    return parser.parse_args()


def _welcome(cluster: Cluster, addresses: list[str], models: dict[Path, Manifest]) -> None:
    """Tell where all is, a request that works, and how more processes can join."""
    folder, manifest = next(iter(models.items()))
    details = ask(addresses[0], f"/models/{manifest.name}")
    example = details["versions"][0]["example"]
    body = shlex.quote(json.dumps({"model_name": manifest.name, "input_data": example}))
    modelyard = os.path.relpath(Path(sys.executable).with_name("modelyard"))
    lines = [
        f"\nModelyard is at {' and '.join(addresses)}",
        "Try:",
        *(
            f"  curl -s {address}/predict -H 'content-type: application/json' -d {body}"
            for address in addresses
        ),
        "A further worker or gateway joins with:",
        *(f"  export {name}={value}" for name, value in cluster.settings.items()),
        f"  {modelyard} worker {os.path.relpath(folder)} --port 0",
        "Ctrl-C ends them all.",
    ]
    for line in lines:
        tell(line)


if __name__ == "__main__":
    main()
