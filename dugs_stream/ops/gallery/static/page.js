// What the page does: asks for a page of uniques and for the status, every two seconds while somebody looks, and
// shows both. Every value of a record becomes a text node; no markup is ever made of data.
"use strict";

const UNIQUES_A_PAGE = 48;
const LOOK_EVERY_MS = 2000; // as fresh as a person notices; nothing new costs the server one small answer
const RATE_OVER_MS = 30000; // long enough to smooth micro-batches, short enough to see a stall
const LABELS_EVERY_MS = 15000;
const SMALL_PICTURE = 100; // pixels; below it a picture is enlarged pixel by pixel, as it is judged

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");
const about = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

const view = { label: "", id: "", order: "newest", page: 0, table: null, below: null };
const shown = new Map(); // sequence → { text, node }: what stands on the page, and what it was made of
const status = { facts: {}, seen: [], labelsAt: -LABELS_EVERY_MS };
let current = null; // the sequence number that the keys are at
let found = { total: 0, read: 0, uniques: 0, items: [] };
let asked = 0;
let timer = 0;

// -- making elements --------------------------------------------------------------------------------------

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null)); // strings become text nodes
  return node;
}

function text(value, tag = "bdi") {
  const node = make(tag, "", String(value)); // bdi: a name in another direction turns nothing around it
  node.title = String(value);
  return node;
}

function picture(has, path, className, alt) {
  const nothing = () => make("div", `${className} none`, "no picture");
  if (!has) return nothing();
  const image = make("img", className);
  image.decoding = "async";
  image.alt = alt;
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < SMALL_PICTURE));
  image.addEventListener("error", () => image.replaceWith(nothing()));
  image.src = path;
  return image;
}

const thumbnail = (sequence, place, time) =>
  `api/thumbnails/${sequence}${place ? `/${place}` : ""}?of=${encodeURIComponent(time)}`;

function labelOf(of) {
  if (of.label_name !== undefined && of.label_name !== null) return of.label_name;
  return of.label === null || of.label === undefined ? "" : `class ${of.label}`;
}

function keyOf(source) {
  if (source.key !== null) return source.key;
  if (source.key_base64 !== undefined) return `base64:${source.key_base64}`;
  return source.key_sha256 === undefined ? "" : `sha256:${source.key_sha256}`;
}

function similarityOf(event) {
  if (event.similarity !== null) return event.similarity.toFixed(4);
  if (event.similarity_bound !== undefined) return `≤ ${event.similarity_bound.toFixed(4)}`;
  return event.sequence === 0 ? "the first" : "–";
}

function meter(event) {
  const bar = make("span");
  const similarity = event.similarity ?? event.similarity_bound ?? 0;
  const share = event.threshold > 0 ? Math.min(1, Math.max(0, similarity / event.threshold)) : 0;
  bar.style.width = `${(share * 100).toFixed(1)}%`;
  return make("div", "meter", bar);
}

function nearestButton(item) {
  const nearest = item.nearest;
  const name = labelOf(nearest);
  const image = nearest.picture ? picture(true, thumbnail(nearest.sequence, 0, nearest.id ?? ""), "", "") : null;
  const button = make("button", "nearest", image, text(`#${nearest.sequence}${name ? ` ${name}` : ""}`));
  button.type = "button";
  button.addEventListener("click", (click) => {
    click.stopPropagation();
    openDetail(nearest.sequence);
  });
  return button;
}

function rowOf(name, value) {
  return [make("dt", "", name), make("dd", "", value)];
}

function absorbedOf(item) {
  const { count, some } = item.absorbed;
  const box = make("div", "duplicates");
  if (count === 0) {
    box.append(make("p", "", isStandby() ? "Duplicates are counted where they are decided." : "No duplicates seen."));
    return box;
  }
  const words = ` duplicate${count === 1 ? "" : "s"}${count > some.length && some.length ? `, the first ${some.length}:` : ""}`;
  box.append(make("p", "", make("b", "", whole.format(count)), words));
  if (some.length === 0) return box;
  const strip = make("ul", "strip");
  for (const one of some) {
    const image = one.picture
      ? picture(true, thumbnail(item.event.sequence, one.place, one.id), "", "")
      : make("span", "none", "–");
    const entry = make("li", "", image, one.similarity === null ? "" : one.similarity.toFixed(2));
    entry.title = [labelOf(one), one.id].filter(Boolean).join(" · ");
    strip.append(entry);
  }
  box.append(strip);
  return box;
}

