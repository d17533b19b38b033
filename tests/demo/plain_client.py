"""Fetch the demo's list and all of its URLs with urllib; print [behaviour, outcome] pairs."""

import csv
import io
import json
import urllib.error
import urllib.request
from multiprocessing.pool import ThreadPool

from PIL import Image

LIMIT = 2_000_000


def outcomes() -> list[tuple[str, str]]:
    """Fetch the list and all of its URLs with urllib; return (behaviour, outcome) pairs."""
    with urllib.request.urlopen("http://demo.invalid/list.csv", timeout=5) as answer:
        text = answer.read().decode()
    urls = [row["url"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    urls = [url for url in urls if url.startswith("http://")]
    with ThreadPool(16) as pool:
        return list(zip([url.split("/")[3] for url in urls], pool.map(outcome, urls), strict=True))


def outcome(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            body = answer.read(LIMIT)
            declared = int(answer.headers.get("Content-Length", LIMIT))
            robots = answer.headers.get("X-Robots-Tag")
    except urllib.error.HTTPError as error:
        return str(error.code)
    except TimeoutError:
        return "timeout"
    if len(body) == LIMIT:
        return "too long"
    if len(body) < declared:
        return "cut off"
    return f"{look(body)} that says {robots}" if robots else look(body)


def look(body: bytes) -> str:
    if not body:
        return "empty"
    try:
        image = Image.open(io.BytesIO(body))
    except OSError:
        return "no image"
    if image.width == 1:
        return "tiny"
    if image.width > 10_000:
        return "huge"
    try:
        image.load()
    except OSError:
        return "broken image"
    return "image"


if __name__ == "__main__":
    print(json.dumps(outcomes()))
