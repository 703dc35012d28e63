"""The index of the model repository, as the protocol wants it."""

from service.inference_protocol.schemas import IndexEntry, RepositoryIndex
from service.model_catalog import Catalog


def repository_index(catalog: Catalog, *, ready: bool) -> RepositoryIndex:
    """Models that answer, and unless ``ready`` is asked for those that could be loaded."""
    entries = [
        IndexEntry(name=manifest.name, version=manifest.model_sha256, state="READY", reason="")
        for manifest in catalog.manifests()
    ]
    if ready:
        return RepositoryIndex(entries)
    known, unloaded = {entry.name for entry in entries}, catalog.visible_unloaded()
    entries += [
        IndexEntry(name=name, version=manifest.model_sha256, state="UNAVAILABLE", reason="unloaded")
        for name, manifest in unloaded.items()
        if name not in known
    ]
    known |= unloaded.keys()
    entries += [
        IndexEntry(name=folder.name, version="", state="UNAVAILABLE", reason="not loaded yet")
        for folder in sorted(catalog.folder.iterdir())
        if folder.name not in known and catalog.loadable(folder.name)
    ]
    return RepositoryIndex(entries)
