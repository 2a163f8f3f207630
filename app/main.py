"""The entry point: `streamlit run app/main.py` starts this server with the pages of `router.py`."""

import sys
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

# `streamlit run` adds only the folder of this file to the path, not the root of the packages.
if (root := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, root)

from app.server.access import AccessMiddleware
from app.server.lifespan import run_tasks
from app.server.settings import check_start
from app.server.upload_limits import UploadLimitMiddleware, read_memory_limit

check_start()
app = st.App(
    "router.py",
    lifespan=run_tasks,
    middleware=[
        Middleware(AccessMiddleware),
        Middleware(UploadLimitMiddleware, memory_bytes=read_memory_limit()),
    ],
)
