// A unique as a card or as a row of the table. Every value of a record becomes a text node; no markup is ever made
// of data.
"use strict";

const SMALL_PICTURE = 100; // pixels; a smaller picture is enlarged without smoothing

const whole = new Intl.NumberFormat("en");
const about = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null)); // strings become text nodes
  return node;
}

function text(value, tag = "bdi") {
  const node = make(tag, "", String(value)); // bdi: right-to-left text does not reorder what stands beside it
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

function excerpt(value, className) {
  const node = make("blockquote", `excerpt ${className}`, value);
  node.dir = "auto";
  return node;
}

function labelOf(of) {
  if (of.label_name !== undefined && of.label_name !== null) return of.label_name;
  return of.label === null || of.label === undefined ? "" : `class ${of.label}`;
}

function labelValue(label, name) {
  return name ?? (label === null ? "none" : String(label));
}

function keyOf(event) {
  const { key, key_base64: base64, key_sha256: sha256 } = event.source;
  if (key !== null) return key;
  if (base64 !== undefined) return `base64:${base64}`;
  return sha256 === undefined ? "" : `sha256:${sha256}`;
}

function similarityOf(event) {
  if (event.similarity !== null) return event.similarity.toFixed(4);
  if (event.similarity_bound !== undefined) return `≤ ${event.similarity_bound.toFixed(4)}`;
  return event.sequence === 0 ? "first" : "–";
}

function valueOf(event) {
  return typeof event.value === "number" ? event.value.toFixed(4) : "–";
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
  const image = nearest.picture ? picture(true, source.thumbnail(nearest.sequence, 0, nearest.id ?? ""), "", "") : null;
  const quoted = nearest.text === undefined ? "" : ` ${nearest.text}`;
  const button = make("button", "nearest", image, text(`#${nearest.sequence}${name ? ` ${name}` : ""}${quoted}`));
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
    box.append(make("p", "", isStandby() ? "Only the owner counts duplicates." : "No duplicates."));
    return box;
  }
  const words = ` duplicate${count === 1 ? "" : "s"}${count > some.length && some.length ? `, the first ${some.length}:` : ""}`;
  box.append(make("p", "", make("b", "", whole.format(count)), words));
  if (some.length === 0) return box;
  const strip = make("ul", some.some((one) => one.text !== undefined) ? "strip texts" : "strip");
  for (const one of some) {
    if (one.text !== undefined) {
      const similarity = one.similarity === null ? "–" : one.similarity.toFixed(2);
      const entry = make("li", "", make("span", "number", similarity), excerpt(one.text, "one"));
      entry.title = [labelOf(one), one.id, one.text].filter(Boolean).join(" · ");
      strip.append(entry);
      continue;
    }
    const image = one.picture
      ? picture(true, source.thumbnail(item.event.sequence, one.place, one.id), "", "")
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
  if (event.value !== undefined) rows.append(...rowOf("value", valueOf(event)));
  if (keyOf(event)) rows.append(...rowOf("key", text(keyOf(event))));
  rows.append(...rowOf("source", text(event.id)));
  const scale = make("div", "scale",
    make("span", "", event.similarity === null ? similarityOf(event) : `similarity ${similarityOf(event)}`),
    make("span", "", `τ ${event.threshold}`));
  const what = make("div", "what", make("h2", "", ...title(event)), meter(event), scale, rows);
  if (item.text !== undefined) return make("article", "card", excerpt(item.text, "some"), what, absorbedOf(item));
  const image = picture(item.picture, source.thumbnail(event.sequence, 0, event.time), "picture", `unique ${event.sequence}`);
  return make("article", "card", make("div", "top", image, what), absorbedOf(item));
}

function tableRowOf(item) {
  const event = item.event;
  const cells = [
    make("span", "number", whole.format(event.sequence)), text(labelOf(event) || "–"),
    make("span", "", make("span", "value", similarityOf(event)), meter(event)),
    item.nearest ? nearestButton(item) : "–", whole.format(item.absorbed.count),
    event.gradient_norm === null ? "–" : about.format(event.gradient_norm),
    ...(hasValues() ? [valueOf(event)] : []), text(keyOf(event) || "–"),
    text(event.id), text(event.time.slice(0, 19).replace("T", " "), "span"),
  ];
  return make("tr", "", ...cells.map((cell) => make("td", "", cell)));
}
