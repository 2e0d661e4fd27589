// The source of a page that a daemon serves: the daemon's own HTTP routes.
"use strict";

const source = {
  name: "live",
  order: "newest",

  status: () => ask("api/status"),
  labels: () => ask("api/labels"),
  categories: () => ask("api/categories"),

  page({ offset, limit, order, label, category, id, least, below }) {
    const query = new URLSearchParams({ offset, limit, order });
    if (label) query.set("label", label);
    if (category) query.set("category", category);
    if (id) query.set("id", id);
    if (least) query.set("least_value", least);
    if (below !== null) query.set("below", below);
    return ask(`api/gallery?${query}`);
  },

  unique: (sequence) => ask(`api/gallery/${sequence}`),
  thumbnail: (sequence, place, of) => `api/thumbnails/${sequence}${place ? `/${place}` : ""}?of=${encodeURIComponent(of)}`,
};

async function ask(path) {
  const answer = await fetch(path, { cache: "no-cache" });
  if (answer.status === 401) throw new Error("This instance requires credentials (http.auth). Reload the page to enter them.");
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `The server answered ${answer.status}.`);
  return answer.json();
}
