// The page's behaviour: it asks its source (live.js or file.js) for uniques and status, and shows them as cards or rows
// (cards.js). A live source is asked again every two seconds while the page is visible.
"use strict";

const UNIQUES_A_PAGE = 48;
const LOOK_EVERY_MS = 2000; // fast enough to look live; an unchanged page costs the server one small answer
const RATE_OVER_MS = 30000; // long enough to smooth micro-batches, short enough to see a stall
const LABELS_EVERY_MS = 15000;

const $ = (id) => document.getElementById(id);

const view = { label: "", category: "", id: "", least: "", order: source.order, page: 0, table: null, below: null };
const shown = new Map(); // sequence → { text, node }: each node on the page, and the text it was made from
const headings = new Map(); // category → its heading on the page
const status = { facts: {}, seen: [], labelsAt: -LABELS_EVERY_MS, categories: [], hasValues: false };
let current = null; // sequence number of the unique that the keys act on
let found = { total: 0, read: 0, uniques: 0, items: [] };
let asked = 0;
let timer = 0;

// -- showing a page ---------------------------------------------------------------------------------------

const isTable = () => view.table ?? !(status.facts.codec === undefined || status.facts.codec === "image" || status.facts.codec === "text" || status.facts.codec.includes(":"));
const isStandby = () => status.facts.role === "standby";
const isFiltered = () => view.label !== "" || view.category !== "" || view.id !== "" || view.least !== "";
const hasValues = () => status.hasValues;

function show(isUpdate) {
  const table = isTable();
  const place = table ? $("rows") : $("cards");
  if ($("table").hidden === table) {
    shown.clear();
    headings.clear();
    $("rows").replaceChildren();
    $("cards").replaceChildren();
  }
  $("table").hidden = !table;
  $("cards").hidden = table;
  $("cards-view").setAttribute("aria-pressed", String(!table));
  $("table-view").setAttribute("aria-pressed", String(table));

  const focused = document.activeElement?.closest?.("[data-sequence]")?.dataset.sequence;
  const wanted = new Set(found.items.map((item) => item.event.sequence));
  if (current === null || !wanted.has(current)) current = found.items[0]?.event.sequence ?? null;
  const nodes = found.items.map((item) => nodeOf(item, table, isUpdate));
  for (const [sequence, { node }] of shown) {
    if (!wanted.has(sequence)) {
      node.remove();
      shown.delete(sequence);
    }
  }
  for (const node of nodes) node.tabIndex = Number(node.dataset.sequence) === current ? 0 : -1;
  withHeadings(nodes, table).forEach((node, index) => {
    if (place.children[index] !== node) place.insertBefore(node, place.children[index] ?? null);
  });
  if (focused !== undefined && document.activeElement === document.body) shown.get(Number(focused))?.node.focus();
  showCounts();
}

function nodeOf(item, table, isUpdate) {
  const sequence = item.event.sequence;
  const made = JSON.stringify(item) + isStandby();
  const known = shown.get(sequence);
  if (known?.text === made) return known.node;
  const node = table ? tableRowOf(item) : cardOf(item);
  node.dataset.sequence = String(sequence);
  node.setAttribute("aria-label", `unique ${sequence} ${labelOf(item.event)}`);
  node.addEventListener("click", () => openDetail(sequence));
  if (known) known.node.replaceWith(node);
  else if (isUpdate) node.classList.add("new");
  shown.set(sequence, { text: made, node });
  return node;
}

function withHeadings(nodes, table) {
  const wanted = new Set();
  const all = nodes.flatMap((node, index) => {
    const category = found.items[index].category ?? 0;
    if (view.order !== "category" || wanted.has(category)) return [node];
    wanted.add(category);
    if (!headings.has(category)) headings.set(category, table ? make("tr", "group", make("th")) : make("h2", "group"));
    const heading = headings.get(category);
    const name = make("bdi", "", categoryName(category));
    if (table) heading.firstChild.colSpan = hasValues() ? 10 : 9;
    (table ? heading.firstChild : heading).replaceChildren(name);
    return [heading, node];
  });
  for (const [category, heading] of headings) {
    if (!wanted.has(category)) {
      heading.remove();
      headings.delete(category);
    }
  }
  return all;
}

