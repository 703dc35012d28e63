/** Robustness reports: started, watched, opened, compared. */

import { share } from "./address.js";
import { call, get, key, post } from "./api.js";
import { comparison } from "./compare.js";
import { NORMS, el, field, latest, options, statusLine, ticks } from "./dom.js";
import { alike, classifiers, now, pair, take, watch } from "./store.js";

const ID = /^[\w-]{1,64}$/; // of a report
const EVERY = 2000; // milliseconds between looks at what is under way
const ACTIVE = ["queued", "running"];
const BUDGETS = { linf: "0.05, 0.1", l2: "0.5, 1", l1: "", l0: "" };

export function reports(section) {
  const line = statusLine();
  const list = reportList(section, line);
  const form = reportForm(line, list.refresh);
  section.append(el("details", { open: true }, el("summary", {}, el("h2", {}, "Start one")), form.element), el("h2", {}, "Reports"), line, list.element);
  return async () => {
    form.begin();
    await list.refresh();
    list.find(take());
  };
}

function reportForm(line, started) {
  const dataset = el("select", { onchange: () => fill() });
  const n = el("input", { type: "number", min: 1, max: 10000, value: 100, required: true });
  const seed = el("input", { type: "number", min: 0, value: 0, required: true });
  const budgets = Object.entries(BUDGETS).map(([norm, value]) => [norm, el("input", { type: "text", value, inputmode: "decimal", placeholder: "none" })]);
  const models = el("div");
  const attacks = el("div");
  let [chosenModels, chosenAttacks] = [null, null];
  const task = latest(line, "Starting …");

  function fill() {
    const set = (now("evalsets") ?? []).find((one) => one.name === dataset.value);
    const fit = classifiers().filter((model) => (set ? alike(model.input_shape, set.image_shape) && alike(model.classes, set.classes) : model.dataset === dataset.value));
    chosenModels = ticks("Models", fit.map((model) => model.name), pair());
    models.replaceChildren(chosenModels.group);
  }
  function datasets() {
    const names = (now("evalsets") ?? []).map((set) => set.name);
    const before = dataset.value;
    options(dataset, names.length ? names : [...new Set(classifiers().map((model) => model.dataset))], before);
    fill();
  }
  watch("models", datasets);
  watch("evalsets", datasets);

  function submit(event) {
    event.preventDefault();
    const threats = budgets
      .map(([norm, input]) => ({ norm, eps: input.value.split(/[\s,;]+/).filter(Boolean).map(Number) }))
      .filter((threat) => threat.eps.length);
    const wrong = threats.find((threat) => threat.eps.some((eps) => !(eps > 0)));
    const missing = !chosenModels.values().length ? "a model" : !chosenAttacks?.values().length ? "an attack" : !threats.length ? "a budget" : null;
    if (missing) return line.say(`Choose at least ${missing}.`, "error");
    if (wrong) return line.say(`Budgets of ${NORMS[wrong.norm]} are numbers above 0, with commas between them.`, "error");
    task(async (signal) => {
      const json = { models: chosenModels.values(), dataset: dataset.value, n: Number(n.value), attacks: chosenAttacks.values(), threats, seed: Number(seed.value) };
      const once = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
      await post("robustness-report", json, { headers: { "Idempotency-Key": once }, signal });
      await started();
    });
  }
  const element = el(
    "form",
    { onsubmit: submit },
    el("div", { class: "form" }, field("Evaluation set", dataset), field("Images, the first", n), field("Seed", seed)),
    models,
    attacks,
    el("fieldset", {}, el("legend", {}, "Budgets eps, by norm; pixels are in 0 to 1"), el("div", { class: "form" }, budgets.map(([norm, input]) => field(NORMS[norm], input)))),
    el("p", { class: "row" }, el("button", { class: "main" }, "Start the report")),
  );
  async function begin() {
    if (chosenAttacks) return;
    const known = await get("attacks").catch((error) => line.say(error.message, "error"));
    if (!known || chosenAttacks) return;
    chosenAttacks = ticks("Attacks", known.attacks.map((attack) => attack.name), ["pgd", "ddn"]);
    attacks.replaceChildren(chosenAttacks.group);
  }
  return { element, begin };
}

const told = ({ status, error, sound }) => `${status}${error ? `: ${error}` : sound === false ? ", with an alarm: its figures are not to be believed as they stand" : ""}`;

