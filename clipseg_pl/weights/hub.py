"""CLIPSeg models on Hugging Face's hub, in the download cache of huggingface_hub.

huggingface_hub is imported late, so that commands which do not need it start fast.
"""

import json
import re
import sys
from contextlib import suppress
from pathlib import Path

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""names of the weights file, in order of preference"""
PREPROCESSORS = ("processor_config.json", "preprocessor_config.json")
"""transformers 5 stores the preprocessor in processor_config.json"""

_NAME = re.compile(r"(?!.*(--|\.\.))\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", re.ASCII)
_TIMEOUT = 10  # seconds without an answer of the hub


def is_hub_name(name: str) -> bool:
    """Whether a name has the form `owner/name` or `owner/name@revision`."""
    return re.fullmatch(_NAME, name) is not None


def find_model(name: str) -> Path:
    """Return the folder of a CLIPSeg model in huggingface_hub's cache; download it on first use.

    Only the config, the preprocessor's config and one weights file are downloaded. A model in the
    cache is used without a request to the hub; `hf download owner/name` updates it.

    Args:
        name: `owner/name` or `owner/name@revision`. A revision is a branch, a tag or a commit; the
            default is `main`.

    Raises:
        FileNotFoundError: if the hub has no such model or revision, or the model is not in the
            cache and the download fails. The message gives the reason.
        ValueError: if the model is not a CLIPSeg.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    repository, _, revision = name.partition("@")
    revision, endpoint = revision or "main", constants.ENDPOINT
    folder = find_cached(name)
    preprocessors = [_cached(repository, revision, file) for file in PREPROCESSORS]
    found = any(isinstance(file, str) for file in preprocessors)
    if folder and (found or None not in preprocessors):  # not None: known to be missing on the hub
        return folder
    try:
        downloaded = _download(repository, revision)
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f"{endpoint}/{repository} has no revision {revision}") from error
    except RepositoryNotFoundError as error:  # the hub's answer for private models, too
        raise FileNotFoundError(
            f"no checkpoint {name}: no such file or folder, and no public model of this name on "
            f"{endpoint}. For a private model, log in with `hf auth login`; for a gated one, also "
            "request access on its page"
        ) from error
    except Exception as error:  # offline, no connection, full disk: errors of many types
        if folder:  # downloaded by transformers, without the preprocessor
            return folder
        reason = " ".join(str(error).split()) or type(error).__name__
        if constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set"
        raise FileNotFoundError(
            f"no checkpoint {name}: no such file or folder, not in the cache "
            f"({constants.HF_HUB_CACHE}), and the download from {endpoint} failed ({reason:.160}). "
            "Without a network, give a local file or folder instead "
            "(--checkpoint FILE), or the toy model for drawn scenes (--checkpoint toy)"
        ) from error
    if downloaded is None:
        raise ValueError(
            f"{endpoint}/{repository} is not a CLIPSeg: it needs {' or '.join(WEIGHTS)}, and "
            f"{CONFIG} with the model_type clipseg"
        )
    return downloaded


def find_cached(name: str) -> Path | None:
    """Return the folder of a model if its config and its weights are in the cache, else None."""
    repository, _, revision = name.partition("@")
    config, *weights = (
        _cached(repository, revision or "main", file) for file in (CONFIG, *WEIGHTS)
    )
    if isinstance(config, str) and any(isinstance(file, str) for file in weights):
        return Path(config).parent
    return None


def _cached(repository: str, revision: str, file: str) -> object:
    """Return the path of a file in the cache, None, or a marker if the hub has no such file."""
    from huggingface_hub import try_to_load_from_cache

    return try_to_load_from_cache(repository, file, revision=revision)


def _download(repository: str, revision: str) -> Path | None:
    """Download a model to the cache; return None if it is not a CLIPSeg."""
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    files = (
        HfApi()
        .model_info(repository, revision=revision, files_metadata=True, timeout=_TIMEOUT)
        .siblings
    )
    sizes = {file.rfilename: file.size or 0 for file in files or ()}
    weights = next((name for name in WEIGHTS if name in sizes), None)
    if weights is None or CONFIG not in sizes:
        return None
    config = Path(hf_hub_download(repository, CONFIG, revision=revision))
    if json.loads(config.read_text("utf-8")).get("model_type") != "clipseg":
        return None
    names = [name for name in (*PREPROCESSORS, weights) if name in sizes]
    missing = [name for name in names if not isinstance(_cached(repository, revision, name), str)]
    megabytes = sum(sizes[name] for name in missing) / 1e6
    print(
        f"clipseg_pl: downloading {repository} ({megabytes:.0f} MB) to {constants.HF_HUB_CACHE}",
        file=sys.stderr,
    )
    for name in PREPROCESSORS:
        with suppress(EntryNotFoundError):  # the cache records that this file does not exist
            hf_hub_download(repository, name, revision=revision)
    hf_hub_download(repository, weights, revision=revision)
    return config.parent
