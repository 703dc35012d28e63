/** One attack on the image in hand: clean, adversarial, the noise between them, and who else is fooled. */

import { share } from "./address.js";
import { get, post } from "./api.js";
import { NORMS, el, field, latest, number, options, picture, png, settled, statusLine, ticks } from "./dom.js";
import { fitted, payload } from "./images.js";
import { modelSelect } from "./modelselect.js";
import { parameters } from "./parameters.js";
import { alike, classifiers, named, now, pair, set, watch } from "./store.js";

const GREY_LEVEL = 1 / 255; // a smaller radius is of no use
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
  const choice = modelSelect("Model", classifiers, () => named(now("wanted")?.model)?.name ?? pair()[0], () => changed());
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
    tell();
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
    tell();
  }
  function tell() {
    share({ model: model()?.name, attack: chosen()?.name, norm: norm.value, eps: chosen()?.minimum_norm ? null : eps.value });
  }
  /** What a link asked for, once models and attacks are known; runs only what this page itself asked for. */
  function apply(wanted) {
    if (!known.length || !model() || !wanted.model) return;
    if (named(wanted.model)) choice.select.value = wanted.model;
    changed();
    if (known.some((one) => one.name === wanted.attack)) select.value = wanted.attack;
    refit();
    if (chosen().norms.includes(wanted.norm)) norm.value = wanted.norm;
    reach();
    if (wanted.eps > 0) eps.value = wanted.eps;
    show();
    if (wanted.run) run();
  }
  function run() {
    const image = now("image");
    if (!image || !model() || !chosen()) return line.say("Choose an image first.", "error");
    task(async (signal) => {
      const sent = await payload(image, model());
      const shownTo = others().slice(0, 8);
      const json = {
        model: model().name,
        attack: chosen().name,
        norm: norm.value,
        transfer_to: shownTo,
        params: values(),
        ...(chosen().minimum_norm ? {} : { eps: Number(eps.value) }),
        ...(target.value && chosen().targeted ? { target_labels: [Number(target.value)] } : {}),
        ...sent,
      };
      const [answer, ...proofs] = await Promise.all([post("attack", json, { signal }), ...[model().name, ...shownTo].map((name) => proof(name, sent, signal))]);
      result.replaceChildren(...outcome(answer, model(), await fitted(image, model()), Object.fromEntries(proofs)));
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
  watch("wanted", apply);
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
      if (now("wanted")) apply(now("wanted"));
    });
  };
}

/** How far from the clean picture another model's answer is proved, as [name, L2 radius]; 0 where nothing is. */
async function proof(name, sent, signal) {
  const { predictions } = await post("classify", { model: name, ...sent }, { signal });
  return [name, predictions[0].certified_radius ?? 0];
}

/** The answer for one image as elements. */
function outcome(answer, model, clean, proofs) {
  const [one] = answer.results;
  const name = (label) => model.classes[label] ?? "no answer";
  const figures = [
    ["Clean", clean, name(one.clean_label)],
    ["Adversarial", one.image && png(one.image), one.adversarial_label == null ? "none found" : name(one.adversarial_label)],
    ["Noise, amplified", one.noise && png(one.noise), one.l2 == null ? "–" : `L2 ${number(one.l2)}, L∞ ${number(one.linf)}`],
  ];
  return [
    el("p", { class: "verdict", role: "status", "data-kind": one.success ? "fooled" : "held" }, verdict(one, name, answer, proofs[model.name])),
    el(
      "div",
      { class: "triple" },
      figures.map(([title, src, words]) =>
        el("figure", {}, src ? picture(src, `${title}: ${words}`) : el("div", { class: "nothing" }, "no image"), el("figcaption", {}, el("strong", {}, title), el("br"), words)),
      ),
    ),
    transferTable(one, model, proofs),
    el("p", { class: "hint" }, `${one.queries.toLocaleString("en")} queries, ${number(answer.summary.seconds)} s. The pictures are those that were measured, ${model.input_shape[2]}x${model.input_shape[1]} pixels as the model takes them: distances and certificates are of these, not of a picture before it was resized.`),
  ];
}

function verdict(one, name, answer, radius) {
  if (one.error) return `Nothing to attack: ${one.error}.`;
  const by = one.attack && one.attack !== answer.attack ? ` (found by ${one.attack})` : "";
  if (one.success) return `Fooled${by}: ${name(one.clean_label)} became ${name(one.adversarial_label)}.`;
  if (answer.eps == null) return "It held: the attack found nothing.";
  const proof = answer.norm === "l2" && radius >= answer.eps ? ` No attack can do better: it is proved up to L2 ${number(radius)}.` : "";
  return `It held: still ${name(one.clean_label)} within ${NORMS[answer.norm]} ${number(answer.eps)}.${proof}`;
}

function transferTable(one, model, proofs) {
  const rows = Object.entries(one.transfer);
  if (!rows.length) return null;
  const said = rows.map(([name, { label, fooled }]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, label == null ? "no answer" : (named(name)?.classes[label] ?? model.classes[label])), el("td", { "data-kind": fooled ? "fooled" : "held" }, fooled ? "fooled too" : "not fooled"), el("td", {}, proved(proofs[name], one.l2))),
  );
  return el("div", { class: "scroll" }, el("table", {}, el("caption", {}, "The adversarial picture, shown to others"), el("thead", {}, el("tr", {}, ["Model", "Says", "Outcome", "Proved around the clean picture"].map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, said)));
}

/** A radius in words; the proof covers the change at hand where that is smaller. */
function proved(radius, l2) {
  if (radius < GREY_LEVEL) return "nothing";
  const inside = l2 != null && l2 < radius ? ", farther than this change" : "";
  return `up to L2 ${number(radius)}${inside}`;
}
