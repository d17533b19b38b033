"""Why a row of the URL list is no usable pair: the names that the losses tables count by.

A row is counted once, under the first reason that it meets, in this order.
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
    MALFORMED: "the line has too few columns, or no URL",
    NOT_HTTP: "the URL is of another scheme than http and https; it was never opened",
    DUPLICATE: "the URL stands in an earlier row",
    BAD_URL: "the URL cannot be asked for",
    NOT_FOUND: "the server answered 404 or 410",
    HTTP_ERROR: "the server answered with another error, at each try",
    BAD_REDIRECT: "redirected in a circle, too often, or to another scheme than http and https",
    DISALLOWED: "the server's X-Robots-Tag says that the image is not for such use",
    PRIVATE: "the host, or one that it redirects to, is not on the public internet",
    NO_CONNECTION: "no such host, or no connection to it, at each try",
    TIMEOUT: "the server fell silent, or took too long, at each try",
    BAD_ANSWER: "the server's answer is not HTTP",
    CUT_OFF: "the body was shorter than announced, at each try",
    TOO_MANY_BYTES: "the body is larger than the limit; the rest of it was not read",
    EMPTY: "the body is empty",
    NOT_AN_IMAGE: "the body is something else, such as HTML, or an unknown kind of image",
    TOO_LARGE: "the image has more pixels, or takes more time or memory, than the limit",
    BROKEN: "the image does not decode, for example because it ends half-way",
    TOO_SMALL: "the image's shorter side, as the server sent it, is below the limit",
    NO_LETTERS: "the caption has no letter of any script",
}