function categoryName(category) {
  if (category === 0) return "Not grouped yet";
  const name = status.categories.find((one) => one.category === category)?.name ?? null;
  return name === null ? `Category ${category}` : `Category ${category}: label ${name}`;
}

function showCategories(items) {
  status.categories = items;
  $("category-field").hidden = items.length === 0;
  $("by-category").hidden = $("by-category").disabled = items.length === 0;
  const options = [new Option("all", "")];
  for (const { category, uniques } of items) options.push(new Option(`${categoryName(category)} (${whole.format(uniques)})`, category));
  if (view.category !== "" && !options.some((option) => option.value === view.category)) options.push(new Option(view.category, view.category));
  $("category").replaceChildren(...options);
  $("category").value = view.category;
}

function showValues() {
  const has = status.facts.value_target !== undefined || found.items.some((item) => item.event.value !== undefined);
  if (has && !status.hasValues) { // rows gain a cell
    shown.clear();
    headings.clear();
    $("rows").replaceChildren();
    $("cards").replaceChildren();
  }
  status.hasValues ||= has;
  $("value-field").hidden = $("value-column").hidden = $("by-value").hidden = $("by-value").disabled = !status.hasValues;
  if (view.order === "value") $("order").value = "value";
}

function showCounts() {
  const { total, read, uniques, items } = found;
  $("count").textContent = whole.format(uniques);
  $("what").textContent = uniques === 1 ? "unique record" : "unique records";
  document.title = `${whole.format(uniques)} unique · dugs-stream`;
  const first = view.page * UNIQUES_A_PAGE + 1;
  const all = isFiltered() ? `${whole.format(total)} found` : whole.format(total);
  $("place").textContent = items.length ? `${whole.format(first)}–${whole.format(first + items.length - 1)} of ${all}` : "–";
  $("first").disabled = $("previous").disabled = view.page === 0;
  $("next").disabled = first + items.length > total;
  $("empty").hidden = items.length > 0;
  $("empty").textContent = !isFiltered() ? "No unique record yet. New ones appear here as they are decided."
    : read < uniques ? `Searching ${whole.format(uniques)} uniques …` : "No unique matches. Press Esc to clear the filters.";
  if (found.since_ms) $("since").textContent = ` since ${new Date(found.since_ms).toLocaleString()}`;
}

function showStatus(facts) {
  status.facts = facts;
  const model = facts.model ?? "–";
  $("role").textContent = facts.role;
  $("dot").className = `dot ${facts.ready ? "good" : "warn"}`;
  $("lag").textContent = typeof facts.lag === "number" ? whole.format(facts.lag) : "–";
  $("threshold").textContent = facts.threshold ?? "–";
  $("model").textContent = model;
  $("fingerprint").textContent = (facts.fingerprint ?? "").slice(0, 19);
  $("layers").textContent = (facts.layers ?? []).join(", ") || "–";
  const own = facts.value_target?.own_value;
  $("target").hidden = typeof own !== "number";
  $("own-value").textContent = typeof own === "number" ? own.toFixed(4) : "";
  $("rate").textContent = rate(Object.values(facts.next_offsets ?? {}).reduce((sum, offset) => sum + offset, 0));
  const missing = Object.entries(facts.missing ?? {}).map(([name, why]) => `${name}: ${why}`);
  if (missing.length) notice(`Not ready. ${missing.join(" · ")}`);
  else if (isStandby()) notice("This instance is on standby. It reads the uniques from the changelog; only the owner keeps pictures and duplicate counts.");
  else notice("");
}

function rate(decided) {
  const now = performance.now();
  if (decided < (status.seen.at(-1)?.decided ?? 0)) status.seen = [];
  status.seen.push({ now, decided });
  while (status.seen.length > 2 && now - status.seen[0].now > RATE_OVER_MS) status.seen.shift();
  const first = status.seen[0];
  return now - first.now < 1000 ? "–" : `${about.format((decided - first.decided) / ((now - first.now) / 1000))}/s`;
}

function notice(words) {
  $("notice").hidden = words === "";
  if ($("notice").textContent !== words) $("notice").textContent = words;
}

