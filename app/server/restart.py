"""Reload open tabs after a restart of the server.

A browser reconnects to the new server, but shows the old page until the next click, with images and
buttons that the new server does not know.
"""

import json
import secrets

import streamlit as st

INSTANCE_HEADER = "Server-Instance"
INSTANCE = secrets.token_hex(8)
"""Identifies this process in each answer."""
_PERIOD_MS = 5000


def make_reload_script() -> str:
    """Return the JavaScript that reloads the page once another process answers."""
    base = st.get_option("server.baseUrlPath").strip("/")
    url = f"{'/' if base else ''}{base}/_stcore/health"
    return f"""
window.reloadTimer ??= setInterval(async () => {{
  if (document.hidden) return;
  const answer = await fetch({json.dumps(url)}, {{cache: "no-store"}}).catch(() => null);
  const instance = answer?.headers.get({json.dumps(INSTANCE_HEADER)});
  if (instance && instance !== {json.dumps(INSTANCE)}) location.reload();
}}, {_PERIOD_MS});
"""
