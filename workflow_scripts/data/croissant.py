"""Write Croissant metadata (JSON-LD) for a manifest, as read by dataset hubs.

Inputs  MANIFEST                         of pairs or of an evaluation set
Outputs OUTPUT                           croissant.json
        manifest.parquet beside OUTPUT   the described manifest; an overlay (the manifest of an
                                         attack or a filter) is written out in full

Source: the Croissant format specification 1.0 (MLCommons, http://mlcommons.org/croissant/1.0).
"""

import argparse
import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, sha256, write_json
from workflow_scripts.data import overlay
from workflow_scripts.data.manifest import SCHEMA

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
REQUIRED = (
    "@context", "@type", "conformsTo", "name", "description", "license", "url", "creator",
    "datePublished", "distribution", "recordSet",
)  # fmt: skip

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {
    pa.string(): "sc:Text",
    pa.int64(): "sc:Integer",
    pa.bool_(): "sc:Boolean",
    pa.binary(32): "sc:Text",
}
_MEANINGS = {
    "key": "Unique name of the pair.",
    "tar": "Tar file with the image, relative to the results.",
    "offset": "First byte of the encoded image in the tar.",
    "size": "Number of bytes of the encoded image.",
    "caption": "Caption of the image.",
    "poisoned": "Whether the pair was poisoned.",
    "label": "Index of the class.",
    "sha256": "SHA-256 of the image's file as it was downloaded.",
}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the metadata."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.parquet")
    parser.add_argument("--name", required=True, help="name of the data set")
    parser.add_argument("--description", required=True, help="description of the data set")
    parser.add_argument("--licence", required=True, help="name or URL of the licence")
    parser.add_argument("--url", required=True, help="home page of the data set")
    parser.add_argument("--output", type=Path, required=True, help="croissant.json")
    options = parser.parse_args(arguments)
    copy = options.output.with_name("manifest.parquet")
    write_complete(copy, options.manifest)
    described = metadata(
        copy,
        date_of(options.manifest),
        name=options.name,
        description=options.description,
        licence=options.licence,
        url=options.url,
    )
    check(described)
    write_json(options.output, described)


def write_complete(path: Path, manifest: Path) -> None:
    """Write a manifest in full, including the values that an overlay takes from its base.

    The base's digests are left out of an overlay, because they do not hold for triggered images.

    Raises:
        StepError: The manifest does not exist or is not a Parquet file.
    """
    names = list(overlay.types_of(manifest))
    if overlay.base_of(manifest) is not None:
        names = [name for name in names if name in SCHEMA.names]
    table = overlay.read_columns(manifest, names)
    with atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary, compression="zstd")


def date_of(manifest: Path) -> datetime.date:
    """Return the date (UTC) on which a manifest was last modified."""
    return datetime.datetime.fromtimestamp(manifest.stat().st_mtime, datetime.UTC).date()


def metadata(
    manifest: Path, published: datetime.date, *, name: str, description: str, licence: str, url: str
) -> dict[str, Any]:
    """Return the metadata of a manifest.

    Args:
        manifest: The Parquet file.
        published: Date of publication.
        name: Name of the data set.
        description: Description of the data set.
        licence: Name or URL of the licence.
        url: Home page of the data set.

    Raises:
        StepError: The file does not exist or is not a Parquet file.
    """
    try:
        schema = pq.read_schema(manifest)
    except (OSError, pa.ArrowInvalid) as error:
        raise StepError(f"{manifest} cannot be read as a manifest: {error}") from error
    file = {
        "@type": "cr:FileObject",
        "@id": manifest.name,
        "name": manifest.name,
        "contentUrl": manifest.name,
        "contentSize": f"{manifest.stat().st_size} B",
        "encodingFormat": "application/vnd.apache.parquet",
        "sha256": sha256(manifest),
    }
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"pairs/{column.name}",
            "name": column.name,
            "description": _MEANINGS.get(column.name, column.name),
            "dataType": _TYPES.get(column.type, "sc:Text"),
            "source": {"fileObject": {"@id": file["@id"]}, "extract": {"column": column.name}},
        }
        for column in schema
    ]
    records = {"@type": "cr:RecordSet", "@id": "pairs", "name": "pairs", "field": fields}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": name,
        "description": description,
        "license": licence,
        "url": url,
        "version": "1.0.0",
        "datePublished": published.isoformat(),
        "creator": {"@type": "sc:Organization", "name": "clip-backdoor-cleaning"},
        "distribution": [file],
        "recordSet": [records],
    }


def check(described: dict[str, Any]) -> None:
    """Check that metadata contains what the specification requires.

    Raises:
        StepError: A field is missing or empty.
    """
    missing = [field for field in REQUIRED if not described.get(field)]
    if missing:
        raise StepError(f"Croissant metadata: required field {missing[0]!r} is empty; set it")


if __name__ == "__main__":
    run_step(main)
