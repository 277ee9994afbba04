"""Drawing synthetic dermoscopy images: a lesion is a set of numbers, an image is one look at it.

`draw_lesion` draws the numbers (with the randomness of the class), `draw_photo` one photograph's
circumstances, `render` applies both and draws no random number itself. Serves
`kderm.data.datasets.demo` alone. Nothing here is meant to teach anyone about real lesions.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, map_coordinates

# Strength of each feature, 0 to about 1. Order of the columns of CLASS_LOOKS below.
FEATURES = (
    "radius",  # of the lesion, share of the image height
    "elongation",
    "irregularity",  # of the outline
    "asymmetry",  # of outline and colour
    "softness",  # of the border
    "network",  # honeycomb of pigment
    "globules",  # brown dots
    "vessels",  # branching red lines
    "scale",  # white to yellow flakes
    "cysts",  # small bright dots
    "scar",  # pale centre
    "lacunae",  # red to purple lakes
    "veil",  # blue-white patch
    "density",  # of pigment
)
CLASS_LOOKS = {
    #         rad  elo  irr  asy  sof  net  glo  ves  sca  cys  sca  lac  vei  den
    "akiec": (0.34, 0.3, 0.45, 0.45, 0.75, 0.05, 0.1, 0.45, 0.75, 0.1, 0.0, 0.0, 0.0, 0.55),
    "bcc": (0.29, 0.3, 0.3, 0.45, 0.5, 0.0, 0.15, 0.9, 0.15, 0.05, 0.1, 0.05, 0.15, 0.6),
    "bkl": (0.37, 0.3, 0.35, 0.35, 0.2, 0.1, 0.15, 0.0, 0.2, 0.85, 0.0, 0.0, 0.05, 0.75),
    "df": (0.26, 0.1, 0.15, 0.15, 0.7, 0.4, 0.0, 0.05, 0.05, 0.0, 0.9, 0.0, 0.0, 0.6),
    "mel": (0.42, 0.35, 0.7, 0.8, 0.35, 0.5, 0.45, 0.15, 0.05, 0.0, 0.1, 0.0, 0.55, 0.9),
    "nv": (0.31, 0.2, 0.15, 0.15, 0.4, 0.55, 0.35, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.75),
    "vasc": (0.26, 0.2, 0.3, 0.25, 0.25, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.9, 0.05, 0.8),
}
# Main and second colour, RGB.
CLASS_COLOURS = {
    "akiec": ((201, 128, 112), (168, 98, 84)),
    "bcc": ((196, 132, 128), (124, 92, 104)),
    "bkl": ((164, 118, 86), (122, 88, 66)),
    "df": ((178, 124, 102), (148, 98, 78)),
    "mel": ((112, 72, 62), (52, 42, 50)),
    "nv": ((150, 98, 76), (104, 66, 52)),
    "vasc": ((168, 54, 66), (104, 26, 52)),
}
# What a lesion that is not typical of its class takes after.
LOOKALIKES = {
    "akiec": ("bkl", "bcc", "df"),
    "bcc": ("akiec", "nv", "mel"),
    "bkl": ("mel", "nv", "akiec"),
    "df": ("nv", "bcc", "akiec"),
    "mel": ("nv", "bkl", "nv"),
    "nv": ("mel", "bkl", "df", "mel"),
    "vasc": ("nv", "mel", "bcc"),
}
_SPREAD = np.array([0.075, 0.15, *[0.15] * 3, *[0.3] * 8, 0.12])
_STRUCTURES = slice(5, 13)
_COLOUR_SPREAD = 5.0
_TEXTURE = 96  # pixels a side of a texture, which covers two image heights
_INK = 3  # lines and dots are drawn this many times larger, then averaged


@dataclass(frozen=True)
class Lesion:
    """Everything that stays the same from one photograph of a lesion to the next.

    Attributes:
        features: float (14,), strengths in the order of `FEATURES`.
        colours: float (2, 3), RGB 0..255.
        skin: float (3,), RGB 0..255.
        outline: float (2, 7), cosine and sine amplitudes of the harmonics 1..7 of the radius.
        gradient: direction of the colour gradient, radians.
        textures: float (3, 96, 96), smooth noise of unit variance: colour, warp, flakes.
        spots: float (60, 3), x, y and size of dots, in lesion radii.
        vessels: float (9, 12, 2), polylines, in lesion radii.
    """

    features: np.ndarray
    colours: np.ndarray
    skin: np.ndarray
    outline: np.ndarray
    gradient: float
    textures: np.ndarray
    spots: np.ndarray
    vessels: np.ndarray

    def __getitem__(self, feature: str) -> float:
        return float(self.features[FEATURES.index(feature)])


@dataclass(frozen=True)
class Photo:
    """What changes from photograph to photograph.

    Attributes:
        angle: rotation, radians.
        shift: float (2,), x and y of the lesion's middle, in image heights.
        zoom: magnification.
        light: float (3,), gain of each channel.
        slope: float (2,), change of brightness across the image in x and y.
        corners: darkness of the corners, 0..1.
        hairs: float (m, 3, 2), control points of curves, in image heights; colour is common.
        hair_tone: brightness of the hairs, 0..1.
        blur: in shares of the image height.
        noise: float (54, 72, 3), sensor grain of unit variance.
    """

    angle: float
    shift: np.ndarray
    zoom: float
    light: np.ndarray
    slope: np.ndarray
    corners: float
    hairs: np.ndarray
    hair_tone: float
    blur: float
    noise: np.ndarray


def draw_lesion(rng: np.random.Generator, code: str) -> Lesion:
    """Draw a lesion of the class `code`: class means, blended with a lookalike, plus spread."""
    other = LOOKALIKES[code][rng.integers(len(LOOKALIKES[code]))]
    # Most lesions are fairly typical, some are hardly so: that is where the classes overlap.
    share = float(rng.beta(1.0, 3.0))
    mean, far = np.array(CLASS_LOOKS[code]), np.array(CLASS_LOOKS[other])
    features = (1 - share) * mean + share * far
    spread = _SPREAD.copy()
    # A structure foreign to the class turns up now and then, and faintly.
    spread[_STRUCTURES] *= np.sqrt(np.clip(features[_STRUCTURES], 0.02, 1))
    features = np.clip(features + spread * rng.normal(size=len(FEATURES)), 0.0, 1.2)
    features[0] = np.clip(features[0], 0.12, 0.55)
    mean, far = np.array(CLASS_COLOURS[code], float), np.array(CLASS_COLOURS[other], float)
    colours = (1 - share) * mean + share * far
    # Pigment is darker or lighter as a whole more than it changes its hue.
    colours = colours * np.exp(rng.normal(0, 0.16)) + rng.normal(0, _COLOUR_SPREAD, size=3)
    colours += rng.normal(0, 9.0) * np.array([1.0, 0.1, -0.7])
    tone = rng.normal(size=2)
    skin = np.array([214.0, 166.0, 156.0]) + tone[0] * np.array([9.0, 11.0, 11.0])
    skin += tone[1] * np.array([2.0, -3.0, 5.0])
    order = np.arange(1, 8)
    roughness = np.where(order <= 2, features[3], features[2]) / order
    angles = rng.uniform(0, 2 * np.pi, size=60)
    reach = np.sqrt(rng.uniform(0, 0.9, size=60))
    spots = np.stack(
        [reach * np.cos(angles), reach * np.sin(angles), rng.uniform(0.6, 1.4, 60)], axis=1
    )
    return Lesion(
        features=features,
        colours=np.clip(colours, 15, 235),
        skin=np.clip(skin, 90, 245),
        outline=rng.normal(size=(2, 7)) * (0.12 / order + roughness) * 0.17,
        gradient=float(rng.uniform(0, 2 * np.pi)),
        textures=np.stack([_smooth_noise(rng, sigma) for sigma in (6.0, 4.0, 1.6)]),
        spots=spots,
        vessels=_draw_vessels(rng),
    )


def draw_photo(rng: np.random.Generator) -> Photo:
    """Draw the circumstances of one photograph."""
    count = int(rng.integers(2, 11)) if rng.random() < 0.3 else 0
    start = rng.uniform(-0.75, 0.75, size=(count, 1, 2))
    heading = rng.normal(rng.uniform(0, np.pi), 0.5, size=(count, 1))
    step = np.stack([np.cos(heading), np.sin(heading)], axis=-1) * rng.uniform(
        0.15, 0.45, size=(count, 1, 1)
    )
    bend = rng.normal(0, 0.05, size=(count, 3, 2))
    return Photo(
        angle=float(rng.uniform(0, 2 * np.pi)),
        shift=rng.normal(0, 0.05, size=2),
        zoom=float(np.exp(rng.normal(0, 0.12))),
        light=np.exp(rng.normal(0, 0.045)) * np.exp(rng.normal(0, 0.018, size=3)),
        slope=rng.normal(0, 0.07, size=2),
        corners=float(rng.uniform(0.4, 1.0)) if rng.random() < 0.2 else 0.0,
        hairs=start + np.arange(-1, 2)[None, :, None] * step + bend,
        hair_tone=float(rng.uniform(0.12, 0.45)),
        blur=float(rng.uniform(0.001, 0.007)),
        noise=rng.normal(size=(54, 72, 3)),
    )


def render(lesion: Lesion, photo: Photo, height: int) -> np.ndarray:
    """The photograph as uint8 (height, width, 3), width 4/3 of the height."""
    width = round(height * 4 / 3)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    # In image heights, origin in the middle; then in lesion radii, in the lesion's own frame.
    x, y = (x + 0.5 - width / 2) / height, (y + 0.5 - height / 2) / height
    size = lesion["radius"] * photo.zoom
    cos, sin = np.cos(photo.angle), np.sin(photo.angle)
    u = ((x - photo.shift[0]) * cos + (y - photo.shift[1]) * sin) / size
    v = (-(x - photo.shift[0]) * sin + (y - photo.shift[1]) * cos) / size
    canvas = _Canvas(height, width, size, photo)
    colour_noise, warp, flakes = (
        _sample(texture, u * lesion["radius"], v * lesion["radius"]) for texture in lesion.textures
    )
    mask = _mask(lesion, u, v, warp)
    image = np.broadcast_to(lesion.skin, (height, width, 3)) * (
        1 + 0.02 * warp[..., None] + 0.012 * flakes[..., None]
    )
    image = _pigment(lesion, image, mask, u, v, colour_noise, warp)
    image = _structures(lesion, image, mask, canvas, colour_noise, flakes, u, v)
    return _photograph(image, photo, canvas, x, y)


@dataclass(frozen=True)
class _Canvas:
    """Inks dots and lines, given in lesion radii or image heights, as an antialiased mask."""

    height: int
    width: int
    size: float
    photo: Photo

    def from_lesion(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) from lesion radii to image heights."""
        cos, sin = np.cos(self.photo.angle), np.sin(self.photo.angle)
        u, v = points[..., 0] * self.size, points[..., 1] * self.size
        return np.stack([u * cos - v * sin, u * sin + v * cos], axis=-1) + self.photo.shift

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        middle = np.array([self.width, self.height]) / 2
        return (points * self.height + middle) * _INK

    def ink(self, lines: list[np.ndarray], dots: np.ndarray, thickness: float) -> np.ndarray:
        """Mask float (height, width), 0..1, of polylines and of dots (x, y, radius)."""
        sheet = Image.new("L", (self.width * _INK, self.height * _INK))
        pen = ImageDraw.Draw(sheet)
        wide = max(1, round(thickness * self.height * _INK))
        for line in lines:
            pen.line([tuple(point) for point in self._pixels(line).tolist()], 255, wide)
        radii = dots[:, 2] * self.height * _INK
        for (x, y), r in zip(self._pixels(dots[:, :2]).tolist(), radii.tolist(), strict=True):
            pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
        small = sheet.resize((self.width, self.height), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float64) / 255

    def dots(self, spots: np.ndarray, radius: float) -> np.ndarray:
        """Mask of the spots (n, 3) of a lesion, `radius` in image heights at zoom 1."""
        middles = self.from_lesion(spots[:, :2])
        radii = spots[:, 2:] * radius * self.photo.zoom
        soft = 0.35 * radius * self.height
        return gaussian_filter(self.ink([], np.concatenate([middles, radii], axis=1), 0), soft)