function title(event) {
  const name = labelOf(event);
  const label = name ? text(name) : null;
  if (label) label.className = "class";
  return [make("span", "number", `#${whole.format(event.sequence)}`), label];
}

function cardOf(item) {
  const event = item.event;
  const rows = make("dl", "rows");
  if (item.nearest) rows.append(...rowOf("nearest", nearestButton(item)));
  if (event.gradient_norm !== null) rows.append(...rowOf("norm", about.format(event.gradient_norm)));
  if (keyOf(event.source)) rows.append(...rowOf("key", text(keyOf(event.source))));
  rows.append(...rowOf("source", text(event.id)));
  const scale = make("div", "scale",
    make("span", "", event.similarity === null ? similarityOf(event) : `similarity ${similarityOf(event)}`),
    make("span", "", `τ ${event.threshold}`));
  const what = make("div", "what", make("h2", "", ...title(event)), meter(event), scale, rows);
  const image = picture(item.picture, thumbnail(event.sequence, 0, event.time), "picture", `unique ${event.sequence}`);
  return make("article", "card", make("div", "top", image, what), absorbedOf(item));
}

function tableRowOf(item) {
  const event = item.event;
  const cells = [
    make("span", "number", whole.format(event.sequence)), text(labelOf(event) || "–"),
    make("span", "", make("span", "value", similarityOf(event)), meter(event)),
    item.nearest ? nearestButton(item) : "–", whole.format(item.absorbed.count),
    event.gradient_norm === null ? "–" : about.format(event.gradient_norm), text(keyOf(event.source) || "–"),
    text(event.id), text(event.time.slice(0, 19).replace("T", " "), "span"),
  ];
  return make("tr", "", ...cells.map((cell) => make("td", "", cell)));
}

// -- showing a page ---------------------------------------------------------------------------------------

const isTable = () => view.table ?? !(status.facts.codec === undefined || status.facts.codec === "image" || status.facts.codec.includes(":"));
const isStandby = () => status.facts.role === "standby";
const isFiltered = () => view.label !== "" || view.id !== "";

function show(isNews) {
  const table = isTable();
  const place = table ? $("rows") : $("cards");
  if ($("table").hidden === table) {
    shown.clear();
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
  const nodes = found.items.map((item) => nodeOf(item, table, isNews));
  for (const [sequence, { node }] of shown) {
    if (!wanted.has(sequence)) {
      node.remove();
      shown.delete(sequence);
    }
  }
  nodes.forEach((node, index) => {
    if (place.children[index] !== node) place.insertBefore(node, place.children[index] ?? null);
    node.tabIndex = Number(node.dataset.sequence) === current ? 0 : -1;
  });
  if (focused !== undefined && document.activeElement === document.body) shown.get(Number(focused))?.node.focus();
  showCounts();
}

function nodeOf(item, table, isNews) {
  const sequence = item.event.sequence;
  const made = JSON.stringify(item) + isStandby();
  const known = shown.get(sequence);
  if (known?.text === made) return known.node;
  const node = table ? tableRowOf(item) : cardOf(item);
  node.dataset.sequence = String(sequence);
  node.setAttribute("aria-label", `unique ${sequence} ${labelOf(item.event)}`);
  node.addEventListener("click", () => openDetail(sequence));
  if (known) known.node.replaceWith(node);
  else if (isNews) node.classList.add("new");
  shown.set(sequence, { text: made, node });
  return node;
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
  $("empty").textContent = !isFiltered() ? "No unique record yet. The first one decided will be the first one here."
    : read < uniques ? `Looking through ${whole.format(uniques)} uniques …` : "No unique fits. Esc clears the filters.";
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
  $("rate").textContent = rate(Object.values(facts.next_offsets ?? {}).reduce((sum, offset) => sum + offset, 0));
  const missing = Object.entries(facts.missing ?? {}).map(([name, why]) => `${name}: ${why}`);
  if (missing.length) notice(`Not ready. ${missing.join(" · ")}`);
  else if (isStandby()) notice("This instance stands by. It knows the uniques from the changelog; pictures and counts of duplicates are kept by the instance that decides.");
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
    const value = name ?? (label === null ? "none" : String(label));
    options.push(new Option(`${name ?? (label === null ? "no label" : `class ${label}`)} (${whole.format(uniques)})`, value));
  }
  if (view.label !== "" && !options.some((option) => option.value === view.label)) options.push(new Option(view.label, view.label));
  select.replaceChildren(...options);
  select.value = view.label;
}

