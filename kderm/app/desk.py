"""What the page's buttons do: read what was sent, forget the files, answer, draw the HTML.

Between the page (`kderm.app.page`) and the answers. Every mistake ends as one sentence. Knows no
Gradio, so it is tested without one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from kderm.api.loaded import LoadedEnsemble
from kderm.app.answers import Answered, answer_photos, answer_table, as_sent
from kderm.app.cards import answers_html, problem_html
from kderm.app.cautions import cautions, unlike
from kderm.app.examples import Example
from kderm.app.limits import Limits, Refused
from kderm.app.points import point_named
from kderm.app.tables import Tabled, tabled_html, thumb
from kderm.app.uploads import Upload, Uploads, read_uploads
from kderm.app.workroom import Workroom
from kderm.ensemble.cautions import synthetic_warnings
from kderm.errors import UserError

_BROKEN = (
    "Something went wrong on the server, so there is no answer. Send the pictures again; if it "
    "happens again, tell whoever runs this page. They find the reason in its terminal."
)


class Desk:
    """Answers the requests of one page.

    Attributes:
        ensemble: who answers.
        limits: what is taken.
    """

    def __init__(self, ensemble: LoadedEnsemble, workroom: Workroom, limits: Limits) -> None:
        self.ensemble, self.limits = ensemble, limits
        self._workroom = workroom
        self._trained_on = ensemble.bundle.trained_on()

    @property
    def facts(self) -> tuple[str, ...]:
        """What the ensemble looks at beside the picture: some of age, sex and site."""
        spec = self.ensemble.bundle.metadata
        return () if spec is None else tuple(spec.names)

    def photos(self, paths: Sequence[str], facts: dict[str, Any]) -> Answered | str:
        """The answers to uploaded files, or the sentence that says why there are none."""

        def work() -> Answered:
            uploads = self._read(paths, self.limits.photos)
            found = self._answer(uploads.pictures, facts)
            names = [photo.name for photo in found.photos if not photo.error]
            notes = (*uploads.notes, *self._missing_facts(facts), *self._cautions(names))
            return Answered(found.photos, found.lesion, notes)

        return told(work)

    def example(self, example: Example) -> Answered | str:
        """The answer to one of the drawn examples."""
        return told(lambda: self._answer([Upload(example.name, example.data)], {}))

    def many(self, paths: Sequence[str], progress: Callable[[int, int], None]) -> Tabled | str:
        """The table of uploaded files, or the sentence that says why there is none."""

        def work() -> Tabled:
            uploads = self._read(paths, self.limits.images)
            table = answer_table(self.ensemble, uploads.pictures, progress)
            thumbs = tuple(thumb(picture) for picture in uploads.pictures)
            names = table.loc[table["error"] == "", "path"].tolist()
            notes = (*uploads.notes, *self._missing_facts({}), *self._cautions(names))
            return Tabled(table, thumbs, (*notes, *unlike(table)))

        return told(work)

    def predict(
        self, paths: Sequence[str], one_lesion: bool, facts: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """What the HTTP API gives: predictions.csv, and lesions.csv, as columns and rows.

        Columns beside rows and not a mapping a row: Gradio's clients take what has a "path" for a
        file to fetch.

        Args:
            paths: uploaded files.
            one_lesion: whether all show the same lesion.
            facts: age, sex and site, as far as they are known, the same for all.

        Raises:
            Refused: nothing that can be answered was sent.
        """
        uploads = self._read(paths, self.limits.images)
        known = _known(facts or {})
        metadata = known | ({"lesion_id": "lesion"} if one_lesion else {})
        found = self.ensemble.answer(
            [one.data for one in uploads.pictures], metadata=metadata or None
        )
        table = as_sent(found.table, uploads.pictures)
        return {
            "images": _plain(table),
            "lesions": None if found.lesions is None else _plain(found.lesions),
            "cautions": [
                *uploads.notes,
                *synthetic_warnings(self.ensemble.bundle),
                *self._missing_facts(known),
                *unlike(table),
                *self._cautions(table.loc[table["error"] == "", "path"].tolist()),
            ],
        }

    def photos_html(
        self, found: Answered | str | None, point: str | None, one_lesion: bool = False
    ) -> str:
        """The answers as they are shown at the operating point called `point`."""
        if found is None:
            return '<p class="kd-empty">The answers will stand here.</p>'
        if isinstance(found, str):
            return problem_html(found)
        bundle = self.ensemble.bundle
        return answers_html(found, bundle, point_named(bundle, point), one_lesion)

    def many_html(self, found: Tabled | str | None, point: str | None) -> str:
        """The table as it is shown at the operating point called `point`."""
        if found is None:
            return '<p class="kd-empty">The table will stand here.</p>'
        if isinstance(found, str):
            return problem_html(found)
        bundle = self.ensemble.bundle
        return tabled_html(found, bundle, point_named(bundle, point))

    def _cautions(self, names: Sequence[str]) -> tuple[str, ...]:
        """What weakens the answers to the pictures called `names`, a sentence each."""
        ensemble = self.ensemble
        return cautions(ensemble.bundle, ensemble.settings, names, self._trained_on)

    def _missing_facts(self, facts: dict[str, Any]) -> tuple[str, ...]:
        missing = [name for name in self.facts if facts.get(name) in (None, "")]
        if not missing:
            return ()
        return (
            f"This ensemble looks at {', '.join(self.facts)} beside the picture. Not told: "
            f"{', '.join(missing)}.",
        )

    def _read(self, paths: Sequence[str], most: int) -> Uploads:
        """The pictures in the files, which are gone from the disk when this returns."""
        try:
            return read_uploads(paths, self.limits, most)
        finally:
            self._workroom.forget(paths)

    def _answer(self, pictures: Sequence[Upload], facts: dict[str, Any]) -> Answered:
        return answer_photos(self.ensemble, pictures, metadata=_known(facts) or None)


def told(work: Callable[[], Any]) -> Any:
    """What `work` gives, or the sentence that says why it gives nothing."""
    try:
        return work()
    except (Refused, UserError) as error:
        return str(error)
    except Exception:  # the reader gets a sentence, the terminal the reason
        import traceback

        traceback.print_exc()
        return _BROKEN


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _plain(table: pd.DataFrame) -> dict[str, list]:
    """Columns and rows of a table as JSON has them: None for cells without a value."""
    rows = table.astype(object).where(table.notna(), None)
    return {"columns": list(table.columns), "data": rows.to_numpy().tolist()}
