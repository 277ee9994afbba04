"""A look into a `.keras` file without Keras: is it one, and what does its config say?"""

import os
import zipfile
from pathlib import Path

from kderm.errors import UserError


def read_config(path: str | os.PathLike) -> str:
    """The model config, as JSON text, in a `.keras` file.

    Raises:
        UserError: no such file, or not a Keras file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"Expected a .keras file. Received: {path}, which is not there.")
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read("config.json").decode("utf-8")
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise UserError(
            f"Expected a model saved with model.save('NAME.keras'). Received: {path} ({error}). "
            "Save it again, or convert an older .h5 model with Keras first."
        ) from None
