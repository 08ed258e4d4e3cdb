"use strict";
// Everything that a prompt or an answer says becomes a text node, never markup.
const about = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
let latest = 0;

function made(tag, content, fields) {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...[content].flat());
  return element;
}

function tell(text, failed) {
  at("status").textContent = text;
  at("status").className = failed ? "failed" : "";
}

async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (at("key").value) headers.Authorization = `Bearer ${at("key").value}`;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.error.message} [${answer.error.code}]`);
  return answer;
}

function cell(value, over, signed) {
  const text = (over ? "! " : "") + (signed && value >= 0 ? "+" : "") + value.toFixed(1);
  return made("td", text, { className: over ? "over" : "" });
}

// The words of a sheet under every concept, and how far the prompt's gate falls without each.
function showSheet(sheet) {
  const names = Object.keys(sheet.concepts);
  const over = (name) => sheet.concepts[name].margin;
  const open = names.filter((name) => sheet.concepts[name].flagged).sort((a, b) => over(b) - over(a));
  const cause = sheet.words.every((word) => word.causes && open[0] in word.causes) ? open[0] : "";
  const head = made("tr", ["word", ...names, ...(cause ? ["cause"] : [])].map((text) => made("th", text)));
  const rows = sheet.words.map((word) => made("tr", [
    made("td", word.text),
    ...names.map((name) => cell(word.scores[name], word.flagged.includes(name))),
    ...(cause ? [cell(word.causes[cause], false, true)] : []),
  ]));
  const prompt = made("tr", [made("td", "prompt"),
    ...names.map((name) => cell(sheet.concepts[name].z, sheet.concepts[name].flagged))]);
  at("words").replaceChildren(made("thead", head), made("tbody", rows), made("tfoot", prompt));
  at("verdict").textContent = open.length
    ? "flagged: " + open.map((name) => `${name} ${sheet.concepts[name].z.toFixed(1)} sd over benign ` +
      `(threshold ${sheet.concepts[name].threshold.toFixed(1)})`).join("; ")
    : "benign under every concept";
  at("note").textContent = sheet.truncated ? `not seen by the encoder: ${sheet.truncated}` : "";
}

function showPictures(answer) {
  const guard = answer.safegen;
  at("pictures").replaceChildren(...answer.data.map((item, i) => made("figure", [
    made("img", [], { src: `data:image/png;base64,${item.b64_json}`, alt: "" }),
    made("figcaption", `${guard.status}, seed ${guard.seeds[i]}, ${guard.steps} steps`),
  ])));
  const drawn = guard.rewritten ? `drawn as: ${guard.rewritten}` : guard.drift ? "the embedding was repaired" : "";
  at("note").textContent = [at("note").textContent, drawn].filter(Boolean).join("; ");
}

async function run(draws) {
  const mine = ++latest;  // answers to an earlier press are not shown
  const shown = (show) => (answer) => { if (mine === latest) show(answer); };
  const failed = shown((error) => tell(error.message, true));
  const prompt = at("prompt").value;
  at("pictures").replaceChildren();
  tell(draws ? "drawing\u2026" : "scoring\u2026");
  try {
    await ask("/v1/score", { prompt }).then(shown(showSheet));
    if (draws) await ask("/v1/images/generations", order(prompt)).then(shown(showPictures));
    shown(() => tell("done"))();
  } catch (error) {
    failed(error);
  }
}

function order(prompt) {
  const body = { prompt, size: at("size").value || "auto" };
  for (const id of ["n", "steps", "guidance", "seed"]) {
    if (at(id).value !== "") body[id] = Number(at(id).value);
  }
  if (at("negative").value) body.negative = at("negative").value;
  return body;
}

at("model").textContent = about.model;
at("n").max = about.limits.images;
at("steps").max = about.limits.steps;
for (const id of ["steps", "guidance", "size"]) at(id).placeholder = about[id];
at("locked").hidden = !about.key;
at("form").addEventListener("submit", (event) => { event.preventDefault(); run(true); });
at("score").addEventListener("click", () => { if (at("form").reportValidity()) run(false); });