function showLabels(items) {
  const select = $("label");
  const options = [new Option("all", "")];
  for (const { label, name, uniques } of items) {
    const shownAs = name ?? (label === null ? "no label" : `class ${label}`);
    options.push(new Option(`${shownAs} (${whole.format(uniques)})`, labelValue(label, name)));
  }
  if (view.label !== "" && !options.some((option) => option.value === view.label)) options.push(new Option(view.label, view.label));
  select.replaceChildren(...options);
  select.value = view.label;
}

// -- one unique -------------------------------------------------------------------------------------------

async function openDetail(sequence) {
  const item = await source.unique(sequence).catch(() => null);
  if (item === null) return;
  const event = item.event;
  const shownAs = (of, path, alt) => of.text !== undefined ? excerpt(of.text, "") : picture(of.picture, path, "picture", alt);
  const own = make("figure", "", shownAs(item, source.thumbnail(sequence, 0, event.time), `unique ${sequence}`),
    make("figcaption", "", make("b", "", "this record"), " ", text(keyOf(event) || event.id)));
  const pair = make("div", "pair", own);
  if (item.nearest) {
    const image = shownAs(item.nearest, source.thumbnail(item.nearest.sequence, 0, item.nearest.id ?? ""), "");
    pair.append(make("figure", "", image, make("figcaption", "", make("b", "", "nearest"), " ", nearestButton(item),
      ` similarity ${similarityOf(event)}, τ ${event.threshold}`)));
  }
  $("detail-title").replaceChildren(...title(event).filter((part) => part !== null));
  $("detail-body").replaceChildren(pair, absorbedOf(item), make("pre", "", JSON.stringify(event, null, 2)));
  if (!$("detail").open) $("detail").showModal();
  $("detail").scrollTop = 0;
  $("detail-close").focus();
}

// -- asking -----------------------------------------------------------------------------------------------

function question() {
  const { label, category, id, least, order, page } = view;
  const below = order === "newest" && page > 0 ? view.below : null;
  return { offset: page * UNIQUES_A_PAGE, limit: UNIQUES_A_PAGE, order, label, category, id, least, below };
}

async function look(isUpdate) {
  clearTimeout(timer);
  const number = ++asked;
  let again = LOOK_EVERY_MS;
  try {
    const [page, facts] = await Promise.all([source.page(question()), source.status()]);
    if (number !== asked) return; // a newer question is on its way
    found = page;
    showStatus(facts);
    showValues();
    show(isUpdate);
    if ((isFiltered() || view.order === "value") && page.read < page.uniques) again = 50;
    const labelsDue = performance.now() - status.labelsAt > LABELS_EVERY_MS;
    if (labelsDue) await lookAtLabels();
    if (labelsDue && view.order === "category") show(isUpdate);
  } catch (error) {
    if (number !== asked) return;
    notice(error instanceof TypeError ? "This instance does not answer. Retrying." : error.message);
    $("dot").className = "dot warn";
  }
  if (number === asked && source.name === "live") timer = setTimeout(() => document.hidden || look(true), again);
}

async function lookAtLabels() {
  const [labels, categories] = await Promise.all([source.labels(), source.categories()]);
  const isComplete = labels.read >= labels.uniques;
  status.labelsAt = isComplete ? performance.now() : -LABELS_EVERY_MS; // an incomplete answer is asked for again
  if (document.activeElement !== $("label")) showLabels(labels.items);
  if (document.activeElement !== $("category")) showCategories(categories.items);
}

// -- what people do ---------------------------------------------------------------------------------------

function change(changes) {
  const moved = changes.page === undefined;
  Object.assign(view, changes, moved ? { page: 0 } : {});
  if (view.page === 0) view.below = null;
  else view.below ??= Math.max(...found.items.map((item) => item.event.sequence), -1) + 1;
  const query = new URLSearchParams();
  for (const name of ["label", "category", "id", "least"]) if (view[name]) query.set(name, view[name]);
  if (view.order !== source.order) query.set("order", view.order);
  if (view.table !== null) query.set("view", view.table ? "table" : "cards");
  if (view.page) query.set("page", view.page + 1);
  if (source.name === "live") history.replaceState(null, "", `${query}` ? `?${query}` : location.pathname); // a file's address is fixed
  $("order").value = view.order;
  $("label").value = view.label;
  $("category").value = view.category;
  if (document.activeElement !== $("least-value")) $("least-value").value = view.least;
  if (document.activeElement !== $("search")) $("search").value = view.id;
  if (!moved) window.scrollTo({ top: 0 });
  look(false);
}

