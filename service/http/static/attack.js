/** One attack on the image in hand: clean, adversarial, the noise between them, and who else is fooled. */

import { get, post } from "./api.js";
import { NORMS, el, field, latest, number, options, picture, png, settled, statusLine, ticks } from "./dom.js";
import { fitted, payload } from "./images.js";
import { modelSelect } from "./modelselect.js";
import { parameters } from "./parameters.js";
import { alike, classifiers, named, now, pair, set, watch } from "./store.js";

const REACH = { linf: [0.5, 0.1], l2: [5, 1], l1: [60, 15], l0: [100, 20] }; // the slider's end, and where it starts
const MEANINGS = { linf: "each pixel", l2: "Euclidean", l1: "sum over the pixels", l0: "number of pixels" };

export function attack(section) {
  const line = statusLine();
  const task = latest(line, "Attacking …");
  const result = el("div", { class: "result" });
  const select = el("select", { onchange: () => refit() });
  const norm = el("select", { onchange: () => reach() });
  const eps = el("input", { type: "range", min: 0, disabled: true, oninput: () => show(), onchange: () => again() });
  const shown = el("strong"); // no <output>: a label would name that one instead of the slider
  const target = el("select");
  const params = el("div");
  const transfer = el("div");
  const summary = el("p", { class: "hint" });
  const choice = modelSelect("Model", classifiers, () => pair()[0], () => changed());
  const go = el("button", { type: "button", class: "main", disabled: true, onclick: () => run() }, "Attack");
  let known = [];
  let values = () => ({});
  let others = () => [];

  const chosen = () => known.find((one) => one.name === select.value);
  const model = () => named(choice.select.value);
  const again = settled(() => result.childElementCount && run(), 150);

  function changed() {
    if (!model()) return;
    set("shape", model().input_shape);
    const rest = classifiers().filter((one) => one.name !== model().name && alike(one.input_shape, model().input_shape) && alike(one.classes, model().classes));
    const picked = ticks("Does it fool these too?", rest.map((one) => one.name), pair().concat(rest.slice(0, 1).map((one) => one.name)));
    others = picked.values;
    transfer.replaceChildren(picked.group);
    options(target, [["", "any other class"], ...model().classes.map((name, label) => [String(label), name])], "");
    result.replaceChildren();
  }
  function refit() {
    if (!chosen()) return;
    options(norm, chosen().norms.map((name) => [name, `${NORMS[name]}: ${MEANINGS[name]}`]), norm.value || "linf");
    summary.textContent = chosen().summary.split("\n")[0];
    target.disabled = !chosen().targeted;
    const made = parameters(chosen().params);
    values = made.values;
    params.replaceChildren(made.element);
    reach();
  }
  function reach() {
    const [most, start] = REACH[norm.value];
    Object.assign(eps, { max: most, step: most / 100, value: start, disabled: chosen().minimum_norm });
    result.replaceChildren();
    show();
  }
  function show() {
    const free = chosen()?.minimum_norm;
    shown.textContent = free ? "none: looks for the smallest" : norm.value === "linf" ? `${eps.value} (${Math.round(eps.value * 255)}/255)` : eps.value;
    eps.setAttribute("aria-valuetext", shown.textContent);
  }
  function run() {
    const image = now("image");
    if (!image || !model() || !chosen()) return line.say("Choose an image first.", "error");
    task(async (signal) => {
      const json = {
        model: model().name,
        attack: chosen().name,
        norm: norm.value,
        transfer_to: others().slice(0, 8),
        params: values(),
        ...(chosen().minimum_norm ? {} : { eps: Number(eps.value) }),
        ...(target.value && chosen().targeted ? { target_labels: [Number(target.value)] } : {}),
        ...(await payload(image, model().input_shape)),
      };
      const answer = await post("attack", json, { signal });
      result.replaceChildren(...outcome(answer, model(), await fitted(image, model().input_shape)));
      result.scrollIntoView({ block: "nearest" });
    });
  }

  section.append(
    el(
      "div",
      { class: "beside" },
      el("div", { class: "form two" }, choice.element, field("Attack", select), field("Norm", norm), field("Towards", target)),
      summary,
      el("label", { class: "field wide" }, el("span", {}, "Budget eps: ", shown), eps),
      transfer,
      el("details", {}, el("summary", {}, "Parameters of the attack"), params),
      el("p", { class: "row" }, go, line),
      result,
    ),
  );
  watch("image", () => result.replaceChildren());
  let asked = false;
  return () => {
    if (model()) set("shape", model().input_shape);
    if (asked) return;
    asked = true;
    latest(line, "Asking for the attacks …")(async (signal) => {
      known = (await get("attacks", { signal }).catch((error) => ((asked = false), Promise.reject(error)))).attacks;
      options(select, known.map((one) => one.name), "pgd");
      refit();
      go.disabled = false;
    });
  };
}

/** The answer for one image as elements. */
function outcome(answer, model, clean) {
  const [one] = answer.results;
  const name = (label) => model.classes[label];
  const figures = [
    ["Clean", clean, name(one.clean_label)],
    ["Adversarial", one.image && png(one.image), one.adversarial_label == null ? "none found" : name(one.adversarial_label)],
    ["Noise, amplified", one.noise && png(one.noise), one.l2 == null ? "–" : `L2 ${number(one.l2)}, L∞ ${number(one.linf)}`],
  ];
  return [
    el("p", { class: "verdict", role: "status", "data-kind": one.success ? "fooled" : "held" }, verdict(one, name, answer)),
    el(
      "div",
      { class: "triple" },
      figures.map(([title, src, words]) =>
        el("figure", {}, src ? picture(src, `${title}: ${words}`) : el("div", { class: "nothing" }, "no image"), el("figcaption", {}, el("strong", {}, title), el("br"), words)),
      ),
    ),
    transferTable(one, model),
    el("p", { class: "hint" }, `${one.queries.toLocaleString("en")} queries, ${number(answer.summary.seconds)} s. The pictures are those that were measured.`),
  ];
}

function verdict(one, name, answer) {
  const by = one.attack && one.attack !== answer.attack ? ` (found by ${one.attack})` : "";
  if (one.success) return `Fooled${by}: ${name(one.clean_label)} became ${name(one.adversarial_label)}.`;
  return answer.eps == null ? "It held: the attack found nothing." : `It held: still ${name(one.clean_label)} within ${NORMS[answer.norm]} ${number(answer.eps)}.`;
}

function transferTable(one, model) {
  const rows = Object.entries(one.transfer);
  if (!rows.length) return null;
  const said = rows.map(([name, { label, fooled }]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, named(name)?.classes[label] ?? model.classes[label]), el("td", { "data-kind": fooled ? "fooled" : "held" }, fooled ? "fooled too" : "not fooled")),
  );
  return el("div", { class: "scroll" }, el("table", {}, el("caption", {}, "The adversarial picture, shown to others"), el("thead", {}, el("tr", {}, ["Model", "Says", ""].map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, said)));
}
