"""The data of a config by id: lists, downloaded shards, usable pairs, datasets, evaluation sets.

The id of each stage covers only the settings that affect its content: a changed JPEG quality gives
a new download, whereas a changed minimum size reuses the existing one.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from workflow_scripts.experiments.identity import make_id
from workflow_scripts.experiments.own_inputs import OwnInputs

Spec = dict[str, Any]

_DOWNLOADED = ("jpeg_quality", "max_pixels", "max_bytes", "allow_private")


class Data:
    """The data that a config declares: specs by id, added on demand.

    ``lists`` and ``evaluations`` also contain the ``name`` of their declaration, which is not part
    of the id.

    Args:
        config: The checked config.
        inputs: Fingerprints of the user's own files.
    """

    def __init__(self, config: Spec, inputs: OwnInputs):
        self._config, self.inputs = config, inputs
        self.lists: dict[str, Spec] = {}
        self.shards: dict[str, Spec] = {}
        self.sources: dict[str, Spec] = {}
        self.datasets: dict[str, Spec] = {}
        self.evaluations: dict[str, Spec] = {}
        self._ids: dict[tuple[str, str], str] = {}

    def dataset(self, name: str) -> str:
        """Return the id of a dataset, the first pairs of a source."""
        return self._once("dataset", name, self._dataset)

    def evaluation(self, name: str) -> str:
        """Return the id of an evaluation set."""
        return self._once("evaluation", name, self._evaluation)

    def _once(self, kind: str, name: str, make: Any) -> str:
        if (kind, name) not in self._ids:
            self._ids[kind, name] = make(name)
        return self._ids[kind, name]

    def _dataset(self, name: str) -> str:
        declared = self._config["datasets"][name]
        source = self._once("source", declared["source"], self._source)
        return _add(self.datasets, name, {"source": source, "pairs": declared["pairs"]})

    def _source(self, name: str) -> str:
        shards = self._once("shards", name, self._shards)
        minimum = self._config["download"]["min_size"]
        return _add(self.sources, name, {"shards": shards, "min_size": minimum})

    def _shards(self, name: str) -> str:
        url_list = self._once("list", name, self._list)
        settings = {key: self._config["download"][key] or None for key in _DOWNLOADED}
        size = {"image_size": self._config["image_size"]}
        return _add(self.shards, name, {"list": url_list, **size, **settings})

    def _list(self, name: str) -> str:
        declared = self._config["sources"][name]
        read = {k: v for k, v in declared.items() if k not in ("list", "bytes", "sha256", "world")}
        content: str | dict[str, Any]
        if declared["world"] is not None:
            content = self._world()
        elif declared["sha256"] is not None:
            content = f"sha256:{declared['sha256']}"
        elif urlsplit(declared["list"]).scheme in ("http", "https"):
            content = _without_credentials(declared["list"])
        else:
            content = self._content(declared["list"])
        if declared["format"] == "auto":
            read["suffix"] = Path(urlsplit(declared["list"]).path).suffix
        return _add(self.lists, name, {"content": content, **read}, {"name": name})

    def _evaluation(self, name: str) -> str:
        declared = self._config["evaluations"][name]
        # All values except `names` are files.
        contents = {k: v if k == "names" else self._content(v) for k, v in declared.items()}
        return _add(self.evaluations, name, contents, {"name": name})

    def _content(self, path: str) -> Any:
        if is_made(self._config, path):
            made = Path(path).relative_to(self._config["pathvars"]["results"]).as_posix()
            return {"made": made, **self._world()}
        return self.inputs.fingerprint(path)

    def _world(self) -> Spec:
        return {"world": self._config.get("demo", {}), "image_size": self._config["image_size"]}


def is_made(config: Spec, path: str) -> bool:
    """Return whether the workflow itself makes a file named in the config: the demo's data."""
    worlds = [source["world"] for source in config["sources"].values() if source["world"]]
    below = Path(path).is_relative_to
    return below(config["pathvars"]["results"]) and any(map(below, worlds))


def _add(specs: dict[str, Spec], slug: str, identity: Spec, extra: Spec | None = None) -> str:
    name = make_id(slug, identity)
    specs[name] = {**identity, **(extra or {})}
    return name


def _without_credentials(url: str) -> str:
    """Return a URL without user name and password, which do not affect its content."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
