"""Reasons why a row of the URL list is not a usable pair, as counted in losses.csv.

Each row is counted once, under the first reason that applies in this order.
"""

MALFORMED = "malformed line"
NOT_HTTP = "not http"
DUPLICATE = "duplicate url"
BAD_URL = "bad url"
NOT_FOUND = "not found"
HTTP_ERROR = "http error"
BAD_REDIRECT = "bad redirect"
DISALLOWED = "disallowed"
PRIVATE = "private address"
NO_CONNECTION = "no connection"
TIMEOUT = "timeout"
BAD_ANSWER = "bad answer"
CUT_OFF = "cut off"
TOO_MANY_BYTES = "too many bytes"
EMPTY = "empty"
NOT_AN_IMAGE = "not an image"
TOO_LARGE = "image too large"
BROKEN = "broken image"
TOO_SMALL = "image too small"
NO_LETTERS = "no letters"

REASONS = {
    MALFORMED: "the line has too few columns or no URL",
    NOT_HTTP: "the URL's scheme is not http or https; it was not requested",
    DUPLICATE: "the URL already occurs in an earlier row",
    BAD_URL: "the URL is invalid and cannot be requested",
    NOT_FOUND: "the server answered 404 or 410",
    HTTP_ERROR: "the server answered with another error on every attempt",
    BAD_REDIRECT: "too many redirects, a redirect loop, or one to another scheme than http(s)",
    DISALLOWED: "the server's X-Robots-Tag header disallows such use of the image",
    PRIVATE: "the host, or that of a redirect, is not on the public internet",
    NO_CONNECTION: "the host does not exist or could not be reached on any attempt",
    TIMEOUT: "the server stopped sending or took too long on every attempt",
    BAD_ANSWER: "the server's answer is not valid HTTP",
    CUT_OFF: "the body was shorter than announced on every attempt",
    TOO_MANY_BYTES: "the body exceeds the size limit; the rest was not read",
    EMPTY: "the body is empty",
    NOT_AN_IMAGE: "the body is not an image (for example HTML) or has an unknown format",
    TOO_LARGE: "the image exceeds the limit of pixels, time or memory",
    BROKEN: "the image cannot be decoded, for example because it is truncated",
    TOO_SMALL: "the image's shorter side, before resizing, is below the limit",
    NO_LETTERS: "the caption contains no letters of any script",
}
