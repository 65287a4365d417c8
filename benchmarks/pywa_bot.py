"""What most bots are: pywa in FastAPI under uvicorn and uvloop, signatures verified, a handler that stores nothing."""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pywa_async import WhatsApp

from benchmarks.traffic import PATH, SECRET, Line


def main() -> None:
    """Serve on the port given until SIGTERM."""
    app, taken = FastAPI(), list[str]()
    whatsapp = WhatsApp(
        phone_id=Line().phone_number_id,
        token="none",
        server=app,
        webhook_endpoint=PATH,
        verify_token="none",
        app_secret=SECRET,
    )

    @whatsapp.on_message
    async def take(_: WhatsApp, message: Any) -> None:
        taken.append(message.id)

    @app.get("/taken")
    async def count() -> int:
        return len(taken)

    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="error",
        access_log=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
