// Light or dark, pictures, sorting, filtering; cell.js follows in the same script. Texts are only
// ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
document.getElementById("without-scripts").remove();

// ── Light or dark: the system's choice until the button is pressed ──
const theme = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
const label = () => { theme.textContent = dark() ? "Light" : "Dark"; };
theme.hidden = false;
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  label();
});
system.addEventListener("change", label);
label();

// ── Each thumbnail is in the file once ──
for (const image of document.querySelectorAll("img[data-image]")) {
  image.src = data.images[image.dataset.image];
}

// ── Sorting: up, down, and back to the order of the paper ──
const sortable = (cell, kind) => {
  if (kind === "text") return cell.textContent.trim().toLowerCase();
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
};
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  for (const [column, head] of heads.entries()) {
    const button = head.querySelector("button.sort");
    if (!button) continue;
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", next);
      const rows = [...original];
      if (next !== "none") {
        const sign = next === "ascending" ? 1 : -1;
        const value = new Map(rows.map((row) => [row, sortable(row.cells[column], button.dataset.kind)]));
        rows.sort((a, b) => {
          const [x, y] = [value.get(a), value.get(b)];
          if (x === null || y === null) return (x === null) - (y === null); // the lacking ones last
          return sign * (x < y ? -1 : x > y ? 1 : 0);
        });
      }
      body.append(...rows);
    });
  }
}

// ── Filtering by words ──
const rows = (place) => (place.tBodies ? [...place.tBodies[0].rows] : [...place.children]);
for (const input of document.querySelectorAll("input[data-filter]")) {
  const place = document.getElementById(input.dataset.filter);
  const count = document.querySelector(`[data-count="${input.dataset.filter}"]`);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = rows(place);
    for (const row of all) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const left = all.filter((row) => !row.hidden).length;
    count.textContent = words.length ? `${left} of ${all.length}` : "";
  });
}

// ── Claims by verdict ──
const verdict = document.getElementById("verdict");
verdict?.addEventListener("change", () => {
  const all = [...document.querySelectorAll("article.claim")];
  for (const claim of all) claim.hidden = verdict.value !== "" && claim.dataset.verdict !== verdict.value;
  for (const group of document.querySelectorAll("div.claims")) {
    group.hidden = !group.querySelector("article.claim:not([hidden])");
  }
  const left = all.filter((claim) => !claim.hidden).length;
  document.getElementById("verdict-count").textContent = verdict.value ? `${left} of ${all.length}` : "";
});