function reportList(section, line) {
  const rows = new Map(); // by id
  const body = el("tbody");
  const viewer = el("div");
  const task = latest(line, "Fetching …");
  const compare = el("button", { type: "button", disabled: true, onclick: () => compareTwo() }, "Compare the two chosen");
  let timer = null;

  async function refresh() {
    clearTimeout(timer);
    try {
      const { items } = await get("robustness-report?limit=50");
      body.replaceChildren(...(items.length ? items.map(row) : [el("tr", {}, el("td", { colspan: 5 }, "None yet."))]));
      if (items.some((item) => ACTIVE.includes(item.status)) && !section.hidden) timer = setTimeout(refresh, EVERY);
    } catch (error) {
      line.say(error.message, "error");
    }
  }
  function row(item) {
    const known = rows.get(item.id) ?? newRow(item);
    rows.set(item.id, known);
    if (known.status && known.status !== item.status) line.say(`Report ${item.id.slice(0, 8)}: ${item.status}.`);
    known.status = item.status;
    known.update(item);
    return known.element;
  }
  function newRow({ id, models, dataset, n, created_at: created, status_url: url }) {
    const status = el("td");
    const actions = el("td");
    const pick = el("input", { type: "checkbox", "aria-label": `Compare ${id.slice(0, 8)}`, onchange: () => picked() });
    const button = (words, work, sure) =>
      el("button", { type: "button", "aria-label": `${words} ${id.slice(0, 8)}`, onclick: () => (!sure || confirm(sure)) && task(work) }, words);
    const act = (method, path) => async (signal) => {
      await call(method, path, { signal });
      if (method === "DELETE") rows.delete(id);
      picked();
      await refresh();
    };
    const buttons = {
      open: button("Open", (signal) => open(id, signal)),
      cancel: button("Cancel", act("POST", `${url}/cancel`)),
      remove: button("Delete", act("DELETE", url), `Delete the report ${id.slice(0, 8)}?`),
    };
    const bar = el("progress", { max: 1, "aria-label": `Progress of ${id.slice(0, 8)}` });
    const words = el("span");
    status.append(words, bar);
    const element = el("tr", {}, el("td", {}, pick), el("th", { scope: "row" }, el("code", {}, id.slice(0, 8)), el("small", {}, `${models.join(", ")} on ${n} of ${dataset}`)), status, actions, el("td", {}, new Date(created).toLocaleString()));
    let shown = null;
    const update = (item) => {
      const active = ACTIVE.includes(item.status);
      const left = item.eta_seconds == null ? "" : `, about ${Math.ceil(item.eta_seconds)} s left`;
      words.textContent = active ? `${item.status}, ${Math.round(100 * item.progress)} %${left} ` : told(item);
      bar.value = item.progress;
      bar.hidden = !active;
      pick.disabled = item.status !== "succeeded";
      if (shown === item.status) return;
      shown = item.status;
      actions.replaceChildren(...(active ? [buttons.cancel] : item.status === "succeeded" ? [buttons.open, buttons.remove] : [buttons.remove]));
    };
    return { element, update, pick, id };
  }
  const chosen = () => [...rows.values()].filter((one) => one.pick.checked);
  const picked = () => (compare.disabled = chosen().length !== 2);
  async function open(id, signal) {
    viewer.replaceChildren(await opened(id, `robustness-report/${id}`, viewer, signal));
    share({ report: id, compare: null });
  }
  const compareTwo = () => side(chosen().map(({ id }) => id));
  const side = (ids) =>
    task(async (signal) => {
      const [after, before] = await Promise.all(ids.map((id) => get(`robustness-report/${id}`, { signal })));
      share({ compare: ids.join(","), report: null });
      viewer.replaceChildren(comparison(...[before, after].sort((a, b) => a.created_at.localeCompare(b.created_at))));
      viewer.firstChild.focus();
    });
  const heads = ["Compare", "Report", "Status", "Actions", "Asked for"].map((head) => el("th", { scope: "col" }, head));
  const table = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All reports" }, el("table", { class: "jobs" }, el("thead", {}, el("tr", {}, heads)), body));
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && !section.hidden && refresh());
  /** The report or the two that a link names. */
  function find({ report, compare: two }) {
    const ids = (two ?? report ?? "").split(",").filter((id) => ID.test(id));
    if (two && ids.length === 2) side(ids);
    else if (report && ids.length === 1) task((signal) => open(ids[0], signal));
  }
  return { element: el("div", {}, table, el("p", { class: "row" }, compare), viewer), refresh, find };
}

/** The report's own page, fetched with the key and shown in a frame that runs no script and reaches no network. */
async function opened(id, url, viewer, signal) {
  const html = await (await call("GET", `${url}/html`, { signal })).text();
  const frame = el("iframe", { src: "static/report.html", sandbox: "allow-same-origin", title: `Report ${id.slice(0, 8)}` });
  frame.addEventListener("load", () => {
    frame.contentDocument.open();
    frame.contentDocument.write(html);
    frame.contentDocument.close();
  }, { once: true });
  const heading = el("h2", { tabindex: "-1" }, `Report ${id.slice(0, 8)}`);
  const saved = el("a", { class: "button", href: URL.createObjectURL(new Blob([html], { type: "text/html" })), download: `gauntlet-${id}.html` }, "Save the page");
  const json = el("button", { type: "button", onclick: async () => save(`gauntlet-${id}.json`, await get(url)) }, "Save the figures");
  const close = el("button", { type: "button", onclick: () => (share({ report: null }), viewer.replaceChildren()) }, "Close");
  const alone = key() ? null : el("a", { class: "button", href: `${url}/html`.replace(/^\//, ""), target: "_blank", rel: "noopener" }, "Open in a tab");
  setTimeout(() => heading.focus());
  return el("div", {}, heading, el("p", { class: "row" }, alone, saved, json, close), frame);
}

function save(name, { report }) {
  const href = URL.createObjectURL(new Blob([JSON.stringify(report, null, 2)], { type: "application/json" }));
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}
