"""Uploads to the Hugging Face hub, which is contacted only where a request names it.

`HF_ENDPOINT`, `HF_TOKEN` and the other settings of huggingface_hub act as usual.
"""

from __future__ import annotations

from pathlib import Path

from arzoo.base.errors import ArzooError
from arzoo.base.runtime import addresses
from arzoo.checkpoints.names import HUB, address, check_repository


def push_folder(folder: Path, repository: str, *, private: bool = False, message: str = "") -> str:
    """Upload a checkpoint folder; returns the address of the commit. Errors as those of `Shared.push_to_hub`."""
    name, branch = check_repository(repository)
    import huggingface_hub

    addresses.append(address(name))
    message = message or f"Upload {folder.name} with arzoo"
    try:
        huggingface_hub.create_repo(name, private=private, exist_ok=True)
        done = huggingface_hub.upload_folder(
            repo_id=name, folder_path=folder, revision=branch, commit_message=message
        )
    except Exception as error:  # the hub's errors share no base class: names, access, network, disk
        raise ArzooError(
            f"cannot upload to {HUB}{repository}: {error}. Check the name, the connection and `hf auth login`."
        ) from error
    return str(done)


def download_file(repository: str, file: str) -> Path:
    """Fetch one file of a repository, or take the copy in the cache of the hub.

    Raises:
        ArzooError: The hub cannot be reached, or there is no such file.
    """
    import huggingface_hub

    addresses.append(f"{address(repository)}/{file}")
    try:
        return Path(huggingface_hub.hf_hub_download(repository, file))
    except Exception as error:  # the hub's errors share no base class: names, access, network, disk
        raise ArzooError(
            f"cannot get {HUB}{repository}/{file}: {str(error).rstrip('. ')}. Check the name and the connection, or "
            "fetch the file elsewhere and give its path."
        ) from error