def _mask(lesion: Lesion, u: np.ndarray, v: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """How much of the lesion is at each pixel, 0..1, with a soft, irregular border."""
    stretch = 1 + 0.5 * lesion["elongation"]
    u, v = u / stretch**0.5, v * stretch**0.5
    angle = np.arctan2(v, u)
    order = np.arange(1, 8)[:, None, None]
    waves = lesion.outline[0, :, None, None] * np.cos(order * angle)
    waves += lesion.outline[1, :, None, None] * np.sin(order * angle)
    edge = np.clip(1 + waves.sum(axis=0), 0.35, 1.8) + (0.03 + 0.12 * lesion["irregularity"]) * warp
    return _step(edge - np.hypot(u, v), 0.03 + 0.16 * lesion["softness"])


def _pigment(
    lesion: Lesion,
    image: np.ndarray,
    mask: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    noise: np.ndarray,
    warp: np.ndarray,
) -> np.ndarray:
    """Skin covered with pigment: two colours mixed by noise and a gradient, and a network."""
    along = u * np.cos(lesion.gradient) + v * np.sin(lesion.gradient)
    mix = 0.4 - 0.25 * np.hypot(u, v) + 0.3 * noise + 0.7 * lesion["asymmetry"] * along
    mix = np.clip(mix, 0, 1)[..., None]
    colour = lesion.colours[0] * (1 - mix) + lesion.colours[1] * mix
    # Three plane waves at 60 degrees make a honeycomb; the warp keeps it from looking printed.
    period = 0.075 / lesion["radius"]
    a, b = u + 0.2 * period * noise, v + 0.3 * period * warp
    waves = sum(
        np.cos(2 * np.pi / period * (a * np.cos(t) + b * np.sin(t)))
        for t in (0.0, np.pi / 3, 2 * np.pi / 3)
    )
    lines = (_step(0.1 - waves, 0.6) - 0.5) * (0.7 + 0.4 * noise)
    colour = colour * (1 - 0.42 * lesion["network"] * lines[..., None] + 0.06 * warp[..., None])
    cover = (mask * np.clip(0.35 + 0.6 * lesion["density"] + 0.06 * noise, 0.1, 0.97))[..., None]
    return image * (1 - cover) + colour * cover


def _structures(
    lesion: Lesion,
    image: np.ndarray,
    mask: np.ndarray,
    canvas: _Canvas,
    noise: np.ndarray,
    flakes: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
) -> np.ndarray:
    """Everything that lies on or under the pigment; a structure not there costs nothing."""

    def over(image: np.ndarray, amount: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
        amount = np.clip(amount, 0, 1)[..., None]
        return image * (1 - amount) + np.array(colour, float) * amount

    def some(feature: str, part: slice) -> np.ndarray:
        spots = lesion.spots[part]
        return spots[: round(len(spots) * min(lesion[feature], 1.0))]

    if lesion["veil"] > 0.05:
        patch = _step(noise - 1.3 + 1.3 * lesion["veil"], 0.7) * mask
        image = over(image, 0.6 * patch, (104, 104, 122))
    if lesion["scar"] > 0.05:
        centre = np.exp(-(u**2 + v**2) / 0.18) * mask
        image = over(image, 0.8 * lesion["scar"] * centre, (232, 204, 196))
    if lesion["lacunae"] > 0.05:
        lakes = canvas.dots(some("lacunae", slice(0, 26)), 0.035)
        image = over(image, 0.8 * lakes * mask, (112, 22, 42))
    if lesion["globules"] > 0.05:
        dots = canvas.dots(some("globules", slice(0, 40)), 0.011)
        image = over(image, 0.7 * dots * mask, (62, 38, 32))
    if lesion["vessels"] > 0.05:
        lines = lesion.vessels[: round(len(lesion.vessels) * min(lesion["vessels"], 1.0))]
        lines = [canvas.from_lesion(line) for line in lines]
        red = canvas.ink(lines, np.empty((0, 3)), 0.011)
        image = over(image, 0.65 * red * np.clip(mask * 1.4, 0, 1), (176, 40, 52))
    if lesion["scale"] > 0.05:
        patch = _step(flakes - 1.9 + 1.4 * lesion["scale"], 0.5) * mask
        image = over(image, 0.65 * patch, (236, 218, 196))
    if lesion["cysts"] > 0.05:
        dots = canvas.dots(some("cysts", slice(20, 60)), 0.012)
        image = over(image, 0.75 * dots * mask, (236, 214, 176))
    return image


def _photograph(
    image: np.ndarray, photo: Photo, canvas: _Canvas, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Hairs, light, dark corners, blur and grain."""
    if len(photo.hairs):
        t = np.linspace(0, 1, 12)[:, None]
        curves = [(1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c for a, b, c in photo.hairs]
        hair = 0.85 * canvas.ink(curves, np.empty((0, 3)), 0.009)[..., None]
        image = image * (1 - hair) + photo.hair_tone * np.array([120.0, 95.0, 85.0]) * hair
    light = 1 + photo.slope[0] * x + photo.slope[1] * y - 0.12 * (x**2 + y**2)
    if photo.corners:
        light = light * (1 - photo.corners * _step(np.hypot(x, y) - 0.66, 0.025))
    image = image * light[..., None] * photo.light
    blur = photo.blur * canvas.height
    image = gaussian_filter(image, (blur, blur, 0))
    grain = photo.noise[
        np.arange(canvas.height)[:, None] % 54, np.arange(canvas.width)[None, :] % 72
    ]
    return np.clip(np.rint(image + 2.0 * grain), 0, 255).astype(np.uint8)


def _step(value: np.ndarray, width: float) -> np.ndarray:
    """0 below, 1 above, smooth over about `width`."""
    return 0.5 + 0.5 * np.tanh(value / width)


def _smooth_noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
    noise = gaussian_filter(rng.normal(size=(_TEXTURE, _TEXTURE)), sigma, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def _sample(texture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Texture values at points in image heights, tiled beyond its two heights."""
    places = np.stack([v, u]) * (_TEXTURE / 2)
    return map_coordinates(texture, places, order=1, mode="grid-wrap")


def _draw_vessels(rng: np.random.Generator) -> np.ndarray:
    """Random walks that start near the border and wander inwards, (9, 12, 2) in lesion radii."""
    angle = rng.uniform(0, 2 * np.pi, size=9)
    heading = angle + np.pi + rng.normal(0, 0.5, size=9)
    turns = np.cumsum(rng.normal(0, 0.45, size=(9, 12)), axis=1) + heading[:, None]
    steps = 0.13 * np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    start = 0.95 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, None, :]
    return start + np.cumsum(steps, axis=1)
