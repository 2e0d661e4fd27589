// The source of a page that is one file: the data inside it.
"use strict";

const carried = JSON.parse(document.getElementById("carried").textContent);

const source = {
  name: "file",
  order: "oldest",

  status: async () => carried.status,

  async labels() {
    const counts = new Map();
    for (const { event } of carried.items) {
      const { label, label_name: name = null } = event;
      const count = counts.get(labelValue(label, name)) ?? { label, name, uniques: 0 };
      count.uniques += 1;
      counts.set(labelValue(label, name), count);
    }
    const items = [...counts.values()].sort((one, other) => other.uniques - one.uniques || one.label - other.label);
    return { items, read: carried.items.length, uniques: carried.items.length };
  },

  categories: async () => ({ items: [] }), // a file holds none

  async page({ offset, limit, order, label, id, least }) {
    const wanted = id.toLowerCase();
    const fitting = carried.items.filter(({ event }) =>
      (!label || labelValue(event.label, event.label_name) === label) &&
      (!least || (event.value ?? -2) >= Number(least)) &&
      (/^#\d+$/.test(id) ? id === `#${event.sequence}` : `${event.id}\n${event.source.key ?? ""}`.toLowerCase().includes(wanted)));
    if (order === "newest") fitting.reverse();
    if (order === "value") fitting.sort((one, other) => (other.event.value ?? -2) - (one.event.value ?? -2));
    const items = fitting.slice(offset, offset + limit);
    return { total: fitting.length, read: carried.uniques, uniques: carried.uniques, items };
  },

  async unique(sequence) {
    const item = carried.items.find(({ event }) => event.sequence === sequence);
    if (item === undefined) throw new Error(`Unique ${sequence} is not in this file.`);
    return item;
  },

  thumbnail: (sequence, place) => carried.pictures[`${sequence}/${place}`],
};

for (const [name, value] of Object.entries(carried.facts)) {
  document.getElementById("facts").append(make("div", "", make("dt", "", name), make("dd", "", value)));
}
document.getElementById("left-out").hidden = carried.uniques === carried.items.length;
document.getElementById("left-out").textContent = ` It holds the first ${whole.format(carried.items.length)} of ${whole.format(carried.uniques)} uniques.`;
