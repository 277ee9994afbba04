"""Pictures that can be told apart, as dermoscopy images can."""

import numpy as np
import pytest
from PIL import Image


def textured(seed, height=60, width=80):
    """A picture with structure at every scale: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells, strength in ((3, 60), (8, 40), (20, 30), (40, 20)):
        coarse = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(coarse[:, :, channel]).resize(
                (width, height), Image.Resampling.BICUBIC
            )
            total[:, :, channel] += strength * np.asarray(layer)
    return np.clip(total + 128, 0, 255).astype(np.uint8)


@pytest.fixture
def drawn():
    """drawn(path, seed, change=None, quality=95): writes a textured picture, changed or not."""

    def draw(path, seed, change=None, quality=95):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(textured(seed))
        image = change(image) if change else image
        image.save(path, **({"quality": quality} if path.suffix == ".jpg" else {}))
        return path

    return draw


@pytest.fixture
def table_source(tmp_path, drawn):
    """table_source(name, rows): a folder with images and table.csv.

    Rows are dicts of image_id, seed, label, and any further columns; `change` alters the picture.
    """

    def write(name, rows):
        import pandas as pd

        root = tmp_path / name
        for row in rows:
            drawn(root / f"{row['image_id']}.jpg", row["seed"], row.get("change"))
        columns = [{k: v for k, v in row.items() if k not in ("seed", "change")} for row in rows]
        pd.DataFrame(columns).to_csv(root / "table.csv", index=False)
        return root

    return write
