"use strict";
// Everything of a record becomes a text node or an attribute, never markup.
const all = JSON.parse(document.getElementById("data").textContent);
const [text, concept, status, shown, cards, end] =
  ["text", "concept", "status", "shown", "cards", "end"].map((id) => document.getElementById(id));
const PAGE = 200;
let found = all, next = 0;

function made(tag, content, fields) {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...[content].flat());
  return element;
}

function card(item) {
  const words = item.parts.map(([part, concepts]) => (concepts ? made("mark", part, { title: concepts }) : part));
  const scores = Object.entries(item.concepts).map(([name, z]) => `${name} ${z.join(" \u2192 ")}`).join(", ");
  const url = encodeURIComponent(item.file);
  const picture = item.file
    ? made("a", made("img", [], { loading: "lazy", decoding: "async", src: url, alt: "" }), { href: url })
    : made("div", "no picture", { className: "none" });
  const notes = [`${item.status} \u00b7 ${item.id} \u00b7 seed ${item.seed}`, scores, item.note].filter(Boolean);
  const lines = notes.map((note) => made("small", note));
  return made("figure", [picture, made("figcaption", [made("span", words, { dir: "auto" }), ...lines])]);
}

function more() {
  cards.append(...found.slice(next, next + PAGE).map(card));
  next += PAGE;
}

function filter() {
  const wanted = text.value.toLowerCase();
  found = all.filter((item) =>
    (!status.value || item.status === status.value) &&
    (!concept.value || concept.value in item.concepts) &&
    (item.id + " " + item.parts.map((part) => part[0]).join("")).toLowerCase().includes(wanted));
  shown.textContent = `${found.length} of ${all.length}`;
  cards.replaceChildren();
  next = 0;
  more();
}

function choices(select, values) {
  select.append(...[...new Set(values)].sort().map((value) => made("option", value, { value })));
  select.addEventListener("change", filter);
}

choices(concept, all.flatMap((item) => Object.keys(item.concepts)));
choices(status, all.map((item) => item.status));
text.addEventListener("input", filter);
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
filter();
// The rest follows as the reader nears the end.
new IntersectionObserver((seen) => { if (seen[0].isIntersecting && next < found.length) more(); },
  { rootMargin: "2000px" }).observe(end);
