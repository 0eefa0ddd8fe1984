"""All that the page shows, gathered from the tables' JSON and the artefacts behind them.

Two records: `page` for the template, and `data` for the scripts, which open a cell on demand.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from c3l.artifacts.store import Store
from repro.analysis.compare import findings, tables_with_claims
from repro.columns import COLUMNS
from repro.profile import Profile
from repro.render import claims as claim_texts
from repro.render import markdown
from repro.render.gallery import VERDICTS
from repro.report import cells, listings, plots
from repro.report.artefacts import Artefacts
from repro.report.found import Found
from repro.report.listings import Listings, nearest_images
from repro.report.pictures import Pictures, Texts, data_uri
from repro.report.pools import Pool, by_token, pools


class Contents:
    """Gathers; `page` and `data` are whole once it is made."""

    def __init__(
        self,
        found: dict[str, Found],
        missing: list[dict],
        profile: Profile,
        store: Store,
        folder: Path,
    ):
        """`missing` are the tables that there is nothing of, each with `table`, `why` and the
        `command` that makes it; `folder` holds the drawings."""
        self._profile, self._store, self._folder = profile, store, folder
        self._pictures, self._texts = Pictures(), Texts()
        self._listings = Listings(store, self._texts, self._pictures)
        self._artefacts = Artefacts(store)
        self._cells: dict[str, dict] = {}
        tables = [self._table(name, table) for name, table in found.items()]
        claims = [self._claims(name, found[name]) for name in tables_with_claims() if name in found]
        pooled = [self._pool(pool) for pool in pools(found, store)]
        self.page = {
            "profile": profile.name,
            "tables": tables,
            "missing": missing,
            "claims": claims,
            "verdicts": claim_texts.VERDICTS,
            "pools": pooled,
            "unscored": list(_unscored(found)),
            "provenance": self._provenance(found),
        }
        self.data = {
            "texts": self._texts.all,
            "images": self._pictures.uris,
            "sets": self._listings.sets,
            "results": self._listings.results,
            "cells": self._cells,
            "artefacts": self._artefacts.all,
            "configs": self._artefacts.configs,
            "commits": self._artefacts.commits,
            "devices": self._artefacts.devices,
        }

    def _table(self, name: str, found: Found) -> dict:
        record = found.record
        columns = [cells.column(name, record) for name in markdown.columns(record)]
        rows = []
        for number, row in enumerate(record["rows"]):
            shown = {}
            for column in columns:
                if cell := row["cells"].get(column["name"]):
                    place = f"{name}/{number}/{column['name']}"
                    self._cells[place] = self._cell(row["label"], column["name"], cell, found)
                    shown[column["name"]] = cells.drawn(cell, column) | {"id": place}
            rows.append({"label": row["label"], "cells": shown})
        return {
            "name": name,
            "heading": markdown.heading(record).rstrip("."),
            "title": record["title"],
            "profile": record["profile"],
            "columns": columns,
            "rows": rows,
            "footer": [line.removeprefix("- ") for line in markdown.footer(record).splitlines()],
            "drawing": self._drawing(record),
            "gallery": self._gallery(record),
        }

    def _cell(self, row: str, column: str, cell: dict, found: Found) -> dict:
        """What a cell opens on: facts in words, more numbers, each run's artefact and listing."""
        runs = found.cells[row][column]
        named = [
            (f"data seed {seed}" + (f", tuning seed {k}" if len(some) > 1 else ""), stage)
            for seed, some in enumerate(runs)
            for k, stage in enumerate(some)
        ]
        return {
            "title": f"{markdown.heading(found.record)} {row}: {column}",
            "facts": cells.facts(cell, COLUMNS[column].unit, found.record),
            "more": list(cells.numbers(cell["extra"])),
            "runs": [
                {
                    "name": name,
                    "artefact": self._artefacts.add(stage),
                    "result": self._listings.add(stage),
                }
                for name, stage in named
            ],
        }

    def _drawing(self, record: dict) -> str | None:
        """The figure that was drawn with the table, if its file is there."""
        for file in record.get("files", []):
            if file.endswith(".svg") and (self._folder / file).is_file():
                return data_uri("image/svg+xml", (self._folder / file).read_bytes())
        return None

    def _gallery(self, record: dict) -> dict | None:
        if (gallery := record.get("gallery")) is None:
            return None
        images = []
        for image in gallery["images"]:
            pairs = [pair | {"said": VERDICTS.get(pair["verdict"])} for pair in image["pairs"]]
            picture = self._pictures.add(_bytes(self._folder / image["file"]))
            images.append(image | {"pairs": pairs, "picture": picture})
        return gallery | {"images": images}

    def _claims(self, name: str, found: Found) -> dict:
        seeds = found.record["seeds"]
        said = findings(name, found.cells, self._profile, seeds, self._store)
        differences = [
            pair["difference"]
            for claim in said["claims"]
            for pair in claim["pairs"]
            if pair["difference"]
        ]
        scale = cells.scale(differences, zero=True)
        for claim in said["claims"]:
            claim["holds"] = claim_texts.HOLDS[claim["holds"]].format(**claim)
            for pair in claim["pairs"]:
                difference = pair["difference"]
                pair["bar"] = difference and cells.bar(difference, scale)
                pair["text"] = difference and markdown.difference(difference)
                if pair["paper"] is not None:
                    pair["paper_text"] = markdown.printed(pair["paper"], "+")
        # Those of the table stand below it.
        said["notes"] = [note for note in said["notes"] if note not in found.record["notes"]]
        return said | {"heading": markdown.heading(found.record).rstrip(".")}

    def _pool(self, pool: Pool) -> dict:
        read, dropped = 0, Counter()
        for stage in pool.stages.values():
            facts = self._store.manifest(stage.inputs["samples"])["facts"]
            read += facts.get("read", 0)
            dropped.update(facts.get("dropped", {}))
        said = {
            "backbone": pool.backbone,
            "seeds": sorted(pool.stages),
            "read": read,
            "dropped": dict(dropped),
            "scored": len(pool.pairs),
            "without": pool.without,
        }
        if not pool.pairs:
            return said | {"samples": []}
        images = nearest_images(next(iter(pool.stages.values())))
        samples = [
            pair | {"picture": images and self._pictures.add_named(images, pair["image"])}
            for pair in by_token(pool)
        ]
        drawings = {"histogram": plots.histogram(pool), "length": plots.against_length(pool)}
        uris = {name: data_uri("image/svg+xml", svg) for name, svg in drawings.items()}
        return said | uris | {"samples": samples}

    def _provenance(self, found: dict[str, Found]) -> dict:
        kept = ("made", "core_seconds", "wall_clock_seconds", "commit", "seeds", "tuning_seeds")
        tables = [
            {"heading": markdown.heading(table.record).rstrip(".")}
            | {key: table.record.get(key) for key in kept}
            for table in found.values()
        ]
        first = next(iter(found.values())).record
        settings = self._profile.model_dump(mode="json", exclude={"expected"})
        # Who reads the page need not know where things lie on the machine that it is from.
        settings["data"] = Path(settings["data"]).name
        for backbone in settings["backbones"].values():
            backbone["weights"] = Path(backbone["weights"]).name
        return {
            "tables": tables,
            "settings": settings,
            "versions": first["versions"],
            "interval": first["interval"],
            "artefacts": len(self._artefacts.all),
            "devices": self._artefacts.devices,
            "most": {
                "questions": listings.QUESTIONS,
                "pairs": listings.PAIRS,
                "pool": listings.POOL,
                "seed": listings.SEED,
            },
        }


def _unscored(found: dict[str, Found]) -> Iterable[dict]:
    """Cells without a number, those of a table with the same reason together."""
    for table in found.values():
        lacking: dict[str, list[str]] = {}
        for row in table.record["rows"]:
            for column, cell in row["cells"].items():
                if cell["value"] is None:
                    lacking.setdefault(cell["unscored"], []).append(f"{row['label']}: {column}")
        for reason, places in lacking.items():
            heading = markdown.heading(table.record).rstrip(".")
            yield {"heading": heading, "reason": reason, "cells": places}


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
