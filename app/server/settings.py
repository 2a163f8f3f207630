"""Settings of the server that decide who can reach it."""

import ipaddress
import logging
import os

import streamlit as st
from streamlit import config

logger = logging.getLogger("app")

START_COMMAND = "streamlit run app/main.py"
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
REMOTE_VARIABLE = "BC_ALLOW_REMOTE"

_is_checked = False


def list_hosts() -> list[str]:
    """Return the host names of the server: those of the loopback, and server.allowedHosts."""
    listed = [name.strip().lower() for name in st.get_option("server.allowedHosts")]
    # Without its dot, an incomplete "*." would allow every name.
    names = (name.rstrip(".") for name in listed if name.rstrip(".") != "*" or name == "*")
    return list(dict.fromkeys([*LOOPBACK_HOSTS, *filter(None, names)]))


def is_shared() -> bool:
    """Return whether others can reach the server: directly, or through a proxy."""
    return (
        not _is_loopback(st.get_option("server.address") or "")
        or list_hosts() != list(LOOPBACK_HOSTS)
        or bool(st.get_option("server.corsAllowedOrigins"))
    )


def check_start() -> None:
    """Apply the host names; end the process if it would open the server without consent."""
    global _is_checked
    if st.get_option("browser.gatherUsageStats"):
        raise SystemExit(
            "The file .streamlit/config.toml was not found. Start the app in the folder that "
            f"contains it: {START_COMMAND}"
        )
    address = st.get_option("server.address") or "0.0.0.0"
    if not _is_loopback(address):
        meaning = (
            f"on {address}, where other computers can reach it. There are no user accounts: "
            "everyone who reaches the server can see and delete its datasets and runs."
        )
        if os.environ.get(REMOTE_VARIABLE) != "1":
            raise SystemExit(
                f"The server would listen {meaning} Set {REMOTE_VARIABLE}=1 to start it "
                "nevertheless, or use a proxy with logins: see docs/deployment.md."
            )
        logger.warning("The server listens %s", meaning)
    # Streamlit checks the host of a WebSocket itself, also against a list without the loopback.
    config.set_option("server.allowedHosts", list_hosts())
    _is_checked = True


def is_checked() -> bool:
    """Return whether `check_start` has passed in this process, so that requests are checked."""
    return _is_checked


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
