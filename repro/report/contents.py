"""The page's contents, from the tables' JSON and the artefacts behind them.

Two records: `page` for the template, and `data` for the scripts, which open a cell on demand.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from c3l.artifacts.store import Store
from repro.analysis.compare import findings, tables_with_claims
from repro.columns import COLUMNS
from repro.profile import Profile
from repro.render import claims as claim_texts
from repro.render import markdown
from repro.render.gallery import VERDICTS
from repro.report import cells, plots, samples
from repro.report.artefacts import Artefacts
from repro.report.samples import SampleLists, nearest_images
from repro.report.scored_pairs import Pool, contributions_by_token, find_pools
from repro.report.tables import FinishedTable
from repro.report.thumbnails import TextPool, Thumbnails, svg_uri

PROVENANCE = ("made", "core_seconds", "wall_clock_seconds", "commit", "seeds", "tuning_seeds")


class Contents:
    """The page's two records, complete once it is constructed."""

    def __init__(
        self,
        tables: dict[str, FinishedTable],
        missing: list[dict],
        profile: Profile,
        store: Store,
        folder: Path,
    ):
        """Gather everything.

        `missing` are the tables that have not been run, each with `table`, `why` and the `command`
        that runs it; `folder` holds the drawings.
        """
        self._profile, self._store, self._folder = profile, store, folder
        self._thumbnails, texts = Thumbnails(), TextPool()
        self._samples = SampleLists(store, texts, self._thumbnails)
        self._artefacts = Artefacts(store)
        self._cells: dict[str, dict] = {}
        self.page = {
            "profile": profile.name,
            "tables": [self._table(name, table) for name, table in tables.items()],
            "missing": missing,
            "claims": [
                self._claims(name, tables[name]) for name in tables_with_claims() if name in tables
            ],
            "verdicts": claim_texts.VERDICTS,
            "pools": [self._pool(pool) for pool in find_pools(tables, store)],
            "unscored": list(_unscored(tables)),
            "provenance": self._provenance(tables),
        }
        self.data = {
            "texts": texts.strings,
            "images": self._thumbnails.uris,
            "sets": self._samples.sets,
            "results": self._samples.results,
            "cells": self._cells,
            "artefacts": self._artefacts.records,
            "configs": self._artefacts.configs,
            "commits": self._artefacts.commits,
            "devices": self._artefacts.devices,
        }

    def _table(self, name: str, table: FinishedTable) -> dict:
        record = table.record
        columns = [cells.describe_column(c, record) for c in markdown.column_names(record)]
        rows = []
        for number, row in enumerate(record["rows"]):
            row_cells = {}
            for column in columns:
                if cell := row["cells"].get(column["name"]):
                    cell_id = f"{name}/{number}/{column['name']}"
                    self._cells[cell_id] = self._cell(row["label"], column["name"], cell, table)
                    row_cells[column["name"]] = cells.describe_cell(cell, column) | {"id": cell_id}
            rows.append({"label": row["label"], "cells": row_cells})
        return {
            "name": name,
            "heading": _heading(record),
            "title": record["title"],
            "profile": record["profile"],
            "columns": columns,
            "rows": rows,
            "footer": [line.removeprefix("- ") for line in markdown.footer(record).splitlines()],
            "drawing": self._drawing(record),
            "gallery": self._gallery(record),
        }

    def _cell(self, row: str, column: str, cell: dict, table: FinishedTable) -> dict:
        """A cell's dialog: facts in words, more numbers, each run's artefact and samples."""
        runs = [
            {
                "name": f"data seed {seed}" + (f", tuning seed {k}" if len(models) > 1 else ""),
                "artefact": self._artefacts.add(stage),
                "result": self._samples.add(stage),
            }
            for seed, models in enumerate(table.cells[row][column])
            for k, stage in enumerate(models)
        ]
        return {
            "title": f"{markdown.heading(table.record)} {row}: {column}",
            "facts": cells.cell_facts(cell, COLUMNS[column].unit, table.record),
            "more": list(cells.extra_numbers(cell["extra"])),
            "runs": runs,
        }

    def _drawing(self, record: dict) -> str | None:
        """The figure that was drawn with the table, if its file is there."""
        paths = [self._folder / file for file in record.get("files", []) if file.endswith(".svg")]
        drawings = (svg_uri(path.read_bytes()) for path in paths if path.is_file())
        return next(drawings, None)

    def _gallery(self, record: dict) -> dict | None:
        def show(image: dict) -> dict:
            pairs = [pair | {"said": VERDICTS.get(pair["verdict"])} for pair in image["pairs"]]
            file = self._folder / image["file"]
            thumbnail = self._thumbnails.add(file.read_bytes() if file.is_file() else None)
            return image | {"pairs": pairs, "picture": thumbnail}

        gallery = record.get("gallery")
        return gallery and gallery | {"images": [show(image) for image in gallery["images"]]}

    def _claims(self, name: str, table: FinishedTable) -> dict:
        record = table.record
        verdicts = findings(name, table.cells, self._profile, record["seeds"], self._store)
        pairs = [pair for claim in verdicts["claims"] for pair in claim["pairs"]]
        differences = [pair["difference"] for pair in pairs if pair["difference"]]
        scale = cells.bar_scale(differences, zero=True)
        for claim in verdicts["claims"]:
            claim["holds"] = claim_texts.HOLDS[claim["holds"]].format(**claim)
            claim["chances"] = claim_texts.whole_claim_text(claim)
        for pair in pairs:
            difference = pair["difference"]
            pair["bar"] = difference and cells.interval_bar(difference, scale)
            pair["text"] = difference and markdown.format_difference(difference)
            pair["chances"] = difference and claim_texts.chance_texts(difference)
            pair["verdict_text"] = claim_texts.verdict_text(pair)
            pair["paper_text"] = markdown.format_paper_value(pair["paper"], "+")
        # The table's own notes stand below it.
        verdicts["notes"] = [note for note in verdicts["notes"] if note not in record["notes"]]
        return verdicts | {"heading": _heading(record)}

    def _pool(self, pool: Pool) -> dict:
        read, dropped = 0, Counter()
        for stage in pool.stages.values():
            facts = self._store.manifest(stage.inputs["samples"])["facts"]
            read += facts.get("read", 0)
            dropped.update(facts.get("dropped", {}))
        record = {
            "backbone": pool.backbone,
            "seeds": sorted(pool.stages),
            "read": read,
            "dropped": dict(dropped),
            "scored": len(pool.pairs),
            "without": pool.without,
            "samples": [],
        }
        if not pool.pairs:
            return record
        images = nearest_images(next(iter(pool.stages.values())))
        record["samples"] = [
            pair | {"picture": images and self._thumbnails.add_named(images, pair["image"])}
            for pair in contributions_by_token(pool)
        ]
        record["histogram"] = svg_uri(plots.histogram(pool))
        record["length"] = svg_uri(plots.score_against_length(pool))
        return record

    def _provenance(self, tables: dict[str, FinishedTable]) -> dict:
        records = [table.record for table in tables.values()]
        settings = self._profile.model_dump(mode="json", exclude={"expected"})
        # A reader of the page need not know this machine's folders.
        settings["data"] = Path(settings["data"]).name
        for backbone in settings["backbones"].values():
            backbone["weights"] = Path(backbone["weights"]).name
        return {
            "tables": [
                {"heading": _heading(record)} | {key: record.get(key) for key in PROVENANCE}
                for record in records
            ],
            "settings": settings,
            "versions": records[0]["versions"],
            "interval": records[0]["interval"],
            "artefacts": len(self._artefacts.records),
            "devices": self._artefacts.devices,
            "most": {
                "questions": samples.QUESTIONS,
                "pairs": samples.PAIRS,
                "pool": samples.POOL,
                "seed": samples.SEED,
            },
        }


def _heading(record: dict) -> str:
    return markdown.heading(record).rstrip(".")


def _unscored(tables: dict[str, FinishedTable]) -> Iterator[dict]:
    """Cells without a number, grouped by table and reason."""
    for table in tables.values():
        reasons: dict[str, list[str]] = {}
        for row in table.record["rows"]:
            for column, cell in row["cells"].items():
                if cell["value"] is None:
                    reasons.setdefault(cell["unscored"], []).append(f"{row['label']}: {column}")
        for reason, names in reasons.items():
            yield {"heading": _heading(table.record), "reason": reason, "cells": names}
