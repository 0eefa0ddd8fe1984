
// ── What stands behind a number: a dialog with facts, artefacts, and questions with answers ──
const find = (id) => document.getElementById(id);
const dialog = find("cell");
const filters = find("cell-filters").elements;
const PAGE = 24;

const element = (name, text = "", className = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
};
const option = (text, value) => Object.assign(element("option", text), { value });
const text = (place) => data.texts[place];

// ── The artefacts: each opens on what it was made from ──
const path = (artefact) => `store/${artefact.stage}/${artefact.key}`;

function artefactOf(place, role) {
  const artefact = data.artefacts[place];
  const details = element("details", "", "artefact");
  const summary = element("summary", `${role}: ${artefact.stage} `);
  summary.append(element("code", artefact.key.slice(0, 12)));
  details.append(summary);
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(...inside(artefact));
  });
  return details;
}

function* inside(artefact) {
  const facts = [["path", path(artefact)], ["digest", artefact.key]];
  if ("seed" in artefact) facts.push(["seed", artefact.seed]);
  if ("made" in artefact) {
    facts.push(["made", artefact.made], ["seconds", artefact.seconds]);
    facts.push(["commit", data.commits[artefact.commit]], ["device", data.devices[artefact.device]]);
  } else {
    facts.push(["made", "not in the store any more"]);
  }
  facts.push(["configuration", JSON.stringify(data.configs[artefact.config])]);
  yield factsOf(facts);
  for (const [role, input] of Object.entries(artefact.inputs)) {
    if (typeof input === "number") {
      yield artefactOf(input, role);
    } else {
      const line = element("p", `${role}: ${input[0]} `);
      line.append(element("code", input[1]));
      yield line;
    }
  }
}

function factsOf(facts) {
  const list = element("dl", "", "facts");
  for (const [name, value] of facts) {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", String(value)));
    list.append(pair);
  }
  return list;
}

// ── Questions and answers ──
let result, set, shown, matching;

const note = (k) => (Number.isInteger(result.notes?.[k]) ? text(result.notes[k]) : "");

function card(k) {
  const made = element("li");
  if (set.image[k] === null) {
    made.append(element("span", "no image", "thumbnail"));
  } else {
    const image = Object.assign(element("img", "", "thumbnail"), { width: 96, height: 96 });
    image.alt = `image of question ${text(set.id[k])}`;
    image.src = data.images[set.image[k]];
    made.append(image);
  }
  const side = element("div");
  side.append(element("p", `${text(set.category[k])}; ${text(set.id[k])}`, "meta"));
  const lines = [["Q", text(set.question[k]), ""]];
  for (const place of set.options[k]) lines.push(["", text(place), ""]);
  lines.push([set.answer, text(set.answers[k]), ""]);
  if (result.said) lines.push(["the model's answer", text(result.said[k]), ""]);
  for (const [name, said] of lines) {
    const line = element("p");
    if (name) line.append(element("b", `${name} `));
    line.append(said);
    side.append(line);
  }
  const notes = element("p", "", "meta");
  const right = result.right[k];
  if (right !== "-") notes.append(element("span", right === "1" ? "right" : "wrong", right === "1" ? "right" : "wrong"), " ");
  if (note(k)) notes.append(note(k));
  side.append(notes);
  made.append(side);
  return made;
}

function more() {
  const next = matching.slice(shown, shown + PAGE);
  find("cell-list").append(...next.map(card));
  shown += next.length;
  find("cell-more").hidden = shown >= matching.length;
}

function filter() {
  const words = filters.words.value.toLowerCase().split(/\s+/).filter(Boolean);
  matching = [...set.id.keys()].filter((k) => {
    if (filters.category.value && text(set.category[k]) !== filters.category.value) return false;
    if (filters.right.value && result.right[k] !== filters.right.value) return false;
    const places = [set.id[k], set.question[k], set.answers[k], ...set.options[k]];
    if (result.said) places.push(result.said[k]);
    const all = [...places.map(text), note(k)].join(" ").toLowerCase();
    return words.every((word) => all.includes(word));
  });
  shown = 0;
  find("cell-list").replaceChildren();
  more();
  const here = set.id.length;
  const drawn = here < set.total ? `; this file has ${here} of ${set.total}, a seeded draw` : "";
  find("cell-count").textContent = `${matching.length} of ${here}${drawn}`;
}

function choose(run) {
  result = data.results[run.result];
  set = data.sets[result.set];
  const before = filters.category.value;
  const categories = [...new Set(set.category.map(text))].sort();
  filters.category.replaceChildren(option("any", ""), ...categories.map((name) => option(name, name)));
  filters.category.value = categories.includes(before) ? before : "";
  filter();
}

// ── Opening a cell ──
function open(cell) {
  find("cell-title").textContent = cell.title;
  find("cell-facts").replaceChildren(...factsOf(cell.facts).children);
  find("cell-more-facts").replaceChildren(...factsOf(cell.more).children);
  find("cell-extra").hidden = cell.more.length === 0;
  find("cell-artefacts").replaceChildren(...cell.runs.map((run) => artefactOf(run.artefact, run.name)));
  const listed = cell.runs.filter((run) => run.result !== null);
  find("cell-answers").hidden = listed.length === 0;
  filters.run.replaceChildren(...listed.map((run, k) => option(run.name, k)));
  filters.run.onchange = () => choose(listed[filters.run.value]);
  filters.words.value = filters.right.value = filters.category.value = "";
  if (listed.length) choose(listed[0]);
  dialog.showModal();
  dialog.scrollTop = 0;
  find("cell-title").focus();
}

for (const button of document.querySelectorAll("button[data-cell]")) {
  button.addEventListener("click", () => open(data.cells[button.dataset.cell]));
}
for (const name of ["category", "right"]) filters[name].addEventListener("change", filter);
filters.words.addEventListener("input", filter);
find("cell-filters").addEventListener("submit", (event) => event.preventDefault());
find("cell-more").addEventListener("click", more);
find("cell-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
