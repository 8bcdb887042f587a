"""Fetching over HTTP, where the environment's proxies do not stand before this machine itself."""

from __future__ import annotations

import urllib.request
from http.client import HTTPResponse

from placet._addresses import is_own_url


def open_url(url: str, *, timeout: float) -> HTTPResponse:
    """Open an http or https address, within `timeout` seconds a step. Raises OSError or ValueError."""
    proxies = [urllib.request.ProxyHandler({})] if is_own_url(url) else []
    answer: HTTPResponse = urllib.request.build_opener(*proxies).open(url, timeout=timeout)
    return answer
