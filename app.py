"""The Space: what Intermezzo's models do, in a browser, in English and Chinese.

    python app.py                      http://127.0.0.1:7860
    python app.py --host 0.0.0.0       also for other machines (a phone in the same network)

Only tabs whose trained model is there are shown. Nothing is asked of the network.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from intermezzo.processing.errors import InputError


def main() -> int:
    """Serves the page until it is interrupted."""
    on_hub = "SPACE_ID" in os.environ
    options = argparse.ArgumentParser(description="Intermezzo in the browser")
    options.add_argument("--host", default="0.0.0.0" if on_hub else "127.0.0.1")
    options.add_argument("--port", type=int, default=int(os.environ.get("PORT", "7860")))
    options.add_argument("--checkpoints", help="folder with one folder a model; without it checkpoints/")
    options.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    given = options.parse_args()
    try:
        import uvicorn

        from intermezzo.space.models import Models
        from intermezzo.space.server import make_server
    except ModuleNotFoundError as error:
        print(f"the page needs {error.name}; pip install 'intermezzo[space]'", file=sys.stderr)
        return 1
    try:
        server = make_server(Models(given.checkpoints, given.device))
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Intermezzo: http://{given.host}:{given.port}")
    uvicorn.run(server, host=given.host, port=given.port, log_level="warning", proxy_headers=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