// -- one unique -------------------------------------------------------------------------------------------

async function openDetail(sequence) {
  const answer = await fetch(`api/gallery/${sequence}`).catch(() => null);
  if (!answer?.ok) return;
  const item = await answer.json();
  const event = item.event;
  const own = make("figure", "", picture(item.picture, thumbnail(sequence, 0, event.time), "picture", `unique ${sequence}`),
    make("figcaption", "", make("b", "", "this one"), " ", text(keyOf(event.source) || event.id)));
  const pair = make("div", "pair", own);
  if (item.nearest) {
    const image = picture(item.nearest.picture, thumbnail(item.nearest.sequence, 0, item.nearest.id ?? ""), "picture", "");
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
  const query = new URLSearchParams({ offset: view.page * UNIQUES_A_PAGE, limit: UNIQUES_A_PAGE, order: view.order });
  if (view.label) query.set("label", view.label);
  if (view.id) query.set("id", view.id);
  if (view.below !== null && view.order === "newest" && view.page > 0) query.set("below", view.below);
  return `api/gallery?${query}`;
}

async function ask(path) {
  const answer = await fetch(path, { cache: "no-cache" });
  if (answer.status === 401) throw new Error("This instance asks for credentials (http.auth); load the page again to give them.");
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `The answer was ${answer.status}.`);
  return answer.json();
}

async function look(isNews) {
  clearTimeout(timer);
  const number = ++asked;
  let again = LOOK_EVERY_MS;
  try {
    const [page, facts] = await Promise.all([ask(question()), ask("api/status")]);
    if (number !== asked) return; // another question was asked since
    found = page;
    showStatus(facts);
    show(isNews);
    if (isFiltered() && page.read < page.uniques) again = 50;
    const labelsDue = performance.now() - status.labelsAt > LABELS_EVERY_MS;
    if (labelsDue) await lookAtLabels();
  } catch (error) {
    if (number !== asked) return;
    notice(error instanceof TypeError ? "This instance does not answer; trying again." : error.message);
    $("dot").className = "dot warn";
  }
  if (number === asked) timer = setTimeout(() => document.hidden || look(true), again);
}

async function lookAtLabels() {
  const labels = await ask("api/labels");
  const isComplete = labels.read >= labels.uniques;
  status.labelsAt = isComplete ? performance.now() : -LABELS_EVERY_MS; // what is not read yet is asked for again
  if (document.activeElement !== $("label")) showLabels(labels.items);
}

// -- what people do ---------------------------------------------------------------------------------------

function change(changes) {
  const moved = changes.page === undefined;
  Object.assign(view, changes, moved ? { page: 0 } : {});
  if (view.page === 0) view.below = null;
  else view.below ??= Math.max(...found.items.map((item) => item.event.sequence), -1) + 1;
  const query = new URLSearchParams();
  for (const name of ["label", "id"]) if (view[name]) query.set(name, view[name]);
  if (view.order !== "newest") query.set("order", view.order);
  if (view.table !== null) query.set("view", view.table ? "table" : "cards");
  if (view.page) query.set("page", view.page + 1);
  history.replaceState(null, "", `${query}` ? `?${query}` : location.pathname);
  $("order").value = view.order;
  $("label").value = view.label;
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
  "?": () => $("help").showModal(), Escape: () => isFiltered() && change({ label: "", id: "" }),
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
view.id = given.get("id") ?? "";
view.order = given.get("order") === "oldest" ? "oldest" : "newest";
view.table = given.has("view") ? given.get("view") === "table" : null;
view.page = Math.max(0, Math.floor(Number(given.get("page") ?? 1) || 1) - 1);
$("search").value = view.id;
$("order").value = view.order;
showLabels([]);
look(false);
if (/^\d+$/.test(given.get("sequence") ?? "")) openDetail(Number(given.get("sequence")));