function move(step) {
  const order = found.items.map((item) => item.event.sequence);
  const at = order.indexOf(current);
  const isAt = document.activeElement?.dataset?.sequence !== undefined;
  const to = order[Math.min(order.length - 1, Math.max(0, at + (isAt ? step : 0)))];
  if (to === undefined) return;
  shown.get(current).node.tabIndex = -1;
  current = to;
  shown.get(current).node.tabIndex = 0;
  shown.get(current).node.focus();
}

function columns() {
  return isTable() ? 1 : getComputedStyle($("cards")).gridTemplateColumns.split(" ").length;
}

const turn = (step) => {
  const button = step < 0 ? $("previous") : $("next");
  if (!button.disabled) change({ page: Math.max(0, view.page + step) });
};

const keys = {
  j: () => move(1), k: () => move(-1), ArrowRight: () => move(1), ArrowLeft: () => move(-1),
  ArrowDown: () => move(columns()), ArrowUp: () => move(-columns()),
  n: () => turn(1), p: () => turn(-1), "/": () => $("search").focus(), l: () => $("label").focus(),
  o: () => change({ order: view.order === "newest" ? "oldest" : "newest" }), v: () => change({ table: !isTable(), page: view.page }),
  "?": () => $("help").showModal(), Escape: () => isFiltered() && change({ label: "", category: "", id: "", least: "" }),
  Enter: () => current !== null && openDetail(current),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const field = event.target.closest("input, select");
  if (event.key === "Escape" && field) {
    if (field === $("search")) change({ id: "" });
    field.blur();
    field.value = field === $("search") ? "" : field.value;
    return;
  }
  if (field || !Object.hasOwn(keys, event.key)) return;
  if (event.key === "Enter" && event.target.closest("button, a")) return; // it presses them
  const isArrow = event.key.startsWith("Arrow");
  if (isArrow && event.target === document.body) return; // arrows scroll until a unique has the focus
  event.preventDefault();
  keys[event.key]();
});

let typed = 0;
$("search").addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => change({ id: $("search").value.trim() }), 200);
});
$("tools").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typed);
  change({ id: $("search").value.trim() });
});
$("label").addEventListener("change", () => change({ label: $("label").value }));
$("category").addEventListener("change", () => change({ category: $("category").value }));
$("least-value").addEventListener("change", () => change({ least: $("least-value").value }));
$("order").addEventListener("change", () => change({ order: $("order").value }));
$("cards-view").addEventListener("click", () => change({ table: false, page: view.page }));
$("table-view").addEventListener("click", () => change({ table: true, page: view.page }));
$("first").addEventListener("click", () => change({ page: 0 }));
$("previous").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("help-button").addEventListener("click", () => $("help").showModal());
for (const name of ["help", "detail"]) {
  $(`${name}-close`).addEventListener("click", () => $(name).close());
  $(name).addEventListener("click", (event) => event.target === $(name) && $(name).close());
}
document.addEventListener("visibilitychange", () => document.hidden || look(true));

const given = new URLSearchParams(location.search);
view.label = given.get("label") ?? "";
view.category = given.get("category") ?? "";
view.id = given.get("id") ?? "";
view.least = given.get("least") ?? "";
if (["oldest", "newest", "category", "value"].includes(given.get("order"))) view.order = given.get("order");
view.table = given.has("view") ? given.get("view") === "table" : null;
view.page = Math.max(0, Math.floor(Number(given.get("page") ?? 1) || 1) - 1);
$("search").value = view.id;
$("least-value").value = view.least;
$("order").value = view.order;
for (const node of document.querySelectorAll("[data-only]")) node.hidden = node.dataset.only !== source.name;
showLabels([]);
showCategories([]);
look(false);
if (/^\d+$/.test(given.get("sequence") ?? "")) openDetail(Number(given.get("sequence")));
