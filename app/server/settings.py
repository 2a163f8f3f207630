"""Settings of the server that decide who can reach it."""

import ipaddress
import os

import streamlit as st

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
REMOTE_VARIABLE = "BC_ALLOW_REMOTE"


def list_allowed_hosts() -> list[str]:
    """Return the host names in the option server.allowedHosts, in lower case."""
    names = (name.strip().lower().rstrip(".") for name in st.get_option("server.allowedHosts"))
    return [name for name in names if name]


def is_shared() -> bool:
    """Return whether others can reach the server: directly, or through a proxy."""
    return (
        not _is_loopback(st.get_option("server.address") or "")
        or not set(list_allowed_hosts()) <= set(LOOPBACK_HOSTS)
        or bool(st.get_option("server.corsAllowedOrigins"))
    )


def check_start() -> None:
    """End the process if the configuration is missing, or opens the server without consent."""
    if st.get_option("browser.gatherUsageStats"):
        raise SystemExit(
            "The file .streamlit/config.toml was not found. Start the app in the folder that "
            "contains it: streamlit run app/main.py"
        )
    address = st.get_option("server.address") or "0.0.0.0"
    if not _is_loopback(address) and os.environ.get(REMOTE_VARIABLE) != "1":
        raise SystemExit(
            f"The server would listen on {address}, where other computers can reach it. There are "
            "no user accounts: everyone who reaches the server can see and delete its datasets "
            f"and runs. Set {REMOTE_VARIABLE}=1 to start it nevertheless, or use a proxy with "
            "logins: see docs/deployment.md."
        )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
